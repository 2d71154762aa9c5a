//! The story, chapter by chapter.

use std::{
    fs,
    time::{Duration, Instant},
};

use indicatif::HumanBytes;
use pgstream_testkit::{Binaries, assert_sequences_not_behind, digest};
use tempfile::TempDir;

use crate::{
    account::{Account, DATABASE, Logins},
    load::Load,
    page::{chapter, say, typed},
    pgstream::{Replicator, Shell, binary},
    proof::{Times, compare},
    stack::Stack,
    watch::Watch,
};

const CUSTOMERS: u64 = 4;
const UNDER_LOAD: Duration = Duration::from_secs(8);
const DOWN: Duration = Duration::from_secs(2);

/// What is there at the end of the story; dropping it ends it. The replicator goes before its servers.
pub struct Running {
    replicator: Replicator,
    shell: Shell,
    account: Account,
    pub times: Times,
    _directory: TempDir,
}

/// Tells it.
pub async fn tell() -> Result<Running, String> {
    let (started, mut times) = (Instant::now(), Times::default());
    let directory = tempfile::tempdir().map_err(|e| e.to_string())?;
    let (account, logins) = open(&mut times).await?;
    let shell = account.shell(directory.path())?;

    chapter("What is in the way");
    show_configuration();
    shell.run("check -c shop.yaml", 1).await?;
    provision(&shell, &mut times).await?;

    chapter("Prepare the source");
    shell.run("init -c shop.yaml", 0).await?;
    chapter("The infrastructure: roles, tasks, Lambda, alarms, state machine");
    Stack::deploy(&account, &logins).await?;
    let stack = Stack::new(&account);
    let replicator = replicate(&account, &shell, &stack, &mut times).await?;

    chapter("The state of things");
    shell.run("status -c shop.yaml", 0).await?;
    let replicator = hand_over(replicator, &shell, &stack).await?;

    chapter("The slot, as the monitor sees it");
    shell.run("monitor -c shop.yaml", 0).await?;
    chapter("The alarm looks at the last minute: it falls silent when the crash is older");
    times.alarm = stack.falls_silent().await?;
    chapter("What the Lambda has published, read back from CloudWatch");
    stack.show_metrics().await;
    times.total = started.elapsed();
    Ok(Running { replicator, shell, account, times, _directory: directory })
}

/// What was typed ends; the state machine starts it again, as the service of the stack.
async fn hand_over(replicator: Replicator, shell: &Shell, stack: &Stack<'_>) -> Result<Replicator, String> {
    chapter("From this shell to Fargate: the state machine takes over");
    typed(&format!("kill {}", replicator.pid().unwrap_or_default()));
    replicator.stop().await?;
    say("it finished what it was in; the slot keeps its place");
    stack.run_state_machine(shell).await
}

async fn open(times: &mut Times) -> Result<(Account, Logins), String> {
    chapter("An AWS account on this machine");
    say("starting ministack (AWS but for RDS), rds-sim (RDS) and two PostgreSQL servers");
    let account = Account::open().await?;
    let (source, target) = (account.source.cluster(), account.target.cluster());
    say(&format!("RDS      instance shop      PostgreSQL {} on port {}", source.major(), source.port()));
    say(&format!("RDS      instance shop-new  PostgreSQL {} on port {}", target.major(), target.port()));
    let logins = account.store_secrets().await?;
    say("Secrets  shop/source        host, port, database, user and password");
    say("Secrets  shop-new/master    user and password, as RDS keeps those of a master user");
    say("Secrets  shop/target        all of it, for tasks of Fargate");
    for (name, value) in account.environment() {
        typed(&format!("export {name}={value}"));
    }
    say("filling shop");
    let shop = account.shop().await?;
    let began = Instant::now();
    shop.batch(include_str!("shop.sql")).await;
    let held = digest(&shop, |_| true).await;
    times.rows = held.values().map(|(rows, _)| rows.unsigned_abs()).sum();
    let bytes = shop.scalar::<i64>("SELECT pg_database_size(current_database())").await.unsigned_abs();
    let wal_level = shop.text("SHOW wal_level").await.unwrap_or_default();
    say(&format!(
        "{} tables, {} rows, {}, in {:.1?}; wal_level is {wal_level}, as RDS makes a database",
        held.len(),
        times.rows,
        HumanBytes(bytes),
        began.elapsed()
    ));
    Ok((account, logins))
}

fn show_configuration() {
    typed("cat shop.yaml");
    print!("{}", include_str!("shop.yaml"));
}

async fn provision(shell: &Shell, times: &mut Times) -> Result<(), String> {
    chapter("Provision: what would be done");
    shell.run("provision plan shop -c shop.yaml", 0).await?;
    chapter("Provision: do it (the server restarts)");
    let began = Instant::now();
    shell.run_steps("provision apply shop -c shop.yaml --yes").await?;
    times.provision = began.elapsed();
    chapter("Provision: is it done?");
    shell.run("provision verify shop -c shop.yaml", 0).await
}

/// Copies, follows, is killed, comes back, and is equal.
async fn replicate(
    account: &Account,
    shell: &Shell,
    stack: &Stack<'_>,
    times: &mut Times,
) -> Result<Replicator, String> {
    chapter("Copy, then follow, while customers keep writing");
    let mut load = Load::start(&account.url(), CUSTOMERS).await.map_err(|e| e.to_string())?;
    let source = &account.source.cluster().client(DATABASE).await;
    let target = &account.target.cluster().client(DATABASE).await;
    let watch = Watch { source, target, load: &load };
    let copying = Instant::now();
    let mut replicator = shell.replicate()?;
    watch.copy(&mut replicator).await?;
    times.copy = copying.elapsed();
    say(&format!("copied in {:.1?}", times.copy));
    watch.follow(&mut replicator, UNDER_LOAD).await?;

    chapter("kill -9, and again");
    replicator.kill9().await?;
    say("the replicator is gone; customers keep writing; the alarm on lag must ring");
    stack.rings().await?;
    let restarted = Instant::now();
    let mut replicator = shell.replicate()?;
    watch.catch_up(&mut replicator, "it is back").await?;
    times.recovery = restarted.elapsed();
    say(&format!("back in step {:.1?} after the restart", times.recovery));
    watch.follow(&mut replicator, DOWN).await?;

    chapter("The customers leave; the proof");
    let stopping = Instant::now();
    times.streamed = load.stop().await?;
    let watch = Watch { source, target, load: &load };
    watch.catch_up(&mut replicator, "the customers have left").await?;
    times.catch_up = stopping.elapsed();
    let (left, right) = tokio::join!(digest(source, |_| true), digest(target, |_| true));
    compare(&left, &right)?;
    Ok(replicator)
}

impl Running {
    /// How to look around.
    pub fn explain(&self) -> Result<(), String> {
        chapter("Everything is still running");
        let passwords = self.write_passwords()?;
        for (name, value) in self.account.environment() {
            say(&format!("export {name}={value}"));
        }
        let tools = Binaries::tool("psql").map_err(|e| e.to_string())?;
        let directories = [binary()?, tools].map(|file| file.parent().map(|dir| dir.display().to_string()));
        let [ours, tools] = directories.map(Option::unwrap_or_default);
        say("unset AWS_PROFILE");
        say(&format!("export PATH=\"{ours}:{tools}:$PATH\""));
        say(&format!("export PGPASSFILE={passwords}"));
        say(&format!("export PGSTREAM_CONFIG={}", self.shell.file("shop.yaml").display()));
        println!();
        for (what, database) in [("source", &self.account.source), ("target", &self.account.target)] {
            let (user, port) = (database.user(), database.port());
            say(&format!("{what}: psql postgresql://{user}@127.0.0.1:{port}/{DATABASE}"));
        }
        let pid = self.replicator.pid().unwrap_or_default();
        say(&format!("replicator: process {pid}, log {}", self.replicator.log().display()));
        println!();
        say("pgstream-aws status");
        say(&format!("kill {pid}; pgstream-aws destroy; pgstream-aws provision rollback shop"));
        println!();
        say("Ctrl-C ends it all.");
        Ok(())
    }

    /// A passfile, so that passwords need not be shown.
    fn write_passwords(&self) -> Result<String, String> {
        use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
        let path = self.shell.file("pgpass");
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        for database in [&self.account.source, &self.account.target] {
            let line = format!("127.0.0.1:{}:*:{}:{}\n", database.port(), database.user(), database.password());
            file = file.and_then(|mut file| file.write_all(line.as_bytes()).map(|()| file));
        }
        file.map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(path.display().to_string())
    }

    /// Ends everything, in order, and looks at what only the end brings.
    pub async fn end(self) -> Result<(), String> {
        typed(&format!("kill {}", self.replicator.pid().unwrap_or_default()));
        self.replicator.stop().await?;
        let (source, target) = (self.account.source.cluster(), self.account.target.cluster());
        assert_sequences_not_behind(source, target, DATABASE).await;
        say("the replicator finished what it was in and ended with exit code 0; sequences are not behind");
        Ok(())
    }
}
