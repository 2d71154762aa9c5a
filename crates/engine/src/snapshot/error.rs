//! What can stop a copy, and what to type next.

mod tools;

use std::path::PathBuf;

use miette::Diagnostic;
use pgstream_postgres::Class;

/// A failure of the copy.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum Error {
    /// A server failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Postgres(#[from] pgstream_postgres::Error),

    /// The copy was asked to stop.
    #[error("the snapshot was stopped")]
    #[diagnostic(code(snapshot::cancelled), help("run it again: finished tables are not copied again"))]
    Cancelled,

    /// The source is a standby.
    #[error("{server} is in recovery: a snapshot is exact only on the primary")]
    #[diagnostic(
        code(snapshot::source_in_recovery),
        help("use the writer's endpoint (not a `-ro-` or replica endpoint) as source")
    )]
    SourceInRecovery {
        /// The source.
        server: String,
    },

    /// The source is too old to be copied.
    #[error("{server} is PostgreSQL {major}; {needed} or newer is needed")]
    #[diagnostic(code(snapshot::source_too_old), help("upgrade the source server first"))]
    SourceTooOld {
        /// The source.
        server: String,
        /// Its major version.
        major: u32,
        /// The oldest that works.
        needed: u32,
    },

    /// The slot that the copy is for does not exist.
    #[error("replication slot \"{slot}\" does not exist on {server}")]
    #[diagnostic(code(snapshot::slot_missing), help("run `pgstream-aws init` first"))]
    SlotMissing {
        /// The slot.
        slot: String,
        /// The source.
        server: String,
    },

    /// The publication that the copy is for does not exist.
    #[error("publication \"{publication}\" does not exist on {server}")]
    #[diagnostic(code(snapshot::publication_missing), help("run `pgstream-aws init` first"))]
    PublicationMissing {
        /// The publication.
        publication: String,
        /// The source.
        server: String,
    },

    /// The schema changed between two runs of one copy.
    #[error("the source's schema changed while the copy was interrupted ({})", commands.join(", "))]
    #[diagnostic(
        code(snapshot::schema_changed),
        help(
            "what was copied before has the old schema, what is left has the new one. Start over with `--reset`, which builds a new database beside and swaps it in at the end"
        )
    )]
    SchemaChanged {
        /// Command tags.
        commands: Vec<String>,
    },
    /// The target was filled from another cluster under the same name.
    #[error(
        "the target's progress for \"{slot}\" belongs to system {recorded}, but the source is system {found}: \
         another history"
    )]
    #[diagnostic(
        code(snapshot::other_history),
        help(
            "the source was replaced (restore, blue/green, another server). Start over with an empty target, \
             or with `clean_target_db: true`"
        )
    )]
    OtherHistory {
        /// Slot or ledger name.
        slot: String,
        /// System identifier on record.
        recorded: String,
        /// System identifier of the source.
        found: String,
    },

    /// The slot has moved past what the target has.
    #[error("slot \"{slot}\" is at {confirmed}, but the target has only applied up to {applied}: changes are lost")]
    #[diagnostic(
        code(snapshot::slot_ahead),
        help(
            "the slot was recreated or advanced since this target was filled. Start over with an empty target, or \
             with `clean_target_db: true`"
        )
    )]
    SlotAhead {
        /// The slot.
        slot: String,
        /// The slot's confirmed position.
        confirmed: pgstream_postgres::Lsn,
        /// The target's position.
        applied: pgstream_postgres::Lsn,
    },

    /// Another snapshot of the same source runs on this target.
    #[error("another snapshot of \"{source_name}\" is running on {server}")]
    #[diagnostic(code(snapshot::already_running), help("wait for it to end, or stop it, and run this again"))]
    AlreadyRunning {
        /// Ledger name.
        source_name: String,
        /// The target.
        server: String,
    },

    /// Tables hold rows that this tool did not copy.
    #[error("target not empty: {} with rows that are not ours: {}", count(.tables.len(), "table"), list(.tables))]
    #[diagnostic(
        code(snapshot::target_not_empty),
        help(
            "nothing was written. Choose: empty these tables; or `target.postgres.on_conflict_action: nothing` (keep \
             the target's rows) or `update` (take the source's); or `clean_target_db: true` to build the database \
             anew beside the present one and swap them when complete"
        )
    )]
    TargetNotEmpty {
        /// The tables, quoted.
        tables: Vec<String>,
    },

    /// `on_conflict_action: update` needs a key to find rows by.
    #[error("rows of {table} cannot be merged: it has no primary key or unique index on the target")]
    #[diagnostic(
        code(snapshot::merge_without_key),
        help("empty the table on the target, or use `on_conflict_action: nothing`")
    )]
    MergeWithoutKey {
        /// The table.
        table: String,
    },

    /// Tables are missing on the target.
    #[error("missing on the target: {}", list(.tables))]
    #[diagnostic(
        code(snapshot::table_missing),
        help("create them first, use `snapshot.mode: full`, or leave them out with `excluded_tables`")
    )]
    TableMissing {
        /// The tables, quoted.
        tables: Vec<String>,
    },

    /// A table has another shape on the target.
    #[error("{table} has no column {} on the target", list(.columns))]
    #[diagnostic(
        code(snapshot::shape_differs),
        help(
            "the table was changed on one side since its schema was copied. Make the target's table match, or \
             start over with `clean_target_db: true`"
        )
    )]
    ShapeDiffers {
        /// The table.
        table: String,
        /// Columns that only the source has.
        columns: Vec<String>,
    },

    /// Foreign keys in a circle cannot be filled in any order.
    #[error("foreign keys form a circle: {}", list(.tables))]
    #[diagnostic(
        code(snapshot::foreign_key_circle),
        help(
            "no order of copying satisfies them. Let the target role set session_replication_role \
             (`disable_triggers: true`; on RDS: `GRANT rds_superuser`; PostgreSQL 15+: `GRANT SET ON PARAMETER \
             session_replication_role TO …`), or drop one of the keys for the copy"
        )
    )]
    ForeignKeyCircle {
        /// Tables of the circle, quoted.
        tables: Vec<String>,
    },

    /// Tables keep changing between listing and locking them.
    #[error("the tables of {server} keep changing: no stable list after {attempts} attempts")]
    #[diagnostic(code(snapshot::unstable_schema), help("pause DDL (CREATE, DROP, ALTER TABLE) and run this again"))]
    UnstableSchema {
        /// The source.
        server: String,
        /// How often it was tried.
        attempts: u32,
    },

    /// The session that held the snapshot, and locks on the tables, has ended.
    #[error("the session on {server} that held the snapshot has ended")]
    #[diagnostic(
        code(snapshot::snapshot_gone),
        help("the rest is copied under a new snapshot: run this again if it does not go on by itself")
    )]
    SnapshotGone {
        /// The source.
        server: String,
    },

    /// A client tool is missing or too old.
    #[error("{tool} {needed} or newer is needed to read the schema of this source{}", found.as_ref().map(|v| format!("; the newest found is {v}")).unwrap_or_default())]
    #[diagnostic(
        code(snapshot::tool_missing),
        help(
            "install the PostgreSQL {needed} client (Debian/Ubuntu: `apt-get install postgresql-client-{needed}` from \
             apt.postgresql.org; Amazon Linux: `dnf install postgresql{needed}`), or set PGSTREAM_PG_BIN to a \
             directory that has it"
        )
    )]
    ToolMissing {
        /// `pg_dump` or `pg_restore`.
        tool: &'static str,
        /// Major version needed.
        needed: u32,
        /// Newest version found.
        found: Option<String>,
    },

    /// A client tool failed.
    #[error("{tool} failed: {message}")]
    #[diagnostic(code(snapshot::tool_failed), help("{}", tools::help(.message)))]
    ToolFailed {
        /// `pg_dump` or `pg_restore`.
        tool: &'static str,
        /// What it wrote to standard error.
        message: String,
    },

    /// Something local could not be read or written.
    #[error("{doing}{}: {source}", path.as_ref().map(|p| format!(" {}", p.display())).unwrap_or_default())]
    #[diagnostic(code(snapshot::local_io), help("check that the directory exists, is writable and has space"))]
    Io {
        /// What was being done.
        doing: &'static str,
        /// On which file.
        path: Option<PathBuf>,
        /// The cause.
        source: std::io::Error,
    },

    /// Extensions that the target cannot install.
    #[error("the target does not offer extension {}", list(.extensions))]
    #[diagnostic(
        code(snapshot::extension_missing),
        help(
            "nothing was written. Install them on the target server (on RDS: see `SHOW rds.extensions`), or leave \
             them out with `exclude_object_types: [extensions]` if nothing needs them"
        )
    )]
    ExtensionMissing {
        /// Their names.
        extensions: Vec<String>,
    },

    /// A statement of the schema failed on the target.
    #[error("restoring {what}: {message}\n  command: {command}")]
    #[diagnostic(code(snapshot::restore), help("{help}"))]
    Restore {
        /// Which part of the schema.
        what: String,
        /// What the server said.
        message: String,
        /// The command, without its literals.
        command: String,
        /// What to do about it.
        help: &'static str,
        /// The cause.
        source: Box<pgstream_postgres::Error>,
    },

    /// Password hashes cannot be read.
    #[error("the passwords of the source's roles cannot be read: {message}")]
    #[diagnostic(
        code(snapshot::role_passwords),
        help(
            "this role may not read pg_authid (on RDS nobody may): set `roles_snapshot_mode: no_passwords` and \
             set the passwords on the target afterwards"
        )
    )]
    RolePasswords {
        /// What the server said.
        message: String,
    },

    /// A role cannot be created.
    #[error("role {role} cannot be created or changed on the target: {message}")]
    #[diagnostic(
        code(snapshot::role),
        help(
            "give the target role CREATEROLE (on RDS use the master user), create the role by hand, or set \
             `roles_snapshot_mode: disabled` together with `no_owner: true` and `no_privileges: true`"
        )
    )]
    Role {
        /// The role, quoted.
        role: String,
        /// What the server said.
        message: String,
    },

    /// The target database does not exist.
    #[error("database {database} does not exist on {server}")]
    #[diagnostic(code(snapshot::database_missing), help("create it, or set `create_target_db: true`"))]
    DatabaseMissing {
        /// The database, quoted.
        database: String,
        /// The target.
        server: String,
    },

    /// The name of a staging database is taken by something that is not ours.
    #[error("database {database} exists on {server} and was not made by this tool")]
    #[diagnostic(code(snapshot::database_in_the_way), help("rename or drop it, then run this again"))]
    DatabaseInTheWay {
        /// The database, quoted.
        database: String,
        /// The target.
        server: String,
    },

    /// Nobody offers anything to a worker.
    #[error("no coordinator offers a copy of \"{source_name}\" on {server} (waited {} s)", waited.as_secs())]
    #[diagnostic(
        code(snapshot::no_coordinator),
        help(
            "start `pgstream-aws snapshot coordinate` with the same configuration, mode and slot too; \
             `--wait SECONDS` says how long a worker waits for it"
        )
    )]
    NoCoordinator {
        /// Ledger name.
        source_name: String,
        /// The target.
        server: String,
        /// How long.
        waited: std::time::Duration,
    },

    /// The coordinator ended before all rows were in.
    #[error("the coordinator of the copy of \"{source_name}\" on {server} ended before all rows were copied")]
    #[diagnostic(
        code(snapshot::coordinator_gone),
        help(
            "its own message says why. Start it again, and its workers: what was being copied was given back, tables \
             that are complete are not copied again"
        )
    )]
    CoordinatorGone {
        /// Ledger name.
        source_name: String,
        /// The target.
        server: String,
    },

    /// A worker reads from another server than the one that holds the snapshot.
    #[error("this worker reads from {here}, but the snapshot of the copy is held by {there}")]
    #[diagnostic(
        code(snapshot::other_server),
        help(
            "a snapshot can only be read on the server that took it. Use the same writer endpoint for the coordinator and \
             all workers, not one that leads to several servers"
        )
    )]
    OtherServer {
        /// Where the worker is connected.
        here: String,
        /// Where the coordinator was.
        there: String,
    },

    /// A worker was offered something that its configuration does not have.
    #[error("{table} is to be copied, but this worker's configuration leaves it out")]
    #[diagnostic(
        code(snapshot::worker_differs),
        help("give the coordinator and all workers the same configuration, and the same `--tables`")
    )]
    WorkerDiffers {
        /// The table, quoted.
        table: String,
    },

    /// A coordinator has nobody to copy for it.
    #[error("no worker has been at work for {} s; {} left to copy", waited.as_secs(), count(*.parts, "part"))]
    #[diagnostic(
        code(snapshot::no_workers),
        help(
            "start `pgstream-aws snapshot worker` with the same configuration, and this again; or copy from here alone \
             with `pgstream-aws snapshot`, or with workers on this machine: `pgstream-aws snapshot --workers 4`"
        )
    )]
    NoWorkers {
        /// Parts that are left.
        parts: usize,
        /// How long.
        waited: std::time::Duration,
    },

    /// Sessions of workers that belong to a copy that is over do not end.
    #[error("{} of an earlier copy of \"{source_name}\" still {} on {server}", count(*.left, "session"), if *.left == 1 { "works" } else { "work" })]
    #[diagnostic(
        code(snapshot::workers_left),
        help("stop the workers that are left (`pgstream-aws snapshot worker`), and run this again")
    )]
    WorkersLeft {
        /// How many.
        left: usize,
        /// Ledger name.
        source_name: String,
        /// The target.
        server: String,
    },

    /// Workers that were started here die again and again.
    #[error("workers keep ending: {} so far, the last one with {last}", count(*.deaths, "time"))]
    #[diagnostic(
        code(snapshot::workers_die),
        help(
            "their own messages are above. Killed by a signal: look for a lack of memory. What is copied is kept: run \
             this again"
        )
    )]
    WorkersDie {
        /// How the last one ended.
        last: String,
        /// How often one did.
        deaths: usize,
    },

    /// A worker ended without a result.
    #[error("a snapshot worker stopped unexpectedly: {0}")]
    #[diagnostic(code(snapshot::worker), help("this is a defect: please report it with the log"))]
    Worker(String),
}

impl Error {
    /// Whether it may be for want of a right.
    #[must_use]
    pub fn may_lack_rights(&self) -> bool {
        match self {
            Self::Postgres(error) => error.is_permission_denied(),
            // Also an owner who does not exist.
            Self::Restore { source, .. } => matches!(source.sqlstate(), Some("42501" | "42704")),
            Self::ToolFailed { message, .. } => tools::is_denied(message),
            Self::Role { .. } => true,
            _ => false,
        }
    }

    /// What kind of failure this is.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Postgres(error) => error.class(),
            Self::Restore { source, .. } => source.class(),
            Self::ToolFailed { message, .. } if tools::is_passing(message) => Class::Transient,
            Self::OtherHistory { .. } | Self::SchemaChanged { .. } | Self::SlotAhead { .. } => Class::Lost,
            Self::Cancelled
            | Self::AlreadyRunning { .. }
            | Self::UnstableSchema { .. }
            | Self::SnapshotGone { .. }
            | Self::WorkersLeft { .. } => Class::Transient,
            Self::TargetNotEmpty { .. } | Self::MergeWithoutKey { .. } => Class::Data,
            Self::Worker(_) => Class::Bug,
            Self::SourceInRecovery { .. }
            | Self::SourceTooOld { .. }
            | Self::SlotMissing { .. }
            | Self::PublicationMissing { .. }
            | Self::TableMissing { .. }
            | Self::ShapeDiffers { .. }
            | Self::ForeignKeyCircle { .. }
            | Self::ToolMissing { .. }
            | Self::ToolFailed { .. }
            | Self::Io { .. }
            | Self::ExtensionMissing { .. }
            | Self::RolePasswords { .. }
            | Self::Role { .. }
            | Self::DatabaseMissing { .. }
            | Self::DatabaseInTheWay { .. }
            | Self::NoCoordinator { .. }
            | Self::CoordinatorGone { .. }
            | Self::OtherServer { .. }
            | Self::WorkerDiffers { .. }
            | Self::NoWorkers { .. }
            | Self::WorkersDie { .. } => Class::Setup,
        }
    }

    /// Whether trying again may help without anybody's help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.class() == Class::Transient && !matches!(self, Self::Cancelled)
    }

    pub(crate) fn io(doing: &'static str, path: impl Into<Option<PathBuf>>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }
}

/// How many names an error spells out.
const LISTED: usize = 10;

fn list(names: &[String]) -> String {
    let more = names.len().saturating_sub(LISTED);
    let shown = names.iter().take(LISTED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_of_tables_is_cut() {
        let names: Vec<_> = (0..12).map(|n| format!("t{n}")).collect();
        let text = Error::TargetNotEmpty { tables: names }.to_string();
        assert!(text.contains("12 tables") && text.contains("t9 and 2 more"), "{text}");
        assert!(!text.contains("t10"), "{text}");
    }
}
