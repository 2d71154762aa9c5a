//! SIGTERM in the middle of a transaction that takes minutes.

use std::time::Duration;

use crate::replicator::{Pipeline, Replicator};

const ROWS: i64 = 400_000;

async fn inside(pipeline: &Pipeline, running: &mut Replicator) {
    // Rows that nobody sees yet.
    let sql = "SELECT pg_relation_size('huge') > 4000000 AND NOT EXISTS (SELECT FROM huge)";
    pipeline.on_target(running, sql, |inside| inside == "t").await;
}

#[tokio::test]
async fn a_stop_inside_a_huge_transaction_leaves_a_whole_state_to_go_on_from() {
    let pipeline =
        Pipeline::new("CREATE TABLE huge (n int, filler text); CREATE TABLE small (n int PRIMARY KEY)").await;
    pipeline.pgstream(&["init"]).await.ok();
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    let here = pipeline.here().await;
    here.batch(&format!(
        "BEGIN; INSERT INTO small VALUES (1); INSERT INTO huge SELECT g % 1000, repeat('x', 100) FROM generate_series(1, {ROWS}) g;
         INSERT INTO small VALUES (2); COMMIT"
    ))
    .await;
    here.batch("INSERT INTO small VALUES (3)").await;
    for _ in 0..2 {
        inside(&pipeline, &mut running).await;
        let stopped = running.stop().await.ok();
        assert!(stopped.took < Duration::from_secs(10), "stopped only after {:?}", stopped.took);
        let there = pipeline.there().await;
        let held = "SELECT (SELECT count(*) FROM huge) || ' ' || (SELECT count(*) FROM small)";
        assert_eq!(there.text(held).await.as_deref(), Some("0 0"), "all of it or nothing");
        there.batch("VACUUM huge").await;
        running = pipeline.run();
    }
    pipeline.caught_up(&mut running).await;
    assert_eq!(pipeline.there().await.scalar::<i64>("SELECT count(*) FROM huge").await, ROWS);
    pipeline.assert_same_rows().await;
    running.stop().await.ok();
}
