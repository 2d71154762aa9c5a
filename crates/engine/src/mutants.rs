//! Defects and deaths on purpose: they show that the tests would notice.
//!
//! ```text
//!  PGSTREAM_MUTANT=progress_apart     one guarantee is broken      ──> a test must fail      (`make mutants`)
//!  PGSTREAM_FAILPOINT=mid_copy:3      the third time, abort here   ──> the next start must go on exactly
//! ```
//! Both exist with the feature `mutants` only, which an optimised build refuses. Without it every question is answered at
//! compile time, and nothing of this is left.

#[cfg(all(feature = "mutants", not(debug_assertions)))]
compile_error!("the feature `mutants` breaks guarantees on purpose: it is for tests only");

/// A guarantee that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// What was read is acknowledged, whatever the target has.
    AckBeforeCommit,
    /// What is committed is acknowledged before it is on the target's disk.
    AckBeforeFlush,
    /// The end of the WAL is acknowledged while changes are on their way.
    AckInFlight,
    /// Rows commit, then the progress by itself.
    ProgressApart,
    /// The progress commits, then the rows.
    ProgressFirst,
    /// The stream starts where the slot stands instead of where the target does.
    StartAtSlot,
    /// A statement may change any number of rows.
    AnyRowCount,
    /// A copy is taken to lack the last transaction that it holds.
    SnapshotOffByOne,
    /// Every transaction that is not younger than the copy is taken to be in it, also one that ran on.
    RunningSeen,
    /// A table is recorded as copied before it is.
    LedgerFirst,
    /// A worker commits that it has a part before it has the rows.
    ClaimApart,
    /// A worker reads what is there now instead of what the coordinator's snapshot shows.
    OwnSnapshot,
    /// Nobody asks whether another replicator is at work.
    NoLock,
    /// A replicator that lost its claim commits on.
    NoFence,
    /// Merging changes forgets that the row was deleted in between.
    ForgottenDelete,
    /// Deletes that follow other changes of the row are left out.
    LostDelete,
    /// A value that the update does not carry becomes null.
    UnchangedIsNull,
    /// A transaction is committed in pieces.
    SplitTransaction,
    /// A slot that is ahead of the target is followed.
    SlotAhead,
    /// Another system is followed.
    OtherSystem,
    /// Nobody asks for the publication.
    NoPublication,
}

/// A place where the process can be made to die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failpoint {
    /// Rows of a table are on their way.
    MidCopy,
    /// The rows of a table are in, its entry in the ledger is not.
    BeforeLedger,
    /// Both are in, nothing is committed.
    AfterLedger,
    /// The copy of a part is committed.
    Copied,
    /// Claimed, nothing streamed.
    Claimed,
    /// Rows are applied, the progress is not written.
    Applied,
    /// Both are in, nothing is committed.
    Advanced,
    /// Committed, nothing acknowledged.
    Committed,
    /// Acknowledged.
    Acknowledged,
    /// A connection broke, the next one is to be made.
    Reconnecting,
}

#[cfg(not(feature = "mutants"))]
mod chosen {
    use super::{Failpoint, Mutant};

    /// Whether this guarantee is broken.
    pub(crate) const fn is(_: Mutant) -> bool {
        false
    }

    /// Dies here if that was asked for.
    pub(crate) const fn reached(_: Failpoint) {}
}

#[cfg(feature = "mutants")]
mod chosen {
    use std::sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    };

    use super::{Failpoint, Mutant};

    static MUTANT: LazyLock<Option<Mutant>> = LazyLock::new(|| chosen("PGSTREAM_MUTANT", Mutant::named));
    static FAILPOINT: LazyLock<Option<(Failpoint, u64)>> =
        LazyLock::new(|| chosen("PGSTREAM_FAILPOINT", Failpoint::counted));
    static REACHED: AtomicU64 = AtomicU64::new(0);

    /// Whether this guarantee is broken.
    pub(crate) fn is(mutant: Mutant) -> bool {
        *MUTANT == Some(mutant)
    }

    /// Dies here if that was asked for.
    pub(crate) fn reached(point: Failpoint) {
        if let Some((chosen, nth)) = *FAILPOINT
            && chosen == point
            && REACHED.fetch_add(1, Ordering::Relaxed) + 1 == nth
        {
            std::process::abort();
        }
    }

    /// A name that means nothing would test nothing.
    fn chosen<T>(variable: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let value = std::env::var(variable).ok()?;
        let parsed = parse(&value);
        assert!(parsed.is_some(), "{variable}={value} is not known");
        parsed
    }

    impl Mutant {
        fn named(name: &str) -> Option<Self> {
            Some(match name {
                "ack_before_commit" => Self::AckBeforeCommit,
                "ack_before_flush" => Self::AckBeforeFlush,
                "ack_in_flight" => Self::AckInFlight,
                "progress_apart" => Self::ProgressApart,
                "progress_first" => Self::ProgressFirst,
                "start_at_slot" => Self::StartAtSlot,
                "any_row_count" => Self::AnyRowCount,
                "snapshot_off_by_one" => Self::SnapshotOffByOne,
                "running_seen" => Self::RunningSeen,
                "ledger_first" => Self::LedgerFirst,
                "claim_apart" => Self::ClaimApart,
                "own_snapshot" => Self::OwnSnapshot,
                "no_lock" => Self::NoLock,
                "no_fence" => Self::NoFence,
                "forgotten_delete" => Self::ForgottenDelete,
                "lost_delete" => Self::LostDelete,
                "unchanged_is_null" => Self::UnchangedIsNull,
                "split_transaction" => Self::SplitTransaction,
                "slot_ahead" => Self::SlotAhead,
                "other_system" => Self::OtherSystem,
                "no_publication" => Self::NoPublication,
                _ => return None,
            })
        }
    }

    impl Failpoint {
        /// `name`, or `name:n` for the n-th time.
        fn counted(text: &str) -> Option<(Self, u64)> {
            let (name, nth) = text.split_once(':').unwrap_or((text, "1"));
            let point = match name {
                "mid_copy" => Self::MidCopy,
                "before_ledger" => Self::BeforeLedger,
                "after_ledger" => Self::AfterLedger,
                "copied" => Self::Copied,
                "claimed" => Self::Claimed,
                "applied" => Self::Applied,
                "advanced" => Self::Advanced,
                "committed" => Self::Committed,
                "acknowledged" => Self::Acknowledged,
                "reconnecting" => Self::Reconnecting,
                _ => return None,
            };
            Some((point, nth.parse().ok()?))
        }
    }
}

pub(crate) use chosen::{is, reached};
