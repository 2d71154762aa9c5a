//! How long a commit takes to be visible on the target while 500 transactions a second come in.
//!
//! Beside the load, single rows are committed one after the other. When each was committed on either side is read from the
//! WAL afterwards, as `pg_waldump` shows it: looking while it happens takes CPU time from what is looked at.

use std::{
    collections::HashMap,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use pgstream_testkit::{Binaries, Client, Cluster};

use crate::{
    ROUNDS,
    backlog::{Load, Workload, prepare},
    followers::{Ours, prepare_native, subscription},
    report::{Section, Table},
    servers::{self, SOURCE, wait},
    usage,
};

const PROBES: usize = 2000;
/// Rows before those that count: what both sides prepare when they first see it is prepared.
const WARM_UP: usize = 400;
const BETWEEN: Duration = Duration::from_millis(10);
/// In the WAL's text form.
const SECONDS_A_DAY: f64 = 86_400.0;
const WORKLOAD: Workload = Workload {
    name: "steady",
    schema: "CREATE TABLE probe (n int PRIMARY KEY)",
    load: Load::Pgbench { scale: 5, transactions: 0 },
};

/// What a commit on the source waits for.
#[derive(Clone, Copy)]
enum Commits {
    /// The disk: `fsync = on`.
    Durable,
    Volatile,
}

pub async fn measure() -> Section {
    let mut table = Table::new(&["servers", "follower", "p50", "p95", "p99", "p99 of native's", "target CPU a second"]);
    for (servers, commits) in [("`fsync = on`", Commits::Durable), ("`fsync = off`", Commits::Volatile)] {
        let (mut ours, mut native) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(latency(commits, true).await);
            native.push(latency(commits, false).await);
        }
        let median = |rounds: &[[f64; 4]]| [0, 1, 2, 3].map(|n| crate::median(rounds.iter().map(|r| r[n]).collect()));
        let (ours, native) = (median(&ours), median(&native));
        for (follower, figures) in [("pgstream-aws", ours), ("native subscription", native)] {
            let [p50, p95, p99, cpu] = figures;
            let milliseconds = |seconds: f64| format!("{:.2} ms", seconds * 1e3);
            table.push(vec![
                servers.to_owned(),
                follower.to_owned(),
                milliseconds(p50),
                milliseconds(p95),
                milliseconds(p99),
                format!("{:.2}", p99 / native[2]),
                format!("{cpu:.2} s"),
            ]);
        }
    }
    Section::new("steady").with(table)
}

/// Three quantiles in seconds, and the target's CPU seconds a second.
async fn latency(commits: Commits, ours: bool) -> [f64; 4] {
    let (source, target) = match commits {
        Commits::Durable => servers::durable_pair().await,
        Commits::Volatile => servers::pair().await,
    };
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
    println!("  {quantiles:.6?}");
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
    let (from, to) = (insert_position(&here).await, insert_position(&there).await);
    let (mut began, mut cpu) = (Instant::now(), usage::cpu_of_server(target));
    for n in 0..WARM_UP + PROBES {
        if n == WARM_UP {
            (began, cpu) = (Instant::now(), usage::cpu_of_server(target));
        }
        here.batch(&format!("INSERT INTO probe VALUES ({n})")).await;
        tokio::time::sleep(BETWEEN).await;
    }
    let cpu = (usage::cpu_of_server(target) - cpu) / began.elapsed().as_secs_f64();
    load.kill().unwrap();
    load.wait().unwrap();
    wait(&there, "SELECT count(*) FROM probe", &(WARM_UP + PROBES).to_string()).await;
    let (committed, visible) = (commits(source, &here, &from).await, commits(target, &there, &to).await);
    let mut waits: Vec<f64> = committed.iter().map(|(n, time)| (visible[n] - time).rem_euclid(SECONDS_A_DAY)).collect();
    assert_eq!(waits.len(), PROBES, "all of them are in the WAL");
    waits.sort_by(f64::total_cmp);
    [waits[PROBES / 2], waits[PROBES * 95 / 100], waits[PROBES * 99 / 100], cpu]
}

async fn insert_position(client: &Client) -> String {
    client.text("SELECT pg_current_wal_insert_lsn()::text").await.unwrap()
}

/// When each row that counts was committed, in seconds of the day.
async fn commits(server: &Cluster, client: &Client, from: &str) -> HashMap<i32, f64> {
    let rows = client.query(&format!("SELECT n, xmin::text FROM probe WHERE n >= {WARM_UP}")).await;
    // What is not flushed is not in the files, of which the last one ends with an error: there is no record yet.
    client.batch("SELECT pg_switch_wal()").await;
    let dump = Command::new(Binaries::tool("pg_waldump").unwrap())
        .env("TZ", "UTC")
        .args(["--rmgr=Transaction", "--start", from, "--path"])
        .arg(server.data_dir().join("pg_wal"))
        .output()
        .unwrap();
    let dump = String::from_utf8(dump.stdout).unwrap();
    let times: HashMap<&str, f64> = dump.lines().filter_map(commit).collect();
    rows.iter().map(|row| (row.get(0), times[row.get::<_, &str>(1)])).collect()
}

/// Transaction id and time of `rmgr: Transaction … tx: 747, lsn: … desc: COMMIT 2026-12-01 06:15:00.123456 UTC; …`.
fn commit(line: &str) -> Option<(&str, f64)> {
    let (_, rest) = line.split_once("tx:")?;
    let (xid, rest) = rest.split_once(',')?;
    let (_, time) = rest.split_once("COMMIT ")?;
    let mut clock = time.split(' ').nth(1)?.split(':').map(|part| part.parse::<f64>().ok());
    let (hours, minutes, seconds) = (clock.next()??, clock.next()??, clock.next()??);
    Some((xid.trim(), hours * 3600.0 + minutes * 60.0 + seconds))
}
