//! The walsender side of the protocol: `IDENTIFY_SYSTEM`, `START_REPLICATION`, frames and status updates.

use std::time::SystemTime;

use bytes::Bytes;

use crate::{Error, Lsn, Server};

/// A connection in replication mode, not yet streaming.
pub struct Connection;

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

impl Connection {
    pub(crate) async fn open(_server: &Server) -> Result<Self, Error> {
        std::future::ready(()).await;
        unimplemented!("skeleton")
    }

    /// `IDENTIFY_SYSTEM`.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn identify_system(&mut self) -> Result<Identity, Error> {
        std::future::ready(()).await;
        unimplemented!("skeleton")
    }

    /// `TIMELINE_HISTORY`: the switch points (timeline, LSN) that led to `timeline`.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn timeline_history(&mut self, _timeline: u32) -> Result<Vec<(u32, Lsn)>, Error> {
        std::future::ready(()).await;
        unimplemented!("skeleton")
    }

    /// `START_REPLICATION SLOT … LOGICAL from (…)`.
    ///
    /// # Errors
    /// When the server refuses: busy, missing or lost slot.
    pub async fn start(self, _from: Lsn, _options: &StartOptions) -> Result<ReplicationStream, Error> {
        std::future::ready(()).await;
        unimplemented!("skeleton")
    }
}

/// A running stream.
pub struct ReplicationStream;

impl ReplicationStream {
    /// The next frame. Cancel-safe: never consumes a partial frame.
    ///
    /// # Errors
    /// When the connection ends or the server reports an error.
    pub async fn frame(&mut self) -> Result<Frame, Error> {
        std::future::ready(()).await;
        unimplemented!("skeleton")
    }

    /// A frame that has already been read from the socket, if any: never waits, never reads.
    ///
    /// # Errors
    /// As [`Self::frame`].
    pub fn buffered(&mut self) -> Result<Option<Frame>, Error> {
        unimplemented!("skeleton")
    }

    /// Sends a standby status update.
    ///
    /// # Errors
    /// When the connection ends.
    pub async fn status(&mut self, _written: Lsn, _flushed: Lsn, _applied: Lsn, _reply: bool) -> Result<(), Error> {
        std::future::ready(()).await;
        unimplemented!("skeleton")
    }

    /// Ends the stream politely (CopyDone, Terminate).
    ///
    /// # Errors
    /// When the connection ends early.
    pub async fn close(self) -> Result<(), Error> {
        std::future::ready(()).await;
        unimplemented!("skeleton")
    }
}
