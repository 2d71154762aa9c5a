//! `target.*`.

use super::{DDL_TYPES, Key, Kind, Standard, key};
use crate::defaults;

pub(super) const KEYS: &[Key] = &[
    key("target", Kind::Section, "Where rows go; exactly one"),
    key("target.postgres", Kind::Section, "A PostgreSQL server"),
    key("target.postgres.url", Kind::Url, "As `source.postgres.url`").env("PGSTREAM_POSTGRES_WRITER_TARGET_URL"),
    key("target.postgres.max_connections", Kind::Count(1), "Most connections that the copy opens")
        .or(Standard::Count(defaults::MAX_CONNECTIONS))
        .env("PGSTREAM_POSTGRES_WRITER_MAX_CONNECTIONS"),
    key(
        "target.postgres.disable_triggers",
        Kind::Flag,
        "Write under `session_replication_role = replica`, so that no trigger fires; on RDS the role needs \
         `rds_superuser`",
    )
    .or(Standard::Depends("when the role is allowed to"))
    .env("PGSTREAM_POSTGRES_WRITER_DISABLE_TRIGGERS"),
    key(
        "target.postgres.on_conflict_action",
        Kind::Word(&["error", "nothing", "update"]),
        "When a row was on the target before: stop, keep the target's, or take the source's",
    )
    .or(Standard::Word("error"))
    .env("PGSTREAM_POSTGRES_WRITER_ON_CONFLICT_ACTION"),
    key(
        "target.postgres.strict_mode",
        Kind::Flag,
        "Stop at the first change that cannot be applied. Always so: `false` is refused",
    )
    .or(Standard::Flag(true))
    .env("PGSTREAM_POSTGRES_WRITER_STRICT_MODE"),
    key("target.postgres.ignore_ddl", Kind::Flag, "Do not apply schema changes")
        .or(Standard::Flag(false))
        .env("PGSTREAM_POSTGRES_WRITER_IGNORE_DDL"),
    key(
        "target.postgres.include_ddl_object_types",
        Kind::Types(DDL_TYPES),
        "Apply the DDL of these object types only; not together with `exclude_ddl_object_types`",
    )
    .env("PGSTREAM_POSTGRES_WRITER_INCLUDE_DDL_OBJECT_TYPES"),
    key(
        "target.postgres.exclude_ddl_object_types",
        Kind::Types(DDL_TYPES),
        "Apply the DDL of all object types but these",
    )
    .env("PGSTREAM_POSTGRES_WRITER_EXCLUDE_DDL_OBJECT_TYPES"),
    key("target.postgres.schema_log_store_url", Kind::Url, "Where older versions of pgstream keep the schema log")
        .env("PGSTREAM_POSTGRES_WRITER_SCHEMALOG_STORE_URL"),
    key("target.postgres.batch", Kind::Section, "How changes are batched"),
    key("target.postgres.batch.timeout", Kind::Millis, "How long a batch waits for more changes")
        .env("PGSTREAM_POSTGRES_WRITER_BATCH_TIMEOUT"),
    key("target.postgres.batch.size", Kind::Count(1), "Most changes in a batch")
        .or(Standard::Count(defaults::BATCH_CHANGES))
        .env("PGSTREAM_POSTGRES_WRITER_BATCH_SIZE"),
    key("target.postgres.batch.max_bytes", Kind::Bytes, "Most bytes of changes in a batch")
        .or(Standard::Bytes(defaults::BATCH_BYTES))
        .env("PGSTREAM_POSTGRES_WRITER_BATCH_BYTES"),
    key(
        "target.postgres.batch.max_queue_bytes",
        Kind::Bytes,
        "Most bytes held between source and target: three batches",
    )
    .or(Standard::Bytes(defaults::QUEUE_BYTES))
    .env("PGSTREAM_POSTGRES_WRITER_MAX_QUEUE_BYTES"),
    key("target.postgres.batch.ignore_send_errors", Kind::Flag, "`true` is refused: it loses changes")
        .or(Standard::Flag(false))
        .env("PGSTREAM_POSTGRES_WRITER_BATCH_IGNORE_SEND_ERRORS"),
    key("target.postgres.batch.auto_tune", Kind::Section, "pgstream's search for the best batch size"),
    key("target.postgres.batch.auto_tune.enabled", Kind::Flag, "Whether to search")
        .or(Standard::Flag(false))
        .env("PGSTREAM_POSTGRES_WRITER_BATCH_AUTO_TUNE_ENABLE"),
    key("target.postgres.batch.auto_tune.min_batch_bytes", Kind::Bytes, "Smallest batch")
        .env("PGSTREAM_POSTGRES_WRITER_BATCH_AUTO_TUNE_MIN_BYTES"),
    key("target.postgres.batch.auto_tune.max_batch_bytes", Kind::Bytes, "Largest batch")
        .env("PGSTREAM_POSTGRES_WRITER_BATCH_AUTO_TUNE_MAX_BYTES"),
    key("target.postgres.batch.auto_tune.convergence_threshold", Kind::Ratio, "When to stop searching")
        .env("PGSTREAM_POSTGRES_WRITER_BATCH_AUTO_TUNE_CONVERGENCE_THRESHOLD"),
    key("target.postgres.bulk_ingest", Kind::Section, "pgstream's switch between INSERT and COPY"),
    key("target.postgres.bulk_ingest.enabled", Kind::Flag, "The copy always uses COPY")
        .env("PGSTREAM_POSTGRES_WRITER_BULK_INGEST_ENABLED"),
    key("target.postgres.bulk_ingest.copy_workers", Kind::Count(1), "See `source.postgres.snapshot.data`")
        .env("PGSTREAM_POSTGRES_WRITER_BULK_INGEST_COPY_WORKERS"),
    key(
        "target.postgres.retry_policy",
        Kind::Section,
        "As `source.postgres.retry_policy`, which beats it: one policy governs both servers",
    ),
    key("target.postgres.retry_policy.disable_retries", Kind::Flag, "Stop at the first error")
        .or(Standard::Flag(false))
        .env("PGSTREAM_POSTGRES_WRITER_DISABLE_RETRIES"),
    key("target.postgres.retry_policy.exponential", Kind::Section, "Waits that double; beats `constant`"),
    key("target.postgres.retry_policy.exponential.initial_interval", Kind::Millis, "First wait")
        .or(Standard::Millis(defaults::RETRY_INITIAL_MS))
        .env("PGSTREAM_POSTGRES_WRITER_EXP_BACKOFF_INITIAL_INTERVAL"),
    key("target.postgres.retry_policy.exponential.max_interval", Kind::Millis, "Longest wait")
        .or(Standard::Millis(defaults::RETRY_MAX_MS))
        .env("PGSTREAM_POSTGRES_WRITER_EXP_BACKOFF_MAX_INTERVAL"),
    key(
        "target.postgres.retry_policy.exponential.max_retries",
        Kind::Count(0),
        "Tries after the first; 0 for no limit",
    )
    .or(Standard::Count(0))
    .env("PGSTREAM_POSTGRES_WRITER_EXP_BACKOFF_MAX_RETRIES"),
    key("target.postgres.retry_policy.exponential.max_elapsed_time", Kind::Millis, "Give up after; 0 for never")
        .or(Standard::Millis(0)),
    key("target.postgres.retry_policy.constant", Kind::Section, "Waits that stay the same"),
    key("target.postgres.retry_policy.constant.interval", Kind::Millis, "The wait")
        .or(Standard::Millis(defaults::RETRY_CONSTANT_MS))
        .env("PGSTREAM_POSTGRES_WRITER_BACKOFF_INTERVAL"),
    key("target.postgres.retry_policy.constant.max_retries", Kind::Count(0), "Tries after the first; 0 for no limit")
        .or(Standard::Count(0))
        .env("PGSTREAM_POSTGRES_WRITER_BACKOFF_MAX_RETRIES"),
    key("target.stdout", Kind::Section, "`stdout: {}`: changes as newline-delimited JSON on standard output"),
    key("target.kafka", Kind::Free, "A Kafka topic, in pgstream"),
    key("target.search", Kind::Free, "Elasticsearch or OpenSearch, in pgstream"),
    key("target.webhooks", Kind::Free, "HTTP subscribers, in pgstream"),
    key("$PGSTREAM_STDOUT_WRITER_ENABLED", Kind::Flag, "Says `target.stdout: {}`")
        .or(Standard::Flag(false))
        .env("PGSTREAM_STDOUT_WRITER_ENABLED"),
];
