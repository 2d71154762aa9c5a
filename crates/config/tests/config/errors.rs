//! What is said about configurations that are wrong: everything at once, in order, each with its fix.

use pgstream_config::{Code, Needs, Overrides, load};

use crate::user::{file, flags, yaml};

/// The report on what is wrong beside a good source and target.
#[track_caller]
fn beside(text: &str) -> String {
    let good = "source: {postgres: {url: 'postgres://s/a'}}\ntarget: {postgres: {url: 'postgres://t/a'}}\n";
    yaml(&format!("{good}{text}")).report()
}

#[test]
fn everything_is_reported_at_once_in_order() {
    let text = "source:
  postgres:
    url: ${SOURCE_URL}
    mode: snapshots
    snapshot:
      tables: [a, 'b*', c.d.e]
      excluded_tables: ['s.*']
      data:
        batch_bytes: lots
        table_worker: 4
    retry_policy: {exponential: {initial_interval: 2s, max_interval: 1s}}
target:
  postgres:
    url: mysql://u:CANARY@h/db
    batch: {size: 0, ignore_send_errors: true}
    on_conflict_action: [nothing]
    on_conflict_action: nothing
  kafka: {servers: [x]}
modifiers:
  transformations:
    table_transformers:
      - schema: public
        table: t
        column_transformers:
          name: {nam: x}
instrumentation:
  metrics: {endpoint: 'localhost:4317'}
";
    insta::assert_snapshot!("all_at_once", yaml(text).report());
}

#[test]
fn unknown_keys_name_the_nearest_or_the_right_place() {
    insta::assert_snapshot!(
        "unknown_keys",
        beside(
            "
sorce: {}
instrumentation:
  max_bytes: 1
  xyz: 1
modifiers:
  'postgres://u:CANARY@h': 1
  [1]: 2
  filter: {include-tables: [a]}
logging: info
"
        )
    );
}

#[test]
fn what_excludes_each_other_is_refused() {
    insta::assert_snapshot!(
        "conflicts",
        yaml(
            "
source:
  postgres:
    url: postgres://s/a
    mode: snapshot
    snapshot:
      mode: data
      tables: [x.a, y.b]
      schema_only_tables: [x.a]
      schema: {pgdump_pgrestore: {include_object_types: [tables], exclude_object_types: [views]}}
target:
  postgres: {url: 'postgres://t/a'}
  stdout:
modifiers:
  filter: {include_tables: [z.*]}
instrumentation:
  metrics: {prometheus: {enabled: true, endpoint: /ready}}
"
        )
        .report()
    );
}

#[test]
fn what_is_missing_is_said_where_it_belongs() {
    insta::assert_snapshot!("missing_in_a_file", yaml("source:\n  postgres:\n    mode: snapshot\ntarget:\n").report());
    insta::assert_snapshot!(
        "missing_mode",
        yaml("source: {postgres: {url: 'postgres://s/a', snapshot: {mode: full}}}\ntarget: {stdout: {}}\n").report()
    );
    insta::assert_snapshot!("missing_everything", flags(Overrides::default()).report());
    insta::assert_snapshot!(
        "sources_and_targets_not_here",
        yaml("source: {kafka: {topic: x}}\ntarget: {search: {url: 'http://u:CANARY@h'}}\n").report()
    );
    insta::assert_snapshot!(
        "an_empty_target_not_here",
        yaml("source: {postgres: {url: 'postgres://s/a'}}\ntarget: {kafka: {}, postgres: {url: 'postgres://t/a'}}\n")
            .report()
    );
}

#[test]
fn urls_that_go_on_wrongly_are_told_together() {
    let user = yaml("source: {postgres: {url: 'postgres://u:CANARY@s:99999/a'}}\ntarget: {postgres: {url: '${T}'}}")
        .env(&[("T", "postgres://t:99999/a")]);
    insta::assert_snapshot!("wrong_urls", user.report());
}

#[test]
fn an_empty_url_is_missing() {
    let user = yaml("source: {postgres: {url: '${EMPTY}'}}\ntarget: {postgres: {url: ''}}").env(&[("EMPTY", "")]);
    insta::assert_snapshot!("empty_urls", user.report());
}

#[test]
fn a_variable_and_a_flag_are_named_instead_of_a_line() {
    let environment = [
        ("PGSTREAM_POSTGRES_LISTENER_URL", "mysql://u:CANARY@h"),
        ("PGSTREAM_POSTGRES_WRITER_BATCH_TIMEOUT", "1000"),
        ("PGSTREAM_POSTGRES_SNAPSHOT_TABLES", "a b.c.d"),
        ("PGSTREAM_TRANSFORMER_RULES_FILE", "rules.yaml"),
    ];
    let overrides = Overrides {
        target_url: Some("u:CANARY@h".into()),
        replication_slot: Some("No-Slot".into()),
        ..Overrides::default()
    };
    insta::assert_snapshot!("variables_and_flags", flags(overrides).env(&environment).report());
}

#[test]
fn flags_about_the_copy_need_one() {
    let overrides = |data_only| Overrides {
        source_url: Some("postgres://s/a".into()),
        target_url: Some("postgres://t/a".into()),
        reset: true,
        data_only,
        snapshot_tables: if data_only { vec!["*.*".into()] } else { vec![] },
        ..Overrides::default()
    };
    insta::assert_snapshot!("flags_without_a_copy", flags(overrides(false)).report());
    insta::assert_snapshot!("flags_that_exclude_each_other", flags(overrides(true)).report());
}

#[test]
fn an_env_file_names_its_lines() {
    let text = "PGSTREAM_POSTGRES_LISTENER_URL=postgres://s/a
PGSTREAM_POSTGRES_WRITER_TARGET_URL=${UNSET}
PGSTREAM_POSTGRES_WRITTER_BATCH_SIZE=1
PGSTREAM_KAFKA_TOPIC_NAME=x
PGSTREAM_FROBNICATE=x
PGSTREAM_POSTGRES_SNAPSHOT_WORKERS=many
no assignment
";
    insta::assert_snapshot!("env_file", file("x.env", text).report());
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let path = std::path::Path::new("no/such/file.yaml");
    let errors = load(Some(path), &Overrides::default(), Needs::Source, &|_| None, &|_| Ok(())).unwrap_err();
    assert!(errors.report().starts_with("no/such/file.yaml: cannot be read: "), "{}", errors.report());
}

#[test]
fn errors_are_diagnostics() {
    let errors = flags(Overrides::default()).load(Needs::SourceAndTarget).unwrap_err();
    let diagnostic: &dyn miette::Diagnostic = &errors;
    let problem = diagnostic.related().unwrap().next().unwrap();
    assert_eq!(problem.code().unwrap().to_string(), "pgstream::config::missing");
    assert!(problem.help().is_some());
    assert_eq!(errors.to_string(), "the configuration has 2 problems");
    assert_eq!(errors.problems()[0].code, Code::Missing);
}
