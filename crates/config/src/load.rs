//! From everything that was written to a [`Pipeline`], or to every reason why not.

use std::{num::NonZeroUsize, path::Path, time::Duration};

use secrecy::ExposeSecret;

use crate::{
    error::{ConfigErrors, Origin},
    pattern::TableFilter,
    pipeline::{
        Instrumentation, Mode, ObjectType, ObjectTypes, OnConflict, Pipeline, PostgresTarget, Presentation, Prometheus,
        Retry, RolesMode, SchemaCopy, Snapshot, SnapshotMode, Source, Stream, Target,
    },
    read::{Notice, Reader},
    tree,
    written::{Environment, Text, Written},
};

/// What the command line said; `None` or empty means nothing.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--source-url` or `--postgres-url`.
    pub source_url: Option<String>,
    /// `--target-url`.
    pub target_url: Option<String>,
    /// `--replication-slot`.
    pub replication_slot: Option<String>,
    /// `--snapshot-tables` or `--tables`.
    pub snapshot_tables: Vec<String>,
    /// `--dump-file`.
    pub dump_file: Option<String>,
    /// `--reset`.
    pub reset: bool,
    /// `--data-only`.
    pub data_only: bool,
    /// `--log-level`.
    pub log_level: Option<String>,
    /// `--log-format`.
    pub log_format: Option<String>,
    /// `--no-color`.
    pub no_color: bool,
    /// The mode of a command for which none is written, e.g. of `snapshot`.
    pub default_mode: Option<Mode>,
}

/// What a command needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// A source; a target may be there.
    Source,
    /// Both.
    SourceAndTarget,
}

/// A configuration that can be used.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What it means. Without a target where only a source was needed.
    pub pipeline: Pipeline,
    /// Accepted keys that mean something else here.
    pub notices: Vec<Notice>,
}

// The defaults that numbers in the files replace; the reasons are in docs/configuration.md.
const TABLE_WORKERS: usize = 4;
const SCHEMA_WORKERS: usize = 4;
const PART_BYTES: u64 = 80 << 20;
const MAX_CONNECTIONS: usize = 50;
/// Larger batches gain nothing measurable, and delay readers of the target.
const BATCH_CHANGES: usize = 20_000;
const BATCH_BYTES: u64 = 8 << 20;
const QUEUE_BYTES: u64 = 100 << 20;
/// One batch is filled, one waits and one is applied.
const BATCHES_IN_MEMORY: u64 = 3;
const FIRST_RETRY: Duration = Duration::from_millis(500);
/// Short enough to be back within seconds of a failover; reconnecting costs the servers next to nothing.
const LONGEST_RETRY: Duration = Duration::from_secs(5);
/// Naming tables to copy, or not to copy, asks for a copy where no mode is written.
const SNAPSHOT_TABLES: [&str; 2] = ["source.postgres.snapshot.tables", "source.postgres.snapshot.excluded_tables"];
const QUIET: &str = "source.postgres.snapshot.disable_progress_tracking";
const HEALTH_ADDRESS: &str = "localhost:9910";
const METRICS_PATH: &str = "/metrics";

/// Reads file, environment and flags; flags win over the environment, the environment over the file.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn load(
    file: Option<&Path>,
    overrides: &Overrides,
    needs: Needs,
    environment: Environment<'_>,
) -> Result<Loaded, ConfigErrors> {
    let mut reader = Reader { written: written(file, overrides, environment) };
    let notices = reader.check();
    let pipeline = pipeline(&mut reader, overrides, needs);
    let mut errors = std::mem::take(&mut reader.written.errors);
    match pipeline {
        Some(pipeline) if errors.is_empty() => Ok(Loaded { pipeline, notices }),
        _ => {
            errors.sort();
            errors.dedup();
            Err(ConfigErrors(errors))
        }
    }
}

fn written(file: Option<&Path>, overrides: &Overrides, environment: Environment<'_>) -> Written {
    let mut written = Written::default();
    if let Some(path) = file {
        take_file(&mut written, path, environment);
    }
    written.take_environment(environment);
    take_flags(&mut written, overrides);
    written
}

fn take_file(written: &mut Written, path: &Path, environment: Environment<'_>) {
    let name = path.display().to_string();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            let origin = Origin::File { file: name, line: 1 };
            return written.wrong(
                origin,
                "",
                format!("cannot be read: {error}"),
                "check the path given to -c/--config",
            );
        }
    };
    if is_env_file(path, &text) {
        return written.take_env_file(&name, &text);
    }
    match tree::parse(&name, &text) {
        Ok(root) => written.take_yaml(&name, &root, environment),
        Err(error) => written.errors.push(error),
    }
}

/// By its extension; without a telling one, by its first line with content.
fn is_env_file(path: &Path, text: &str) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("env") => true,
        Some("yaml" | "yml") => false,
        _ if name == ".env" => true,
        _ => {
            let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
            first.is_some_and(|line| line.strip_prefix("export ").unwrap_or(line).starts_with("PGSTREAM_"))
        }
    }
}

fn take_flags(written: &mut Written, flags: &Overrides) {
    let mut set = |path, value: &Option<String>, flag| {
        if let Some(value) = value {
            written.set(path, Text::One(value.clone()), Origin::Flag(flag));
        }
    };
    set("source.postgres.url", &flags.source_url, "--source-url");
    set("target.postgres.url", &flags.target_url, "--target-url");
    set("source.postgres.replication.replication_slot", &flags.replication_slot, "--replication-slot");
    set("source.postgres.snapshot.schema.pgdump_pgrestore.dump_file", &flags.dump_file, "--dump-file");
    set("logging.level", &flags.log_level, "--log-level");
    set("logging.format.type", &flags.log_format, "--log-format");
    let yes = Some("true".to_owned());
    if flags.reset {
        set("source.postgres.snapshot.schema.pgdump_pgrestore.clean_target_db", &yes, "--reset");
    }
    if flags.no_color {
        set("logging.format.no_color", &yes, "--no-color");
    }
    if flags.data_only {
        set("source.postgres.snapshot.mode", &Some("data".to_owned()), "--data-only");
    }
    if !flags.snapshot_tables.is_empty() {
        let tables = flags.snapshot_tables.iter().map(|table| (table.clone(), 0)).collect();
        written.set("source.postgres.snapshot.tables", Text::Many(tables), Origin::Flag("--snapshot-tables"));
    }
}

fn pipeline(reader: &mut Reader, flags: &Overrides, needs: Needs) -> Option<Pipeline> {
    let source = source(reader);
    let target = target(reader, needs);
    let mode = mode(reader, flags);
    let snapshot = snapshot(reader);
    let stream = stream(reader);
    let instrumentation = instrumentation(reader);
    Some(Pipeline { source: source?, target, mode, snapshot, stream, instrumentation })
}

/// How to log and draw, as far as the same sources tell; what is wrong with them is for [`load`] to say.
#[must_use]
pub fn presentation(file: Option<&Path>, overrides: &Overrides, environment: Environment<'_>) -> Presentation {
    let mut reader = Reader { written: written(file, overrides, environment) };
    Presentation {
        level: reader.one_of("logging.level").unwrap_or("info"),
        json: reader.one_of("logging.format.type") == Some("json"),
        no_color: reader.boolean("logging.format.no_color").unwrap_or(false),
        quiet: reader.boolean(QUIET).unwrap_or(false),
    }
}

fn url(reader: &mut Reader, path: &'static str) -> Option<secrecy::SecretString> {
    let url = reader.secret(path)?;
    let text = url.expose_secret();
    let (problem, fix) = if text.starts_with("secretsmanager://") {
        ("secretsmanager:// is understood, but not available in this version", "write a postgresql:// URL")
    } else if text.starts_with("postgresql://") || text.starts_with("postgres://") {
        return Some(url);
    } else {
        ("this is not a connection URL", "write postgresql://user:password@host:5432/database")
    };
    let origin = reader.origin(path);
    reader.written.wrong(origin, path, problem.to_owned(), fix);
    None
}

fn source(reader: &mut Reader) -> Option<Source> {
    let found = url(reader, "source.postgres.url");
    if found.is_none() && !reader.has("source.postgres.url") {
        let fix = "write it, set PGSTREAM_POSTGRES_LISTENER_URL, or give the URL as a flag";
        reader.written.wrong(Origin::Nowhere, "source.postgres.url", "no source is configured".into(), fix);
    }
    let slot = reader.text("source.postgres.replication.replication_slot");
    let retry = retry(
        reader,
        "source.postgres.retry_policy.disable_retries",
        [
            "source.postgres.retry_policy.exponential.initial_interval",
            "source.postgres.retry_policy.exponential.max_interval",
            "source.postgres.retry_policy.exponential.max_elapsed_time",
            "source.postgres.retry_policy.constant.interval",
        ],
        ["source.postgres.retry_policy.exponential.max_retries", "source.postgres.retry_policy.constant.max_retries"],
    );
    Some(Source { url: found?, slot, retry })
}

fn retry(
    reader: &mut Reader,
    disable: &'static str,
    [initial, longest, elapsed, constant]: [&'static str; 4],
    [exponential_tries, constant_tries]: [&'static str; 2],
) -> Retry {
    let interval = reader.millis(constant);
    if let Some(interval) = interval
        && [initial, longest, elapsed, exponential_tries].iter().all(|key| !reader.has(key))
    {
        let max_retries = reader.count(constant_tries);
        return disabled(reader, disable, Retry { initial: interval, max: interval, max_retries, max_elapsed: None });
    }
    if interval.is_some() {
        let problem = "constant and exponential exclude each other".to_owned();
        let origin = reader.origin(constant);
        reader.written.wrong(origin, constant, problem, "keep one of the two");
    }
    let initial = reader.millis(initial).unwrap_or(FIRST_RETRY);
    let retry = Retry {
        initial,
        max: reader.millis(longest).unwrap_or(LONGEST_RETRY).max(initial),
        max_retries: reader.count(exponential_tries),
        max_elapsed: reader.millis(elapsed),
    };
    disabled(reader, disable, retry)
}

fn disabled(reader: &mut Reader, disable: &'static str, retry: Retry) -> Retry {
    if reader.boolean(disable) == Some(true) { Retry { max_retries: Some(0), ..retry } } else { retry }
}

fn target(reader: &mut Reader, needs: Needs) -> Option<Target> {
    let stdout = reader.has("target.stdout");
    let postgres = reader.has("target.postgres.url");
    let found = url(reader, "target.postgres.url");
    if stdout && postgres {
        let origin = reader.origin("target.stdout");
        let problem = "there is more than one target".to_owned();
        reader.written.wrong(origin, "target.stdout", problem, "keep one: target.postgres or target.stdout");
        return None;
    }
    let others = ["target.kafka", "target.search", "target.webhooks"].iter().any(|key| reader.has(key));
    if !stdout && !postgres && needs == Needs::SourceAndTarget && !others {
        let fix = "write target.postgres.url, set PGSTREAM_POSTGRES_WRITER_TARGET_URL, or give --target-url";
        reader.written.wrong(Origin::Nowhere, "target", "no target is configured".into(), fix);
    }
    refuse(
        reader,
        "target.postgres.strict_mode",
        false,
        "a change that cannot be applied would be lost; remove it, or set it to true",
    );
    refuse(
        reader,
        "target.postgres.batch.ignore_send_errors",
        true,
        "what cannot be applied would be lost; remove it, or set it to false",
    );
    if stdout {
        return Some(Target::Stdout);
    }
    let retry = retry(
        reader,
        "target.postgres.retry_policy.disable_retries",
        [
            "target.postgres.retry_policy.exponential.initial_interval",
            "target.postgres.retry_policy.exponential.max_interval",
            "target.postgres.retry_policy.exponential.max_elapsed_time",
            "target.postgres.retry_policy.constant.interval",
        ],
        ["target.postgres.retry_policy.exponential.max_retries", "target.postgres.retry_policy.constant.max_retries"],
    );
    let on_conflict = match reader.one_of("target.postgres.on_conflict_action") {
        Some("nothing") => OnConflict::Nothing,
        Some("update") => OnConflict::Update,
        _ => OnConflict::Error,
    };
    Some(Target::Postgres(PostgresTarget {
        url: found?,
        max_connections: number(reader, "target.postgres.max_connections", MAX_CONNECTIONS),
        disable_triggers: reader.boolean("target.postgres.disable_triggers"),
        on_conflict,
        retry,
    }))
}

/// A value that would lose rows.
fn refuse(reader: &mut Reader, path: &'static str, value: bool, fix: &str) {
    if reader.boolean(path) == Some(value) {
        let origin = reader.origin(path);
        reader.written.wrong(origin, path, format!("`{value}` is refused"), fix);
    }
}

fn mode(reader: &mut Reader, flags: &Overrides) -> Mode {
    match (reader.one_of("source.postgres.mode"), flags.default_mode) {
        (Some("snapshot"), _) => Mode::Snapshot,
        (Some("snapshot_and_replication"), _) => Mode::SnapshotAndReplication,
        (Some(_), _) => Mode::Replication,
        (None, Some(mode)) => mode,
        (None, None) if SNAPSHOT_TABLES.iter().any(|key| reader.has(key)) => Mode::SnapshotAndReplication,
        (None, None) => Mode::Replication,
    }
}

fn number(reader: &mut Reader, path: &'static str, default: usize) -> NonZeroUsize {
    reader.positive(path).or(NonZeroUsize::new(default)).unwrap_or(NonZeroUsize::MIN)
}

/// `modifiers.filter` and wal2json's lists: what is followed.
fn filter(reader: &mut Reader) -> TableFilter {
    let mut list = |path| reader.tables(path).unwrap_or_default();
    let mut filter = TableFilter {
        include: list("modifiers.filter.include_tables"),
        exclude: list("modifiers.filter.exclude_tables"),
        schema_only: list("modifiers.filter.schema_only_tables"),
    };
    filter.include.extend(list("source.postgres.replication.plugin.add_tables"));
    filter.exclude.extend(list("source.postgres.replication.plugin.filter_tables"));
    filter
}

fn snapshot(reader: &mut Reader) -> Snapshot {
    const DATA: [&str; 4] = [
        "source.postgres.snapshot.data.schema_workers",
        "source.postgres.snapshot.data.table_workers",
        "source.postgres.snapshot.data.batch_bytes",
        "source.postgres.snapshot.data.max_connections",
    ];
    let mut tables = filter(reader);
    let own = reader.tables("source.postgres.snapshot.tables").unwrap_or_default();
    if !own.is_empty() {
        tables.include = own;
    }
    tables.exclude.extend(reader.tables("source.postgres.snapshot.excluded_tables").unwrap_or_default());
    tables.schema_only.extend(reader.tables("source.postgres.snapshot.schema_only_tables").unwrap_or_default());
    let restore_workers = reader.positive("source.postgres.snapshot.schema.pgdump_pgrestore.index_restore_workers");
    let workers = number(reader, "source.postgres.snapshot.snapshot_workers", 1);
    Snapshot {
        mode: match reader.one_of("source.postgres.snapshot.mode") {
            Some("schema") => SnapshotMode::Schema,
            Some("data") => SnapshotMode::Data,
            _ => SnapshotMode::Full,
        },
        tables,
        repeat: reader.boolean("source.postgres.snapshot.recorder.repeatable_snapshots").unwrap_or(false),
        table_workers: number(reader, DATA[1], TABLE_WORKERS).saturating_mul(workers),
        schema_workers: restore_workers.unwrap_or_else(|| number(reader, DATA[0], SCHEMA_WORKERS)),
        part_bytes: reader.size(DATA[2]).filter(|bytes| *bytes > 0).unwrap_or(PART_BYTES),
        max_connections: number(reader, DATA[3], MAX_CONNECTIONS),
        schema: schema_copy(reader),
    }
}

fn schema_copy(reader: &mut Reader) -> SchemaCopy {
    macro_rules! path {
        ($name:literal) => {
            concat!("source.postgres.snapshot.schema.pgdump_pgrestore.", $name)
        };
    }
    let mut exclude_security_labels = reader.texts(path!("exclude_security_labels")).unwrap_or_default();
    exclude_security_labels.extend(reader.texts(path!("excluded_security_labels")).unwrap_or_default());
    SchemaCopy {
        clean_target_db: reader.boolean(path!("clean_target_db")).unwrap_or(false),
        create_target_db: reader.boolean(path!("create_target_db")).unwrap_or(false),
        roles: match reader.one_of(path!("roles_snapshot_mode")) {
            Some("disabled") => RolesMode::Disabled,
            Some("enabled") => RolesMode::Enabled,
            _ => RolesMode::NoPasswords,
        },
        include_globals: reader.boolean(path!("include_global_db_objects")).unwrap_or(false),
        no_owner: reader.boolean(path!("no_owner")).unwrap_or(false),
        no_privileges: reader.boolean(path!("no_privileges")).unwrap_or(false),
        role: reader.text(path!("role")),
        exclude_security_labels,
        refresh_materialized_views: reader.boolean(path!("refresh_materialized_views")).unwrap_or(false),
        index_session_settings: reader.assignments(path!("index_constraint_session_settings")).unwrap_or_default(),
        dump_file: reader.text(path!("dump_file")).map(Into::into),
        object_types: object_types(reader, path!("include_object_types"), path!("exclude_object_types")),
    }
}

fn object_types(reader: &mut Reader, include: &'static str, exclude: &'static str) -> ObjectTypes {
    let only: Option<Vec<ObjectType>> = reader.object_types(include);
    let except = reader.object_types(exclude);
    match (only, except) {
        (Some(_), Some(_)) => {
            let origin = reader.origin(exclude);
            let problem = "include_object_types and exclude_object_types exclude each other".to_owned();
            reader.written.wrong(origin, exclude, problem, "keep one of the two");
            ObjectTypes::All
        }
        (Some(only), None) => ObjectTypes::Only(only),
        (None, Some(except)) => ObjectTypes::Except(except),
        (None, None) => ObjectTypes::All,
    }
}

fn stream(reader: &mut Reader) -> Stream {
    let queue_bytes = reader.size("target.postgres.batch.max_queue_bytes").unwrap_or(QUEUE_BYTES);
    let batch_bytes = reader.size("target.postgres.batch.max_bytes").unwrap_or(BATCH_BYTES);
    Stream {
        tables: filter(reader),
        batch_bytes: batch_bytes.min(queue_bytes / BATCHES_IN_MEMORY).max(1),
        batch_changes: number(reader, "target.postgres.batch.size", BATCH_CHANGES).get(),
    }
}

fn instrumentation(reader: &mut Reader) -> Instrumentation {
    let address = reader.text("instrumentation.health.address").unwrap_or_else(|| HEALTH_ADDRESS.to_owned());
    let health = reader.boolean("instrumentation.health.enabled") == Some(true);
    let prometheus = reader.boolean("instrumentation.metrics.prometheus.enabled") == Some(true);
    let path = reader.text("instrumentation.metrics.prometheus.endpoint").unwrap_or_else(|| METRICS_PATH.to_owned());
    if !path.starts_with('/') {
        let key = "instrumentation.metrics.prometheus.endpoint";
        let origin = reader.origin(key);
        reader.written.wrong(origin, key, format!("`{path}` is not a path"), "write one that starts with /: /metrics");
    }
    Instrumentation {
        health: (health || prometheus).then_some(address),
        prometheus: prometheus.then_some(Prometheus { path }),
    }
}
