//! One row of `pgstream.schema_log`: one command, and every object that it touched, before and after.
//!
use pgstream_postgres::TableName;
use serde::Deserialize;
use serde_json::Value;

use super::definition::{DefaultPrivileges, Extension, Function, Named, Relation, Schema, Sequence, Simple, Type};

/// One command.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Its number in the log.
    pub id: i64,
    /// Its tag, e.g. `ALTER TABLE`.
    pub command: String,
    /// What it touched, in the server's order.
    pub changes: Vec<Change>,
    /// Why the source could not describe it.
    pub failure: Option<String>,
}

/// What one object was and is.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "class", rename_all = "snake_case")]
pub enum Change {
    /// An ordinary or partitioned table.
    Table(Versions<Relation>),
    /// A foreign table.
    ForeignTable(Versions<Named>),
    /// A view.
    View(Versions<Relation>),
    /// A materialized view.
    MaterializedView(Versions<Relation>),
    /// A sequence that no identity column made.
    Sequence(Versions<Sequence>),
    /// An enum, composite type, domain or range.
    Type(Versions<Type>),
    /// A function, procedure or aggregate.
    Function(Versions<Function>),
    /// A schema.
    Schema(Versions<Schema>),
    /// An extension, which stands for its members.
    Extension(Versions<Extension>),
    /// An operator.
    Operator(Versions<Simple>),
    /// A cast.
    Cast(Versions<Simple>),
    /// A collation.
    Collation(Versions<Simple>),
    /// A conversion.
    Conversion(Versions<Simple>),
    /// A text search dictionary.
    TextSearchDictionary(Versions<Simple>),
    /// A text search configuration.
    TextSearchConfiguration(Versions<Simple>),
    /// Extended statistics.
    Statistics(Versions<Simple>),
    /// `ALTER DEFAULT PRIVILEGES`.
    DefaultPrivileges(Versions<DefaultPrivileges>),
    /// What nobody describes.
    Other {
        /// The server's word for it, e.g. `operator class`.
        #[serde(rename = "type")]
        kind: Option<String>,
        /// Its name as the server writes it.
        identity: Option<String>,
    },
}

/// Before and after a command.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Versions<T> {
    /// Its oid on the source.
    pub id: u32,
    /// `None`: it did not exist.
    #[serde(default = "none")]
    pub was: Option<T>,
    /// `None`: it is gone.
    #[serde(default = "none")]
    pub is: Option<T>,
    /// The rows cannot be computed from the old ones; they are copied again.
    #[serde(default)]
    pub must_copy: bool,
    /// The command filled it from a query: CREATE TABLE AS, REFRESH.
    #[serde(default)]
    pub filled: bool,
}

fn none<T>() -> Option<T> {
    None
}

impl<T> Versions<T> {
    /// What it is, or what it was.
    pub fn any(&self) -> Option<&T> {
        self.is.as_ref().or(self.was.as_ref())
    }
}

/// A row of the log cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("row {id} of pgstream.schema_log is not what this version writes: {problem}")]
pub struct UnreadableRecord {
    /// Its number.
    pub id: i64,
    /// What is wrong.
    pub problem: String,
}

impl Record {
    /// Reads the column `objects`.
    ///
    /// # Errors
    /// When it is not what the capture of this version writes.
    pub fn parse(id: i64, command: &str, objects: &str, failure: Option<&str>) -> Result<Self, UnreadableRecord> {
        let bad = |e: serde_json::Error| UnreadableRecord { id, problem: e.to_string() };
        let changes = serde_json::from_str::<Vec<Value>>(objects)
            .map_err(bad)?
            .into_iter()
            .map(|object| serde_json::from_value(object).map_err(bad))
            .collect::<Result<_, _>>()?;
        Ok(Self { id, command: command.to_owned(), changes, failure: failure.map(ToOwned::to_owned) })
    }
}

impl Change {
    /// The server's word for its class, and its name, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        fn qualified(schema: &str, name: &str) -> String {
            TableName::new(schema, name).to_string()
        }
        fn simple(word: &str, v: &Versions<Simple>) -> String {
            let name = v.any().map(|s| match &s.schema {
                Some(schema) => qualified(schema, &s.name),
                None => s.name.clone(),
            });
            format!("{word} {}", name.unwrap_or_default())
        }
        fn relation(word: &str, v: &Versions<Relation>) -> String {
            format!("{word} {}", v.any().map(|r| r.table().to_string()).unwrap_or_default())
        }
        match self {
            Self::Table(v) => relation("table", v),
            Self::View(v) => relation("view", v),
            Self::MaterializedView(v) => relation("materialized view", v),
            Self::ForeignTable(v) => {
                format!("foreign table {}", v.any().map(|n| qualified(&n.schema, &n.name)).unwrap_or_default())
            }
            Self::Sequence(v) => {
                format!("sequence {}", v.any().map(|n| qualified(&n.schema, &n.name)).unwrap_or_default())
            }
            Self::Type(v) => format!("type {}", v.any().map(|n| qualified(&n.schema, &n.name)).unwrap_or_default()),
            Self::Function(v) => {
                let name = v.any().map(|f| format!("{}({})", qualified(&f.schema, &f.name), f.arguments));
                format!("function {}", name.unwrap_or_default())
            }
            Self::Schema(v) => format!("schema {}", v.any().map(|s| s.name.clone()).unwrap_or_default()),
            Self::Extension(v) => format!("extension {}", v.any().map(|s| s.name.clone()).unwrap_or_default()),
            Self::Operator(v) => simple("operator", v),
            Self::Cast(v) => simple("cast", v),
            Self::Collation(v) => simple("collation", v),
            Self::Conversion(v) => simple("conversion", v),
            Self::TextSearchDictionary(v) => simple("text search dictionary", v),
            Self::TextSearchConfiguration(v) => simple("text search configuration", v),
            Self::Statistics(v) => simple("statistics", v),
            Self::DefaultPrivileges(v) => {
                format!("default privileges of {}", v.any().map(|d| d.role.clone()).unwrap_or_default())
            }
            Self::Other { kind, identity } => {
                format!("{} {}", kind.as_deref().unwrap_or("object"), identity.as_deref().unwrap_or_default())
            }
        }
    }
}
