//! Crashes of everything that can crash.

use std::time::Duration;

use pgstream_testkit::{Conserved, Load, assert_journal, assert_same_rows, pair, seed};

use crate::replicator::{MARKER, Replicator, both, caught_up, copied, succeeds};

#[tokio::test]
async fn the_replicator_may_be_killed_while_it_copies_and_while_it_follows() {
    let (source, target) = pair().await;
    let here = source.client("app").await;
    here.batch(MARKER).await;
    here.batch(Load::schema()).await;
    here.batch("CREATE TABLE big (id int PRIMARY KEY, t text); INSERT INTO big SELECT n, repeat('x', 200) FROM generate_series(1, 100000) AS n").await;
    let config = both(&source, &target);
    succeeds(&["init", "-c", &config.path()]);
    let load = Load::start_paced(&source.url("app"), seed(), 2, Duration::from_millis(5));
    for pause in [200, 400, 700] {
        let replicator = Replicator::run(&config);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        replicator.kill9();
    }
    let there = target.client("app").await;
    let mut replicator = Replicator::run(&config);
    copied(&there, &replicator).await;
    let conserved = Conserved::watch(&target.url("app"));
    for _ in 0..5 {
        load.progress(40).await;
        replicator.kill9();
        replicator = Replicator::run(&config);
    }
    let report = load.stop().await;
    caught_up(&here, &there).await;
    conserved.stop().await;
    assert_same_rows(&source, &target, "app").await;
    assert_journal(&target, "app", &report).await;
}

#[tokio::test]
async fn either_server_may_be_killed_while_it_follows() {
    let (source, target) = pair().await;
    let here = source.client("app").await;
    here.batch(MARKER).await;
    here.batch(Load::schema()).await;
    let config = both(&source, &target);
    succeeds(&["init", "-c", &config.path()]);
    let mut replicator = Replicator::run(&config);
    copied(&target.client("app").await, &replicator).await;
    let load = Load::start_paced(&source.url("app"), seed(), 2, Duration::from_millis(5));
    for _ in 0..2 {
        load.progress(40).await;
        target.kill9();
        target.start().await;
        load.progress(40).await;
        source.kill9();
        source.start().await;
    }
    load.progress(40).await;
    let report = load.stop().await;
    caught_up(&source.client("app").await, &target.client("app").await).await;
    replicator.assert_running();
    assert_same_rows(&source, &target, "app").await;
    assert_journal(&target, "app", &report).await;
}
