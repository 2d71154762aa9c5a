//! Nothing is lost and nothing applied twice, whatever breaks.
//!
//! `PGSTREAM_TEST_FAULTS` makes the random runs longer, `PGSTREAM_TEST_SEED` replays one.

use std::time::Duration;

use pgstream_engine::stream::{Error, Limits};

use crate::ordeal::{Fault, Ordeal};

/// So that most transactions of the load need several chunks.
const TINY: Limits = Limits { bytes: 16 << 10, changes: 7 };
const ROOMY: Limits = Limits { bytes: 8 << 20, changes: 20_000 };

fn faults(default: u64) -> u64 {
    std::env::var("PGSTREAM_TEST_FAULTS").ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_faults_under_load_lose_nothing() {
    let mut ordeal = Ordeal::begin(ROOMY, |_| {}).await;
    for _ in 0..faults(25) {
        let fault = Fault::random(&mut ordeal.rng);
        ordeal.suffer(fault).await;
    }
    ordeal.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_faults_between_chunks_lose_nothing() {
    let mut ordeal = Ordeal::begin(TINY, |_| {}).await;
    for _ in 0..faults(25) {
        let fault = Fault::random(&mut ordeal.rng);
        ordeal.suffer(fault).await;
    }
    ordeal.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_faults_with_foreign_keys_active_lose_nothing() {
    let mut ordeal = Ordeal::begin(ROOMY, |job| job.disable_triggers = Some(false)).await;
    for _ in 0..faults(15) {
        let fault = Fault::random(&mut ordeal.rng);
        ordeal.suffer(fault).await;
    }
    ordeal.end().await;
}

/// Chunks of a few hundred changes, savepoints between them, rows that only their whole image finds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn huge_transactions_under_faults_stay_whole() {
    let mut ordeal = Ordeal::begin(Limits { bytes: 256 << 10, changes: 300 }, |_| {}).await;
    for round in 0..faults(10) {
        let fault = Fault::random(&mut ordeal.rng);
        ordeal
            .also(&format!(
                "BEGIN; INSERT INTO load.twins SELECT i % 5, 'huge', NULL FROM generate_series(1, 400) AS i;
                 INSERT INTO load.items (owner, note, big) SELECT -1, 'huge {round}', 'x' FROM generate_series(1, 2000);
                 SAVEPOINT s; DELETE FROM load.items WHERE owner = -1; ROLLBACK TO s;
                 UPDATE load.twins SET kind = 9 WHERE ctid IN (SELECT ctid FROM load.twins WHERE note = 'huge' LIMIT 40);
                 DELETE FROM load.twins WHERE ctid IN (SELECT ctid FROM load.twins WHERE note = 'huge' LIMIT 300);
                 UPDATE load.items SET note = note || '!' WHERE owner = -1; COMMIT"
            ))
            .await;
        ordeal.suffer(fault).await;
    }
    ordeal.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_replicator_under_load_changes_nothing() {
    let mut ordeal = Ordeal::begin(ROOMY, |_| {}).await;
    let error = ordeal.second().failure().await;
    assert!(matches!(error, Error::Claim(_)), "{error}");
    assert_eq!(ordeal.running().monitor.read().reconnects, 0);
    for _ in 0..3 {
        // Somebody else raised the epoch: whatever the first one still sends is refused.
        let there = ordeal.pair.target.client("app").await;
        there.batch("UPDATE pgstream.apply_progress SET epoch = epoch + 1").await;
        let error = ordeal.take_running().failure().await;
        assert!(matches!(error, Error::Fenced { .. }), "{error}");
        let (before, now) = ("SELECT commit_end_lsn::text FROM pgstream.apply_progress", Duration::from_millis(200));
        let held = there.text(before).await;
        tokio::time::sleep(now).await;
        assert_eq!(there.text(before).await, held, "nothing moves after that");
        ordeal.restart();
        ordeal.caught_up().await;
    }
    ordeal.end().await;
}
