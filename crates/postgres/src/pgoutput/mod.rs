//! The output of `pgoutput`, read where it lies.
//!
//! ```text
//!  frame ──> Message::parse ──> Message<'a> ── Insert { new: Tuple<'a> } ──> cells() ──> Cell::Text(&'a [u8])
//!            every check                        every name, tuple and value is a slice of the frame
//! ```
//!
//! The invariant: whatever the bytes are, parsing ends with a message or an error, never with a panic, and it allocates
//! nothing. Counts are compared with the bytes that remain before they are believed. What was checked at the door is
//! iterated without failing: [`Tuple::cells`], [`Relation::columns`] and [`Truncate::relations`] return no `Result`.
//!
//! The formats are those of the PostgreSQL documentation, chapter "Logical Replication Message Formats"
//! (<https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html>), protocol versions 1 to 4:
//!
//! | version | server | adds |
//! |---|---|---|
//! | 1 | 10 | `B` `C` `O` `R` `Y` `I` `U` `D`, with 11 `T`, with 14 `M` and binary values |
//! | 2 | 14 | streamed blocks `S` … `E`, `c`, `A`; inside a block messages carry the xid |
//! | 3 | 15 | two-phase commit `b` `P` `K` `r` `p` |
//! | 4 | 16 | `A` with the LSN and the time of the abort, for parallel streaming |
//!
//! Flags and identity letters that these versions do not define are errors: a meaning we do not know cannot be applied.

mod error;
mod message;
mod reader;
mod relation;
mod tuple;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    time::{Duration, SystemTime},
};

pub use error::{DecodeError, Fault};
pub use message::{LogicalMessage, Message, Old, Prepared, Truncate};
pub use relation::{Column, Relation, ReplicaIdentity};
pub use tuple::{Cell, Cells, SavedTuple, Tuple};

/// A transaction id as the stream carries it: 32 bits, without its epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Xid(pub u32);

impl fmt::Display for Xid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The OID of a table on the source; rows name their table by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelationId(pub u32);

impl fmt::Display for RelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The OID of a data type on the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Oid(pub u32);

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A moment on the source's clock, in microseconds since 2000-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// 2000-01-01 in microseconds since 1970-01-01.
    const EPOCH: i64 = 946_684_800_000_000;

    /// Microseconds since 1970-01-01 UTC, held at the ends of the range.
    #[must_use]
    pub fn unix_micros(self) -> i64 {
        self.0.saturating_add(Self::EPOCH)
    }

    /// The moment as the system's clock type; `None` for a year that it cannot hold.
    #[must_use]
    pub fn system_time(self) -> Option<SystemTime> {
        let micros = self.unix_micros();
        let distance = Duration::from_micros(micros.unsigned_abs());
        if micros < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(distance)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(distance)
        }
    }
}
