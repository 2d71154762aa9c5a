//! What is on the target's disk.
//!
//! Commits are asynchronous; each notes the target's WAL insert position after it. Once the target has flushed past
//! that position, the source position of the commit may be acknowledged.

use std::collections::VecDeque;

use pgstream_postgres::Lsn;

use crate::mutants::{self, Mutant};

/// Commits that are not known to be flushed.
#[derive(Debug)]
pub struct Durability {
    /// (target WAL position after the commit, source position it covers), oldest first.
    waiting: VecDeque<(Lsn, Lsn)>,
    durable: Lsn,
}

/// WAL insert and flush position of the target.
pub const POSITIONS: &str = "SELECT pg_current_wal_insert_lsn(), pg_current_wal_flush_lsn()";

impl Durability {
    /// Everything up to `start` is durable.
    pub fn new(start: Lsn) -> Self {
        Self { waiting: VecDeque::new(), durable: start }
    }

    /// A commit that covers the source up to `source`; the target's WAL stood at `inserted` after it.
    pub fn committed(&mut self, inserted: Lsn, source: Lsn) {
        match self.waiting.back_mut() {
            // Positions that become durable together are remembered once.
            Some(last) if last.0 == inserted => last.1 = source,
            _ => self.waiting.push_back((inserted, source)),
        }
    }

    /// The target has flushed up to `flushed`. Returns the source position that is durable now.
    pub fn flushed(&mut self, flushed: Lsn) -> Lsn {
        while let Some(&(inserted, source)) = self.waiting.front() {
            if inserted > flushed && !mutants::is(Mutant::AckBeforeFlush) {
                break;
            }
            self.durable = source;
            self.waiting.pop_front();
        }
        self.durable
    }

    /// Whether commits are waiting to be flushed.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_durable_once_the_target_flushed_past_its_commit() {
        let mut durability = Durability::new(Lsn(1));
        durability.committed(Lsn(100), Lsn(10));
        durability.committed(Lsn(200), Lsn(20));
        assert_eq!(durability.flushed(Lsn(99)), Lsn(1));
        assert_eq!(durability.flushed(Lsn(100)), Lsn(10));
        assert!(durability.is_waiting());
        assert_eq!(durability.flushed(Lsn(500)), Lsn(20));
        assert!(!durability.is_waiting());
    }
}
