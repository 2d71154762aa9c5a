//! The replicator and the servers die; nothing is lost, nothing comes twice.

use std::time::Duration;

use pgstream_testkit::{Conserved, Load, LoadReport, assert_journal, seed};

use crate::replicator::{Pipeline, Replicator};

/// Moments of faults that a seed replays.
struct Moments(u64);

impl Moments {
    fn next(&mut self, range: std::ops::Range<u64>) -> Duration {
        // Knuth's multiplier; the low bits are the weak ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Duration::from_millis(range.start + (self.0 >> 33) % (range.end - range.start))
    }
}

/// Enough rows for a copy that takes a while.
const BULK: &str = "CREATE TABLE bulk1 AS SELECT g AS id, repeat('x', 300) AS filler FROM generate_series(1, 60000) g;
    CREATE TABLE bulk2 AS SELECT * FROM bulk1; CREATE TABLE bulk3 AS SELECT * FROM bulk1;
    ALTER TABLE bulk1 ADD PRIMARY KEY (id); ALTER TABLE bulk2 ADD PRIMARY KEY (id);";

/// Tables of the load, bulk beside them, and a prepared source.
async fn prepared() -> Pipeline {
    let pipeline = Pipeline::new(&format!("{}{BULK}", Load::schema())).await;
    pipeline.pgstream(&["init"]).await.ok();
    pipeline
}

/// Lets the pipeline catch up and compares both sides.
async fn assert_exact(pipeline: &Pipeline, running: &mut Replicator, report: &LoadReport) {
    pipeline.caught_up(running).await;
    pipeline.assert_same_rows().await;
    assert_journal(&pipeline.target, "app", report).await;
}

#[tokio::test]
async fn killed_again_and_again_while_copying_it_copies_exactly() {
    let pipeline = prepared().await;
    let seed = seed();
    let mut moments = Moments(seed);
    let load = Load::start_paced(&pipeline.source.url("app"), seed, 2, Duration::from_millis(2));
    for _ in 0..6 {
        let running = pipeline.run();
        tokio::time::sleep(moments.next(50..900)).await;
        running.kill9();
    }
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    let report = load.stop().await;
    assert_exact(&pipeline, &mut running, &report).await;
    running.stop().await.ok();
}

#[tokio::test]
async fn killed_again_and_again_while_following_it_applies_each_transaction_once() {
    let pipeline = prepared().await;
    let seed = seed();
    let mut moments = Moments(seed);
    let load = Load::start_paced(&pipeline.source.url("app"), seed, 2, Duration::from_millis(2));
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    let conserved = Conserved::watch(&pipeline.target.url("app"));
    for _ in 0..10 {
        tokio::time::sleep(moments.next(20..600)).await;
        running.kill9();
        running = pipeline.run();
    }
    let report = load.stop().await;
    assert_exact(&pipeline, &mut running, &report).await;
    conserved.stop().await;
    running.stop().await.ok();
}

#[tokio::test]
async fn a_source_that_crashes_is_followed_again() {
    let pipeline = prepared().await;
    let load = Load::start_paced(&pipeline.source.url("app"), seed(), 2, Duration::from_millis(2));
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    let conserved = Conserved::watch(&pipeline.target.url("app"));
    for _ in 0..3 {
        load.progress(100).await;
        pipeline.source.kill9();
        pipeline.source.start().await;
    }
    load.progress(100).await;
    let report = load.stop().await;
    assert_exact(&pipeline, &mut running, &report).await;
    conserved.stop().await;
    running.stop().await.ok();
}

#[tokio::test]
async fn a_target_that_crashes_is_written_again() {
    let pipeline = prepared().await;
    let load = Load::start_paced(&pipeline.source.url("app"), seed(), 2, Duration::from_millis(2));
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    let conserved = Conserved::watch(&pipeline.target.url("app"));
    for _ in 0..3 {
        load.progress(100).await;
        pipeline.target.kill9();
        load.progress(20).await;
        pipeline.target.start().await;
    }
    load.progress(100).await;
    let report = load.stop().await;
    assert_exact(&pipeline, &mut running, &report).await;
    conserved.stop().await;
    running.stop().await.ok();
}

#[tokio::test]
async fn servers_that_crash_during_the_copy_are_copied_on() {
    let pipeline = prepared().await;
    let load = Load::start_paced(&pipeline.source.url("app"), seed(), 2, Duration::from_millis(5));
    let mut running = pipeline.run();
    let begun = "SELECT 1 FROM pg_stat_progress_copy UNION ALL SELECT 1 FROM pgstream.snapshot_ledger";
    pipeline.on_target(&mut running, begun, |_| true).await;
    pipeline.target.kill9();
    pipeline.target.start().await;
    pipeline.on_target(&mut running, begun, |_| true).await;
    pipeline.source.kill9();
    pipeline.source.start().await;
    pipeline.caught_up(&mut running).await;
    let report = load.stop().await;
    assert_exact(&pipeline, &mut running, &report).await;
    running.stop().await.ok();
}

#[tokio::test]
async fn a_second_replicator_is_refused() {
    let mut pipeline = Pipeline::new("CREATE TABLE t (id int PRIMARY KEY)").await;
    pipeline.pgstream(&["init"]).await.ok();
    let mut first = pipeline.run();
    pipeline.caught_up(&mut first).await;
    pipeline.set("source.postgres.retry_policy.disable_retries", true);
    let second = pipeline.pgstream(&["run"]).await.ends(1);
    let refused = ["another replicator", "is active for PID"].iter().any(|words| second.err.contains(words));
    assert!(refused, "{}", second.err);
    pipeline.caught_up(&mut first).await;
    first.stop().await.ok();
}
