//! Full disks: tried again with the server's reason until there is room, then exact; nothing is there in part.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use pgstream_testkit::{
    Cluster, Conserved, Disk, Load, Stop, assert_journal, pair_with, seed, source_major, target_major,
};

use crate::replicator::{Pipeline, Replicator};

const FULL: &str = "No space left on device";

const EVERYTHING: &str = "";
/// Every try that fails writes WAL, and a server without room for that ends.
const TABLES: &str = "base";

async fn with_disks(below: &'static str) -> (Cluster, Cluster) {
    let builder = |major| Cluster::builder().major(major).fillable_disk(below);
    // Changes of one transaction go to the disk soon.
    pair_with(builder(source_major()).setting("logical_decoding_work_mem", "64kB"), builder(target_major())).await
}

const WIDE: &str = "CREATE TABLE wide (n int, filler text);";

async fn rows(pipeline: &Pipeline) -> i64 {
    pipeline.there().await.scalar("SELECT count(*) FROM wide").await
}

fn insert(from: u32) -> String {
    format!("INSERT INTO wide SELECT g % 100, repeat('x', 300) FROM generate_series({from}, {from} + 9999) g")
}

#[tokio::test]
async fn a_target_whose_disk_is_full_is_written_again_when_there_is_room() {
    let (source, target) = with_disks(TABLES).await;
    let pipeline = Pipeline::between(source, target, &format!("{}{WIDE}", Load::schema())).await;
    pipeline.pgstream(&["init"]).await.ok();
    let load = Load::start_paced(&pipeline.source.url("app"), seed(), 2, Duration::from_millis(2));
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    let conserved = Conserved::watch(&pipeline.target.url("app"));
    for round in 1..=3 {
        pipeline.target.disk().fill();
        pipeline.here().await.batch(&insert(round)).await;
        running.says_again(FULL).await;
        load.progress(50).await;
        running.assert_running();
        assert_eq!(rows(&pipeline).await, i64::from(round - 1) * 10_000, "whole transactions only");
        pipeline.target.disk().free();
        pipeline.caught_up(&mut running).await;
        assert_eq!(rows(&pipeline).await, i64::from(round) * 10_000);
    }
    let report = load.stop().await;
    pipeline.caught_up(&mut running).await;
    conserved.stop().await;
    pipeline.assert_same_rows().await;
    assert_journal(&pipeline.target, "app", &report).await;
    let stopped = running.stop().await.ok();
    stopped.says(&["53100"]);
}

/// A server that cannot write its log ends.
#[tokio::test]
async fn a_target_that_dies_of_a_full_disk_is_written_again_after_its_start() {
    let (source, target) = with_disks(EVERYTHING).await;
    let pipeline = Pipeline::between(source, target, WIDE).await;
    pipeline.pgstream(&["init"]).await.ok();
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    let here = pipeline.here().await;
    here.batch(&insert(1)).await;
    pipeline.caught_up(&mut running).await;
    pipeline.target.disk().fill();
    here.batch(&insert(2)).await;
    for _ in 0..200 {
        // Messages take WAL and nothing else, until no segment is left and none can be made.
        let Ok(eater) = pipeline.target.try_client("app").await else { break };
        let message = "SELECT pg_logical_emit_message(false, 'x', repeat('x', 1000000)), pg_switch_wal()";
        if eater.batch_execute(message).await.is_err() {
            break;
        }
    }
    assert!(pipeline.target.log().contains("PANIC"), "{}", pipeline.target.log_tail());
    running.assert_running();
    pipeline.target.disk().free();
    if pipeline.target.is_running() {
        pipeline.target.restart(Stop::Immediate).await;
    } else {
        pipeline.target.start().await;
    }
    pipeline.caught_up(&mut running).await;
    assert_eq!(rows(&pipeline).await, 20_000);
    pipeline.assert_same_rows().await;
    running.stop().await.ok();
}

#[tokio::test]
async fn a_copy_onto_a_full_disk_goes_on_when_there_is_room() {
    let (source, target) = with_disks(TABLES).await;
    let schema = format!("{WIDE} CREATE TABLE other AS SELECT g AS id FROM generate_series(1, 1000) g; {}", insert(1));
    let pipeline = Pipeline::between(source, target, &schema).await;
    pipeline.pgstream(&["init"]).await.ok();
    for stage in ["first", "second"] {
        pipeline.target.disk().fill();
        let mut running = pipeline.run();
        running.says_again(FULL).await;
        let begun = pipeline.there().await.text("SELECT to_regclass('wide')::text").await;
        assert!(begun.is_none() || rows(&pipeline).await == 0, "whole tables only");
        pipeline.target.disk().free();
        pipeline.caught_up(&mut running).await;
        pipeline.assert_same_rows().await;
        running.stop().await.ok();
        if stage == "first" {
            // Once more with a schema that is there and empty tables.
            let there = pipeline.there().await;
            there.batch("TRUNCATE wide, other, marker; DROP SCHEMA pgstream CASCADE").await;
            pipeline.pgstream(&["destroy", "--yes"]).await.ok();
            pipeline.pgstream(&["init"]).await.ok();
        }
    }
}

/// The source keeps changes of a large transaction on its disk until it commits, and reads them from there.
#[tokio::test]
async fn a_source_whose_disk_is_full_is_read_again_when_there_is_room() {
    let (source, target) = with_disks(EVERYTHING).await;
    let pipeline = Pipeline::between(source, target, WIDE).await;
    pipeline.pgstream(&["init"]).await.ok();
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    running.stop().await.ok();
    let here = pipeline.here().await;
    here.batch(&format!("BEGIN; {}; SAVEPOINT s; {}; ROLLBACK TO s; {}; COMMIT", insert(1), insert(2), insert(3)))
        .await;
    here.batch("CHECKPOINT").await;
    pipeline.source.disk().fill();
    let mut running = pipeline.run();
    running.says_again(FULL).await;
    running.assert_running();
    assert_eq!(rows(&pipeline).await, 0, "whole transactions only");
    pipeline.source.disk().free();
    pipeline.caught_up(&mut running).await;
    assert_eq!(rows(&pipeline).await, 20_000);
    pipeline.assert_same_rows().await;
    running.stop().await.ok();
}

#[tokio::test]
async fn a_replicator_without_room_for_the_dump_says_so_and_writes_nothing() {
    let pipeline = Pipeline::new(&format!("{WIDE}{}", insert(1))).await;
    pipeline.pgstream(&["init"]).await.ok();
    let scratch = pipeline.file("scratch");
    let beside = pipeline.file("beside");
    fs::create_dir(&scratch).unwrap();
    fs::create_dir(&beside).unwrap();
    let disk = Disk::new(&scratch, &beside).unwrap();
    let start = || {
        let mut environment = disk.environment().to_vec();
        environment.push(("TMPDIR", scratch.clone()));
        Replicator::start_in(&["snapshot", "-c", pipeline.config().to_str().unwrap()], environment)
    };
    disk.fill();
    start().done().await.ends(1).says(&["error[", FULL]);
    assert_eq!(pipeline.there().await.text("SELECT to_regclass('wide')::text").await, None);
    assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0, "nothing is left behind");
    disk.free();
    start().done().await.ok();
    assert_eq!(rows(&pipeline).await, 10_000);
}

/// What nobody could write is not acknowledged, and comes with the next start.
#[tokio::test]
async fn lines_that_do_not_fit_are_printed_again() {
    let mut pipeline = Pipeline::new("CREATE TABLE t (id int PRIMARY KEY)").await;
    pipeline.set("source.postgres.mode", "replication");
    pipeline.unset("target.postgres");
    pipeline.set("target.stdout", serde_json::json!({}));
    pipeline.pgstream(&["init"]).await.ok();
    pipeline.here().await.batch("INSERT INTO t VALUES (1), (2), (3)").await;
    let config = pipeline.config();
    let full = Command::new(env!("CARGO_BIN_EXE_pgstream-aws"))
        .args(["run", "-c", config.to_str().unwrap()])
        .stdout(fs::OpenOptions::new().write(true).open("/dev/full").unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&full.stderr);
    assert_eq!(full.status.code(), Some(1), "{said}");
    assert!(said.contains("stream::stdout") && said.contains(FULL), "{said}");
    let mut running = pipeline.run();
    let deadline = Instant::now() + Duration::from_secs(60);
    while running.stdout().matches("\"table\":\"t\"").count() < 3 {
        running.assert_running();
        assert!(Instant::now() < deadline, "{}", running.stdout());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    running.stop().await.ok();
}
