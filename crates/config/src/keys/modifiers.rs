//! `modifiers.*`, `instrumentation.*`, `logging.*`, `aws.*`.

use super::{Key, Kind, Standard, key};
use crate::defaults;

const SECRET: &str = "The name or ARN of a secret of Secrets Manager in the form that RDS writes. With a postgresql:// URL, user and \
                      password come from it; without a URL, all of it does";
const IAM_AUTH: &str = "Log in with IAM tokens, one for each connection, instead of a password";
const IDENTIFIER: &str =
    "The instance or cluster whose endpoint completes a secret without a host, such as one that RDS manages";

pub(super) const KEYS: &[Key] = &[
    key("modifiers", Kind::Section, "What happens to changes on the way"),
    key("modifiers.filter", Kind::Section, "Which tables take part in the copy and in the stream"),
    key("modifiers.filter.include_tables", Kind::Patterns, "Tables that take part; all when empty")
        .env("PGSTREAM_FILTER_INCLUDE_TABLES"),
    key("modifiers.filter.exclude_tables", Kind::Patterns, "Tables that do not; beats every other list")
        .env("PGSTREAM_FILTER_EXCLUDE_TABLES"),
    key(
        "modifiers.filter.schema_only_tables",
        Kind::Patterns,
        "Tables whose schema takes part, but not their rows; a table included by name beats a wildcard here",
    )
    .env("PGSTREAM_FILTER_SCHEMA_ONLY_TABLES"),
    key("modifiers.sanitize", Kind::Section, "Repairs of values"),
    key("modifiers.sanitize.strip_null_char_bytes", Kind::Flag, "Take NUL characters out of text")
        .or(Standard::Flag(false))
        .env("PGSTREAM_PROCESSOR_SANITIZE_STRIP_NULL_CHAR_BYTES"),
    key("modifiers.injector", Kind::Section, "pgstream's metadata for search targets"),
    key("modifiers.injector.enabled", Kind::Flag, "Whether to add it").or(Standard::Flag(false)),
    key("modifiers.injector.source_url", Kind::Url, "Where it is kept").env("PGSTREAM_INJECTOR_STORE_POSTGRES_URL"),
    key("modifiers.injector.schemalog_url", Kind::Url, "The same, in older versions"),
    key("modifiers.transformations", Kind::Section, "Column transformers: anonymisation"),
    key(
        "modifiers.transformations.validation_mode",
        Kind::Word(&["strict", "relaxed", "table_level"]),
        "Whether every column has to be named",
    )
    .or(Standard::Word("relaxed")),
    key(
        "modifiers.transformations.on_error",
        Kind::Word(&["null", "fail", "pass-through"]),
        "When a value cannot be transformed",
    )
    .or(Standard::Word("fail")),
    key(
        "modifiers.transformations.infer_from_security_labels",
        Kind::Flag,
        "Take rules from the `anon` labels of the source",
    )
    .or(Standard::Flag(false)),
    key("modifiers.transformations.dump_inferred_rules", Kind::Flag, "Write the inferred rules to a file")
        .or(Standard::Flag(false)),
    key("modifiers.transformations.table_transformers", Kind::Sections, "The rules, one item a table"),
    key("modifiers.transformations.table_transformers.[].schema", Kind::Text, "Schema of the table"),
    key("modifiers.transformations.table_transformers.[].table", Kind::Text, "The table"),
    key(
        "modifiers.transformations.table_transformers.[].validation_mode",
        Kind::Word(&["strict", "relaxed"]),
        "For this table, when the overall one is `table_level`",
    ),
    key(
        "modifiers.transformations.table_transformers.[].column_transformers",
        Kind::Section,
        "The transformers of the table, by column",
    ),
    key(
        "modifiers.transformations.table_transformers.[].column_transformers.*",
        Kind::Section,
        "The transformer of this column",
    ),
    key(
        "modifiers.transformations.table_transformers.[].column_transformers.*.name",
        Kind::Text,
        "Name of the transformer",
    ),
    key(
        "modifiers.transformations.table_transformers.[].column_transformers.*.parameters",
        Kind::Free,
        "Parameters of the transformer",
    ),
    key(
        "modifiers.transformations.table_transformers.[].column_transformers.*.dynamic_parameters",
        Kind::Free,
        "Parameters taken from other columns",
    ),
    key(
        "modifiers.transformations.table_transformers.[].column_transformers.*.allow_uniqueness_loss",
        Kind::Flag,
        "Accept that a unique column may get equal values",
    )
    .or(Standard::Flag(false)),
    key("$PGSTREAM_TRANSFORMER_RULES_FILE", Kind::Path, "A YAML file with the rules")
        .env("PGSTREAM_TRANSFORMER_RULES_FILE"),
    key("instrumentation", Kind::Section, "What the process tells about itself"),
    key("instrumentation.health", Kind::Section, "The endpoints `/health`, `/ready` and `/status`"),
    key("instrumentation.health.enabled", Kind::Flag, "Whether to serve them")
        .or(Standard::Flag(false))
        .env("PGSTREAM_HEALTH_CHECK_ENABLED"),
    key("instrumentation.health.address", Kind::Address, "Where; `:9910` means on every interface")
        .or(Standard::Text(defaults::HEALTH_ADDRESS))
        .env("PGSTREAM_HEALTH_CHECK_ADDRESS"),
    key("instrumentation.metrics", Kind::Section, "Metrics"),
    key("instrumentation.metrics.prometheus", Kind::Section, "The endpoint for Prometheus"),
    key(
        "instrumentation.metrics.prometheus.enabled",
        Kind::Flag,
        "Whether to serve it, on the address of `health`, which it brings along",
    )
    .or(Standard::Flag(false))
    .env("PGSTREAM_METRICS_PROMETHEUS_ENABLED"),
    key("instrumentation.metrics.prometheus.endpoint", Kind::HttpPath, "Its path")
        .or(Standard::Text(defaults::PROMETHEUS_PATH))
        .env("PGSTREAM_METRICS_PROMETHEUS_ENDPOINT"),
    key("instrumentation.metrics.endpoint", Kind::Text, "An OTLP collector to push metrics to")
        .env("PGSTREAM_METRICS_ENDPOINT"),
    key("instrumentation.metrics.collection_interval", Kind::Seconds, "How often to push")
        .or(Standard::Seconds(defaults::COLLECTION_INTERVAL_S))
        .env("PGSTREAM_METRICS_COLLECTION_INTERVAL"),
    key("instrumentation.traces", Kind::Section, "Traces"),
    key("instrumentation.traces.endpoint", Kind::Text, "An OTLP collector to push traces to")
        .env("PGSTREAM_TRACES_ENDPOINT"),
    key("instrumentation.traces.sample_ratio", Kind::Ratio, "How many to push").env("PGSTREAM_TRACES_SAMPLE_RATIO"),
    key("logging", Kind::Section, "The log, on standard error"),
    key(
        "logging.level",
        Kind::Word(&["trace", "debug", "info", "warn", "error", "fatal", "panic"]),
        "The least important lines that are shown; `fatal` and `panic` mean `error`",
    )
    .or(Standard::Word("info"))
    .env("PGSTREAM_LOG_LEVEL"),
    key("logging.format", Kind::Section, "Its form"),
    key("logging.format.type", Kind::Word(&["console", "json"]), "For people or for machines")
        .or(Standard::Word("console"))
        .env("PGSTREAM_LOG_FORMAT"),
    key("logging.format.no_color", Kind::Flag, "No colours on a terminal")
        .or(Standard::Flag(false))
        .env("PGSTREAM_LOG_NO_COLOR"),
    key("aws", Kind::Section, "What pgstream does not have: where AWS keeps what the servers ask for"),
    key("aws.source", Kind::Section, "How the source is logged in to"),
    key("aws.source.secret", Kind::Text, SECRET),
    key("aws.source.iam_auth", Kind::Flag, IAM_AUTH).or(Standard::Flag(false)),
    key("aws.source.identifier", Kind::Text, IDENTIFIER),
    key("aws.target", Kind::Section, "How the target is logged in to"),
    key("aws.target.secret", Kind::Text, SECRET),
    key("aws.target.iam_auth", Kind::Flag, IAM_AUTH).or(Standard::Flag(false)),
    key("aws.target.identifier", Kind::Text, IDENTIFIER),
    key("aws.metrics", Kind::Section, "Metrics of the stream for CloudWatch"),
    key(
        "aws.metrics.to",
        Kind::Word(&["none", "emf", "cloudwatch"]),
        "`emf`: lines on standard output that CloudWatch Logs turns into metrics; `cloudwatch`: calls of PutMetricData",
    )
    .or(Standard::Word("none"))
    .env("PGSTREAM_AWS_METRICS_TO"),
    key("aws.metrics.interval", Kind::Seconds, "How often")
        .or(Standard::Seconds(defaults::AWS_METRICS_INTERVAL_S))
        .env("PGSTREAM_AWS_METRICS_INTERVAL"),
    key("$PGSTREAM_CONFIG", Kind::Path, "The configuration file, when `-c` is not given").env("PGSTREAM_CONFIG"),
];
