//! The binary as a user runs it: a configuration file, a process, what it prints and how it ends.

use std::{
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use pgstream_testkit::{Client, Cluster, assert_same_rows};
use serde_json::{Map, Value};
use tempfile::TempDir;

pub const SLOT: &str = "pgstream_app_slot";

/// How long a pipeline may take to be in step, with other tests beside it.
const CATCH_UP: Duration = Duration::from_secs(90);
/// How long a command may take.
const COMMAND: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// Two servers with database `app`, and a configuration of a pipeline between them.
pub struct Pipeline {
    pub source: Cluster,
    pub target: Cluster,
    settings: Value,
    environment: Vec<(String, String)>,
    directory: TempDir,
    markers: AtomicU64,
}

impl Pipeline {
    /// With `schema` on the source, and mode `snapshot_and_replication`.
    pub async fn new(schema: &str) -> Self {
        let (source, target) = pgstream_testkit::pair().await;
        Self::between(source, target, schema).await
    }

    pub async fn between(source: Cluster, target: Cluster, schema: &str) -> Self {
        let here = source.client("app").await;
        here.batch("CREATE TABLE public.marker (n bigint PRIMARY KEY)").await;
        here.batch(schema).await;
        let mut pipeline = Self {
            settings: Value::Object(Map::new()),
            environment: Vec::new(),
            directory: tempfile::tempdir().unwrap(),
            markers: AtomicU64::new(0),
            source,
            target,
        };
        pipeline.set("source.postgres.url", pipeline.source.url("app"));
        pipeline.set("source.postgres.mode", "snapshot_and_replication");
        pipeline.set("source.postgres.retry_policy.exponential.initial_interval", 100);
        pipeline.set("source.postgres.retry_policy.exponential.max_interval", 1000);
        pipeline.set("target.postgres.url", pipeline.target.url("app"));
        pipeline
    }

    /// Writes `a.b.c: value` into the configuration.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        let mut node = &mut self.settings;
        for name in key.split('.') {
            node = &mut node[name];
        }
        *node = value.into();
        self.write();
    }

    /// Gives the commands more of an environment.
    pub fn environment(&mut self, variables: Vec<(String, String)>) {
        self.environment = variables;
    }

    /// Takes `a.b` out of the configuration.
    pub fn unset(&mut self, key: &str) {
        let (parent, name) = key.rsplit_once('.').unwrap();
        let parent = self.settings.pointer_mut(&format!("/{}", parent.replace('.', "/"))).unwrap();
        parent.as_object_mut().unwrap().remove(name);
        self.write();
    }

    fn write(&self) {
        let mut yaml = String::new();
        write_yaml(&mut yaml, 0, &self.settings);
        fs::write(self.config(), yaml).unwrap();
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.directory.path().join("pipeline.yaml")
    }

    /// A file beside it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A superuser's session on the source.
    pub async fn here(&self) -> Client {
        self.source.client("app").await
    }

    /// A superuser's session on the target.
    pub async fn there(&self) -> Client {
        self.target.client("app").await
    }

    /// Runs a command with the configuration to its end.
    pub async fn pgstream(&self, arguments: &[&str]) -> Done {
        self.start(arguments).done().await
    }

    /// Starts `run`.
    pub fn run(&self) -> Replicator {
        self.start(&["run"])
    }

    /// Starts a command with the configuration.
    pub fn start(&self, arguments: &[&str]) -> Replicator {
        let config = self.config();
        Replicator::start_in(&[arguments, &["-c", config.to_str().unwrap()]].concat(), self.environment.clone())
    }

    /// Waits until the copy is complete and everything that is committed on the source now is on the target.
    pub async fn caught_up(&self, replicator: &mut Replicator) {
        // The first marker may have come with the copy; the second one can only come by the stream.
        self.marker_arrives(replicator).await;
        self.marker_arrives(replicator).await;
    }

    async fn marker_arrives(&self, replicator: &mut Replicator) {
        let n = self.markers.fetch_add(1, Ordering::Relaxed);
        self.here().await.batch(&format!("INSERT INTO public.marker VALUES ({n})")).await;
        let sql = format!("SELECT n FROM public.marker WHERE n = {n}");
        self.on_target(replicator, &sql, |found| found == n.to_string()).await;
    }

    /// Asks the target until the answer is right; a target that is down, or has no such table yet, gives none.
    pub async fn on_target(&self, replicator: &mut Replicator, sql: &str, right: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + CATCH_UP;
        loop {
            if let Ok(there) = self.target.try_client("app").await {
                while let Ok(messages) = there.simple_query(sql).await {
                    let found = messages.into_iter().find_map(|message| match message {
                        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                        _ => None,
                    });
                    if found.is_some_and(|found| right(&found)) {
                        return;
                    }
                    replicator.assert_running();
                    assert!(Instant::now() < deadline, "not in {CATCH_UP:?}: {sql}\n{}", replicator.stderr());
                    tokio::time::sleep(POLL).await;
                }
            }
            replicator.assert_running();
            assert!(Instant::now() < deadline, "not in {CATCH_UP:?}: {sql}\n{}", replicator.stderr());
            tokio::time::sleep(POLL).await;
        }
    }

    pub async fn assert_same_rows(&self) {
        assert_same_rows(&self.source, &self.target, "app").await;
    }

    /// Which part of which table was copied when: what changes when something is copied again.
    pub async fn copied(&self) -> String {
        let ledger = "SELECT string_agg(l::text, E'\\n' ORDER BY l::text) FROM pgstream.snapshot_ledger l";
        self.there().await.text(ledger).await.unwrap()
    }
}

/// Block style, as people write it.
fn write_yaml(yaml: &mut String, depth: usize, node: &Value) {
    let Value::Object(entries) = node else { unreachable!("the settings are sections") };
    for (name, value) in entries {
        let indent = "  ".repeat(depth);
        match value {
            Value::Object(section) if !section.is_empty() => {
                yaml.push_str(&format!("{indent}{name}:\n"));
                write_yaml(yaml, depth + 1, value);
            }
            value => yaml.push_str(&format!("{indent}{name}: {value}\n")),
        }
    }
}

/// Runs a command without a configuration file to its end.
pub async fn pgstream(arguments: &[&str]) -> Done {
    Replicator::start(arguments).done().await
}

/// A command that has ended.
pub struct Done {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
    pub took: Duration,
}

impl std::fmt::Debug for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {:?}\n--- stdout\n{}\n--- stderr\n{}", self.code, self.out, self.err)
    }
}

impl Done {
    /// It succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.ends(0)
    }

    /// It ended with this exit code.
    #[track_caller]
    pub fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// It said all of this on standard error.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        for words in words {
            assert!(self.err.contains(words), "not said: {words}\n--- stderr\n{}", self.err);
        }
        self
    }

    /// It printed all of this on standard output.
    #[track_caller]
    pub fn prints(self, words: &[&str]) -> Self {
        for words in words {
            assert!(self.out.contains(words), "not printed: {words}\n--- stdout\n{}", self.out);
        }
        self
    }

    /// Its report, printed with `--json`.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}\n{}\n{}", self.out, self.err))
    }
}

/// A running command; killed when dropped.
pub struct Replicator {
    child: Child,
    output: TempDir,
    ended: Option<ExitStatus>,
    started: Instant,
}

impl Replicator {
    /// Starts a command without a terminal, with nothing in its environment but the way to the client tools.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_in(arguments, Vec::<(&str, &str)>::new())
    }

    /// [`Replicator::start`] with more in its environment.
    pub fn start_in<N: AsRef<OsStr>, V: AsRef<OsStr>>(arguments: &[&str], environment: Vec<(N, V)>) -> Self {
        let output = tempfile::tempdir().unwrap();
        let file = |name: &str| File::create(output.path().join(name)).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_pgstream-aws"))
            .args(arguments)
            .env_clear()
            .env("PATH", pgstream_testkit::tools_path().unwrap())
            .env("HOME", output.path())
            // A guarantee that is broken on purpose (crates/engine/src/mutants.rs).
            .envs(std::env::var_os("PGSTREAM_MUTANT").map(|name| ("PGSTREAM_MUTANT", name)))
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(file("out"))
            .stderr(file("err"))
            .spawn()
            .unwrap();
        Self { child, output, ended: None, started: Instant::now() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn stdout(&self) -> String {
        read(self.output.path(), "out")
    }

    pub fn stderr(&self) -> String {
        read(self.output.path(), "err")
    }

    /// Its exit status once it has ended.
    pub fn poll(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().unwrap();
        }
        self.ended
    }

    #[track_caller]
    pub fn assert_running(&mut self) {
        if let Some(status) = self.poll() {
            panic!("it ended with {status}\n{}", self.stderr());
        }
    }

    /// Waits until standard error holds this.
    pub async fn says(&mut self, words: &str) {
        let deadline = Instant::now() + CATCH_UP;
        while !self.stderr().contains(words) {
            self.assert_running();
            assert!(Instant::now() < deadline, "not said in {CATCH_UP:?}: {words}\n{}", self.stderr());
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until standard output holds this.
    pub async fn prints(&mut self, words: &str) {
        let deadline = Instant::now() + CATCH_UP;
        while !self.stdout().contains(words) {
            self.assert_running();
            assert!(Instant::now() < deadline, "not printed in {CATCH_UP:?}: {words}\n{}", self.stdout());
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until standard error holds this twice more than now.
    pub async fn says_again(&mut self, words: &str) {
        let said = |running: &Self| running.stderr().matches(words).count();
        let enough = said(self) + 2;
        let deadline = Instant::now() + CATCH_UP;
        while said(self) < enough {
            self.assert_running();
            assert!(Instant::now() < deadline, "not said again in {CATCH_UP:?}: {words}\n{}", self.stderr());
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until it has ended by itself.
    pub async fn done(mut self) -> Done {
        let deadline = Instant::now() + COMMAND;
        let status = loop {
            if let Some(status) = self.poll() {
                break status;
            }
            assert!(Instant::now() < deadline, "still running after {COMMAND:?}\n{}", self.stderr());
            tokio::time::sleep(POLL / 2).await;
        };
        Done { code: status.code(), out: self.stdout(), err: self.stderr(), took: self.started.elapsed() }
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    pub async fn stop(mut self) -> Done {
        self.assert_running();
        let asked = Command::new("kill").arg(self.pid().to_string()).status().unwrap();
        assert!(asked.success());
        self.started = Instant::now();
        self.done().await
    }

    /// Kills it as a power cut would.
    #[track_caller]
    pub fn kill9(mut self) {
        self.assert_running();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Replicator {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- stderr of the replicator\n{}", self.stderr());
        }
        if self.ended.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn read(directory: &Path, name: &str) -> String {
    String::from_utf8_lossy(&fs::read(directory.join(name)).unwrap_or_default()).into_owned()
}
