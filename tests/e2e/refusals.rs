//! What is wrong is said: the exit code, and the words that a user needs.

use std::{fs, net::TcpListener};

use pgstream_testkit::Cluster;
use serde_json::Value;

use crate::replicator::{Done, Pipeline, SLOT, pgstream};

/// A password that must never be seen.
const CANARY: &str = "canary-5ecret";

const T: &str = r#""public"."t""#;
const LATER: &str = r#""public"."later""#;
const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)";

/// The password is not in what was printed.
#[track_caller]
fn discreet(done: Done) -> Done {
    assert!(!done.err.contains(CANARY) && !done.out.contains(CANARY), "{}\n{}", done.out, done.err);
    done
}

/// A pipeline that does not try again.
async fn impatient(schema: &str) -> Pipeline {
    let mut pipeline = Pipeline::new(schema).await;
    pipeline.set("source.postgres.retry_policy.disable_retries", true);
    pipeline.set("target.postgres.retry_policy.disable_retries", true);
    pipeline
}

/// Schema changes of this session are not recorded.
const UNRECORDED: &str = "SET pgstream.skip_log = 'true'";

#[tokio::test]
async fn a_command_line_that_makes_no_sense_is_explained() {
    pgstream(&["strat"]).await.ends(2).says(&["unrecognized subcommand 'strat'", "Usage"]);
    pgstream(&["run", "--tabels", "x"]).await.ends(2).says(&["unexpected argument '--tabels'"]);
    pgstream(&["run", "--log-format", "yaml"]).await.ends(2).says(&["invalid value 'yaml'", "console, json"]);
    pgstream(&[]).await.ends(2).says(&["Usage: pgstream-aws"]);
    pgstream(&["version"]).await.ok().prints(&["pgstream-aws ", env!("CARGO_PKG_VERSION")]);
    pgstream(&["--help"]).await.ok().prints(&["init", "snapshot", "run", "status", "destroy", "Exit codes"]);
    pgstream(&["completions", "bash"]).await.ok().prints(&["complete -F"]);
}

#[tokio::test]
async fn a_configuration_that_makes_no_sense_is_explained_line_by_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pipeline.yaml");
    let run = async |yaml: &str| {
        fs::write(&file, yaml).unwrap();
        discreet(pgstream(&["run", "-c", file.to_str().unwrap()]).await)
    };
    let good = format!("source:\n  postgres:\n    url: postgresql://u:{CANARY}@h/db\n    mode: replication\n");
    let target = format!("target:\n  postgres:\n    url: postgresql://u:{CANARY}@h/db\n");

    let unknown = run(&format!("{good}    snapshot:\n      tabels: [a]\n{target}    disable_trigers: true\n")).await;
    unknown.ends(2).says(&[
        "pipeline.yaml:6",
        "tabels",
        "did you mean `tables`?",
        "pipeline.yaml:10",
        "disable_triggers",
    ]);
    run(&good).await.ends(2).says(&["target.postgres.url"]);
    run(&format!("{good}{target}  kafka:\n    servers: k\n")).await.ends(2).says(&["pipeline.yaml:8", "kafka"]);
    run(&format!("{good}target:\n  postgres:\n    url: ${{NO_SUCH_VARIABLE}}\n"))
        .await
        .ends(2)
        .says(&["NO_SUCH_VARIABLE"]);
    run(&format!("source: [\n{good}")).await.ends(2).says(&["pipeline.yaml"]);
    run(&format!("{good}{target}    batch:\n      ignore_send_errors: true\n"))
        .await
        .ends(2)
        .says(&["ignore_send_errors"]);
    let missing = pgstream(&["run", "-c", "/nonexistent/pipeline.yaml"]).await;
    missing.ends(2).says(&["/nonexistent/pipeline.yaml"]);
}

#[tokio::test]
async fn a_malformed_url_is_explained_without_its_password() {
    let urls = [
        format!("postgresql://u:{CANARY}@host:port/db"),
        format!("postgresql://u:{CANARY}@host:5432/db?sslmod=require"),
        format!("mysql://u:{CANARY}@host/db"),
        format!("postgresql://u:{CANARY}@ho st/db"),
        format!("u:{CANARY}@host/db"),
        format!("postgresql://u:{CANARY}%zz@host/db"),
    ];
    for url in urls {
        let done = discreet(pgstream(&["init", "--postgres-url", &url, "--log-level", "trace"]).await.ends(2));
        let said = done.says(&["error["]);
        let remedy = ["fix:", "help:"].iter().any(|word| said.err.contains(word));
        assert!(remedy, "{}", said.err);
    }
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let url = format!("postgresql://u:{CANARY}@{address}/db");
    for command in ["init", "status", "destroy"] {
        let done = pgstream(&[command, "--postgres-url", &url, "--log-level", "trace"]).await.ends(1);
        discreet(done).says(&[&address]);
    }
    let nowhere = format!("postgresql://u:{CANARY}@no-such-host.invalid/db");
    discreet(pgstream(&["status", "--postgres-url", &nowhere]).await.ends(1)).says(&["no-such-host.invalid"]);

    let mut pipeline = impatient(TABLE).await;
    pipeline.pgstream(&["init"]).await.ok();
    pipeline.set("target.postgres.url", url.as_str());
    discreet(pipeline.pgstream(&["run"]).await.ends(1)).says(&[&address]);
    discreet(pipeline.pgstream(&["snapshot"]).await.ends(1)).says(&[&address]);
}

#[tokio::test]
async fn a_wrong_password_and_a_missing_database_are_told_apart() {
    let mut pipeline = impatient(TABLE).await;
    let wrong = pipeline.source.url_as("postgres", CANARY, "app");
    for command in ["init", "status", "destroy"] {
        let done = pgstream(&[command, "--postgres-url", &wrong, "--log-level", "trace"]).await.ends(1);
        discreet(done).says(&["password authentication failed for user \"postgres\""]);
    }
    let elsewhere = pipeline.source.url("nowhere");
    pgstream(&["init", "--postgres-url", &elsewhere]).await.ends(1).says(&["database \"nowhere\" does not exist"]);
    pipeline.pgstream(&["init"]).await.ok();
    let mode = "source.postgres.mode";
    for (key, right) in [("source", pipeline.source.url("app")), ("target", pipeline.target.url("app"))] {
        let key = format!("{key}.postgres.url");
        for how in ["replication", "snapshot_and_replication"] {
            pipeline.set(mode, how);
            pipeline.set(&key, right.replace("testkit", CANARY));
            let done = pipeline.pgstream(&["run", "--log-level", "trace"]).await.ends(1);
            discreet(done).says(&["password authentication failed"]);
        }
        pipeline.set(&key, right);
    }
}

#[tokio::test]
async fn a_source_that_cannot_replicate_is_told_how() {
    let builder = Cluster::builder().setting("wal_level", "replica");
    let source = builder.start().await.unwrap();
    source.create_database("app").await;
    let url = source.url("app");
    let refused = pgstream(&["init", "--postgres-url", &url]).await.ends(1);
    refused.says(&["source::wal_level", "wal_level is `replica`", "ALTER SYSTEM SET wal_level = logical"]);
    let made = source.client("app").await.text("SELECT to_regnamespace('pgstream')::text").await;
    assert_eq!(made, None, "nothing is changed");
}

#[tokio::test]
async fn slots_that_are_used_up_are_counted() {
    let source = Cluster::builder().setting("max_replication_slots", "1").start().await.unwrap();
    source.create_database("app").await;
    source.client("app").await.batch("SELECT pg_create_physical_replication_slot('other')").await;
    let refused = pgstream(&["init", "--postgres-url", &source.url("app")]).await.ends(1);
    refused.says(&["source::no_free_slot", "all 1 replication slots are in use", "max_replication_slots"]);
}

#[tokio::test]
async fn run_before_init_says_so() {
    let mut pipeline = impatient(TABLE).await;
    pipeline.pgstream(&["run"]).await.ends(1).says(&["pgstream-aws init"]);
    pipeline.set("source.postgres.mode", "replication");
    pipeline.pgstream(&["run"]).await.ends(1).says(&["stream::slot_missing", SLOT, "pgstream-aws init"]);
}

#[tokio::test]
async fn a_slot_that_was_recreated_is_not_followed() {
    let pipeline = Pipeline::new(TABLE).await;
    pipeline.pgstream(&["init"]).await.ok();
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    running.stop().await.ok();
    let here = pipeline.here().await;
    here.batch(&format!("SELECT pg_drop_replication_slot('{SLOT}')")).await;
    here.batch("INSERT INTO t VALUES (2)").await;
    pipeline.pgstream(&["run"]).await.ends(1).says(&["stream::slot_missing", SLOT]);
    here.batch(&format!("SELECT pg_create_logical_replication_slot('{SLOT}', 'pgoutput')")).await;
    here.batch("INSERT INTO t VALUES (3)").await;
    pipeline.pgstream(&["run"]).await.ends(1).says(&["stream::slot_ahead", SLOT, "new snapshot"]);
    assert_eq!(pipeline.there().await.scalar::<i64>("SELECT count(*) FROM t").await, 1, "nothing was applied");
    pipeline.pgstream(&["status"]).await.ends(1).prints(&["[slot_ahead_of_target]"]);
}

#[tokio::test]
async fn a_slot_that_is_dropped_while_it_is_read_ends_the_run() {
    let pipeline = Pipeline::new(TABLE).await;
    pipeline.pgstream(&["init"]).await.ok();
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    let sql = format!(
        "DO $$ BEGIN
           PERFORM pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{SLOT}' AND active;
           FOR i IN 1..100 LOOP
             BEGIN PERFORM pg_drop_replication_slot('{SLOT}'); RETURN; EXCEPTION WHEN object_in_use THEN PERFORM pg_sleep(0.001); END;
           END LOOP; END $$"
    );
    let here = pipeline.here().await;
    let slots = format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{SLOT}'");
    while here.scalar::<i64>(&slots).await == 1 {
        here.batch(&sql).await;
    }
    running.done().await.ends(1).says(&["stream::slot_missing", SLOT]);
}

#[tokio::test]
async fn a_publication_that_is_missing_is_named() {
    let pipeline = Pipeline::new(TABLE).await;
    pipeline.pgstream(&["init"]).await.ok();
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    running.stop().await.ok();
    pipeline.here().await.batch("DROP PUBLICATION pgstream_app").await;
    let refused = pipeline.pgstream(&["run"]).await.ends(1);
    refused.says(&["stream::publication_missing", "publication pgstream_app does not exist"]);
}

#[tokio::test]
async fn a_table_that_is_missing_on_the_target_stops_the_stream_until_it_is_there() {
    let pipeline = Pipeline::new(TABLE).await;
    pipeline.pgstream(&["init"]).await.ok();
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    let new = "CREATE TABLE later (id int PRIMARY KEY)";
    let here = pipeline.here().await;
    here.batch(&format!("{UNRECORDED}; {new}; INSERT INTO later VALUES (1)")).await;
    running.done().await.ends(1).says(&["stream::table_missing", LATER, "exclude_tables"]);
    pipeline.there().await.batch(new).await;
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    pipeline.assert_same_rows().await;
    running.stop().await.ok();
}

#[tokio::test]
async fn a_row_that_somebody_else_wrote_to_the_target_stops_the_stream() {
    let pipeline = Pipeline::new(TABLE).await;
    pipeline.pgstream(&["init"]).await.ok();
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    pipeline.there().await.batch("INSERT INTO t VALUES (7)").await;
    pipeline.here().await.batch("INSERT INTO t VALUES (7)").await;
    let stopped = running.done().await.ends(1);
    stopped.says(&["stream::conflict", "INSERT", T, "Nothing of this transaction was applied"]);
    pipeline.there().await.batch("DELETE FROM t WHERE id = 7").await;
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    pipeline.assert_same_rows().await;
    running.stop().await.ok();
}

#[tokio::test]
async fn json_logs_are_one_object_a_line_the_last_error_too() {
    let mut pipeline = Pipeline::new(TABLE).await;
    pipeline.pgstream(&["init"]).await.ok();
    let mut running = pipeline.start(&["run", "--log-format", "json", "--log-level", "trace"]);
    pipeline.caught_up(&mut running).await;
    pipeline
        .here()
        .await
        .batch(&format!("{UNRECORDED}; CREATE TABLE later (id int PRIMARY KEY); INSERT INTO later VALUES (1)"))
        .await;
    let done = running.done().await.ends(1);
    let lines: Vec<Value> =
        done.err.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect();
    assert!(lines.len() > 3 && lines.iter().all(|line| line["level"].is_string()), "{}", done.err);
    let errors: Vec<_> = lines.iter().filter(|line| line["level"] == "ERROR").collect();
    let [error] = errors[..] else { panic!("one error is expected\n{errors:#?}") };
    assert_eq!(error["code"], "stream::table_missing");
    assert!(error["message"].as_str().unwrap().contains(LATER) && error["help"].is_string(), "{error:#}");

    // Also for what is wrong with the configuration, and when the file asks for it.
    pipeline.set("logging.format.type", "json");
    pipeline.set("source.postgres.mode", "sideways");
    let done = pipeline.pgstream(&["run"]).await.ends(2);
    let last: Value = serde_json::from_str(done.err.lines().last().unwrap()).unwrap();
    assert_eq!(last["level"], "ERROR");
    assert_eq!(done.err.lines().count(), 1, "{}", done.err);
}
