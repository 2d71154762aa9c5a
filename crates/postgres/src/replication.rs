//! The walsender side of the protocol: `IDENTIFY_SYSTEM`, `START_REPLICATION`, frames and status updates.
//!
//! ```text
//!  Connection ── identify_system(), timeline_history() ──> start() ──> ReplicationStream
//!                                                          frame()  <── XLogData, keepalive
//!                                                          status() ──> written, flushed, applied
//! ```
//!
//! A frame's bytes are a slice of the buffer that the socket was read into. The server speaks up on its own only by
//! frames, so whatever else it sends is an error here: nothing that could stand for a missing change is passed over.

mod command;
#[doc(hidden)]
pub mod hostile;
mod login;

use std::{
    fmt,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::{Buf as _, BufMut as _, Bytes};
use postgres_protocol::message::frontend;
use tokio::time::timeout;

use crate::{
    Error, Lsn, Server, Session,
    dial::{self, Handshake, Role},
    dsn::Dsn,
    error::ServerError,
    password::Login,
    server::start_options,
    transport::Transport,
    wire::{Packet, Wire},
};

/// 2000-01-01, where the server's clock starts.
const POSTGRES_EPOCH: Duration = Duration::from_secs(946_684_800);

/// How long a server may take to say goodbye; it does not while it decodes a large transaction.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection in replication mode, not yet streaming.
pub struct Connection {
    wire: Wire,
}

/// A server whose answer takes less is near: it needs no wide window.
const NEAR: Duration = Duration::from_millis(2);

/// How often the way to the server is measured.
const ROUND_TRIPS: usize = 3;

/// Receive buffer of a near walsender. It sends each change by itself, and each is on its way at once while the window is
/// open; while it is shut the kernel puts them together.
const NARROW: usize = 64 << 10;

/// What `IDENTIFY_SYSTEM` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// System identifier of the cluster, decimal.
    pub system_identifier: String,
    /// Current timeline.
    pub timeline: u32,
    /// Current flush position.
    pub flush_lsn: Lsn,
    /// Database of the connection.
    pub dbname: String,
}

/// What one stream asks of pgoutput.
#[derive(Debug, Clone)]
pub struct StartOptions {
    /// Slot name.
    pub slot: String,
    /// Publications.
    pub publications: Vec<String>,
    /// `proto_version`, 1 to 4.
    pub proto_version: u32,
    /// `binary`: needs server 14.
    pub binary: bool,
    /// `messages`: needs server 14.
    pub messages: bool,
}

/// One message of a running stream.
#[derive(Debug, Clone)]
pub enum Frame {
    /// Output of the plugin: one pgoutput message.
    Data {
        /// WAL position of the message (0 for some).
        start: Lsn,
        /// Current end of WAL on the server when it was sent.
        end: Lsn,
        /// The message.
        message: Bytes,
    },
    /// A keepalive.
    Keepalive {
        /// Last position sent to us.
        end: Lsn,
        /// The server wants an answer now.
        reply_requested: bool,
        /// Server clock.
        clock: SystemTime,
    },
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("server", &self.wire.server()).finish_non_exhaustive()
    }
}

/// Why a server refused to start, where the code does not say.
enum Reason {
    Lost,
    /// A standby; Aurora's endpoint may lead to one for a moment after a failover.
    Standby,
    Other,
}

struct ReplicationHandshake<'a> {
    dsn: &'a Dsn,
    options: String,
    application_name: &'a str,
}

impl Handshake for ReplicationHandshake<'_> {
    type Session = Connection;
    const REPLICATION: bool = true;

    async fn start(&self, transport: Transport, server: &str, login: &Login) -> Result<Connection, Error> {
        let mut wire = Wire::new(transport, server);
        let dsn = self.dsn;
        login::log_in(&mut wire, login, &dsn.dbname, self.application_name, &self.options, dsn.channel_binding).await?;
        Ok(Connection { wire })
    }

    async fn role(&self, session: &mut Connection) -> Result<Role, Error> {
        let sql = "SELECT pg_catalog.current_setting('transaction_read_only'), pg_catalog.pg_is_in_recovery()";
        let row = session.one_row(sql, "asking for the role").await?;
        let is = |index: usize, wanted: &str| row.get(index).is_some_and(|value| value.as_deref() == Some(wanted));
        Ok(Role { read_only: is(0, "on"), standby: is(1, "t") })
    }
}

impl Connection {
    pub(crate) async fn open(server: &Server) -> Result<Self, Error> {
        // Text output of the walsender obeys the same settings as any session's.
        let session = Session::new("pgstream-aws replication");
        let dsn = server.dsn();
        let application_name = dsn.application_name.as_deref().unwrap_or(&session.application_name);
        let handshake = ReplicationHandshake { dsn, options: start_options(dsn, &session), application_name };
        let (connection, _) = Box::pin(dial::dial(dsn, server.password(), &handshake)).await?;
        Ok(connection)
    }

    /// `IDENTIFY_SYSTEM`.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn identify_system(&mut self) -> Result<Identity, Error> {
        let row = self.one_row("IDENTIFY_SYSTEM", "identifying the system").await?;
        let field = |index: usize| row.get(index).and_then(Option::as_deref);
        let identity = || {
            Some(Identity {
                system_identifier: field(0)?.to_owned(),
                timeline: field(1)?.parse().ok()?,
                flush_lsn: field(2)?.parse().ok()?,
                dbname: field(3)?.to_owned(),
            })
        };
        identity().ok_or_else(|| self.wire.protocol_error("an answer to IDENTIFY_SYSTEM without its four fields"))
    }

    /// A near walsender gets little room: see [`NARROW`]. The quickest of a few round trips tells, since any of them may have
    /// waited for a busy machine.
    async fn narrow_if_near(&mut self) -> Result<(), Error> {
        for _ in 0..ROUND_TRIPS {
            let began = Instant::now();
            self.one_row("IDENTIFY_SYSTEM", "identifying the system").await?;
            if began.elapsed() < NEAR {
                return self.wire.narrow(NARROW);
            }
        }
        Ok(())
    }

    /// `TIMELINE_HISTORY`: the switch points (timeline, LSN) that led to `timeline`. The first timeline has none.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn timeline_history(&mut self, timeline: u32) -> Result<Vec<(u32, Lsn)>, Error> {
        // It has no history file, and asking for it is an error.
        if timeline <= 1 {
            return Ok(Vec::new());
        }
        let row = self.one_row(&format!("TIMELINE_HISTORY {timeline}"), "reading the timeline history").await?;
        let content = row.get(1).and_then(Option::as_deref).unwrap_or_default();
        // Lines of `timeline LSN reason`, and comments.
        let lines = content.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines
            .map(|line| {
                let mut fields = line.split_whitespace();
                let mut point = || Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?));
                point().ok_or_else(|| self.wire.protocol_error("a timeline history that cannot be read"))
            })
            .collect()
    }

    /// `START_REPLICATION SLOT … LOGICAL from (…)`.
    ///
    /// # Errors
    /// When the server refuses: busy, missing or lost slot.
    pub async fn start(mut self, from: Lsn, options: &StartOptions) -> Result<ReplicationStream, Error> {
        let doing = || format!("starting replication from slot `{}`", options.slot);
        self.narrow_if_near().await?;
        let command = command::start_replication(from, options);
        self.wire.queue(|out| frontend::query(&command, out))?;
        self.wire.flush().await?;
        loop {
            let packet = self.wire.packet().await?;
            match packet.tag {
                b'W' => {
                    self.wire.allow_large_packets();
                    return Ok(ReplicationStream { wire: self.wire });
                }
                b'N' => login::log_notice(&self.wire, &packet.body),
                b'S' => {}
                b'E' => {
                    let refusal = Box::new(ServerError::parse(&packet.body));
                    let server = self.wire.server().to_owned();
                    return Err(match self.reason(&refusal, &options.slot).await {
                        Reason::Lost => Error::SlotLost { server, slot: options.slot.clone(), source: refusal },
                        Reason::Standby => Error::WrongRole { server, wanted: "primary" },
                        Reason::Other => Error::Refused { server, doing: doing().into(), source: refusal },
                    });
                }
                tag => return Err(login::unexpected(&self.wire, tag)),
            }
        }
    }

    /// 55000 (and 0A000, of standbys before 16) says many things, in words that differ by version and language: the
    /// catalog says which.
    async fn reason(&mut self, refusal: &ServerError, slot: &str) -> Reason {
        if !matches!(refusal.code.as_str(), "55000" | "0A000") {
            return Reason::Other;
        }
        let ready = async {
            while self.wire.packet().await?.tag != b'Z' {}
            self.one_row(&command::slot_state(slot), "reading the state of the slot").await
        };
        let Ok(Ok(row)) = timeout(CLOSE_TIMEOUT, ready).await else { return Reason::Other };
        let field = |index: usize| row.get(index).and_then(Option::as_deref);
        match (field(0), field(1)) {
            (Some("lost"), _) => Reason::Lost,
            (_, Some("t")) => Reason::Standby,
            _ => Reason::Other,
        }
    }

    /// Runs a command by the simple protocol and returns its first row, as text.
    async fn one_row(&mut self, sql: &str, doing: &'static str) -> Result<Vec<Option<String>>, Error> {
        self.wire.queue(|out| frontend::query(sql, out))?;
        self.wire.flush().await?;
        let mut first = None;
        loop {
            let packet = self.wire.packet().await?;
            match packet.tag {
                b'D' if first.is_none() => {
                    let row = command::data_row(packet.body).ok_or_else(|| self.wire.protocol_error("a cut row"))?;
                    first = Some(row);
                }
                // Further rows, RowDescription, CommandComplete, ParameterStatus
                b'D' | b'T' | b'C' | b'S' => {}
                b'N' => login::log_notice(&self.wire, &packet.body),
                b'E' => {
                    return Err(Error::Refused {
                        server: self.wire.server().to_owned(),
                        doing: doing.into(),
                        source: Box::new(ServerError::parse(&packet.body)),
                    });
                }
                b'Z' => return first.ok_or_else(|| self.wire.protocol_error("an answer without a row")),
                tag => return Err(login::unexpected(&self.wire, tag)),
            }
        }
    }
}

/// A running stream.
pub struct ReplicationStream {
    wire: Wire,
}

impl fmt::Debug for ReplicationStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplicationStream").field("server", &self.wire.server()).finish_non_exhaustive()
    }
}

impl ReplicationStream {
    /// The next frame. Cancel-safe: never consumes a partial frame. Sends what a cancelled [`Self::status`] left.
    ///
    /// # Errors
    /// When the connection ends or the server reports an error.
    pub async fn frame(&mut self) -> Result<Frame, Error> {
        loop {
            let packet = self.wire.packet().await?;
            if let Some(frame) = self.read(packet)? {
                return Ok(frame);
            }
        }
    }

    /// A frame that has already been read from the socket, if any: never waits, never reads.
    ///
    /// # Errors
    /// As [`Self::frame`].
    pub fn buffered(&mut self) -> Result<Option<Frame>, Error> {
        while let Some(packet) = self.wire.buffered()? {
            if let Some(frame) = self.read(packet)? {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    /// What arrives from now on waits in the socket without waking anybody up, until the next call of another method. For
    /// a reader that will be back in a moment and finds more then.
    pub fn sleep(&mut self) {
        self.wire.sleep();
    }

    /// Sends a standby status update. Each position is one past the last byte written, flushed or applied.
    /// Cancel-safe: an update that is interrupted is sent whole by the next call of any method.
    ///
    /// # Errors
    /// When the connection ends.
    pub async fn status(&mut self, written: Lsn, flushed: Lsn, applied: Lsn, reply: bool) -> Result<(), Error> {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH + POSTGRES_EPOCH).unwrap_or_default();
        let clock = i64::try_from(clock.as_micros()).unwrap_or(i64::MAX);
        self.wire.queue(|out| {
            out.put_u8(b'd');
            out.put_u32(4 + 1 + 4 * 8 + 1);
            out.put_u8(b'r');
            for position in [written, flushed, applied] {
                out.put_u64(position.0);
            }
            out.put_i64(clock);
            out.put_u8(u8::from(reply));
            Ok(())
        })?;
        self.wire.flush().await
    }

    /// Ends the stream politely (CopyDone, Terminate), so that the slot is free at once.
    ///
    /// # Errors
    /// When the connection ends early.
    pub async fn close(mut self) -> Result<(), Error> {
        let server = self.wire.server().to_owned();
        let goodbye = async {
            self.wire.queue(|out| {
                frontend::copy_done(out);
                Ok(())
            })?;
            self.wire.flush().await?;
            loop {
                let packet = self.wire.packet().await?;
                match packet.tag {
                    b'Z' => break,
                    b'E' => return Err(self.refused(&packet.body)),
                    // What was on its way.
                    _ => {}
                }
            }
            self.wire.queue(|out| {
                frontend::terminate(out);
                Ok(())
            })?;
            self.wire.flush().await
        };
        match timeout(CLOSE_TIMEOUT, goodbye).await {
            Ok(result) => result,
            Err(_) => Err(Error::Timeout { server, after: CLOSE_TIMEOUT }),
        }
    }

    /// What a packet means here; `None` for a notice.
    fn read(&self, packet: Packet) -> Result<Option<Frame>, Error> {
        match packet.tag {
            b'd' => self.copy_data(packet.body).map(Some),
            b'N' => self.notice(&packet.body).map(|()| None),
            b'S' => Ok(None),
            b'E' => Err(self.refused(&packet.body)),
            // CopyDone, CommandComplete: a server that shuts down ends the stream with these.
            b'c' | b'C' => Err(Error::Ended { server: self.wire.server().to_owned() }),
            tag => Err(login::unexpected(&self.wire, tag)),
        }
    }

    fn copy_data(&self, mut body: Bytes) -> Result<Frame, Error> {
        let mut read = || match body.try_get_u8().ok()? {
            b'w' => {
                let (start, end, _clock) =
                    (body.try_get_u64().ok()?, body.try_get_u64().ok()?, body.try_get_u64().ok()?);
                Some(Frame::Data { start: Lsn(start), end: Lsn(end), message: std::mem::take(&mut body) })
            }
            b'k' => Some(Frame::Keepalive {
                end: Lsn(body.try_get_u64().ok()?),
                clock: clock(body.try_get_i64().ok()?),
                reply_requested: body.try_get_u8().ok()? != 0,
            }),
            _ => None,
        };
        read().ok_or_else(|| self.wire.protocol_error("a replication frame that is neither data nor keepalive"))
    }

    /// Server 18 only warns (55000) when a publication is missing, and leaves its changes out: here that is an error.
    fn notice(&self, body: &[u8]) -> Result<(), Error> {
        let notice = ServerError::parse(body);
        if notice.severity == "WARNING" && notice.code == "55000" {
            return Err(self.refused(body));
        }
        login::log_notice(&self.wire, body);
        Ok(())
    }

    fn refused(&self, body: &[u8]) -> Error {
        Error::Refused {
            server: self.wire.server().to_owned(),
            doing: "reading the replication stream".into(),
            source: Box::new(ServerError::parse(body)),
        }
    }
}

/// Microseconds since 2000, as the server counts; out of range becomes 1970.
fn clock(micros: i64) -> SystemTime {
    let epoch = UNIX_EPOCH + POSTGRES_EPOCH;
    let distance = Duration::from_micros(micros.unsigned_abs());
    let time = if micros < 0 { epoch.checked_sub(distance) } else { epoch.checked_add(distance) };
    time.unwrap_or(UNIX_EPOCH)
}
