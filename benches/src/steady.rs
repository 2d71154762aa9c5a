//! How long a commit takes to be visible on the target while 500 transactions a second come in.
//!
//! Beside the load, single rows are committed one after the other; the time from the commit's answer to the row being
//! seen on the target is the latency.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use pgstream_testkit::{Binaries, Cluster};

use crate::{
    ROUNDS,
    backlog::{Load, Workload, prepare},
    followers::{Ours, prepare_native, subscription},
    report::{Section, Table},
    servers::{self, SOURCE, wait},
    usage,
};

const PROBES: usize = 1000;
/// Rows before those that count: what both sides prepare when they first see it is prepared.
const WARM_UP: usize = 300;
/// Between two looks. Of a thread: the runtime's timer counts whole milliseconds.
const LOOK: Duration = Duration::from_micros(100);
const BETWEEN: Duration = Duration::from_millis(20);
const WORKLOAD: Workload = Workload {
    name: "steady",
    schema: "CREATE TABLE probe (n int PRIMARY KEY)",
    load: Load::Pgbench { scale: 5, transactions: 0 },
};

pub async fn measure() -> Section {
    let mut table = Table::new(&["500 transactions a second", "p50", "p95", "p99", "target CPU a second"]);
    let (mut ours, mut native) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(latency(true).await);
        native.push(latency(false).await);
    }
    for (name, rounds) in [("pgstream-aws", ours), ("native subscription", native)] {
        let figure = |n: usize| crate::median(rounds.iter().map(|round| round[n]).collect());
        let milliseconds = |n| format!("{:.1} ms", figure(n) * 1e3);
        table.push(vec![
            name.to_owned(),
            milliseconds(0),
            milliseconds(1),
            milliseconds(2),
            format!("{:.2} s", figure(3)),
        ]);
    }
    Section::new("steady").with(table)
}

/// Three quantiles in seconds, and the target's CPU seconds a second.
async fn latency(ours: bool) -> [f64; 4] {
    let (source, target) = servers::pair().await;
    target.create_database("copy").await;
    prepare(&WORKLOAD, &source, SOURCE).await;
    prepare(&WORKLOAD, &target, "copy").await;
    let we = Ours::new(&source, &target, "copy", "replication", "");
    let there = target.client("copy").await;
    let running = if ours {
        we.run("init");
        Some(we.start("run"))
    } else {
        prepare_native(&source).await;
        there.batch(&subscription(&source, "create_slot = false, copy_data = false")).await;
        None
    };
    source.client(SOURCE).await.batch("INSERT INTO marker VALUES (1)").await;
    wait(&there, "SELECT count(*) FROM marker", "1").await;
    let quantiles = probe(&source, &target).await;
    if let Some(mut running) = running {
        running.stop();
    } else {
        there.batch("ALTER SUBSCRIPTION bench DISABLE").await;
    }
    quantiles
}

async fn probe(source: &Cluster, target: &Cluster) -> [f64; 4] {
    let mut load = Command::new(Binaries::tool("pgbench").unwrap())
        .args(["-n", "-c", "4", "-R", "500", "-T", "600", &source.url(SOURCE)])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (here, there) = (source.client(SOURCE).await, target.client("copy").await);
    tokio::time::sleep(Duration::from_secs(2)).await;
    // Prepared: a look should take nothing from those that are looked at.
    let seen = there.prepare("SELECT count(*) FROM probe WHERE n = $1").await.unwrap();
    let (mut began, mut cpu) = (Instant::now(), usage::cpu_of_server(target));
    let mut waits = Vec::with_capacity(PROBES);
    for n in 0..(WARM_UP + PROBES) as i32 {
        if n as usize == WARM_UP {
            waits.clear();
            (began, cpu) = (Instant::now(), usage::cpu_of_server(target));
        }
        here.batch(&format!("INSERT INTO probe VALUES ({n})")).await;
        let committed = Instant::now();
        while there.query_one(&seen, &[&n]).await.unwrap().get::<_, i64>(0) == 0 {
            std::thread::sleep(LOOK);
        }
        waits.push(committed.elapsed().as_secs_f64());
        tokio::time::sleep(BETWEEN).await;
    }
    let cpu = (usage::cpu_of_server(target) - cpu) / began.elapsed().as_secs_f64();
    load.kill().unwrap();
    load.wait().unwrap();
    waits.sort_by(f64::total_cmp);
    [waits[PROBES / 2], waits[PROBES * 95 / 100], waits[PROBES * 99 / 100], cpu]
}
