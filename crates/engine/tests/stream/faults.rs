//! Nothing is lost and nothing applied twice, whatever breaks.
//!
//! `PGSTREAM_TEST_FAULTS` makes the random runs longer, `PGSTREAM_TEST_SEED` replays one.

use pgstream_engine::stream::Limits;

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
