//! Tables that are copied again after a schema change, because the target cannot compute their rows: values of a
//! volatile default, of a USING clause, of CREATE TABLE AS.
//!
//! ```text
//!  source now: snapshot ── is the table still as this change left it?
//!       yes ──> COPY into the target, in the change's transaction; the ledger has the snapshot: rows that it holds are
//!               passed over in the stream from here on
//!       no ───> another change of the table is still to come: stale until then, and none of its rows is applied
//! ```

use std::{pin::pin, sync::PoisonError};

use futures::{SinkExt, TryStreamExt};
use pgstream_postgres::{Client, Lsn, Session, TableName, quote_ident};

use super::{
    super::{Error, door, schema::SharedLedger},
    schema::Replay,
};
use crate::{
    ddl::record::{Column, Relation},
    target::ledger::{Copied, STALE},
};

/// Whether the table waits to be copied again.
pub(super) fn is_stale(ledger: &SharedLedger, table: &TableName) -> bool {
    let ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
    ledger.copied(table) == Some(&Copied::Stale)
}

/// Copies the table as it is on the source now, or notes that it must wait.
pub(super) async fn table(
    replay: &Replay,
    target: &Client,
    id: u32,
    was: Option<&TableName>,
    is: &Relation,
) -> Result<(), Error> {
    let name = is.table();
    let source = door::connect(&replay.source, &Session::new("pgstream-aws copy again")).await?;
    let failed = || source.failed("copying a table again");
    source.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.map_err(failed())?;
    let row = source
        .query_one(
            "SELECT pg_current_snapshot()::text, pg_current_wal_insert_lsn(),
                    (SELECT definition::text FROM pgstream.ddl_objects
                      WHERE classid = 'pg_class'::regclass AND objid = $1)",
            &[&id],
        )
        .await
        .map_err(failed())?;
    let (snapshot, lsn): (String, Lsn) = (row.get(0), row.get(1));
    let now: Option<Relation> = row.get::<_, Option<&str>>(2).and_then(|text| serde_json::from_str(text).ok());
    let unchanged = now.is_some_and(|now| now.table() == name && shape(&now) == shape(is));
    empty(target, &name).await?;
    if !unchanged {
        tracing::info!(table = %name, "changes again further on: it is copied then");
        return record(replay, target, was, &name, STALE, Lsn::ZERO, 0).await;
    }
    let rows = copy(&source, target, is).await?;
    tracing::info!(table = %name, rows, "copied again after a schema change");
    record(replay, target, was, &name, &snapshot, lsn, rows).await
}

fn shape(relation: &Relation) -> Vec<(i16, &str, u32, i32)> {
    relation.columns.iter().map(|c| (c.num, c.name.as_str(), c.type_id, c.typmod)).collect()
}

/// Not TRUNCATE, which refuses tables that others reference.
async fn empty(target: &Client, name: &TableName) -> Result<(), Error> {
    let failed = target.failed("emptying a table that is copied again");
    target.batch_execute(&format!("DELETE FROM ONLY {name}")).await.map_err(failed)?;
    Ok(())
}

async fn copy(source: &Client, target: &Client, is: &Relation) -> Result<u64, Error> {
    let written = |column: &&Column| column.generated.is_empty();
    let columns: Vec<String> = is.columns.iter().filter(written).map(|c| quote_ident(&c.name)).collect();
    let list = if columns.is_empty() { String::new() } else { format!(" ({})", columns.join(", ")) };
    let (out, into) = (format!("COPY {}{list} TO STDOUT", is.table()), format!("COPY {}{list} FROM STDIN", is.table()));
    let from_source = || source.failed("reading a table that is copied again");
    let to_target = || target.failed("writing a table that is copied again");
    let mut rows = pin!(source.copy_out(&out).await.map_err(from_source())?);
    let mut sink = pin!(target.copy_in(&into).await.map_err(to_target())?);
    while let Some(bytes) = rows.try_next().await.map_err(from_source())? {
        sink.feed(bytes).await.map_err(to_target())?;
    }
    Ok(sink.finish().await.map_err(to_target())?)
}

/// In the ledger of the target, and in that of this process.
async fn record(
    replay: &Replay,
    target: &Client,
    was: Option<&TableName>,
    name: &TableName,
    snapshot: &str,
    lsn: Lsn,
    rows: u64,
) -> Result<(), Error> {
    let before = super::schema::former(was, name);
    let failed = || target.failed("writing pgstream.snapshot_ledger");
    target
        .execute(
            "DELETE FROM pgstream.snapshot_ledger
              WHERE source = $1 AND (schema_name, table_name) IN (($2, $3), ($4, $5))",
            &[&replay.slot, &before.schema, &before.name, &name.schema, &name.name],
        )
        .await
        .map_err(failed())?;
    target
        .execute(
            "INSERT INTO pgstream.snapshot_ledger
                 (source, system_identifier, schema_name, table_name, part, parts, snapshot, snapshot_lsn, row_count, byte_count)
             SELECT $1, system_identifier, $2, $3, 0, 1, $4, $5, $6, 0 FROM pgstream.apply_progress WHERE slot_name = $1",
            &[&replay.slot, &name.schema, &name.name, &snapshot, &lsn, &i64::try_from(rows).unwrap_or(i64::MAX)],
        )
        .await
        .map_err(failed())?;
    let copied = Copied::parse(snapshot, lsn).map_err(|e| Error::Ledger(e.into()))?;
    replay.ledger.lock().unwrap_or_else(PoisonError::into_inner).renew(name.clone(), copied);
    Ok(())
}
