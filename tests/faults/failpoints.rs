//! The process dies at an edge, by itself: exactly there, and not about there. Needs the feature `mutants`.
//!
//! Each death is followed by another start; the next one comes further on, until nothing is in the way.

use std::time::Duration;

use pgstream_testkit::{Conserved, Load, assert_journal, seed};

use crate::replicator::{Pipeline, Replicator, SLOT};

const BULK: &str = "CREATE TABLE bulk1 AS SELECT g AS id, repeat('x', 300) AS filler FROM generate_series(1, 20000) g;
    CREATE TABLE bulk2 AS SELECT * FROM bulk1; CREATE TABLE bulk3 AS SELECT * FROM bulk1;
    ALTER TABLE bulk1 ADD PRIMARY KEY (id);";

const OF_THE_COPY: [&str; 6] =
    ["mid_copy:2", "before_ledger:1", "after_ledger:1", "after_ledger:4", "copied:1", "copied:3"];

const OF_THE_STREAM: [&str; 11] = [
    "claimed:1",
    "applied:1",
    "applied:7",
    "advanced:1",
    "advanced:5",
    "committed:1",
    "committed:9",
    "acknowledged:1",
    "acknowledged:2",
    "reconnecting:1",
    "reconnecting:2",
];

/// Runs until the failpoint is reached.
async fn dies_at(pipeline: &mut Pipeline, failpoint: &str) {
    pipeline.environment(vec![("PGSTREAM_FAILPOINT".to_owned(), failpoint.to_owned())]);
    let mut running = pipeline.run();
    pipeline.environment(Vec::new());
    if failpoint.starts_with("reconnecting") {
        while running.poll().is_none() {
            let end =
                format!("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{SLOT}'");
            pipeline.here().await.batch(&end).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let done = running.done().await;
    assert_eq!(done.code, None, "it was to die at {failpoint}: {done:?}");
}

async fn exact(pipeline: &Pipeline, running: &mut Replicator, load: Load) {
    let report = load.stop().await;
    pipeline.caught_up(running).await;
    pipeline.assert_same_rows().await;
    assert_journal(&pipeline.target, "app", &report).await;
}

#[tokio::test]
async fn a_death_at_any_edge_of_copy_and_stream_is_gone_on_from_exactly() {
    let mut pipeline = Pipeline::new(&format!("{}{BULK}", Load::schema())).await;
    pipeline.pgstream(&["init"]).await.ok();
    let load = Load::start_paced(&pipeline.source.url("app"), seed(), 2, Duration::from_millis(15));
    for failpoint in OF_THE_COPY {
        dies_at(&mut pipeline, failpoint).await;
    }
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    running.stop().await.ok();
    let conserved = Conserved::watch(&pipeline.target.url("app"));
    for failpoint in OF_THE_STREAM {
        dies_at(&mut pipeline, failpoint).await;
    }
    let mut running = pipeline.run();
    exact(&pipeline, &mut running, load).await;
    conserved.stop().await;
    running.stop().await.ok();
}
