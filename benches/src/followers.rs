//! Who brings changes over: this tool as a process, or the server's own subscription at its best settings.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use pgstream_testkit::{Cluster, tools_path};
use tempfile::TempDir;

use crate::{
    servers::{self, SOURCE, wait},
    usage,
};

const SLOT: &str = "bench_native";
const PUBLICATION: &str = "bench_native";

/// The share of one core that others may use before it is said.
const BUSY: f64 = 0.1;

/// What one piece of work took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    pub seconds: f64,
    pub source_cpu: f64,
    pub target_cpu: f64,
    /// Of the process that does the work; a subscription works inside the servers.
    pub own_cpu: f64,
    pub memory: f64,
}

impl Cost {
    /// The median of each figure.
    pub fn median(rounds: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| crate::median(rounds.iter().map(figure).collect());
        Self {
            seconds: of(|cost| cost.seconds),
            source_cpu: of(|cost| cost.source_cpu),
            target_cpu: of(|cost| cost.target_cpu),
            own_cpu: of(|cost| cost.own_cpu),
            memory: of(|cost| cost.memory),
        }
    }
}

/// Measures from its making to its end.
pub struct Meter<'a> {
    servers: [&'a Cluster; 2],
    began: Instant,
    cpu: [f64; 2],
    others: f64,
}

impl<'a> Meter<'a> {
    pub fn start(source: &'a Cluster, target: &'a Cluster) -> Self {
        let servers = [source, target];
        let cpu = servers.map(usage::cpu_of_server);
        Self { servers, cpu, others: usage::cpu_of_machine() - usage::cpu_of_us(), began: Instant::now() }
    }

    pub fn stop(self) -> Cost {
        self.stop_without(0.0)
    }

    /// Adds what a process used.
    pub fn stop_with(self, process: &Running) -> Cost {
        let pid = process.child.id();
        let own_cpu = usage::cpu_of(pid);
        Cost { own_cpu, memory: usage::peak_memory_of(pid), ..self.stop_without(own_cpu) }
    }

    /// `own_cpu` is of a process that still runs; those that have ended are known.
    fn stop_without(self, own_cpu: f64) -> Cost {
        let seconds = self.began.elapsed().as_secs_f64();
        let now = self.servers.map(usage::cpu_of_server);
        let cost =
            Cost { seconds, source_cpu: now[0] - self.cpu[0], target_cpu: now[1] - self.cpu[1], ..Cost::default() };
        let others = usage::cpu_of_machine() - usage::cpu_of_us() - self.others;
        let others = others - cost.source_cpu - cost.target_cpu - own_cpu;
        if others > seconds * BUSY {
            eprintln!("  other programs used {others:.2} s of CPU in {seconds:.2} s: measure again on a quiet machine");
        }
        cost
    }
}

/// `pgstream-aws` with a configuration, into one database of the target.
pub struct Ours {
    directory: TempDir,
    pub database: String,
}

impl Ours {
    /// `settings` are further lines of the configuration's `target.postgres`.
    pub fn new(source: &Cluster, target: &Cluster, database: &str, mode: &str, settings: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let yaml = format!(
            "source:\n  postgres:\n    url: {}\n    mode: {mode}\ntarget:\n  postgres:\n    url: {}\n{settings}",
            source.url(SOURCE),
            target.url(database),
        );
        fs::write(directory.path().join("bench.yaml"), yaml).unwrap();
        Self { directory, database: database.to_owned() }
    }

    /// Starts a command with the configuration.
    pub fn start(&self, command: &str) -> Running {
        let log = fs::File::create(self.log()).unwrap();
        let child = Command::new(binary())
            .args(command.split(' '))
            .arg("-c")
            .arg(self.directory.path().join("bench.yaml"))
            .env("PATH", tools_path().unwrap())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Running { child }
    }

    /// Runs a command to its end.
    pub fn run(&self, command: &str) {
        let mut running = self.start(command);
        let status = running.child.wait().unwrap();
        assert!(status.success(), "{command}: {}", fs::read_to_string(self.log()).unwrap());
    }

    /// Follows until the marker is there.
    pub async fn follow(&self, source: &Cluster, target: &Cluster) -> Cost {
        let there = target.client(&self.database).await;
        let meter = Meter::start(source, target);
        let mut running = self.start("run");
        wait(&there, "SELECT count(*) FROM marker", "1").await;
        let cost = meter.stop_with(&running);
        running.stop();
        cost
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }
}

/// A running command; killed when dropped.
pub struct Running {
    child: Child,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as an orchestrator does.
    pub fn stop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end; returns CPU seconds and the most memory that it has had.
    pub async fn finish(&mut self) -> (f64, f64) {
        let mut used = (0.0, 0.0);
        loop {
            let pid = self.child.id();
            let now = (usage::cpu_of(pid), usage::peak_memory_of(pid));
            // A process that has ended has no memory, but still its CPU time.
            used = (f64::max(used.0, now.0), f64::max(used.1, now.1));
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "{status}");
                return used;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nothing to do when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn binary() -> PathBuf {
    let beside = std::env::current_exe().unwrap().with_file_name("pgstream-aws");
    assert!(beside.exists(), "{} is not built; `make bench` builds it", beside.display());
    beside
}

/// Makes the publication and the slot of the server's own subscription.
pub async fn prepare_native(source: &Cluster) {
    let here = source.client(SOURCE).await;
    here.batch(&format!("CREATE PUBLICATION {PUBLICATION} FOR TABLES IN SCHEMA public")).await;
    here.batch(&format!("SELECT pg_create_logical_replication_slot('{SLOT}', 'pgoutput')")).await;
}

/// Lets the server's own subscription follow until the marker is there.
pub async fn follow_natively(source: &Cluster, target: &Cluster, database: &str) -> Cost {
    let there = target.client(database).await;
    let meter = Meter::start(source, target);
    there.batch(&subscription(source, "create_slot = false, copy_data = false")).await;
    wait(&there, "SELECT count(*) FROM marker", "1").await;
    let cost = meter.stop();
    there.batch("ALTER SUBSCRIPTION bench DISABLE").await;
    servers::wait(
        &source.client(SOURCE).await,
        "SELECT active FROM pg_replication_slots WHERE slot_name = 'bench_native'",
        "f",
    )
    .await;
    cost
}

/// The statement that makes a subscription with its best settings.
pub fn subscription(source: &Cluster, settings: &str) -> String {
    format!(
        "CREATE SUBSCRIPTION bench CONNECTION '{}' PUBLICATION {PUBLICATION}
         WITH (slot_name = {SLOT}, streaming = parallel, binary = true, synchronous_commit = off, {settings})",
        source.url(SOURCE)
    )
}
