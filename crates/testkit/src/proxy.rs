//! A TCP proxy on loopback that breaks connections when told to.
//!
//! ```text
//!  client ──> 127.0.0.1:port ──┬── up:   budget, stall, throttle ──> upstream
//!                              └── down: budget, stall, throttle <── upstream
//! ```
//! Faults apply to all connections, present and future, until they are taken back; a cut ends the present ones by a
//! reset, as a failing network path does. On unencrypted connections a COMMIT can be held at either edge, so that a test
//! does what it likes exactly there ([`Proxy::held_at`]).

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp},
    sync::watch,
    task::JoinHandle,
};

use crate::{Error, error::io};

/// No limit.
const UNLIMITED: u64 = u64::MAX;
const CHUNK: usize = 16 * 1024;

/// What the proxy does to traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Mode {
    /// Raised to end all connections that are open.
    cuts: u64,
    /// Nothing passes, nothing is closed.
    stalled: bool,
    /// New connections are closed at once.
    refusing: bool,
    /// Bytes a second and direction; 0 is no limit.
    bytes_per_second: u64,
    /// The next COMMIT is to be held here.
    armed: Option<Edge>,
    /// One is held; what it is on the way to does not get it.
    held: bool,
    /// Raised to end the flow to the server, or the one to the client, of all connections that are open.
    half_closes: [u64; 2],
    /// What is read next of the flow to the server, or of the one to the client, does not go on.
    losing: [bool; 2],
}

/// Where a COMMIT is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// The statement has not reached the server: everything is applied, nothing is committed.
    Commit,
    /// The server has answered it: everything is committed, the client does not know.
    Reply,
}

/// A direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// To the server.
    Up,
    /// To the client.
    Down,
}

/// The end of the statement, and of the tag by which a server confirms it.
const COMMIT: &[u8] = b"COMMIT\0";

impl Mode {
    /// What was held goes with its connection.
    fn cut(&mut self) {
        self.cuts += 1;
        self.held = false;
    }
}

struct Shared {
    mode: watch::Sender<Mode>,
    /// Bytes that may still pass, in both directions together, before the connections are cut.
    budget: AtomicU64,
    /// Bytes that may still pass before one is changed.
    sound: AtomicU64,
    passed: AtomicU64,
    accepted: AtomicU64,
}

/// A running proxy; dropping it ends it and its connections.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free loopback port and forwards to a port on loopback.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(upstream_port: u16) -> Result<Self, Error> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(io("binding the proxy"))?;
        let address = listener.local_addr().map_err(io("reading the proxy's address"))?;
        let shared = Arc::new(Shared {
            mode: watch::Sender::new(Mode::default()),
            budget: AtomicU64::new(UNLIMITED),
            sound: AtomicU64::new(UNLIMITED),
            passed: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
        });
        let task = tokio::spawn(accept(listener, upstream_port, Arc::clone(&shared)));
        Ok(Self { address, shared, task })
    }

    /// The port to connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The same URL, through the proxy. Only the port that belongs to the upstream is replaced.
    #[must_use]
    pub fn url(&self, url: &str, upstream_port: u16) -> String {
        url.replacen(&format!("@127.0.0.1:{upstream_port}/"), &format!("@127.0.0.1:{}/", self.port()), 1)
    }

    /// Resets all open connections now.
    pub fn cut(&self) {
        self.shared.mode.send_modify(Mode::cut);
    }

    /// Resets all open connections once this many more bytes have passed, both directions counted; the byte after them
    /// never arrives. Later connections are left alone.
    pub fn cut_after(&self, bytes: u64) {
        self.shared.budget.store(bytes, Ordering::SeqCst);
    }

    /// Resets all open connections and closes new ones at once, until [`Proxy::resume`].
    pub fn refuse(&self) {
        self.shared.mode.send_modify(|mode| {
            mode.cut();
            mode.refusing = true;
        });
    }

    /// Holds all traffic back; connections stay open.
    pub fn stall(&self) {
        self.shared.mode.send_modify(|mode| mode.stalled = true);
    }

    /// Takes [`Proxy::stall`], [`Proxy::refuse`], [`Proxy::throttle`] and [`Proxy::held_at`] back.
    pub fn resume(&self) {
        self.shared
            .mode
            .send_modify(|mode| *mode = Mode { cuts: mode.cuts, half_closes: mode.half_closes, ..Mode::default() });
    }

    /// Holds the next COMMIT at `edge` and returns once it is there; then [`Proxy::cut`] loses it, and
    /// [`Proxy::resume`] lets it go on.
    pub async fn held_at(&self, edge: Edge) {
        self.shared.mode.send_modify(|mode| (mode.armed, mode.held) = (Some(edge), false));
        let mut mode = self.shared.mode.subscribe();
        // The sender lives as long as `self`.
        let _ = mode.wait_for(|mode| mode.held).await;
    }

    /// Ends one direction of all open connections in order; the other one stays.
    pub fn half_close(&self, flow: Flow) {
        self.shared.mode.send_modify(|mode| mode.half_closes[flow as usize] += 1);
    }

    /// Loses what comes next in one direction, whichever connection it comes on; nobody is told.
    pub fn lose(&self, flow: Flow) {
        self.shared.mode.send_modify(|mode| mode.losing[flow as usize] = true);
    }

    /// Changes one byte once this many more have passed, both directions counted. Only encryption notices.
    pub fn corrupt_after(&self, bytes: u64) {
        self.shared.sound.store(bytes, Ordering::SeqCst);
    }

    /// Lets at most about this many bytes a second through, in each direction of each connection.
    pub fn throttle(&self, bytes_per_second: u64) {
        self.shared.mode.send_modify(|mode| mode.bytes_per_second = bytes_per_second);
    }

    /// Bytes that have passed, both directions.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.shared.passed.load(Ordering::SeqCst)
    }

    /// Connections that have been accepted.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, upstream_port: u16, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        // Subscribed before anything else: a cut from here on counts for this connection.
        let mode = shared.mode.subscribe();
        if mode.borrow().refusing {
            reset(&client);
            continue;
        }
        tokio::spawn(serve(client, upstream_port, mode, Arc::clone(&shared)));
    }
}

async fn serve(client: TcpStream, upstream_port: u16, mut mode: watch::Receiver<Mode>, shared: Arc<Shared>) {
    let cuts = mode.borrow().cuts;
    let Ok(upstream) = TcpStream::connect((Ipv4Addr::LOCALHOST, upstream_port)).await else {
        return reset(&client);
    };
    let (mut client, mut upstream) = (client, upstream);
    for stream in [&client, &upstream] {
        // Not being told apart by packet sizes matters less than latency here; an error changes nothing.
        let _ = stream.set_nodelay(true);
    }
    let finished = {
        let ((client_read, client_write), (upstream_read, upstream_write)) = (client.split(), upstream.split());
        let committing = AtomicBool::new(false);
        let pump = |flow| Pump { flow, mode: mode.clone(), shared: &shared, committing: &committing };
        let up = pump(Flow::Up).run(client_read, upstream_write);
        let down = pump(Flow::Down).run(upstream_read, client_write);
        tokio::select! {
            // A cut comes before what was held until then.
            biased;
            _ = mode.wait_for(|mode| mode.cuts > cuts) => false,
            // Both directions end by themselves: half-closed connections stay so. A reset on one side is one on both.
            ended = async { tokio::try_join!(up, down) } => ended.is_ok(),
        }
    };
    if !finished {
        reset(&client);
        reset(&upstream);
    }
}

/// Closing with a zero linger time sends a reset.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

/// The connection is to be cut.
struct Cut;

/// One direction of one connection.
struct Pump<'a> {
    flow: Flow,
    mode: watch::Receiver<Mode>,
    shared: &'a Shared,
    /// A COMMIT whose answer is to be held has passed.
    committing: &'a AtomicBool,
}

impl Pump<'_> {
    /// Copies until the end of file.
    async fn run(mut self, mut from: tcp::ReadHalf<'_>, mut to: tcp::WriteHalf<'_>) -> Result<(), Cut> {
        let mut buffer = vec![0; CHUNK];
        let flow = self.flow as usize;
        let closes = self.mode.borrow().half_closes[flow];
        loop {
            let read = tokio::select! {
                read = from.read(&mut buffer) => read.map_err(|_| Cut)?,
                _ = self.mode.wait_for(|mode| mode.half_closes[flow] > closes) => 0,
            };
            if read == 0 {
                return to.shutdown().await.map_err(|_| Cut);
            }
            self.mode.wait_for(|mode| !mode.stalled).await.map_err(|_| Cut)?;
            self.hold(&buffer[..read]).await?;
            if self.shared.mode.send_if_modified(|mode| std::mem::take(&mut mode.losing[flow])) {
                continue;
            }
            self.corrupt(&mut buffer[..read]);
            self.forward(&buffer[..read], &mut to).await?;
        }
    }

    /// Waits while a COMMIT among these bytes is held.
    async fn hold(&mut self, bytes: &[u8]) -> Result<(), Cut> {
        let armed = self.mode.borrow().armed;
        let there = armed.is_some() && bytes.windows(COMMIT.len()).any(|window| window == COMMIT);
        let held = match (armed, self.flow) {
            (Some(Edge::Commit), Flow::Up) => there,
            (Some(Edge::Reply), Flow::Up) => {
                self.committing.fetch_or(there, Ordering::SeqCst);
                false
            }
            (Some(Edge::Reply), Flow::Down) => there && self.committing.load(Ordering::SeqCst),
            _ => false,
        };
        let first = held
            && self.shared.mode.send_if_modified(|mode| {
                let first = mode.armed.take().is_some();
                mode.held |= first;
                first
            });
        if first {
            self.mode.wait_for(|mode| !mode.held).await.map_err(|_| Cut)?;
        }
        Ok(())
    }

    fn corrupt(&self, bytes: &mut [u8]) {
        let sound = take(&self.shared.sound, bytes.len() as u64);
        if let Some(byte) = usize::try_from(sound).ok().and_then(|sound| bytes.get_mut(sound)) {
            *byte ^= 0x55;
            let _ = self.shared.sound.compare_exchange(0, UNLIMITED, Ordering::SeqCst, Ordering::SeqCst);
        }
    }

    async fn forward(&self, bytes: &[u8], to: &mut tcp::WriteHalf<'_>) -> Result<(), Cut> {
        let allowed = take(&self.shared.budget, bytes.len() as u64);
        let pass = usize::try_from(allowed).unwrap_or(bytes.len());
        let rate = self.mode.borrow().bytes_per_second;
        // A tenth of a second's worth at a time.
        let step = if rate == 0 { CHUNK } else { usize::try_from(rate / 10).unwrap_or(CHUNK).clamp(1, CHUNK) };
        for part in bytes[..pass].chunks(step) {
            if rate > 0 {
                tokio::time::sleep(Duration::from_secs_f64(part.len() as f64 / rate as f64)).await;
            }
            to.write_all(part).await.map_err(|_| Cut)?;
            self.shared.passed.fetch_add(part.len() as u64, Ordering::SeqCst);
        }
        if pass < bytes.len() {
            self.shared.mode.send_modify(Mode::cut);
            // Spent: until here nothing more passed in the other direction either.
            let _ = self.shared.budget.compare_exchange(0, UNLIMITED, Ordering::SeqCst, Ordering::SeqCst);
            return Err(Cut);
        }
        Ok(())
    }
}

/// Takes up to `wanted` bytes out of the budget, unless it is unlimited.
fn take(budget: &AtomicU64, wanted: u64) -> u64 {
    let spend = |left: u64| (left != UNLIMITED).then(|| left.saturating_sub(wanted));
    match budget.fetch_update(Ordering::SeqCst, Ordering::SeqCst, spend) {
        Ok(left) => left.min(wanted),
        Err(_) => wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_spent_once() {
        let budget = AtomicU64::new(10);
        assert_eq!([take(&budget, 4), take(&budget, 9), take(&budget, 9)], [4, 6, 0]);
        assert_eq!(take(&AtomicU64::new(UNLIMITED), 9), 9);
    }
}
