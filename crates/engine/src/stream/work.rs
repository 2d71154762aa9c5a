//! What the reader hands to the applier, and what it hears back.

use std::{ops::Range, sync::Arc};

use pgstream_postgres::{Lsn, TableName, pgoutput::Timestamp};

use super::{
    batch::{Batch, RelIndex, Step},
    relation::SourceRelation,
};
use crate::ddl::Record;

/// One piece of work.
pub enum Work {
    /// Changes.
    Chunk(Box<Chunk>),
    /// A schema change, inside the transaction of the chunks around it.
    Ddl(Box<Ddl>),
    /// Tables wait to be copied again: between two transactions, with nothing read meanwhile.
    CopyAgain,
    /// Nothing but a position: the source has no changes before it.
    Idle(Lsn),
}

/// A schema change.
pub struct Ddl {
    /// What happened.
    pub record: Record,
    /// The same as the source wrote it.
    pub objects: String,
    /// Start of its transaction's commit record.
    pub commit: Lsn,
    /// Whether the types of new columns were looked at.
    pub types_checked: bool,
}

/// How a chunk ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boundary {
    /// In the middle of a transaction: the target transaction stays open.
    Open,
    /// With a commit that ends here.
    Commit {
        /// One past the last byte of the commit record.
        end: Lsn,
    },
}

/// Where a source transaction begins in a batch.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    /// Index of its first change.
    pub first: usize,
    /// Start of its commit record.
    pub commit: Lsn,
}

/// Changes of consecutive source transactions.
#[derive(Default)]
pub struct Chunk {
    /// The changes.
    pub batch: Batch,
    /// Relation versions first seen here; their indices follow on from those before.
    pub relations: Vec<Arc<SourceRelation>>,
    /// Relations with changes here, and the number of the first change at or after which.
    pub touched: Vec<(RelIndex, usize)>,
    /// Commit record of each truncate's transaction, in order.
    pub truncates: Vec<Lsn>,
    /// The transactions.
    pub marks: Vec<Mark>,
    /// Transactions that end here.
    pub transactions: u64,
    /// Source clock at the last commit.
    pub commit_time: Option<Timestamp>,
    /// How it ends.
    pub boundary: Option<Boundary>,
}

impl Chunk {
    /// Whether there is nothing to apply and no position to move.
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty() && self.transactions == 0
    }

    /// The chunk, ended; what remains is empty.
    pub fn take(&mut self, boundary: Boundary) -> Self {
        let mut taken = std::mem::take(self);
        if boundary == Boundary::Open {
            // The transaction goes on in the next chunk.
            self.marks.extend(taken.marks.last().map(|mark| Mark { first: 0, commit: mark.commit }));
        }
        taken.boundary = Some(boundary);
        taken
    }

    /// All of its transactions.
    pub fn whole(&self) -> Part<'_> {
        Part { chunk: self, marks: 0..self.marks.len() }
    }

    /// Commit record of the transaction that the change at `index` belongs to.
    pub fn commit_of(&self, index: usize) -> Lsn {
        let after = self.marks.partition_point(|mark| mark.first <= index);
        after.checked_sub(1).and_then(|i| self.marks.get(i)).map_or(Lsn::ZERO, |mark| mark.commit)
    }
}

/// Consecutive source transactions of a chunk.
#[derive(Clone)]
pub struct Part<'a> {
    /// The chunk.
    pub chunk: &'a Chunk,
    marks: Range<usize>,
}

impl<'a> Part<'a> {
    /// What they did, in commit order; of a truncate also the commit record of its transaction.
    pub fn steps(&self) -> impl Iterator<Item = (Step<'a>, Lsn)> + use<'a> {
        let chunk = self.chunk;
        let (from, to) =
            (chunk.marks.get(self.marks.start).filter(|_| self.marks.start > 0), chunk.marks.get(self.marks.end));
        let changes = from.map_or(0, |mark| mark.first)..to.map_or(chunk.batch.len(), |mark| mark.first);
        let commits = from.map_or(Lsn::ZERO, |mark| mark.commit)..to.map_or(Lsn(u64::MAX), |mark| mark.commit);
        let mut truncates = chunk.truncates.iter().copied();
        chunk.batch.steps().filter_map(move |step| match step {
            Step::Rows(rows) => rows.within(&changes).map(|rows| (Step::Rows(rows), Lsn::ZERO)),
            Step::Truncate(truncate) => {
                let commit = truncates.next().unwrap_or_default();
                commits.contains(&commit).then_some((Step::Truncate(truncate), commit))
            }
        })
    }

    /// The first half of the transactions and the rest; `None` when there is but one.
    pub fn halves(&self) -> Option<(Self, Self)> {
        let Range { start, end } = self.marks;
        let middle = start + (end - start) / 2;
        let part = |marks| Part { chunk: self.chunk, marks };
        (middle > start).then(|| (part(start..middle), part(middle..end)))
    }
}

/// The tables that are being copied beside the stream.
pub type Copying = Arc<[TableName]>;

/// What the applier has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Applied {
    /// Pieces of work finished.
    pub done: u64,
    /// Committed on the target.
    pub applied: Lsn,
    /// Flushed to the target's disk: may be acknowledged to the source.
    pub durable: Lsn,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::batch::Truncate;

    /// A truncate lies between changes; whose it is, its commit record says.
    #[test]
    fn a_part_holds_the_truncates_of_its_transactions() {
        let mut chunk = Chunk::default();
        for commit in [10, 20, 30] {
            chunk.marks.push(Mark { first: 0, commit: Lsn(commit) });
            chunk.batch.truncate(Truncate { relations: vec![RelIndex(0)], cascade: false, restart_identity: false });
            chunk.truncates.push(Lsn(commit));
        }
        let commits = |part: &Part<'_>| part.steps().map(|(_, commit)| commit.0).collect::<Vec<_>>();
        let whole = chunk.whole();
        assert_eq!(commits(&whole), [10, 20, 30]);
        let (first, rest) = whole.halves().unwrap();
        assert_eq!((commits(&first), commits(&rest)), (vec![10], vec![20, 30]));
        assert!(first.halves().is_none());
        let (second, third) = rest.halves().unwrap();
        assert_eq!((commits(&second), commits(&third)), (vec![20], vec![30]));
    }
}
