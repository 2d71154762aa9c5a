//! What the target remembers about its source: how far the stream was applied, under which snapshot each table was
//! copied, and who may write.
//!
//! The invariant: a position is only ever written in the transaction that holds the rows it covers.

pub mod ledger;
pub mod migrate;
pub mod progress;
pub mod triggers;
pub mod valve;

pub use triggers::enable_triggers;
