//! The slot, or what it publishes, is not what it was: said, and nothing is applied after.

use pgstream_testkit::{Cluster, pair_with, source_major, target_major};

use crate::replicator::{Pipeline, Replicator, SLOT};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, filler text)";

async fn following() -> (Pipeline, Replicator) {
    followed(Pipeline::new(TABLE).await).await
}

async fn followed(pipeline: Pipeline) -> (Pipeline, Replicator) {
    pipeline.pgstream(&["init"]).await.ok();
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    (pipeline, running)
}

async fn rows_on_target(pipeline: &Pipeline) -> i64 {
    pipeline.there().await.scalar("SELECT count(*) FROM t").await
}

#[tokio::test]
async fn a_slot_whose_wal_was_removed_while_the_target_was_locked_is_lost_and_said_so() {
    let limited = Cluster::builder().major(source_major()).setting("max_slot_wal_keep_size", "16MB");
    let (source, target) = pair_with(limited, Cluster::builder().major(target_major())).await;
    let (pipeline, running) = followed(Pipeline::between(source, target, TABLE).await).await;
    let (here, lock) = (pipeline.here().await, pipeline.there().await);
    lock.batch("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await;
    let state = format!("SELECT wal_status FROM pg_replication_slots WHERE slot_name = '{SLOT}'");
    for n in 0.. {
        assert!(n < 60, "the server keeps the WAL");
        // Bytes that do not compress, in several segments.
        here.batch(&format!(
            "INSERT INTO t SELECT {n} * 2000 + g, string_agg(md5(g::text || i::text), '') FROM generate_series(1, 2000) g, generate_series(1, 100) i GROUP BY g;
             SELECT pg_switch_wal(); CHECKPOINT"
        ))
        .await;
        if here.text(&state).await.as_deref() == Some("lost") {
            break;
        }
    }
    lock.batch("ROLLBACK").await;
    running.done().await.ends(1).says(&["stream::slot_lost", SLOT]);
    let after = rows_on_target(&pipeline).await;
    pipeline.pgstream(&["run"]).await.ends(1).says(&["stream::slot_lost", SLOT, "init"]);
    assert_eq!(rows_on_target(&pipeline).await, after, "nothing was applied");
    assert_eq!(after % 2000, 0, "no transaction is there in part");
    pipeline.pgstream(&["status"]).await.ends(1);
}

#[tokio::test]
async fn a_slot_that_somebody_advanced_is_not_followed() {
    let (pipeline, running) = following().await;
    running.stop().await.ok();
    let here = pipeline.here().await;
    here.batch("INSERT INTO t VALUES (1)").await;
    here.batch(&format!("SELECT pg_replication_slot_advance('{SLOT}', pg_current_wal_lsn())")).await;
    here.batch("INSERT INTO t VALUES (2)").await;
    pipeline.pgstream(&["run"]).await.ends(1).says(&["stream::slot_ahead", SLOT]);
    assert_eq!(rows_on_target(&pipeline).await, 0, "nothing was applied");
}

#[tokio::test]
async fn a_slot_of_another_plugin_or_database_is_not_followed() {
    let (pipeline, running) = following().await;
    running.stop().await.ok();
    let here = pipeline.here().await;
    here.batch(&format!("SELECT pg_drop_replication_slot('{SLOT}')")).await;
    here.batch(&format!("SELECT pg_create_logical_replication_slot('{SLOT}', 'test_decoding')")).await;
    pipeline.pgstream(&["run"]).await.ends(1).says(&["stream::slot_unusable", SLOT, "test_decoding"]);
    here.batch(&format!("SELECT pg_drop_replication_slot('{SLOT}')")).await;
    here.batch(&format!("SELECT pg_create_physical_replication_slot('{SLOT}')")).await;
    pipeline.pgstream(&["run"]).await.ends(1).says(&["stream::slot_unusable", SLOT, "physical"]);
    here.batch(&format!("SELECT pg_drop_replication_slot('{SLOT}')")).await;
    let elsewhere = pipeline.source.client("postgres").await;
    elsewhere.batch(&format!("SELECT pg_create_logical_replication_slot('{SLOT}', 'pgoutput')")).await;
    pipeline.pgstream(&["run"]).await.ends(1).says(&["stream::slot_unusable", SLOT, "postgres"]);
}

/// Newer servers go on without a word and send nothing.
#[tokio::test]
async fn a_publication_that_is_dropped_while_it_is_followed_ends_the_run() {
    let (pipeline, running) = following().await;
    let here = pipeline.here().await;
    here.batch("DROP PUBLICATION pgstream_app").await;
    here.batch("INSERT INTO t VALUES (1)").await;
    running.done().await.ends(1).says(&["stream::publication_missing", "pgstream_app"]);
    assert_eq!(rows_on_target(&pipeline).await, 0, "nothing was applied");
}

#[tokio::test]
async fn a_second_replicator_is_refused_while_copying_and_while_following() {
    let schema = "CREATE TABLE big AS SELECT g AS id, repeat('x', 300) AS filler FROM generate_series(1, 100000) g";
    let pipeline = Pipeline::new(&format!("{TABLE}; {schema}")).await;
    pipeline.pgstream(&["init"]).await.ok();
    let mut first = pipeline.run();
    let begun = "SELECT to_regclass('public.big') IS NOT NULL";
    pipeline.on_target(&mut first, begun, |there| there == "t").await;
    let second = pipeline.pgstream(&["run"]).await.ends(1);
    assert!(second.err.contains("snapshot::already_running") || second.err.contains("stream::"), "{second:?}");
    pipeline.caught_up(&mut first).await;
    pipeline.pgstream(&["run"]).await.ends(1).says(&["stream::second_replicator"]);
    pipeline.here().await.batch("INSERT INTO t VALUES (1)").await;
    pipeline.caught_up(&mut first).await;
    pipeline.assert_same_rows().await;
    first.stop().await.ok();
}
