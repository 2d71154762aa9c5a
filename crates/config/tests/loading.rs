//! What users write, and what they read when it is wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::{collections::HashMap, io::Write as _};

use pgstream_config::{
    ConfigErrors, Loaded, Needs, Overrides, load,
    pipeline::{Mode, ObjectType, ObjectTypes, SnapshotMode, Target},
    redact_url,
};
use proptest::prelude::*;
use secrecy::ExposeSecret as _;

const URLS: &str = "source:\n  postgres:\n    url: postgresql://u:hunter2@a/db\ntarget:\n  postgres:\n    url: postgresql://u:hunter2@b/db\n";

fn read_as(extension: &str, text: &str, env: &[(&str, &str)], flags: &Overrides) -> Result<Loaded, ConfigErrors> {
    let mut file = tempfile::Builder::new().prefix("c").suffix(extension).tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let env: HashMap<String, String> = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    load(Some(file.path()), flags, Needs::SourceAndTarget, &|name| env.get(name).cloned())
}

fn read(text: &str) -> Result<Loaded, ConfigErrors> {
    read_as(".yaml", text, &[], &Overrides::default())
}

fn problems(text: &str) -> Vec<(u64, String)> {
    let errors = read(text).expect_err("it is wrong");
    let line = |origin: &pgstream_config::error::Origin| match origin {
        pgstream_config::error::Origin::File { line, .. } => *line,
        _ => 0,
    };
    errors.0.iter().map(|e| (line(&e.origin), format!("{}: {} [{}]", e.key, e.problem, e.fix))).collect()
}

fn postgres(target: Option<Target>) -> pgstream_config::pipeline::PostgresTarget {
    match target {
        Some(Target::Postgres(postgres)) => postgres,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_full_file_means_what_it_says() {
    let text = "
source:
  postgres:
    url: \"postgresql://user:password@localhost:5432/mydatabase\"
    mode: snapshot_and_replication # a comment
    snapshot:
      mode: data
      tables: [\"test\", \"test_schema.Test\", \"another_schema.*\"]
      excluded_tables: [\"test_schema.Test\"]
      recorder: {repeatable_snapshots: true, postgres_url: \"postgresql://user:password@localhost:5432/t\"}
      snapshot_workers: 2
      data: {schema_workers: 3, table_workers: 5, batch_bytes: 83886080, max_connections: 20}
      schema:
        pgdump_pgrestore:
          clean_target_db: true
          roles_snapshot_mode: \"disabled\"
          index_constraint_session_settings:
            - maintenance_work_mem=4GB
            - lock_timeout=0
          exclude_object_types: [comments, text_search]
    replication:
      replication_slot: \"pgstream_mydatabase_slot\"
      plugin:
        include_xids: true
    retry_policy:
      exponential: {max_retries: 5, initial_interval: 1000, max_interval: 60000}
target:
  postgres:
    url: \"postgresql://user:password@localhost:5432/mytargetdatabase\"
    batch: {timeout: 1000, size: 100, max_bytes: 1.5MiB, max_queue_bytes: 100MiB}
    disable_triggers: false
";
    let text = text.replace("1.5MiB", "1MiB");
    let Loaded { pipeline, notices } = read(&text).unwrap();
    assert_eq!(pipeline.mode, Mode::SnapshotAndReplication);
    assert_eq!(pipeline.snapshot.mode, SnapshotMode::Data);
    assert_eq!(pipeline.snapshot.table_workers.get(), 10);
    assert_eq!(pipeline.snapshot.schema_workers.get(), 3);
    assert!(pipeline.snapshot.repeat && pipeline.snapshot.schema.clean_target_db);
    assert!(!pipeline.snapshot.tables.wants_rows("test_schema", "Test"));
    assert!(pipeline.snapshot.tables.wants_rows("another_schema", "x"));
    let setting = ("maintenance_work_mem".to_owned(), "4GB".to_owned());
    assert_eq!(pipeline.snapshot.schema.index_session_settings[0], setting);
    let except = ObjectTypes::Except(vec![ObjectType::Comments, ObjectType::TextSearch]);
    assert_eq!(pipeline.snapshot.schema.object_types, except);
    assert_eq!(pipeline.source.slot.as_deref(), Some("pgstream_mydatabase_slot"));
    assert_eq!(pipeline.source.retry.max_retries, Some(5));
    assert_eq!(pipeline.stream.batch_bytes, 1 << 20);
    assert_eq!(postgres(pipeline.target).disable_triggers, Some(false));
    let noticed: Vec<&str> = notices.iter().map(|notice| notice.key.rsplit('.').next().unwrap()).collect();
    assert_eq!(noticed, ["include_xids", "postgres_url", "timeout"]);
}

#[test]
fn all_that_is_wrong_comes_at_once_with_line_key_and_fix() {
    let text = format!(
        "{URLS}    on_conflict_action: ignore\n    max_connection: 5\n    batch:\n      size: none\n      max_bytes: 5 apples\nmodifers: {{}}\ninstrumentation:\n  traces: {{sample_ratio: 2}}\n"
    );
    let found = problems(&text);
    let expected = [
        (7, "on_conflict_action", "`ignore`"),
        (8, "max_connection", "did you mean `max_connections`?"),
        (10, "batch.size", "at least 1"),
        (11, "batch.max_bytes", "64MiB"),
        (12, "modifers", "did you mean `modifiers`?"),
        (14, "sample_ratio", "not available in this version"),
        (14, "sample_ratio", "between 0 and 1"),
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (line, key, text) in expected {
        assert!(
            found.iter().any(|(at, what)| *at == line && what.contains(key) && what.contains(text)),
            "{line} {key} {text}: {found:#?}"
        );
    }
}

#[test]
fn targets_and_keys_that_are_not_here_say_so() {
    let kafka = "source: {postgres: {url: postgres://a/b}}\ntarget: {kafka: {servers: [x]}}\n";
    assert!(problems(kafka)[0].1.contains("not a target here"), "{:?}", problems(kafka));
    let both = format!("{URLS}  stdout: {{}}\n");
    assert!(problems(&both)[0].1.contains("more than one target"));
    let none = "source: {postgres: {url: postgres://a/b}}\n";
    assert!(problems(none)[0].1.contains("no target is configured"));
    let transformed = format!("{URLS}modifiers:\n  transformations:\n    validation_mode: strict\n");
    assert!(problems(&transformed)[0].1.contains("not available in this version"));
    let lossy = format!("{URLS}    strict_mode: false\n    batch: {{ignore_send_errors: true}}\n");
    assert!(problems(&lossy).iter().all(|(_, what)| what.contains("is refused")), "{:?}", problems(&lossy));
    let exact = URLS.replace("a/db\n", "a/db\n    snapshot: {excluded_tables: [\"a.*\"]}\n");
    assert!(problems(&exact)[0].1.contains("wildcards are not allowed here"));
}

#[test]
fn variables_are_expanded_or_named() {
    let text = URLS.replace("hunter2@a", "${PASSWORD}@a");
    let loaded = read_as(".yaml", &text, &[("PASSWORD", "s3cret")], &Overrides::default()).unwrap();
    assert!(loaded.pipeline.source.url.expose_secret().contains("s3cret@a"));
    assert!(problems(&text)[0].1.contains("PASSWORD is not set"));
}

#[test]
fn flags_beat_the_environment_which_beats_the_file() {
    let env =
        [("PGSTREAM_POSTGRES_LISTENER_URL", "postgres://env/db"), ("PGSTREAM_POSTGRES_SNAPSHOT_TABLES", "a.b,c.*")];
    let flags = Overrides { target_url: Some("postgres://flag/db".into()), ..Overrides::default() };
    let loaded = read_as(".yaml", URLS, &env, &flags).unwrap();
    assert_eq!(loaded.pipeline.source.url.expose_secret(), "postgres://env/db");
    assert_eq!(postgres(loaded.pipeline.target.clone()).url.expose_secret(), "postgres://flag/db");
    assert!(loaded.pipeline.snapshot.tables.wants_rows("c", "any"));
    assert_eq!(loaded.pipeline.mode, Mode::SnapshotAndReplication, "tables to copy were named");
}

#[test]
fn an_env_file_is_a_configuration_too() {
    let text = "# pgstream\nexport PGSTREAM_POSTGRES_LISTENER_URL=\"postgres://a/b\"\nPGSTREAM_POSTGRES_WRITER_TARGET_URL=postgres://c/d\nOTHER=1\n";
    let loaded = read_as(".env", text, &[], &Overrides::default()).unwrap();
    assert_eq!(loaded.pipeline.source.url.expose_secret(), "postgres://a/b");
    let wrong = format!("{text}PGSTREAM_POSTGRES_WRITER_BATCH_SIZ=5\n");
    let errors = read_as("", &wrong, &[], &Overrides::default()).unwrap_err();
    assert!(errors.to_string().contains("did you mean `PGSTREAM_POSTGRES_WRITER_BATCH_SIZE`"), "{errors}");
}

#[test]
fn broken_yaml_and_missing_files_are_told_without_their_content() {
    let errors = read("source: {postgres: {url: \"postgres://u:hunter2@a/b\n").unwrap_err();
    assert!(errors.to_string().contains("not valid YAML") && !errors.to_string().contains("hunter2"), "{errors}");
    let errors = load(Some("no/such/file.yaml".as_ref()), &Overrides::default(), Needs::Source, &|_| None).unwrap_err();
    assert!(
        errors.to_string().contains("no/such/file.yaml") && errors.to_string().contains("cannot be read"),
        "{errors}"
    );
}

#[test]
fn passwords_are_masked_wherever_they_stand() {
    for url in [
        "postgres://u:hunter2@h/d",
        "postgresql://u:hun@ter2:hunter2@h",
        "u://x:hunter2@",
        "postgres://h/d?user=u&password=hunter2",
    ] {
        assert!(!redact_url(url).contains("hunter2"), "{}", redact_url(url));
    }
    assert_eq!(redact_url("postgres://user:pw@host:5/db"), "postgres://user:***@host:5/db");
    let loaded = read(URLS).unwrap();
    assert!(!format!("{:?}", loaded.pipeline).contains("hunter2"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_text_makes_it_panic(text in "(?s).{0,200}") {
        drop(read(&text));
        drop(read_as(".env", &text, &[], &Overrides::default()));
    }

    #[test]
    fn no_error_shows_a_password(before in "[a-z:/@ {}#\"'-]{0,12}", after in "[a-z:/@ {}#\"'-]{0,12}", key in "url|mode|ur") {
        let text = format!("source:\n  postgres:\n    {key}: {before}postgres://u:c4n4ry@{after}\n");
        if let Err(errors) = read(&text) {
            prop_assert!(!errors.to_string().contains("c4n4ry"), "{}", errors);
        }
    }
}
