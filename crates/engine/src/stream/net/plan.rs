//! What is to be done on the target.

use super::{Columns, Doubt, Entry, Item, KeyCells, Planner, Rank, RowCells};
use crate::stream::batch::{RelIndex, Rows};

/// The net effect of the rows of one step.
///
/// Exact when each relation executes its deletes, then its updates, then its inserts, when every statement's row count is
/// compared with the number of its rows, and when a mismatch or an error undoes the step and applies [`Rows::iter`] instead.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    pub(super) planner: &'a Planner,
    pub(super) rows: &'a Rows<'a>,
}

impl<'a> Plan<'a> {
    /// The relations whose net effect is known and is not nothing, by index.
    pub fn relations(&self) -> impl Iterator<Item = RelationPlan<'a>> + use<'a> {
        let plan = *self;
        let chunks = plan.planner.items.chunk_by(|a, b| a.relation == b.relation);
        chunks
            .filter_map(move |items| items.first().map(|first| RelationPlan { plan, relation: first.relation, items }))
    }

    /// The relations whose net effect is not known, with the first change that made it so: their changes are to be applied
    /// one by one, in commit order, or by their [`Images`](super::Images).
    ///
    /// Between these and the other relations no order is kept; if a foreign key or a trigger minds, its error leads to
    /// [`Rows::iter`].
    #[must_use]
    pub fn doubts(&self) -> &'a [Doubt] {
        &self.planner.doubts
    }

    fn net_rows(&self, items: &'a [Item]) -> NetRows<'a> {
        NetRows { planner: self.planner, rows: self.rows, items }
    }
}

/// The net effect on one relation.
#[derive(Debug, Clone, Copy)]
pub struct RelationPlan<'a> {
    plan: Plan<'a>,
    relation: RelIndex,
    /// Sorted by rank; within a rank inserts by change and the others by key.
    items: &'a [Item],
}

impl<'a> RelationPlan<'a> {
    /// The relation.
    #[must_use]
    pub fn relation(&self) -> RelIndex {
        self.relation
    }

    /// Rows to delete, sorted by key. They have a key and no cells.
    #[must_use]
    pub fn deletes(&self) -> NetRows<'a> {
        let end = self.items.partition_point(|item| item.rank < Rank::Insert);
        self.plan.net_rows(&self.items[..end])
    }

    /// Rows to insert, in commit order. Without a usable key these are all that the relation has.
    #[must_use]
    pub fn inserts(&self) -> NetRows<'a> {
        let start = self.items.partition_point(|item| item.rank < Rank::Insert);
        let end = self.items.partition_point(|item| item.rank <= Rank::Insert);
        self.plan.net_rows(&self.items[start..end])
    }

    /// Rows to update, in groups that set the same columns.
    pub fn updates(&self) -> impl Iterator<Item = UpdateGroup<'a>> + use<'a> {
        let plan = self.plan;
        let start = self.items.partition_point(|item| item.rank <= Rank::Insert);
        self.items[start..].chunk_by(|a, b| a.rank == b.rank).filter_map(move |items| match items.first()?.rank {
            Rank::Update(set) => {
                Some(UpdateGroup { columns: plan.planner.column_sets.get(set), rows: plan.net_rows(items) })
            }
            Rank::Delete | Rank::Insert => None,
        })
    }
}

/// Updates that set the same columns.
#[derive(Debug, Clone, Copy)]
pub struct UpdateGroup<'a> {
    /// The columns to set. The cells of the others are [`Unchanged`](pgstream_postgres::pgoutput::Cell::Unchanged).
    pub columns: Columns<'a>,
    /// The rows, sorted by key.
    pub rows: NetRows<'a>,
}

/// Rows that one kind of statement takes.
#[derive(Debug, Clone, Copy)]
pub struct NetRows<'a> {
    planner: &'a Planner,
    rows: &'a Rows<'a>,
    items: &'a [Item],
}

impl<'a> NetRows<'a> {
    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The rows.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = NetRow<'a>> + use<'a> {
        let Self { planner, rows, items } = *self;
        items.iter().map(move |item| NetRow { planner, rows, entry: &planner.entries[item.entry] })
    }
}

/// One row of the net effect.
#[derive(Debug, Clone, Copy)]
pub struct NetRow<'a> {
    planner: &'a Planner,
    rows: &'a Rows<'a>,
    entry: &'a Entry,
}

impl<'a> NetRow<'a> {
    /// The key that finds the row, in the order of the key columns; empty for a relation without one.
    ///
    /// An update is to be found by this and not by its cells, where a TOASTed key value may be absent.
    #[must_use]
    pub fn key(&self) -> KeyCells<'a> {
        KeyCells::new(self.planner.key(self.entry), self.planner.key_columns(self.entry.relation))
    }

    /// The cells in column order: all of an insert, those of [`UpdateGroup::columns`] of an update, meaningless for a
    /// delete.
    #[must_use]
    pub fn cells(&self) -> RowCells<'a> {
        self.planner.merged.cells(self.rows.batch().arena(), &self.entry.version)
    }
}
