//! Where the time goes: flame graphs of a copy and of a backlog, of both servers and of what is between them.
//!
//! Needs `perf`, the right to use it, and programs that have kept their symbols: `make profile`.

use std::{
    fs,
    io::BufReader,
    process::{Child, Command, Stdio},
    time::Duration,
};

use inferno::{
    collapse::{Collapse, perf},
    flamegraph::{self, Options},
};
use pgstream_testkit::Cluster;
use tempfile::TempDir;

use crate::{
    backlog::{self, TPC_B},
    copy::SCHEMA,
    followers::Ours,
    report::{Section, picture},
    servers::{self, SOURCE, assert_equal, wait},
    usage,
};

/// Until then `perf` watches what it was told to; it does not say so itself.
const ATTACHED: Duration = Duration::from_secs(1);

pub async fn measure() -> Section {
    Section::new("profile").with(copy().await).with(stream().await)
}

async fn copy() -> String {
    let (source, target) = servers::pair().await;
    let here = source.client(SOURCE).await;
    for statement in SCHEMA.split_inclusive(';') {
        here.batch(statement).await;
    }
    target.create_database("copy").await;
    let we = Ours::new(&source, &target, "copy", "snapshot", "");
    let servers = record_servers(&source, &target).await;
    let mut running = we.start("snapshot");
    let own = Recorder::start("pgstream-aws", &[running.pid()]);
    running.finish().await;
    let picture = draw(servers, own, "A copy of 792 MB", "profile-copy");
    assert_equal(&source, &target, "copy").await;
    picture
}

async fn stream() -> String {
    let (source, target) = servers::pair().await;
    backlog::prepare(&TPC_B, &source, SOURCE).await;
    target.create_database("ours").await;
    backlog::prepare(&TPC_B, &target, "ours").await;
    let we = Ours::new(&source, &target, "ours", "replication", "");
    we.run("init");
    backlog::write(&TPC_B, &source).await;
    let there = target.client("ours").await;
    let servers = record_servers(&source, &target).await;
    let mut running = we.start("run");
    let own = Recorder::start("pgstream-aws", &[running.pid()]);
    wait(&there, "SELECT count(*) FROM marker", "1").await;
    running.stop();
    let picture = draw(servers, own, "A backlog of 150,000 TPC-B transactions", "profile-stream");
    assert_equal(&source, &target, "ours").await;
    picture
}

/// Records servers and the sessions that they are going to have: those that are there before `perf` is would be missing.
async fn record_servers(source: &Cluster, target: &Cluster) -> [Recorder; 2] {
    [record_server("source", source).await, record_server("target", target).await]
}

async fn record_server(name: &'static str, server: &Cluster) -> Recorder {
    loop {
        let mut recorder = Recorder::start(name, &usage::processes_of(server));
        tokio::time::sleep(ATTACHED).await;
        // A session that has just ended is nobody to watch, and `perf` gives up.
        if recorder.perf.try_wait().unwrap().is_none() {
            return recorder;
        }
    }
}

/// Ends the recorders, and draws what they have in one picture.
fn draw(servers: [Recorder; 2], own: Recorder, title: &'static str, file: &str) -> String {
    let lines: Vec<String> = servers.into_iter().chain([own]).flat_map(Recorder::stacks).collect();
    let mut options = Options::default();
    title.clone_into(&mut options.title);
    options.image_width = Some(1400);
    options.min_width = 0.2;
    picture(title, file, |svg| {
        let svg = fs::File::create(svg).unwrap();
        flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), svg).unwrap();
    })
}

/// A `perf record` of some processes and of those that they start.
struct Recorder {
    name: &'static str,
    perf: Child,
    directory: TempDir,
}

impl Recorder {
    fn start(name: &'static str, pids: &[u32]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let pids = pids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        // Servers come without frame pointers.
        let perf = Command::new("perf")
            .args(["record", "-q", "-e", "cpu-clock", "-F", "199", "--call-graph", "dwarf,16384", "-p", &pids, "-o"])
            .arg(directory.path().join("data"))
            .spawn()
            .expect("perf is installed (Debian: linux-perf)");
        Self { name, perf, directory }
    }

    /// One line for each stack, with the times it was seen.
    fn stacks(mut self) -> Vec<String> {
        let pid = rustix::process::Pid::from_child(&self.perf);
        // It has ended by itself when what it watches has.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        self.perf.wait().unwrap();
        let script = self.directory.path().join("script");
        let done = Command::new("perf")
            .args(["script", "-i"])
            .arg(self.directory.path().join("data"))
            .stdout(fs::File::create(&script).unwrap())
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert!(done.status.success(), "perf script: {}", String::from_utf8_lossy(&done.stderr));
        let mut folded = Vec::new();
        let samples = BufReader::new(fs::File::open(&script).unwrap());
        perf::Folder::default().collapse(samples, &mut folded).unwrap();
        let under_its_name = |line: &str| Some(format!("{};{}", self.name, line.split_once(';')?.1));
        String::from_utf8_lossy(&folded).lines().filter_map(under_its_name).collect()
    }
}
