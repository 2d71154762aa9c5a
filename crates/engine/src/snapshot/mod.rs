//! The copy: roles, schema and rows of one database, resumable at every table.
//!
//! ```text
//!  source ── fence ── lock, export snapshot ─┬─ pg_dump ─> roles ─> pre-data ──────────┐
//!                                            └─ COPY lanes ──> rows + ledger row, one tx ──> indexes of that table
//!                                                                                          │ all tables
//!             swap databases <── sequences, views, statistics <── triggers, grants <── foreign keys
//! ```
//! Invariant: what the target's ledger calls complete is complete, under the one snapshot that is written beside it.
//! Everything is recorded in the transaction that does it, so a run that dies anywhere is continued by the next.

mod catalog;
mod children;
mod coordinate;
mod copy;
mod database;
mod error;
mod exporter;
mod fence;
mod finish;
mod foreign_keys;
#[doc(hidden)]
pub mod hostile;
mod lanes;
mod ledger;
mod marks;
mod offered;
mod plan;
mod prepare;
mod progress;
mod publish;
mod restore;
mod roles;
mod rounds;
mod run;
mod script;
mod select;
mod take;
mod target;
mod texts;
mod toc;
mod tools;
mod units;
mod worker;
mod workers;

pub use children::WorkerCommand;
pub use coordinate::Copiers;
pub use error::Error;
pub use fence::Fence;
pub use progress::{Event, Phase, Progress, TableProgress};
pub(crate) use roles::is_managed;
pub use run::run;
pub use tools::tools_for;
pub use worker::{Worked, work};

use std::path::PathBuf;

use pgstream_config::pipeline::{PostgresTarget, Retry, Snapshot as Settings};
use pgstream_postgres::{Lsn, Server};

/// What is to be copied.
#[derive(Clone)]
pub struct Job {
    /// The database that is read; must be a primary.
    pub source: Server,
    /// The database that is filled.
    pub target: Server,
    /// Under which name the target remembers it.
    pub ledger_source: LedgerSource,
    /// What the user asked for.
    pub settings: Settings,
    /// How the target is written.
    pub target_settings: PostgresTarget,
    /// Retries of one part after transient errors.
    pub retry: Retry,
    /// When it exists, the rows that are copied are those that it publishes.
    pub publication: Option<String>,
    /// Transactions that must have ended before the snapshot is taken; needed once, after a slot was created.
    pub created_after: Option<Fence>,
    /// Who copies the rows.
    pub copiers: Copiers,
    /// Directory of `pg_dump` and `pg_restore`; searched before `PGSTREAM_PG_BIN`, `PATH` and the usual places.
    pub tools: Option<PathBuf>,
}

/// Under which name the target remembers a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerSource {
    /// A replication slot: the stream goes on from the copy.
    Slot(String),
    /// No slot: `<system identifier>/<database>`.
    Database,
}

/// What a run did.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Tables copied by this run.
    pub tables: usize,
    /// Tables that an earlier run had copied.
    pub tables_before: usize,
    /// Rows copied by this run.
    pub rows: u64,
    /// Bytes of COPY data moved by this run.
    pub bytes: u64,
    /// WAL position of the snapshot of this run; none when nothing was left to copy.
    pub snapshot_lsn: Option<Lsn>,
    /// What the user should know: left out, kept, not followed, not copied.
    pub notices: Vec<String>,
}
