//! What can keep the source from being prepared or cleaned, and what to type next.

use std::{error, fmt};

use miette::Diagnostic;
use pgstream_postgres::Class;

/// One reason why a command would not work, with its remedy. Problems are found together and reported together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Stable name, e.g. `source::wal_level`.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub fix: String,
}

impl Problem {
    pub(crate) fn new(code: &'static str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { code, message: message.into(), fix: fix.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl error::Error for Problem {}

impl Diagnostic for Problem {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(&self.fix))
    }
}

/// A failure of `init`, `destroy` or `status`.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum Error {
    /// The server failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Postgres(#[from] pgstream_postgres::Error),

    /// The server is not as it must be; nothing was changed.
    #[error("{server} is not ready: {}, nothing was changed", count(problems.len()))]
    #[diagnostic(code(source::refused))]
    Refused {
        /// The source.
        server: String,
        /// Everything that is in the way.
        #[related]
        problems: Vec<Problem>,
    },

    /// The configured name cannot be a slot's.
    #[error("`{slot}` cannot be the name of a replication slot")]
    #[diagnostic(code(source::slot_name), help("use 1 to 63 of the characters a-z, 0-9 and _"))]
    SlotName {
        /// As configured.
        slot: String,
    },

    /// A table could not be locked for long enough to change its replica identity or to publish it.
    #[error("{doing} on {server}: {table} is in use{}", .holders.as_deref().map(|h| format!(" by {h}")).unwrap_or_default())]
    #[diagnostic(
        code(source::table_busy),
        help(
            "wait for these sessions to end their transactions, or end them with `SELECT pg_terminate_backend(<pid>)`, \
             then run this again: it goes on where it stopped"
        )
    )]
    TableBusy {
        /// The source.
        server: String,
        /// What was being done, in words.
        doing: String,
        /// The table or tables.
        table: String,
        /// The sessions in the way: pid, application, since when.
        holders: Option<String>,
    },

    /// The source changed between the plan that was shown and its execution.
    #[error("{server} is not as it was when the plan was made: nothing was changed")]
    #[diagnostic(code(source::plan_changed), help("run it again to see the new plan"))]
    PlanChanged {
        /// The source.
        server: String,
    },

    /// Tables without identity appear faster than they can be given one.
    #[error("tables without a replica identity keep appearing on {server}: {tables}")]
    #[diagnostic(code(source::unstable_schema), help("pause DDL (CREATE TABLE, DROP CONSTRAINT) and run this again"))]
    UnstableSchema {
        /// The source.
        server: String,
        /// The last ones seen.
        tables: String,
    },

    /// The slot is being read.
    #[error("replication slot \"{slot}\" on {server} is in use by process {pid}")]
    #[diagnostic(
        code(source::slot_active),
        help("stop the replicator that reads it (`pgstream-aws run`), then run this again")
    )]
    SlotActive {
        /// The source.
        server: String,
        /// The slot.
        slot: String,
        /// The walsender.
        pid: i32,
    },

    /// The target was waited for, in vain.
    #[error("{target} is not in step after {} s{}", waited.as_secs(), .behind.map(|b| format!(": {b} bytes of WAL behind")).unwrap_or_default())]
    #[diagnostic(
        code(status::not_caught_up),
        help(
            "see with `pgstream-aws status` whether somebody reads the slot; if the distance shrinks, wait again, with a longer --timeout"
        )
    )]
    NotCaughtUp {
        /// The target.
        target: String,
        /// For how long.
        waited: std::time::Duration,
        /// How far it is; `None` before it has a position.
        behind: Option<u64>,
    },

    /// The caller asked to stop.
    #[error("stopped before it was complete")]
    #[diagnostic(code(source::cancelled), help("run it again: it goes on where it stopped"))]
    Cancelled,
}

impl Error {
    /// Whether it may be for want of a right, and nothing here says which.
    #[must_use]
    pub fn may_lack_rights(&self) -> bool {
        matches!(self, Self::Postgres(error) if error.is_permission_denied())
    }

    /// What kind of failure this is.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Postgres(error) => error.class(),
            Self::SlotName { .. } => Class::Config,
            Self::TableBusy { .. }
            | Self::SlotActive { .. }
            | Self::UnstableSchema { .. }
            | Self::PlanChanged { .. }
            | Self::NotCaughtUp { .. }
            | Self::Cancelled => Class::Transient,
            Self::Refused { .. } => Class::Setup,
        }
    }
}

fn count(problems: usize) -> String {
    if problems == 1 { "1 problem".to_owned() } else { format!("{problems} problems") }
}

/// How many names a message spells out.
const LISTED: usize = 10;

/// `a, b and 3 more`.
pub(crate) fn list<T: fmt::Display>(names: &[T]) -> String {
    let shown = names.iter().take(LISTED).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(LISTED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_cut() {
        assert_eq!(list(&["a", "b"]), "a, b");
        assert!(list(&(0..13).collect::<Vec<_>>()).ends_with("9 and 3 more"));
    }
}
