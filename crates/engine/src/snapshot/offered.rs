//! What a worker may read of a table that it is offered: read on the source, and held against its own configuration.
//!
//! The offer stands on the target, which has no say in what is read on the source: it names a table, everything that
//! becomes SQL on the source comes from here. No catalog function that would lock another table is called (but for its own
//! TOAST): a statement that waits for one must not keep a worker from the others.

use pgstream_config::pattern::TableFilter;
use pgstream_postgres::{Client, TableName};
use tokio_postgres::Statement;

use super::{
    Error,
    catalog::{self, Binary, Column, Kind, Table},
};

/// What [`read`] asks in this session: it is asked for each part.
pub(crate) async fn reading(source: &Client) -> Result<Statement, Error> {
    let sql = sql(source.major_version().await?);
    Ok(source.prepare(&sql).await.map_err(source.failed("preparing to read tables"))?)
}

/// Reads the table under the session's snapshot; the session must have locked it. Tables that are never copied (see
/// [`catalog::tables`]) are refused like those that are left out.
pub(crate) async fn read(
    source: &Client,
    statement: &Statement,
    name: &TableName,
    kind: Kind,
    filter: &TableFilter,
    publication: Option<&str>,
) -> Result<Table, Error> {
    let differs = || Error::WorkerDiffers { table: name.to_string() };
    let row = source
        .query_opt(statement, &[&name.schema, &name.name, &publication])
        .await
        .map_err(source.failed("reading a table that is to be copied"))?
        .ok_or_else(differs)?;
    let (schemas, names): (Vec<String>, Vec<String>) = (row.get(1), row.get(2));
    let above: Vec<TableName> = schemas.into_iter().zip(names).map(|(s, n)| TableName::new(s, n)).collect();
    let chain: Vec<&TableName> = std::iter::once(name).chain(&above).collect();
    let published: bool = row.get(3);
    if !published || !catalog::has_rows_wanted(filter, &chain) {
        return Err(differs());
    }
    let (columns, extension): (Vec<String>, bool) = (row.get(4), row.get(5));
    let binary = Binary { never: false, carries_oids: false, foreign_format: false };
    let columns = columns.into_iter().map(|name| Column { name, data_type: String::new(), binary }).collect::<Vec<_>>();
    let condition = catalog::condition(row.get(6), row.get(7));
    Ok(Table {
        oid: row.get(0),
        name: name.clone(),
        kind,
        bytes: row.get::<_, i64>(8).unsigned_abs(),
        pages: 0,
        columns,
        condition,
        extension_config: extension,
    })
}

fn sql(major: u32) -> String {
    // Column lists, row filters and schemas are known to publications from 15 on.
    let (listed, filter, schemas) = match major {
        15.. => (
            "(r.prattrs IS NULL OR a.attnum = ANY (r.prattrs))",
            "pg_get_expr(r.prqual, r.prrelid)",
            "OR EXISTS (SELECT FROM pg_publication_namespace pn
                        WHERE pn.pnpubid = p.oid AND pn.pnnspid IN (SELECT relnamespace FROM chain))",
        ),
        _ => ("true", "NULL::text", ""),
    };
    format!(
        "WITH chain AS (
             SELECT t.oid, t.relname, t.relnamespace, tn.nspname, a.ordinality
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
                  LATERAL (SELECT c.oid AS relid, 0 AS ordinality
                           UNION ALL
                           SELECT * FROM pg_partition_ancestors(c.oid) WITH ORDINALITY AS a (relid, ordinality)
                           WHERE c.relispartition AND a.relid <> c.oid) a
                  JOIN pg_class t ON t.oid = a.relid JOIN pg_namespace tn ON tn.oid = t.relnamespace
             WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
               AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND n.nspname <> 'pgstream'
         )
         SELECT c.oid,
                ARRAY(SELECT nspname::text FROM chain WHERE ordinality > 0 ORDER BY ordinality),
                ARRAY(SELECT relname::text FROM chain WHERE ordinality > 0 ORDER BY ordinality),
                $3::text IS NULL OR coalesce(
                    p.puballtables
                    OR EXISTS (SELECT FROM pg_publication_rel pr
                               WHERE pr.prpubid = p.oid AND pr.prrelid IN (SELECT oid FROM chain)) {schemas}, false),
                ARRAY(SELECT a.attname::text FROM pg_attribute a
                      WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
                        AND {listed} ORDER BY a.attnum),
                x.oid IS NOT NULL,
                CASE WHEN c.oid = ANY (x.extconfig)
                    THEN coalesce(x.extcondition[array_position(x.extconfig, c.oid)], '') END,
                {filter},
                pg_table_size(c.oid)
         FROM chain c
         LEFT JOIN pg_publication p ON p.pubname = $3
         LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = c.oid
         LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0
                              AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
         LEFT JOIN pg_extension x ON x.oid = d.refobjid
         WHERE c.ordinality = 0 AND (x.oid IS NULL OR c.oid = ANY (x.extconfig))"
    )
}
