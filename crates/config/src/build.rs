//! From what was written to what it means.

mod copy;
mod retry;
mod tables;

use std::{num::NonZeroUsize, time::Duration};

use crate::{
    error::{Code, Place},
    pipeline::{
        Instrumentation, LogFormat, LogLevel, Logging, Mode, OnConflict, Pipeline, PostgresTarget, Prometheus, Source,
        SourceOnly, Stream, Target,
    },
    sources::{Command, Overrides},
    written::Written,
};

const MODE: &str = "source.postgres.mode";

/// Paths that Prometheus cannot have.
const HEALTH_PATHS: [&str; 3] = ["/health", "/ready", "/status"];

/// `None` only when a problem was reported.
pub(crate) fn pipeline(w: &mut Written, command: Command, flags: &Overrides) -> Option<Pipeline> {
    let mode = mode(w, command, flags);
    let copies = mode != Mode::Replication;
    if !copies {
        for (given, flag) in [(flags.reset, "--reset"), (flags.data_only, "--data-only")] {
            if given {
                let what = format!("{flag} is about the copy, and source.postgres.mode is replication");
                w.problem(&Place::Flag(flag), Code::Conflict, what, "add --snapshot-tables, or leave it out");
            }
        }
    }
    let silent = command == Command::Run && flags.snapshot_tables.is_empty() && w.word(MODE).is_empty();
    if !copies && silent && !w.has_failed(MODE) && w.has_section("source.postgres.snapshot") {
        let fix =
            "write `mode: snapshot_and_replication` to copy and follow, `snapshot` to copy, or `replication` to follow";
        w.missing("source.postgres", "source.postgres.mode is missing, and there is a section about the copy", fix);
    }
    let source = source(w);
    let target = target(w);
    match &target {
        Some(Target::Stdout) if copies => {
            let place = w.place("target.stdout").cloned().unwrap_or(Place::Nowhere);
            let what = "target.stdout follows changes; it cannot take a snapshot";
            w.problem(&place, Code::Conflict, what, "set source.postgres.mode: replication, or use target.postgres");
        }
        None if !w.has_target() => {
            let fix = "write target.postgres.url, set PGSTREAM_POSTGRES_WRITER_TARGET_URL, or give --target-url";
            w.missing("target", "there is no target", fix);
        }
        _ => {}
    }
    let snapshot = copy::snapshot(w, mode);
    let stream = stream(w);
    let instrumentation = instrumentation(w);
    Some(Pipeline { source: source?, target: target?, mode, snapshot, stream, instrumentation })
}

/// `None` only when a problem was reported.
pub(crate) fn source_only(w: &mut Written) -> Option<SourceOnly> {
    let mode = mode(w, Command::Run, &Overrides::default());
    let source = source(w);
    let target = target(w);
    let tables = tables::of_stream(w);
    Some(SourceOnly { source: source?, target, mode, tables })
}

fn mode(w: &Written, command: Command, flags: &Overrides) -> Mode {
    if command == Command::Snapshot {
        return Mode::Snapshot;
    }
    if !flags.snapshot_tables.is_empty() {
        return Mode::SnapshotAndReplication;
    }
    let lists = ["source.postgres.snapshot.tables", "source.postgres.snapshot.excluded_tables"];
    match w.word(MODE) {
        "snapshot" => Mode::Snapshot,
        "snapshot_and_replication" => Mode::SnapshotAndReplication,
        "" if lists.iter().any(|list| !w.patterns(list).is_empty()) => Mode::SnapshotAndReplication,
        _ => Mode::Replication,
    }
}

fn source(w: &mut Written) -> Option<Source> {
    let retry = retry::policy(w, "source.postgres.retry_policy");
    let slot = w.text("source.postgres.replication.replication_slot");
    match w.url("source.postgres.url") {
        Some(url) => Some(Source { url, slot, retry }),
        None => {
            if !w.has_failed("source.postgres.url") && w.place("source.kafka").is_none() {
                let fix = "write it, set PGSTREAM_POSTGRES_LISTENER_URL, or give --source-url (of run) or \
                           --postgres-url (of other commands)";
                w.missing("source.postgres", "source.postgres.url is missing", fix);
            }
            None
        }
    }
}

fn target(w: &mut Written) -> Option<Target> {
    let url = w.url("target.postgres.url");
    let target = postgres_target(w);
    let postgres = url.is_some() || w.has_failed("target.postgres.url") || w.has_section("target.postgres");
    let stdout = w.has_section("target.stdout") || w.flag("$PGSTREAM_STDOUT_WRITER_ENABLED");
    if postgres && stdout {
        let places = ["target.stdout", "$PGSTREAM_STDOUT_WRITER_ENABLED", "target.postgres", "target.postgres.url"];
        let place = places.iter().filter_map(|path| w.place(path)).max().cloned().unwrap_or(Place::Nowhere);
        let what = "target.postgres and target.stdout are both given, and a pipeline has one target";
        w.problem(&place, Code::Conflict, what, "remove one of the two");
        return None;
    }
    match (stdout, url) {
        (true, _) => Some(Target::Stdout),
        (false, Some(url)) => Some(Target::Postgres(PostgresTarget { url, ..target })),
        (false, None) => {
            if postgres && !w.has_failed("target.postgres.url") {
                let fix = "write it, set PGSTREAM_POSTGRES_WRITER_TARGET_URL, or give --target-url";
                w.missing("target.postgres", "target.postgres.url is missing", fix);
            }
            None
        }
    }
}

/// All but the URL.
fn postgres_target(w: &mut Written) -> PostgresTarget {
    let ignore_errors = "target.postgres.batch.ignore_send_errors";
    if w.flag(ignore_errors) {
        let place = w.place(ignore_errors).cloned().unwrap_or(Place::Nowhere);
        let what =
            format!("{ignore_errors}: true is refused, because a change that fails would be lost without a trace");
        w.problem(&place, Code::Refused, what, "remove it: a change that cannot be applied stops the stream instead");
    }
    let strict = w.flag("target.postgres.strict_mode");
    if !strict {
        w.notice(
            "target.postgres.strict_mode",
            "accepted: a change that cannot be applied always stops the stream, so that none is lost",
        );
    }
    // Checked here, and of no use yet.
    object_types(w, "target.postgres.include_ddl_object_types", "target.postgres.exclude_ddl_object_types");
    PostgresTarget {
        url: String::new().into(),
        max_connections: at_least_one(w.number("target.postgres.max_connections")),
        disable_triggers: w.flag_written("target.postgres.disable_triggers"),
        on_conflict: match w.word("target.postgres.on_conflict_action") {
            "nothing" => OnConflict::Nothing,
            "update" => OnConflict::Update,
            _ => OnConflict::Error,
        },
        strict,
        ignore_ddl: w.flag("target.postgres.ignore_ddl"),
        retry: retry::policy(w, "target.postgres.retry_policy"),
    }
}

fn stream(w: &mut Written) -> Stream {
    let queue_bytes = w.number("target.postgres.batch.max_queue_bytes");
    let batch_bytes = w.number("target.postgres.batch.max_bytes");
    if batch_bytes > queue_bytes && w.place("target.postgres.batch.max_bytes").is_some() {
        w.notice("target.postgres.batch.max_bytes", "more than max_queue_bytes, which holds instead");
    }
    Stream {
        tables: tables::of_stream(w),
        batch_bytes: batch_bytes.min(queue_bytes),
        batch_changes: usize::try_from(w.number("target.postgres.batch.size")).unwrap_or(usize::MAX),
        queue_bytes,
        batch_timeout: w.time("target.postgres.batch.timeout"),
        strip_null_char_bytes: w.flag("modifiers.sanitize.strip_null_char_bytes"),
    }
}

fn instrumentation(w: &mut Written) -> Instrumentation {
    let address = w.text("instrumentation.health.address").unwrap_or_default();
    let health = w.flag("instrumentation.health.enabled").then(|| address.clone());
    let enabled = "instrumentation.metrics.prometheus.enabled";
    if !w.flag(enabled) {
        return Instrumentation { health, prometheus: None };
    }
    if health.is_none() {
        let place = w.place(enabled).cloned().unwrap_or(Place::Nowhere);
        let what = format!("{enabled} needs the server of instrumentation.health, which is not enabled");
        w.problem(&place, Code::Conflict, what, "set instrumentation.health.enabled: true");
    }
    let endpoint = "instrumentation.metrics.prometheus.endpoint";
    let path = w.text(endpoint).unwrap_or_default();
    if HEALTH_PATHS.contains(&path.as_str()) {
        let place = w.place(endpoint).cloned().unwrap_or(Place::Nowhere);
        let what = format!("{endpoint} is `{path}`, which is a path of instrumentation.health");
        w.problem(&place, Code::Conflict, what, "choose another, such as `/metrics`");
    }
    Instrumentation { health, prometheus: Some(Prometheus { address, path }) }
}

/// How to log, whatever else is wrong.
pub(crate) fn logging(w: &Written) -> Logging {
    Logging {
        level: match w.word("logging.level") {
            "trace" => LogLevel::Trace,
            "debug" => LogLevel::Debug,
            "warn" => LogLevel::Warn,
            "error" | "fatal" | "panic" => LogLevel::Error,
            _ => LogLevel::Info,
        },
        format: if w.word("logging.format.type") == "json" { LogFormat::Json } else { LogFormat::Console },
        no_color: w.flag("logging.format.no_color"),
    }
}

/// One list or the other.
fn object_types(w: &mut Written, include: &'static str, exclude: &'static str) -> crate::pipeline::ObjectTypes {
    use crate::pipeline::ObjectTypes;
    let (only, except) = (w.types(include).to_vec(), w.types(exclude).to_vec());
    match (only.is_empty(), except.is_empty()) {
        (true, true) => ObjectTypes::All,
        (false, true) => ObjectTypes::Only(only),
        (true, false) => ObjectTypes::Except(except),
        (false, false) => {
            let places = [include, exclude].map(|path| w.place(path).cloned().unwrap_or(Place::Nowhere));
            let place = places.iter().max().cloned().unwrap_or(Place::Nowhere);
            let what = format!("{include} and {exclude} are both written");
            w.problem(&place, Code::Conflict, what, "write one of them: what is not included is excluded");
            ObjectTypes::All
        }
    }
}

fn at_least_one(number: u64) -> NonZeroUsize {
    NonZeroUsize::new(usize::try_from(number).unwrap_or(usize::MAX)).unwrap_or(NonZeroUsize::MIN)
}

/// `None` for zero, which Go programs write for nothing.
fn some_time(time: Duration) -> Option<Duration> {
    (!time.is_zero()).then_some(time)
}
