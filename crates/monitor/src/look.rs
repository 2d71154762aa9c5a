//! One look at the source and, where it can be reached, the target. Changes nothing; needs no right but to connect, and on
//! the target to read `pgstream.apply_progress`.

use std::time::Duration;

use pgstream_engine::source::slot::{self, SlotState};
use pgstream_postgres::{Error, Lsn, Server, Session};
use tokio::time::timeout;

/// For the source to answer: with what comes after it, within one run of the Lambda.
const SOURCE_PATIENCE: Duration = Duration::from_secs(15);

/// What the target says is worth less than an early answer.
const TARGET_PATIENCE: Duration = Duration::from_secs(8);

/// The server gives up before we do, so that no statement is left behind.
const STATEMENT_TIMEOUT: &str = "10s";

/// A look did not succeed.
#[derive(Debug)]
pub enum Blind {
    /// The server refuses, or cannot be reached.
    Postgres(Error),
    /// It takes too long.
    Slow(Duration),
}

impl std::fmt::Display for Blind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Postgres(error) => error.fmt(f),
            Self::Slow(patience) => write!(f, "no answer within {} s", patience.as_secs()),
        }
    }
}

impl Blind {
    /// Whether another login might be taken.
    #[must_use]
    pub fn is_about_the_login(&self) -> bool {
        matches!(self, Self::Postgres(error) if error.sqlstate().is_some_and(|state| state.starts_with("28")))
    }
}

/// The source, at one moment.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its clock, seconds since 1970.
    pub at: f64,
    /// End of its WAL.
    pub wal: Lsn,
    /// Its major version.
    pub major: i32,
    /// Logical slots of the database.
    pub slots: Vec<SlotState>,
}

/// The progress row of a slot on the target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// End of the last source commit that is applied.
    pub commit_end: Lsn,
    /// Source clock at that commit, seconds since 1970.
    pub commit_time: Option<f64>,
}

/// Looks at the source.
///
/// # Errors
/// It cannot be reached, refuses, or does not answer in time.
pub async fn source(server: &Server) -> Result<Source, Blind> {
    within(SOURCE_PATIENCE, async {
        let session = Session::new("pgstream-aws monitor").with("statement_timeout", STATEMENT_TIMEOUT);
        let client = server.connect(&session).await?;
        let sql =
            "SELECT extract(epoch FROM clock_timestamp())::float8, current_setting('server_version_num')::int4 / 10000,
                          CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END";
        let row = client.query_one(sql, &[]).await.map_err(client.failed("reading the end of WAL"))?;
        Ok(Source { at: row.get(0), major: row.get(1), wal: row.get(2), slots: slot::of_database(&client).await? })
    })
    .await
}

/// Looks at the target for how far a slot was applied; `None` when nothing was.
///
/// # Errors
/// It cannot be reached, refuses, or does not answer in time.
pub async fn target(server: &Server, slot: &str) -> Result<Option<Progress>, Blind> {
    within(TARGET_PATIENCE, async {
        let session = Session::new("pgstream-aws monitor").with("statement_timeout", "5s");
        let client = server.connect(&session).await?;
        let sql = "SELECT commit_end_lsn, extract(epoch FROM commit_time)::float8 FROM pgstream.apply_progress WHERE slot_name = $1";
        let row = client.query_opt(sql, &[&slot]).await.map_err(client.failed("reading pgstream.apply_progress"))?;
        Ok(row.map(|row| Progress { commit_end: row.get(0), commit_time: row.get(1) }))
    })
    .await
}

async fn within<T>(patience: Duration, look: impl Future<Output = Result<T, Error>>) -> Result<T, Blind> {
    match timeout(patience, Box::pin(look)).await {
        Ok(Ok(seen)) => Ok(seen),
        Ok(Err(error)) => Err(Blind::Postgres(error)),
        Err(_) => Err(Blind::Slow(patience)),
    }
}
