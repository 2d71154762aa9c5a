//! One snapshot of the source that every worker shares.
//!
//! ```text
//!  list tables ─> BEGIN ─> LOCK … ACCESS SHARE ─> pg_export_snapshot() ─> list again ── same? ──> workers import it
//!                  ^                                                          │ a table came or went
//!                  └──────────────────────── ROLLBACK <───────────────────────┘
//! ```
//! The locks come *before* the snapshot. A table that is truncated or rewritten looks empty to an older snapshot, so
//! a lock taken later could silently lose its rows; this order leaves no such gap, and it lasts until the last row is
//! copied. A worker that has locked its table asks whether the exporter still holds its own lock: if not, the table may
//! have been rewritten in between.

use std::collections::BTreeSet;

use pgstream_config::pattern::TableFilter;
use pgstream_postgres::{Client, Lsn, Server, Session, TableName};
use tokio::sync::{Mutex, MutexGuard};
use tokio_postgres::error::SqlState;

use super::{
    Error,
    catalog::{self, Kind, Table, Tables},
};
use crate::mutants::{self, Mutant};

/// Tables that one LOCK statement names.
const LOCKS_PER_STATEMENT: usize = 500;

/// How often a changing list of tables is read again.
const ATTEMPTS: u32 = 10;

/// A held snapshot. Dropping it ends it: workers that have imported it are not affected, new ones cannot.
pub(crate) struct Exporter {
    client: Client,
    pub(crate) snapshot: Snapshot,
    /// One COPY at a time in the exporter's own session.
    reading: Mutex<()>,
}

/// What identifies the snapshot.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// For `SET TRANSACTION SNAPSHOT` and `pg_dump --snapshot`.
    pub(crate) id: String,
    /// `pg_current_snapshot()`.
    pub(crate) visible: String,
    /// WAL insert position read after the snapshot was taken: a transaction whose commit is at or after it is never
    /// visible in the snapshot.
    pub(crate) lsn: Lsn,
}

/// What the exporter must know.
pub(crate) struct Request<'a> {
    pub(crate) server: &'a Server,
    pub(crate) session: &'a Session,
    pub(crate) major: u32,
    pub(crate) filter: &'a TableFilter,
    pub(crate) publication: Option<&'a str>,
    /// Whether the rows of a table are still to be copied.
    pub(crate) is_needed: &'a (dyn Fn(&TableName) -> bool + Sync),
}

impl Exporter {
    /// Locks the tables whose rows are wanted and takes a snapshot.
    pub(crate) async fn take(request: &Request<'_>) -> Result<(Self, Tables), Error> {
        let client = request.server.connect(request.session).await?;
        let read = || catalog::tables(&client, request.major, request.filter, request.publication);
        let mut listed = read().await?;
        for _ in 0..ATTEMPTS {
            client
                .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                .await
                .map_err(client.failed("starting the snapshot transaction"))?;
            if lock(&client, &needed(request, &listed)).await? {
                let snapshot = export(&client).await?;
                let seen = read().await?;
                if ids(&needed(request, &seen)) == ids(&needed(request, &listed)) {
                    return Ok((Self { client, snapshot, reading: Mutex::new(()) }, seen));
                }
            }
            client.batch_execute("ROLLBACK").await.map_err(client.failed("ending the snapshot transaction"))?;
            tracing::info!("tables changed while they were being locked: taking the snapshot again");
            listed = read().await?;
        }
        Err(Error::UnstableSchema { server: request.server.to_string(), attempts: ATTEMPTS })
    }

    /// Whether the snapshot can still be imported.
    pub(crate) async fn is_alive(&self) -> bool {
        !self.client.is_closed() && self.client.batch_execute("SELECT 1").await.is_ok()
    }

    /// The session that sees the snapshot and holds the locks, for one reader at a time.
    pub(crate) async fn reader(&self) -> (MutexGuard<'_, ()>, &Client) {
        (self.reading.lock().await, &self.client)
    }

    /// The session that sees the snapshot.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }
}

fn needed<'a>(request: &Request<'_>, tables: &'a Tables) -> Vec<&'a Table> {
    tables.copied.iter().filter(|table| (request.is_needed)(&table.name)).collect()
}

fn ids(tables: &[&Table]) -> BTreeSet<(u32, String)> {
    tables.iter().map(|t| (t.oid, t.name.to_string())).collect()
}

/// False when a table went away in between.
async fn lock(client: &Client, tables: &[&Table]) -> Result<bool, Error> {
    for chunk in tables.chunks(LOCKS_PER_STATEMENT) {
        // A published root stands for its partitions: they are locked with it.
        let names: Vec<String> = chunk
            .iter()
            .map(|t| if t.kind == Kind::Root { t.name.to_string() } else { format!("ONLY {}", t.name) })
            .collect();
        let sql = format!("LOCK TABLE {} IN ACCESS SHARE MODE", names.join(", "));
        match client.batch_execute(&sql).await {
            Ok(()) => {}
            Err(error) if gone(&error) => return Ok(false),
            Err(error) => return Err(client.failed("locking the tables against DDL (ACCESS SHARE)")(error).into()),
        }
    }
    Ok(true)
}

fn gone(error: &tokio_postgres::Error) -> bool {
    [&SqlState::UNDEFINED_TABLE, &SqlState::INVALID_SCHEMA_NAME, &SqlState::WRONG_OBJECT_TYPE]
        .iter()
        .any(|state| error.code() == Some(state))
}

async fn export(client: &Client) -> Result<Snapshot, Error> {
    let row = client
        .query_one("SELECT pg_export_snapshot(), pg_current_snapshot()::text", &[])
        .await
        .map_err(client.failed("exporting a snapshot"))?;
    let id: String = row.get(0);
    client
        .execute("SELECT pg_advisory_xact_lock(hashtextextended('pgstream snapshot ' || $1, 1))", &[&id])
        .await
        .map_err(client.failed("marking the snapshot as held"))?;
    // A later statement, so that the position is read after the snapshot was taken.
    let after = client
        .query_one("SELECT pg_current_wal_insert_lsn()", &[])
        .await
        .map_err(client.failed("reading the WAL position"))?;
    Ok(Snapshot { id, visible: row.get(1), lsn: after.get(0) })
}

/// Whether a session that imported the snapshot can read the table at once.
///
/// A TRUNCATE or ALTER TABLE that waits for the exporter's lock makes everybody behind it wait too. It waits until the
/// last row is copied, so a worker behind it would wait for ever: the exporter, which has its lock, reads instead.
pub(crate) async fn can_read(session: &Client, name: &TableName, kind: Kind) -> Result<bool, Error> {
    let name = if kind == Kind::Root { name.to_string() } else { format!("ONLY {name}") };
    let lock = format!("SAVEPOINT reach; LOCK TABLE {name} IN ACCESS SHARE MODE NOWAIT; RELEASE SAVEPOINT reach");
    let failed = || session.failed("locking a table before it is read");
    match session.batch_execute(&lock).await {
        Ok(()) => Ok(true),
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
            let undo = "ROLLBACK TO SAVEPOINT reach; RELEASE SAVEPOINT reach";
            session.batch_execute(undo).await.map_err(failed())?;
            Ok(false)
        }
        Err(error) => Err(failed()(error).into()),
    }
}

/// Fails when the exporter's transaction has ended, and with it its locks. Asked after the table was locked here, success
/// means that it was locked since before the snapshot.
pub(crate) async fn still_held(session: &Client, server: &Server, snapshot: &Snapshot) -> Result<(), Error> {
    // Shared, so that no worker takes another one's lock for the exporter's.
    let row = session
        .query_one(
            "SELECT pg_try_advisory_xact_lock_shared(hashtextextended('pgstream snapshot ' || $1, 1))",
            &[&snapshot.id],
        )
        .await
        .map_err(session.failed("asking whether the snapshot is still held"))?;
    if row.get(0) { Err(Error::SnapshotGone { server: server.to_string() }) } else { Ok(()) }
}

/// A session of its own inside the shared snapshot.
pub(crate) async fn import(server: &Server, session: &Session, snapshot: &Snapshot) -> Result<Client, Error> {
    let client = server.connect(session).await?;
    enter(&client, server, snapshot).await?;
    Ok(client)
}

/// Brings a session into the shared snapshot.
pub(crate) async fn enter(client: &Client, server: &Server, snapshot: &Snapshot) -> Result<(), Error> {
    let mut sql = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY".to_owned();
    if !mutants::is(Mutant::OwnSnapshot) {
        sql += &format!("; SET TRANSACTION SNAPSHOT {}", pgstream_postgres::quote_literal(&snapshot.id));
    }
    match client.batch_execute(&sql).await {
        Ok(()) => Ok(()),
        Err(error) if ended(&error) => Err(Error::SnapshotGone { server: server.to_string() }),
        Err(error) => Err(client.failed("importing the snapshot")(error).into()),
    }
}

/// What servers say of a snapshot whose exporter has ended: its file is gone (two ways), or its transaction.
fn ended(error: &tokio_postgres::Error) -> bool {
    [&SqlState::UNDEFINED_OBJECT, &SqlState::INVALID_PARAMETER_VALUE, &SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE]
        .iter()
        .any(|state| error.code() == Some(state))
}
