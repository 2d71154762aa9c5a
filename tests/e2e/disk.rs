//! Full disks: on the target, on the source, under the replicator. What was refused comes later; nothing partial stays.

use std::time::Duration;

use pgstream_testkit::{Cluster, Conserved, Disk, Load, assert_journal, pair_with, seed};

use crate::replicator::{Pipeline, Replicator};

/// What the system says about a full disk.
const FULL: &str = "No space left on device";
/// More than the free room in files that are there.
const MANY: &str = "INSERT INTO many SELECT n, repeat('x', 500) FROM generate_series(1, 20000) AS n";

async fn prepared(source_fills: bool) -> Pipeline {
    // One WAL segment is soon full; large transactions are decoded by way of the disk.
    let builder = || Cluster::builder().setting("logical_decoding_work_mem", "64kB").setting("max_wal_size", "32MB");
    let (source, target) = if source_fills {
        pair_with(builder().disk(), builder()).await
    } else {
        pair_with(builder(), builder().disk()).await
    };
    let schema = format!("{}CREATE TABLE many (n int PRIMARY KEY, filler text)", Load::schema());
    let pipeline = Pipeline::between(source, target, &schema).await;
    pipeline.pgstream(&["init"]).await.ok();
    pipeline
}

/// A server that cannot write its WAL gives up; whoever runs it makes room and starts it again.
async fn make_room(cluster: &Cluster) {
    cluster.disk().free();
    if !cluster.is_running() {
        cluster.start().await;
    }
}

#[tokio::test]
async fn a_target_whose_disk_is_full_gets_everything_once_there_is_room() {
    let pipeline = prepared(false).await;
    let load = Load::start_paced(&pipeline.source.url("app"), seed(), 2, Duration::from_millis(5));
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    let sums = Conserved::watch(&pipeline.target.url("app"));
    for round in 0..2 {
        pipeline.target.disk().fill();
        pipeline.here().await.batch(&format!("{MANY}; DELETE FROM many WHERE n % 2 = {round}")).await;
        load.progress(20).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        running.assert_running();
        make_room(&pipeline.target).await;
        pipeline.caught_up(&mut running).await;
        pipeline.here().await.batch("DELETE FROM many").await;
    }
    running.says(FULL).await;
    let report = load.stop().await;
    pipeline.caught_up(&mut running).await;
    pipeline.assert_same_rows().await;
    assert_journal(&pipeline.target, "app", &report).await;
    sums.stop().await;
    running.stop().await.ok();
}

#[tokio::test]
async fn a_source_whose_disk_is_full_is_followed_once_there_is_room() {
    let pipeline = prepared(true).await;
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    running.stop().await.ok();
    // The walsender has to put this transaction on the disk before it can send it.
    pipeline.here().await.batch(MANY).await;
    pipeline.source.disk().fill();
    let mut running = pipeline.run();
    running.says(FULL).await;
    running.assert_running();
    make_room(&pipeline.source).await;
    pipeline.caught_up(&mut running).await;
    pipeline.assert_same_rows().await;
    running.stop().await.ok();
}

#[tokio::test]
async fn a_replicator_whose_disk_is_full_says_so_and_copies_nothing_by_halves() {
    let pipeline = Pipeline::new("CREATE TABLE item (n int); INSERT INTO item SELECT generate_series(1, 100)").await;
    pipeline.pgstream(&["init"]).await.ok();
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::new(directory.path()).unwrap();
    disk.fill();
    let config = pipeline.config();
    let run = ["run", "-c", config.to_str().unwrap()];
    let refused = Replicator::start_with(&run, &disk.environment()).done().await.ends(1);
    refused.says(&[FULL]);
    let tables = "SELECT count(*) FROM pg_class WHERE relname = 'item'";
    assert_eq!(pipeline.there().await.scalar::<i64>(tables).await, 0);
    disk.free();
    let mut running = Replicator::start_with(&run, &disk.environment());
    pipeline.caught_up(&mut running).await;
    pipeline.assert_same_rows().await;
    running.stop().await.ok();
}
