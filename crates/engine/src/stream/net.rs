//! The net effect of many changes: one row operation for each key.
//!
//! ```text
//!  Rows (commit order) ──> Planner::plan ──> Plan ── relation 0: deletes │ updates by set of columns │ inserts
//!                          per key: fold           └ relation 1: doubtful, with the reason and the changes in order
//! ```
//!
//! The invariant: whoever executes, for each relation, its deletes, then its updates, then its inserts, leaves the rows
//! that the changes applied one by one leave. What cannot be folded with certainty is doubtful, and never guessed.
//!
//! The state of a key is what its changes so far amount to; the first column is the state before any:
//!
//! | | insert | update | delete |
//! |---|---|---|---|
//! | (untouched) | Inserted | Updated | Deleted |
//! | Inserted: insert this row | doubt | Inserted | Vanished |
//! | Updated: set these columns | doubt | Updated | Deleted |
//! | Deleted: delete the row | Replaced | doubt | doubt |
//! | Replaced: delete, and insert this row | doubt | Replaced | Deleted |
//! | Vanished: nothing | Inserted | doubt | doubt |
//!
//! An update that leaves a TOASTed value unchanged keeps what the state has for that column: the value of an insert or of
//! an earlier update, or nothing, and then the column is not among those set. Doubtful are the sequences that a key
//! cannot go through, a change of the key itself, a null in the key, and updates and deletes without a usable key.
//!
//! Why *delete then insert* for a replaced row, and not an update of every column: other unique constraints. After the
//! deletes and the updates, each row that is there has its final values, and final values do not collide with each other,
//! so an insert never fails; an update could take a value that another update has yet to give up. It is also what the
//! source did: identity columns that refuse updates, columns that only the target has and its triggers see the same.
//! Updates may still collide among themselves (values that swap or move up), and a cascade on the target may reach a row
//! before its update does. Both show as an error or as a row count that is too small, never as other data, and the answer
//! is the same step row by row.
//!
//! Without a key, rows are told apart by all of their values: see [`Images`], for the relations in doubt.
//!
//! A row that came and went again is not looked at, so it finds no row in its way that only the target has.

mod images;
mod key;
mod merge;
mod plan;

#[cfg(test)]
mod tests;

use std::{fmt, hash::BuildHasher, ops::Range};

use hashbrown::{DefaultHashBuilder, HashTable};
use pgstream_postgres::pgoutput::Tuple;

pub use self::{
    images::{Groups, Images},
    key::KeyCells,
    merge::{Columns, RowCells},
    plan::{NetRow, NetRows, Plan, RelationPlan, UpdateGroup},
};
use self::{
    key::prefix,
    merge::{ColumnSets, Merged, Version},
};
use super::batch::{Kind, Record, RelIndex, Rows};
use crate::mutants::{self, Mutant};

/// A relation whose net effect is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doubt {
    /// The relation.
    pub relation: RelIndex,
    /// Number of the first change in the batch that could not be folded.
    pub change: usize,
    /// Why.
    pub reason: Reason,
}

/// Why a change cannot be folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// An update or a delete of a relation without a usable key.
    NoKey,
    /// An update changed the key.
    KeyChanged,
    /// A column of the key is null, so it finds no row.
    NullKey,
    /// A value of the key is TOASTed and was not sent.
    UnknownKey,
    /// The key cannot have gone through this: a second insert, or a change of a row that is gone.
    Impossible,
    /// The row has other columns than the rows before it, lacks a column of the key, or is an insert with a value missing.
    Shape,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoKey => "the table has no key by which its rows can be merged",
            Self::KeyChanged => "an update changed the key of a row",
            Self::NullKey => "a column of the key is null",
            Self::UnknownKey => "the stream did not carry the key of an updated row",
            Self::Impossible => "a row was inserted twice, or changed after it was deleted",
            Self::Shape => "a row does not have the columns of its table",
        })
    }
}

/// What the changes of one key amount to; see the table above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Inserted,
    Updated,
    Deleted,
    Replaced,
    Vanished,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Insert,
    Update,
    Delete,
}

impl State {
    /// The state of a key after its first change.
    fn first(operation: Operation) -> Self {
        match operation {
            Operation::Insert => Self::Inserted,
            Operation::Update => Self::Updated,
            Operation::Delete => Self::Deleted,
        }
    }

    /// The state after one more change; `None` if there is no such sequence.
    fn then(self, operation: Operation) -> Option<Self> {
        match (self, operation) {
            (Self::Inserted | Self::Updated | Self::Replaced, Operation::Update) => Some(self),
            (Self::Inserted, Operation::Delete) => Some(Self::Vanished),
            (Self::Updated | Self::Replaced, Operation::Delete) => Some(Self::Deleted),
            (Self::Deleted, Operation::Insert) => Some(Self::Replaced),
            (Self::Vanished, Operation::Insert) => Some(Self::Inserted),
            (Self::Inserted | Self::Updated | Self::Replaced, Operation::Insert)
            | (Self::Deleted | Self::Vanished, Operation::Update | Operation::Delete) => None,
        }
    }
}

/// A key and what its changes amount to.
#[derive(Debug)]
struct Entry {
    relation: RelIndex,
    state: State,
    /// In `Planner::keys`; empty for a relation without a key.
    key: Range<usize>,
    version: Version,
    /// Number of the insert, if the state has one.
    inserted: usize,
}

/// A row operation of the plan.
#[derive(Debug, Clone, Copy)]
struct Item {
    relation: RelIndex,
    rank: Rank,
    /// An insert's change, or the beginning of the key.
    order: u64,
    entry: usize,
}

/// The order of execution. Inserts stand before updates only because the sets of columns come last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Delete,
    Insert,
    /// With the number of its set of columns.
    Update(u32),
}

/// What is known of a relation in one plan.
#[derive(Debug, Clone, Copy, Default)]
struct Relation {
    columns: Option<usize>,
    key_columns: usize,
    doubtful: bool,
}

/// Computes plans. It keeps its memory, so one serves a whole stream.
#[derive(Debug, Default)]
pub struct Planner {
    relations: Vec<Relation>,
    /// Hash and index of each entry with a key.
    table: HashTable<(u64, usize)>,
    hasher: DefaultHashBuilder,
    entries: Vec<Entry>,
    keys: Vec<u8>,
    tails: Vec<u8>,
    merged: Merged,
    column_sets: ColumnSets,
    items: Vec<Item>,
    doubts: Vec<Doubt>,
}

impl Planner {
    /// The net effect of `rows`.
    ///
    /// `key` names the columns by which the rows of a relation are merged and found on the target. For each relation that
    /// it answers, the caller vouches that
    /// - they are unique and not null on both servers, and the unique index is not partial, deferrable or on expressions;
    /// - each is part of the source's replica identity (`Column::key`), so that no update changes it unseen.
    ///
    /// Keys are compared by their bytes, which is enough for every type: 1.0 and 1.00 are one key, but never of two rows
    /// at once, and the source reports an update that turns one into the other as a changed key.
    ///
    /// For any other it answers `None`. The inserts of such a relation are set-wise still; an update or a delete makes it
    /// doubtful.
    pub fn plan<'a, 'k>(&'a mut self, rows: &'a Rows<'a>, key: impl Fn(RelIndex) -> Option<&'k [usize]>) -> Plan<'a> {
        self.clear();
        let arena = rows.batch().arena();
        for (number, record) in rows.numbers().zip(rows.records()) {
            let index = record.relation.0 as usize;
            if index >= self.relations.len() {
                self.relations.resize(index + 1, Relation::default());
            }
            if self.relations[index].doubtful {
                continue;
            }
            let columns = key(record.relation).filter(|columns| !columns.is_empty());
            if let Err(reason) = self.fold(arena, number, record, columns) {
                self.relations[index].doubtful = true;
                self.doubts.push(Doubt { relation: record.relation, change: number, reason });
            }
        }
        self.arrange(arena);
        Plan { planner: self, rows }
    }

    fn clear(&mut self) {
        self.relations.clear();
        self.table.clear();
        self.entries.clear();
        self.keys.clear();
        self.merged.clear();
        self.column_sets.clear();
        self.items.clear();
        self.doubts.clear();
    }

    /// Adds one change to what its key amounts to.
    fn fold(&mut self, arena: &[u8], number: usize, record: &Record, columns: Option<&[usize]>) -> Result<(), Reason> {
        let (operation, identity) = self.operation(record, arena, columns)?;
        let version = Version::Saved(record.new);
        let Some(columns) = columns else {
            let state = State::Inserted;
            let entry = Entry { relation: record.relation, state, key: 0..0, version, inserted: number };
            self.entries.push(entry);
            return Ok(());
        };
        let start = self.keys.len();
        let appended = key::append(&mut self.keys, &mut self.tails, identity, columns);
        if appended.is_err() {
            self.keys.truncate(start);
        }
        appended?;

        let Self { table, hasher, entries, keys, merged, .. } = self;
        let hash = hasher.hash_one((record.relation, &keys[start..]));
        let found = table.find(hash, |&(other, index)| {
            let entry: &Entry = &entries[index];
            other == hash && entry.relation == record.relation && keys[entry.key.clone()] == keys[start..]
        });
        let Some(&(_, index)) = found else {
            table.insert_unique(hash, (hash, entries.len()), |&(hash, _)| hash);
            let (state, key) = (State::first(operation), start..keys.len());
            entries.push(Entry { relation: record.relation, state, key, version, inserted: number });
            return Ok(());
        };
        keys.truncate(start);
        let entry = &mut entries[index];
        let before = entry.state;
        entry.state = entry.state.then(operation).ok_or(Reason::Impossible)?;
        match entry.state {
            State::Replaced if mutants::is(Mutant::ForgottenDelete) => entry.state = State::Inserted,
            State::Deleted if mutants::is(Mutant::LostDelete) => entry.state = before,
            _ => {}
        }
        match operation {
            Operation::Insert => (entry.version, entry.inserted) = (version, number),
            Operation::Update => entry.version = merged.update(arena, entry.version, record.new),
            Operation::Delete => {}
        }
        Ok(())
    }

    /// What the change does, and the tuple that has its key; an error if that cannot be folded whatever came before.
    fn operation<'r>(
        &mut self,
        record: &Record,
        arena: &'r [u8],
        key: Option<&[usize]>,
    ) -> Result<(Operation, Tuple<'r>), Reason> {
        let relation = &mut self.relations[record.relation.0 as usize];
        relation.key_columns = key.map_or(0, <[usize]>::len);
        let mut check = |tuple: Tuple<'_>| {
            let expected = *relation.columns.get_or_insert(tuple.len());
            if tuple.len() == expected { Ok(()) } else { Err(Reason::Shape) }
        };
        match (record.kind(arena), key) {
            (Kind::Insert(new), _) => {
                check(new)?;
                if new.has_unchanged() { Err(Reason::Shape) } else { Ok((Operation::Insert, new)) }
            }
            (Kind::Update { .. } | Kind::Delete(_), None) => Err(Reason::NoKey),
            (Kind::Update { old: None, new }, Some(_)) => {
                check(new)?;
                Ok((Operation::Update, new))
            }
            (Kind::Update { old: Some(old), new }, Some(columns)) => {
                let old = old.tuple();
                check(old)?;
                check(new)?;
                if key::same(old, new, columns) { Ok((Operation::Update, old)) } else { Err(Reason::KeyChanged) }
            }
            (Kind::Delete(old), Some(_)) => {
                check(old.tuple())?;
                Ok((Operation::Delete, old.tuple()))
            }
        }
    }

    /// Puts what each key amounts to into the order of execution.
    fn arrange(&mut self, arena: &[u8]) {
        let Self { relations, entries, keys, merged, column_sets, items, .. } = self;
        for (index, entry) in entries.iter().enumerate() {
            let relation = entry.relation;
            if relations[relation.0 as usize].doubtful {
                continue;
            }
            let mut push = |rank, order| items.push(Item { relation, rank, order, entry: index });
            let by_key = || prefix(&keys[entry.key.clone()]);
            let by_change = entry.inserted as u64;
            match entry.state {
                State::Inserted => push(Rank::Insert, by_change),
                State::Updated => {
                    let complete = matches!(entry.version, Version::Saved(new) if !new.has_unchanged());
                    let set = if complete {
                        ColumnSets::ALL
                    } else {
                        column_sets.number(merged.cells(arena, &entry.version))
                    };
                    push(Rank::Update(set), by_key());
                }
                State::Deleted => push(Rank::Delete, by_key()),
                State::Replaced => {
                    push(Rank::Delete, by_key());
                    push(Rank::Insert, by_change);
                }
                State::Vanished => {}
            }
        }
        let key = |item: &Item| &keys[entries[item.entry].key.clone()];
        items.sort_unstable_by(|a, b| {
            (a.relation, a.rank, a.order).cmp(&(b.relation, b.rank, b.order)).then_with(|| key(a).cmp(key(b)))
        });
    }

    fn key(&self, entry: &Entry) -> &[u8] {
        &self.keys[entry.key.clone()]
    }

    fn key_columns(&self, relation: RelIndex) -> usize {
        self.relations.get(relation.0 as usize).map_or(0, |relation| relation.key_columns)
    }
}
