//! What is said about configurations that are wrong: everything at once, in order, each with its fix, and no secret.

use pgstream_config::{Code, Command, ConfigErrors, Overrides, Sources};
use proptest::prelude::*;

const SECRET: &str = "CANARY";

fn sources(file: Option<(&str, &str)>, environment: &[(&str, &str)], overrides: Overrides) -> Sources {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Sources::new(file, environment, overrides)
}

#[track_caller]
fn refused(sources: &Sources) -> ConfigErrors {
    match sources.load(Command::Run) {
        Err(errors) => errors,
        Ok(loaded) => panic!("accepted: {loaded:?}"),
    }
}

#[track_caller]
fn report(yaml: &str) -> String {
    refused(&sources(Some(("f.yaml", yaml)), &[], Overrides::default())).report()
}

/// The report on what is wrong beside a good source and target.
#[track_caller]
fn beside(yaml: &str) -> String {
    let good = "source: {postgres: {url: 'postgres://s/a'}}\ntarget: {postgres: {url: 'postgres://t/a'}}\n";
    report(&format!("{good}{yaml}"))
}

#[test]
fn everything_is_reported_at_once_in_order() {
    let yaml = "source:
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
    insta::assert_snapshot!("all_at_once", report(yaml));
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
        report(
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
    );
}

#[test]
fn what_is_missing_is_said_where_it_belongs() {
    insta::assert_snapshot!("missing_in_a_file", report("source:\n  postgres:\n    mode: snapshot\ntarget:\n"));
    insta::assert_snapshot!(
        "missing_mode",
        report("source: {postgres: {url: 'postgres://s/a', snapshot: {mode: full}}}\ntarget: {stdout: {}}\n")
    );
    insta::assert_snapshot!("missing_everything", refused(&Sources::default()).report());
    insta::assert_snapshot!(
        "sources_and_targets_not_here",
        report("source: {kafka: {topic: x}}\ntarget: {search: {url: 'http://u:CANARY@h'}}\n")
    );
}

#[test]
fn an_empty_url_is_missing() {
    let sources = sources(
        Some(("f.yaml", "source: {postgres: {url: '${EMPTY}'}}\ntarget: {postgres: {url: ''}}")),
        &[("EMPTY", "")],
        Overrides::default(),
    );
    insta::assert_snapshot!("empty_urls", refused(&sources).report());
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
    insta::assert_snapshot!("variables_and_flags", refused(&sources(None, &environment, overrides)).report());
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
    insta::assert_snapshot!("flags_without_a_copy", refused(&sources(None, &[], overrides(false))).report());
    insta::assert_snapshot!("flags_that_exclude_each_other", refused(&sources(None, &[], overrides(true))).report());
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
    insta::assert_snapshot!("env_file", refused(&sources(Some(("x.env", text)), &[], Overrides::default())).report());
}

#[test]
fn errors_are_diagnostics() {
    let errors = refused(&Sources::default());
    let diagnostic: &dyn miette::Diagnostic = &errors;
    let problem = diagnostic.related().unwrap().next().unwrap();
    assert_eq!(problem.code().unwrap().to_string(), "pgstream::config::missing");
    assert!(problem.help().is_some());
    assert_eq!(errors.to_string(), "the configuration has 2 problems");
    assert_eq!(errors.problems()[0].code, Code::Missing);
}

/// Nothing that is shown of a configuration with a password in it may hold that password.
fn shows_no_secret(sources: &Sources) -> Result<(), TestCaseError> {
    for command in [Command::Run, Command::Snapshot] {
        let shown = match sources.load(command) {
            Ok(loaded) => format!("{loaded:?}"),
            Err(errors) => format!("{errors} {errors:?} {}", errors.report()),
        };
        prop_assert!(!shown.contains(SECRET), "{shown}");
    }
    let shown = match sources.load_source() {
        Ok(loaded) => format!("{loaded:?}"),
        Err(errors) => format!("{errors} {errors:?} {}", errors.report()),
    };
    prop_assert!(!shown.contains(SECRET), "{shown}");
    Ok(())
}

const URL_VARIABLES: [&str; 5] = [
    "PGSTREAM_POSTGRES_LISTENER_URL",
    "PGSTREAM_POSTGRES_WRITER_TARGET_URL",
    "PGSTREAM_POSTGRES_SNAPSHOT_STORE_URL",
    "PGSTREAM_POSTGRES_WRITER_SCHEMALOG_STORE_URL",
    "PGSTREAM_INJECTOR_STORE_POSTGRES_URL",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A password in a URL that is cut, quoted and bent in every way, under every key, right or wrong.
    #[test]
    fn no_url_is_ever_shown(
        scheme in "(postgresql://|postgres://|postgres:/|mysql://|secretsmanager://|)",
        user in "[a-z:'\"]{0,3}",
        around in "[ :#'\"{}\\[\\],&*!|>%@$\n\\\\-]{0,3}",
        quote in "['\"]?",
        key in 0usize..9,
    ) {
        let url = format!("{quote}{scheme}{user}:{around}{SECRET}{around}@host:5432/db{quote}");
        let yaml = match key {
            0 => format!("source:\n  postgres:\n    url: {url}\ntarget: {{stdout: }}\n"),
            1 => format!("target:\n  postgres:\n    url: {url}\n"),
            2 => format!("source:\n  postgres:\n    mode: {url}\n"),
            3 => format!("source:\n  postgres: {url}\n"),
            4 => format!("source:\n  postgres:\n    snapshot:\n      tables:\n        - {url}\n"),
            5 => format!("source:\n  postgres:\n    snapshot: {{tables: [{url}], recorder: {{postgres_url: {url}}}}}\n"),
            6 => format!("modifiers:\n  injector:\n    source_url: {url}\n"),
            7 => format!("target:\n  kafka:\n    url: {url}\n  webhooks: {url}\n"),
            _ => format!("{url}: 1\n"),
        };
        shows_no_secret(&sources(Some(("f.yaml", &yaml)), &[], Overrides::default()))?;
        let lines = format!("PGSTREAM_POSTGRES_LISTENER_URL={url}\nPGSTREAM_POSTGRES_SNAPSHOT_MODE={url}\n{url}\n");
        shows_no_secret(&sources(Some(("f.env", &lines)), &[], Overrides::default()))?;
        let environment: Vec<_> = URL_VARIABLES.iter().map(|name| (*name, url.as_str())).collect();
        shows_no_secret(&sources(None, &environment, Overrides::default()))?;
        let overrides = Overrides {
            source_url: Some(url.as_str().into()),
            target_url: Some(url.as_str().into()),
            tables: vec![url.clone()],
            replication_slot: Some(url.clone()),
            ..Overrides::default()
        };
        shows_no_secret(&sources(None, &[], overrides))?;
        let expanded = "source: {postgres: {url: '${X}', mode: '${X}', snapshot: {tables: ['${X}'], data: {batch_bytes: '${X}'}}}}";
        shows_no_secret(&sources(Some(("f.yaml", expanded)), &[("X", &url)], Overrides::default()))?;
    }

    /// A bare password from a variable is not shown either, whatever key it is used for.
    #[test]
    fn no_expanded_value_is_ever_shown(before in "[a-z ]{0,2}", key in 0usize..5) {
        let key = ["mode: ", "snapshot: ", "snapshot: {tables: ", "retry_policy: {disable_retries: ", "replication: {replication_slot: "][key];
        let close = if key.contains('{') { "}" } else { "" };
        let yaml = format!("source:\n  postgres:\n    {key}'{before}${{X}}'{close}\n");
        shows_no_secret(&sources(Some(("f.yaml", &yaml)), &[("X", "A-CANARY!*")], Overrides::default()))?;
    }

    #[test]
    fn nothing_panics(
        text in "(source|target|postgres|url|mode|snapshot|tables|modifiers|filter|include_tables|[:\\[\\]{},&*\"' \n\t#$-]|\\PC){0,60}",
        value in "\\PC{0,30}",
    ) {
        for file in ["f.yaml", "f.env", "f"] {
            let environment = [("PGSTREAM_FILTER_INCLUDE_TABLES", value.as_str()), ("PGSTREAM_HEALTH_CHECK_ADDRESS", value.as_str())];
            let sources = sources(Some((file, &text)), &environment, Overrides::default());
            let _ = sources.load(Command::Run).map_err(|errors| errors.report());
            let _ = sources.load_source().map_err(|errors| errors.report());
        }
    }
}
