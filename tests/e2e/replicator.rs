//! The binary as a user runs it.

use std::{
    path::PathBuf,
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use pgstream_testkit::{Client, Cluster, tools_path};

pub const BINARY: &str = env!("CARGO_BIN_EXE_pgstream-aws");

/// A command of the binary with the client tools in reach and nothing of ours in its environment.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(arguments).env("PATH", tools_path().unwrap()).env_remove("PGSTREAM_CONFIG").env("NO_COLOR", "1");
    command
}

/// Runs a command to its end.
pub fn pgstream(arguments: &[&str]) -> Output {
    command(arguments).stdin(Stdio::null()).output().unwrap()
}

/// Runs a command that must succeed; returns what it printed.
pub fn succeeds(arguments: &[&str]) -> String {
    let output = pgstream(arguments);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{arguments:?} ended with {}\n{out}\n{err}", output.status);
    out
}

/// Runs a command that must fail with this exit code; returns what it said on standard error.
pub fn fails(code: i32, arguments: &[&str]) -> String {
    let output = pgstream(arguments);
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{}\n{err}", text(&output.stdout));
    err
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A configuration in a directory of its own.
pub struct Config {
    directory: tempfile::TempDir,
}

impl Config {
    /// A configuration for two databases; `source` and `target` go below `source.postgres` and `target.postgres`.
    pub fn new(source_url: &str, target_url: &str, source: &str, target: &str) -> Self {
        let indent = |text: &str| text.lines().map(|line| format!("    {line}\n")).collect::<String>();
        Self::raw(&format!(
            "source:\n  postgres:\n    url: {source_url}\n{}target:\n  postgres:\n    url: {target_url}\n{}",
            indent(source),
            indent(target)
        ))
    }

    pub fn raw(yaml: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("config.yaml"), yaml).unwrap();
        Self { directory }
    }

    pub fn path(&self) -> String {
        self.directory.path().join("config.yaml").display().to_string()
    }

    pub fn log(&self) -> PathBuf {
        self.directory.path().join("replicator.log")
    }
}

/// A running `pgstream-aws run`; ended when dropped.
pub struct Replicator {
    child: Child,
    log: PathBuf,
}

impl Replicator {
    pub fn run(config: &Config) -> Self {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(config.log()).unwrap();
        let child = command(&["run", "-c", &config.path()])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, log: config.log() }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn assert_running(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("the replicator ended with {status}:\n{}", self.log());
        }
    }

    pub fn kill9(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; returns how it ended and after how long.
    pub fn stop(mut self) -> (ExitStatus, Duration) {
        let began = Instant::now();
        let sent = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
        (self.child.wait().unwrap(), began.elapsed())
    }

    /// Waits for it to end by itself.
    pub async fn ends(&mut self) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "still running:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Replicator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The table whose rows say how far the target is; create it with the others.
pub const MARKER: &str = "CREATE TABLE public.marker (n bigserial PRIMARY KEY);";

/// Waits until all that is committed on the source is on the target.
pub async fn caught_up(source: &Client, target: &Client) {
    let n: i64 = source.scalar("INSERT INTO public.marker DEFAULT VALUES RETURNING n").await;
    let arrived = format!("SELECT count(*) FROM public.marker WHERE n = {n}");
    target.wait_until_within(Duration::from_secs(60), &arrived, "1").await;
}

/// Waits until the copy on the target is complete.
pub async fn copied(target: &Client, replicator: &Replicator) {
    let copying = copy_completes(target);
    let limit = Duration::from_secs(50);
    if tokio::time::timeout(limit, copying).await.is_err() {
        panic!("not copied within {limit:?}:\n{}", replicator.log());
    }
}

async fn copy_completes(target: &Client) {
    target
        .wait_until_within(Duration::from_secs(60), "SELECT to_regclass('pgstream.snapshot_steps') IS NOT NULL", "t")
        .await;
    let complete = "SELECT count(*) FROM pgstream.snapshot_steps WHERE step = 'complete'";
    target.wait_until_within(Duration::from_secs(60), complete, "1").await;
}

/// Both databases called `app`, copied and then followed.
pub fn both(source: &Cluster, target: &Cluster) -> Config {
    let retry =
        "mode: snapshot_and_replication\nretry_policy: {exponential: {initial_interval: 100, max_interval: 1000}}";
    Config::new(&source.url("app"), &target.url("app"), retry, "")
}
