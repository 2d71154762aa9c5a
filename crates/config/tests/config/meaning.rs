//! What configurations mean.

use std::time::Duration;

use pgstream_config::{
    Needs, Overrides,
    pattern::TablePattern,
    pipeline::{Mode, ObjectType, ObjectTypes, OnConflict, Pipeline, PostgresTarget, RolesMode, SnapshotMode, Target},
    presentation,
};
use secrecy::ExposeSecret;

use crate::user::{file, flags, yaml};

const URLS: &str = "source: {postgres: {url: 'postgres://s/app', mode: snapshot_and_replication}}
target: {postgres: {url: 'postgres://t/app'}}
";

fn postgres(pipeline: &Pipeline) -> &PostgresTarget {
    match &pipeline.target {
        Some(Target::Postgres(target)) => target,
        other => panic!("{other:?}"),
    }
}

fn names(patterns: &[TablePattern]) -> Vec<String> {
    patterns.iter().map(ToString::to_string).collect()
}

#[test]
fn two_urls_are_enough() {
    let flags = flags(Overrides {
        source_url: Some("postgres://u:CANARY@s/app".into()),
        target_url: Some("postgres://u:CANARY@t/app".into()),
        ..Overrides::default()
    });
    let loaded = flags.loads();
    let pipeline = &loaded.pipeline;
    assert_eq!(pipeline.mode, Mode::Replication);
    assert_eq!(pipeline.source.url.expose_secret(), "postgres://u:CANARY@s/app");
    assert_eq!(postgres(pipeline).url.expose_secret(), "postgres://u:CANARY@t/app");
    assert!(pipeline.stream.tables.is_everything());
    assert_eq!(loaded.notices, []);
    assert!(!format!("{loaded:?}").contains("CANARY"));
}

#[test]
fn defaults_are_those_of_the_documentation() {
    let pipeline = yaml(URLS).pipeline();
    let snapshot = &pipeline.snapshot;
    assert_eq!(snapshot.mode, SnapshotMode::Full);
    assert_eq!((snapshot.table_workers.get(), snapshot.schema_workers.get()), (4, 4));
    assert_eq!((snapshot.part_bytes, snapshot.max_connections.get()), (80 << 20, 50));
    assert!(!snapshot.repeat && snapshot.tables.is_everything());
    assert_eq!(snapshot.schema.roles, RolesMode::NoPasswords);
    assert_eq!(snapshot.schema.object_types, ObjectTypes::All);
    assert!(!snapshot.schema.clean_target_db && !snapshot.schema.include_globals);
    assert_eq!((pipeline.stream.batch_bytes, pipeline.stream.batch_changes), (8 << 20, 20_000));
    let target = postgres(&pipeline);
    assert_eq!(target.disable_triggers, None);
    assert_eq!((target.on_conflict, target.max_connections.get()), (OnConflict::Error, 50));
    let retry = pipeline.source.retry;
    assert_eq!((retry.initial, retry.max), (Duration::from_millis(500), Duration::from_secs(5)));
    assert_eq!((retry.max_retries, retry.max_elapsed), (None, None));
    assert!(pipeline.instrumentation.health.is_none() && pipeline.instrumentation.prometheus.is_none());
}

/// The sample of pgstream's documentation, without what it cannot have together.
#[test]
fn a_configuration_of_pgstream_works_as_it_is() {
    let text = r#"
instrumentation:
  metrics:
    prometheus:
      enabled: true # exposes a Prometheus scrape endpoint
      endpoint: "/metrics"
  health:
    enabled: true
    address: "localhost:9910"
source:
  postgres:
    url: "postgresql://user:password@localhost:5432/mydatabase"
    mode: snapshot_and_replication
    snapshot:
      mode: full
      tables: ["test", "test_schema.Test", "another_schema.*"]
      excluded_tables: ["test_schema.Test"]
      schema_only_tables: ["schema_only_test", "schema_only_schema.*"]
      recorder:
        repeatable_snapshots: true
        postgres_url: "postgresql://user:password@localhost:5432/mytargetdatabase"
      snapshot_workers: 4
      data:
        schema_workers: 4
        table_workers: 4
        batch_bytes: 83886080
        max_connections: 20
      schema:
        pgdump_pgrestore:
          clean_target_db: true
          create_target_db: true
          include_global_db_objects: true
          role: test-role
          roles_snapshot_mode:
          dump_file: "pg_dump.sql"
          no_owner: true
          no_privileges: true
          excluded_security_labels: ["anon"]
          refresh_materialized_views: true
          index_constraint_session_settings:
            - maintenance_work_mem=4GB
            - statement_timeout=0
          index_restore_workers: 2
      disable_progress_tracking: true
    replication:
      replication_slot: "pgstream_mydatabase_slot"
      plugin:
        include_xids: true
        add_tables: "public.*,test_schema.*"
        filter_tables: "private.*"
    retry_policy:
      disable_retries: false
      exponential:
        max_retries: 5
        initial_interval: 1000
        max_interval: 60000
target:
  postgres:
    url: "postgresql://user:password@localhost:5432/mytargetdatabase"
    max_connections: 60
    batch:
      timeout: 1000
      size: 100
      max_bytes: 1572864
      max_queue_bytes: 204800
      ignore_send_errors: false
      auto_tune:
        enabled: true
        min_batch_bytes: 10
        max_batch_bytes: 1000
        convergence_threshold: 0.05
    disable_triggers: false
    on_conflict_action: "nothing"
    bulk_ingest:
      enabled: true
    retry_policy:
      disable_retries: true
    ignore_ddl: true
    strict_mode: true
modifiers:
  injector:
    enabled: true
  filter:
    include_tables:
     - "test"
     - "test_schema.test"
    schema_only_tables:
     - "schema_only_test"
logging:
  level: warn
  format:
    type: json
    no_color: true
"#;
    let user = yaml(text);
    let pipeline = user.pipeline();
    assert_eq!(pipeline.mode, Mode::SnapshotAndReplication);
    assert_eq!(pipeline.source.slot.as_deref(), Some("pgstream_mydatabase_slot"));
    assert_eq!(pipeline.source.retry.max_retries, Some(5));
    assert_eq!(pipeline.source.retry.max, Duration::from_secs(60));
    let snapshot = &pipeline.snapshot;
    assert_eq!((snapshot.table_workers.get(), snapshot.schema_workers.get()), (16, 2));
    assert!(snapshot.repeat);
    assert_eq!(names(&snapshot.tables.include), ["public.test"]);
    assert_eq!(names(&snapshot.tables.exclude), ["test_schema.Test"]);
    assert_eq!(names(&snapshot.tables.schema_only), ["public.schema_only_test", "schema_only_schema.*"]);
    let schema = &snapshot.schema;
    assert!(schema.clean_target_db && schema.create_target_db && schema.include_globals);
    assert!(schema.no_owner && schema.no_privileges && schema.refresh_materialized_views);
    assert_eq!((schema.role.as_deref(), schema.roles), (Some("test-role"), RolesMode::NoPasswords));
    assert_eq!(schema.exclude_security_labels, ["anon"]);
    assert_eq!(schema.index_session_settings[1], ("statement_timeout".to_owned(), "0".to_owned()));
    let stream = &pipeline.stream;
    assert_eq!((stream.batch_bytes, stream.batch_changes), (204_800 / 3, 100));
    assert_eq!(names(&stream.tables.include), ["public.test", "test_schema.test"]);
    assert_eq!(names(&stream.tables.exclude), ["private.*"]);
    let target = postgres(&pipeline);
    assert_eq!((target.disable_triggers, target.max_connections.get()), (Some(false), 60));
    assert_eq!(target.on_conflict, OnConflict::Nothing);
    assert_eq!(pipeline.instrumentation.health.as_deref(), Some("localhost:9910"));
    let loaded = user.loads();
    let notices: Vec<_> = loaded.notices.iter().map(|notice| notice.key.rsplit('.').next().unwrap()).collect();
    assert_eq!(
        notices,
        [
            "excluded_tables",
            "postgres_url",
            "include_xids",
            "add_tables",
            "filter_tables",
            "timeout",
            "max_bytes",
            "auto_tune",
            "bulk_ingest",
            "retry_policy",
            "injector",
        ]
    );
}

#[test]
fn a_notice_says_where_and_what_holds() {
    let notices = yaml(&format!("{URLS}modifiers:\n  injector:\n    enabled: true\n")).notices();
    assert_eq!(notices, ["f.yaml:5:14: modifiers.injector: accepted: it is not needed between PostgreSQL servers"]);
}

#[test]
fn flags_beat_the_environment_beats_the_file() {
    let text = "source: {postgres: {url: 'postgres://file/db', mode: replication}}
target: {postgres: {url: 'postgres://file/db', batch: {size: 1, max_bytes: 1}}}";
    let pipeline = yaml(text)
        .env(&[("PGSTREAM_POSTGRES_WRITER_BATCH_SIZE", "2"), ("PGSTREAM_POSTGRES_LISTENER_URL", "postgres://env/db")])
        .flags(Overrides { source_url: Some("postgres://flag/db".into()), ..Overrides::default() })
        .pipeline();
    assert_eq!(pipeline.source.url.expose_secret(), "postgres://flag/db");
    assert_eq!(postgres(&pipeline).url.expose_secret(), "postgres://file/db");
    assert_eq!((pipeline.stream.batch_changes, pipeline.stream.batch_bytes), (2, 1));
}

#[test]
fn an_env_file_is_a_configuration() {
    let text = r#"
# source
PGSTREAM_POSTGRES_LISTENER_URL="postgresql://user:${PW}@localhost:5432/mydatabase"
PGSTREAM_POSTGRES_SNAPSHOT_TABLES="test test_schema.test another_schema.*"
PGSTREAM_POSTGRES_LISTENER_EXP_BACKOFF_INITIAL_INTERVAL=1s
export PGSTREAM_POSTGRES_WRITER_TARGET_URL='postgresql://user:${PW}@localhost:5432/mytargetdatabase'
PGSTREAM_POSTGRES_WRITER_BATCH_SIZE=3
PGSTREAM_POSTGRES_WRITER_MAX_QUEUE_BYTES=3MiB
PGSTREAM_POSTGRES_WRITER_ON_CONFLICT_ACTION="update"
DATABASE_OF_SOMETHING_ELSE=1
"#;
    for name in ["pg2pg.env", "settings"] {
        let environment = [("PW", "p w"), ("PGSTREAM_POSTGRES_WRITER_BATCH_SIZE", "2"), ("HOME", "/")];
        let pipeline = file(name, text).env(&environment).pipeline();
        assert_eq!(pipeline.mode, Mode::SnapshotAndReplication);
        assert_eq!(pipeline.source.url.expose_secret(), "postgresql://user:p w@localhost:5432/mydatabase");
        assert!(postgres(&pipeline).url.expose_secret().contains("${PW}"));
        assert_eq!(names(&pipeline.snapshot.tables.include), ["public.test", "test_schema.test", "another_schema.*"]);
        assert_eq!((pipeline.stream.batch_changes, pipeline.stream.batch_bytes), (2, 1 << 20));
        assert_eq!(pipeline.source.retry.initial, Duration::from_secs(1));
        assert_eq!(postgres(&pipeline).on_conflict, OnConflict::Update);
    }
}

#[test]
fn snapshot_tables_of_run_turn_the_copy_on() {
    let both = Overrides {
        source_url: Some("postgres://s/a".into()),
        target_url: Some("postgres://t/a".into()),
        snapshot_tables: vec!["a".into(), "s.b".into()],
        data_only: true,
        dump_file: Some("dump.sql".into()),
        ..Overrides::default()
    };
    let pipeline = flags(both.clone()).pipeline();
    assert_eq!(pipeline.mode, Mode::SnapshotAndReplication);
    assert_eq!(pipeline.snapshot.mode, SnapshotMode::Data);
    assert_eq!(names(&pipeline.snapshot.tables.include), ["public.a", "s.b"]);
    assert_eq!(pipeline.snapshot.schema.dump_file.as_deref(), Some(std::path::Path::new("dump.sql")));
    let text = "source: {postgres: {mode: replication}}";
    assert_eq!(yaml(text).flags(both).pipeline().mode, Mode::SnapshotAndReplication);
}

#[test]
fn a_command_has_a_mode_of_its_own_where_none_is_written() {
    let snapshot = Overrides {
        reset: true,
        snapshot_tables: vec!["x.*".into()],
        default_mode: Some(Mode::Snapshot),
        ..Overrides::default()
    };
    let pipeline = yaml(URLS).flags(snapshot.clone()).pipeline();
    assert_eq!(pipeline.mode, Mode::SnapshotAndReplication);
    assert!(pipeline.snapshot.schema.clean_target_db);
    assert_eq!(names(&pipeline.snapshot.tables.include), ["x.*"]);
    let text = URLS.replace(", mode: snapshot_and_replication", "");
    assert_eq!(yaml(&text).flags(snapshot).pipeline().mode, Mode::Snapshot);
}

#[test]
fn commands_about_the_source_need_no_target() {
    let source = Overrides {
        source_url: Some("postgres://s/a".into()),
        replication_slot: Some("mine".into()),
        ..Overrides::default()
    };
    let pipeline = flags(source).load(Needs::Source).unwrap().pipeline;
    assert_eq!(pipeline.source.slot.as_deref(), Some("mine"));
    assert!(pipeline.target.is_none() && pipeline.stream.tables.is_everything());

    let text = "source: {postgres: {url: 'postgres://s/a', snapshot: {mode: full}}}
target: {kafka: {servers: [x]}}
modifiers: {filter: {include_tables: [a.*]}, transformations: {table_transformers: [{table: t}]}}";
    let pipeline = yaml(text).load(Needs::Source).unwrap().pipeline;
    assert_eq!(names(&pipeline.stream.tables.include), ["a.*"]);
    assert!(pipeline.target.is_none());
}

#[test]
fn standard_output_is_a_target() {
    let text = "source: {postgres: {url: 'postgres://s/a'}}\ntarget:\n  stdout: {}\n";
    assert!(matches!(yaml(text).pipeline().target, Some(Target::Stdout)));
    let environment =
        [("PGSTREAM_POSTGRES_LISTENER_URL", "postgres://s/a"), ("PGSTREAM_STDOUT_WRITER_ENABLED", "true")];
    assert!(matches!(flags(Overrides::default()).env(&environment).pipeline().target, Some(Target::Stdout)));
}

#[test]
fn workers_are_bounded_by_connections() {
    let workers = |data: &str| {
        let text = format!(
            "source: {{postgres: {{url: 'postgres://s/a', mode: snapshot, snapshot: {{snapshot_workers: 3, data: {data}}}}}}}
target: {{postgres: {{url: 'postgres://t/a'}}}}"
        );
        let snapshot = yaml(&text).pipeline().snapshot;
        (snapshot.table_workers.get(), snapshot.schema_workers.get())
    };
    assert_eq!(workers("{table_workers: 2, schema_workers: 1}"), (6, 1));
    assert_eq!(workers("{table_workers: 2, max_connections: 5}"), (5, 4));
}

#[test]
fn object_types_are_one_list_or_the_other() {
    let with = |key: &str| {
        let text = format!(
            "source: {{postgres: {{url: 'postgres://s/a', mode: snapshot, snapshot: {{schema: {{pgdump_pgrestore: {{{key}: [tables, comments]}}}}}}}}}}
target: {{postgres: {{url: 'postgres://t/a'}}}}"
        );
        yaml(&text).pipeline().snapshot.schema.object_types
    };
    let both = vec![ObjectType::Tables, ObjectType::Comments];
    assert_eq!(with("include_object_types"), ObjectTypes::Only(both.clone()));
    assert_eq!(with("exclude_object_types"), ObjectTypes::Except(both));
}

#[test]
fn retry_policies() {
    let with = |policy: &str| {
        let text = format!(
            "source: {{postgres: {{url: 'postgres://s/a', retry_policy: {policy}}}}}\ntarget: {{postgres: {{url: 'postgres://t/a'}}}}"
        );
        let loaded = yaml(&text).loads();
        (loaded.pipeline.source.retry, loaded.notices.len())
    };
    let (retry, _) = with("{constant: {interval: 200, max_retries: 3}}");
    let wait = Duration::from_millis(200);
    assert_eq!((retry.initial, retry.max, retry.max_retries), (wait, wait, Some(3)));
    let (retry, notices) =
        with("{exponential: {initial_interval: 60000, max_elapsed_time: 5000}, constant: {interval: 1}}");
    assert_eq!((retry.initial, retry.max, notices), (Duration::from_secs(60), Duration::from_secs(60), 1));
    assert_eq!(retry.max_elapsed, Some(Duration::from_secs(5)));
    assert_eq!(with("{disable_retries: true, constant: {interval: 1}}").0.max_retries, Some(0));
    assert_eq!(with("{constant: , exponential: {max_retries: 0}}").0.max_retries, None);
}

#[test]
fn one_retry_policy_governs_both_servers() {
    let with = |source: &str, target: &str| {
        let loaded = yaml(&format!(
            "source: {{postgres: {{url: 'postgres://s/a'{source}}}}}\ntarget: {{postgres: {{url: 'postgres://t/a'{target}}}}}"
        ))
        .loads();
        (loaded.pipeline.source.retry.max_retries, loaded.notices.len())
    };
    assert_eq!(with("", ", retry_policy: {exponential: {max_retries: 3}}"), (Some(3), 0));
    let both = with(", retry_policy: {constant: {max_retries: 2}}", ", retry_policy: {exponential: {max_retries: 3}}");
    assert_eq!(both, (Some(2), 1));
}

#[test]
fn variables_stand_for_text_and_lists() {
    let text = "source: {postgres: {url: 'postgres://s/${DB}', snapshot: {tables: ['${TABLES}', x.y]}}}
target: {postgres: {url: 'postgres://t/a', batch: {size: \"${SIZE}\"}}}";
    let pipeline = yaml(text).env(&[("DB", "a: {b} #"), ("TABLES", "a, b.*"), ("SIZE", "7")]).pipeline();
    assert_eq!(pipeline.source.url.expose_secret(), "postgres://s/a: {b} #");
    assert_eq!(names(&pipeline.snapshot.tables.include), ["public.a", "b.*", "x.y"]);
    assert_eq!(pipeline.stream.batch_changes, 7);
}

#[test]
fn a_variable_of_another_target_is_a_notice() {
    let notices = yaml(URLS).env(&[("PGSTREAM_KAFKA_WRITER_SERVERS", "CANARY")]).notices();
    assert_eq!(
        notices,
        ["PGSTREAM_KAFKA_WRITER_SERVERS: ignored: it belongs to a Kafka source or target, which is not here"]
    );
}

#[test]
fn prometheus_brings_the_health_server_along() {
    let text =
        format!("{URLS}instrumentation: {{health: {{address: ':80'}}, metrics: {{prometheus: {{enabled: true}}}}}}\n");
    let instrumentation = yaml(&text).pipeline().instrumentation;
    assert_eq!(instrumentation.health.as_deref(), Some("0.0.0.0:80"));
    assert_eq!(instrumentation.prometheus.unwrap().path, "/metrics");
}

#[test]
fn the_log_is_known_even_when_nothing_else_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f.yaml");
    std::fs::write(&path, "logging: {level: warn, format: {type: json}}\nnonsense: 1\n").unwrap();
    let flags = Overrides { no_color: true, ..Overrides::default() };
    let shown = presentation(Some(&path), &flags, &|_| None);
    assert_eq!((shown.level, shown.json, shown.no_color, shown.quiet), ("warn", true, true, false));
    let shown = presentation(None, &Overrides::default(), &|_| None);
    assert_eq!((shown.level, shown.json, shown.no_color, shown.quiet), ("info", false, false, false));
}

#[test]
fn the_example_of_the_documentation_is_right() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md")).unwrap();
    let (_, rest) = page.split_once("```yaml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let loaded = yaml(example).env(&[("SOURCE_PASSWORD", "a"), ("TARGET_PASSWORD", "b")]).loads();
    assert_eq!(loaded.notices, []);
    assert!(loaded.pipeline.snapshot.tables.wants_rows("billing", "invoice"));
    assert!(!loaded.pipeline.stream.tables.wants_schema("public", "scratch"));
}
