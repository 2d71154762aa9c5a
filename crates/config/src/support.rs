//! What is understood but not done, in one place: to lift an entry is to build it and delete the line.

/// How far a key goes in this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// It does what it says.
    Available,
    /// It is accepted, but does not do what it says.
    Accepted {
        /// The key or section that is listed below.
        key: &'static str,
        /// What holds instead.
        holds: &'static str,
    },
    /// It is an error to use it.
    NotYet {
        /// The key or section that is listed below.
        key: &'static str,
        /// What to do instead.
        instead: &'static str,
    },
    /// A source or target that pgstream has and this program does not.
    NotHere,
}

/// Understood, and to be built: key, and what to do instead.
const NOT_YET: &[(&str, &str)] = &[
    (
        "modifiers.transformations",
        "remove it, and keep the tables that must not be copied as they are out with modifiers.filter.exclude_tables",
    ),
    ("$PGSTREAM_TRANSFORMER_RULES_FILE", "unset it"),
    ("instrumentation.metrics.endpoint", "remove it, and scrape instrumentation.metrics.prometheus"),
    ("instrumentation.traces.endpoint", "remove it"),
];

/// Accepted, without doing what it says: key, and what holds instead.
const ACCEPTED: &[(&str, &str)] = &[
    ("source.postgres.snapshot.recorder.postgres_url", "the record of copied tables is kept on the target"),
    ("source.postgres.replication.plugin.include_xids", "wal2json is not used; pgoutput always has transaction ids"),
    (
        "source.postgres.replication.plugin.add_tables",
        "wal2json is not used; the list becomes a setting of the publication",
    ),
    (
        "source.postgres.replication.plugin.filter_tables",
        "wal2json is not used; the list becomes a setting of the publication",
    ),
    ("$PGSTREAM_POSTGRES_SNAPSHOT_USE_SCHEMALOG", "the schema is always copied with pg_dump and pg_restore"),
    ("target.postgres.schema_log_store_url", "the schema log is read from the source, in order with the rows"),
    ("target.postgres.batch.timeout", "a batch leaves as soon as the target is ready for it"),
    ("target.postgres.batch.auto_tune", "batches grow under backlog and shrink when caught up by themselves"),
    ("target.postgres.bulk_ingest", "the copy always uses COPY, the stream when it pays"),
    ("modifiers.injector", "it is not needed between PostgreSQL servers"),
    ("modifiers.sanitize", "PostgreSQL text never holds NUL bytes, so there is nothing to strip"),
    ("instrumentation.metrics.collection_interval", "it concerns instrumentation.metrics.endpoint only"),
    ("instrumentation.traces.sample_ratio", "it concerns instrumentation.traces.endpoint only"),
];

/// Sources and targets of pgstream: key.
const NOT_HERE: &[&str] = &["source.kafka", "target.kafka", "target.search", "target.webhooks"];

/// Variables that configure them: prefix, and what they belong to.
const VARIABLES_NOT_HERE: &[(&str, &str)] = &[
    ("PGSTREAM_KAFKA_", "Kafka"),
    ("PGSTREAM_NATS_", "NATS"),
    ("PGSTREAM_SEARCH_", "search"),
    ("PGSTREAM_OPENSEARCH_", "search"),
    ("PGSTREAM_ELASTICSEARCH_", "search"),
    ("PGSTREAM_WEBHOOK_", "webhook"),
];

/// Those of them without which pgstream has no such source or target: variable, and what it belongs to.
pub(crate) const VARIABLES_THAT_SELECT: &[(&str, &str)] = &[
    ("PGSTREAM_KAFKA_READER_SERVERS", "Kafka"),
    ("PGSTREAM_KAFKA_WRITER_SERVERS", "Kafka"),
    ("PGSTREAM_NATS_JETSTREAM_READER_URL", "NATS"),
    ("PGSTREAM_NATS_JETSTREAM_WRITER_URL", "NATS"),
    ("PGSTREAM_OPENSEARCH_STORE_URL", "search"),
    ("PGSTREAM_ELASTICSEARCH_STORE_URL", "search"),
    ("PGSTREAM_WEBHOOK_SUBSCRIPTION_STORE_URL", "webhook"),
];

/// How far the key at `path`, or the section above it, goes.
pub(crate) fn status(path: &str) -> Status {
    let covers = |key: &str| path.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    if NOT_HERE.iter().any(|key| covers(key)) {
        return Status::NotHere;
    }
    if let Some((key, instead)) = NOT_YET.iter().find(|(key, _)| covers(key)) {
        return Status::NotYet { key, instead };
    }
    match ACCEPTED.iter().find(|(key, _)| covers(key)) {
        Some((key, holds)) => Status::Accepted { key, holds },
        None => Status::Available,
    }
}

/// What the variable belongs to, when it is something that this program does not have.
pub(crate) fn variable_not_here(variable: &str) -> Option<&'static str> {
    VARIABLES_NOT_HERE.iter().find(|(prefix, _)| variable.starts_with(prefix)).map(|(_, what)| *what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys;

    #[test]
    fn every_entry_is_a_key() {
        let entries = NOT_YET.iter().map(|e| e.0).chain(ACCEPTED.iter().map(|e| e.0)).chain(NOT_HERE.iter().copied());
        for entry in entries {
            assert!(keys::find(entry).is_some(), "{entry}");
        }
    }

    #[test]
    fn a_section_covers_its_keys_and_no_more() {
        assert!(matches!(status("modifiers.transformations.table_transformers"), Status::NotYet { .. }));
        assert_eq!(status("target.postgres.batch.max_bytes"), Status::Available);
        assert_eq!(status("target.kafka.topic"), Status::NotHere);
        assert_eq!(status("instrumentation.metrics.prometheus.endpoint"), Status::Available);
    }
}
