//! What happens to the changes of each relation that the walsender describes.

use pgstream_postgres::Lsn;

use super::{
    batch::{Kind, RelIndex},
    work::Chunk,
};
use crate::target::ledger::Copied;

/// What happens to the changes of a relation.
#[derive(Debug, Clone)]
pub enum Follow {
    /// Left out by the configuration, or our own bookkeeping.
    Ignored,
    /// The log of schema changes.
    SchemaLog,
    /// Applied, unless the copy already holds them.
    Rows(Followed),
    /// Rows of a table that its own transaction describes later: it will be copied with them.
    Unborn(Followed),
}

/// A relation version whose changes are applied.
#[derive(Debug, Clone)]
pub struct Followed {
    /// Its place among relation versions.
    pub index: RelIndex,
    /// How many columns it has.
    pub columns: usize,
    /// What a copy of it holds.
    pub copied: Option<Copied>,
    /// Number of the chunk that last held a change of it.
    pub touched: Option<u64>,
}

impl Followed {
    /// Whether the copy holds the changes of this transaction.
    pub fn is_copied(&self, xid: u32, commit: Lsn) -> bool {
        self.copied.as_ref().is_some_and(|copied| copied.holds(xid, commit))
    }

    /// Whether the change has as many values as the relation has columns.
    pub fn fits(&self, kind: Kind<'_>) -> bool {
        let (old, new) = match kind {
            Kind::Insert(new) => (None, Some(new)),
            Kind::Update { old, new } => (old, Some(new)),
            Kind::Delete(old) => (Some(old), None),
        };
        old.is_none_or(|old| old.tuple().len() == self.columns) && new.is_none_or(|new| new.len() == self.columns)
    }

    /// Takes note of a change in this chunk.
    pub fn touch(&mut self, chunk: &mut Chunk, number: u64) {
        if self.touched.replace(number) != Some(number) {
            chunk.touched.push((self.index, chunk.batch.len()));
        }
    }
}
