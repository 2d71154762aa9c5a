//! One fault after the other under a load that goes on; each is survived without help, and nothing is lost or doubled.
//!
//! `PGSTREAM_FAULTS` is the number of faults of each test; `PGSTREAM_TEST_SEED` replays their sequence.

use std::time::Duration;

use pgstream_testkit::{Conserved, seed};
use rand::Rng;

use crate::{
    fault::Fault,
    rig::{Kind, Rig},
};

/// How many of the first ones come while tables are copied.
const IN_COPY: u32 = 5;

fn faults() -> u32 {
    std::env::var("PGSTREAM_FAULTS").map_or(52, |text| text.parse().expect("PGSTREAM_FAULTS is a number"))
}

async fn storm(kind: Kind) {
    let mut rig = Rig::new(kind, seed()).await;
    for _ in 0..IN_COPY {
        let pause = rig.rng.random_range(50..400);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        rig.supervise();
        let fault = Fault::draw_for_copy(&mut rig.rng, kind);
        rig.inflict(fault).await;
        rig.record.in_copy(fault);
    }
    rig.copied().await;
    let conserved = Conserved::watch(&rig.pipeline.target.url("app"));
    for n in IN_COPY..faults() {
        if n % 4 == 0 {
            rig.large_transaction().await;
        }
        let more = rig.rng.random_range(2..12);
        rig.progress(more).await;
        let fault = Fault::draw(&mut rig.rng, kind);
        rig.inflict(fault).await;
        let after = rig.recovered().await;
        rig.record.recovered(fault, after);
    }
    rig.assert_exact(conserved).await;
}

#[tokio::test]
async fn a_storm_of_faults_loses_nothing() {
    storm(Kind::Plain).await;
}

#[tokio::test]
async fn a_storm_of_faults_under_active_foreign_keys_and_tiny_batches_loses_nothing() {
    storm(Kind::Checked).await;
}

#[tokio::test]
async fn a_storm_of_faults_on_encrypted_connections_loses_nothing() {
    storm(Kind::Encrypted).await;
}
