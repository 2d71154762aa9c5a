//! The target as the copy finds it: tables that are there, whether they hold rows, how they can be written.

use std::collections::{HashMap, HashSet};

use pgstream_config::pipeline::OnConflict;
use pgstream_postgres::{Client, TableName};

use super::{
    Error,
    catalog::{Kind, Table},
    copy::{Merge, Write},
    ledger::{Ledger, State},
};

/// Tables that one emptiness check asks about.
const CHECKED_AT_ONCE: usize = 200;

/// A table on the target.
#[derive(Debug, Default)]
pub(crate) struct There {
    /// Column -> type, as `format_type` writes it. Generated columns are not among them.
    pub(crate) types: HashMap<String, String>,
    /// `GENERATED ALWAYS AS IDENTITY` columns: an UPDATE cannot set them.
    identity_always: HashSet<String>,
    /// Columns of the primary key, or of a unique index.
    key: Vec<String>,
    /// Another table references it, so it cannot be truncated.
    referenced: bool,
}

const TABLES: &str = "
    SELECT w.schema, w.name,
           ARRAY(SELECT a.attname::text FROM pg_attribute a
                 WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
                 ORDER BY a.attnum),
           ARRAY(SELECT format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
                 WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
                 ORDER BY a.attnum),
           ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attidentity = 'a'),
           coalesce((SELECT ARRAY(SELECT a.attname::text
                                  FROM unnest(i.indkey[0:i.indnkeyatts - 1]) WITH ORDINALITY AS k (attnum, n)
                                  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum ORDER BY k.n)
                     FROM pg_index i
                     WHERE i.indrelid = c.oid AND i.indisunique AND i.indimmediate AND i.indisvalid
                       AND i.indpred IS NULL AND i.indexprs IS NULL
                     ORDER BY i.indisprimary DESC, i.indexrelid LIMIT 1), '{}'),
           c.oid IN (SELECT f.confrelid FROM pg_constraint f WHERE f.contype = 'f' AND f.conrelid <> f.confrelid)
    FROM unnest($1::text[], $2::text[]) AS w (schema, name)
    JOIN pg_namespace n ON n.nspname = w.schema
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.name AND c.relkind IN ('r', 'p')";

/// Those of the tables that are on the target.
pub(crate) async fn tables(target: &Client, wanted: &[&Table]) -> Result<HashMap<TableName, There>, Error> {
    let schemas: Vec<&str> = wanted.iter().map(|t| t.name.schema.as_str()).collect();
    let names: Vec<&str> = wanted.iter().map(|t| t.name.name.as_str()).collect();
    let rows = target.query(TABLES, &[&schemas, &names]).await.map_err(target.failed("reading the target's tables"))?;
    Ok(rows
        .iter()
        .map(|row| {
            let columns: Vec<String> = row.get(2);
            let types: Vec<String> = row.get(3);
            let there = There {
                types: columns.into_iter().zip(types).collect(),
                identity_always: row.get::<_, Vec<String>>(4).into_iter().collect(),
                key: row.get(5),
                referenced: row.get(6),
            };
            (TableName::new(row.get::<_, String>(0), row.get::<_, String>(1)), there)
        })
        .collect())
}

/// Foreign keys of the target: (referencing, referenced).
pub(crate) async fn references(target: &Client) -> Result<Vec<(TableName, TableName)>, Error> {
    let rows = target
        .query(
            "SELECT n.nspname::text, c.relname::text, rn.nspname::text, r.relname::text
             FROM pg_constraint f
             JOIN pg_class c ON c.oid = f.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
             JOIN pg_class r ON r.oid = f.confrelid JOIN pg_namespace rn ON rn.oid = r.relnamespace
             WHERE f.contype = 'f'",
            &[],
        )
        .await
        .map_err(target.failed("reading the target's foreign keys"))?;
    let name = |row: &tokio_postgres::Row, at| TableName::new(row.get::<_, String>(at), row.get::<_, String>(at + 1));
    Ok(rows.iter().map(|row| (name(row, 0), name(row, 2))).collect())
}

/// Tables that hold rows which the ledger does not know.
pub(crate) async fn with_foreign_rows(
    target: &Client,
    wanted: &[&Table],
    there: &HashMap<TableName, There>,
    ledger: &Ledger,
) -> Result<HashSet<TableName>, Error> {
    let suspects: Vec<&Table> = wanted
        .iter()
        .copied()
        .filter(|t| !t.extension_config && there.contains_key(&t.name) && ledger.state(&t.name) == State::Absent)
        .collect();
    let mut found = HashSet::new();
    for chunk in suspects.chunks(CHECKED_AT_ONCE) {
        let asks: Vec<String> = chunk
            .iter()
            .enumerate()
            .map(|(at, table)| format!("SELECT {at} WHERE EXISTS (SELECT FROM {})", table.only()))
            .collect();
        let rows = target
            .query(&asks.join(" UNION ALL "), &[])
            .await
            .map_err(target.failed("checking that the target's tables are empty"))?;
        for row in &rows {
            if let Some(table) = usize::try_from(row.get::<_, i32>(0)).ok().and_then(|at| chunk.get(at)) {
                found.insert(table.name.clone());
            }
        }
    }
    Ok(found)
}

impl There {
    /// How the rows of `table` can enter; `own_rows`: it holds rows that are not ours.
    pub(crate) fn write(&self, table: &Table, own_rows: bool, action: OnConflict) -> Result<Write, Error> {
        if own_rows && !table.columns.is_empty() {
            if action == OnConflict::Update && self.key.is_empty() {
                return Err(Error::MergeWithoutKey { table: table.name.to_string() });
            }
            let set = table
                .columns
                .iter()
                .map(|column| &column.name)
                .filter(|name| !self.key.contains(name) && !self.identity_always.contains(*name))
                .cloned()
                .collect();
            return Ok(Write::Merge(Merge::new(action, self.key.clone(), set)));
        }
        let truncatable = !self.referenced && !table.extension_config && table.kind == Kind::Plain;
        Ok(if truncatable { Write::Fresh } else { Write::Append })
    }

    /// Columns of the source that are missing here.
    pub(crate) fn check(&self, table: &Table) -> Result<(), Error> {
        let columns: Vec<String> = table
            .columns
            .iter()
            .map(|column| &column.name)
            .filter(|name| !self.types.contains_key(*name))
            .map(|name| pgstream_postgres::quote_ident(name))
            .collect();
        if columns.is_empty() { Ok(()) } else { Err(Error::ShapeDiffers { table: table.name.to_string(), columns }) }
    }
}
