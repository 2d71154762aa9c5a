//! What the reader hands to the applier, and what it hears back.

use std::sync::Arc;

use pgstream_postgres::{Lsn, pgoutput::Timestamp};

use super::{
    batch::{Batch, RelIndex},
    relation::SourceRelation,
};

/// One piece of work.
pub enum Work {
    /// Changes.
    Chunk(Box<Chunk>),
    /// Nothing but a position: the source has no changes before it.
    Idle(Lsn),
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

    /// Commit record of the transaction that the change at `index` belongs to.
    pub fn commit_of(&self, index: usize) -> Lsn {
        let after = self.marks.partition_point(|mark| mark.first <= index);
        after.checked_sub(1).and_then(|i| self.marks.get(i)).map_or(Lsn::ZERO, |mark| mark.commit)
    }
}

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
