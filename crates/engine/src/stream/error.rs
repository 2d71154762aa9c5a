//! Why a stream stops.

use std::time::Duration;

use pgstream_postgres::{Class, Lsn, TableName};

use crate::target::{ledger::LedgerError, progress::ClaimError};

/// A stream stopped. What is transient is retried by [`super::run`]; the rest reaches the operator.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// A server failed or refused.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Postgres(#[from] pgstream_postgres::Error),
    /// Another replicator is at work on the target.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Claim(#[from] ClaimError),
    /// The ledger of copied tables cannot be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Ledger(#[from] LedgerError),
    /// The slot does not exist.
    #[error("replication slot {slot} does not exist on the source")]
    #[diagnostic(
        code(stream::slot_missing),
        help(
            "changes since it was dropped cannot be had any more. If it never existed, run `pgstream-aws init`; otherwise start over: `pgstream-aws init`, then a new snapshot (`pgstream-aws run --reset`)"
        )
    )]
    SlotMissing {
        /// Slot name.
        slot: String,
    },
    /// The slot was dropped on purpose.
    #[error("the safety valve dropped replication slot {slot} at {since}: {reason}")]
    #[diagnostic(
        code(stream::slot_dropped),
        help(
            "changes since then cannot be had any more: make room on the source, then `pgstream-aws init` and a new snapshot into an empty target"
        )
    )]
    SlotDropped {
        /// Slot name.
        slot: String,
        /// When, by the target's clock.
        since: String,
        /// Why.
        reason: String,
    },
    /// The slot is not one that this stream can read.
    #[error("replication slot {slot} {problem}")]
    #[diagnostic(
        code(stream::slot_unusable),
        help("choose another name with `replication_slot`, or drop that slot if nothing uses it")
    )]
    SlotUnusable {
        /// Slot name.
        slot: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The server removed WAL that the slot needed.
    #[error("replication slot {slot} is lost: the source removed WAL that it still needed{reason}")]
    #[diagnostic(
        code(stream::slot_lost),
        help(
            "the changes in between are gone. Run `pgstream-aws destroy --slot-only`, `pgstream-aws init`, then a new snapshot (`pgstream-aws run --reset`); raise max_slot_wal_keep_size or watch the slot so that it does not happen again"
        )
    )]
    SlotLost {
        /// Slot name.
        slot: String,
        /// `: invalidation reason`, or empty.
        reason: String,
    },
    /// The slot has moved past what the target holds.
    #[error(
        "replication slot {slot} stands at {confirmed}, but the target holds changes only up to {applied}: the changes in between are gone"
    )]
    #[diagnostic(
        code(stream::slot_ahead),
        help(
            "the slot was recreated or advanced, or something else reads it. Nothing was applied. Take a new snapshot (`pgstream-aws run --reset`), with a slot that only this stream reads"
        )
    )]
    SlotAhead {
        /// Slot name.
        slot: String,
        /// `confirmed_flush_lsn` of the slot.
        confirmed: Lsn,
        /// Progress of the target.
        applied: Lsn,
    },
    /// The source is another server than the one the target was filled from.
    #[error("the source is another database system ({actual}) than the one this target follows ({expected})")]
    #[diagnostic(
        code(stream::other_system),
        help(
            "a restored, green or recreated server is a different history even under the same name. Point `source.postgres.url` back, or start over with an empty target"
        )
    )]
    OtherSystem {
        /// System identifier on record.
        expected: String,
        /// System identifier of the server.
        actual: String,
    },
    /// The source was promoted from a standby that lacked what the target already holds.
    #[error(
        "the source is on timeline {actual}, which left timeline {expected} at {switch}, before {applied} where the target stands"
    )]
    #[diagnostic(
        code(stream::other_timeline),
        help("the target holds changes that the promoted source never had. Take a new snapshot into an empty target")
    )]
    OtherTimeline {
        /// Timeline on record.
        expected: u32,
        /// Timeline of the server.
        actual: u32,
        /// Where the history forked.
        switch: Lsn,
        /// Progress of the target.
        applied: Lsn,
    },
    /// The source was restored to an earlier point.
    #[error("the source's WAL ends at {end}, before {applied} where the target stands: it went back in time")]
    #[diagnostic(
        code(stream::source_went_back),
        help(
            "the target holds changes that the source has no more: was it restored from a snapshot or a backup? Take a new snapshot into an empty target"
        )
    )]
    SourceWentBack {
        /// End of the source's WAL.
        end: Lsn,
        /// Progress of the target.
        applied: Lsn,
    },
    /// The publication is gone.
    #[error("publication {publication} does not exist on the source")]
    #[diagnostic(
        code(stream::publication_missing),
        help(
            "it was dropped while the slot kept changes, which are not decoded without it. Start over: `pgstream-aws destroy --slot-only`, `pgstream-aws init`, then a new snapshot (`pgstream-aws run --reset`)"
        )
    )]
    PublicationMissing {
        /// Publication name.
        publication: String,
    },
    /// The copy that this stream continues is not complete.
    #[error("the snapshot for slot {slot} is not complete")]
    #[diagnostic(
        code(stream::snapshot_incomplete),
        help(
            "run `pgstream-aws snapshot` with the same configuration, or `run` with mode snapshot_and_replication; it goes on where it stopped"
        )
    )]
    SnapshotIncomplete {
        /// Slot name.
        slot: String,
    },
    /// A published table is not on the target.
    #[error("table {table} is not on the target (first change at {lsn})")]
    #[diagnostic(
        code(stream::table_missing),
        help(
            "create it on the target with the source's definition and copy it (`pgstream-aws snapshot --tables`), or leave it out with modifiers.filter.exclude_tables; then start again, nothing is lost meanwhile"
        )
    )]
    TableMissing {
        /// The table.
        table: TableName,
        /// Where the stream stands.
        lsn: Lsn,
    },
    /// A table differs between source and target.
    #[error("table {table} has another shape on the target: {}", differences.join("; "))]
    #[diagnostic(
        code(stream::shape),
        help(
            "bring the target table to the source's definition, then start again; nothing is lost meanwhile. On the target: {}",
            repair.join(" ")
        )
    )]
    Shape {
        /// The table.
        table: TableName,
        /// What differs, one item each.
        differences: Vec<String>,
        /// Statements that end the differences.
        repair: Vec<String>,
    },
    /// A trigger or rule on the target would change what is applied.
    #[error("{} on the target would fire for replicated rows", objects.join(", "))]
    #[diagnostic(
        code(stream::triggers),
        help(
            "a fired trigger or rule doubles or alters rows that already come from the source. Set target.postgres.disable_triggers: true (the role must be allowed to set session_replication_role; on RDS: rds_superuser); or make the role a member of the tables' owner, so that it can disable triggers itself until cutover (rules it never does: ALTER TABLE … DISABLE RULE)"
        )
    )]
    Triggers {
        /// Trigger or rule, with its table.
        objects: Vec<String>,
    },
    /// A change does not fit the target's rows.
    #[error("{what} of {table} in the transaction that ends at {lsn}: {problem}")]
    #[diagnostic(
        code(stream::conflict),
        help(
            "the target differs from the source at this row: something else writes to the target, or it was changed by hand. Nothing of this transaction was applied. Mend the row and start again, or copy the table again"
        )
    )]
    Conflict {
        /// `INSERT`, `UPDATE`, `DELETE` or `TRUNCATE`.
        what: &'static str,
        /// The table.
        table: TableName,
        /// Commit LSN of the source transaction.
        lsn: Lsn,
        /// What happened, without row values.
        problem: String,
        /// The server's error, when it raised one.
        #[source]
        source: Option<Box<pgstream_postgres::Error>>,
    },
    /// A deferred constraint of the target refused the commit.
    #[error("the target refused to commit the transactions up to {lsn}: {source}")]
    #[diagnostic(
        code(stream::deferred),
        help(
            "a constraint of the target does not hold although the source's did: something else writes to the target, or the constraint is the target's own. Nothing of these transactions was applied"
        )
    )]
    Deferred {
        /// End of the last one.
        lsn: Lsn,
        /// What the server said.
        source: Box<pgstream_postgres::Error>,
    },
    /// A published column came to hold object numbers of the source, whose binary form means nothing elsewhere.
    #[error("a column of an object-number type was added: its values are read as text from here on")]
    #[diagnostic(code(stream::text_needed))]
    TextNeeded,
    /// The source could not describe a schema change.
    #[error("schema change {id} ({command}) at {lsn} could not be described on the source: {problem}")]
    #[diagnostic(
        code(stream::ddl_capture),
        help(
            "make the same change on the target by hand, then `pgstream-aws ddl skip {id}` and start again; nothing is lost meanwhile."
        )
    )]
    Capture {
        /// Its number in pgstream.schema_log.
        id: i64,
        /// Command tag.
        command: String,
        /// Where.
        lsn: Lsn,
        /// What the source said.
        problem: String,
    },
    /// A row of the log is not one that this version writes.
    #[error("the schema change at {lsn} cannot be read: {problem}")]
    #[diagnostic(
        code(stream::ddl_record),
        help("pgstream.schema_log was written by another version or by hand: update pgstream-aws and start again")
    )]
    DdlRecord {
        /// Where.
        lsn: Lsn,
        /// What is wrong with it.
        problem: String,
    },
    /// An object that nobody replays was changed.
    #[error("schema change {id} ({command}) at {lsn} touches {object}, which is not replayed")]
    #[diagnostic(
        code(stream::ddl_uncovered),
        help(
            "docs/ddl.md lists what is replayed. Make the change on the target by hand, then `pgstream-aws ddl skip {id}` and start again; nothing is lost meanwhile"
        )
    )]
    DdlUncovered {
        /// Its number in pgstream.schema_log.
        id: i64,
        /// Command tag.
        command: String,
        /// Where.
        lsn: Lsn,
        /// The object, with its class.
        object: String,
    },
    /// The target refused a statement of a schema change.
    #[error("schema change {id} ({command}) at {lsn} is refused by the target: {source}")]
    #[diagnostic(
        code(stream::ddl_refused),
        help(
            "the target refused: {statement}\nNothing of this transaction was applied. Mend the cause (a missing privilege, an object that differs from the source's) and start again; or make the change by hand, then `pgstream-aws ddl skip {id}`"
        )
    )]
    DdlRefused {
        /// Its number in pgstream.schema_log.
        id: i64,
        /// Command tag.
        command: String,
        /// Where.
        lsn: Lsn,
        /// What was to be run.
        statement: String,
        /// What the server said.
        source: Box<pgstream_postgres::Error>,
    },
    /// Another replicator took over.
    #[error("another replicator took over slot {slot} on the target")]
    #[diagnostic(code(stream::fenced), help("only one may run; this one applied nothing after the other started"))]
    Fenced {
        /// Slot name.
        slot: String,
    },
    /// The server sent something that makes no sense.
    #[error("the source sent an unexpected message: {problem}")]
    #[diagnostic(
        code(stream::protocol),
        help("nothing was applied from it. If it happens again, it is a defect: report it with the server's version")
    )]
    Protocol {
        /// What.
        problem: String,
    },
    /// Nothing came from the source, not even when asked.
    #[error("the source has been silent for {seconds} s")]
    #[diagnostic(code(stream::silent))]
    Silent {
        /// For how long.
        seconds: u64,
    },
    /// A step of the opening took too long, or its answer was lost.
    #[error("the stream could not be opened within {} s", after.as_secs())]
    #[diagnostic(
        code(stream::not_opened),
        help("look for locks on schema pgstream of the target, and at the network; it is tried again by itself")
    )]
    NotOpened {
        /// How long was waited.
        after: Duration,
    },
    /// A local file or pipe failed.
    #[error("writing changes to standard output: {0}")]
    #[diagnostic(code(stream::stdout))]
    Stdout(#[source] std::io::Error),
    /// The two clocks of retrying ran out.
    #[error("gave up after {tries} tries")]
    #[diagnostic(
        code(stream::retries),
        help("raise or remove retry_policy limits, or mend the cause; the stream goes on where it stopped")
    )]
    GaveUp {
        /// Tries made.
        tries: usize,
        /// The last failure.
        #[source]
        last: Box<Error>,
    },
}

impl Error {
    /// Whether it may be for want of a right.
    #[must_use]
    pub fn may_lack_rights(&self) -> bool {
        match self {
            Self::Postgres(error)
            | Self::Claim(ClaimError::Postgres(error))
            | Self::Ledger(LedgerError::Postgres(error)) => error.is_permission_denied(),
            Self::GaveUp { last, .. } => last.may_lack_rights(),
            _ => false,
        }
    }

    /// What kind of failure this is.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Postgres(error) | Self::Claim(ClaimError::Postgres(error)) => error.class(),
            Self::Ledger(LedgerError::Postgres(error)) => error.class(),
            Self::SlotLost { .. }
            | Self::SlotAhead { .. }
            | Self::SlotMissing { .. }
            | Self::SlotDropped { .. }
            | Self::OtherSystem { .. }
            | Self::OtherTimeline { .. }
            | Self::SourceWentBack { .. } => Class::Lost,
            Self::Claim(ClaimError::Taken { .. })
            | Self::Ledger(_)
            | Self::SlotUnusable { .. }
            | Self::PublicationMissing { .. }
            | Self::SnapshotIncomplete { .. }
            | Self::TableMissing { .. }
            | Self::Shape { .. }
            | Self::Triggers { .. }
            | Self::Fenced { .. }
            | Self::Capture { .. }
            | Self::DdlRecord { .. }
            | Self::DdlUncovered { .. } => Class::Setup,
            Self::DdlRefused { source, .. } => match source.class() {
                Class::Transient => Class::Transient,
                _ => Class::Setup,
            },
            Self::Silent { .. } | Self::NotOpened { .. } | Self::TextNeeded => Class::Transient,
            Self::Conflict { .. } | Self::Deferred { .. } => Class::Data,
            Self::Protocol { .. } => Class::Bug,
            Self::Stdout(_) => Class::Setup,
            Self::GaveUp { last, .. } => last.class(),
        }
    }
}
