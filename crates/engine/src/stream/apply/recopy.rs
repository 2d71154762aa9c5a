//! Tables that are copied again after a schema change, because the target cannot compute their rows: values of a
//! volatile default, of a USING clause, of CREATE TABLE AS.
//!
//! ```text
//!  source now: snapshot ── does it see schema changes that are still to be applied here?
//!       no ──> COPY into the target, in the change's transaction or beside the stream; the ledger has the snapshot:
//!              rows that it holds are passed over in the stream from here on
//!       yes ─> stale: none of its rows is applied; tried again after each of those changes
//! ```
//! With no change outstanding, the definition of everything is the same on both sides, so the rows fit. The tables are locked
//! before the snapshot is taken: one that is rewritten after it would look empty to it.
//!
//! Large tables are copied in a session of their own, after the change is committed. Until their rows are in, the reader
//! passes over the changes that the snapshot sees and waits at the first one that it does not, at a truncate, and at a
//! further schema change. Whoever dies meanwhile leaves a stale table behind: the next session begins with a new snapshot.

use std::{
    pin::pin,
    sync::{Arc, PoisonError},
};

use futures::{SinkExt, TryStreamExt};
use pgstream_postgres::{Client, Lsn, Server, Session, TableName, quote_ident};

use super::{
    super::{Error, door, work::Copying},
    schema::Replay,
};
use crate::{
    ddl::definition::Relation,
    target::ledger::{Copied, STALE},
};

/// Marks a table as one whose rows are not those of the source. It is emptied.
pub(super) async fn mark(replay: &Replay, target: &Client, table: &TableName) -> Result<(), Error> {
    // Not TRUNCATE, which refuses tables that others reference.
    let failed = target.failed("emptying a table that is copied again");
    target.batch_execute(&format!("DELETE FROM ONLY {table}")).await.map_err(failed)?;
    record(replay, target, table, STALE, Lsn::ZERO, 0).await
}

/// Tables and the snapshot of the source that they are to be copied under.
pub(super) struct Round {
    source: Client,
    snapshot: String,
    lsn: Lsn,
    tables: Vec<TableName>,
    bytes: i64,
}

/// A round of the tables that wait for it; `None` when there are none, or while a schema change is outstanding.
pub(super) async fn begin(replay: &Replay, target: &Client) -> Result<Option<Round>, Error> {
    let tables = replay.ledger.lock().unwrap_or_else(PoisonError::into_inner).stale();
    if tables.is_empty() {
        return Ok(None);
    }
    let source = door::connect(&replay.source, &Session::new("pgstream-aws copy again")).await?;
    let failed = || source.failed("copying a table again");
    source.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.map_err(failed())?;
    let names: Vec<String> = tables.iter().map(|table| format!("ONLY {table}")).collect();
    let lock = format!("LOCK TABLE {} IN ACCESS SHARE MODE", names.join(", "));
    match source.batch_execute(&lock).await.map_err(failed()) {
        // Renamed or dropped meanwhile: that change is still to come.
        Err(error) if matches!(error.sqlstate(), Some("42P01" | "3F000")) => return Ok(None),
        locked => locked?,
    }
    let names: Vec<String> = tables.iter().map(ToString::to_string).collect();
    let row = source
        .query_one(
            "SELECT pg_current_snapshot()::text, pg_current_wal_insert_lsn(),
                    (SELECT coalesce(sum(pg_table_size(name::regclass)), 0)::int8 FROM unnest($1::text[]) AS t(name))",
            &[&names],
        )
        .await
        .map_err(failed())?;
    let (snapshot, lsn, bytes) = (row.get(0), row.get(1), row.get(2));
    if outstanding(replay, &source, target).await? {
        tracing::info!(tables = tables.len(), "the schema changes again further on: tables are copied after that");
        return Ok(None);
    }
    Ok(Some(Round { source, snapshot, lsn, tables, bytes }))
}

impl Round {
    /// Whether it is small enough for the schema change's own transaction.
    pub(super) fn is_small(&self, limit: u64) -> bool {
        u64::try_from(self.bytes).is_ok_and(|bytes| bytes <= limit)
    }

    /// Copies the tables in the open transaction of `target`.
    pub(super) async fn copy(&self, replay: &Replay, target: &Client) -> Result<(), Error> {
        for table in &self.tables {
            let rows = match definition(&self.source, table).await? {
                Some(definition) => copy(&self.source, target, &definition).await?,
                None => 0,
            };
            tracing::info!(%table, rows, "copied again after a schema change");
            record(replay, target, table, &self.snapshot, self.lsn, rows).await?;
        }
        Ok(())
    }

    /// Lets the reader pass over what the copy will hold. Returns the tables.
    pub(super) fn announce(&self, replay: &Replay) -> Result<Copying, Error> {
        let copied = Copied::parse(&self.snapshot, self.lsn, false).map_err(|e| Error::Ledger(e.into()))?;
        let mut ledger = replay.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        for table in &self.tables {
            ledger.renew(table.clone(), copied.clone());
        }
        Ok(self.tables.as_slice().into())
    }

    /// Copies the tables in a session of its own, while the stream goes on.
    pub(super) async fn copy_beside(self, replay: Arc<Replay>, target: Server) -> Result<(), Error> {
        tracing::info!(tables = self.tables.len(), bytes = self.bytes, "copying again beside the stream");
        let client = door::open_copier(&target, &replay.slot).await?;
        let failed = || client.failed("copying a table again");
        client.batch_execute("BEGIN").await.map_err(failed())?;
        self.copy(&replay, &client).await?;
        Ok(client.batch_execute("COMMIT").await.map_err(failed())?)
    }
}

/// Whether the source's snapshot sees a schema change that this target has not dealt with.
async fn outstanding(replay: &Replay, source: &Client, target: &Client) -> Result<bool, Error> {
    let copied = target
        .query_opt("SELECT snapshot FROM pgstream.schema_snapshot WHERE source = $1", &[&replay.slot])
        .await
        .map_err(target.failed("reading pgstream.schema_snapshot"))?
        .map(|row| row.get::<_, String>(0));
    let seen: Vec<i64> = source
        .query_one(
            "SELECT coalesce(array_agg(l.id), '{}') FROM pgstream.schema_log l
              WHERE NOT pg_visible_in_snapshot(l.transaction_id::text::xid8, coalesce($2::text::pg_snapshot,
                        (SELECT created_snapshot::pg_snapshot FROM pgstream.replication_slots WHERE slot_name = $1)))",
            &[&replay.slot, &copied],
        )
        .await
        .map_err(source.failed("reading pgstream.schema_log"))?
        .get(0);
    let row = target
        .query_one(
            "SELECT EXISTS (SELECT FROM unnest($2::bigint[]) AS seen(id) WHERE NOT EXISTS (
                 SELECT FROM pgstream.ddl_applied a
                  WHERE a.slot_name = $1 AND a.id = seen.id AND a.commit_lsn IS NOT NULL))",
            &[&replay.slot, &seen],
        )
        .await
        .map_err(target.failed("reading pgstream.ddl_applied"))?;
    Ok(row.get(0))
}

/// The table on the source; `None` when rows of it are not to be had any more.
async fn definition(source: &Client, table: &TableName) -> Result<Option<Relation>, Error> {
    let row = source
        .query_opt(
            "SELECT definition::text FROM pgstream.ddl_objects
              WHERE class = 'table' AND definition->>'schema' = $1 AND definition->>'name' = $2",
            &[&table.schema, &table.name],
        )
        .await
        .map_err(source.failed("reading pgstream.ddl_objects"))?;
    let unreadable = |e: serde_json::Error| Error::DdlRecord { lsn: Lsn::ZERO, problem: e.to_string() };
    row.map(|row| serde_json::from_str(row.get(0)).map_err(unreadable)).transpose()
}

async fn copy(source: &Client, target: &Client, table: &Relation) -> Result<u64, Error> {
    let written = table.columns.iter().filter(|column| column.generated.is_empty());
    let columns: Vec<String> = written.map(|column| quote_ident(&column.name)).collect();
    let list = if columns.is_empty() { String::new() } else { format!(" ({})", columns.join(", ")) };
    let name = table.table();
    let from_source = || source.failed("reading a table that is copied again");
    let to_target = || target.failed("writing a table that is copied again");
    let mut rows = pin!(source.copy_out(&format!("COPY {name}{list} TO STDOUT")).await.map_err(from_source())?);
    let mut sink = pin!(target.copy_in(&format!("COPY {name}{list} FROM STDIN")).await.map_err(to_target())?);
    while let Some(bytes) = rows.try_next().await.map_err(from_source())? {
        sink.feed(bytes).await.map_err(to_target())?;
    }
    Ok(sink.finish().await.map_err(to_target())?)
}

/// In the ledger of the target, and in that of this process.
async fn record(
    replay: &Replay,
    target: &Client,
    table: &TableName,
    snapshot: &str,
    lsn: Lsn,
    rows: u64,
) -> Result<(), Error> {
    let failed = || target.failed("writing pgstream.snapshot_ledger");
    target
        .execute(
            "DELETE FROM pgstream.snapshot_ledger WHERE source = $1 AND schema_name = $2 AND table_name = $3",
            &[&replay.slot, &table.schema, &table.name],
        )
        .await
        .map_err(failed())?;
    target
        .execute(
            "INSERT INTO pgstream.snapshot_ledger (source, system_identifier, schema_name, table_name, part, parts,
                                                   snapshot, snapshot_lsn, row_count, byte_count, with_schema)
             SELECT $1, system_identifier, $2, $3, 0, 1, $4, $5, $6, 0, false
               FROM pgstream.apply_progress WHERE slot_name = $1",
            &[&replay.slot, &table.schema, &table.name, &snapshot, &lsn, &i64::try_from(rows).unwrap_or(i64::MAX)],
        )
        .await
        .map_err(failed())?;
    let copied = Copied::parse(snapshot, lsn, false).map_err(|e| Error::Ledger(e.into()))?;
    replay.ledger.lock().unwrap_or_else(PoisonError::into_inner).renew(table.clone(), copied);
    Ok(())
}
