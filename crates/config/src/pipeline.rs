//! The typed settings that enter the engine: every default filled, every pattern compiled, no conflict left.

use std::{num::NonZeroUsize, path::PathBuf, time::Duration};

use secrecy::SecretString;

use crate::pattern::TableFilter;

/// One source, one target, and how rows travel between them.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// The database that is read.
    pub source: Source,
    /// Where its rows go; `None` where a command needs no target.
    pub target: Option<Target>,
    /// Whether to copy, to follow, or both.
    pub mode: Mode,
    /// Settings of the copy.
    pub snapshot: Snapshot,
    /// Settings of the stream.
    pub stream: Stream,
    /// Metrics and health endpoints.
    pub instrumentation: Instrumentation,
}

/// `logging.*`, and whether to draw.
#[derive(Debug, Clone, Copy)]
pub struct Presentation {
    /// Least severe level.
    pub level: &'static str,
    /// JSON lines instead of text.
    pub json: bool,
    /// No colours.
    pub no_color: bool,
    /// No progress bars.
    pub quiet: bool,
}

/// What `source.postgres.mode` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Follow only.
    Replication,
    /// Copy only.
    Snapshot,
    /// Copy, then follow.
    SnapshotAndReplication,
}

/// The source server.
#[derive(Debug, Clone)]
pub struct Source {
    /// libpq URL, which may hold a password, or `secretsmanager://…`.
    pub url: SecretString,
    /// Where user and password come from.
    pub access: Access,
    /// Slot name as configured; `None` means `pgstream_<db>_slot`.
    pub slot: Option<String>,
    /// Retries after transient errors of either server.
    pub retry: Retry,
}

/// Where user and password of a server come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Access {
    /// The URL, `PGPASSWORD` or the passfile.
    #[default]
    Url,
    /// A secret.
    Secret {
        /// Its name or ARN.
        secret: String,
        /// The instance or cluster whose endpoint completes it.
        identifier: Option<String>,
    },
    /// A token of IAM for each login.
    IamToken,
}

/// Where changes go.
#[derive(Debug, Clone)]
pub enum Target {
    /// Another PostgreSQL server.
    Postgres(PostgresTarget),
    /// Newline-delimited JSON on standard output.
    Stdout,
}

/// The target server and how it is written.
#[derive(Debug, Clone)]
pub struct PostgresTarget {
    /// libpq URL, which may hold a password, or `secretsmanager://…`.
    pub url: SecretString,
    /// Where user and password come from.
    pub access: Access,
    /// Most connections the copy may open.
    pub max_connections: NonZeroUsize,
    /// `disable_triggers` as configured; `None` when it was not written.
    pub disable_triggers: Option<bool>,
    /// What to do with rows that were on the target before.
    pub on_conflict: OnConflict,
}

/// `on_conflict_action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnConflict {
    /// Stop.
    Error,
    /// Keep the row of the target.
    Nothing,
    /// Take the row of the source.
    Update,
}

/// Settings of the copy.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// What is copied.
    pub mode: SnapshotMode,
    /// Which tables, from `snapshot.*` and `modifiers.filter` together.
    pub tables: TableFilter,
    /// Copy finished tables again (`snapshot.recorder.repeatable_snapshots`).
    pub repeat: bool,
    /// Tables and parts of tables copied at the same time; never more than `max_connections`.
    pub table_workers: NonZeroUsize,
    /// Schema work (indexes, constraints) done at the same time.
    pub schema_workers: NonZeroUsize,
    /// Target size of one part of a big table, bytes.
    pub part_bytes: u64,
    /// Most connections to the source.
    pub max_connections: NonZeroUsize,
    /// How the schema is copied.
    pub schema: SchemaCopy,
}

/// What a snapshot copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotMode {
    /// Roles, schema and rows.
    Full,
    /// Roles and schema.
    Schema,
    /// Rows into tables that exist.
    Data,
}

/// `snapshot.schema.pgdump_pgrestore`.
#[derive(Debug, Clone)]
pub struct SchemaCopy {
    /// Build the database anew beside the present one, and swap them when complete.
    pub clean_target_db: bool,
    /// Create the target database when it is missing.
    pub create_target_db: bool,
    /// Roles and their settings (`include_global_db_objects` and `roles_snapshot_mode`).
    pub roles: RolesMode,
    /// Whether database-level globals (roles, database settings) were asked for.
    pub include_globals: bool,
    /// Leave ownership to the connecting role.
    pub no_owner: bool,
    /// Leave out grants.
    pub no_privileges: bool,
    /// Role to act as while restoring.
    pub role: Option<String>,
    /// Security-label providers to leave out; `*` means all.
    pub exclude_security_labels: Vec<String>,
    /// Fill materialized views after the copy.
    pub refresh_materialized_views: bool,
    /// `name=value` session settings for index and constraint builds.
    pub index_session_settings: Vec<(String, String)>,
    /// Keep the schema dump in this file.
    pub dump_file: Option<PathBuf>,
    /// Object types taken.
    pub object_types: ObjectTypes,
}

/// `roles_snapshot_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RolesMode {
    /// No roles.
    Disabled,
    /// Roles without passwords.
    NoPasswords,
    /// Roles with password hashes.
    Enabled,
}

/// Kinds of objects that filters name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum ObjectType {
    Tables,
    Sequences,
    Types,
    Indexes,
    Constraints,
    Functions,
    Views,
    MaterializedViews,
    Triggers,
    EventTriggers,
    Policies,
    Rules,
    Comments,
    Extensions,
    Collations,
    TextSearch,
}

/// One list or the other, never both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ObjectTypes {
    /// No filter.
    #[default]
    All,
    /// Only these.
    Only(Vec<ObjectType>),
    /// All but these.
    Except(Vec<ObjectType>),
}

impl ObjectTypes {
    /// Whether objects of this kind are taken.
    #[must_use]
    pub fn contains(&self, kind: ObjectType) -> bool {
        match self {
            Self::All => true,
            Self::Only(list) => list.contains(&kind),
            Self::Except(list) => !list.contains(&kind),
        }
    }
}

/// Settings of the stream.
#[derive(Debug, Clone)]
pub struct Stream {
    /// Tables followed.
    pub tables: TableFilter,
    /// Most bytes of changes in one batch.
    pub batch_bytes: u64,
    /// Most changes in one batch.
    pub batch_changes: usize,
    /// Leave schema changes out.
    pub ignore_ddl: bool,
    /// Kinds of objects whose schema changes are applied.
    pub ddl_types: ObjectTypes,
}

/// Retries after transient errors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retry {
    /// First wait.
    pub initial: Duration,
    /// Longest wait between two tries; equal to `initial` for a constant policy.
    pub max: Duration,
    /// Tries after the first; `None` for no limit. `Some(0)` disables retries.
    pub max_retries: Option<usize>,
    /// Give up after this long.
    pub max_elapsed: Option<Duration>,
}

impl Retry {
    /// How long to wait before the try after `tries` failed ones: doubles from the first wait to the longest.
    #[must_use]
    pub fn wait(&self, tries: usize) -> Duration {
        let doublings = u32::try_from(tries.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
        self.initial.saturating_mul(1 << doublings).min(self.max)
    }
}

/// `instrumentation.*`.
#[derive(Debug, Clone, Default)]
pub struct Instrumentation {
    /// `host:port` of `/health`, `/ready` and `/status`.
    pub health: Option<String>,
    /// Address and path of the Prometheus endpoint.
    pub prometheus: Option<Prometheus>,
    /// Metrics of the stream for CloudWatch.
    pub cloudwatch: Option<CloudWatchMetrics>,
}

/// `aws.metrics`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloudWatchMetrics {
    /// The way that they take.
    pub to: MetricsTo,
    /// How often.
    pub interval: Duration,
}

/// `aws.metrics.to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsTo {
    /// Lines in the embedded metric format on standard output.
    Emf,
    /// Calls of PutMetricData.
    CloudWatch,
}

/// The Prometheus endpoint, served on the health address.
#[derive(Debug, Clone)]
pub struct Prometheus {
    /// Path, `/metrics` by default.
    pub path: String,
}
