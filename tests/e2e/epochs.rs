//! The hand-over while the 32 bits of the stream's transaction ids begin anew.
//!
//! ```text
//!  copy under 4294967280:…   open: 4294967281, its subtransactions 5, 6, 7   next: 12   COMMIT
//! ```
//! A transaction is placed by its full id, whichever side of the boundary copy, beginning and end are on.

use std::time::Duration;

use pgstream_testkit::{Client, Load, assert_journal, seed};

use crate::replicator::{Pipeline, Replicator};

/// Without a key, so that what comes twice shows.
const LOOSE: &str = "CREATE TABLE loose (n int);";

/// Ids that are kept for what happens between the burning and the boundary.
const MARGIN: i64 = 60;

async fn near_the_end(schema: &str) -> Pipeline {
    let (source, target) = pgstream_testkit::pair().await;
    source.near_the_end_of_an_epoch(40_000).await;
    let pipeline = Pipeline::between(source, target, schema).await;
    pipeline.pgstream(&["init"]).await.ok();
    pipeline
}

/// The full id of the next transaction.
async fn next(here: &Client) -> i64 {
    here.scalar("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint").await
}

/// Uses ids up until this one.
async fn burn(here: &Client, until: i64) {
    loop {
        let left = until - next(here).await;
        if left <= 0 {
            return;
        }
        // A subtransaction that writes has an id, a rolled back one, too.
        here.batch(&format!(
            "BEGIN; CREATE TEMP TABLE burnt (n int) ON COMMIT DROP;
             DO $$ BEGIN FOR i IN 1..{} LOOP BEGIN INSERT INTO burnt VALUES (i); EXCEPTION WHEN division_by_zero THEN END; END LOOP; END $$;
             ROLLBACK",
            left.clamp(1, 1000),
        ))
        .await;
    }
}

const BOUNDARY: i64 = 1 << 32;

async fn copied(pipeline: &Pipeline, running: &mut Replicator) {
    let complete = "SELECT count(*) FROM pgstream.snapshot_steps WHERE step = 'complete'";
    pipeline.on_target(running, complete, |found| found == "1").await;
}

async fn arrived(pipeline: &Pipeline) -> String {
    let rows = "SELECT string_agg(n::text, ' ' ORDER BY n) FROM loose";
    pipeline.there().await.text(rows).await.unwrap_or_default()
}

const OPEN: &str = "BEGIN; INSERT INTO loose VALUES (10); SAVEPOINT a; INSERT INTO loose VALUES (11); ROLLBACK TO a;
    SAVEPOINT b; INSERT INTO loose VALUES (12); RELEASE b";
const CLOSE: &str =
    "SAVEPOINT c; INSERT INTO loose VALUES (13); SAVEPOINT d; INSERT INTO loose VALUES (14); ROLLBACK TO d; COMMIT";

#[tokio::test]
async fn a_copy_before_the_boundary_is_followed_across_it() {
    let pipeline = near_the_end(LOOSE).await;
    let (here, open) = (pipeline.here().await, pipeline.here().await);
    burn(&here, BOUNDARY - 2 * MARGIN).await;
    open.batch(OPEN).await;
    here.batch("BEGIN; INSERT INTO loose VALUES (20); PREPARE TRANSACTION 'over'").await;
    here.batch("INSERT INTO loose VALUES (30)").await;
    let mut running = pipeline.run();
    copied(&pipeline, &mut running).await;
    assert!(next(&here).await < BOUNDARY, "the boundary is still ahead");
    assert_eq!(arrived(&pipeline).await, "30");
    here.batch("INSERT INTO loose VALUES (40)").await;
    burn(&here, BOUNDARY + 5).await;
    here.batch("INSERT INTO loose VALUES (50)").await;
    open.batch(CLOSE).await;
    here.batch("COMMIT PREPARED 'over'").await;
    pipeline.caught_up(&mut running).await;
    assert_eq!(arrived(&pipeline).await, "10 12 13 20 30 40 50");
    running.stop().await.ok();
    // Once more with the boundary between the copy and the start.
    here.batch("INSERT INTO loose VALUES (60)").await;
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    assert_eq!(arrived(&pipeline).await, "10 12 13 20 30 40 50 60");
    pipeline.assert_same_rows().await;
    running.stop().await.ok();
}

#[tokio::test]
async fn a_copy_after_the_boundary_holds_what_committed_before_it() {
    let pipeline = near_the_end(LOOSE).await;
    let (here, open) = (pipeline.here().await, pipeline.here().await);
    burn(&here, BOUNDARY - 2 * MARGIN).await;
    here.batch("INSERT INTO loose VALUES (1)").await;
    open.batch(OPEN).await;
    here.batch("BEGIN; INSERT INTO loose VALUES (20); PREPARE TRANSACTION 'over'").await;
    here.batch("BEGIN; INSERT INTO loose VALUES (21); PREPARE TRANSACTION 'never'").await;
    burn(&here, BOUNDARY + 5).await;
    here.batch("INSERT INTO loose VALUES (30)").await;
    let mut running = pipeline.run();
    copied(&pipeline, &mut running).await;
    assert_eq!(arrived(&pipeline).await, "1 30");
    open.batch(CLOSE).await;
    here.batch("COMMIT PREPARED 'over'").await;
    here.batch("ROLLBACK PREPARED 'never'").await;
    pipeline.caught_up(&mut running).await;
    assert_eq!(arrived(&pipeline).await, "1 10 12 13 20 30");
    pipeline.assert_same_rows().await;
    running.stop().await.ok();
}

#[tokio::test]
async fn a_boundary_that_is_crossed_under_load_loses_nothing() {
    let pipeline = near_the_end(&format!("{}{LOOSE}", Load::schema())).await;
    let here = pipeline.here().await;
    let load = Load::start_paced(&pipeline.source.url("app"), seed(), 3, Duration::from_millis(1));
    load.progress(50).await;
    let mut running = pipeline.run();
    copied(&pipeline, &mut running).await;
    let before = next(&here).await;
    running.kill9();
    burn(&here, BOUNDARY - MARGIN).await;
    let mut running = pipeline.run();
    while next(&here).await < BOUNDARY + MARGIN {
        load.progress(20).await;
    }
    assert!(before < BOUNDARY, "the copy was made before the boundary: {before}");
    running.kill9();
    running = pipeline.run();
    load.progress(50).await;
    let report = load.stop().await;
    pipeline.caught_up(&mut running).await;
    pipeline.assert_same_rows().await;
    assert_journal(&pipeline.target, "app", &report).await;
    running.stop().await.ok();
}
