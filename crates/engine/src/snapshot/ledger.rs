//! What the target remembers of a copy: finished parts and finished schema work.
//!
//! Every row here is written in the transaction of the work it speaks of, so it can neither be early nor late.

use std::collections::{HashMap, HashSet};

use pgstream_postgres::{Client, Lsn, TableName};
use tokio_postgres::GenericClient;

use super::{Error, exporter::Snapshot};

/// Whose copy it is.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    /// Slot name, or `<system identifier>/<database>`.
    pub(crate) source: String,
    pub(crate) system_identifier: String,
}

/// What earlier runs have finished.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    tables: HashMap<TableName, Vec<Part>>,
    steps: HashSet<String>,
}

#[derive(Debug)]
struct Part {
    parts: i32,
    snapshot: String,
}

/// How far a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing of it is here.
    Absent,
    /// Some parts are; they cannot be continued, their snapshot is gone.
    Partial,
    /// All of it, under one snapshot.
    Complete,
}

/// One finished part.
pub(crate) struct Entry<'a> {
    pub(crate) table: &'a TableName,
    pub(crate) part: i32,
    pub(crate) parts: i32,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

impl Ledger {
    /// Reads what is recorded; nothing when schema `pgstream` is not there yet.
    pub(crate) async fn load(target: &Client, origin: &Origin) -> Result<Self, Error> {
        let wrap = || target.failed("reading the snapshot ledger");
        let there: bool = target
            .query_one("SELECT to_regclass('pgstream.snapshot_ledger') IS NOT NULL", &[])
            .await
            .map_err(wrap())?
            .get(0);
        let mut ledger = Self::default();
        if !there {
            return Ok(ledger);
        }
        let rows = target
            .query(
                "SELECT schema_name, table_name, parts, snapshot, system_identifier
                 FROM pgstream.snapshot_ledger WHERE source = $1",
                &[&origin.source],
            )
            .await
            .map_err(wrap())?;
        for row in &rows {
            let recorded: String = row.get(4);
            if recorded != origin.system_identifier {
                return Err(Error::OtherHistory {
                    slot: origin.source.clone(),
                    recorded,
                    found: origin.system_identifier.clone(),
                });
            }
            let name = TableName::new(row.get::<_, String>(0), row.get::<_, String>(1));
            ledger.tables.entry(name).or_default().push(Part { parts: row.get(2), snapshot: row.get(3) });
        }
        let rows = target
            .query("SELECT step FROM pgstream.snapshot_steps WHERE source = $1", &[&origin.source])
            .await
            .map_err(wrap())?;
        ledger.steps = rows.iter().map(|row| row.get(0)).collect();
        Ok(ledger)
    }

    pub(crate) fn state(&self, table: &TableName) -> State {
        match self.tables.get(table).map(Vec::as_slice) {
            None | Some([]) => State::Absent,
            Some([first, rest @ ..]) => {
                let one = rest.iter().all(|part| part.snapshot == first.snapshot && part.parts == first.parts);
                let all = usize::try_from(first.parts).is_ok_and(|parts| parts == rest.len() + 1);
                if one && all { State::Complete } else { State::Partial }
            }
        }
    }

    pub(crate) fn has_step(&self, step: &str) -> bool {
        self.steps.contains(step)
    }
}

const RECORD: &str = "
    INSERT INTO pgstream.snapshot_ledger
        (source, system_identifier, schema_name, table_name, part, parts, snapshot, snapshot_lsn, row_count, byte_count)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";

/// Records a finished part; to be called in the transaction of its rows.
pub(crate) async fn record<C: GenericClient>(
    tx: &C,
    origin: &Origin,
    entry: &Entry<'_>,
) -> Result<(), tokio_postgres::Error> {
    insert(tx, RECORD, origin, entry).await
}

async fn insert<C: GenericClient>(
    tx: &C,
    sql: &str,
    origin: &Origin,
    entry: &Entry<'_>,
) -> Result<(), tokio_postgres::Error> {
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    tx.execute(
        sql,
        &[
            &origin.source,
            &origin.system_identifier,
            &entry.table.schema,
            &entry.table.name,
            &entry.part,
            &entry.parts,
            &entry.snapshot.visible,
            &entry.snapshot.lsn,
            &count(entry.rows),
            &count(entry.bytes),
        ],
    )
    .await
    .map(drop)
}

/// Rows and bytes of a part if it is recorded, once it is certain: a transaction that may be about to record it is waited
/// for. To be called outside a transaction.
pub(crate) async fn settled(
    target: &tokio_postgres::Client,
    origin: &Origin,
    entry: &Entry<'_>,
) -> Result<Option<(u64, u64)>, tokio_postgres::Error> {
    wait_for_key(target, insert(target, &format!("{RECORD} ON CONFLICT DO NOTHING"), origin, entry)).await?;
    let row = target
        .query_opt(
            "SELECT row_count, byte_count FROM pgstream.snapshot_ledger
             WHERE source = $1 AND schema_name = $2 AND table_name = $3 AND part = $4 AND snapshot = $5",
            &[&origin.source, &entry.table.schema, &entry.table.name, &entry.part, &entry.snapshot.visible],
        )
        .await?;
    Ok(row.map(|row| (row.get::<_, i64>(0).unsigned_abs(), row.get::<_, i64>(1).unsigned_abs())))
}

/// Whether schema work that is recorded at once is, once it is certain; like [`settled`].
pub(crate) async fn steps_settled(
    target: &tokio_postgres::Client,
    origin: &Origin,
    steps: &[&str],
) -> Result<bool, tokio_postgres::Error> {
    wait_for_key(target, record_steps(target, origin, steps)).await?;
    let sql = "SELECT count(*) FROM pgstream.snapshot_steps WHERE source = $1 AND step = ANY ($2::text[])";
    let found: i64 = target.query_one(sql, &[&origin.source, &steps]).await?.get(0);
    Ok(usize::try_from(found) == Ok(steps.len()))
}

/// A unique key lets nobody in beside a transaction that has written it, so an insertion waits for its end.
async fn wait_for_key(
    target: &tokio_postgres::Client,
    insertion: impl Future<Output = Result<(), tokio_postgres::Error>>,
) -> Result<(), tokio_postgres::Error> {
    target.batch_execute("BEGIN").await?;
    insertion.await?;
    target.batch_execute("ROLLBACK").await
}

/// Forgets a table; to be called in the transaction that empties it.
pub(crate) async fn forget<C: GenericClient>(
    tx: &C,
    origin: &Origin,
    table: &TableName,
) -> Result<(), tokio_postgres::Error> {
    tx.execute(
        "DELETE FROM pgstream.snapshot_ledger WHERE source = $1 AND schema_name = $2 AND table_name = $3",
        &[&origin.source, &table.schema, &table.name],
    )
    .await
    .map(drop)
}

/// Records finished schema work; to be called in its transaction.
pub(crate) async fn record_steps<C: GenericClient>(
    tx: &C,
    origin: &Origin,
    steps: &[&str],
) -> Result<(), tokio_postgres::Error> {
    tx.execute(
        "INSERT INTO pgstream.snapshot_steps (source, step) SELECT $1, unnest($2::text[]) ON CONFLICT DO NOTHING",
        &[&origin.source, &steps],
    )
    .await
    .map(drop)
}

/// The step of a run that reached its end.
pub(crate) use crate::target::ledger::COMPLETE;

/// Records that a run reached its end, and makes all before it durable.
pub(crate) async fn complete(target: &Client, origin: &Origin) -> Result<(), Error> {
    let wrap = || target.failed("recording the end of the snapshot");
    target.batch_execute("SET synchronous_commit = on").await.map_err(wrap())?;
    record_steps(&**target, origin, &[COMPLETE]).await.map_err(wrap())?;
    // The step may have been there already: an empty commit would wait for nothing.
    target.batch_execute("SELECT pg_current_xact_id()").await.map_err(wrap())?;
    Ok(())
}

/// The slot's position, from which the stream will go on.
#[derive(Debug, Clone)]
pub(crate) struct Position {
    pub(crate) slot: String,
    pub(crate) timeline: i64,
    pub(crate) confirmed: Lsn,
}

/// Makes the stream's progress row, before the first row is copied.
pub(crate) async fn start_progress(target: &Client, origin: &Origin, position: &Position) -> Result<(), Error> {
    let wrap = || target.failed("recording where the stream begins");
    target
        .execute(
            "INSERT INTO pgstream.apply_progress (slot_name, system_identifier, timeline, commit_end_lsn)
             VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
            &[&position.slot, &origin.system_identifier, &position.timeline, &position.confirmed],
        )
        .await
        .map_err(wrap())?;
    let row = target
        .query_one(
            "SELECT system_identifier, commit_end_lsn FROM pgstream.apply_progress WHERE slot_name = $1",
            &[&position.slot],
        )
        .await
        .map_err(wrap())?;
    let (recorded, applied): (String, Lsn) = (row.get(0), row.get(1));
    let slot = position.slot.clone();
    if recorded != origin.system_identifier {
        return Err(Error::OtherHistory { slot, recorded, found: origin.system_identifier.clone() });
    }
    if applied < position.confirmed {
        return Err(Error::SlotAhead { slot, confirmed: position.confirmed, applied });
    }
    Ok(())
}

/// Records the snapshot under which the schema is copied: the stream replays the changes that it does not see. A later
/// run that goes on with the copy must find the same schema.
pub(crate) async fn start_schema(
    source: &Client,
    target: &Client,
    origin: &Origin,
    snapshot: &Snapshot,
) -> Result<(), Error> {
    let wrap = || target.failed("recording the snapshot of the schema");
    target
        .execute(
            "INSERT INTO pgstream.schema_snapshot (source, snapshot, snapshot_lsn) VALUES ($1, $2, $3)
             ON CONFLICT DO NOTHING",
            &[&origin.source, &snapshot.visible, &snapshot.lsn],
        )
        .await
        .map_err(wrap())?;
    let row = target
        .query_one(
            "SELECT snapshot, ARRAY(SELECT id FROM pgstream.ddl_applied WHERE slot_name = source)
               FROM pgstream.schema_snapshot WHERE source = $1",
            &[&origin.source],
        )
        .await
        .map_err(wrap())?;
    let (recorded, applied): (String, Vec<i64>) = (row.get(0), row.get(1));
    if recorded == snapshot.visible {
        return Ok(());
    }
    let commands: Vec<String> = source
        .query(
            "SELECT DISTINCT command FROM pgstream.schema_log
              WHERE pg_visible_in_snapshot(transaction_id::text::xid8, $1::text::pg_snapshot)
                AND NOT pg_visible_in_snapshot(transaction_id::text::xid8, $2::text::pg_snapshot)
                AND id <> ALL ($3) ORDER BY 1",
            &[&snapshot.visible, &recorded, &applied],
        )
        .await
        .map_err(source.failed("reading the log of schema changes"))?
        .iter()
        .map(|row| row.get(0))
        .collect();
    if commands.is_empty() { Ok(()) } else { Err(Error::SchemaChanged { commands }) }
}

/// Whether the slot can go on from what this target has.
pub(crate) async fn can_follow(target: &Client, position: &Position) -> Result<bool, Error> {
    let wrap = || target.failed("reading where the stream stands");
    let there: bool = target
        .query_one("SELECT to_regclass('pgstream.apply_progress') IS NOT NULL", &[])
        .await
        .map_err(wrap())?
        .get(0);
    if !there {
        return Ok(false);
    }
    let row = target
        .query_opt("SELECT commit_end_lsn FROM pgstream.apply_progress WHERE slot_name = $1", &[&position.slot])
        .await
        .map_err(wrap())?;
    Ok(row.is_some_and(|row| row.get::<_, Lsn>(0) >= position.confirmed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_complete_when_all_parts_of_one_snapshot_are_there() {
        let name = TableName::new("public", "t");
        let with = |parts: &[(i32, &str)]| {
            let parts = parts.iter().map(|(parts, snapshot)| Part { parts: *parts, snapshot: (*snapshot).to_owned() });
            Ledger { tables: HashMap::from([(name.clone(), parts.collect())]), ..Ledger::default() }
        };
        assert_eq!(Ledger::default().state(&name), State::Absent);
        assert_eq!(with(&[(1, "5:9:")]).state(&name), State::Complete);
        assert_eq!(with(&[(2, "5:9:")]).state(&name), State::Partial);
        assert_eq!(with(&[(2, "5:9:"), (2, "5:9:")]).state(&name), State::Complete);
        assert_eq!(with(&[(2, "5:9:"), (2, "6:9:")]).state(&name), State::Partial);
    }
}
