//! Faults under load: whatever happens to the replicator, the servers and the way between them, the target is exact.
//!
//! ```text
//!  load ──> source ──leg──> pgstream-aws ──leg──> target <── sum of the balances, all the time
//!            ▲        ▲          ▲          ▲        ▲
//!            └────────┴── faults, by a seed ┴────────┘       after each: the stream goes on by itself
//!                                                            at the end: equal digests, the load's ledger
//! ```
//! [`storm`] draws transient faults at random; [`permanent`] are those that only an operator can mend: the named error,
//! nothing applied after it, and what the message says brings the pipeline back.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "../e2e/replicator.rs"]
#[expect(dead_code, reason = "the end-to-end tests need more of it")]
mod replicator;

mod edges;
#[cfg(feature = "mutants")]
mod failpoints;
mod permanent;
mod promotion;
// Full disks are made by preloading a library, which is done in the way of Linux.
#[cfg(target_os = "linux")]
mod fault;
#[cfg(target_os = "linux")]
mod inflict;
#[cfg(target_os = "linux")]
mod record;
#[cfg(target_os = "linux")]
mod rig;
#[cfg(target_os = "linux")]
mod storm;
