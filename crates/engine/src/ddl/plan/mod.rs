//! From what an object was to what it is: the statements, pure and in order.
//!
//! ```text
//!  remove   parts and objects that are gone, in whatever order they let go of each other
//!  define   objects and their columns, constraints and indexes
//!  attach   what needs two objects: partitions, foreign keys, owned sequences, triggers, rules, policies
//!  rights   owners, grants, comments
//! ```
//! Every name is qualified, every part is found by its oid on the source, so a renamed column or index is renamed and
//! never dropped.

mod columns;
mod parts;
mod relation;
mod rights;
mod sequence;
mod simple;
mod types;

#[cfg(test)]
mod tests;

use pgstream_postgres::{TableName, quote_ident, quote_literal};

use super::record::{Change, Versions};

/// Whether ownership and grants are carried over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights {
    /// ALTER … OWNER TO.
    pub owner: bool,
    /// GRANT and REVOKE.
    pub privileges: bool,
}

/// What brings the target from before a command to after it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// In any order that works.
    pub remove: Vec<String>,
    /// In this order.
    pub define: Vec<String>,
    /// In this order.
    pub attach: Vec<String>,
    /// In this order; may fail for want of a role.
    pub rights: Vec<String>,
    /// In this order.
    pub comments: Vec<String>,
    /// Tables whose rows are copied again, as they were called before: they are emptied first.
    pub must_copy: Vec<TableName>,
    /// What is left to the operator.
    pub notices: Vec<String>,
    /// Drops of whole objects: what was reported last goes first.
    drops: Vec<String>,
}

/// What the stream must not go past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uncovered {
    /// The object, with its class.
    pub object: String,
}

impl Plan {
    /// The plan for these changes.
    ///
    /// # Errors
    /// The first object that cannot be replayed.
    pub fn new<'a>(changes: impl IntoIterator<Item = &'a Change>, rights: Rights) -> Result<Self, Uncovered> {
        let mut plan = Self::default();
        for change in changes {
            plan.add(change)?;
        }
        plan.drops.reverse();
        plan.remove.append(&mut plan.drops);
        plan.rights.retain(|sql| rights.wants(sql));
        Ok(plan)
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.statements().next().is_none() && self.must_copy.is_empty()
    }

    /// All statements.
    pub fn statements(&self) -> impl Iterator<Item = &str> {
        [&self.remove, &self.define, &self.attach, &self.rights, &self.comments]
            .into_iter()
            .flatten()
            .map(String::as_str)
    }

    fn add(&mut self, change: &Change) -> Result<(), Uncovered> {
        match change {
            Change::Table(v) => relation::table(self, v),
            Change::View(v) => relation::view(self, v),
            Change::MaterializedView(v) => relation::materialized_view(self, v),
            Change::Sequence(v) => sequence::sequence(self, v),
            Change::Type(v) => types::of(self, v)?,
            Change::Function(v) => simple::function(self, v),
            Change::Schema(v) => simple::schema(self, v),
            Change::Extension(v) => simple::extension(self, v),
            Change::Operator(v) => simple::created(self, "OPERATOR", v),
            Change::Cast(v) => simple::created(self, "CAST", v),
            Change::Collation(v) => simple::created(self, "COLLATION", v),
            Change::Conversion(v) => simple::created(self, "CONVERSION", v),
            Change::TextSearchDictionary(v) => simple::created(self, "TEXT SEARCH DICTIONARY", v),
            Change::TextSearchConfiguration(v) => simple::text_search(self, v),
            Change::Statistics(v) => simple::statistics(self, v),
            Change::DefaultPrivileges(v) => rights::defaults(self, v),
            Change::ForeignTable(_) => self.report(change),
            Change::Other { kind, .. } if kind.as_deref().is_some_and(is_foreign) => self.report(change),
            Change::Other { .. } => return Err(Uncovered { object: change.describe() }),
        }
        Ok(())
    }

    /// What connects to other servers does not belong to the copy.
    fn report(&mut self, change: &Change) {
        self.notices.push(format!("{} is not carried over: foreign data objects are left to you", change.describe()));
    }

    fn comment(&mut self, kind: &str, name: &str, was: Option<&String>, is: Option<&String>) {
        if was != is {
            let text = is.map_or_else(|| "NULL".to_owned(), |text| quote_literal(text));
            self.comments.push(format!("COMMENT ON {kind} {name} IS {text}"));
        }
    }

    /// Renames and moves an object: `name` is what it was called, then what it is called in between.
    fn rename(&mut self, kind: &str, was: &TableName, is: &TableName, arguments: &str) {
        if was.schema != is.schema {
            self.define.push(format!("ALTER {kind} {was}{arguments} SET SCHEMA {}", quote_ident(&is.schema)));
        }
        if was.name != is.name {
            let moved = TableName::new(&is.schema, &was.name);
            self.define.push(format!("ALTER {kind} {moved}{arguments} RENAME TO {}", quote_ident(&is.name)));
        }
    }
}

impl Rights {
    fn wants(self, sql: &str) -> bool {
        if sql.contains(" OWNER TO ") && sql.starts_with("ALTER ") { self.owner } else { self.privileges }
    }
}

fn is_foreign(kind: &str) -> bool {
    matches!(kind, "foreign-data wrapper" | "server" | "user mapping" | "foreign table")
}

/// The drop of an object that is gone; whether there was anything to do.
fn dropped<T>(plan: &mut Plan, versions: &Versions<T>, sql: impl Fn(&T) -> String) -> bool {
    let (Some(was), None) = (&versions.was, &versions.is) else { return versions.is.is_none() };
    plan.drops.push(sql(was));
    true
}

/// `key=value` as the catalogs have them, for `SET (…)`, and the keys to `RESET (…)`.
fn options(was: Option<&Vec<String>>, is: Option<&Vec<String>>, prefix: &str) -> (Option<String>, Option<String>) {
    let empty = Vec::new();
    let (was, is) = (was.unwrap_or(&empty), is.unwrap_or(&empty));
    let key = |option: &str| option.split_once('=').map_or(option, |(key, _)| key).to_owned();
    let set: Vec<String> = is
        .iter()
        .filter(|option| !was.contains(option))
        .map(|option| {
            let (key, value) = option.split_once('=').unwrap_or((option, "true"));
            format!("{prefix}{} = {}", quote_ident(key), quote_literal(value))
        })
        .collect();
    let reset: Vec<String> = was
        .iter()
        .filter(|option| !is.iter().any(|other| key(other) == key(option)))
        .map(|option| format!("{prefix}{}", quote_ident(&key(option))))
        .collect();
    let list = |items: Vec<String>| (!items.is_empty()).then(|| items.join(", "));
    (list(set), list(reset))
}
