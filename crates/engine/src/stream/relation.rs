//! Tables as the source describes them in the stream, and the target tables they are applied to.
//!
//! ```text
//!  Relation message ──> SourceRelation ──┐
//!                                        ├─ compare ──> TargetTable: columns in source order, key, what fires
//!  target catalogs ──────────────────────┘      └─────> Error::Shape, every difference named
//! ```

use std::collections::HashMap;

use pgstream_postgres::{
    Client, TableName,
    pgoutput::{Relation, ReplicaIdentity},
    quote_ident,
};

use super::Error;
use crate::target::triggers::{self, Trigger};

/// First type id that is not the same on every server.
const FIRST_USER_TYPE: u32 = 10_000;

/// A type that only this source knows by number; a domain goes by the name of its base type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeName {
    /// Schema; `pg_catalog` for built-in ones.
    pub schema: String,
    /// Name.
    pub name: String,
}

/// One column of a published table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceColumn {
    /// Name, unquoted.
    pub name: String,
    /// Whether it is part of the replica identity.
    pub key: bool,
    /// Type id on the source.
    pub type_oid: u32,
    /// Type modifier, -1 for none.
    pub typmod: i32,
    /// Name of a type that is not built in.
    pub type_name: Option<TypeName>,
}

/// A published table as a Relation message describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRelation {
    /// Its name.
    pub table: TableName,
    /// What identifies an old row.
    pub identity: ReplicaIdentity,
    /// Columns in the order of tuples.
    pub columns: Vec<SourceColumn>,
}

impl SourceRelation {
    /// Takes the message over, with the user-defined types announced before it.
    pub fn new(message: &Relation<'_>, types: &HashMap<u32, TypeName>) -> Self {
        let columns = message
            .columns()
            .map(|column| SourceColumn {
                name: column.name.to_owned(),
                key: column.key,
                type_oid: column.type_oid.0,
                typmod: column.type_modifier,
                type_name: types.get(&column.type_oid.0).cloned(),
            })
            .collect();
        Self { table: TableName::new(message.namespace, message.name), identity: message.replica_identity, columns }
    }
}

/// How a changed row is found on the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// By these columns (indices into the columns).
    Columns(Vec<usize>),
    /// By all of them: the table has no key, one of several equal rows is meant.
    WholeRow,
    /// Not at all: only inserts can arrive.
    Absent,
}

/// One column of a target table.
#[derive(Debug, Clone)]
pub struct TargetColumn {
    /// Quoted name.
    pub ident: String,
    /// Its type, as SQL.
    pub type_sql: String,
    /// Type id on the target.
    pub type_oid: u32,
    /// Id of the array type over it, when there is one.
    pub array_oid: Option<u32>,
    /// Whether values are arrays themselves, which `unnest` would flatten.
    pub is_array: bool,
    /// `GENERATED ALWAYS AS IDENTITY`: can be inserted, but not set by UPDATE.
    pub identity_always: bool,
    /// Computed by the target itself: never written.
    pub generated: bool,
    /// The equality by which unique indexes know the type, as SQL: that of an extension lies in a schema of its own.
    pub equals: String,
    /// What a row can be looked up by, where the table has no key.
    pub lookup: Lookup,
}

/// What of a column's value a row can be looked up by, before its stored bytes are compared: values whose bytes are equal must
/// be equal by it, and it must be cheap for any row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// The value, which is short.
    Value,
    /// The value where it is short: a long one lies elsewhere, and its length beside the row.
    Short,
    /// Nothing: the type may have no equality, or a costly one.
    Nothing,
}

impl Lookup {
    /// Of a built-in type, by its number (`pg_type.dat`).
    fn of(base: u32) -> Self {
        match base {
            // bool, "char", name, int8, int2, int4, oid, float4, float8, date, time, timestamp, timestamptz, interval, timetz,
            // numeric, uuid, inet, cidr, macaddr
            16
            | 18..=21
            | 23
            | 26
            | 650
            | 700
            | 701
            | 829
            | 869
            | 1082
            | 1083
            | 1114
            | 1184
            | 1186
            | 1266
            | 1700
            | 2950 => Self::Value,
            // bytea, text, bpchar, varchar
            17 | 25 | 1042 | 1043 => Self::Short,
            _ => Self::Nothing,
        }
    }
}

/// A target table, its columns in the order of the source's tuples.
#[derive(Debug, Clone)]
pub struct TargetTable {
    /// Its id on the target.
    pub oid: u32,
    /// Its name.
    pub name: TableName,
    /// `ONLY `, or empty for a partitioned table.
    pub only: &'static str,
    /// Columns in source order.
    pub columns: Vec<TargetColumn>,
    /// How rows are found.
    pub key: Key,
    /// Triggers that fire for this session see every single change, in commit order.
    pub fires_triggers: bool,
}

struct CatalogColumn {
    name: String,
    type_oid: u32,
    type_sql: String,
    typmod: i32,
    base_oid: u32,
    base: TypeName,
    array_oid: u32,
    is_array: bool,
    identity_always: bool,
    generated: bool,
    needs_value: bool,
    equals: String,
}

impl TargetTable {
    /// Reads the table from the target's catalogs and compares it with the source's.
    ///
    /// `replica_role`: whether the session runs under `session_replication_role = replica`.
    ///
    /// # Errors
    /// [`Error::Shape`] with every difference; [`Error::Triggers`] when something would fire that may not be disabled; `Ok(None)` when the
    /// table is not there.
    pub async fn load(client: &Client, source: &SourceRelation, replica_role: bool) -> Result<Option<Self>, Error> {
        let name = &source.table;
        let failed = || client.failed("reading the catalogs of the target");
        let Some(row) = client
            .query_opt(
                "SELECT c.oid, c.relkind::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                  WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')",
                &[&name.schema, &name.name],
            )
            .await
            .map_err(failed())?
        else {
            return Ok(None);
        };
        let oid: u32 = row.get(0);
        let partitioned = row.get::<_, &str>(1) == "p";
        let catalog = catalog_columns(client, oid).await?;
        let columns = match match_columns(source, &catalog) {
            Ok(columns) => columns,
            Err(differences) => return Err(shape(client, name, differences).await?),
        };
        let key = match source.identity {
            ReplicaIdentity::Default | ReplicaIdentity::Index => {
                let key: Vec<usize> =
                    source.columns.iter().enumerate().filter(|(_, column)| column.key).map(|(i, _)| i).collect();
                if key.is_empty() { Key::Absent } else { Key::Columns(key) }
            }
            ReplicaIdentity::Nothing => Key::Absent,
            ReplicaIdentity::Full => match unique_key(client, oid, source).await? {
                Some(key) => Key::Columns(key),
                None => Key::WholeRow,
            },
        };
        let fires_triggers = firing(client, oid, replica_role).await?;
        let only = if partitioned { "" } else { "ONLY " };
        Ok(Some(Self { oid, name: name.clone(), only, columns, key, fires_triggers }))
    }
}

async fn catalog_columns(client: &Client, oid: u32) -> Result<Vec<CatalogColumn>, Error> {
    let rows = client
        .query(
            "SELECT a.attname::text, a.atttypid, format_type(a.atttypid, -1), a.atttypmod,
                    base.oid, bn.nspname::text, base.typname::text, t.typarray, base.typcategory = 'A',
                    a.attidentity = 'a', a.attgenerated <> '',
                    a.attnotnull AND NOT a.atthasdef AND a.attidentity = '',
                    (SELECT format('OPERATOR(%I.%s)', o_n.nspname, o.oprname)
                       FROM pg_opclass c
                       JOIN pg_am m ON m.oid = c.opcmethod AND m.amname = 'btree'
                       JOIN pg_amop p ON p.amopfamily = c.opcfamily AND p.amopstrategy = 3
                                     AND p.amoplefttype = base.oid AND p.amoprighttype = base.oid
                       JOIN pg_operator o ON o.oid = p.amopopr
                       JOIN pg_namespace o_n ON o_n.oid = o.oprnamespace
                      WHERE c.opcintype = base.oid AND c.opcdefault AND o_n.nspname <> 'pg_catalog')
               FROM pg_attribute a
               JOIN pg_type t ON t.oid = a.atttypid
               CROSS JOIN LATERAL (
                    WITH RECURSIVE chain(oid) AS (
                        SELECT t.oid
                        UNION ALL
                        SELECT d.typbasetype FROM chain JOIN pg_type d ON d.oid = chain.oid WHERE d.typtype = 'd')
                    SELECT p.* FROM chain JOIN pg_type p ON p.oid = chain.oid WHERE p.typtype <> 'd') AS base
               JOIN pg_namespace bn ON bn.oid = base.typnamespace
              WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
              ORDER BY a.attnum",
            &[&oid],
        )
        .await
        .map_err(client.failed("reading the columns of a target table"))?;
    Ok(rows
        .iter()
        .map(|row| CatalogColumn {
            name: row.get(0),
            type_oid: row.get(1),
            type_sql: row.get(2),
            typmod: row.get(3),
            base_oid: row.get(4),
            base: TypeName { schema: row.get(5), name: row.get(6) },
            array_oid: row.get(7),
            is_array: row.get(8),
            identity_always: row.get(9),
            generated: row.get(10),
            needs_value: row.get(11),
            equals: row.get::<_, Option<String>>(12).unwrap_or_else(|| "=".to_owned()),
        })
        .collect())
}

/// What differs in one column.
struct Difference<'a> {
    text: String,
    repair: Repair<'a>,
}

/// What brings the target's column to the source's.
enum Repair<'a> {
    Add(&'a SourceColumn),
    Retype(&'a SourceColumn),
    AllowNull(&'a str),
}

/// The target's columns in the source's order, or every difference between the two.
fn match_columns<'a>(
    source: &'a SourceRelation,
    catalog: &'a [CatalogColumn],
) -> Result<Vec<TargetColumn>, Vec<Difference<'a>>> {
    let mut differences = Vec::new();
    let mut columns = Vec::with_capacity(source.columns.len());
    for column in &source.columns {
        let Some(found) = catalog.iter().find(|c| c.name == column.name) else {
            let text = format!("column {} is missing", quote_ident(&column.name));
            differences.push(Difference { text, repair: Repair::Add(column) });
            continue;
        };
        if let Some(text) = type_difference(column, found) {
            differences.push(Difference { text, repair: Repair::Retype(column) });
        }
        columns.push(TargetColumn {
            ident: quote_ident(&found.name),
            type_sql: found.type_sql.clone(),
            type_oid: found.type_oid,
            array_oid: (found.array_oid != 0).then_some(found.array_oid),
            is_array: found.is_array,
            identity_always: found.identity_always,
            generated: found.generated,
            equals: found.equals.clone(),
            lookup: Lookup::of(found.base_oid),
        });
    }
    for extra in catalog.iter().filter(|c| c.needs_value && !source.columns.iter().any(|s| s.name == c.name)) {
        let text = format!("column {} is NOT NULL without default and not on the source", quote_ident(&extra.name));
        differences.push(Difference { text, repair: Repair::AllowNull(&extra.name) });
    }
    if differences.is_empty() { Ok(columns) } else { Err(differences) }
}

/// The error that names the differences, and the statements that end them.
async fn shape(client: &Client, table: &TableName, differences: Vec<Difference<'_>>) -> Result<Error, Error> {
    let mut repair = Vec::new();
    for difference in &differences {
        let action = match difference.repair {
            Repair::Add(column) => {
                format!("ADD COLUMN {} {}", quote_ident(&column.name), source_type(client, column).await?)
            }
            Repair::Retype(column) => {
                format!("ALTER COLUMN {} TYPE {}", quote_ident(&column.name), source_type(client, column).await?)
            }
            Repair::AllowNull(name) => format!("ALTER COLUMN {} DROP NOT NULL", quote_ident(name)),
        };
        repair.push(format!("ALTER TABLE {table} {action};"));
    }
    let differences = differences.into_iter().map(|difference| difference.text).collect();
    Ok(Error::Shape { table: table.clone(), differences, repair })
}

/// The type of a source's column, as SQL.
async fn source_type(client: &Client, column: &SourceColumn) -> Result<String, Error> {
    if let Some(name) = &column.type_name {
        return Ok(TableName::new(&name.schema, &name.name).to_string());
    }
    let row = client.query_one("SELECT format_type($1::oid, $2)", &[&column.type_oid, &column.typmod]).await;
    Ok(row.map_err(client.failed("naming a type"))?.get(0))
}

fn type_difference(source: &SourceColumn, target: &CatalogColumn) -> Option<String> {
    let same_type = match &source.type_name {
        Some(name) => *name == target.base,
        None if source.type_oid < FIRST_USER_TYPE => {
            source.type_oid == target.type_oid || source.type_oid == target.base_oid
        }
        None => source.type_oid == target.type_oid,
    };
    let column = quote_ident(&source.name);
    if !same_type {
        let wanted = source
            .type_name
            .as_ref()
            .map_or(format!("type id {}", source.type_oid), |t| format!("{}.{}", t.schema, t.name));
        return Some(format!("column {column} is {} instead of {wanted}", target.type_sql));
    }
    // A narrower modifier could round or cut values without an error.
    (target.typmod != -1 && target.typmod != source.typmod)
        .then(|| format!("column {column} has another length or precision ({})", target.type_sql))
}

/// The best key of the target whose columns all come from the source: primary key first, then the narrowest.
async fn unique_key(client: &Client, oid: u32, source: &SourceRelation) -> Result<Option<Vec<usize>>, Error> {
    let rows = client
        .query(
            "SELECT array_agg(a.attname::text ORDER BY k.ord)
               FROM pg_index i
              CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, ord)
               JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
              WHERE i.indrelid = $1 AND i.indisunique AND i.indimmediate AND i.indisvalid
                AND i.indpred IS NULL AND i.indexprs IS NULL AND k.ord <= i.indnkeyatts
              GROUP BY i.indexrelid, i.indisprimary, i.indnkeyatts
             HAVING bool_and(a.attnotnull)
              ORDER BY i.indisprimary DESC, i.indnkeyatts",
            &[&oid],
        )
        .await
        .map_err(client.failed("reading the keys of a target table"))?;
    Ok(rows.iter().find_map(|row| {
        let names: Vec<String> = row.get(0);
        names.iter().map(|name| source.columns.iter().position(|c| c.name == *name)).collect()
    }))
}

/// What could act on rows that are written to the table: on the table, on its partitions, and by ordinary triggers also
/// on tables that its rows cascade to.
const FIRING: &str = "
    WITH RECURSIVE written(oid) AS (
        SELECT $1::oid UNION SELECT relid::oid FROM pg_partition_tree($1::oid::regclass)),
    reached(oid) AS (
        SELECT oid FROM written
        UNION
        SELECT f.conrelid FROM reached JOIN pg_constraint f ON f.contype = 'f' AND f.confrelid = reached.oid
         WHERE f.confdeltype IN ('c', 'n', 'd') OR f.confupdtype IN ('c', 'n', 'd'))
    SELECT n.nspname::text, c.relname::text, t.tgname::text, false AS rule, t.tgenabled = 'O' AS ordinary,
           pg_has_role(c.relowner, 'USAGE') AS owned
      FROM reached JOIN pg_trigger t ON t.tgrelid = reached.oid
      JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE NOT t.tgisinternal AND t.tgenabled = ANY ($2)
       AND (t.tgenabled = 'O' OR t.tgrelid IN (SELECT oid FROM written))
    UNION ALL
    SELECT n.nspname, c.relname, r.rulename, true, r.ev_enabled = 'O', false
      FROM written JOIN pg_rewrite r ON r.ev_class = written.oid
      JOIN pg_class c ON c.oid = r.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE r.ev_type <> '1' AND r.ev_enabled = ANY ($2)
     ORDER BY 1, 2, 3";

/// Whether triggers fire that were asked for replicated rows. Ordinary ones rest: under the replica role by themselves;
/// otherwise they are disabled here, and it is an error when the role may not.
async fn firing(client: &Client, oid: u32, replica_role: bool) -> Result<bool, Error> {
    let enabled = if replica_role { vec![b'A' as i8, b'R' as i8] } else { vec![b'A' as i8, b'O' as i8] };
    let rows = client
        .query(FIRING, &[&oid, &enabled])
        .await
        .map_err(client.failed("reading the triggers of a target table"))?;
    let (mut asked_for, mut ordinary, mut unwanted) = (false, Vec::new(), Vec::new());
    for row in &rows {
        let table = TableName::new(row.get::<_, String>(0), row.get::<_, String>(1));
        let name: String = row.get(2);
        match (row.get(3), row.get(4), row.get(5)) {
            (_, false, _) => asked_for = true,
            (true, true, _) => unwanted.push(format!("rule {} on {table}", quote_ident(&name))),
            (false, true, true) => ordinary.push(Trigger { table, name }),
            (false, true, false) => {
                let trigger = Trigger { table, name };
                let (table, ident) = (&trigger.table, quote_ident(&trigger.name));
                unwanted.push(format!("trigger {ident} on {table} (its owner: {})", trigger.disabling()));
            }
        }
    }
    if !unwanted.is_empty() {
        return Err(Error::Triggers { objects: unwanted });
    }
    if !ordinary.is_empty() {
        triggers::disable(client, &ordinary).await?;
    }
    Ok(asked_for)
}
