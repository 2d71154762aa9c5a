//! What servers say when something is in the way of a slot or a role, on each of them, and that doctor knows it.

use std::process::Command;

use pgstream_postgres::{Server, dsn::Dsn};
use pgstream_testkit::{Client, Cluster, Stop};
use serde_json::Value;

use super::{found, prepared, run_printed};
use crate::replicator::{Pipeline, SLOT, pgstream};

/// The statement fails, and what the server says has this diagnosis, with its code and without.
async fn fails(client: &Client, sql: &str, diagnosis: &str) {
    let error = client.simple_query(sql).await.expect_err(sql);
    let said = error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error}"));
    let detail = said.detail().map(|it| format!("\nDETAIL:  {it}")).unwrap_or_default();
    let hint = said.hint().map(|it| format!("\nHINT:  {it}")).unwrap_or_default();
    for code in [String::new(), format!("{}: ", said.code().code())] {
        is_explained(&format!("ERROR:  {code}{}{detail}{hint}", said.message()), diagnosis).await;
    }
}

async fn is_explained(text: &str, diagnosis: &str) {
    let done = pgstream(&["doctor", "--json", text]).await.ok();
    let known = done.json();
    assert!(known.as_array().unwrap().iter().any(|it: &Value| it["id"] == diagnosis), "{diagnosis}: {text}: {known:#}");
}

const CHANGES: &str = "SELECT * FROM pg_logical_slot_get_binary_changes";
const OPTIONS: &str = "NULL, NULL, 'proto_version', '1', 'publication_names', 'p'";

async fn slots_of(major: u32) {
    let source = Cluster::builder().major(major);
    let source = source
        .setting("max_replication_slots", "2")
        .setting("max_slot_wal_keep_size", "1MB")
        .setting("wal_sender_timeout", "1s");
    let (source, target) = pgstream_testkit::pair_with(source, Cluster::builder().major(major)).await;
    let pipeline = prepared(source, target).await;
    let here = pipeline.here().await;
    pipeline.pgstream(&["init"]).await.ok();

    // Somebody reads it.
    let mut run = pipeline.run();
    pipeline.caught_up(&mut run).await;
    fails(&here, &format!("SELECT pg_drop_replication_slot('{SLOT}')"), "slot_active").await;

    // And is stopped in the middle of it: the server says so in its log only.
    let before = pipeline.pgstream(&["check", "--json"]).await;
    assert!(found(&before).contains(&"replication.wal_sender_timeout".to_owned()), "{before:?}");
    signal("-STOP", run.pid());
    while !pipeline.source.log().contains("due to replication timeout") {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    signal("-CONT", run.pid());
    let log = pipeline.source.log();
    let line = log.lines().find(|line| line.contains("due to replication timeout")).unwrap();
    is_explained(line, "wal_sender_timeout").await;
    run_printed(&pipeline, &before, "replication.wal_sender_timeout").await;
    let after = pipeline.pgstream(&["check", "--json"]).await;
    assert!(!found(&after).contains(&"replication.wal_sender_timeout".to_owned()), "{after:?}");
    pipeline.caught_up(&mut run).await;
    run.stop().await.ok();

    here.batch("SELECT pg_create_logical_replication_slot('other', 'test_decoding')").await;
    fails(&here, "SELECT pg_create_logical_replication_slot('third', 'pgoutput')", "no_free_slot").await;
    here.batch("SELECT pg_drop_replication_slot('other')").await;

    let state = format!("SELECT wal_status FROM pg_replication_slots WHERE slot_name = '{SLOT}'");
    for n in 0.. {
        assert!(n < 60, "the server keeps the WAL");
        here.batch(&format!("INSERT INTO t VALUES ({n}); SELECT pg_switch_wal()")).await;
        here.batch("CHECKPOINT").await;
        if here.text(&state).await.as_deref() == Some("lost") {
            break;
        }
    }
    fails(&here, &format!("{CHANGES}('{SLOT}', {OPTIONS})"), "slot_lost").await;
    let done = pipeline.pgstream(&["check", "--json"]).await.ends(1);
    assert!(found(&done).contains(&"source::slot_lost".to_owned()), "{done:?}");
}

fn signal(which: &str, pid: u32) {
    assert!(Command::new("kill").args([which, &pid.to_string()]).status().unwrap().success());
}

#[tokio::test]
async fn slots_of_old_servers_are_explained() {
    slots_of(13).await;
}

#[tokio::test]
async fn slots_of_servers_between_are_explained() {
    slots_of(16).await;
}

#[tokio::test]
async fn slots_of_new_servers_are_explained() {
    slots_of(18).await;
}

#[tokio::test]
async fn rights_and_settings_are_explained_as_each_server_says_them() {
    for major in [13, 16, 18] {
        let source = Cluster::builder().major(major).setting("wal_level", "replica").setting("max_wal_senders", "1");
        let (source, target) = pgstream_testkit::pair_with(source, Cluster::builder()).await;
        let pipeline = Pipeline::between(
            source,
            target,
            "CREATE ROLE low LOGIN REPLICATION PASSWORD 'secret'; CREATE ROLE other; CREATE TABLE mine (a int); ALTER TABLE mine OWNER TO low;
             CREATE FUNCTION record() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
        )
        .await;
        let low = Client::open(&pipeline.source.url_as("low", "secret", "app")).await.unwrap();
        fails(&low, "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION record()", "event_trigger").await;
        fails(&low, "ALTER TABLE mine OWNER TO other", "member_of_role").await;
        fails(&low, "SELECT pg_create_logical_replication_slot('s', 'pgoutput')", "wal_level").await;
        fails(&low, "SELECT * FROM pg_authid", "pg_authid").await;
    }
}

#[tokio::test]
async fn a_source_without_a_free_sender_is_named_hit_and_mended() {
    for major in [13, 18] {
        let source = Cluster::builder().major(major).setting("max_wal_senders", "2");
        let (source, target) = pgstream_testkit::pair_with(source, Cluster::builder().major(major)).await;
        let pipeline = prepared(source, target).await;
        let server = Server::new(Dsn::parse(&pipeline.source.url("app")).unwrap());
        let held = (server.replicate().await.unwrap(), server.replicate().await.unwrap());
        let before = pipeline.pgstream(&["check", "--json"]).await.ends(1);
        assert!(found(&before).contains(&"replication.free_sender".to_owned()), "{before:?}");
        pipeline.pgstream(&["init"]).await.ends(1).says(&["docs: docs/troubleshooting.md#no_free_sender\n"]);
        run_printed(&pipeline, &before, "replication.free_sender").await;
        drop(held);
        pipeline.source.restart(Stop::Fast).await;
        let after = pipeline.pgstream(&["check", "--json"]).await.ok();
        assert!(!found(&after).contains(&"replication.free_sender".to_owned()), "{after:?}");
        pipeline.pgstream(&["init"]).await.ok();
    }
}
