//! Every key that a configuration may have: one table for reading, for "did you mean", and for the documentation.

/// What a value must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// A connection URL: holds a password, is never shown.
    Secret,
    /// `true` or `false`.
    Bool,
    /// A whole number, not negative.
    Count,
    /// A whole number, at least one.
    Positive,
    /// A fraction between 0 and 1.
    Ratio,
    /// Bytes: a number or `64MiB`.
    Size,
    /// A duration in milliseconds.
    Millis,
    /// A duration in seconds.
    Seconds,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// A list of texts.
    Texts,
    /// A list of table patterns.
    Tables,
    /// A list of table patterns without wildcards.
    ExactTables,
    /// A list of `name=value`.
    Assignments,
    /// A list of object types.
    ObjectTypes,
    /// A section with a form of its own.
    Section,
}

/// How far a key is supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// It does what it says.
    Works,
    /// It is accepted; what it asked for happens in another way, which this says.
    Accepted(&'static str),
    /// It is understood, and not available in this version.
    NotYet,
    /// It will not be.
    Never(&'static str),
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Dotted path in the YAML file.
    pub path: &'static str,
    /// Environment variable, if it has one.
    pub env: Option<&'static str>,
    /// Form of the value.
    pub kind: Kind,
    /// Default as the documentation shows it; empty for none.
    pub default: &'static str,
    /// What it means.
    pub doc: &'static str,
    /// How far it is supported.
    pub support: Support,
}

const fn key(path: &'static str, env: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    let env = if env.is_empty() { None } else { Some(env) };
    Key { path, env, kind, default, doc, support: Support::Works }
}

impl Key {
    const fn accepted(mut self, notice: &'static str) -> Self {
        self.support = Support::Accepted(notice);
        self
    }

    const fn not_yet(mut self) -> Self {
        self.support = Support::NotYet;
        self
    }

    const fn never(mut self, why: &'static str) -> Self {
        self.support = Support::Never(why);
        self
    }
}

/// The names of object types, as filters write them.
pub const OBJECT_TYPES: &[&str] = &[
    "tables",
    "sequences",
    "types",
    "indexes",
    "constraints",
    "functions",
    "views",
    "materialized_views",
    "triggers",
    "event_triggers",
    "policies",
    "rules",
    "comments",
    "extensions",
    "collations",
    "text_search",
];

const LEVELS: &[&str] = &["trace", "debug", "info", "warn", "error", "fatal", "panic"];
const NOT_A_TARGET: &str = "changes go to target.postgres or target.stdout";
const NOT_A_SOURCE: &str = "changes come from source.postgres";

use Kind::{
    Assignments, Bool, Count, ExactTables, Millis, ObjectTypes, OneOf, Positive, Ratio, Seconds, Secret, Section, Size,
    Tables, Text, Texts,
};

/// All keys, in the order of the documentation.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key("source.postgres.url", "PGSTREAM_POSTGRES_LISTENER_URL", Secret, "", "Source database: `postgresql://…` with libpq parameters."),
    key("source.postgres.mode", "PGSTREAM_POSTGRES_MODE", OneOf(&["replication", "snapshot", "snapshot_and_replication"]), "replication", "Follow only, copy only, or copy and then follow."),
    key("source.postgres.snapshot.mode", "PGSTREAM_POSTGRES_SNAPSHOT_MODE", OneOf(&["full", "schema", "data"]), "full", "Copy roles, schema and rows; roles and schema; or rows into tables that exist."),
    key("source.postgres.snapshot.tables", "PGSTREAM_POSTGRES_SNAPSHOT_TABLES", Tables, "all", "Tables to copy: `t`, `schema.t`, `schema.*`, `*.t`, `*.*`; without a schema, `public`."),
    key("source.postgres.snapshot.excluded_tables", "PGSTREAM_POSTGRES_SNAPSHOT_EXCLUDED_TABLES", ExactTables, "", "Tables left out; beats every other list."),
    key("source.postgres.snapshot.schema_only_tables", "PGSTREAM_POSTGRES_SNAPSHOT_SCHEMA_ONLY_TABLES", Tables, "", "Tables copied without rows; an explicit `tables` entry beats a wildcard here."),
    key("source.postgres.snapshot.snapshot_workers", "PGSTREAM_POSTGRES_SNAPSHOT_WORKERS", Positive, "1", "Schemas copied at the same time; multiplies `table_workers`."),
    key("source.postgres.snapshot.disable_progress_tracking", "PGSTREAM_POSTGRES_SNAPSHOT_DISABLE_PROGRESS_TRACKING", Bool, "false", "Show no progress bars."),
    key("source.postgres.snapshot.recorder.postgres_url", "PGSTREAM_POSTGRES_SNAPSHOT_STORE_URL", Secret, "", "Where finished tables were recorded.").accepted("finished tables are recorded on the target, in pgstream.snapshot_ledger; this URL is not used"),
    key("source.postgres.snapshot.recorder.repeatable_snapshots", "PGSTREAM_POSTGRES_SNAPSHOT_STORE_REPEATABLE", Bool, "false", "Copy finished tables again at every start."),
    key("source.postgres.snapshot.data.schema_workers", "PGSTREAM_POSTGRES_SNAPSHOT_SCHEMA_WORKERS", Positive, "4", "Indexes and constraints built at the same time."),
    key("source.postgres.snapshot.data.table_workers", "PGSTREAM_POSTGRES_SNAPSHOT_TABLE_WORKERS", Positive, "4", "Tables, or parts of big tables, copied at the same time."),
    key("source.postgres.snapshot.data.batch_bytes", "PGSTREAM_POSTGRES_SNAPSHOT_BATCH_BYTES", Size, "80MiB", "Size of one part of a big table."),
    key("source.postgres.snapshot.data.max_connections", "PGSTREAM_POSTGRES_SNAPSHOT_MAX_CONNECTIONS", Positive, "50", "Most connections to the source while copying."),
    key("source.postgres.snapshot.schema.mode", "", OneOf(&["pgdump_pgrestore", "schemalog"]), "pgdump_pgrestore", "Legacy.").accepted("the schema is always copied with pg_dump and pg_restore"),
    key("source.postgres.snapshot.schema.pgdump_pgrestore.clean_target_db", "PGSTREAM_POSTGRES_SNAPSHOT_CLEAN_TARGET_DB", Bool, "false", "Build the database anew beside the present one and swap them when it is complete."),
    key("source.postgres.snapshot.schema.pgdump_pgrestore.create_target_db", "PGSTREAM_POSTGRES_SNAPSHOT_CREATE_TARGET_DB", Bool, "false", "Create the target database when it is missing."),
    key("source.postgres.snapshot.schema.pgdump_pgrestore.include_global_db_objects", "PGSTREAM_POSTGRES_SNAPSHOT_INCLUDE_GLOBAL_DB_OBJECTS", Bool, "false", "Copy database-level settings too."),
    key("source.postgres.snapshot.schema.pgdump_pgrestore.no_owner", "PGSTREAM_POSTGRES_SNAPSHOT_NO_OWNER", Bool, "false", "Leave everything to the connecting role."),
    key("source.postgres.snapshot.schema.pgdump_pgrestore.no_privileges", "PGSTREAM_POSTGRES_SNAPSHOT_NO_PRIVILEGES", Bool, "false", "Leave out grants."),
    key("source.postgres.snapshot.schema.pgdump_pgrestore.role", "PGSTREAM_POSTGRES_SNAPSHOT_ROLE", Text, "", "Act as this role while dumping and restoring."),
    key("source.postgres.snapshot.schema.pgdump_pgrestore.roles_snapshot_mode", "PGSTREAM_POSTGRES_SNAPSHOT_ROLES_SNAPSHOT_MODE", OneOf(&["disabled", "no_passwords", "enabled"]), "no_passwords", "Copy no roles, roles without passwords, or roles with password hashes."),
    key("source.postgres.snapshot.schema.pgdump_pgrestore.exclude_security_labels", "PGSTREAM_POSTGRES_SNAPSHOT_EXCLUDED_SECURITY_LABELS", Texts, "", "Providers whose security labels are left out; `*` for all."),
    key("source.postgres.snapshot.schema.pgdump_pgrestore.excluded_security_labels", "", Texts, "", "Another spelling of `exclude_security_labels`."),
    key("source.postgres.snapshot.schema.pgdump_pgrestore.refresh_materialized_views", "PGSTREAM_POSTGRES_SNAPSHOT_REFRESH_MATERIALIZED_VIEWS", Bool, "false", "Fill materialized views after the copy."),
    key("source.postgres.snapshot.schema.pgdump_pgrestore.index_constraint_session_settings", "", Assignments, "", "Session settings for index and constraint builds, e.g. `maintenance_work_mem=4GB`."),
    key("source.postgres.snapshot.schema.pgdump_pgrestore.index_restore_workers", "", Positive, "schema_workers", "Another spelling of `data.schema_workers`."),
    key("source.postgres.snapshot.schema.pgdump_pgrestore.dump_file", "PGSTREAM_POSTGRES_SNAPSHOT_SCHEMA_DUMP_FILE", Text, "", "Keep the schema dump in this file."),
    key("source.postgres.snapshot.schema.pgdump_pgrestore.include_object_types", "", ObjectTypes, "all", "Only these kinds of objects."),
    key("source.postgres.snapshot.schema.pgdump_pgrestore.exclude_object_types", "", ObjectTypes, "", "All but these kinds of objects."),
    key("source.postgres.replication.replication_slot", "PGSTREAM_POSTGRES_REPLICATION_SLOT_NAME", Text, "pgstream_<db>_slot", "Name of the slot; the database in lower case, `.` and `-` as `_`."),
    key("source.postgres.replication.plugin.include_xids", "PGSTREAM_POSTGRES_REPLICATION_PLUGIN_INCLUDE_XIDS", Bool, "", "wal2json option.").accepted("pgoutput always sends transaction ids"),
    key("source.postgres.replication.plugin.add_tables", "PGSTREAM_POSTGRES_REPLICATION_PLUGIN_ADD_TABLES", Tables, "", "wal2json option.").accepted("these tables become the publication's list"),
    key("source.postgres.replication.plugin.filter_tables", "PGSTREAM_POSTGRES_REPLICATION_PLUGIN_FILTER_TABLES", Tables, "", "wal2json option.").accepted("these tables are left out of the publication"),
    key("source.postgres.retry_policy.disable_retries", "PGSTREAM_POSTGRES_LISTENER_DISABLE_RETRIES", Bool, "false", "Stop at the first transient error."),
    key("source.postgres.retry_policy.exponential.initial_interval", "PGSTREAM_POSTGRES_LISTENER_EXP_BACKOFF_INITIAL_INTERVAL", Millis, "500", "First wait; doubles up to `max_interval`."),
    key("source.postgres.retry_policy.exponential.max_interval", "PGSTREAM_POSTGRES_LISTENER_EXP_BACKOFF_MAX_INTERVAL", Millis, "5000", "Longest wait."),
    key("source.postgres.retry_policy.exponential.max_retries", "PGSTREAM_POSTGRES_LISTENER_EXP_BACKOFF_MAX_RETRIES", Count, "no limit", "Tries after the first."),
    key("source.postgres.retry_policy.exponential.max_elapsed_time", "", Millis, "no limit", "Give up after this long without progress."),
    key("source.postgres.retry_policy.constant.interval", "PGSTREAM_POSTGRES_LISTENER_BACKOFF_INTERVAL", Millis, "", "Wait the same time between all tries."),
    key("source.postgres.retry_policy.constant.max_retries", "PGSTREAM_POSTGRES_LISTENER_BACKOFF_MAX_RETRIES", Count, "no limit", "Tries after the first."),
    key("source.kafka", "PGSTREAM_KAFKA_READER_SERVERS", Section, "", "Kafka as a source.").never(NOT_A_SOURCE),
    key("target.postgres.url", "PGSTREAM_POSTGRES_WRITER_TARGET_URL", Secret, "", "Target database."),
    key("target.postgres.max_connections", "PGSTREAM_POSTGRES_WRITER_MAX_CONNECTIONS", Positive, "50", "Most connections to the target while copying."),
    key("target.postgres.disable_triggers", "PGSTREAM_POSTGRES_WRITER_DISABLE_TRIGGERS", Bool, "when the role may", "Write under `session_replication_role = replica`. Not written: done when the role may set it."),
    key("target.postgres.on_conflict_action", "PGSTREAM_POSTGRES_WRITER_ON_CONFLICT_ACTION", OneOf(&["error", "nothing", "update"]), "error", "What the copy does with rows that were on the target before."),
    key("target.postgres.strict_mode", "PGSTREAM_POSTGRES_WRITER_STRICT_MODE", Bool, "true", "Stop at the first change that cannot be applied. Always so: `false` is refused."),
    key("target.postgres.ignore_ddl", "PGSTREAM_POSTGRES_WRITER_IGNORE_DDL", Bool, "false", "Do not replay schema changes.").accepted("schema changes are not replayed in this version; a changed table stops the stream"),
    key("target.postgres.include_ddl_object_types", "", ObjectTypes, "", "Kinds of objects whose changes are replayed.").not_yet(),
    key("target.postgres.exclude_ddl_object_types", "", ObjectTypes, "", "Kinds of objects whose changes are not replayed.").not_yet(),
    key("target.postgres.schema_log_store_url", "PGSTREAM_POSTGRES_WRITER_SCHEMALOG_STORE_URL", Secret, "", "Legacy.").accepted("the schema log is read from the stream; this URL is not used"),
    key("target.postgres.retry_policy.disable_retries", "PGSTREAM_POSTGRES_WRITER_DISABLE_RETRIES", Bool, "false", "Stop at the first transient error of the target."),
    key("target.postgres.retry_policy.exponential.initial_interval", "PGSTREAM_POSTGRES_WRITER_EXP_BACKOFF_INITIAL_INTERVAL", Millis, "500", "First wait."),
    key("target.postgres.retry_policy.exponential.max_interval", "PGSTREAM_POSTGRES_WRITER_EXP_BACKOFF_MAX_INTERVAL", Millis, "5000", "Longest wait."),
    key("target.postgres.retry_policy.exponential.max_retries", "PGSTREAM_POSTGRES_WRITER_EXP_BACKOFF_MAX_RETRIES", Count, "no limit", "Tries after the first."),
    key("target.postgres.retry_policy.exponential.max_elapsed_time", "", Millis, "no limit", "Give up after this long without progress."),
    key("target.postgres.retry_policy.constant.interval", "PGSTREAM_POSTGRES_WRITER_BACKOFF_INTERVAL", Millis, "", "Wait the same time between all tries."),
    key("target.postgres.retry_policy.constant.max_retries", "PGSTREAM_POSTGRES_WRITER_BACKOFF_MAX_RETRIES", Count, "no limit", "Tries after the first."),
    key("target.postgres.batch.timeout", "PGSTREAM_POSTGRES_WRITER_BATCH_TIMEOUT", Millis, "0", "Batch timeout.").accepted("a batch leaves as soon as the target is ready for it, so nothing waits for a timeout"),
    key("target.postgres.batch.size", "PGSTREAM_POSTGRES_WRITER_BATCH_SIZE", Positive, "20000", "Most changes in one batch; a larger transaction is applied in pieces inside one target transaction."),
    key("target.postgres.batch.max_bytes", "PGSTREAM_POSTGRES_WRITER_BATCH_BYTES", Size, "8MiB", "Most bytes of changes in one batch."),
    key("target.postgres.batch.max_queue_bytes", "PGSTREAM_POSTGRES_WRITER_MAX_QUEUE_BYTES", Size, "100MiB", "Most bytes between source and target; limits `max_bytes`, of which at most three batches exist."),
    key("target.postgres.batch.ignore_send_errors", "PGSTREAM_POSTGRES_WRITER_BATCH_IGNORE_SEND_ERRORS", Bool, "false", "Drop what cannot be applied. `true` is refused: it loses rows."),
    key("target.postgres.batch.auto_tune.enabled", "PGSTREAM_POSTGRES_WRITER_BATCH_AUTO_TUNE_ENABLE", Bool, "", "Tune the batch size.").accepted("batches always adapt to the backlog"),
    key("target.postgres.batch.auto_tune.min_batch_bytes", "PGSTREAM_POSTGRES_WRITER_BATCH_AUTO_TUNE_MIN_BYTES", Size, "", "Tune the batch size.").accepted("batches always adapt to the backlog"),
    key("target.postgres.batch.auto_tune.max_batch_bytes", "PGSTREAM_POSTGRES_WRITER_BATCH_AUTO_TUNE_MAX_BYTES", Size, "", "Tune the batch size.").accepted("batches always adapt to the backlog"),
    key("target.postgres.batch.auto_tune.convergence_threshold", "PGSTREAM_POSTGRES_WRITER_BATCH_AUTO_TUNE_CONVERGENCE_THRESHOLD", Ratio, "", "Tune the batch size.").accepted("batches always adapt to the backlog"),
    key("target.postgres.bulk_ingest.enabled", "PGSTREAM_POSTGRES_WRITER_BULK_INGEST_ENABLED", Bool, "", "Use COPY.").accepted("COPY is used wherever it is faster"),
    key("target.postgres.bulk_ingest.copy_workers", "", Positive, "", "COPY workers.").accepted("the copy's parallelism is snapshot.data.table_workers"),
    key("target.stdout", "", Section, "", "Write changes to standard output as newline-delimited JSON: `stdout: {}`."),
    key("target.kafka", "PGSTREAM_KAFKA_WRITER_SERVERS", Section, "", "Kafka as a target.").never(NOT_A_TARGET),
    key("target.search", "PGSTREAM_OPENSEARCH_STORE_URL", Section, "", "A search engine as a target.").never(NOT_A_TARGET),
    key("target.webhooks", "PGSTREAM_WEBHOOK_SUBSCRIPTION_STORE_URL", Section, "", "Webhooks as a target.").never(NOT_A_TARGET),
    key("modifiers.filter.include_tables", "PGSTREAM_FILTER_INCLUDE_TABLES", Tables, "all", "Tables that are followed and copied."),
    key("modifiers.filter.exclude_tables", "PGSTREAM_FILTER_EXCLUDE_TABLES", Tables, "", "Tables that are not."),
    key("modifiers.filter.schema_only_tables", "PGSTREAM_FILTER_SCHEMA_ONLY_TABLES", Tables, "", "Tables that exist on the target without rows."),
    key("modifiers.sanitize.strip_null_char_bytes", "", Bool, "false", "Remove NUL characters from text.").accepted("PostgreSQL stores no NUL characters, so none can arrive from it"),
    key("modifiers.injector.enabled", "", Bool, "", "Inject metadata.").accepted("not needed: rows are identified by their replica identity"),
    key("modifiers.injector.source_url", "PGSTREAM_INJECTOR_STORE_POSTGRES_URL", Secret, "", "Inject metadata.").accepted("not needed: rows are identified by their replica identity"),
    key("modifiers.injector.schemalog_url", "", Secret, "", "Inject metadata.").accepted("not needed: rows are identified by their replica identity"),
    key("modifiers.transformations", "PGSTREAM_TRANSFORMER_RULES_FILE", Section, "", "Column transformers.").not_yet(),
    key("instrumentation.metrics.endpoint", "PGSTREAM_METRICS_ENDPOINT", Text, "", "OTLP endpoint for metrics.").not_yet(),
    key("instrumentation.metrics.collection_interval", "PGSTREAM_METRICS_COLLECTION_INTERVAL", Seconds, "60", "Seconds between two OTLP exports.").not_yet(),
    key("instrumentation.metrics.prometheus.enabled", "PGSTREAM_METRICS_PROMETHEUS_ENABLED", Bool, "false", "Serve metrics for Prometheus on the health address."),
    key("instrumentation.metrics.prometheus.endpoint", "PGSTREAM_METRICS_PROMETHEUS_ENDPOINT", Text, "/metrics", "Path of the Prometheus endpoint."),
    key("instrumentation.traces.endpoint", "PGSTREAM_TRACES_ENDPOINT", Text, "", "OTLP endpoint for traces.").not_yet(),
    key("instrumentation.traces.sample_ratio", "PGSTREAM_TRACES_SAMPLE_RATIO", Ratio, "", "Share of traces that is sampled.").not_yet(),
    key("instrumentation.health.enabled", "PGSTREAM_HEALTH_CHECK_ENABLED", Bool, "false", "Serve `/health`, `/ready` and `/status`."),
    key("instrumentation.health.address", "PGSTREAM_HEALTH_CHECK_ADDRESS", Text, "localhost:9910", "Where they are served."),
    key("logging.level", "PGSTREAM_LOG_LEVEL", OneOf(LEVELS), "info", "Least severe level that is logged."),
    key("logging.format.type", "PGSTREAM_LOG_FORMAT", OneOf(&["console", "json"]), "console", "Form of log lines."),
    key("logging.format.no_color", "PGSTREAM_LOG_NO_COLOR", Bool, "false", "No colours in console log lines."),
    key("aws", "", Section, "", "AWS integration.").not_yet(),
];

/// The key of this path.
#[must_use]
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// The names that may stand directly below `prefix` (empty for the top).
#[must_use]
pub fn children(prefix: &str) -> Vec<&'static str> {
    let mut names: Vec<&str> = KEYS
        .iter()
        .filter_map(|key| match prefix {
            "" => key.path.split('.').next(),
            _ => key.path.strip_prefix(prefix)?.strip_prefix('.')?.split('.').next(),
        })
        .collect();
    names.dedup();
    names
}
