//! The two edges of a COMMIT on the target, and what may be acknowledged when: one row without a key at a time, so that
//! what is lost or comes twice shows.

use std::time::{Duration, Instant};

use pgstream_testkit::{Cluster, Edge, Flow, Proxy, pair_with, source_major, target_major};

use crate::replicator::{Pipeline, Replicator, SLOT};

const LOOSE: &str = "CREATE TABLE loose (n int);";
const PATIENCE: Duration = Duration::from_secs(90);

/// What happens while a COMMIT is held.
const WHO: [&str; 3] = ["the replicator is killed", "the connection breaks", "the target crashes"];

#[tokio::test]
async fn whatever_breaks_at_either_edge_of_a_commit_its_row_is_there_once() {
    let mut pipeline = Pipeline::new(LOOSE).await;
    let leg = Proxy::start(pipeline.target.port()).await.unwrap();
    pipeline.set("target.postgres.url", leg.url(&pipeline.target.url("app"), pipeline.target.port()));
    pipeline.pgstream(&["init"]).await.ok();
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    let mut expected = Vec::new();
    for who in WHO {
        for edge in [Edge::Commit, Edge::Reply] {
            let n = expected.len();
            let insert = format!("INSERT INTO loose VALUES ({n})");
            let here = pipeline.here().await;
            let held = async { tokio::time::timeout(PATIENCE, leg.held_at(edge)).await.expect("nothing is committed") };
            tokio::join!(held, here.batch(&insert));
            match who {
                "the replicator is killed" => {
                    running.kill9();
                    leg.cut();
                    running = pipeline.run();
                }
                "the target crashes" => {
                    pipeline.target.kill9();
                    leg.cut();
                    pipeline.target.start().await;
                }
                _ => leg.cut(),
            }
            leg.resume();
            expected.push(n.to_string());
            pipeline.caught_up(&mut running).await;
            assert_eq!(arrived(&pipeline).await, expected.join(" "), "{who} at {edge:?}");
        }
    }
    running.stop().await.ok();
}

#[tokio::test]
async fn a_request_that_the_target_never_gets_is_made_again() {
    lost_on_the_way_to_the_target(Flow::Up).await;
}

#[tokio::test]
async fn an_answer_of_the_target_that_never_comes_is_not_waited_for() {
    lost_on_the_way_to_the_target(Flow::Down).await;
}

async fn lost_on_the_way_to_the_target(flow: Flow) {
    let mut pipeline = Pipeline::new(LOOSE).await;
    let leg = Proxy::start(pipeline.target.port()).await.unwrap();
    pipeline.set("target.postgres.url", leg.url(&pipeline.target.url("app"), pipeline.target.port()));
    pipeline.pgstream(&["init"]).await.ok();
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    leg.lose(flow);
    pipeline.here().await.batch("INSERT INTO loose VALUES (1)").await;
    pipeline.caught_up(&mut running).await;
    assert_eq!(arrived(&pipeline).await, "1");
    running.stop().await.ok();
}

#[tokio::test]
async fn a_stream_that_waits_too_long_to_be_opened_says_so_and_tries_again() {
    let pipeline = Pipeline::new(LOOSE).await;
    pipeline.pgstream(&["init"]).await.ok();
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    running.stop().await.ok();
    let there = pipeline.there().await;
    there.batch("BEGIN; LOCK TABLE pgstream.apply_progress").await;
    let mut running = pipeline.run();
    running.says("the stream could not be opened within 60 s").await;
    there.batch("COMMIT").await;
    pipeline.here().await.batch("INSERT INTO loose VALUES (1)").await;
    pipeline.caught_up(&mut running).await;
    assert_eq!(arrived(&pipeline).await, "1");
    running.stop().await.ok();
}

async fn arrived(pipeline: &Pipeline) -> String {
    let rows = "SELECT string_agg(n::text, ' ' ORDER BY n) FROM loose";
    pipeline.there().await.text(rows).await.unwrap_or_default()
}

#[tokio::test]
async fn what_the_copy_holds_is_not_applied_again() {
    let pipeline = Pipeline::new(LOOSE).await;
    pipeline.pgstream(&["init"]).await.ok();
    let here = pipeline.here().await;
    for n in 0..5 {
        here.batch(&format!("INSERT INTO loose VALUES ({n})")).await;
    }
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    assert_eq!(arrived(&pipeline).await, "0 1 2 3 4");
    running.stop().await.ok();
}

/// Waits until the source has heard from the stream twice more.
async fn heard_twice(pipeline: &Pipeline, running: &mut Replicator) {
    let here = pipeline.here().await;
    let last = "SELECT reply_time::text FROM pg_stat_replication WHERE pid = (SELECT active_pid FROM pg_replication_slots LIMIT 1)";
    let deadline = Instant::now() + PATIENCE;
    for _ in 0..2 {
        let before = here.text(last).await;
        while here.text(last).await == before {
            running.assert_running();
            assert!(Instant::now() < deadline, "the source hears nothing\n{}", running.stderr());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn what_is_on_its_way_is_not_acknowledged() {
    let pipeline = Pipeline::new(LOOSE).await;
    pipeline.pgstream(&["init"]).await.ok();
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    let lock = pipeline.there().await;
    lock.batch("BEGIN; LOCK TABLE loose IN ACCESS EXCLUSIVE MODE").await;
    let here = pipeline.here().await;
    here.batch("INSERT INTO loose VALUES (1)").await;
    let begun = here.text("SELECT pg_current_wal_lsn()").await.unwrap();
    // More WAL that is none of the stream's, so that there is something to acknowledge.
    here.batch("CREATE TEMP TABLE noise (n int); INSERT INTO loose VALUES (2); SELECT pg_logical_emit_message(false, 'x', 'y')")
        .await;
    heard_twice(&pipeline, &mut running).await;
    heard_twice(&pipeline, &mut running).await;
    let ahead = format!("SELECT confirmed_flush_lsn >= '{begun}' FROM pg_replication_slots WHERE slot_name = '{SLOT}'");
    assert_eq!(here.text(&ahead).await.as_deref(), Some("f"), "acknowledged and not applied");
    running.kill9();
    lock.batch("ROLLBACK").await;
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    assert_eq!(arrived(&pipeline).await, "1 2");
    running.stop().await.ok();
}

/// Commits on the target are asynchronous; here its WAL writer rests for longer than the source waits to hear.
#[tokio::test]
async fn what_a_crash_would_take_back_is_not_acknowledged() {
    let lazy = Cluster::builder().major(target_major()).setting("wal_writer_delay", "10s");
    let (source, target) = pair_with(Cluster::builder().major(source_major()), lazy).await;
    let pipeline = Pipeline::between(source, target, LOOSE).await;
    pipeline.pgstream(&["init"]).await.ok();
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    let here = pipeline.here().await;
    for n in 1..=3 {
        here.batch(&format!("INSERT INTO loose VALUES ({n})")).await;
        pipeline.on_target(&mut running, "SELECT max(n) FROM loose", |found| found == n.to_string()).await;
        heard_twice(&pipeline, &mut running).await;
        pipeline.target.kill9();
        let confirmed =
            format!("SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = '{SLOT}'");
        let confirmed = here.text(&confirmed).await.unwrap();
        pipeline.target.start().await;
        let ahead = format!("SELECT '{confirmed}' > commit_end_lsn FROM pgstream.apply_progress");
        assert_eq!(pipeline.there().await.text(&ahead).await.as_deref(), Some("f"), "acknowledged and taken back");
        pipeline.caught_up(&mut running).await;
        let expected: Vec<String> = (1..=n).map(|n| n.to_string()).collect();
        assert_eq!(arrived(&pipeline).await, expected.join(" "));
    }
    running.stop().await.ok();
}
