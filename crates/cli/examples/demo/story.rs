//! The story, step by step.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use console::style;
use indicatif::HumanBytes;
use pgstream_testkit::{Client, Cluster, TableDigest, assert_sequences_not_behind, digest};

use crate::{
    load::Load,
    replicator::{Replicator, show},
};

const CUSTOMERS: u64 = 4;
const UNDER_LOAD: Duration = Duration::from_secs(8);
const PATIENCE: Duration = Duration::from_secs(60);

type Result<T> = std::result::Result<T, String>;

/// What the summary says.
#[derive(Default)]
struct Times {
    rows: u64,
    bytes: u64,
    copy: Duration,
    streamed: u64,
    recovery: Duration,
    catch_up: Duration,
}

/// Tells it; `keep` leaves servers and replicator running.
pub async fn tell(keep: bool) -> Result<()> {
    let started = Instant::now();
    let mut times = Times::default();
    chapter("Two PostgreSQL servers");
    let (source, target) = servers().await?;
    let shop = source.client("shop").await;
    let began = Instant::now();
    shop.batch(include_str!("shop.sql")).await;
    shop.batch("CREATE TABLE public.demo_marker (n bigint PRIMARY KEY)").await;
    let held = digest(&shop, |_| true).await;
    times.rows = held.values().map(|(rows, _)| rows.unsigned_abs()).sum();
    times.bytes = shop.scalar::<i64>("SELECT pg_database_size('shop')").await.unsigned_abs();
    say(&format!(
        "shop on the source: {} tables, {} rows, {} in {:.1?}",
        held.len(),
        times.rows,
        HumanBytes(times.bytes),
        began.elapsed()
    ));

    chapter("pgstream-aws init");
    let files = Files::create(&source, &target)?;
    let config = files.config.to_string_lossy().into_owned();
    show(&["init", "-c", &config]).await?;

    chapter("pgstream-aws run: copy, then follow, while customers keep writing");
    let load = Load::start(&source.url("shop"), CUSTOMERS).await.map_err(|e| e.to_string())?;
    let copying = Instant::now();
    let mut replicator = Replicator::start(&files.config, &files.log)?;
    let followed = async {
        let copy = target.client("shop").await;
        watch(&mut replicator, &source, &copy, &load, "copying", || copied(&copy)).await?;
        times.copy = copying.elapsed();
        say(&format!("copied in {:.1?}; following", times.copy));
        let until = Instant::now() + UNDER_LOAD;
        watch(&mut replicator, &source, &copy, &load, "following", || async { Ok(Instant::now() >= until) }).await
    };
    followed.await.map_err(|e| files.explain(&e))?;

    chapter("kill -9, and again");
    replicator.kill9().await?;
    say("the replicator is gone; customers keep writing for 2 seconds");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let restarted = Instant::now();
    let mut replicator = Replicator::start(&files.config, &files.log)?;
    let copy = target.client("shop").await;
    let marker = mark(&shop, 1).await;
    watch(&mut replicator, &source, &copy, &load, "catching up", || arrived(&copy, marker))
        .await
        .map_err(|e| files.explain(&e))?;
    times.recovery = restarted.elapsed();
    say(&format!("back in step {:.1?} after the restart", times.recovery));

    chapter("The proof");
    let stopping = Instant::now();
    times.streamed = load.stop().await;
    let marker = mark(&shop, 2).await;
    wait(|| arrived(&copy, marker)).await.map_err(|e| files.explain(&e))?;
    times.catch_up = stopping.elapsed();
    let (left, right) = tokio::join!(digest(&shop, |_| true), digest(&copy, |_| true));
    compare(&left, &right)?;
    show(&["status", "-c", &config]).await?;
    if keep {
        say(&format!("source: {}", source.url("shop")));
        say(&format!("target: {}", target.url("shop")));
        say(&format!("configuration: {config}"));
        say(&format!("replicator: process {}, log {}", replicator.keep().unwrap_or_default(), files.log.display()));
        say("Press Ctrl-C to end it all.");
        tokio::signal::ctrl_c().await.map_err(|e| e.to_string())?;
    }
    replicator.stop().await.map_err(|e| files.explain(&e))?;
    assert_sequences_not_behind(&source, &target, "shop").await;
    say("replicator stopped (SIGTERM, exit 0); sequences are not behind");
    summary(&times, started.elapsed());
    Ok(())
}

async fn servers() -> Result<(Cluster, Cluster)> {
    let (source, target) =
        tokio::try_join!(Cluster::builder().start(), Cluster::builder().start()).map_err(|e| e.to_string())?;
    source.create_database("shop").await;
    target.create_database("shop").await;
    say(&format!("source: PostgreSQL {} on port {}", source.major(), source.port()));
    say(&format!("target: PostgreSQL {} on port {}", target.major(), target.port()));
    Ok((source, target))
}

/// The configuration and the log of the replicator.
struct Files {
    config: PathBuf,
    log: PathBuf,
    _directory: tempfile::TempDir,
}

impl Files {
    fn create(source: &Cluster, target: &Cluster) -> Result<Self> {
        let directory = tempfile::tempdir().map_err(|e| e.to_string())?;
        let config = directory.path().join("shop.yaml");
        let yaml = format!(
            "source:\n  postgres:\n    url: {}\n    mode: snapshot_and_replication\n    snapshot:\n      mode: full\n\
             target:\n  postgres:\n    url: {}\n",
            source.url("shop"),
            target.url("shop")
        );
        std::fs::write(&config, yaml).map_err(|e| e.to_string())?;
        Ok(Self { config, log: directory.path().join("replicator.log"), _directory: directory })
    }

    /// A failure, with the last lines of the replicator's log.
    fn explain(&self, problem: &str) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(15)..];
        format!("{problem}\n\nThe last lines of its log:\n{}", tail.join("\n"))
    }
}

/// Shows a line a second until `done`.
async fn watch<F>(
    replicator: &mut Replicator,
    source: &Cluster,
    target: &Client,
    load: &Load,
    what: &str,
    done: impl Fn() -> F,
) -> Result<()>
where
    F: Future<Output = Result<bool>>,
{
    let source = source.client("shop").await;
    let (began, mut shown) = (Instant::now(), Instant::now());
    loop {
        if done().await? {
            return Ok(());
        }
        replicator.check()?;
        if began.elapsed() > PATIENCE {
            return Err(format!("{what} took more than {PATIENCE:?}"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        if shown.elapsed() >= Duration::from_secs(1) {
            shown = Instant::now();
            let end: i64 = source.scalar("SELECT (pg_current_wal_lsn() - '0/0')::int8").await;
            let lag = applied(target).await.map(|at| HumanBytes(end.saturating_sub(at).unsigned_abs()).to_string());
            say(&format!(
                "{what}: {} transactions committed on the source, lag {}",
                load.committed(),
                lag.as_deref().unwrap_or("-")
            ));
        }
    }
}

async fn wait<F: Future<Output = Result<bool>>>(done: impl Fn() -> F) -> Result<()> {
    let began = Instant::now();
    while !done().await? {
        if began.elapsed() > PATIENCE {
            return Err(format!("nothing arrived for {PATIENCE:?}"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Where the target stands, in bytes of the source's WAL.
async fn applied(target: &Client) -> Option<i64> {
    let sql = "SELECT (commit_end_lsn - '0/0')::int8 FROM pgstream.apply_progress";
    target.query_opt(sql, &[]).await.ok().flatten().map(|row| row.get(0))
}

async fn copied(target: &Client) -> Result<bool> {
    let sql = "SELECT 1 FROM pgstream.snapshot_steps WHERE step = 'complete'";
    Ok(target.query_opt(sql, &[]).await.ok().flatten().is_some())
}

/// A row after everything committed so far; when it is on the target, so is all before it.
async fn mark(shop: &Client, n: i64) -> i64 {
    shop.batch(&format!("INSERT INTO public.demo_marker VALUES ({n})")).await;
    n
}

async fn arrived(target: &Client, marker: i64) -> Result<bool> {
    let row = target.query_opt("SELECT 1 FROM public.demo_marker WHERE n = $1", &[&marker]).await;
    Ok(row.map_err(|e| e.to_string())?.is_some())
}

fn compare(source: &BTreeMap<String, TableDigest>, target: &BTreeMap<String, TableDigest>) -> Result<()> {
    let mut wrong = String::new();
    for (table, left) in source {
        let same = target.get(table) == Some(left);
        let mark = if same { style("equal").green() } else { style("DIFFERENT").red() };
        say(&format!("{table:<28} {:>9} rows  {mark}", left.0));
        if !same {
            let _ = writeln!(wrong, "{table}: {left:?} against {:?}", target.get(table));
        }
    }
    if wrong.is_empty() && source.len() == target.len() {
        Ok(())
    } else {
        Err(format!("the two sides differ:\n{wrong}"))
    }
}

fn summary(times: &Times, total: Duration) {
    let rate = times.rows as f64 / times.copy.as_secs_f64();
    println!();
    println!("{}", style("Summary").bold());
    println!("  copied     {:>9} rows in {:.1?} ({rate:.0} rows/s, indexes and keys included)", times.rows, times.copy);
    println!("  streamed   {:>9} transactions while it ran", times.streamed);
    println!("  recovered  in {:.1?} from kill -9, with customers writing", times.recovery);
    println!("  caught up  {:.1?} after the last customer left; every table equal", times.catch_up);
    println!("  in all     {total:.1?}");
}

fn chapter(title: &str) {
    println!("\n{}", style(title).bold().cyan());
}

fn say(line: &str) {
    println!("  {line}");
}
