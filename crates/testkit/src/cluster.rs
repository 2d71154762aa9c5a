//! A throwaway server: started, killed, paused and restarted at will, gone when dropped.
//!
//! ```text
//!  Builder ──start()──> running ──stop(mode)/kill9()──> down ──start()──> running (same port, same data)
//!                        │  ▲
//!                  pause()  resume()
//! ```
//! Invariant: the server is gone when the [`Cluster`] is dropped, and when the process that holds it dies.

use std::{
    fmt,
    fs::{self, OpenOptions},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal};

use crate::{
    Binaries, Builder, Client, Disk, Error,
    binaries::source_major,
    error::io,
    port::Port,
    processes,
    template::{PASSWORD, USER, as_server_user, run_for_output},
    watchdog::Watchdog,
};

/// Long enough for crash recovery on a busy machine.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// A fast shutdown waits for walsenders whose client reads slowly.
const STOP_DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);
const LOG_TAIL_LINES: usize = 60;

/// How a server is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Waits for clients to leave.
    Smart,
    /// Rolls back and checkpoints.
    Fast,
    /// No checkpoint: the next start recovers.
    Immediate,
}

/// Where a cluster lives.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) binaries: Binaries,
    /// Data directory.
    pub(crate) data: PathBuf,
    /// Socket, log, certificates.
    pub(crate) base: PathBuf,
    /// The disk of the data directory, if it can be filled.
    pub(crate) disk: Option<Disk>,
}

/// A throwaway server on loopback.
pub struct Cluster {
    layout: Layout,
    port: Port,
    server: Mutex<Option<Server>>,
    watchdog: Option<Watchdog>,
}

/// The postmaster, a child of the test.
struct Server {
    postmaster: Child,
    /// Stopped with it by [`Cluster::pause`].
    paused: Option<Vec<Pid>>,
}

impl Cluster {
    /// A cluster of the newest major version (or of the matrix: `PGSTREAM_TEST_SOURCE_MAJOR`).
    #[must_use]
    pub fn builder() -> Builder {
        Builder::new(source_major())
    }

    pub(crate) fn new(layout: Layout, port: Port, watchdog: Watchdog) -> Self {
        Self { layout, port, server: Mutex::new(None), watchdog: Some(watchdog) }
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Keeps the directories of a cluster that did not start.
    pub(crate) fn into_watchdog(mut self) -> Watchdog {
        self.watchdog.take().unwrap_or_else(|| unreachable!("only a dropped cluster has none"))
    }

    /// `postgresql://postgres:…@127.0.0.1:port/db`.
    #[must_use]
    pub fn url(&self, db: &str) -> String {
        self.url_as(USER, PASSWORD, db)
    }

    /// The URL for another user. All parts are percent-encoded.
    #[must_use]
    pub fn url_as(&self, user: &str, password: &str, db: &str) -> String {
        let [user, password, db] = [user, password, db].map(percent_encode);
        format!("postgresql://{user}:{password}@127.0.0.1:{}/{db}", self.port())
    }

    /// The TCP port; the same for the life of the cluster.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The major version.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.layout.binaries.major()
    }

    /// The data directory.
    #[must_use]
    pub fn data_dir(&self) -> &std::path::Path {
        &self.layout.data
    }

    /// The disk that the data directory is on.
    ///
    /// # Panics
    /// Without [`Builder::fillable_disk`].
    #[must_use]
    pub fn disk(&self) -> &Disk {
        self.layout.disk.as_ref().unwrap_or_else(|| panic!("a cluster with a disk that can be filled is needed"))
    }

    /// Where the Unix socket is, as a `host` for libpq.
    #[must_use]
    pub fn socket_dir(&self) -> &std::path::Path {
        &self.layout.base
    }

    /// The certificate that signed the server's (with [`Builder::tls`]), for `sslrootcert`.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.layout.base.join("ca.crt")
    }

    /// A superuser session over the Unix socket, which no `hba` line, TLS setting or proxy is in the way of.
    ///
    /// # Panics
    /// When the server refuses it.
    pub async fn client(&self, db: &str) -> Client {
        match self.try_client(db).await {
            Ok(client) => client,
            Err(error) => panic!("{error}\n{}", self.log_tail()),
        }
    }

    /// As [`Cluster::client`], for a server that may be down.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn try_client(&self, db: &str) -> Result<Client, Error> {
        let mut config = tokio_postgres::Config::new();
        config.host_path(&self.layout.base).port(self.port()).user(USER).dbname(db).application_name("testkit");
        Client::connect(&config).await
    }

    /// Creates a database.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn create_database(&self, name: &str) {
        let client = self.client("postgres").await;
        let quoted: String = client.scalar(&format!("SELECT quote_ident({})", crate::client::literal(name))).await;
        client.batch(&format!("CREATE DATABASE {quoted}")).await;
    }

    /// Starts a server that is down, on the same port and data; returns when it accepts connections.
    ///
    /// # Panics
    /// When it does not start, or runs already.
    pub async fn start(&self) {
        if let Err(error) = self.try_start().await {
            panic!("{error}");
        }
    }

    /// As [`Cluster::start`], when failing is the point.
    ///
    /// # Errors
    /// When it does not start; its log is in the error.
    pub async fn try_start(&self) -> Result<(), Error> {
        assert!(self.lock().is_none(), "the server runs already");
        let server = self.spawn()?;
        let pid = server.postmaster.id();
        *self.lock() = Some(server);
        let deadline = Instant::now() + START_DEADLINE;
        while !self.ready(pid) {
            let ended = self.exited();
            if ended.is_some() || Instant::now() > deadline {
                let doing = match ended {
                    Some(status) => format!("starting PostgreSQL {} ({status})", self.major()),
                    None => format!("starting PostgreSQL {} in {START_DEADLINE:?}", self.major()),
                };
                self.end_now();
                return Err(Error::Program { doing, output: self.log_tail() });
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Asks the server to end and waits until it has.
    ///
    /// # Panics
    /// When it is down already or does not end.
    pub async fn stop(&self, how: Stop) {
        let request = match how {
            Stop::Smart => Signal::TERM,
            Stop::Fast => Signal::INT,
            Stop::Immediate => Signal::QUIT,
        };
        processes::signal(self.running(), request);
        let deadline = Instant::now() + STOP_DEADLINE;
        while self.exited().is_none() {
            assert!(Instant::now() < deadline, "no {how:?} stop in {STOP_DEADLINE:?}\n{}", self.log_tail());
            tokio::time::sleep(POLL).await;
        }
    }

    /// [`Cluster::stop`] and [`Cluster::start`].
    ///
    /// # Panics
    /// As they do.
    pub async fn restart(&self, how: Stop) {
        self.stop(how).await;
        self.start().await;
    }

    /// Moves a server that is down to a later epoch of transaction ids, as if it had used up as many times 2^32 of them. The
    /// client tools' `pg_resetwal` knows servers of its own major version.
    ///
    /// # Panics
    /// When the server runs, or `pg_resetwal` refuses.
    pub fn enter_epoch(&self, epoch: u32) {
        assert!(self.lock().is_none(), "the server runs");
        let tool = Binaries::tool("pg_resetwal").unwrap_or_else(|error| panic!("{error}"));
        let mut command = Command::new(tool);
        command.args(["--epoch", &epoch.to_string()]).arg(self.data_dir());
        if let Err(error) = run_for_output(as_server_user(&mut command), "pg_resetwal") {
            panic!("{error}");
        }
    }

    /// Kills the postmaster and every backend at once, as a crash of the machine would; returns when they are gone.
    ///
    /// # Panics
    /// When the server is down already.
    pub fn kill9(&self) {
        self.running();
        self.end_now();
    }

    /// Stops all processes of the server as they stand: connections stay open and silent.
    ///
    /// # Panics
    /// When the server is down.
    pub fn pause(&self) {
        let postmaster = self.running();
        let children = processes::freeze(postmaster);
        if let Some(server) = self.lock().as_mut() {
            server.paused = Some(children);
        }
    }

    /// Lets a paused server go on.
    pub fn resume(&self) {
        if let Some(server) = self.lock().as_mut() {
            server.resume();
        }
    }

    /// Whether the postmaster runs (also when paused).
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.exited();
        self.lock().is_some()
    }

    /// The process id of the postmaster.
    ///
    /// # Panics
    /// When the server is down.
    #[must_use]
    pub fn postmaster_pid(&self) -> u32 {
        self.running().as_raw_nonzero().get().unsigned_abs()
    }

    /// The server's log since it was made.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.layout.base.join("log")).unwrap_or_default()).into_owned()
    }

    /// The last lines of the log, for messages.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n");
        format!("--- log of PostgreSQL {} on port {} ---\n{tail}", self.major(), self.port())
    }

    fn spawn(&self) -> Result<Server, Error> {
        let path = self.layout.base.join("log");
        let open = || OpenOptions::new().create(true).append(true).open(&path);
        let log = open().map_err(io(format!("opening {}", path.display())))?;
        let errors = log.try_clone().map_err(io("duplicating the log"))?;
        let mut command = Command::new(self.layout.binaries.program("postgres"));
        command
            .arg("-D")
            .arg(&self.layout.data)
            .args(["-p", &self.port().to_string()])
            .arg("-k")
            .arg(&self.layout.base)
            .current_dir(&self.layout.base)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .env_clear()
            .env("LC_ALL", "C")
            .envs(self.layout.disk.iter().flat_map(Disk::environment));
        // Ctrl-C is for the test; the watchdog ends the server.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let postmaster = as_server_user(&mut command).spawn().map_err(io("starting postgres"))?;
        Ok(Server { postmaster, paused: None })
    }

    /// The eighth line of `postmaster.pid` says when connections are accepted; an earlier server's file may be there.
    fn ready(&self, pid: u32) -> bool {
        let state = fs::read_to_string(self.layout.data.join("postmaster.pid")).unwrap_or_default();
        let mut lines = state.lines();
        lines.next() == Some(pid.to_string().as_str()) && lines.nth(6).is_some_and(|line| line.trim() == "ready")
    }

    /// The exit status, when the postmaster has ended since the last call.
    fn exited(&self) -> Option<ExitStatus> {
        let mut server = self.lock();
        let status = server.as_mut()?.postmaster.try_wait().ok().flatten()?;
        *server = None;
        Some(status)
    }

    fn running(&self) -> Pid {
        self.exited();
        match self.lock().as_ref() {
            Some(server) => server.pid(),
            None => panic!("the server is down\n{}", self.log_tail()),
        }
    }

    /// Kills what is left of the server.
    fn end_now(&self) {
        if let Some(mut server) = self.lock().take() {
            server.kill_tree();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Server>> {
        // A panic while it was held leaves nothing half-done.
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgreSQL {} on port {}", self.major(), self.port())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Ends the server by an immediate shutdown, then removes the directories.
        if let Some(mut server) = self.lock().take() {
            if std::thread::panicking() {
                eprintln!("{}", self.log_tail());
            }
            server.shut_down();
        }
        drop(self.watchdog.take());
    }
}

impl Server {
    fn pid(&self) -> Pid {
        Pid::from_child(&self.postmaster)
    }

    fn resume(&mut self) {
        for child in self.paused.take().unwrap_or_default() {
            processes::signal(child, Signal::CONT);
        }
        processes::signal(self.pid(), Signal::CONT);
    }

    /// Immediate shutdown; a server that does not follow is killed.
    fn shut_down(&mut self) {
        processes::signal(self.pid(), Signal::QUIT);
        self.resume();
        // The postmaster itself kills children that have not ended after five seconds.
        let deadline = Instant::now() + Duration::from_secs(8);
        while Instant::now() < deadline {
            if !matches!(self.postmaster.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill_tree();
    }

    fn kill_tree(&mut self) {
        let postmaster = self.pid();
        let mut all = processes::freeze(postmaster);
        all.push(postmaster);
        all.iter().for_each(|&pid| processes::signal(pid, Signal::KILL));
        drop(self.postmaster.wait());
        processes::wait_gone(&all);
    }
}

/// Everything but unreserved characters, so that any user, password or database fits into a URL.
fn percent_encode(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}
