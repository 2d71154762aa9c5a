//! The tables of the source: which there are, what their columns are, how their rows may travel.
//!
//! Everything is read under the exported snapshot, after the tables were locked, so that what is planned is
//! what the workers will see.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pgstream_config::pattern::TableFilter;
use pgstream_postgres::{Client, Error, TableName, quote_ident};

/// OIDs below this one are the same on every server of a major version (`FirstGenbkiObjectId`).
const FIRST_UNSTABLE_OID: u32 = 10_000;

/// A table whose rows are copied as one unit.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) oid: u32,
    pub(crate) name: TableName,
    pub(crate) kind: Kind,
    /// Heap and TOAST, bytes.
    pub(crate) bytes: u64,
    /// Pages of the heap.
    pub(crate) pages: u64,
    pub(crate) columns: Vec<Column>,
    /// Only rows that satisfy this SQL condition are copied.
    pub(crate) condition: Option<String>,
    /// Rows may be on the target from `CREATE EXTENSION`.
    pub(crate) extension_config: bool,
}

/// How rows are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// In the table itself.
    Plain,
    /// In its partitions; copied as a whole because it is published as a whole.
    Root,
}

/// A column that is copied (generated ones are not).
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// As `format_type` writes it.
    pub(crate) data_type: String,
    pub(crate) binary: Binary,
}

/// When a column may travel in binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Binary {
    /// Has no binary functions, or holds OIDs of the source's catalogs.
    pub(crate) never: bool,
    /// Its values carry OIDs of user-defined types, which servers before 14 compare.
    pub(crate) carries_oids: bool,
    /// The format belongs to an extension, which may differ between major versions.
    pub(crate) foreign_format: bool,
}

impl Binary {
    #[cfg(test)]
    const fn always() -> Self {
        Self { never: false, carries_oids: false, foreign_format: false }
    }
}

/// Tables that take part, those that do not, and why.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub(crate) copied: Vec<Table>,
    /// Tables whose schema is wanted (copied or not).
    pub(crate) schema: BTreeSet<u32>,
    /// All tables of the source that have an entry in a dump.
    pub(crate) all: BTreeMap<u32, TableName>,
    /// Wanted, but their rows cannot be followed.
    pub(crate) not_followed: Vec<TableName>,
}

/// What the publication says about one table.
struct Published {
    columns: Option<Vec<String>>,
    condition: Option<String>,
}

struct Relation {
    oid: u32,
    name: TableName,
    kind: String,
    pages: u64,
    bytes: u64,
    ancestors: Vec<u32>,
    extension: bool,
    config: Option<String>,
}

/// Reads what is there and decides what is copied.
pub(crate) async fn tables(
    source: &Client,
    major: u32,
    filter: &TableFilter,
    publication: Option<&str>,
) -> Result<Tables, Error> {
    let relations = relations(source).await?;
    let published = match publication {
        Some(name) => Some(published(source, major, name).await?),
        None => None,
    };
    let names: HashMap<u32, TableName> = relations.iter().map(|r| (r.oid, r.name.clone())).collect();
    let mut found = Tables::default();
    for relation in relations {
        let chain: Vec<&TableName> =
            std::iter::once(&relation.name).chain(relation.ancestors.iter().filter_map(|oid| names.get(oid))).collect();
        let (schema, rows) = wanted(filter, &chain);
        if !relation.extension {
            found.all.insert(relation.oid, relation.name.clone());
            if schema {
                found.schema.insert(relation.oid);
            }
        }
        if !rows || (relation.extension && relation.config.is_none()) {
            continue;
        }
        let publication = match &published {
            None if relation.kind == "r" => None,
            None => continue,
            Some(published) => match published.get(&relation.name) {
                Some(entry) => Some(entry),
                None => {
                    let as_part_of_root = chain.iter().skip(1).any(|name| published.contains_key(*name));
                    // A partitioned table has no rows of its own: nothing of it is missing when its leaves are there.
                    if relation.kind == "r" && !as_part_of_root && !relation.extension {
                        found.not_followed.push(relation.name);
                    }
                    continue;
                }
            },
        };
        found.copied.push(Table {
            oid: relation.oid,
            name: relation.name,
            kind: if relation.kind == "p" { Kind::Root } else { Kind::Plain },
            bytes: relation.bytes,
            pages: relation.pages,
            columns: Vec::new(),
            condition: condition(relation.config.as_deref(), publication.and_then(|p| p.condition.as_deref())),
            extension_config: relation.extension,
        });
    }
    columns(source, major, &mut found.copied, published.as_ref()).await?;
    found.copied.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
    Ok(found)
}

/// Which rows are copied: those that an extension calls the user's, and of these what the publication lets through.
pub(crate) fn condition(config: Option<&str>, publication: Option<&str>) -> Option<String> {
    let both = [config.map(str::trim).and_then(strip_where), publication];
    let conditions: Vec<String> = both.into_iter().flatten().map(|sql| format!("({sql})")).collect();
    (!conditions.is_empty()).then(|| conditions.join(" AND "))
}

/// Whether the rows of a table are wanted; `chain` as for [`wanted`].
pub(crate) fn has_rows_wanted(filter: &TableFilter, chain: &[&TableName]) -> bool {
    wanted(filter, chain).1
}

/// Whether the schema and the rows of a table are wanted; `chain` is the table and the partitioned tables above it.
/// A pattern that names a partitioned table means its partitions too.
fn wanted(filter: &TableFilter, chain: &[&TableName]) -> (bool, bool) {
    let hit = |list: &[pgstream_config::pattern::TablePattern]| {
        list.iter().any(|pattern| chain.iter().any(|name| pattern.matches(&name.schema, &name.name)))
    };
    if hit(&filter.exclude) {
        return (false, false);
    }
    let included = filter.include.is_empty() || hit(&filter.include);
    let explicit = filter.include.iter().any(|pattern| {
        pattern.schema.is_some()
            && pattern.table.is_some()
            && chain.iter().any(|name| pattern.matches(&name.schema, &name.name))
    });
    let schema_only = hit(&filter.schema_only);
    (included || schema_only, included && (explicit || !schema_only))
}

/// `extcondition` is a whole WHERE clause.
fn strip_where(clause: &str) -> Option<&str> {
    let rest = clause.get(..5).filter(|word| word.eq_ignore_ascii_case("where")).and(clause.get(5..))?;
    (!rest.trim().is_empty()).then(|| rest.trim())
}

const RELATIONS: &str = "
    SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text,
           CASE c.relkind WHEN 'p' THEN 0 ELSE coalesce(pg_relation_size(c.oid), 0)
                / current_setting('block_size')::int8 END AS pages,
           CASE c.relkind
               WHEN 'p' THEN (SELECT coalesce(sum(pg_table_size(t.relid)), 0)::int8
                              FROM pg_partition_tree(c.oid) t WHERE t.isleaf)
               WHEN 'r' THEN coalesce(pg_table_size(c.oid), 0)
               ELSE 0 END AS bytes,
           CASE WHEN c.relispartition
               THEN ARRAY(SELECT relid::oid FROM pg_partition_ancestors(c.oid) WHERE relid <> c.oid)
               ELSE '{}' END AS ancestors,
           x.oid IS NOT NULL AS extension,
           CASE WHEN c.oid = ANY (x.extconfig)
               THEN coalesce(x.extcondition[array_position(x.extconfig, c.oid)], '') END AS config
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0
                         AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
    LEFT JOIN pg_extension x ON x.oid = d.refobjid
    WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't'
      AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND n.nspname <> 'pgstream'
    ORDER BY c.oid";

async fn relations(source: &Client) -> Result<Vec<Relation>, Error> {
    let rows = source.query(RELATIONS, &[]).await.map_err(source.failed("listing tables"))?;
    Ok(rows
        .iter()
        .map(|row| Relation {
            oid: row.get(0),
            name: TableName::new(row.get::<_, String>(1), row.get::<_, String>(2)),
            kind: row.get(3),
            pages: row.get::<_, i64>(4).unsigned_abs(),
            bytes: row.get::<_, i64>(5).unsigned_abs(),
            ancestors: row.get(6),
            extension: row.get(7),
            config: row.get(8),
        })
        .collect())
}

async fn published(source: &Client, major: u32, name: &str) -> Result<HashMap<TableName, Published>, Error> {
    let lists = if major >= 15 { "attnames::text[], rowfilter" } else { "NULL::text[], NULL::text" };
    let sql =
        format!("SELECT schemaname::text, tablename::text, {lists} FROM pg_publication_tables WHERE pubname = $1");
    let rows = source.query(&sql, &[&name]).await.map_err(source.failed("reading the publication"))?;
    Ok(rows
        .iter()
        .map(|row| {
            let table = TableName::new(row.get::<_, String>(0), row.get::<_, String>(1));
            (table, Published { columns: row.get(2), condition: row.get(3) })
        })
        .collect())
}

/// One row per column; the type is followed into its elements, fields, base and subtype. `tsquery` never travels in binary:
/// no server takes the empty one that it sends.
fn columns_sql(major: u32) -> String {
    let multirange = if major >= 14 { "OR r.rngmultitypid = t.oid" } else { "" };
    format!(
        "WITH RECURSIVE cols AS (
             SELECT a.attrelid, a.attnum, a.attname::text AS name, a.atttypid AS typ,
                    format_type(a.atttypid, a.atttypmod) AS shown
             FROM pg_attribute a
             WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
         ), used (root, typ) AS (
             SELECT DISTINCT typ, typ FROM cols
             UNION
             SELECT u.root, child.typ
             FROM used u JOIN pg_type t ON t.oid = u.typ, LATERAL (
                 SELECT t.typelem WHERE t.typelem <> 0 AND t.typcategory = 'A'
                 UNION ALL SELECT t.typbasetype WHERE t.typtype = 'd'
                 UNION ALL SELECT r.rngsubtype FROM pg_range r WHERE r.rngtypid = t.oid {multirange}
                 UNION ALL SELECT f.atttypid FROM pg_attribute f
                           WHERE t.typtype = 'c' AND f.attrelid = t.typrelid AND f.attnum > 0 AND NOT f.attisdropped
             ) AS child (typ)
         ), verdict AS (
             SELECT u.root,
                    bool_or(t.typsend = 0 OR t.typreceive = 0
                            OR t.typtype = 'p'
                            OR ((t.typname LIKE 'reg%' OR t.typname = 'tsquery')
                                AND t.oid < {FIRST_UNSTABLE_OID})) AS never,
                    bool_or(
                        (t.typcategory = 'A' AND t.typelem >= {FIRST_UNSTABLE_OID})
                        OR (t.typtype = 'c' AND EXISTS (
                            SELECT FROM pg_attribute f WHERE f.attrelid = t.typrelid AND f.attnum > 0
                                AND NOT f.attisdropped AND f.atttypid >= {FIRST_UNSTABLE_OID}))) AS carries,
                    bool_or(t.typtype = 'b' AND t.typcategory <> 'A' AND t.oid >= {FIRST_UNSTABLE_OID}) AS foreign_format
             FROM used u JOIN pg_type t ON t.oid = u.typ GROUP BY u.root
         )
         SELECT c.attrelid, c.name, c.shown, v.never, v.carries, v.foreign_format
         FROM cols c JOIN verdict v ON v.root = c.typ
         ORDER BY c.attrelid, c.attnum"
    )
}

async fn columns(
    source: &Client,
    major: u32,
    tables: &mut [Table],
    published: Option<&HashMap<TableName, Published>>,
) -> Result<(), Error> {
    let oids: Vec<u32> = tables.iter().map(|t| t.oid).collect();
    let rows = source.query(&columns_sql(major), &[&oids]).await.map_err(source.failed("reading columns"))?;
    let mut by_table: HashMap<u32, Vec<Column>> = HashMap::with_capacity(tables.len());
    for row in &rows {
        let binary = Binary { never: row.get(3), carries_oids: row.get(4), foreign_format: row.get(5) };
        by_table.entry(row.get(0)).or_default().push(Column { name: row.get(1), data_type: row.get(2), binary });
    }
    for table in tables {
        table.columns = by_table.remove(&table.oid).unwrap_or_default();
        if let Some(list) = published.and_then(|p| p.get(&table.name)).and_then(|p| p.columns.as_ref()) {
            table.columns.retain(|column| list.contains(&column.name));
        }
    }
    Ok(())
}

/// The two servers, as far as binary values are concerned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Majors {
    pub(crate) source: u32,
    pub(crate) target: u32,
}

/// How rows of a table travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Binary,
    Text,
}

impl Format {
    pub(crate) fn keyword(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::Text => "text",
        }
    }
}

impl Table {
    /// Binary where every value means the same on both sides. `target_types`: as `format_type` writes them there.
    pub(crate) fn format(&self, majors: Majors, target_types: &HashMap<String, String>) -> Format {
        let safe = |column: &Column| {
            let Binary { never, carries_oids, foreign_format } = column.binary;
            !never
                && (!carries_oids || majors.target >= 14)
                && (!foreign_format || majors.source == majors.target)
                && target_types.get(&column.name).is_some_and(|there| *there == column.data_type)
        };
        // Without columns a binary row is empty, too; text is the form that every version accepts.
        if !self.columns.is_empty() && self.columns.iter().all(safe) { Format::Binary } else { Format::Text }
    }

    /// `("a", "b")`, or nothing for a table without columns.
    pub(crate) fn column_list(&self) -> String {
        if self.columns.is_empty() { String::new() } else { format!(" ({})", self.columns_joined()) }
    }

    /// `"a", "b"`.
    pub(crate) fn columns_joined(&self) -> String {
        self.columns.iter().map(|c| quote_ident(&c.name)).collect::<Vec<_>>().join(", ")
    }

    /// `ONLY "s"."t"`, or `"s"."t"` where the rows are in partitions.
    pub(crate) fn only(&self) -> String {
        match self.kind {
            Kind::Plain => format!("ONLY {}", self.name),
            Kind::Root => self.name.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use pgstream_config::pattern::TablePattern;

    use super::*;

    fn pattern(schema: &str, table: &str) -> TablePattern {
        let part = |text: &str| (text != "*").then(|| text.to_owned());
        TablePattern { schema: part(schema), table: part(table) }
    }

    #[test]
    fn a_pattern_for_a_partitioned_table_means_its_partitions() {
        let root = TableName::new("public", "orders");
        let leaf = TableName::new("parts", "orders_1");
        let chain = [&leaf, &root];
        let include = |p| TableFilter { include: vec![p], ..TableFilter::default() };
        assert_eq!(wanted(&TableFilter::default(), &chain), (true, true));
        assert_eq!(wanted(&include(pattern("public", "orders")), &chain), (true, true));
        assert_eq!(wanted(&include(pattern("public", "other")), &chain), (false, false));
        let mut filter = TableFilter { exclude: vec![pattern("public", "orders")], ..TableFilter::default() };
        assert_eq!(wanted(&filter, &chain), (false, false));
        filter = TableFilter { schema_only: vec![pattern("public", "*")], ..TableFilter::default() };
        assert_eq!(wanted(&filter, &chain), (true, false));
        filter.include = vec![pattern("public", "orders")];
        assert_eq!(wanted(&filter, &chain), (true, true));
    }

    #[test]
    fn binary_needs_equal_types_and_formats_that_both_sides_share() {
        let column = |binary| Column { name: "a".into(), data_type: "integer".into(), binary };
        let table = |binary| Table {
            oid: 1,
            name: TableName::new("public", "t"),
            kind: Kind::Plain,
            bytes: 0,
            pages: 0,
            columns: vec![column(binary)],
            condition: None,
            extension_config: false,
        };
        let same = HashMap::from([("a".to_owned(), "integer".to_owned())]);
        let other = HashMap::from([("a".to_owned(), "bigint".to_owned())]);
        let majors = |source, target| Majors { source, target };
        let plain = table(Binary::always());
        assert_eq!(plain.format(majors(13, 18), &same), Format::Binary);
        assert_eq!(plain.format(majors(18, 18), &other), Format::Text);
        let enums = table(Binary { carries_oids: true, ..Binary::always() });
        assert_eq!(enums.format(majors(15, 13), &same), Format::Text);
        assert_eq!(enums.format(majors(13, 14), &same), Format::Binary);
        let hstore = table(Binary { foreign_format: true, ..Binary::always() });
        assert_eq!(hstore.format(majors(15, 18), &same), Format::Text);
        assert_eq!(hstore.format(majors(15, 15), &same), Format::Binary);
    }

    #[test]
    fn an_extension_condition_loses_its_keyword() {
        assert_eq!(strip_where("WHERE id > 5"), Some("id > 5"));
        assert_eq!(strip_where("where  x"), Some("x"));
        assert_eq!(strip_where(""), None);
    }
}
