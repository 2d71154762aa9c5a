//! Which schema changes are followed: those of objects that the configuration lets through.

use pgstream_config::{
    pattern::TableFilter,
    pipeline::{ObjectType, ObjectTypes},
};

use super::{
    definition::Relation,
    record::{Change, Versions},
};

/// What is followed.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// Tables.
    pub tables: TableFilter,
    /// Kinds of objects.
    pub types: ObjectTypes,
}

impl Scope {
    /// The part of a change that is followed; `None` when it is not followed at all.
    #[must_use]
    pub fn narrow(&self, change: &Change) -> Option<Change> {
        let kind = kind(change);
        if kind.is_some_and(|kind| !self.types.contains(kind)) {
            return None;
        }
        if !names(change).iter().any(|(schema, name)| self.wants(change, schema, name)) {
            return None;
        }
        let mut change = change.clone();
        if let Change::Table(v) | Change::View(v) | Change::MaterializedView(v) = &mut change {
            for relation in [&mut v.was, &mut v.is].into_iter().flatten() {
                self.strip(relation);
            }
            let same = v.was == v.is && !v.filled && !v.must_copy;
            if same {
                return None;
            }
        }
        Some(change)
    }

    fn wants(&self, change: &Change, schema: &str, name: &str) -> bool {
        match change {
            Change::Table(_) => self.tables.wants_schema(schema, name),
            // What has no rows follows the tables of its schema.
            _ if schema.is_empty() || self.tables.include.is_empty() => true,
            _ => self.tables.include.iter().any(|pattern| pattern.schema.as_deref().is_none_or(|s| s == schema)),
        }
    }

    /// Leaves out the parts of a table that are not followed.
    fn strip(&self, relation: &mut Relation) {
        let wants = |kind| self.types.contains(kind);
        if !wants(ObjectType::Indexes) {
            relation.indexes.retain(|index| index.constraint);
        }
        if !wants(ObjectType::Constraints) {
            // Keys are how rows are found.
            relation.constraints.retain(|constraint| constraint.kind == 'p');
        }
        if !wants(ObjectType::Triggers) {
            relation.triggers.clear();
        }
        if !wants(ObjectType::Policies) {
            relation.policies.clear();
            (relation.row_security, relation.force_row_security) = (false, false);
        }
        if !wants(ObjectType::Rules) {
            relation.rules.clear();
        }
    }
}

fn kind(change: &Change) -> Option<ObjectType> {
    Some(match change {
        Change::Table(_) | Change::ForeignTable(_) => ObjectType::Tables,
        Change::View(_) => ObjectType::Views,
        Change::MaterializedView(_) => ObjectType::MaterializedViews,
        Change::Sequence(_) => ObjectType::Sequences,
        Change::Type(_) => ObjectType::Types,
        Change::Function(_) => ObjectType::Functions,
        Change::Extension(_) => ObjectType::Extensions,
        Change::Collation(_) => ObjectType::Collations,
        Change::TextSearchDictionary(_) | Change::TextSearchConfiguration(_) => ObjectType::TextSearch,
        Change::Other { kind, .. } if kind.as_deref().is_some_and(|k| k.starts_with("text search")) => {
            ObjectType::TextSearch
        }
        Change::Schema(_)
        | Change::Operator(_)
        | Change::Cast(_)
        | Change::Conversion(_)
        | Change::Statistics(_)
        | Change::DefaultPrivileges(_)
        | Change::Other { .. } => return None,
    })
}

/// Schema and name before and after; an object without a schema has an empty one.
fn names(change: &Change) -> Vec<(String, String)> {
    fn both<T>(v: &Versions<T>, name: impl Fn(&T) -> (String, String)) -> Vec<(String, String)> {
        [&v.was, &v.is].into_iter().flatten().map(name).collect()
    }
    match change {
        Change::Table(v) | Change::View(v) | Change::MaterializedView(v) => {
            both(v, |r| (r.schema.clone(), r.name.clone()))
        }
        Change::ForeignTable(v) => both(v, |n| (n.schema.clone(), n.name.clone())),
        Change::Sequence(v) => both(v, |s| (s.schema.clone(), s.name.clone())),
        Change::Type(v) => both(v, |t| (t.schema.clone(), t.name.clone())),
        Change::Function(v) => both(v, |f| (f.schema.clone(), f.name.clone())),
        Change::Schema(v) => both(v, |s| (s.name.clone(), String::new())),
        Change::Operator(v)
        | Change::Cast(v)
        | Change::Collation(v)
        | Change::Conversion(v)
        | Change::TextSearchDictionary(v)
        | Change::TextSearchConfiguration(v)
        | Change::Statistics(v) => both(v, |s| (s.schema.clone().unwrap_or_default(), s.name.clone())),
        Change::Extension(_) | Change::DefaultPrivileges(_) | Change::Other { .. } => {
            vec![(String::new(), String::new())]
        }
    }
}
