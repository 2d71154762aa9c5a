//! What the counters say of the distance between the two servers is true, whatever the walsender has sent of it.

use std::time::{Duration, Instant};

use crate::harness::{Pair, Running, pair};

/// Waits until the reading is as it should be.
async fn reads(running: &Running, right: impl Fn(u64, f64) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let now = running.monitor.read();
        if right(now.lag_bytes, now.lag_seconds) {
            return;
        }
        assert!(Instant::now() < deadline, "{now:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn following() -> (Pair, Running) {
    let pair = pair("CREATE TABLE item (id int PRIMARY KEY, text text)").await;
    let running = pair.stream();
    pair.caught_up(&running).await;
    reads(&running, |bytes, seconds| bytes == 0 && seconds == 0.0).await;
    (pair, running)
}

#[tokio::test]
async fn what_the_walsender_could_not_send_yet_counts() {
    let (pair, running) = following().await;
    pair.there.batch("BEGIN; LOCK TABLE item").await;
    for n in 0..40 {
        let rows = format!("SELECT {n} * 1000 + i, repeat('x', 1000) FROM generate_series(1, 1000) AS i");
        pair.here.batch(&format!("INSERT INTO item {rows}")).await;
    }
    reads(&running, |bytes, seconds| bytes > 40_000_000 && seconds > 0.5).await;
    pair.there.batch("COMMIT").await;
    pair.caught_up(&running).await;
    reads(&running, |bytes, seconds| bytes == 0 && seconds == 0.0).await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn wal_that_holds_nothing_for_us_is_no_lag() {
    let (pair, running) = following().await;
    pair.source.create_database("other").await;
    let other = pair.source.client("other").await;
    other.batch("CREATE TABLE t AS SELECT repeat('x', 500) FROM generate_series(1, 20000)").await;
    reads(&running, |bytes, seconds| bytes == 0 && seconds == 0.0).await;
    running.stop().await.unwrap();
}
