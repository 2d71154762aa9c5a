//! The replication slot, and our record of it.
//!
//! ```text
//!  record: intent ──> slot created ──> record: consistent point, snapshot      no row, but a slot: not made by us
//! ```
//! The record is what lets a later program tell a slot that was lost or recreated from one that is still the same.

use std::time::Duration;

use pgstream_postgres::{Client, Error as ServerError, Lsn, Server, Session};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::Error;

/// Built into every server; the only plugin whose output the stream decodes.
pub const PLUGIN: &str = "pgoutput";

/// `wal_status` of a slot: whether the WAL it needs is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WalStatus {
    /// Within `max_wal_size`.
    Reserved,
    /// More than that, and kept.
    Extended,
    /// No longer kept: it will be lost at the next checkpoint unless it is read.
    Unreserved,
    /// Gone.
    Lost,
}

impl WalStatus {
    /// As the server writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Extended => "extended",
            Self::Unreserved => "unreserved",
            Self::Lost => "lost",
        }
    }
}

/// What the server says about a slot.
#[derive(Debug, Clone, PartialEq)]
pub struct SlotState {
    /// Its name.
    pub name: String,
    /// `None` for a physical slot.
    pub plugin: Option<String>,
    /// `None` for a physical slot.
    pub database: Option<String>,
    /// Ends with the session that made it.
    pub temporary: bool,
    /// Decodes prepared transactions at PREPARE.
    pub two_phase: bool,
    /// Synchronised to standbys (17 and later).
    pub failover: bool,
    /// The walsender that reads it now.
    pub active_pid: Option<i32>,
    /// Oldest WAL that it keeps.
    pub restart_lsn: Option<Lsn>,
    /// Everything before this was acknowledged.
    pub confirmed_flush_lsn: Option<Lsn>,
    /// `None` where it keeps no WAL yet.
    pub wal_status: Option<WalStatus>,
    /// Why it cannot be used any more (17 and later).
    pub invalidation_reason: Option<String>,
    /// WAL kept for it, bytes.
    pub retained_bytes: Option<i64>,
    /// WAL not acknowledged yet, bytes.
    pub lag_bytes: Option<i64>,
    /// WAL that may still be written before the slot is lost, bytes; `None` without a limit.
    pub safe_wal_size: Option<i64>,
    /// Since when nobody reads it, ISO 8601 (17 and later).
    pub inactive_since: Option<String>,
    /// Seconds since then, by the server's clock.
    pub inactive_seconds: Option<f64>,
    /// Transactions since the oldest one whose catalog rows VACUUM keeps for it.
    pub catalog_xmin_age: Option<i32>,
}

impl SlotState {
    /// Whether the changes it was kept for are gone.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.wal_status == Some(WalStatus::Lost) || self.invalidation_reason.is_some()
    }
}

/// Columns come and go between 13 and 18: what this server does not have is NULL.
const READ: &str = "
    SELECT s.slot_name::text, s.plugin::text, s.database::text, s.temporary,
           coalesce((j->>'two_phase')::bool, false), coalesce((j->>'failover')::bool, false),
           s.active_pid, s.restart_lsn, s.confirmed_flush_lsn, s.wal_status, j->>'invalidation_reason',
           pg_wal_lsn_diff(now.lsn, s.restart_lsn)::int8, pg_wal_lsn_diff(now.lsn, s.confirmed_flush_lsn)::int8,
           s.safe_wal_size, j->>'inactive_since',
           extract(epoch FROM clock_timestamp() - (j->>'inactive_since')::timestamptz)::float8, age(s.catalog_xmin)
    FROM pg_replication_slots s,
         to_jsonb(s) j,
         (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END) AS now (lsn)";

/// What the server says about a slot; `None` when there is none.
///
/// # Errors
/// When the session is gone.
pub async fn read(client: &Client, name: &str) -> Result<Option<SlotState>, ServerError> {
    let sql = format!("{READ} WHERE s.slot_name = $1::text");
    let row = client.query_opt(&sql, &[&name]).await.map_err(client.failed("reading the replication slot"))?;
    Ok(row.as_ref().map(state))
}

/// What the server says about the logical slots of this database, by name.
///
/// # Errors
/// When the session is gone.
pub async fn of_database(client: &Client) -> Result<Vec<SlotState>, ServerError> {
    let sql = format!("{READ} WHERE s.database = current_database() ORDER BY s.slot_name");
    let rows = client.query(&sql, &[]).await.map_err(client.failed("reading the replication slots"))?;
    Ok(rows.iter().map(state).collect())
}

fn state(row: &tokio_postgres::Row) -> SlotState {
    SlotState {
        name: row.get(0),
        plugin: row.get(1),
        database: row.get(2),
        temporary: row.get(3),
        two_phase: row.get(4),
        failover: row.get(5),
        active_pid: row.get(6),
        restart_lsn: row.get(7),
        confirmed_flush_lsn: row.get(8),
        wal_status: match row.get(9) {
            Some("reserved") => Some(WalStatus::Reserved),
            Some("extended") => Some(WalStatus::Extended),
            Some("unreserved") => Some(WalStatus::Unreserved),
            Some("lost") => Some(WalStatus::Lost),
            _ => None,
        },
        invalidation_reason: row.get(10),
        retained_bytes: row.get(11),
        lag_bytes: row.get(12),
        safe_wal_size: row.get(13),
        inactive_since: row.get(14),
        inactive_seconds: row.get(15),
        catalog_xmin_age: row.get(16),
    }
}

/// Our record of a slot that was created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// The stream can begin here, not before.
    pub consistent_point: Lsn,
    /// `pg_current_snapshot()` when the slot had been created: transactions that it shows as running may be missing
    /// from the stream, and are visible to every snapshot taken after they ended.
    pub created_snapshot: String,
    /// The cluster it was created on.
    pub system_identifier: String,
}

/// Our record of a slot; `None` when there is none or its creation was not finished.
///
/// # Errors
/// When the session is gone.
pub async fn fence(client: &Client, name: &str) -> Result<Option<Fence>, ServerError> {
    Ok(record(client, name).await?.and_then(|record| record.fence))
}

/// A row of `pgstream.replication_slots`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) system_identifier: String,
    pub(crate) adopted: bool,
    pub(crate) created_at: String,
    /// `None`: the slot was about to be created.
    pub(crate) fence: Option<Fence>,
}

pub(crate) async fn has_records(client: &Client) -> Result<bool, ServerError> {
    let sql = "SELECT to_regclass('pgstream.replication_slots') IS NOT NULL";
    Ok(client.query_one(sql, &[]).await.map_err(client.failed("looking for schema pgstream"))?.get(0))
}

pub(crate) async fn record(client: &Client, name: &str) -> Result<Option<Record>, ServerError> {
    if !has_records(client).await? {
        return Ok(None);
    }
    let row = client
        .query_opt(
            "SELECT system_identifier, adopted, created_at::text, consistent_point, created_snapshot
             FROM pgstream.replication_slots WHERE slot_name = $1",
            &[&name],
        )
        .await
        .map_err(client.failed("reading the record of the slot"))?;
    Ok(row.map(|row| {
        let system_identifier: String = row.get(0);
        let fence = match (row.get(3), row.get(4)) {
            (Some(consistent_point), Some(created_snapshot)) => {
                Some(Fence { consistent_point, created_snapshot, system_identifier: system_identifier.clone() })
            }
            _ => None,
        };
        Record { system_identifier, adopted: row.get(1), created_at: row.get(2), fence }
    }))
}

/// Says that the slot is about to be created by us, or was there before us.
pub(crate) async fn write_intent(client: &Client, name: &str, system: &str, adopted: bool) -> Result<(), ServerError> {
    client
        .execute(
            "INSERT INTO pgstream.replication_slots (slot_name, plugin, system_identifier, adopted)
             VALUES ($1, $2, $3, $4) ON CONFLICT (slot_name) DO NOTHING",
            &[&name, &PLUGIN, &system, &adopted],
        )
        .await
        .map_err(client.failed("recording the replication slot"))?;
    Ok(())
}

/// Completes the record of a slot that exists. A snapshot taken later than the slot's creation is as safe: what it
/// shows as running is waited for.
pub(crate) async fn complete_record(client: &Client, name: &str) -> Result<Option<Fence>, ServerError> {
    let row = client
        .query_opt(
            "UPDATE pgstream.replication_slots r
             SET consistent_point = s.confirmed_flush_lsn, created_snapshot = pg_current_snapshot()::text,
                 created_at = now()
             FROM pg_replication_slots s
             WHERE r.slot_name = $1 AND s.slot_name = $1::text AND s.confirmed_flush_lsn IS NOT NULL
             RETURNING r.consistent_point, r.created_snapshot, r.system_identifier",
            &[&name],
        )
        .await
        .map_err(client.failed("recording the replication slot"))?;
    Ok(row.map(|row| Fence {
        consistent_point: row.get(0),
        created_snapshot: row.get(1),
        system_identifier: row.get(2),
    }))
}

/// How often the log says who is waited for.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// A slot that is created at once needs no report.
const FIRST_REPORT: Duration = Duration::from_secs(2);

const WAITED_FOR: &str = "
    SELECT a.pid, a.application_name, a.xact_start::text, NULL::text AS gid
    FROM pg_stat_activity a WHERE a.backend_xid IS NOT NULL AND a.pid <> $1
    UNION ALL
    SELECT NULL, NULL, p.prepared::text, p.gid FROM pg_prepared_xacts p
    ORDER BY 3 LIMIT 5";

/// Creates the slot. The server first waits for every transaction that has written; which ones is logged. A second
/// session watches, and takes the request back when asked to stop: the server would go on waiting by itself.
pub(crate) async fn create(
    server: &Server,
    client: &Client,
    name: &str,
    major: u32,
    failover: bool,
    cancel: &CancellationToken,
) -> Result<(), Error> {
    let sql = if failover && major >= 17 {
        "SELECT FROM pg_create_logical_replication_slot($1::text, $2::text, failover => true)"
    } else {
        "SELECT FROM pg_create_logical_replication_slot($1::text, $2::text)"
    };
    let pid: i32 = client
        .query_one("SELECT pg_backend_pid()", &[])
        .await
        .map_err(client.failed("preparing to create the slot"))?
        .get(0);
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&name, &PLUGIN];
    let creation = client.execute(sql, &parameters);
    tokio::pin!(creation);
    let finished = |result: Result<u64, tokio_postgres::Error>| match result {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::from(client.failed("creating the replication slot")(error))),
    };
    tokio::select! {
        result = &mut creation => return finished(result),
        () = cancel.cancelled() => {}
        () = tokio::time::sleep(FIRST_REPORT) => {}
    }
    let watcher = server.connect(&Session::new("pgstream-aws init: watching")).await?;
    while !cancel.is_cancelled() {
        report_waiting(&watcher, pid).await?;
        tokio::select! {
            result = &mut creation => return finished(result),
            () = cancel.cancelled() => {}
            () = tokio::time::sleep(REPORT_EVERY) => {}
        }
    }
    watcher
        .execute("SELECT pg_cancel_backend($1)", &[&pid])
        .await
        .map_err(watcher.failed("cancelling the creation of the slot"))?;
    match creation.await {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::Cancelled),
    }
}

async fn report_waiting(watcher: &Client, creator: i32) -> Result<(), ServerError> {
    let rows = watcher
        .query(WAITED_FOR, &[&creator])
        .await
        .map_err(watcher.failed("looking for transactions that the slot waits for"))?;
    for row in &rows {
        tracing::info!(
            pid = row.get::<_, Option<i32>>(0),
            application = row.get::<_, Option<&str>>(1),
            since = row.get::<_, Option<&str>>(2),
            prepared = row.get::<_, Option<&str>>(3),
            "the slot is created when this transaction has ended"
        );
    }
    Ok(())
}
