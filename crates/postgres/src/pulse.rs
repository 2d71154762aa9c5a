//! Whether an answer can still come.
//!
//! TCP notices that a peer is gone, but not that an answer is: where a byte of a TLS record's length is changed, or a
//! middleman loses a piece, both ends wait for each other for ever. The server knows, and says so in another session: the
//! one in question waits for a request.
//!
//! ```text
//!  an answer is missing, and the server idles ──> each connection looks after itself: lost()
//!  rows are missing: the server is in a request,
//!  and whose turn it is, only who waits knows ──> answered()
//! ```

use std::{
    io,
    pin::{Pin, pin},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::pending;
use tokio::{
    io::AsyncReadExt as _,
    net::UnixStream,
    time::{sleep, timeout},
};
use tokio_postgres::CancelToken;

use crate::{
    Error, Server, Session,
    motion::Motion,
    transport::{Settled, Socket, Transport},
};

/// So long nothing moves before the server is asked. What is on its way inside the kernel's buffers has arrived by then.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_secs(5);
/// By so much may the ages differ that both ends give to one session.
const SLACK: Duration = Duration::from_secs(15);

/// What tells of a session whether it lives.
#[derive(Clone)]
pub struct Pulse(Arc<Inner>);

struct Inner {
    server: Server,
    /// The number may be another session's by now, or another host's: whose it is tells the age.
    pid: i32,
    since: Instant,
    motion: Arc<Motion>,
}

impl Pulse {
    /// Of the session whose key this is. The driver keeps the number to itself, but a request to cancel says it.
    pub(crate) async fn new(server: Server, key: CancelToken, motion: Arc<Motion>) -> io::Result<Self> {
        let (ours, mut theirs) = UnixStream::pair()?;
        key.cancel_query_raw(Transport::plain(Socket::Unix(ours)), Settled).await.map_err(io::Error::other)?;
        // Length and code of the request come first: "CancelRequest" in the protocol's message formats.
        let mut request = [0; 12];
        theirs.read_exact(&mut request).await?;
        let [.., a, b, c, d] = request;
        Ok(Self(Arc::new(Inner { server, pid: i32::from_be_bytes([a, b, c, d]), since: Instant::now(), motion })))
    }

    /// Returns once a request was sent whose answer cannot come any more, with how long nothing has moved.
    pub(crate) async fn lost(&self) -> Duration {
        stopped(std::slice::from_ref(self), Awaited::Request).await
    }

    /// Whether the server's end of the session waits for ours. Boxed, since the session that asks has a pulse too.
    fn awaits_us(&self, awaited: Awaited) -> Pin<Box<dyn Future<Output = Result<bool, Error>> + Send + '_>> {
        Box::pin(async move {
            let Inner { server, pid, since, .. } = &*self.0;
            let client = server.connect(&Session::new("pgstream-aws watch")).await?;
            let row = client
                .query_opt(
                    "SELECT wait_event = 'ClientRead' AND (state LIKE 'idle%' OR $4)
                            AND abs(extract(epoch FROM clock_timestamp() - backend_start)::float8 - $2) <= $3
                       FROM pg_stat_activity WHERE pid = $1",
                    &[pid, &since.elapsed().as_secs_f64(), &SLACK.as_secs_f64(), &(awaited == Awaited::Any)],
                )
                .await
                .map_err(client.failed("reading pg_stat_activity"))?;
            Ok(row.and_then(|row| row.get::<_, Option<bool>>(0)).unwrap_or(false))
        })
    }
}

/// What a server may wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    /// A request; not the rows of a COPY, which may take as long as they take.
    Request,
    Any,
}

/// Does work that waits for these sessions and for nothing else, as long as there is anything to wait for.
///
/// # Errors
/// Those of the work; [`Error::Unanswered`] when all of the sessions have waited for this end for half a minute.
pub async fn answered<T, E: From<Error>>(sessions: &[Pulse], work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let mut work = pin!(work);
    tokio::select! {
        biased;
        done = &mut work => done,
        after = stopped(sessions, Awaited::Any) => {
            let server = sessions.first().map_or_else(String::new, |session| session.0.server.to_string());
            Err(Error::Unanswered { server, after }.into())
        }
    }
}

/// Returns once both ends of each session wait for the other one, with how long nothing has moved.
async fn stopped(sessions: &[Pulse], awaited: Awaited) -> Duration {
    if sessions.is_empty() {
        return pending().await;
    }
    let moved = || sessions.iter().map(|session| session.0.motion.moved()).sum::<u64>();
    let waits = || awaited == Awaited::Any || sessions.iter().all(|session| session.0.motion.waits());
    let (mut seen, mut since) = (moved(), Instant::now());
    loop {
        sleep(LOOK).await;
        let now = moved();
        if now != seen || !waits() {
            (seen, since) = (now, Instant::now());
        } else if since.elapsed() >= PATIENCE {
            match timeout(PATIENCE, all_await_us(sessions, awaited)).await {
                Ok(Ok(true)) => {
                    // An answer that was given a moment ago is still on its way.
                    sleep(LOOK).await;
                    if moved() == seen {
                        return since.elapsed();
                    }
                }
                Ok(Ok(false)) => {}
                Ok(Err(error)) => tracing::warn!(%error, "whether a session still works cannot be seen"),
                Err(_) => tracing::warn!("whether a session still works cannot be seen: that takes too long"),
            }
            // One works, or waits for a lock: looking more often would only disturb it.
            since = Instant::now();
        }
    }
}

async fn all_await_us(sessions: &[Pulse], awaited: Awaited) -> Result<bool, Error> {
    for session in sessions {
        if !session.awaits_us(awaited).await? {
            return Ok(false);
        }
    }
    Ok(true)
}
