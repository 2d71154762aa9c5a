//! The tables of the source as far as publishing them is concerned.

use std::collections::{HashMap, HashSet};

use pgstream_config::pattern::{TableFilter, TablePattern};
use pgstream_postgres::TableName;
use tokio_postgres::GenericClient;

use super::SCHEMA;

/// `pg_class.relreplident`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Identity {
    Default,
    Nothing,
    Full,
    Index,
}

impl Identity {
    pub(crate) fn from_catalog(relreplident: i8) -> Self {
        match relreplident.unsigned_abs() {
            b'n' => Self::Nothing,
            b'f' => Self::Full,
            b'i' => Self::Index,
            _ => Self::Default,
        }
    }
}

/// A table that a publication can have as a member.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) oid: u32,
    pub(crate) name: TableName,
    pub(crate) partitioned: bool,
    pub(crate) unlogged: bool,
    /// The partitioned tables above it, nearest first.
    pub(crate) ancestors: Vec<u32>,
    pub(crate) owner: String,
    /// Whether this role has the rights of the owner.
    pub(crate) owned: bool,
    pub(crate) identity: Identity,
    /// The index of [`Identity::Index`], unless it was dropped.
    pub(crate) identity_index: Option<String>,
    /// Whether the server lets UPDATE and DELETE through once the table is published.
    pub(crate) identifiable: bool,
    /// Whether it has a primary key that can be an identity; partitions that are yet to come get theirs from it.
    pub(crate) has_key: bool,
    /// Belongs to an extension and holds none of the user's rows.
    pub(crate) extension_internal: bool,
}

/// All publishable tables of the database but our own.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    all: Vec<Table>,
    by_oid: HashMap<u32, usize>,
}

/// What the server itself tests (`is_publishable_class`, `RelationGetReplicaIndex`): an identity index must be valid
/// and immediate, and `USING INDEX` survives the index it names.
const QUERY: &str = "
    SELECT c.oid, n.nspname::text, c.relname::text, c.relkind = 'p', c.relpersistence = 'u',
           CASE WHEN c.relispartition
               THEN ARRAY(SELECT a.relid::oid FROM pg_partition_ancestors(c.oid) WITH ORDINALITY a (relid, depth)
                          WHERE a.relid <> c.oid ORDER BY a.depth)
               ELSE '{}' END,
           pg_get_userbyid(c.relowner)::text, pg_has_role(c.relowner, 'USAGE'), c.relreplident, ri.index_name,
           CASE c.relreplident
               WHEN 'f' THEN true
               WHEN 'd' THEN pk.present
               WHEN 'i' THEN coalesce(ri.usable, false)
               ELSE false END,
           pk.present,
           x.oid IS NOT NULL AND NOT coalesce(c.oid = ANY (x.extconfig), false)
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    CROSS JOIN LATERAL (
        SELECT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary
                       AND i.indimmediate AND i.indisvalid AND i.indislive) AS present) pk
    LEFT JOIN LATERAL (
        SELECT ic.relname::text AS index_name, i.indimmediate AND i.indisvalid AND i.indislive AS usable
        FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid
        WHERE i.indrelid = c.oid AND i.indisreplident) ri ON true
    LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0
                         AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
    LEFT JOIN pg_extension x ON x.oid = d.refobjid
    WHERE c.relkind IN ('r', 'p') AND c.relpersistence IN ('p', 'u') AND c.oid >= 16384 AND n.nspname <> $1
    ORDER BY n.nspname, c.relname";

pub(crate) async fn read(client: &impl GenericClient) -> Result<Tables, tokio_postgres::Error> {
    let rows = client.query(QUERY, &[&SCHEMA]).await?;
    Ok(Tables::new(
        rows.iter()
            .map(|row| Table {
                oid: row.get(0),
                name: TableName::new(row.get::<_, String>(1), row.get::<_, String>(2)),
                partitioned: row.get(3),
                unlogged: row.get(4),
                ancestors: row.get(5),
                owner: row.get(6),
                owned: row.get(7),
                identity: Identity::from_catalog(row.get(8)),
                identity_index: row.get(9),
                identifiable: row.get(10),
                has_key: row.get(11),
                extension_internal: row.get(12),
            })
            .collect(),
    ))
}

impl Table {
    /// Whether rows are stored in it and its changes reach the WAL.
    fn is_logged_leaf(&self) -> bool {
        !self.partitioned && !self.unlogged
    }

    /// Whether publishing it as it is would make UPDATE and DELETE fail.
    pub(crate) fn lacks_identity(&self) -> bool {
        self.is_logged_leaf() && !self.identifiable
    }
}

impl Tables {
    fn new(all: Vec<Table>) -> Self {
        let by_oid = all.iter().enumerate().map(|(index, table)| (table.oid, index)).collect();
        Self { all, by_oid }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Table> {
        self.all.iter()
    }

    pub(crate) fn get(&self, oid: u32) -> Option<&Table> {
        self.by_oid.get(&oid).map(|index| &self.all[*index])
    }

    /// The table and the partitioned tables above it. A pattern that names a partitioned table means its partitions.
    fn chain<'a>(&'a self, table: &'a Table) -> impl Iterator<Item = &'a TableName> + Clone {
        std::iter::once(&table.name).chain(table.ancestors.iter().filter_map(|oid| self.get(*oid)).map(|t| &t.name))
    }

    /// Whether the rows of the table are followed.
    pub(crate) fn wants_rows(&self, table: &Table, filter: &TableFilter) -> bool {
        let hit = |list: &[TablePattern], explicit: bool| {
            list.iter()
                .filter(|pattern| !explicit || (pattern.schema.is_some() && pattern.table.is_some()))
                .any(|pattern| self.chain(table).any(|name| pattern.matches(&name.schema, &name.name)))
        };
        !table.extension_internal
            && !hit(&filter.exclude, false)
            && (filter.include.is_empty() || hit(&filter.include, false))
            && (hit(&filter.include, true) || !hit(&filter.schema_only, false))
    }

    /// What a publication by list must name so that exactly the wanted tables are followed: a partitioned table as a
    /// whole (partitions that come later are then followed, too) unless some of its partitions are not wanted.
    pub(crate) fn members(&self, filter: &TableFilter) -> Vec<&Table> {
        let unwanted_leaves = self.all.iter().filter(|t| t.is_logged_leaf() && !self.wants_rows(t, filter));
        let incomplete: HashSet<u32> = unwanted_leaves.flat_map(|t| t.ancestors.iter().copied()).collect();
        let whole = |table: &Table| !incomplete.contains(&table.oid) && self.wants_rows(table, filter);
        self.all
            .iter()
            .filter(|table| !table.unlogged && whole(table))
            .filter(|table| !table.ancestors.iter().filter_map(|oid| self.get(*oid)).any(whole))
            .collect()
    }

    /// The tables whose changes a publication with these members publishes.
    pub(crate) fn published_by<'a, 'm>(
        &'a self,
        members: &'m HashSet<u32>,
    ) -> impl Iterator<Item = &'a Table> + use<'a, 'm> {
        self.all.iter().filter(|table| {
            table.is_logged_leaf()
                && (members.contains(&table.oid) || table.ancestors.iter().any(|oid| members.contains(oid)))
        })
    }

    /// The tables whose changes `FOR ALL TABLES` publishes.
    pub(crate) fn published_by_all(&self) -> impl Iterator<Item = &Table> {
        self.all.iter().filter(|table| table.is_logged_leaf())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(oid: u32, name: &str, partitioned: bool, ancestors: &[u32]) -> Table {
        Table {
            oid,
            name: TableName::new("public", name),
            partitioned,
            unlogged: false,
            ancestors: ancestors.to_vec(),
            owner: "app".to_owned(),
            owned: true,
            identity: Identity::Default,
            identity_index: None,
            identifiable: true,
            has_key: true,
            extension_internal: false,
        }
    }

    fn pattern(schema: &str, table: &str) -> TablePattern {
        let part = |text: &str| (text != "*").then(|| text.to_owned());
        TablePattern { schema: part(schema), table: part(table) }
    }

    fn sample() -> Tables {
        Tables::new(vec![
            table(1, "plain", false, &[]),
            table(2, "root", true, &[]),
            table(3, "middle", true, &[2]),
            table(4, "leaf_a", false, &[3, 2]),
            table(5, "leaf_b", false, &[2]),
            Table { unlogged: true, ..table(6, "cache", false, &[]) },
            Table { extension_internal: true, ..table(7, "internal", false, &[]) },
        ])
    }

    fn members(filter: &TableFilter) -> Vec<u32> {
        sample().members(filter).iter().map(|table| table.oid).collect()
    }

    #[test]
    fn a_partitioned_table_is_one_member_unless_a_partition_is_left_out() {
        assert_eq!(members(&TableFilter::default()), [1, 2]);
        let without_b = TableFilter { exclude: vec![pattern("public", "leaf_b")], ..TableFilter::default() };
        assert_eq!(members(&without_b), [1, 3]);
        let without_root = TableFilter { exclude: vec![pattern("public", "root")], ..TableFilter::default() };
        assert_eq!(members(&without_root), [1]);
        let one_leaf = TableFilter { include: vec![pattern("public", "leaf_a")], ..TableFilter::default() };
        assert_eq!(members(&one_leaf), [4]);
        let schema_only = TableFilter { schema_only: vec![pattern("*", "plain")], ..TableFilter::default() };
        assert_eq!(members(&schema_only), [2]);
    }

    #[test]
    fn members_publish_their_leaves() {
        let tables = sample();
        let names = |members: &[u32]| {
            tables.published_by(&members.iter().copied().collect()).map(|t| t.oid).collect::<Vec<_>>()
        };
        assert_eq!(names(&[2]), [4, 5]);
        assert_eq!(names(&[3, 1]), [1, 4]);
        assert_eq!(tables.published_by_all().map(|t| t.oid).collect::<Vec<_>>(), [1, 4, 5, 7]);
    }
}
