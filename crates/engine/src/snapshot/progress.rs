//! What a running copy tells its watcher.
//!
//! Counters are atomics that the copy loop bumps once per chunk; events are few (a handful per table), so the
//! channel between the two needs no bound.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use pgstream_postgres::TableName;
use tokio::sync::mpsc;

/// Stage of a run, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Catalogs, checks, snapshot.
    Preparing,
    /// Roles and memberships.
    Roles,
    /// Types, functions, tables.
    PreData,
    /// Rows, and each table's indexes as soon as its rows are in.
    Data,
    /// Index attachments and foreign keys.
    ForeignKeys,
    /// Triggers, policies, grants, comments.
    PostData,
    /// Sequences, materialized views, statistics.
    Finishing,
    /// The new database takes the old one's name.
    Swapping,
}

impl Phase {
    /// For people.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Roles => "roles",
            Self::PreData => "schema",
            Self::Data => "rows and indexes",
            Self::ForeignKeys => "foreign keys",
            Self::PostData => "triggers, policies, grants",
            Self::Finishing => "sequences and statistics",
            Self::Swapping => "swapping databases",
        }
    }
}

/// One table of the copy; counters move while it runs.
#[derive(Debug)]
pub struct TableProgress {
    /// Which table.
    pub name: TableName,
    /// Size on the source's disk, bytes: what the copied bytes are measured against, roughly.
    pub estimated_bytes: u64,
    bytes: AtomicU64,
    rows: AtomicU64,
}

impl TableProgress {
    pub(crate) fn new(name: TableName, estimated_bytes: u64) -> Self {
        Self { name, estimated_bytes, bytes: AtomicU64::new(0), rows: AtomicU64::new(0) }
    }

    /// Bytes copied so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Rows of finished parts.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    pub(crate) fn add_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Takes back what a failed attempt counted.
    pub(crate) fn take_back(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// What others have copied.
    pub(crate) fn set(&self, rows: u64, bytes: u64) {
        self.rows.store(rows, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn add_rows(&self, rows: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
    }
}

/// Something happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A stage began.
    Phase(Phase),
    /// What is going to be copied, and what was copied by an earlier run.
    Planned {
        /// Tables to copy, largest first.
        tables: Vec<Arc<TableProgress>>,
        /// Tables that are complete already.
        finished: usize,
    },
    /// The first part of a table began.
    TableStarted(Arc<TableProgress>),
    /// All rows of a table are committed.
    TableFinished(Arc<TableProgress>),
    /// A piece of schema work is done: how many of how many.
    Schema {
        /// Done in this stage.
        done: usize,
        /// Known in this stage.
        total: usize,
    },
    /// Something the user should know.
    Notice(String),
}

/// The copy's side: cheap to clone, never blocks.
#[derive(Debug, Clone)]
pub struct Progress {
    events: Option<mpsc::UnboundedSender<Event>>,
}

impl Progress {
    /// A handle and the stream of its events, which ends when the last handle is dropped.
    #[must_use]
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<Event>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { events: Some(sender) }, receiver)
    }

    /// Nobody watches.
    #[must_use]
    pub fn silent() -> Self {
        Self { events: None }
    }

    pub(crate) fn send(&self, event: Event) {
        if let Some(events) = &self.events {
            // A watcher that went away is no reason to stop copying.
            events.send(event).ok();
        }
    }

    pub(crate) fn phase(&self, phase: Phase) {
        tracing::info!(phase = phase.label(), "snapshot");
        self.send(Event::Phase(phase));
    }

    pub(crate) fn notice(&self, text: impl Into<String>) {
        let text = text.into();
        tracing::warn!("{text}");
        self.send(Event::Notice(text));
    }
}
