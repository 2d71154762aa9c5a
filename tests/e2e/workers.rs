//! A copy by several processes: the coordinator and its workers die, and each row arrives once.

use std::{
    fs,
    time::{Duration, Instant},
};

use pgstream_testkit::{Load, assert_journal, seed};

use crate::replicator::{Pipeline, Replicator};

/// Tables of several parts, and one that a test can lock on the target.
const BULK: &str = "CREATE TABLE bulk1 AS SELECT g AS id, repeat('x', 300) AS filler FROM generate_series(1, 30000) g;
    CREATE TABLE bulk2 AS SELECT * FROM bulk1; ALTER TABLE bulk1 ADD PRIMARY KEY (id);
    CREATE TABLE last (n int); INSERT INTO last VALUES (1), (1);";

async fn prepared(schema: &str) -> Pipeline {
    let mut pipeline = Pipeline::new(&format!("{schema}{BULK}")).await;
    pipeline.set("source.postgres.snapshot.data.table_workers", 1);
    pipeline.set("source.postgres.snapshot.data.batch_bytes", "1MiB");
    pipeline
}

/// Children of a process.
fn children(pid: u32) -> Vec<u32> {
    let parent = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<u32>().ok()
    };
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|child| parent(*child) == Some(pid))
        .collect()
}

fn signal(pid: u32, which: &str) {
    // It may have ended by itself.
    let _ = std::process::Command::new("kill").arg(which).arg(pid.to_string()).status().unwrap();
}

/// Holds back the copy of `last`.
async fn locked(pipeline: &Pipeline) -> pgstream_testkit::Client {
    let lock = pipeline.there().await;
    lock.wait_until("SELECT to_regclass('public.last') IS NOT NULL", "t").await;
    lock.batch("BEGIN; LOCK TABLE last IN SHARE MODE").await;
    lock
}

/// Waits until a worker is held back.
async fn waits(pipeline: &Pipeline, running: &mut Replicator) {
    let waits = "SELECT count(*) FROM pg_locks WHERE relation = 'public.last'::regclass AND NOT granted";
    pipeline.on_target(running, waits, |n| n == "1").await;
}

#[tokio::test]
async fn workers_that_are_killed_at_random_are_replaced_and_the_stream_goes_on_exactly() {
    let pipeline = prepared(Load::schema()).await;
    pipeline.pgstream(&["init"]).await.ok();
    let seed = seed();
    let load = Load::start_paced(&pipeline.source.url("app"), seed, 2, Duration::from_millis(2));
    let mut copy = pipeline.start(&["snapshot", "--workers", "3", "--json"]);
    let lock = locked(&pipeline).await;
    let (mut kills, mut random) = (0, seed);
    while kills < 8 {
        copy.assert_running();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        tokio::time::sleep(Duration::from_millis(20 + (random >> 33) % 300)).await;
        let workers = children(copy.pid());
        if let Some(worker) = workers.get(usize::try_from(random >> 40).unwrap() % workers.len().max(1)) {
            signal(*worker, "-9");
            kills += 1;
        }
    }
    lock.batch("ROLLBACK").await;
    let done = copy.done().await.ok().says(&["a worker has died"]);
    assert_eq!(done.json()["complete"], true, "{done:?}");
    let twice = "SELECT count(*) FROM (SELECT FROM last OFFSET 2) more";
    assert_eq!(pipeline.there().await.scalar::<i64>(twice).await, 0);

    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    let report = load.stop().await;
    pipeline.caught_up(&mut running).await;
    pipeline.assert_same_rows().await;
    assert_journal(&pipeline.target, "app", &report).await;
    running.stop().await.ok();
}

#[tokio::test]
async fn a_worker_that_is_asked_to_stop_gives_its_part_back() {
    let pipeline = prepared("").await;
    pipeline.pgstream(&["init"]).await.ok();
    let mut coordinator = pipeline.start(&["snapshot", "coordinate", "--json"]);
    let mut first = pipeline.start(&["snapshot", "worker"]);
    let lock = locked(&pipeline).await;
    waits(&pipeline, &mut first).await;
    coordinator.assert_running();
    first.stop().await.ends(1).says(&["snapshot::cancelled"]);
    let nobody = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgstream-aws snapshot copy'";
    pipeline.on_target(&mut coordinator, nobody, |n| n == "0").await;
    lock.batch("ROLLBACK").await;
    let second = pipeline.pgstream(&["snapshot", "worker", "--json"]).await.ok().json();
    assert_eq!((second["parts"].as_u64(), second["rows"].as_u64()), (Some(2), Some(2)), "{second:#}");
    let copied = coordinator.done().await.ok().json();
    assert_eq!((copied["complete"].as_bool(), copied["rows"].as_u64()), (Some(true), Some(60_002)), "{copied:#}");
    pipeline.assert_same_rows().await;
    // Whoever comes late finds nothing to do, once it is sure that nothing is about to begin.
    pipeline.pgstream(&["snapshot", "worker", "--wait", "1"]).await.ok().prints(&["Nothing is left to copy"]);
}

#[tokio::test]
async fn a_coordinator_that_is_killed_ends_its_workers_and_what_they_finished_stays() {
    let pipeline = prepared("").await;
    pipeline.pgstream(&["init"]).await.ok();
    let coordinator = pipeline.start(&["snapshot", "coordinate"]);
    let alone = pipeline.there().await;
    alone.wait_until("SELECT to_regclass('pgstream.snapshot_rounds') IS NOT NULL", "t").await;
    alone.wait_until("SELECT count(*) FROM pgstream.snapshot_rounds", "1").await;
    let mut worker = pipeline.start(&["snapshot", "worker", "--wait", "0"]);
    let lock = locked(&pipeline).await;
    waits(&pipeline, &mut worker).await;
    coordinator.kill9();
    worker.done().await.ends(1).says(&["snapshot::coordinator_gone", "given back"]);
    lock.batch("ROLLBACK").await;
    let before = pipeline.copied().await;
    let done = pipeline.pgstream(&["snapshot", "--workers", "2", "--json"]).await.ok().json();
    // `last`, and the empty table behind it.
    assert_eq!((done["tables"].as_u64(), done["rows"].as_u64()), (Some(2), Some(2)), "{done:#}");
    let after = pipeline.copied().await;
    assert!(before.lines().all(|part| after.contains(part)), "copied again\n{before}\n{after}");
    pipeline.assert_same_rows().await;
}

#[tokio::test]
async fn workers_do_not_outlive_the_process_that_started_them() {
    let mut pipeline = prepared("").await;
    pipeline.set("source.postgres.mode", "snapshot");
    let mut copy = pipeline.start(&["snapshot", "--workers", "3"]);
    let lock = locked(&pipeline).await;
    waits(&pipeline, &mut copy).await;
    let workers = children(copy.pid());
    assert!(!workers.is_empty());
    copy.kill9();
    let running = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|words| !words.is_empty());
    let deadline = Instant::now() + Duration::from_secs(60);
    while workers.iter().any(running) {
        assert!(Instant::now() < deadline, "{workers:?} are left");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    lock.batch("ROLLBACK").await;
    pipeline.pgstream(&["snapshot"]).await.ok();
    pipeline.assert_same_rows().await;
}

#[tokio::test]
async fn workers_and_coordinators_that_do_not_fit_are_refused() {
    let mut pipeline = prepared("").await;
    pipeline.set("source.postgres.mode", "snapshot");
    pipeline.set("source.postgres.retry_policy.exponential.max_retries", 1);
    pipeline.pgstream(&["snapshot", "worker", "--wait", "0"]).await.ends(1).says(&["snapshot::no_coordinator"]);
    let first = pipeline.start(&["snapshot", "coordinate"]);
    let there = pipeline.there().await;
    there.wait_until("SELECT to_regclass('pgstream.snapshot_rounds') IS NOT NULL", "t").await;
    there.wait_until("SELECT count(*) FROM pgstream.snapshot_rounds", "1").await;
    pipeline.pgstream(&["snapshot", "coordinate"]).await.ends(1).says(&["snapshot::already_running"]);
    let stricter = pipeline.pgstream(&["snapshot", "worker", "--tables", "last"]).await.ends(1);
    stricter.says(&["snapshot::worker_differs", "bulk"]);
    pipeline.pgstream(&["snapshot", "worker"]).await.ok();
    first.done().await.ok();
    pipeline.assert_same_rows().await;
    pipeline.pgstream(&["snapshot", "--workers", "0"]).await.ends(2);
    pipeline.pgstream(&["snapshot", "--workers", "2", "coordinate"]).await.ends(2);
}

#[tokio::test]
async fn urls_of_the_command_line_are_not_repeated_on_that_of_workers() {
    let mut pipeline = prepared("").await;
    pipeline.set("source.postgres.mode", "snapshot");
    let (source, target) = (pipeline.source.url("app"), pipeline.target.url("app"));
    pipeline.set("source.postgres.url", "postgresql://nobody@127.0.0.1:1/app");
    pipeline.unset("target.postgres.url");
    let urls = ["--postgres-url", &source, "--target-url", &target];
    let mut copy =
        pipeline.start(&[&["snapshot", "--workers", "2", "--tables", "last,bulk1"], urls.as_slice()].concat());
    let lock = locked(&pipeline).await;
    waits(&pipeline, &mut copy).await;
    let workers = children(copy.pid());
    assert!(!workers.is_empty());
    for worker in workers {
        let words = fs::read_to_string(format!("/proc/{worker}/cmdline")).unwrap();
        assert!(words.contains("worker") && !words.contains("postgresql://"), "{words}");
    }
    lock.batch("ROLLBACK").await;
    copy.done().await.ok();
    let there = pipeline.there().await;
    assert_eq!(there.scalar::<i64>("SELECT count(*) FROM bulk1").await, 30_000);
    assert_eq!(there.text("SELECT to_regclass('bulk2')::text").await, None);
}

#[tokio::test]
async fn workers_that_fail_again_and_again_end_the_copy_with_their_reason() {
    let mut pipeline = prepared("").await;
    pipeline.set("source.postgres.mode", "snapshot");
    let there = pipeline.there().await;
    there.batch("CREATE TABLE last (n int CHECK (n > 1))").await;
    let failed = pipeline.pgstream(&["snapshot", "--workers", "2"]).await.ends(1);
    failed.says(&["snapshot::workers_die", "last_n_check", "copying rows into"]);
    there.batch("ALTER TABLE last DROP CONSTRAINT last_n_check").await;
    pipeline.pgstream(&["snapshot", "--workers", "2"]).await.ok();
    pipeline.assert_same_rows().await;
}
