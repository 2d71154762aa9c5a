//! How fast a backlog is applied, beside the server's own subscription on the same servers in the same run.
//!
//! `make bench`. For each workload both sides get the same tables and a slot each; then the source is written to; then
//! each follows alone until it has everything. The ratio is what to look at: times depend on the machine. A word as
//! argument chooses workloads by name.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::{
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use pgstream_config::{pattern::TableFilter, pipeline::Retry};
use pgstream_engine::stream::{self, Destination, Job, Limits, status::Monitor};
use pgstream_postgres::{Dsn, Server};
use pgstream_testkit::{Binaries, Client, Cluster, digest};
use tokio_util::sync::CancellationToken;

const SLOT: &str = "bench_slot";
const NATIVE_SLOT: &str = "bench_native_slot";
const PUBLICATION: &str = "bench";
const ROUNDS: usize = 3;
const LONGEST: Duration = Duration::from_secs(600);

struct Workload {
    name: &'static str,
    /// On both sides, before the slots.
    schema: &'static str,
    /// On the source, after them: SQL, or so many pgbench transactions.
    load: Load,
}

enum Load {
    Sql(&'static str),
    Pgbench { scale: u32, transactions: u32 },
}

const WORKLOADS: &[Workload] = &[
    Workload { name: "TPC-B, 150,000 transactions", schema: "", load: Load::Pgbench { scale: 5, transactions: 150_000 } },
    Workload {
        name: "500 transactions of 1,000 inserts",
        schema: "CREATE TABLE bulk (id bigint PRIMARY KEY, a int, b text, c timestamptz, d numeric)",
        load: Load::Sql(
            "DO $$ BEGIN FOR n IN 1..500 LOOP
                INSERT INTO bulk SELECT n * 1000 + i, i, 'some text ' || i, now(), i / 7.0 FROM generate_series(0, 999) AS i;
                COMMIT; END LOOP; END $$",
        ),
    },
    Workload {
        name: "300,000 updates by key",
        schema: "CREATE TABLE item (id int PRIMARY KEY, a int, b text, c text);
                 INSERT INTO item SELECT n, n, 'text ' || n, repeat('x', 100) FROM generate_series(1, 300000) AS n",
        load: Load::Sql(
            "DO $$ BEGIN FOR n IN 0..299 LOOP
                UPDATE item SET a = a + 1, b = 'new ' || id WHERE id % 300 = n; COMMIT; END LOOP; END $$",
        ),
    },
];

#[tokio::main]
async fn main() {
    println!("{:<36} {:>10} {:>10} {:>8}   median of {ROUNDS}", "backlog", "ours", "native", "ratio");
    let wanted = std::env::args().nth(1).unwrap_or_default();
    for workload in WORKLOADS.iter().filter(|workload| workload.name.contains(&wanted)) {
        let mut ours = Vec::new();
        let mut native = Vec::new();
        for _ in 0..ROUNDS {
            let (our, their) = round(workload).await;
            ours.push(our);
            native.push(their);
        }
        let (ours, native) = (median(ours), median(native));
        println!(
            "{:<36} {:>8.2} s {:>8.2} s {:>8.2}",
            workload.name,
            ours.as_secs_f64(),
            native.as_secs_f64(),
            native.as_secs_f64() / ours.as_secs_f64()
        );
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

async fn round(workload: &Workload) -> (Duration, Duration) {
    let (source, target) = tokio::try_join!(Cluster::builder().start(), Cluster::builder().start()).unwrap();
    source.create_database("app").await;
    for database in ["ours", "native"] {
        target.create_database(database).await;
        prepare(workload, &target, database).await;
    }
    prepare(workload, &source, "app").await;
    let here = source.client("app").await;
    here.batch(&format!("CREATE PUBLICATION {PUBLICATION} FOR ALL TABLES")).await;
    for slot in [SLOT, NATIVE_SLOT] {
        here.batch(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')")).await;
    }
    match &workload.load {
        Load::Sql(sql) => here.batch(sql).await,
        Load::Pgbench { transactions, .. } => {
            let each = transactions / 4;
            pgbench(&source, "app", &["-n", "-c", "4", "-j", "2", "-t", &each.to_string()]);
        }
    }
    here.batch("INSERT INTO marker VALUES (1)").await;

    let there = target.client("native").await;
    let began = Instant::now();
    there
        .batch(&format!(
            "CREATE SUBSCRIPTION bench CONNECTION '{}' PUBLICATION {PUBLICATION} WITH (create_slot = false,
                slot_name = {NATIVE_SLOT}, copy_data = false, streaming = parallel, binary = true, synchronous_commit = off)",
            source.url("app")
        ))
        .await;
    arrived(&there).await;
    let native = began.elapsed();
    there.batch("ALTER SUBSCRIPTION bench DISABLE").await;

    let ours = follow(&source, &target).await;
    let expected = digest(&here, |_| true).await;
    for database in ["ours", "native"] {
        assert_eq!(
            digest(&target.client(database).await, |_| true).await,
            expected,
            "{database} holds what the source holds"
        );
    }
    (ours, native)
}

async fn prepare(workload: &Workload, cluster: &Cluster, database: &str) {
    let client = cluster.client(database).await;
    client.batch("CREATE TABLE marker (n int PRIMARY KEY)").await;
    if let Load::Pgbench { scale, .. } = workload.load {
        pgbench(cluster, database, &["-i", "-q", "-s", &scale.to_string()]);
    }
    client.batch(workload.schema).await;
}

fn pgbench(cluster: &Cluster, database: &str, arguments: &[&str]) {
    let output =
        Command::new(Binaries::tool("pgbench").unwrap()).args(arguments).arg(cluster.url(database)).output().unwrap();
    assert!(output.status.success(), "pgbench: {}", String::from_utf8_lossy(&output.stderr));
}

async fn arrived(target: &Client) {
    target.wait_until_within(LONGEST, "SELECT count(*) FROM marker", "1").await;
}

async fn follow(source: &Cluster, target: &Cluster) -> Duration {
    let server = |url: String| Server::new(Dsn::parse(&url).unwrap());
    let second = Duration::from_secs(1);
    let job = Job {
        source: server(source.url("app")),
        destination: Destination::Postgres(server(target.url("ours"))),
        slot: SLOT.into(),
        publication: PUBLICATION.into(),
        filter: TableFilter::default(),
        schema: None,
        disable_triggers: None,
        limits: Limits { bytes: 8 << 20, changes: 20_000 },
        retry: Retry { initial: second, max: second, max_retries: Some(0), max_elapsed: None },
    };
    let (monitor, cancel) = (Arc::new(Monitor::default()), CancellationToken::new());
    let there = target.client("ours").await;
    let began = Instant::now();
    let streaming = tokio::spawn({
        let (monitor, cancel) = (Arc::clone(&monitor), cancel.clone());
        async move { stream::run(&job, &monitor, &cancel).await }
    });
    arrived(&there).await;
    let time = began.elapsed();
    cancel.cancel();
    streaming.await.unwrap().unwrap();
    time
}
