//! Schema changes as they stand in the stream: a row of `pgstream.schema_log`, in order, inside its transaction.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use pgstream_postgres::{
    Client, Lsn, TableName,
    pgoutput::{Cell, Tuple},
};

use super::{
    Error,
    relation::{SourceRelation, TypeName},
    work::Ddl,
};
use crate::{
    ddl::{Change, Record, record::Versions},
    target::ledger::{Copied, Ledger, ParseSnapshotError, Snapshot},
};

/// The ledger, which the applier renews when it copies a table again.
pub type SharedLedger = Mutex<Ledger>;

/// What the ledger says of a table.
pub fn copied(ledger: &SharedLedger, table: &TableName) -> Option<Copied> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner).copied(table).cloned()
}

/// Reads a new row of the log.
///
/// # Errors
/// [`Error::DdlRecord`] when it cannot be read.
pub fn read(log: &SourceRelation, row: Tuple<'_>, commit: Lsn) -> Result<Ddl, Error> {
    let mut fields = [None; 4];
    for (column, cell) in log.columns.iter().zip(row.cells()) {
        let field = ["id", "command", "objects", "failure"].iter().position(|name| *name == column.name);
        if let Some(place) = field.and_then(|field| fields.get_mut(field)) {
            *place = Some(cell);
        }
    }
    let [id, command, objects, failure] = fields;
    let unreadable = |problem: &str| Error::DdlRecord { lsn: commit, problem: problem.to_owned() };
    let id = match id {
        Some(Cell::Text(text)) => std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()),
        Some(Cell::Binary(bytes)) => bytes.try_into().ok().map(i64::from_be_bytes),
        _ => None,
    };
    let id: i64 = id.ok_or_else(|| unreadable("it has no id"))?;
    let command = text(command).ok_or_else(|| unreadable("it has no command"))?;
    // The binary form of jsonb is its text behind a version number.
    let objects = match objects {
        Some(Cell::Binary([1, json @ ..])) => std::str::from_utf8(json).ok(),
        other => text(other),
    };
    let objects = objects.ok_or_else(|| unreadable("it has no objects"))?;
    let record = Record::parse(id, command, objects, text(failure)).map_err(|e| unreadable(&e.to_string()))?;
    Ok(Ddl { record, objects: objects.to_owned(), commit, types_checked: false })
}

fn text<'a>(cell: Option<Cell<'a>>) -> Option<&'a str> {
    match cell? {
        Cell::Text(text) | Cell::Binary(text) => std::str::from_utf8(text).ok(),
        Cell::Null | Cell::Unchanged => None,
    }
}

/// Leaves out what the copy already holds; whether all of it.
pub fn is_copied(record: &mut Record, ledger: &SharedLedger, xid: u32, commit: Lsn) -> bool {
    let ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
    if ledger.schema().is_some_and(|copied| copied.holds_schema(xid, commit)) {
        return true;
    }
    record.changes.retain(|change| {
        let table = match change {
            Change::Table(Versions { was, is, .. }) => {
                [is, was].into_iter().flatten().find_map(|t| ledger.copied(&t.table()))
            }
            _ => None,
        };
        !table.is_some_and(|copied| copied.holds_schema(xid, commit))
    });
    false
}

/// A relation whose schema or types have other names now; the walsender does not always describe it again.
pub fn renamed(relation: &SourceRelation, record: &Record) -> Option<SourceRelation> {
    let mut new = relation.clone();
    for change in &record.changes {
        match change {
            Change::Schema(Versions { was: Some(was), is: Some(is), .. }) => {
                if new.table.schema == was.name {
                    new.table.schema.clone_from(&is.name);
                }
                for name in new.columns.iter_mut().filter_map(|c| c.type_name.as_mut()) {
                    if name.schema == was.name {
                        name.schema.clone_from(&is.name);
                    }
                }
            }
            Change::Type(Versions { was: Some(was), is: Some(is), .. }) => {
                let old = TypeName { schema: was.schema.clone(), name: was.name.clone() };
                let now = TypeName { schema: is.schema.clone(), name: is.name.clone() };
                for name in new.columns.iter_mut().filter_map(|c| c.type_name.as_mut()) {
                    if *name == old {
                        *name = now.clone();
                    }
                }
            }
            _ => {}
        }
    }
    (new != *relation).then_some(new)
}

/// Whether columns came with types that none had before.
pub fn brings_types(record: &Record) -> bool {
    record.changes.iter().any(|change| match change {
        Change::Table(Versions { was, is: Some(is), .. }) => is.columns.iter().any(|column| {
            !was.iter().flat_map(|was| &was.columns).any(|old| old.num == column.num && old.type_id == column.type_id)
        }),
        Change::Type(Versions { is: Some(is), .. }) => is.kind != Some('e'),
        _ => false,
    })
}

/// Tables that this transaction creates from a query: their rows stand in the stream before they are described.
pub async fn filled_by(source: &Client, xid: u32) -> Result<Vec<TableName>, Error> {
    let rows = source
        .query(
            "SELECT o #>> '{is,schema}', o #>> '{is,name}'
               FROM pgstream.schema_log l CROSS JOIN LATERAL jsonb_array_elements(l.objects) AS o
              WHERE l.command IN ('CREATE TABLE AS', 'SELECT INTO') AND l.transaction_id & 4294967295 = $1
                AND o->>'class' = 'table' AND (o->>'filled')::boolean",
            &[&i64::from(xid)],
        )
        .await
        .map_err(source.failed("reading pgstream.schema_log"))?;
    Ok(rows.iter().map(|row| TableName::new(row.get::<_, String>(0), row.get::<_, String>(1))).collect())
}

/// Which of these transactions, whose commits are in the stream, the source does not see yet.
pub async fn unseen(source: &Client, transactions: &HashSet<u32>) -> Result<HashSet<u32>, Error> {
    let row = source
        .query_one("SELECT pg_current_snapshot()::text", &[])
        .await
        .map_err(source.failed("looking for transactions that are still to be seen"))?;
    let now: Snapshot = row.get::<_, String>(0).parse().map_err(|e: ParseSnapshotError| Error::Ledger(e.into()))?;
    Ok(transactions.iter().copied().filter(|xid| !now.sees(*xid)).collect())
}
