//! Settings of servers, and what is on this machine.

use pgstream_testkit::{Builder, Cluster};

use super::{Mend, Obstacle, assert_prints, busy, found, prepared, printed, run_printed};

#[tokio::test]
async fn settings_of_the_source_are_named_and_mended() {
    let with = |settings: &[(&str, &str)]| {
        settings.iter().fold(Cluster::builder(), |builder: Builder, (name, value)| builder.setting(name, value))
    };
    for (settings, obstacle) in [
        (
            with(&[("wal_level", "replica")]),
            Obstacle::new(
                "source::wal_level",
                "init",
                "preparing-the-source-init-and-destroy",
                Mend::PrintedAndRestart,
            ),
        ),
        (
            with(&[("max_replication_slots", "1")]),
            Obstacle::new(
                "source::no_free_slot",
                "init",
                "preparing-the-source-init-and-destroy",
                Mend::PrintedAndRestart,
            )
            .source("SELECT pg_create_physical_replication_slot('taken', true)"),
        ),
        (
            with(&[("max_wal_senders", "0")]),
            Obstacle::new("replication.free_sender", "init", "no_free_sender", Mend::PrintedAndRestart),
        ),
    ] {
        let (source, target) = pgstream_testkit::pair_with(settings, Cluster::builder()).await;
        obstacle.proves(&mut prepared(source, target).await).await;
    }
}

/// These are in the way of nothing at once: what they bring comes later.
#[tokio::test]
async fn settings_that_bite_later_are_named_and_mended() {
    let source = Cluster::builder().setting("max_slot_wal_keep_size", "64MB").setting("wal_sender_timeout", "5s");
    let (source, target) = pgstream_testkit::pair_with(source, Cluster::builder()).await;
    let pipeline = prepared(source, target).await;
    pipeline.here().await.batch("CREATE SEQUENCE numbers").await;
    pipeline.there().await.batch("ALTER ROLE writer SET idle_session_timeout = '1h'").await;
    let ids = [
        "replication.wal_limit",
        "replication.wal_sender_timeout",
        "access.select_sequence",
        "resources.target_time_limits",
    ];
    let before = pipeline.pgstream(&["check", "--strict", "--json"]).await.ends(1);
    for id in ids {
        assert!(found(&before).contains(&id.to_owned()), "{id}: {before:?}");
        run_printed(&pipeline, &before, id).await;
    }
    pipeline.pgstream(&["check", "--strict", "--json"]).await.ok();
    // What was set by ALTER SYSTEM is not what it was.
    assert_eq!(pipeline.here().await.text("SHOW wal_sender_timeout").await.as_deref(), Some("1min"));
}

/// A standby that is gone holds the stream up without a word.
#[tokio::test]
async fn a_standby_that_the_stream_waits_for_and_that_is_gone_is_named_and_mended() {
    for major in [17, 18] {
        let source = Cluster::builder().major(major).setting("synchronized_standby_slots", "gone");
        let (source, target) = pgstream_testkit::pair_with(source, Cluster::builder()).await;
        let pipeline = prepared(source, target).await;
        let id = "replication.standby_slots";
        pipeline.pgstream(&["init", "--failover"]).await.ok();
        pipeline.here().await.batch("INSERT INTO t VALUES (1)").await;
        let mut run = pipeline.run();
        let there = pipeline.there().await;
        there.wait_until("SELECT to_regclass('public.t') IS NOT NULL", "t").await;
        pipeline.here().await.batch("INSERT INTO t VALUES (2)").await;
        let before = pipeline.pgstream(&["check", "--json"]).await.ends(1);
        assert!(found(&before).contains(&id.to_owned()), "{before:?}");
        assert_ne!(there.text("SELECT max(a)::text FROM t").await.as_deref(), Some("2"), "the server waits");
        run_printed(&pipeline, &before, id).await;
        pipeline.caught_up(&mut run).await;
        let after = pipeline.pgstream(&["check", "--json"]).await;
        assert!(!found(&after).contains(&id.to_owned()), "{after:?}");
        run.stop().await.ok();
    }
}

/// The rate is measured: the setting alone is in nobody's way.
#[tokio::test]
async fn wal_that_outgrows_what_a_slot_may_keep_within_a_day_is_named_and_mended() {
    let source = Cluster::builder().setting("max_slot_wal_keep_size", "4GB");
    let (source, target) = pgstream_testkit::pair_with(source, Cluster::builder()).await;
    let pipeline = prepared(source, target).await;
    let id = "replication.wal_rate";
    let idle = pipeline.pgstream(&["check", "--strict", "--json"]).await.ok();
    assert!(!found(&idle).contains(&id.to_owned()), "{idle:?}");

    let writing = busy(pipeline.here().await);
    let before = pipeline.pgstream(&["check", "--strict", "--json"]).await.ends(1);
    assert!(found(&before).contains(&id.to_owned()), "{before:?}");
    assert_prints(&before, id, &["ALTER SYSTEM SET max_slot_wal_keep_size"]);
    run_printed(&pipeline, &before, id).await;
    let kept = "SELECT (setting || 'MB') FROM pg_settings WHERE name = 'max_slot_wal_keep_size'";
    let kept = pipeline.here().await.text(kept).await.unwrap();
    assert!(printed(&before, id)[0].1.contains(&format!("'{kept}'")), "{kept}: {before:?}");
    writing.abort();
    let after = pipeline.pgstream(&["check", "--strict", "--json"]).await.ok();
    assert!(!found(&after).contains(&id.to_owned()), "{after:?}");
}

#[tokio::test]
async fn types_that_are_missing_are_named_and_come_with_the_schema() {
    let (source, target) = pgstream_testkit::pair().await;
    let mut pipeline = prepared(source, target).await;
    pipeline.set("source.postgres.mode", "snapshot");
    let mode = "source.postgres.snapshot.mode";
    pipeline.set(mode, "data");
    let here = pipeline.here().await;
    here.batch("CREATE TYPE mood AS ENUM ('good'); CREATE TABLE felt (a int PRIMARY KEY, mood mood); INSERT INTO felt VALUES (1, 'good'); GRANT SELECT ON felt TO PUBLIC").await;
    let missing = "schema.type_missing".to_owned();
    let before = pipeline.pgstream(&["check", "--json", "--schema"]).await.ends(1);
    assert!(found(&before).contains(&missing), "{before:?}");
    assert_prints(&before, &missing, &["`pgstream-aws snapshot` with snapshot.mode: schema"]);
    pipeline.pgstream(&["snapshot"]).await.ends(1).says(&["felt", "docs: docs/troubleshooting.md#"]);

    pipeline.set(mode, "schema");
    pipeline.pgstream(&["snapshot"]).await.ok();
    pipeline.set(mode, "data");
    let after = pipeline.pgstream(&["check", "--json", "--schema"]).await;
    assert!(!found(&after).contains(&missing), "{after:?}");
    pipeline.pgstream(&["snapshot"]).await.ok();
    pipeline.assert_same_rows().await;
}

#[tokio::test]
async fn the_right_to_record_schema_changes_is_found_by_trying() {
    let (source, target) = pgstream_testkit::pair().await;
    let mut pipeline = prepared(source, target).await;
    let done = pipeline.pgstream(&["check", "--json"]).await.ok();
    assert!(found(&done).contains(&"access.event_trigger".to_owned()), "{done:?}");
    let left = "SELECT count(*)::text FROM pg_event_trigger";
    pipeline.set("source.postgres.url", pipeline.source.url("app"));
    let done = pipeline.pgstream(&["check", "--json"]).await.ok();
    assert!(!found(&done).contains(&"access.event_trigger".to_owned()), "{done:?}");
    assert_eq!(pipeline.here().await.text(left).await.as_deref(), Some("0"), "nothing is left of the attempt");
    pipeline.set("source.postgres.url", pipeline.source.url_as("reader", "secret", "app"));
    pipeline.set("target.postgres.ignore_ddl", true);
    let done = pipeline.pgstream(&["check", "--json"]).await.ok();
    assert!(!found(&done).contains(&"access.event_trigger".to_owned()), "{done:?}");
}

#[tokio::test]
async fn client_tools_that_are_too_old_are_named() {
    let (source, target) = pgstream_testkit::pair().await;
    let mut pipeline = prepared(source, target).await;
    let tools = pgstream_testkit::tools_path().unwrap();
    // What the distribution has is older than 18, or nothing.
    pipeline.environment(vec![("PATH".to_owned(), "/nonexistent".to_owned())]);
    let done = pipeline.pgstream(&["check", "--json", "--resources"]).await.ends(1);
    assert_eq!(found(&done), ["resources.client_tools"]);
    assert_prints(&done, "resources.client_tools", &["PGSTREAM_PG_BIN"]);
    pipeline.set("source.postgres.mode", "snapshot");
    pipeline.pgstream(&["snapshot"]).await.ends(1).says(&["snapshot::tool_missing", "#the-copy"]);
    pipeline.environment(vec![
        ("PATH".to_owned(), "/nonexistent".to_owned()),
        ("PGSTREAM_PG_BIN".to_owned(), tools.to_str().unwrap().split(':').next().unwrap().to_owned()),
    ]);
    pipeline.pgstream(&["snapshot"]).await.ok();
}
