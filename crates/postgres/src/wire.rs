//! Packets over a transport: the lowest layer of a replication connection.
//!
//! ```text
//!   input:  [ whole packet | whole packet | part of one ]   reads append, packets are split off the front, uncopied
//!   output: [ bytes accepted but not yet written ]          whoever polls next, reader or writer, goes on writing
//! ```
//!
//! Both buffers live here and not in a future, so any future of this module may be dropped at any time: nothing is read
//! twice, lost, or written in half. The announced length of a packet is only believed as far as bytes have arrived.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWrite as _};

use crate::{Error, transport::Transport};

/// Tag and length.
const HEADER: usize = 5;

/// What one read asks for.
const READ: usize = 64 * 1024;

/// Below this much room a read is not worth its system call.
const MIN_READ: usize = 8 * 1024;

/// Before streaming nothing legitimate is larger.
const MAX_SETUP_PACKET: usize = 1024 * 1024;

/// The server builds a packet in a buffer of at most 1 GiB.
const MAX_STREAM_PACKET: usize = 1024 * 1024 * 1024 + 64;

/// One packet: its tag, and its body without the length.
#[derive(Debug)]
pub(crate) struct Packet {
    pub tag: u8,
    pub body: Bytes,
}

pub(crate) struct Wire {
    transport: Transport,
    input: BytesMut,
    output: BytesMut,
    /// TLS may hold bytes back until it is flushed.
    unflushed: bool,
    max_packet: usize,
    server: String,
}

impl Wire {
    pub(crate) fn new(transport: Transport, server: &str) -> Self {
        Self {
            transport,
            input: BytesMut::new(),
            output: BytesMut::new(),
            unflushed: false,
            max_packet: MAX_SETUP_PACKET,
            server: server.to_owned(),
        }
    }

    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// What SCRAM can bind to.
    pub(crate) fn end_point(&self) -> Option<Vec<u8>> {
        self.transport.end_point()
    }

    /// See [`Transport::sleep`].
    pub(crate) fn sleep(&mut self) {
        self.transport.sleep();
    }

    /// At most so many bytes wait in the socket.
    pub(crate) fn narrow(&mut self, bytes: usize) -> Result<(), Error> {
        self.transport.narrow(bytes).map_err(|source| self.io("setting up the socket to", source))
    }

    /// From now on packets may be as large as the server can make them.
    pub(crate) fn allow_large_packets(&mut self) {
        self.max_packet = MAX_STREAM_PACKET;
    }

    pub(crate) fn protocol_error(&self, problem: impl Into<std::borrow::Cow<'static, str>>) -> Error {
        Error::Protocol { server: self.server.clone(), problem: problem.into() }
    }

    fn io(&self, doing: &'static str, source: io::Error) -> Error {
        Error::Io { server: self.server.clone(), doing: doing.into(), source }
    }

    /// A packet that has arrived whole; never waits, never reads.
    pub(crate) fn buffered(&mut self) -> Result<Option<Packet>, Error> {
        let Some(length) = self.packet_length()? else { return Ok(None) };
        if self.input.len() < length {
            return Ok(None);
        }
        let mut packet = self.input.split_to(length).freeze();
        let tag = packet[0];
        packet.advance(HEADER);
        Ok(Some(Packet { tag, body: packet }))
    }

    /// Length of the packet at the front, header included, once its header is there.
    fn packet_length(&self) -> Result<Option<usize>, Error> {
        let Some(&[tag, a, b, c, d]) = self.input.first_chunk::<HEADER>() else { return Ok(None) };
        let announced = u32::from_be_bytes([a, b, c, d]);
        // The length counts itself but not the tag.
        match usize::try_from(announced).ok().and_then(|length| length.checked_add(1)) {
            Some(length) if length >= HEADER && length <= self.max_packet => Ok(Some(length)),
            _ => Err(self.protocol_error(format!("packet {tag:#04x} with a length of {announced}"))),
        }
    }

    /// The next packet. Cancel-safe. Goes on with writing what is pending meanwhile.
    pub(crate) async fn packet(&mut self) -> Result<Packet, Error> {
        poll_fn(|cx| self.poll_packet(cx)).await
    }

    fn poll_packet(&mut self, cx: &mut Context<'_>) -> Poll<Result<Packet, Error>> {
        loop {
            if let Some(packet) = self.buffered()? {
                return Poll::Ready(Ok(packet));
            }
            if let Poll::Ready(Err(_)) = self.poll_flush(cx) {
                // The server is gone, but its last words may still be in the socket: reading finds them, or the end.
                self.output.clear();
                self.unflushed = false;
            }
            self.make_room()?;
            let read = ready!(pin!(self.transport.read_buf(&mut self.input)).poll(cx));
            match read {
                Ok(0) => {
                    let end = io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed");
                    return Poll::Ready(Err(self.io("reading from", end)));
                }
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(self.io("reading from", error))),
            }
        }
    }

    /// Room for the next read: at most doubles what has arrived, whatever length a header announces.
    fn make_room(&mut self) -> Result<(), Error> {
        let arrived = self.input.len();
        let missing = self.packet_length()?.unwrap_or(HEADER).saturating_sub(arrived);
        if self.input.capacity() - arrived < MIN_READ {
            self.input.reserve(missing.min(arrived).max(READ));
        }
        Ok(())
    }

    /// Queues a message; [`Self::flush`] or the next read sends it.
    pub(crate) fn queue(&mut self, encode: impl FnOnce(&mut BytesMut) -> io::Result<()>) -> Result<(), Error> {
        let before = self.output.len();
        encode(&mut self.output).map_err(|error| {
            self.output.truncate(before);
            self.io("encoding a message to", error)
        })
    }

    /// Sends what is queued. Cancel-safe: what is left is sent by the next call, or by the next read.
    pub(crate) async fn flush(&mut self) -> Result<(), Error> {
        poll_fn(|cx| self.poll_flush(cx)).await.map_err(|error| self.io("writing to", error))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let written = ready!(Pin::new(&mut self.transport).poll_write(cx, &self.output))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.advance(written);
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.transport).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}
