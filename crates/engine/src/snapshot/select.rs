//! Which entries of the dump are restored, and when.
//!
//! ```text
//!  pre-data ─> [ rows of t ─> indexes, keys, checks, statistics of t ]  for every t, in parallel
//!           ─> index attachments ─> foreign keys ─> the rest ─> grants ─> event triggers
//! ```
//! An entry is left out when it is not wanted, or hangs on something that is left out.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use pgstream_config::pipeline::{ObjectType, ObjectTypes, SchemaCopy};
use pgstream_postgres::{Client, Error, TableName};

use super::{
    foreign_keys::{self, ForeignKey},
    ledger::Ledger,
    toc::{Entry, PG_CLASS, Toc},
};

/// Kinds that are never restored from the dump: rows, sequence values and statistics are copied by other means,
/// publications and subscriptions belong to their server.
const NEVER: &[&str] = &[
    "BLOB",
    "BLOB METADATA",
    "DATABASE",
    "DATABASE PROPERTIES",
    "ENCODING",
    "MATERIALIZED VIEW DATA",
    "PUBLICATION",
    "PUBLICATION TABLE",
    "PUBLICATION TABLES IN SCHEMA",
    "SEARCHPATH",
    "SEQUENCE SET",
    "STATISTICS DATA",
    "STDSTRINGS",
    "SUBSCRIPTION",
    "SUBSCRIPTION TABLE",
    "TABLE DATA",
];

/// What the source's catalogs say about entries.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// Index, constraint or statistics object -> its table.
    tables: HashMap<(u32, u32), u32>,
    /// Foreign keys by OID.
    foreign_keys: HashMap<u32, ForeignKey>,
    /// Sequence -> the table whose column owns it.
    sequence_owners: HashMap<u32, u32>,
    /// Triggers and event triggers whose function is in schema `pgstream`.
    ours: HashSet<(u32, u32)>,
    /// (catalog, oid) -> kind and identity as `pg_identify_object` writes them.
    identities: HashMap<(u32, u32), (String, String)>,
}

const RELATED: &str = "
    SELECT 'pg_class'::regclass::oid, indexrelid, indrelid, 'table' AS what FROM pg_index WHERE indexrelid >= 16384
    UNION ALL
    SELECT 'pg_constraint'::regclass::oid, oid, conrelid, 'table'
        FROM pg_constraint WHERE conrelid <> 0 AND contype <> 'f' AND oid >= 16384
    UNION ALL
    SELECT 'pg_statistic_ext'::regclass::oid, oid, stxrelid, 'table' FROM pg_statistic_ext
    UNION ALL
    SELECT 'pg_class'::regclass::oid, d.objid, d.refobjid, 'sequence'
        FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
        WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
    UNION ALL
    SELECT 'pg_event_trigger'::regclass::oid, t.oid, 0, 'ours'
        FROM pg_event_trigger t JOIN pg_proc p ON p.oid = t.evtfoid
        WHERE p.pronamespace = to_regnamespace('pgstream')
    UNION ALL
    SELECT 'pg_trigger'::regclass::oid, t.oid, 0, 'ours'
        FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
        WHERE p.pronamespace = to_regnamespace('pgstream')";

impl Facts {
    pub(crate) async fn read(source: &Client) -> Result<Self, super::Error> {
        let rows = source.query(RELATED, &[]).await.map_err(source.failed("reading what belongs to which table"))?;
        let mut facts = Self::default();
        for row in &rows {
            let (object, table): ((u32, u32), u32) = ((row.get(0), row.get(1)), row.get(2));
            match row.get(3) {
                "sequence" => drop(facts.sequence_owners.insert(object.1, table)),
                "ours" => drop(facts.ours.insert(object)),
                _ => drop(facts.tables.insert(object, table)),
            }
        }
        facts.foreign_keys = foreign_keys::read(source).await?;
        Ok(facts)
    }

    /// What the objects of the dump are called, for comparing with the target.
    pub(crate) async fn identify(&mut self, source: &Client, toc: &Toc) -> Result<(), Error> {
        let objects = toc.entries.iter().map(|e| e.object).filter(|(catalog, oid)| *catalog != 0 && *oid != 0);
        let (catalogs, oids): (Vec<u32>, Vec<u32>) = objects.unzip();
        let rows = source
            .query(
                "SELECT o.catalog, o.oid, i.type, i.identity
                 FROM unnest($1::oid[], $2::oid[]) AS o (catalog, oid), pg_identify_object(o.catalog, o.oid, 0) i
                 WHERE i.identity IS NOT NULL",
                &[&catalogs, &oids],
            )
            .await
            .map_err(source.failed("naming the objects of the dump"))?;
        self.identities = rows.iter().map(|row| ((row.get(0), row.get(1)), (row.get(2), row.get(3)))).collect();
        Ok(())
    }
}

/// Objects that are on the target already, by kind and identity.
pub(crate) async fn present(target: &Client) -> Result<HashSet<(String, String)>, Error> {
    let catalogs = [
        "pg_class",
        "pg_type",
        "pg_proc",
        "pg_namespace",
        "pg_constraint",
        "pg_trigger",
        "pg_rewrite",
        "pg_policy",
        "pg_attrdef",
        "pg_extension",
        "pg_collation",
        "pg_conversion",
        "pg_operator",
        "pg_opclass",
        "pg_opfamily",
        "pg_am",
        "pg_cast",
        "pg_language",
        "pg_transform",
        "pg_ts_config",
        "pg_ts_dict",
        "pg_ts_parser",
        "pg_ts_template",
        "pg_foreign_data_wrapper",
        "pg_foreign_server",
        "pg_event_trigger",
        "pg_statistic_ext",
    ];
    let parts = catalogs.map(|c| format!("SELECT '{c}'::regclass::oid AS catalog, oid FROM {c} WHERE oid >= 16384"));
    let sql = format!(
        "SELECT i.type, i.identity FROM ({}) AS o, pg_identify_object(o.catalog, o.oid, 0) i
         WHERE i.identity IS NOT NULL AND i.schema IS DISTINCT FROM 'pg_toast'",
        parts.join(" UNION ALL ")
    );
    let rows = target.query(&sql, &[]).await.map_err(target.failed("listing what is on the target"))?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// What the selection goes by.
pub(crate) struct Wish<'a> {
    pub(crate) settings: &'a SchemaCopy,
    /// Tables whose schema is wanted.
    pub(crate) tables: &'a BTreeSet<u32>,
    /// All tables of the source.
    pub(crate) all: &'a BTreeMap<u32, TableName>,
    pub(crate) ledger: &'a Ledger,
    pub(crate) present: &'a HashSet<(String, String)>,
}

/// Entries in the order of restoring, by stage; done ones are not among them.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    /// Schemas and the grants on them: new owners need CREATE before anything can be given to them.
    pub(crate) schemas: Vec<u32>,
    pub(crate) pre_data: Vec<u32>,
    /// Table OID -> keys and constraints, then indexes and statistics.
    pub(crate) tables: BTreeMap<u32, TableWork>,
    pub(crate) attach: Vec<u32>,
    /// By entry.
    pub(crate) foreign_keys: Vec<(u32, ForeignKey)>,
    pub(crate) rest: Vec<u32>,
    pub(crate) grants: Vec<u32>,
    pub(crate) event_triggers: Vec<u32>,
    /// Names of materialized views, in an order in which they can be refreshed.
    pub(crate) views: Vec<String>,
    /// Wanted, but hanging on something that is not: for people.
    pub(crate) left_out: Vec<String>,
    /// On the target before we came: for people.
    pub(crate) kept: Vec<String>,
    /// Extensions to be installed, by label.
    pub(crate) extensions: Vec<u32>,
}

impl Selection {
    /// What is restored in many small pieces.
    pub(crate) fn in_pieces(&self) -> impl Iterator<Item = u32> {
        let of_tables = self.tables.values().flat_map(|work| work.constraints.iter().chain(&work.indexes));
        of_tables.copied().chain(self.foreign_keys.iter().map(|(id, _)| *id))
    }
}

/// What follows the rows of one table.
#[derive(Debug, Default, Clone)]
pub(crate) struct TableWork {
    /// Need the table for themselves while they are added.
    pub(crate) constraints: Vec<u32>,
    /// Can be built side by side.
    pub(crate) indexes: Vec<u32>,
}

/// Sorts the entries of a dump. `pre_data`: ids of that section.
pub(crate) fn select(
    toc: &Toc,
    keys: &HashMap<u32, String>,
    pre_data: &HashSet<u32>,
    facts: &Facts,
    wish: &Wish<'_>,
) -> Selection {
    let is_done = |entry: &Entry| keys.get(&entry.id).is_some_and(|key| wish.ledger.has_step(key));
    let ours: HashSet<(u32, u32)> =
        toc.entries.iter().filter(|e| e.object.1 != 0 && is_done(e)).map(|e| e.object).collect();
    let is_present = |entry: &Entry| {
        !ours.contains(&entry.object)
            && facts.identities.get(&entry.object).is_some_and(|identity| {
                // `public` is on every server; what the source made of it is still wanted.
                wish.present.contains(identity) && (entry.kind != "SCHEMA" || identity.1 != "public")
            })
    };
    let unwanted = unwanted(toc, facts, wish);
    let mut left_out = unwanted.clone();
    // An extension or type that the filter excludes but the target has does not take its users with it.
    let roots: HashSet<u32> =
        toc.entries.iter().filter(|e| unwanted.contains(&e.id) && !is_present(e)).map(|e| e.id).collect();
    let mut hanging = roots;
    toc.cascade(&mut hanging, |_| false);
    left_out.extend(&hanging);

    let present: HashSet<u32> = toc.entries.iter().filter(|e| is_present(e)).map(|e| e.id).collect();
    let by_id: HashMap<u32, &Entry> = toc.entries.iter().map(|e| (e.id, e)).collect();
    // Grants, comments and attachments belong to what they depend on.
    let belongs_to_present = |entry: &Entry| {
        entry.object.0 == 0 && !entry.depends_on.is_empty() && entry.depends_on.iter().all(|id| present.contains(id))
    };
    let mut selection = Selection::default();
    for entry in &toc.entries {
        if left_out.contains(&entry.id) {
            if hanging.contains(&entry.id) && !unwanted.contains(&entry.id) && is_worth_saying(entry) {
                selection.left_out.push(format!("{} {}", entry.kind, entry.label));
            }
            continue;
        }
        if entry.kind == "MATERIALIZED VIEW"
            && let Some((_, name)) = facts.identities.get(&entry.object)
        {
            selection.views.push(name.clone());
        }
        if is_done(entry) {
            continue;
        }
        if present.contains(&entry.id) || belongs_to_present(entry) {
            if present.contains(&entry.id) && is_worth_saying(entry) {
                selection.kept.push(format!("{} {}", entry.kind, entry.label));
            }
            continue;
        }
        selection.place(entry, pre_data, facts, &by_id);
    }
    selection
}

impl Selection {
    fn place(&mut self, entry: &Entry, pre_data: &HashSet<u32>, facts: &Facts, by_id: &HashMap<u32, &Entry>) {
        let about_index = || {
            entry.depends_on.iter().filter_map(|id| by_id.get(id)).any(|on| matches!(on.kind, "INDEX" | "CONSTRAINT"))
        };
        match entry.kind {
            "SCHEMA" => self.schemas.push(entry.id),
            "ACL" if entry.label.starts_with("- SCHEMA ") => self.schemas.push(entry.id),
            "ACL" | "DEFAULT ACL" => self.grants.push(entry.id),
            "EVENT TRIGGER" => self.event_triggers.push(entry.id),
            "COMMENT"
                if entry.depends_on.iter().filter_map(|id| by_id.get(id)).any(|on| on.kind == "EVENT TRIGGER") =>
            {
                self.event_triggers.push(entry.id);
            }
            _ if pre_data.contains(&entry.id) && !about_index() => {
                if entry.kind == "EXTENSION" {
                    self.extensions.push(entry.id);
                }
                self.pre_data.push(entry.id);
            }
            "INDEX ATTACH" => self.attach.push(entry.id),
            "FK CONSTRAINT" => match facts.foreign_keys.get(&entry.object.1) {
                Some(key) => self.foreign_keys.push((entry.id, key.clone())),
                None => self.rest.push(entry.id),
            },
            "CONSTRAINT" | "CHECK CONSTRAINT" => match facts.tables.get(&entry.object) {
                Some(table) => self.tables.entry(*table).or_default().constraints.push(entry.id),
                None => self.rest.push(entry.id),
            },
            "INDEX" | "STATISTICS" => match facts.tables.get(&entry.object) {
                Some(table) => self.tables.entry(*table).or_default().indexes.push(entry.id),
                None => self.rest.push(entry.id),
            },
            _ => self.rest.push(entry.id),
        }
    }
}

fn is_worth_saying(entry: &Entry) -> bool {
    !matches!(entry.kind, "ACL" | "COMMENT" | "DEFAULT" | "SECURITY LABEL" | "SEQUENCE OWNED BY" | "DEFAULT ACL")
}

/// Entries that are not wanted for themselves.
fn unwanted(toc: &Toc, facts: &Facts, wish: &Wish<'_>) -> HashSet<u32> {
    let extensions: HashSet<u32> = toc.entries.iter().filter(|e| e.kind == "EXTENSION").map(|e| e.id).collect();
    let table_gone = |oid: u32| wish.all.contains_key(&oid) && !wish.tables.contains(&oid);
    let mut out: HashSet<u32> = HashSet::new();
    for entry in &toc.entries {
        let types = &wish.settings.object_types;
        let unwanted = NEVER.contains(&entry.kind)
            || facts.ours.contains(&entry.object)
            || !kind_is_wanted(entry, types)
            || (matches!(entry.kind, "TABLE" | "FOREIGN TABLE")
                && entry.object.0 == PG_CLASS
                && table_gone(entry.object.1))
            || (entry.kind == "COMMENT" && entry.depends_on.iter().any(|id| extensions.contains(id)))
            || (entry.kind == "SECURITY LABEL" && !wish.settings.exclude_security_labels.is_empty());
        if unwanted {
            out.insert(entry.id);
        }
    }
    // A sequence goes with the table that owns it, unless something else that stays uses it.
    for entry in toc.entries.iter().filter(|e| e.kind == "SEQUENCE") {
        let Some(owner) = facts.sequence_owners.get(&entry.object.1) else { continue };
        if !table_gone(*owner) {
            continue;
        }
        let mut gone = out.clone();
        toc.cascade(&mut gone, |_| false);
        let used = toc.entries.iter().any(|other| {
            other.depends_on.contains(&entry.id)
                && !gone.contains(&other.id)
                && !matches!(other.kind, "SEQUENCE OWNED BY" | "ACL" | "COMMENT" | "SEQUENCE SET" | "SECURITY LABEL")
        });
        if !used {
            out.insert(entry.id);
        }
    }
    out
}

/// Whether the object-type filter takes an entry. Grants and labels go with their objects.
fn kind_is_wanted(entry: &Entry, types: &ObjectTypes) -> bool {
    if *types == ObjectTypes::All {
        return true;
    }
    let kind = match entry.kind {
        "TABLE" | "FOREIGN TABLE" | "TABLE ATTACH" => ObjectType::Tables,
        "SEQUENCE" | "SEQUENCE OWNED BY" => ObjectType::Sequences,
        "TYPE" | "SHELL TYPE" | "DOMAIN" => ObjectType::Types,
        "INDEX" | "INDEX ATTACH" => ObjectType::Indexes,
        "CONSTRAINT" | "CHECK CONSTRAINT" | "FK CONSTRAINT" => ObjectType::Constraints,
        "FUNCTION" | "PROCEDURE" | "AGGREGATE" => ObjectType::Functions,
        "VIEW" => ObjectType::Views,
        "MATERIALIZED VIEW" => ObjectType::MaterializedViews,
        "TRIGGER" => ObjectType::Triggers,
        "EVENT TRIGGER" => ObjectType::EventTriggers,
        "POLICY" | "ROW SECURITY" => ObjectType::Policies,
        "RULE" => ObjectType::Rules,
        "COMMENT" => ObjectType::Comments,
        "EXTENSION" => ObjectType::Extensions,
        "COLLATION" => ObjectType::Collations,
        "TEXT SEARCH CONFIGURATION" | "TEXT SEARCH DICTIONARY" | "TEXT SEARCH PARSER" | "TEXT SEARCH TEMPLATE" => {
            ObjectType::TextSearch
        }
        // Schemas, grants, defaults, statistics, operators, …: no filter names them.
        _ => return true,
    };
    types.contains(kind)
}
