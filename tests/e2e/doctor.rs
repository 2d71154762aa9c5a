//! `doctor`: errors as servers say them, logs, and pipelines that stand still.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use pgstream_testkit::{Client, Stop};

use crate::replicator::{Pipeline, Replicator, SLOT, pgstream};

#[tokio::test]
async fn errors_that_a_server_really_says_are_explained_by_code_and_by_text() {
    for major in [13, 14, 15, 16, 17, 18] {
        let (source, target) = pgstream_testkit::pair_of(major, major).await;
        let pipeline = Pipeline::between(
            source,
            target,
            "CREATE ROLE low LOGIN PASSWORD 'secret'; CREATE ROLE other;
             CREATE TABLE keyless (a int); CREATE PUBLICATION p FOR TABLE keyless;
             CREATE SCHEMA closed; CREATE TABLE policies (a int PRIMARY KEY);
             ALTER TABLE policies ENABLE ROW LEVEL SECURITY; GRANT SELECT ON policies TO low; CREATE SEQUENCE seq",
        )
        .await;
        let high = pipeline.here().await;
        high.batch("REVOKE CREATE ON SCHEMA public FROM public").await;
        high.batch("SELECT pg_create_logical_replication_slot('here', 'pgoutput')").await;
        high.batch("SELECT pg_create_physical_replication_slot('physical')").await;
        high.batch("CREATE DATABASE elsewhere").await;
        let elsewhere = pipeline.source.client("elsewhere").await;
        let low = Client::open(&pipeline.source.url_as("low", "secret", "app")).await.unwrap();
        let changes = "pg_logical_slot_get_binary_changes";
        let options = "NULL, NULL, 'proto_version', '1', 'publication_names', 'p'";
        for (client, sql, id) in [
            (&low, "SELECT * FROM pg_authid", "pg_authid"),
            (&low, "SET session_replication_role = replica", "session_replication_role"),
            (&low, "CREATE TABLE public.x ()", "schema_public"),
            (&low, "CREATE TABLE closed.x ()", "permission_schema"),
            (&low, "CREATE ROLE r REPLICATION", "create_role"),
            (&low, "CREATE ROLE r", "create_role"),
            (&low, "CREATE DATABASE d", "create_database"),
            (&low, "CREATE SCHEMA s", "permission_database"),
            (&low, "SELECT * FROM public.marker", "permission_relation"),
            (&low, "SELECT * FROM public.seq", "permission_relation"),
            (&low, "SET row_security = off; SELECT * FROM policies", "row_security"),
            (&low, "DROP SCHEMA public", "not_owner"),
            (&low, "CREATE SCHEMA s AUTHORIZATION other", "permission_database"),
            (&low, "GRANT CREATE ON DATABASE app TO low; SET ROLE other", "permission"),
            (&low, "CREATE EXTENSION file_fdw", "extension_permission"),
            (&low, "SELECT pg_create_logical_replication_slot('s', 'pgoutput')", "replication_permission"),
            (&high, "CREATE EXTENSION no_such_extension", "extension_missing"),
            (&high, "SELECT pg_create_logical_replication_slot('here', 'pgoutput')", "slot_exists"),
            (&high, "SELECT pg_drop_replication_slot('nowhere')", "slot_missing"),
            (&high, "ALTER PUBLICATION nowhere SET (publish = 'insert')", "publication_missing"),
            (
                &high,
                "SET rds.logical_replication = 1; ALTER SYSTEM SET rds.logical_replication = 1",
                "rds_logical_replication",
            ),
            (&high, "INSERT INTO keyless VALUES (1); UPDATE keyless SET a = 2", "replica_identity"),
            (&high, "BEGIN READ ONLY; CREATE TABLE x ()", "read_only_node"),
            (&high, "GRANT nobody TO low", "role_missing"),
            (&high, &format!("SELECT * FROM {changes}('physical', {options})"), "slot_physical"),
            (&elsewhere, &format!("SELECT * FROM {changes}('here', {options})"), "slot_other_database"),
        ] {
            // Each statement by itself, as servers forget the whole string at the first error.
            let mut failed = None;
            for statement in sql.split("; ") {
                failed = client.simple_query(statement).await.err();
            }
            let Some(error) = failed else {
                // ALTER SYSTEM takes what was set as a placeholder before, from 17 on.
                assert_eq!(id, "rds_logical_replication", "{major}: {sql} succeeded");
                continue;
            };
            let _ = client.simple_query("ROLLBACK").await;
            let said = error.as_db_error().unwrap();
            let code = said.code().code();
            let detail = said.detail().map(|it| format!("\nDETAIL:  {it}")).unwrap_or_default();
            let plain = format!("ERROR:  {}{detail}\nSTATEMENT:  {sql}", said.message());
            let with_code = format!("ERROR:  {code}: {}{detail}", said.message());
            for text in [plain, with_code] {
                let done = pgstream(&["doctor", "--json", &text]).await.ok();
                assert_eq!(done.json()[0]["id"], id, "{major}: {text}");
            }
        }
    }
}

/// With this on its standard input.
fn reads(input: &str, arguments: &[&str]) -> (i32, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pgstream-aws"))
        .args(arguments)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

#[tokio::test]
async fn a_log_on_standard_input_is_explained_and_what_is_unknown_is_said_to_be() {
    let log = "2026-01-01 [7] LOG:  fine\n2026-01-01 [7] FATAL:  all replication slots are in use\n\
               {\"level\":\"ERROR\",\"message\":\"x\",\"causes\":[\"(SQLSTATE 53100)\"],\"help\":\"pending-reboot\"}\n";
    for arguments in [["doctor"].as_slice(), &["doctor", "-"]] {
        let (code, text) = reads(log, arguments);
        assert_eq!(code, 0, "{text}");
        for words in ["no_free_slot", "disk_full", "cause:", "fix:", "docs/troubleshooting.md#no_free_slot"] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert!(!text.contains("pending"), "{text}");
    }
    pgstream(&["doctor", "all is well"]).await.ends(1).prints(&["No error that is known"]);
    pgstream(&["doctor", "error[stream::conflict]: a row"]).await.ok().prints(&["stream::conflict", "#the-stream"]);
    assert_eq!(reads("", &["doctor"]).0, 2);
}

#[tokio::test]
async fn a_pipeline_is_looked_at_before_while_and_after_it_runs() {
    let pipeline = Pipeline::new("CREATE TABLE t (a int PRIMARY KEY)").await;
    let ids = async || {
        let done = pipeline.pgstream(&["doctor", "--json"]).await;
        let report = done.json();
        let ids: Vec<String> = report["findings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|finding| finding["id"].as_str().unwrap().to_owned())
            .collect();
        (done.code, ids)
    };
    let (code, before) = ids().await;
    assert!(code == Some(1) && before.iter().any(|id| id == "slot_missing"), "{before:?}");

    pipeline.pgstream(&["init"]).await.ok();
    assert_eq!(ids().await, (Some(1), vec!["doctor.not_running".to_owned()]));

    let mut run = pipeline.run();
    pipeline.caught_up(&mut run).await;
    assert_eq!(ids().await, (Some(0), vec![]), "a pipeline that runs has nothing wrong");

    // Somebody holds the table on the target.
    let mut there = pipeline.there().await;
    let lock = there.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await.unwrap();
    pipeline.here().await.batch("INSERT INTO t VALUES (1)").await;
    let (_, blocked) = loop {
        run.assert_running();
        let seen = ids().await;
        if !seen.1.is_empty() {
            break seen;
        }
    };
    assert_eq!(blocked, ["doctor.blocked"]);
    drop(lock);
    pipeline.caught_up(&mut run).await;
    run.stop().await.ok();

    pipeline.here().await.batch(&format!("SELECT pg_drop_replication_slot('{SLOT}')")).await;
    let (code, lost) = ids().await;
    assert!(code == Some(1) && lost.iter().any(|id| id.ends_with("slot_gone")), "{lost:?}");

    pipeline.target.stop(Stop::Fast).await;
    pipeline.pgstream(&["doctor"]).await.ends(1).prints(&["connectivity.target", "slot_gone"]);
}

#[tokio::test]
async fn what_a_running_replicator_met_last_is_told_with_its_fix() {
    let mut pipeline = Pipeline::new("CREATE TABLE t (a int PRIMARY KEY)").await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    pipeline.set("instrumentation.health.enabled", true);
    pipeline.set("instrumentation.health.address", format!("127.0.0.1:{port}"));
    let mut run = pipeline.start(&["run", "--init"]);
    pipeline.caught_up(&mut run).await;
    pipeline.source.stop(Stop::Fast).await;
    run.says("reconnecting").await;
    pipeline.source.start().await;
    pipeline.caught_up(&mut run).await;
    let done = pipeline.pgstream(&["doctor"]).await.ok();
    done.prints(&["doctor.last_error"]);
    run.stop().await.ok();
}

#[tokio::test]
async fn every_failure_ends_with_its_diagnosis() {
    let pipeline = Pipeline::new("").await;
    pipeline.target.stop(Stop::Fast).await;
    pipeline.pgstream(&["snapshot"]).await.ends(1).says(&[
        "error[",
        "cause:",
        "fix:",
        "docs: docs/troubleshooting.md#",
    ]);
    Replicator::start(&["status", "--postgres-url", "nonsense"]).done().await.ends(2).says(&["docs:"]);
    let json = pipeline.pgstream(&["snapshot", "--log-format", "json"]).await.ends(1);
    let line: serde_json::Value = serde_json::from_str(json.err.lines().last().unwrap()).unwrap();
    assert!(line["diagnosis"]["docs"].as_str().unwrap().starts_with("docs/troubleshooting.md#"), "{line}");
}
