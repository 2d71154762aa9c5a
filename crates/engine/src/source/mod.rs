//! What this program keeps on the source, and nothing else: made by [`init()`], shown by [`status()`], removed by [`destroy()`].
//!
//! ```text
//!            init                                                          destroy
//!  checks ── all problems at once, nothing written before they are gone      ▲ schema and tables (only ours)
//!  schema    pgstream: schema_log, table_ids, xid_serial, our own records    │ replica identities put back
//!  identity  REPLICA IDENTITY FULL where UPDATE and DELETE would fail        │
//!  publication  pgstream_<db>                                                │ publication
//!  slot      pgstream_<db>_slot, then its record                             │ slot
//!     └───────────────────────────────────────────────────────────────────>──┘
//! ```
//! The invariant is the order. A table is published only after it has a usable replica identity, because from that
//! moment the *user's own* UPDATE would fail without one; the slot is created only after the publication, because
//! older changes could not be decoded; `destroy` goes the other way. Whatever is interrupted is finished by running it
//! again.

mod capture;
mod caught_up;
mod check;
pub mod destroy;
mod error;
mod identity;
mod init;
mod lock;
mod migrate;
mod names;
pub mod publication;
mod report;
pub(crate) mod sequences;
pub mod slot;
mod status;
mod tables;

pub use caught_up::{CaughtUp, caught_up};
pub use check::preflight;
pub use destroy::{abandon, destroy};
pub use error::{Error, Problem};
pub use init::{InitReport, InitSettings, init};
pub use names::{Names, default_names};
pub use report::{Action, Object, Part, Step};
pub use status::{Finding, ObjectsStatus, PublicationStatus, SlotStatus, Status, StatusSettings, TargetStatus, status};

/// The schema of everything that we keep.
pub const SCHEMA: &str = "pgstream";
