//! `source.*`.

use super::{Key, Kind, SNAPSHOT_TYPES, Standard, key};
use crate::defaults;

pub(super) const KEYS: &[Key] = &[
    key("source", Kind::Section, "Where rows come from; exactly one"),
    key("source.postgres", Kind::Section, "A PostgreSQL server"),
    key(
        "source.postgres.url",
        Kind::Url,
        "`postgresql://…` or `postgres://…`, with libpq's parameters; or `secretsmanager://<name or ARN>` where `?dbname=`, `?host=` and `?port=` fill what the secret lacks",
    )
    .env("PGSTREAM_POSTGRES_LISTENER_URL"),
    key(
        "source.postgres.mode",
        Kind::Word(&["replication", "snapshot", "snapshot_and_replication"]),
        "Whether to copy, to follow, or both",
    )
    .or(Standard::Depends("none with a `snapshot` section; else `replication`, or `snapshot_and_replication` when tables to copy are listed"))
    .env("PGSTREAM_POSTGRES_MODE"),
    key("source.postgres.snapshot", Kind::Section, "The copy"),
    key("source.postgres.snapshot.mode", Kind::Word(&["full", "schema", "data"]), "What is copied")
        .or(Standard::Word("full"))
        .env("PGSTREAM_POSTGRES_SNAPSHOT_MODE"),
    key(
        "source.postgres.snapshot.tables",
        Kind::Patterns,
        "Tables to copy; all when empty. Narrows `modifiers.filter.include_tables`",
    )
    .env("PGSTREAM_POSTGRES_SNAPSHOT_TABLES"),
    key(
        "source.postgres.snapshot.excluded_tables",
        Kind::Tables,
        "Tables not to copy, in addition to `modifiers.filter.exclude_tables`",
    )
    .env("PGSTREAM_POSTGRES_SNAPSHOT_EXCLUDED_TABLES"),
    key(
        "source.postgres.snapshot.schema_only_tables",
        Kind::Patterns,
        "Tables that are created, but whose rows are not copied; a table listed by name in `tables` beats a wildcard \
         here, an excluded one beats both",
    )
    .env("PGSTREAM_POSTGRES_SNAPSHOT_SCHEMA_ONLY_TABLES"),
    key("source.postgres.snapshot.snapshot_workers", Kind::Count(1), "Multiplies `data.table_workers`")
        .or(Standard::Count(defaults::SNAPSHOT_WORKERS))
        .env("PGSTREAM_POSTGRES_SNAPSHOT_WORKERS"),
    key("source.postgres.snapshot.disable_progress_tracking", Kind::Flag, "No progress bars")
        .or(Standard::Flag(false))
        .env("PGSTREAM_POSTGRES_SNAPSHOT_DISABLE_PROGRESS_TRACKING"),
    key("source.postgres.snapshot.recorder", Kind::Section, "The record of copied tables"),
    key("source.postgres.snapshot.recorder.postgres_url", Kind::Url, "Where pgstream keeps the record")
        .env("PGSTREAM_POSTGRES_SNAPSHOT_STORE_URL"),
    key("source.postgres.snapshot.recorder.repeatable_snapshots", Kind::Flag, "Copy finished tables again")
        .or(Standard::Flag(false))
        .env("PGSTREAM_POSTGRES_SNAPSHOT_STORE_REPEATABLE"),
    key("source.postgres.snapshot.data", Kind::Section, "How rows are copied"),
    key(
        "source.postgres.snapshot.data.schema_workers",
        Kind::Count(1),
        "Indexes and constraints built at once",
    )
    .or(Standard::Count(defaults::COPY_WORKERS))
    .env("PGSTREAM_POSTGRES_SNAPSHOT_SCHEMA_WORKERS"),
    key(
        "source.postgres.snapshot.data.table_workers",
        Kind::Count(1),
        "Tables, or parts of large tables, copied at once; times `snapshot_workers`, and never more than \
         `max_connections`",
    )
    .or(Standard::Count(defaults::COPY_WORKERS))
    .env("PGSTREAM_POSTGRES_SNAPSHOT_TABLE_WORKERS"),
    key("source.postgres.snapshot.data.batch_bytes", Kind::Bytes, "Size of one part of a large table")
        .or(Standard::Bytes(defaults::PART_BYTES))
        .env("PGSTREAM_POSTGRES_SNAPSHOT_BATCH_BYTES"),
    key("source.postgres.snapshot.data.max_connections", Kind::Count(1), "Most connections to the source")
        .or(Standard::Count(defaults::MAX_CONNECTIONS))
        .env("PGSTREAM_POSTGRES_SNAPSHOT_MAX_CONNECTIONS"),
    key("source.postgres.snapshot.schema", Kind::Section, "How the schema is copied"),
    key(
        "source.postgres.snapshot.schema.mode",
        Kind::Word(&["pgdump_pgrestore", "schemalog"]),
        "`schemalog` is accepted, and means the same",
    )
    .or(Standard::Word("pgdump_pgrestore")),
    key("source.postgres.snapshot.schema.pgdump_pgrestore", Kind::Section, "Settings of `pg_dump` and `pg_restore`"),
    key(
        "source.postgres.snapshot.schema.pgdump_pgrestore.clean_target_db",
        Kind::Flag,
        "Build the database anew beside the present one, and swap them when the new one is complete",
    )
    .or(Standard::Flag(false))
    .env("PGSTREAM_POSTGRES_SNAPSHOT_CLEAN_TARGET_DB"),
    key(
        "source.postgres.snapshot.schema.pgdump_pgrestore.create_target_db",
        Kind::Flag,
        "Create the target database when it is missing",
    )
    .or(Standard::Flag(false))
    .env("PGSTREAM_POSTGRES_SNAPSHOT_CREATE_TARGET_DB"),
    key(
        "source.postgres.snapshot.schema.pgdump_pgrestore.include_global_db_objects",
        Kind::Flag,
        "Take the settings of the database, too",
    )
    .or(Standard::Flag(false))
    .env("PGSTREAM_POSTGRES_SNAPSHOT_INCLUDE_GLOBAL_DB_OBJECTS"),
    key(
        "source.postgres.snapshot.schema.pgdump_pgrestore.no_owner",
        Kind::Flag,
        "Leave ownership to the role that connects",
    )
    .or(Standard::Flag(false))
    .env("PGSTREAM_POSTGRES_SNAPSHOT_NO_OWNER"),
    key("source.postgres.snapshot.schema.pgdump_pgrestore.no_privileges", Kind::Flag, "Leave out grants")
        .or(Standard::Flag(false))
        .env("PGSTREAM_POSTGRES_SNAPSHOT_NO_PRIVILEGES"),
    key("source.postgres.snapshot.schema.pgdump_pgrestore.role", Kind::Text, "Role to act as")
        .env("PGSTREAM_POSTGRES_SNAPSHOT_ROLE"),
    key(
        "source.postgres.snapshot.schema.pgdump_pgrestore.roles_snapshot_mode",
        Kind::Word(&["disabled", "no_passwords", "enabled"]),
        "No roles, roles without passwords, or roles with password hashes",
    )
    .or(Standard::Word("no_passwords"))
    .env("PGSTREAM_POSTGRES_SNAPSHOT_ROLES_SNAPSHOT_MODE"),
    key(
        "source.postgres.snapshot.schema.pgdump_pgrestore.exclude_security_labels",
        Kind::Names,
        "Providers of security labels to leave out; `*` means all",
    )
    .also("excluded_security_labels")
    .env("PGSTREAM_POSTGRES_SNAPSHOT_EXCLUDED_SECURITY_LABELS"),
    key(
        "source.postgres.snapshot.schema.pgdump_pgrestore.refresh_materialized_views",
        Kind::Flag,
        "Fill materialized views after the copy",
    )
    .or(Standard::Flag(false))
    .env("PGSTREAM_POSTGRES_SNAPSHOT_REFRESH_MATERIALIZED_VIEWS"),
    key(
        "source.postgres.snapshot.schema.pgdump_pgrestore.index_constraint_session_settings",
        Kind::Settings,
        "Session settings while indexes and constraints are built",
    )
    .env("PGSTREAM_POSTGRES_SNAPSHOT_INDEX_CONSTRAINT_SESSION_SETTINGS"),
    key(
        "source.postgres.snapshot.schema.pgdump_pgrestore.index_restore_workers",
        Kind::Count(1),
        "Beats `data.schema_workers`",
    )
    .or(Standard::Depends("`data.schema_workers`")),
    key("source.postgres.snapshot.schema.pgdump_pgrestore.dump_file", Kind::Path, "Keep the schema dump in this file")
        .env("PGSTREAM_POSTGRES_SNAPSHOT_SCHEMA_DUMP_FILE"),
    key(
        "source.postgres.snapshot.schema.pgdump_pgrestore.include_object_types",
        Kind::Types(SNAPSHOT_TYPES),
        "Copy these object types only; not together with `exclude_object_types`",
    )
    .env("PGSTREAM_POSTGRES_SNAPSHOT_INCLUDE_OBJECT_TYPES"),
    key(
        "source.postgres.snapshot.schema.pgdump_pgrestore.exclude_object_types",
        Kind::Types(SNAPSHOT_TYPES),
        "Copy all object types but these",
    )
    .env("PGSTREAM_POSTGRES_SNAPSHOT_EXCLUDE_OBJECT_TYPES"),
    key("source.postgres.replication", Kind::Section, "The stream"),
    key("source.postgres.replication.replication_slot", Kind::Slot, "Name of the replication slot")
        .or(Standard::Depends("`pgstream_<db>_slot`, `<db>` in lower case with `.` and `-` as `_`"))
        .env("PGSTREAM_POSTGRES_REPLICATION_SLOT_NAME"),
    key("source.postgres.replication.plugin", Kind::Section, "Options of wal2json, as far as they have a meaning here"),
    key("source.postgres.replication.plugin.include_xids", Kind::Flag, "Transaction ids are always there")
        .or(Standard::Flag(false))
        .env("PGSTREAM_POSTGRES_REPLICATION_PLUGIN_INCLUDE_XIDS"),
    key(
        "source.postgres.replication.plugin.add_tables",
        Kind::Patterns,
        "Tables to publish. Narrows `modifiers.filter.include_tables` for the stream",
    )
    .env("PGSTREAM_POSTGRES_REPLICATION_PLUGIN_ADD_TABLES"),
    key(
        "source.postgres.replication.plugin.filter_tables",
        Kind::Patterns,
        "Tables not to publish, in addition to `modifiers.filter.exclude_tables`",
    )
    .env("PGSTREAM_POSTGRES_REPLICATION_PLUGIN_FILTER_TABLES"),
    key("source.postgres.retry_policy", Kind::Section, "Retries after errors that time heals"),
    key("source.postgres.retry_policy.disable_retries", Kind::Flag, "Stop at the first error")
        .or(Standard::Flag(false))
        .env("PGSTREAM_POSTGRES_LISTENER_DISABLE_RETRIES"),
    key("source.postgres.retry_policy.exponential", Kind::Section, "Waits that double; beats `constant`"),
    key("source.postgres.retry_policy.exponential.initial_interval", Kind::Millis, "First wait")
        .or(Standard::Millis(defaults::RETRY_INITIAL_MS))
        .env("PGSTREAM_POSTGRES_LISTENER_EXP_BACKOFF_INITIAL_INTERVAL"),
    key("source.postgres.retry_policy.exponential.max_interval", Kind::Millis, "Longest wait")
        .or(Standard::Millis(defaults::RETRY_MAX_MS))
        .env("PGSTREAM_POSTGRES_LISTENER_EXP_BACKOFF_MAX_INTERVAL"),
    key(
        "source.postgres.retry_policy.exponential.max_retries",
        Kind::Count(0),
        "Tries after the first; 0 for no limit",
    )
    .or(Standard::Count(0))
    .env("PGSTREAM_POSTGRES_LISTENER_EXP_BACKOFF_MAX_RETRIES"),
    key("source.postgres.retry_policy.exponential.max_elapsed_time", Kind::Millis, "Give up after; 0 for never")
        .or(Standard::Millis(0)),
    key("source.postgres.retry_policy.constant", Kind::Section, "Waits that stay the same"),
    key("source.postgres.retry_policy.constant.interval", Kind::Millis, "The wait")
        .or(Standard::Millis(defaults::RETRY_CONSTANT_MS))
        .env("PGSTREAM_POSTGRES_LISTENER_BACKOFF_INTERVAL"),
    key("source.postgres.retry_policy.constant.max_retries", Kind::Count(0), "Tries after the first; 0 for no limit")
        .or(Standard::Count(0))
        .env("PGSTREAM_POSTGRES_LISTENER_BACKOFF_MAX_RETRIES"),
    key("source.kafka", Kind::Free, "A Kafka topic, in pgstream"),
    key("$PGSTREAM_POSTGRES_SNAPSHOT_USE_SCHEMALOG", Kind::Flag, "Says `snapshot.schema.mode: schemalog`")
        .or(Standard::Flag(false))
        .env("PGSTREAM_POSTGRES_SNAPSHOT_USE_SCHEMALOG"),
];
