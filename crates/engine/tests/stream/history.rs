//! The stream goes on only on the history that the target holds, as the only writer.

use std::{path::Path, process::Command, time::Duration};

use pgstream_engine::stream::Error;
use pgstream_testkit::Stop;

use crate::harness::{PUBLICATION, Running, SLOT, pair, pair_on};

const ITEMS: &str = "CREATE TABLE item (id int PRIMARY KEY, name text);";

#[tokio::test]
async fn a_restart_goes_on_where_it_was() {
    let pair = pair("CREATE TABLE journal (n int)").await;
    for round in 0..5 {
        let running = pair.stream();
        pair.here.batch(&format!("INSERT INTO journal SELECT {round}")).await;
        pair.caught_up(&running).await;
        running.kill().await;
        pair.here.batch(&format!("INSERT INTO journal SELECT {round} + 100")).await;
    }
    pair.follows("INSERT INTO journal VALUES (1000)").await;
}

#[tokio::test]
async fn servers_may_crash_while_it_runs() {
    let pair = pair("CREATE TABLE journal (n int)").await;
    let running = pair.stream();
    pair.here.batch("INSERT INTO journal SELECT generate_series(1, 1000)").await;
    pair.target.restart(Stop::Immediate).await;
    let target = pair.target.client("app").await;
    target.wait_until("SELECT count(*) FROM journal", "1000").await;
    pair.source.restart(Stop::Immediate).await;
    let source = pair.source.client("app").await;
    source.batch("INSERT INTO journal SELECT generate_series(1, 1000)").await;
    target.wait_until("SELECT count(*) FROM journal", "2000").await;
    running.stop().await.unwrap();
    pair.assert_same().await;
}

#[tokio::test]
async fn a_missing_slot_or_publication_is_named() {
    let pair = pair(ITEMS).await;
    pair.here.batch(&format!("ALTER PUBLICATION {PUBLICATION} RENAME TO elsewhere")).await;
    let error = pair.refuses("SELECT 1").await;
    assert!(matches!(error, Error::PublicationMissing { .. }), "{error}");
    pair.here.batch(&format!("ALTER PUBLICATION elsewhere RENAME TO {PUBLICATION}")).await;
    pair.here.batch(&format!("SELECT pg_drop_replication_slot('{SLOT}')")).await;
    let error = pair.refuses("SELECT 1").await;
    assert!(matches!(error, Error::SlotMissing { .. }), "{error}");
}

#[tokio::test]
async fn a_recreated_slot_is_ahead_of_the_target() {
    let pair = pair(ITEMS).await;
    pair.follows("INSERT INTO item VALUES (1, 'a')").await;
    pair.here.batch(&format!("SELECT pg_drop_replication_slot('{SLOT}')")).await;
    pair.here.batch("INSERT INTO item VALUES (2, 'lost')").await;
    pair.here.batch(&format!("SELECT pg_create_logical_replication_slot('{SLOT}', 'pgoutput')")).await;
    let error = pair.refuses("INSERT INTO item VALUES (3, 'c')").await;
    assert!(matches!(error, Error::SlotAhead { .. }), "{error}");
    assert_eq!(pair.there.scalar::<i64>("SELECT count(*) FROM item").await, 1, "nothing was applied");
}

#[tokio::test]
async fn a_slot_of_another_plugin_or_database_is_refused() {
    let pair = pair(ITEMS).await;
    pair.here.batch(&format!("SELECT pg_drop_replication_slot('{SLOT}')")).await;
    pair.here.batch(&format!("SELECT pg_create_physical_replication_slot('{SLOT}')")).await;
    let error = pair.refuses("SELECT 1").await;
    assert!(matches!(error, Error::SlotUnusable { .. }), "{error}");
}

#[tokio::test]
async fn a_lost_slot_is_named() {
    let settings = |b: pgstream_testkit::Builder| {
        b.setting("max_slot_wal_keep_size", "1MB").setting("min_wal_size", "32MB").setting("max_wal_size", "48MB")
    };
    let (source, target) = pgstream_testkit::pair_with(
        settings(pgstream_testkit::Cluster::builder()),
        pgstream_testkit::Cluster::builder().major(pgstream_testkit::target_major()),
    )
    .await;
    let pair = pair_on(source, target, ITEMS).await;
    pair.follows("INSERT INTO item VALUES (1, 'a')").await;
    for _ in 0..6 {
        pair.here.batch("INSERT INTO item SELECT n, repeat('x', 1000) FROM generate_series(10, 20000) AS n; DELETE FROM item WHERE id > 1").await;
        pair.here.batch("SELECT pg_switch_wal(); ").await;
        pair.here.batch("CHECKPOINT").await;
    }
    pair.here
        .wait_until(&format!("SELECT wal_status FROM pg_replication_slots WHERE slot_name = '{SLOT}'"), "lost")
        .await;
    let error = pair.refuses("SELECT 1").await;
    assert!(matches!(error, Error::SlotLost { .. }), "{error}");
}

#[tokio::test]
async fn another_system_is_refused() {
    let mut pair = pair(ITEMS).await;
    pair.follows("INSERT INTO item VALUES (1, 'a')").await;
    // Of another version: clusters of one version are copies of one system.
    let major = if pgstream_testkit::source_major() == 17 { 18 } else { 17 };
    pair.source = pgstream_testkit::Cluster::builder().major(major).start().await.unwrap();
    pair.source.create_database("app").await;
    let other = pair.source.client("app").await;
    other.batch(&format!("{ITEMS} CREATE PUBLICATION {PUBLICATION} FOR ALL TABLES")).await;
    other.batch(&format!("SELECT pg_create_logical_replication_slot('{SLOT}', 'pgoutput')")).await;
    pair.here = other;
    let error = pair.refuses("SELECT 1").await;
    assert!(matches!(error, Error::OtherSystem { .. }), "{error}");
}

#[tokio::test]
async fn a_source_that_went_back_in_time_is_refused() {
    let mut pair = pair(ITEMS).await;
    pair.follows("INSERT INTO item VALUES (1, 'a')").await;
    pair.source.stop(Stop::Fast).await;
    let backup = pair.source.data_dir().with_extension("backup");
    copy(pair.source.data_dir(), &backup);
    pair.source.start().await;
    pair.here = pair.source.client("app").await;
    pair.follows("INSERT INTO item VALUES (2, 'b')").await;
    pair.source.stop(Stop::Fast).await;
    std::fs::remove_dir_all(pair.source.data_dir()).unwrap();
    copy(&backup, pair.source.data_dir());
    pair.source.start().await;
    pair.here = pair.source.client("app").await;
    let error = pair.refuses("SELECT 1").await;
    assert!(matches!(error, Error::SourceWentBack { .. }), "{error}");
    assert_eq!(pair.there.scalar::<i64>("SELECT count(*) FROM item").await, 2, "nothing was applied");
}

/// With owners and links, which a server insists on.
fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

#[tokio::test]
async fn a_second_replicator_is_refused() {
    let pair = pair(ITEMS).await;
    let first = pair.stream();
    pair.caught_up(&first).await;
    let error = pair.stream().failure().await;
    assert!(matches!(error, Error::Claim(_)), "{error}");
    assert!(error.to_string().contains("another replicator"), "{error}");
    pair.caught_up(&first).await;
    first.stop().await.unwrap();
}

#[tokio::test]
async fn whoever_lost_its_claim_commits_nothing() {
    let pair = pair(ITEMS).await;
    let running = pair.stream();
    pair.caught_up(&running).await;
    pair.there.batch("UPDATE pgstream.apply_progress SET epoch = epoch + 1").await;
    pair.here.batch("INSERT INTO item VALUES (1, 'late')").await;
    let error = running.failure().await;
    assert!(matches!(error, Error::Fenced { .. }), "{error}");
    assert_eq!(pair.there.scalar::<i64>("SELECT count(*) FROM item").await, 0);
}

#[tokio::test]
async fn an_idle_source_does_not_keep_its_wal() {
    let (source, target) = pgstream_testkit::pair().await;
    source.create_database("other").await;
    let pair = pair_on(source, target, ITEMS).await;
    let running = pair.stream();
    pair.caught_up(&running).await;
    // Traffic that this stream never sees.
    let other = pair.source.client("other").await;
    other.batch("CREATE TABLE noise (t text)").await;
    other.batch("INSERT INTO noise SELECT repeat('x', 500) FROM generate_series(1, 20000)").await;
    let end = other.text("SELECT pg_current_wal_lsn()::text").await.unwrap();
    let moved =
        format!("SELECT confirmed_flush_lsn >= '{end}'::pg_lsn FROM pg_replication_slots WHERE slot_name = '{SLOT}'");
    pair.here.wait_until_within(Duration::from_secs(45), &moved, "t").await;
    let held = "SELECT (SELECT commit_end_lsn FROM pgstream.apply_progress)::text";
    let progress = pair.there.text(held).await.unwrap();
    let ahead = format!("SELECT confirmed_flush_lsn <= '{progress}'::pg_lsn FROM pg_replication_slots");
    assert_eq!(pair.here.text(&ahead).await.as_deref(), Some("t"), "acknowledged only what is on record");
    pair.caught_up(&running).await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_locked_table_delays_and_loses_nothing() {
    let pair = pair(ITEMS).await;
    let running: Running = pair.stream();
    pair.caught_up(&running).await;
    pair.there.batch("BEGIN; LOCK TABLE item").await;
    pair.here.batch("INSERT INTO item SELECT n, 'x' FROM generate_series(1, 1000) AS n").await;
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'pgstream-aws apply'";
    pair.target.client("app").await.wait_until(waiting, "1").await;
    pair.there.batch("COMMIT").await;
    pair.caught_up(&running).await;
    pair.assert_same().await;
    running.stop().await.unwrap();
}
