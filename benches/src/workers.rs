//! How fast a database is copied by one, two and four workers, which are processes with one session on each side.

use std::time::Instant;

use pgstream_testkit::Cluster;

use crate::{
    ROUNDS,
    copy::{COMPLETE, SCHEMA},
    followers::{Cost, Meter, Ours},
    report::{Section, Table},
    servers::{self, SOURCE, assert_equal, wait},
};

/// So that a worker is a lane, and what differs is how many there are.
const ONE_LANE: &str = "snapshot\n    snapshot: { data: { table_workers: 1 } }";

const COPIES: [(&str, &str); 4] = [
    ("within one process", "snapshot"),
    ("1 worker", "snapshot --workers 1"),
    ("2 workers", "snapshot --workers 2"),
    ("4 workers", "snapshot --workers 4"),
];

/// What all are compared with.
const ONE_WORKER: usize = 1;

pub async fn measure() -> Section {
    let (source, target) = servers::pair().await;
    let here = source.client(SOURCE).await;
    for statement in SCHEMA.split_inclusive(';') {
        here.batch(statement).await;
    }
    let size: String = here.scalar("SELECT pg_size_pretty(pg_database_size(current_database()))").await;
    let mut costs: Vec<Vec<Cost>> = COPIES.map(|_| Vec::new()).to_vec();
    for round in 0..ROUNDS {
        for turn in 0..COPIES.len() {
            let at = (round + turn) % COPIES.len();
            costs[at].push(copy(COPIES[at].1, &source, &target).await);
        }
    }
    let titled = format!("A database of {size}; each worker, and the process alone, copies one part at a time:\n");
    let mut table = Table::new(&["rows are copied by", "time", "of one worker's", "source CPU", "target CPU"]);
    let one = Cost::median(&costs[ONE_WORKER]);
    for ((name, _), rounds) in COPIES.iter().zip(&costs) {
        let cost = Cost::median(rounds);
        table.push(vec![
            (*name).to_owned(),
            format!("{:.2} s", cost.seconds),
            format!("{:.2}", cost.seconds / one.seconds),
            format!("{:.2} s", cost.source_cpu),
            format!("{:.2} s", cost.target_cpu),
        ]);
    }
    Section::new("workers").with(titled).with(table)
}

/// Until the last key is there.
async fn copy(command: &str, source: &Cluster, target: &Cluster) -> Cost {
    let database = "workers";
    target.client("postgres").await.batch(&format!("CREATE DATABASE {database}")).await;
    let there = target.client(database).await;
    there.batch("CHECKPOINT").await;
    let expected = source.client(SOURCE).await.text(COMPLETE).await.unwrap();
    let we = Ours::new(source, target, database, ONE_LANE, "");
    let meter = Meter::start(source, target);
    let began = Instant::now();
    let mut running = we.start(command);
    let (seconds, _) = tokio::join!(
        async {
            wait(&there, COMPLETE, &expected).await;
            began.elapsed().as_secs_f64()
        },
        running.finish()
    );
    let cost = Cost { seconds, ..meter.stop() };
    assert_equal(source, target, database).await;
    drop(there);
    target.client("postgres").await.batch(&format!("DROP DATABASE {database} WITH (FORCE)")).await;
    cost
}
