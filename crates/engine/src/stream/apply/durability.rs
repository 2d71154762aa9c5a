//! What is on the target's disk.
//!
//! Commits are asynchronous. The target's WAL insert position is asked for with or after each; once the target has
//! flushed past that position, the source position of the commit may be acknowledged.

use std::collections::VecDeque;

use pgstream_postgres::Lsn;

use crate::mutants::{self, Mutant};

/// Commits that are not known to be flushed.
#[derive(Debug)]
pub struct Durability {
    /// (target WAL position after the commit, source position it covers), oldest first.
    waiting: VecDeque<(Lsn, Lsn)>,
    /// Source position of the last commit, as long as the target's WAL was not looked at since.
    unplaced: Option<Lsn>,
    durable: Lsn,
}

/// WAL insert and flush position of the target.
pub const POSITIONS: &str = "pg_current_wal_insert_lsn(), pg_current_wal_flush_lsn()";
/// The same of a target that cannot tell, where commits wait until they are flushed.
pub const NO_POSITIONS: &str = "'0/0'::pg_lsn, '0/0'::pg_lsn";

impl Durability {
    /// Everything up to `start` is durable.
    pub fn new(start: Lsn) -> Self {
        Self { waiting: VecDeque::new(), unplaced: None, durable: start }
    }

    /// A commit that covers the source up to `source`.
    pub fn committed(&mut self, source: Lsn) {
        self.unplaced = Some(source);
    }

    /// The target's WAL was at `inserted` after the commits, and flushed up to `flushed`. Returns the source position
    /// that is durable now.
    pub fn saw(&mut self, inserted: Lsn, flushed: Lsn) -> Lsn {
        match (self.unplaced.take(), self.waiting.back_mut()) {
            // Positions that become durable together are remembered once.
            (Some(source), Some(last)) if last.0 == inserted => last.1 = source,
            (Some(source), _) => self.waiting.push_back((inserted, source)),
            (None, _) => {}
        }
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
        self.unplaced.is_some() || !self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_durable_once_the_target_flushed_past_its_commit() {
        let mut durability = Durability::new(Lsn(1));
        durability.committed(Lsn(10));
        assert_eq!(durability.saw(Lsn(100), Lsn(99)), Lsn(1));
        durability.committed(Lsn(20));
        assert_eq!(durability.saw(Lsn(200), Lsn(100)), Lsn(10));
        assert!(durability.is_waiting());
        assert_eq!(durability.saw(Lsn(600), Lsn(500)), Lsn(20));
        assert!(!durability.is_waiting());
    }

    #[test]
    fn a_commit_is_not_durable_before_the_wal_was_looked_at_after_it() {
        let mut durability = Durability::new(Lsn(1));
        durability.committed(Lsn(10));
        assert!(durability.is_waiting());
        // As a statement sees it that commits only afterwards.
        assert_eq!(durability.saw(Lsn(100), Lsn(100)), Lsn(10));
        durability.committed(Lsn(20));
        assert!(durability.is_waiting());
        assert_eq!(durability.saw(Lsn(110), Lsn(105)), Lsn(10));
        assert_eq!(durability.saw(Lsn(130), Lsn(110)), Lsn(20));
    }
}
