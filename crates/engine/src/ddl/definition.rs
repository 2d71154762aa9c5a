//! What an object is, as the functions of the migrations `0002_ddl_describe.sql` and `0003_ddl_objects.sql` say it. Fields that
//! a later version adds are ignored.

use pgstream_postgres::TableName;
use serde::Deserialize;

/// Any object with a schema and a name.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[expect(missing_docs, reason = "as in pg_class")]
pub struct Named {
    pub schema: String,
    pub name: String,
}

/// A privilege that somebody other than the owner has.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "as in aclexplode")]
pub struct Grant {
    /// `None`: PUBLIC.
    pub to: Option<String>,
    pub privilege: String,
    pub grantable: bool,
}

/// A table, view or materialized view.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[expect(missing_docs, reason = "as in pg_class")]
pub struct Relation {
    pub schema: String,
    pub name: String,
    pub owner: String,
    pub kind: char,
    pub persistence: char,
    pub options: Option<Vec<String>>,
    pub columns: Vec<Column>,
    pub grants: Vec<Grant>,
    pub comment: Option<String>,
    #[serde(default)]
    pub triggers: Vec<Attached>,
    #[serde(default)]
    pub rules: Vec<Attached>,
    #[serde(default)]
    pub policies: Vec<Policy>,
    #[serde(default)]
    pub constraints: Vec<Constraint>,
    #[serde(default)]
    pub indexes: Vec<Index>,
    /// Of views.
    pub query: Option<String>,
    /// Of materialized views.
    #[serde(default)]
    pub populated: bool,
    pub of_type: Option<String>,
    pub access_method: Option<String>,
    pub toast_options: Option<Vec<String>>,
    #[serde(default)]
    pub parents: Vec<Parent>,
    pub partition_key: Option<String>,
    /// Of partitions, e.g. `FOR VALUES IN (1)`.
    pub bound: Option<String>,
    pub replica_identity: Option<char>,
    pub replica_identity_index: Option<String>,
    #[serde(default)]
    pub row_security: bool,
    #[serde(default)]
    pub force_row_security: bool,
}

impl Relation {
    /// Its name.
    pub fn table(&self) -> TableName {
        TableName::new(&self.schema, &self.name)
    }
}

/// A table that another inherits from, or is a partition of.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "plain")]
pub struct Parent {
    pub id: u32,
    /// Qualified and quoted.
    pub name: String,
}

/// A column, or an attribute of a composite type.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[expect(missing_docs, reason = "as in pg_attribute")]
pub struct Column {
    pub num: i16,
    pub name: String,
    /// With its modifier, qualified and quoted.
    #[serde(rename = "type")]
    pub type_sql: String,
    pub type_id: u32,
    pub typmod: i32,
    pub not_null: bool,
    /// From version 18 on.
    pub not_null_constraint: Option<NotNull>,
    pub default: Option<String>,
    pub default_id: Option<u32>,
    /// What rows that are older than the column show, as text.
    pub missing: Option<String>,
    pub identity: String,
    pub generated: String,
    pub sequence: Option<Sequence>,
    pub collation: Option<String>,
    pub collation_id: u32,
    pub storage: String,
    pub storage_is_default: bool,
    pub compression: Option<String>,
    pub statistics: Option<i32>,
    pub options: Option<Vec<String>>,
    pub local: bool,
    pub inherited: bool,
    pub grants: Vec<Grant>,
    pub comment: Option<String>,
}

/// A NOT NULL constraint that has a name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "as in pg_constraint")]
pub struct NotNull {
    pub id: u32,
    pub name: String,
    pub no_inherit: bool,
    pub valid: bool,
    pub local: bool,
}

/// A primary, unique, check, exclusion or foreign key constraint.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "as in pg_constraint")]
pub struct Constraint {
    pub id: u32,
    pub name: String,
    #[serde(rename = "type")]
    pub kind: char,
    pub definition: String,
    pub index: Option<String>,
    pub index_id: Option<u32>,
    /// Index of the partitioned table that the constraint's index belongs to.
    pub index_parent: Option<String>,
    pub validated: bool,
    pub enforced: bool,
    pub deferrable: bool,
    pub deferred: bool,
    pub local: bool,
    pub inherited: bool,
    pub comment: Option<String>,
}

impl Constraint {
    /// Whether an index enforces it.
    pub fn has_index(&self) -> bool {
        matches!(self.kind, 'p' | 'u' | 'x')
    }
}

/// An index.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "as in pg_index")]
pub struct Index {
    pub id: u32,
    pub name: String,
    pub definition: String,
    /// It enforces a constraint.
    pub constraint: bool,
    pub partitioned: bool,
    pub valid: bool,
    pub clustered: bool,
    pub options: Option<Vec<String>>,
    pub parent: Option<String>,
    pub statistics: Option<std::collections::BTreeMap<String, i32>>,
    pub comment: Option<String>,
}

/// A trigger or rule.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "as in pg_trigger and pg_rewrite")]
pub struct Attached {
    pub id: u32,
    pub name: String,
    pub definition: String,
    pub enabled: char,
    #[serde(default)]
    pub inherited: bool,
    pub comment: Option<String>,
}

/// A policy for rows.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "as in pg_policy")]
pub struct Policy {
    pub id: u32,
    pub name: String,
    pub command: char,
    pub permissive: bool,
    /// `None` stands for PUBLIC.
    pub roles: Vec<Option<String>>,
    pub using: Option<String>,
    pub check: Option<String>,
    pub comment: Option<String>,
}

/// A sequence, without its value.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[expect(missing_docs, reason = "as in pg_sequence")]
pub struct Sequence {
    pub schema: String,
    pub name: String,
    pub owner: String,
    pub persistence: char,
    #[serde(rename = "type")]
    pub type_sql: String,
    pub start: i64,
    pub increment: i64,
    pub min: i64,
    pub max: i64,
    pub cache: i64,
    pub cycle: bool,
    pub owned_by: Option<OwnedBy>,
    pub grants: Vec<Grant>,
    pub comment: Option<String>,
}

/// The column that a sequence belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "plain")]
pub struct OwnedBy {
    pub id: u32,
    pub num: i16,
    /// Qualified and quoted.
    pub table: String,
    pub column: String,
}

/// An enum, composite type, domain or range.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[expect(missing_docs, reason = "as in pg_type")]
pub struct Type {
    pub schema: String,
    pub name: String,
    pub owner: String,
    /// `None`: a base type, whose functions are written in C.
    pub kind: Option<char>,
    pub grants: Vec<Grant>,
    pub comment: Option<String>,
    #[serde(default)]
    pub labels: Vec<Label>,
    #[serde(default)]
    pub columns: Vec<Column>,
    pub base: Option<String>,
    #[serde(default)]
    pub not_null: bool,
    pub default: Option<String>,
    pub collation: Option<String>,
    #[serde(default)]
    pub constraints: Vec<Constraint>,
    pub create: Option<String>,
}

/// A value of an enum.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "as in pg_enum")]
pub struct Label {
    pub id: u32,
    pub label: String,
}

/// A function, procedure or aggregate.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[expect(missing_docs, reason = "as in pg_proc")]
pub struct Function {
    pub schema: String,
    pub name: String,
    pub arguments: String,
    pub owner: String,
    pub kind: char,
    pub grants: Vec<Grant>,
    pub comment: Option<String>,
    /// CREATE OR REPLACE.
    pub create: String,
}

/// A schema.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[expect(missing_docs, reason = "as in pg_namespace")]
pub struct Schema {
    pub name: String,
    pub owner: String,
    pub grants: Vec<Grant>,
    pub comment: Option<String>,
}

/// An extension.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[expect(missing_docs, reason = "as in pg_extension")]
pub struct Extension {
    pub name: String,
    pub version: String,
    pub schema: String,
    pub relocatable: bool,
    pub comment: Option<String>,
}

/// An object that is created by one statement and hardly ever altered.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[expect(missing_docs, reason = "plain")]
pub struct Simple {
    /// Casts have none.
    pub schema: Option<String>,
    pub name: String,
    pub owner: Option<String>,
    /// Of operators: name and argument types.
    pub identity: Option<String>,
    pub comment: Option<String>,
    pub create: String,
    /// Of text search configurations.
    #[serde(default)]
    pub mappings: Vec<Mapping>,
    /// Of statistics.
    pub target: Option<i32>,
}

/// Which dictionaries a text search configuration asks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "plain")]
pub struct Mapping {
    pub token: String,
    /// Qualified and quoted, separated by commas.
    pub dictionaries: String,
}

/// What a role grants on everything that it creates from now on.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[expect(missing_docs, reason = "as in pg_default_acl")]
pub struct DefaultPrivileges {
    pub role: String,
    pub schema: Option<String>,
    pub objects: char,
    pub grants: Vec<Grant>,
    /// What would hold without it.
    pub built_in: Vec<Grant>,
}
