//! The job the product exists for.

use std::time::Duration;

use pgstream_testkit::{
    Conserved, Load, assert_accounts, assert_journal, assert_same_rows, assert_same_schema,
    assert_sequences_not_behind, pair, seed,
};

use crate::replicator::{MARKER, Replicator, both, caught_up, copied, succeeds};

#[tokio::test]
async fn a_database_is_initialised_copied_and_followed_under_load() {
    let (source, target) = pair().await;
    let here = source.client("app").await;
    here.batch(MARKER).await;
    here.batch(Load::schema()).await;
    let config = both(&source, &target);
    succeeds(&["init", "-c", &config.path()]);

    let load = Load::start_paced(&source.url("app"), seed(), 3, Duration::from_millis(5));
    load.progress(50).await;
    let replicator = Replicator::run(&config);
    let there = target.client("app").await;
    copied(&there, &replicator).await;
    let conserved = Conserved::watch(&target.url("app"));
    load.progress(200).await;
    let report = load.stop().await;
    caught_up(&here, &there).await;
    conserved.stop().await;
    assert_same_rows(&source, &target, "app").await;
    assert_journal(&target, "app", &report).await;
    assert_accounts(&target, "app").await;
    succeeds(&["status", "-c", &config.path()]);

    let (status, time) = replicator.stop();
    assert!(status.success() && time < Duration::from_secs(10), "{status} after {time:?}");
    assert_same_schema(&source, &target, "app").await;
    assert_sequences_not_behind(&source, &target, "app").await;

    here.batch("INSERT INTO public.marker DEFAULT VALUES").await;
    let mut replicator = Replicator::run(&config);
    caught_up(&here, &there).await;
    replicator.assert_running();
    assert!(replicator.log().contains("the copy is complete"), "{}", replicator.log());
    assert_same_rows(&source, &target, "app").await;
}
