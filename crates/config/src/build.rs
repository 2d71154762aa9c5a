//! From what was written to what it means.

mod access;
mod copy;
mod retry;
mod tables;

use std::{num::NonZeroUsize, time::Duration};

use crate::{
    defaults,
    error::{Code, Place},
    load::{Needs, Overrides},
    pipeline::{
        Access, CloudWatchMetrics, Instrumentation, MetricsTo, Mode, ObjectTypes, OnConflict, Pipeline, PostgresTarget,
        Prometheus, Source, Stream, Target,
    },
    written::Written,
};

const MODE: &str = "source.postgres.mode";
const TABLES: &str = "source.postgres.snapshot.tables";
const EXCLUDED: &str = "source.postgres.snapshot.excluded_tables";

/// Paths that Prometheus cannot have.
const HEALTH_PATHS: [&str; 3] = ["/health", "/ready", "/status"];

/// `None` only when a problem was reported.
pub(crate) fn pipeline(w: &mut Written, flags: &Overrides, needs: Needs) -> Option<Pipeline> {
    let mode = mode(w, flags);
    let copies = mode != Mode::Replication;
    let source = source(w);
    let target = target(w);
    if needs == Needs::SourceAndTarget {
        check_mode(w, flags, copies);
        check_target(w, target.as_ref(), copies);
    }
    let snapshot = copy::snapshot(w, mode);
    let stream = stream(w);
    let instrumentation = instrumentation(w);
    Some(Pipeline { source: source?, target, mode, snapshot, stream, instrumentation })
}

fn mode(w: &Written, flags: &Overrides) -> Mode {
    // `--snapshot-tables` of `run` asks for a copy, whatever the mode.
    if flags.default_mode.is_none() && !flags.snapshot_tables.is_empty() {
        return Mode::SnapshotAndReplication;
    }
    let listed = [TABLES, EXCLUDED].iter().any(|list| !w.patterns(list).is_empty());
    match (w.word(MODE), flags.default_mode) {
        ("snapshot", _) => Mode::Snapshot,
        ("snapshot_and_replication", _) => Mode::SnapshotAndReplication,
        ("replication", _) => Mode::Replication,
        (_, Some(mode)) => mode,
        (_, None) if listed => Mode::SnapshotAndReplication,
        (_, None) => Mode::Replication,
    }
}

/// A mode without a copy must be meant.
fn check_mode(w: &mut Written, flags: &Overrides, copies: bool) {
    if copies || flags.default_mode.is_some() {
        return;
    }
    for (given, flag) in [(flags.reset, "--reset"), (flags.data_only, "--data-only")] {
        if given {
            let what = format!("{flag} is about the copy, and source.postgres.mode is replication");
            w.problem(&Place::Flag(flag), Code::Conflict, what, "add --snapshot-tables, or leave it out");
        }
    }
    if w.word(MODE).is_empty() && !w.has_failed(MODE) && w.has_section("source.postgres.snapshot") {
        let fix =
            "write `mode: snapshot_and_replication` to copy and follow, `snapshot` to copy, or `replication` to follow";
        w.missing("source.postgres", "source.postgres.mode is missing, and there is a section about the copy", fix);
    }
}

fn check_target(w: &mut Written, target: Option<&Target>, copies: bool) {
    match target {
        Some(Target::Stdout) if copies => {
            let place = w.place("target.stdout").cloned().unwrap_or(Place::Nowhere);
            let what = "target.stdout follows changes; it cannot take a snapshot";
            w.problem(&place, Code::Conflict, what, "set source.postgres.mode: replication, or use target.postgres");
        }
        None if !w.has_target() => {
            let fix = "write target.postgres.url, set PGSTREAM_POSTGRES_WRITER_TARGET_URL, or give --target-url";
            w.missing("target", "no target is configured", fix);
        }
        _ => {}
    }
}

fn source(w: &mut Written) -> Option<Source> {
    let retry = retry::of_the_pipeline(w);
    let slot = w.text("source.postgres.replication.replication_slot");
    match access::of(w, &access::SOURCE) {
        Some((url, access)) => Some(Source { url, access, slot, retry }),
        None => {
            if !w.has_failed("source.postgres.url")
                && w.place("source.kafka").is_none()
                && w.place("aws.source.secret").is_none()
            {
                let fix = "write it, set PGSTREAM_POSTGRES_LISTENER_URL, or give --source-url (of run) or \
                           --postgres-url (of other commands)";
                w.missing("source.postgres", "no source is configured: source.postgres.url is missing", fix);
            }
            None
        }
    }
}

fn target(w: &mut Written) -> Option<Target> {
    let url = access::of(w, &access::TARGET);
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
        (false, Some((url, access))) => Some(Target::Postgres(PostgresTarget { url, access, ..target })),
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
    refuse(w, "target.postgres.batch.ignore_send_errors", true, "remove it, or set it to false");
    refuse(w, "target.postgres.strict_mode", false, "remove it, or set it to true");
    PostgresTarget {
        url: String::new().into(),
        access: Access::Url,
        max_connections: at_least_one(w.number("target.postgres.max_connections")),
        disable_triggers: w.flag_written("target.postgres.disable_triggers"),
        on_conflict: match w.word("target.postgres.on_conflict_action") {
            "nothing" => OnConflict::Nothing,
            "update" => OnConflict::Update,
            _ => OnConflict::Error,
        },
    }
}

/// A setting under which rows would be lost.
fn refuse(w: &mut Written, path: &'static str, value: bool, fix: &str) {
    if w.flag_written(path) == Some(value) {
        let place = w.place(path).cloned().unwrap_or(Place::Nowhere);
        let what = format!("{path}: {value} is refused: a change that cannot be applied would be lost without a trace");
        w.problem(&place, Code::Refused, what, format!("{fix}: such a change stops the stream"));
    }
}

fn stream(w: &mut Written) -> Stream {
    let batch = "target.postgres.batch.max_bytes";
    let most = w.number("target.postgres.batch.max_queue_bytes") / defaults::BATCHES_IN_MEMORY;
    if w.number_written(batch).is_some_and(|bytes| bytes > most) {
        w.notice(
            batch,
            "more than a third of max_queue_bytes, which holds instead: three batches are in memory at once",
        );
    }
    Stream {
        tables: tables::of_stream(w),
        batch_bytes: w.number(batch).min(most).max(1),
        batch_changes: usize::try_from(w.number("target.postgres.batch.size")).unwrap_or(usize::MAX),
        ignore_ddl: w.flag("target.postgres.ignore_ddl"),
        ddl_types: object_types(
            w,
            "target.postgres.include_ddl_object_types",
            "target.postgres.exclude_ddl_object_types",
        ),
    }
}

/// Prometheus is served on the address of health, and so brings it along.
fn instrumentation(w: &mut Written) -> Instrumentation {
    let address = w.text("instrumentation.health.address").unwrap_or_default();
    let prometheus = w.flag("instrumentation.metrics.prometheus.enabled");
    let endpoint = "instrumentation.metrics.prometheus.endpoint";
    let path = w.text(endpoint).unwrap_or_default();
    if prometheus && HEALTH_PATHS.contains(&path.as_str()) {
        let place = w.place(endpoint).cloned().unwrap_or(Place::Nowhere);
        let what = format!("{endpoint} is `{path}`, which is a path of instrumentation.health");
        w.problem(&place, Code::Conflict, what, "choose another, such as `/metrics`");
    }
    Instrumentation {
        health: (prometheus || w.flag("instrumentation.health.enabled")).then_some(address),
        prometheus: prometheus.then_some(Prometheus { path }),
        cloudwatch: cloudwatch(w),
    }
}

/// Standard output is one thing or the other.
fn cloudwatch(w: &mut Written) -> Option<CloudWatchMetrics> {
    let to = match w.word("aws.metrics.to") {
        "emf" => MetricsTo::Emf,
        "cloudwatch" => MetricsTo::CloudWatch,
        _ => return None,
    };
    if to == MetricsTo::Emf && (w.has_section("target.stdout") || w.flag("$PGSTREAM_STDOUT_WRITER_ENABLED")) {
        let place = w.place("aws.metrics.to").cloned().unwrap_or(Place::Nowhere);
        let what = "aws.metrics.to is `emf`, whose lines would be among the changes that target.stdout prints";
        w.problem(&place, Code::Conflict, what, "write `aws.metrics.to: cloudwatch`");
    }
    let interval = w.time("aws.metrics.interval").max(Duration::from_secs(1));
    Some(CloudWatchMetrics { to, interval })
}

/// One list or the other.
fn object_types(w: &mut Written, include: &'static str, exclude: &'static str) -> ObjectTypes {
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
