//! One `init` or `destroy` at a time per database.
//!
//! The lock belongs to the session, because slot creation cannot run inside a transaction that has written. It ends
//! with the session, however that ends.

use std::time::{Duration, Instant};

use pgstream_postgres::Client;
use tokio_util::sync::CancellationToken;

use super::Error;

/// Arbitrary but fixed ("pgstsrc").
const KEY: i64 = 0x0070_6773_7473_7263;

const POLL: Duration = Duration::from_millis(200);
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// Takes the lock for the rest of the session.
///
/// Asks again and again rather than wait inside the server: a statement that waits holds a snapshot, which makes the
/// other session's slot creation and everybody's vacuum wait in turn.
pub(crate) async fn acquire(client: &Client, cancel: &CancellationToken) -> Result<(), Error> {
    let mut reported: Option<Instant> = None;
    loop {
        let taken: bool = client
            .query_one("SELECT pg_try_advisory_lock($1)", &[&KEY])
            .await
            .map_err(client.failed("taking the lock of init and destroy"))?
            .get(0);
        if taken {
            return Ok(());
        }
        if reported.is_none_or(|at| at.elapsed() >= REPORT_EVERY) {
            reported = Some(Instant::now());
            let pid = holder(client).await?;
            tracing::info!(pid, "another init or destroy is running on this database: waiting");
        }
        tokio::select! {
            () = cancel.cancelled() => return Err(Error::Cancelled),
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

async fn holder(client: &Client) -> Result<Option<i32>, Error> {
    let row = client
        .query_opt(
            "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
             AND classid = ($1::int8 >> 32)::oid AND objid = ($1::int8 & 4294967295)::oid",
            &[&KEY],
        )
        .await
        .map_err(client.failed("looking for the other init or destroy"))?;
    Ok(row.and_then(|row| row.get(0)))
}

/// How long a change may hold up everybody else who wants the table: while it waits for its lock, they wait behind it.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '500ms'";

/// How often a busy table is tried, and the pauses in between: about twenty seconds together.
const TRIES: u32 = 13;
const PAUSE: Duration = Duration::from_secs(1);

/// Limits, for this transaction, the wait for each lock.
pub(crate) async fn limit_wait(tx: &tokio_postgres::Transaction<'_>) -> Result<(), tokio_postgres::Error> {
    tx.batch_execute(LOCK_TIMEOUT).await
}

/// Tries left for a change that needs a lock on tables in use.
pub(crate) struct Patience<'a> {
    server: String,
    doing: &'a str,
    /// The tables, quoted.
    names: &'a [String],
    left: u32,
}

impl<'a> Patience<'a> {
    pub(crate) fn new(server: impl ToString, doing: &'a str, names: &'a [String]) -> Self {
        Self { server: server.to_string(), doing, names, left: TRIES }
    }

    /// Returns after a pause when the failure was a lock that was not had in time and there are tries left.
    pub(crate) async fn pause(
        &mut self,
        client: &Client,
        error: tokio_postgres::Error,
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        use tokio_postgres::error::SqlState;
        let busy = matches!(error.code(), Some(&SqlState::LOCK_NOT_AVAILABLE | &SqlState::T_R_DEADLOCK_DETECTED));
        if !busy {
            return Err(client.failed(self.doing)(error).into());
        }
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            return Err(Error::TableBusy {
                server: self.server.clone(),
                doing: self.doing.to_owned(),
                table: super::error::list(self.names),
                holders: holders(client, self.names).await?,
            });
        }
        if self.left == TRIES - 1 {
            tracing::info!(tables = super::error::list(self.names), "waiting for a table in use");
        }
        tokio::select! {
            () = cancel.cancelled() => Err(Error::Cancelled),
            () = tokio::time::sleep(PAUSE) => Ok(()),
        }
    }
}

/// Who holds locks on the tables.
async fn holders(client: &Client, names: &[String]) -> Result<Option<String>, Error> {
    let row = client
        .query_one(
            "SELECT string_agg(DISTINCT coalesce(
                 format('pid %s (%s, in a transaction since %s)', a.pid, coalesce(nullif(a.application_name, ''), a.usename),
                        a.xact_start::timestamptz(0)),
                 'a prepared transaction (see pg_prepared_xacts)'), ', ')
             FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
             WHERE l.locktype = 'relation' AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
               AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
               AND l.relation IN (SELECT to_regclass(name) FROM unnest($1::text[]) AS t (name))
               AND (l.pid IS NULL OR a.pid IS NOT NULL)",
            &[&names],
        )
        .await
        .map_err(client.failed("looking for who uses the table"))?;
    Ok(row.get(0))
}
