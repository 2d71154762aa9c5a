//! Foreign keys that are added to tables full of rows.
//!
//! The server then looks once whether all rows match, with a join of both tables. Right after a copy both are frozen and
//! their indexes fresh, and walking through two indexes side by side takes a third of the time of the hash join that the
//! planner would take: it counts with pages that lie anywhere, and these lie in order.

use std::collections::HashMap;

use pgstream_postgres::{Client, TableName};

use super::Error;

/// A foreign key of the source.
#[derive(Debug, Clone)]
pub(crate) struct ForeignKey {
    pub(crate) table: u32,
    pub(crate) references: u32,
    name: TableName,
    referenced: TableName,
    columns: Vec<String>,
}

/// All foreign keys, by OID.
pub(crate) async fn read(source: &Client) -> Result<HashMap<u32, ForeignKey>, Error> {
    let rows = source
        .query(
            "SELECT f.oid, f.conrelid, f.confrelid, n.nspname::text, c.relname::text, rn.nspname::text, r.relname::text,
                    ARRAY(SELECT a.attname::text FROM unnest(f.conkey) WITH ORDINALITY AS k (attnum, place)
                          JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.attnum ORDER BY k.place)
             FROM pg_constraint f
             JOIN pg_class c ON c.oid = f.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
             JOIN pg_class r ON r.oid = f.confrelid JOIN pg_namespace rn ON rn.oid = r.relnamespace
             WHERE f.contype = 'f' AND f.oid >= 16384",
            &[],
        )
        .await
        .map_err(source.failed("reading foreign keys"))?;
    let key = |row: &tokio_postgres::Row| ForeignKey {
        table: row.get(1),
        references: row.get(2),
        name: TableName::new(row.get::<_, String>(3), row.get::<_, String>(4)),
        referenced: TableName::new(row.get::<_, String>(5), row.get::<_, String>(6)),
        columns: row.get(7),
    };
    Ok(rows.iter().map(|row| (row.get(0), key(row))).collect())
}

impl ForeignKey {
    /// Prepares the session to add this key: without hash joins when both sides can be read from an index alone.
    pub(crate) async fn plan(&self, target: &Client) -> Result<(), Error> {
        target
            .execute(
                "SELECT set_config('enable_hashjoin', CASE WHEN
                     (SELECT count(*) FROM pg_class c
                      WHERE c.oid IN (to_regclass($1), to_regclass($2)) AND c.relallvisible > 0.9 * c.relpages)
                     = CASE WHEN $1 = $2 THEN 1 ELSE 2 END
                     AND EXISTS (
                         SELECT FROM pg_index i
                         WHERE i.indrelid = to_regclass($1) AND i.indisvalid AND i.indpred IS NULL
                           AND $3::text[] = ARRAY(
                               SELECT a.attname::text FROM generate_series(0, cardinality($3) - 1) AS at
                               JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[at] ORDER BY at))
                     THEN 'off' ELSE reset_val END, false)
                 FROM pg_settings WHERE name = 'enable_hashjoin'",
                &[&self.name.to_string(), &self.referenced.to_string(), &self.columns],
            )
            .await
            .map_err(target.failed(&format!("preparing to add a foreign key to {}", self.name)))?;
        Ok(())
    }
}
