//! The byte stream below a session: TCP or a Unix socket, plain or inside TLS.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    io, iter, mem, net,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_rustls::client;

use crate::{
    motion::{Messages, Motion},
    tls::server_end_point,
};

/// A connected socket.
pub(crate) enum Socket {
    Tcp(Tcp),
    Unix(UnixStream),
}

/// A TCP socket that can be left alone for a while.
pub(crate) enum Tcp {
    Awake(TcpStream),
    /// The runtime does not hear of it: while many small pieces arrive, being told of each would cost both sides more than
    /// the pieces themselves.
    Asleep(net::TcpStream),
    /// What went wrong on the way between both; said by whoever reads or writes next.
    Broken(io::ErrorKind),
}

impl Tcp {
    fn awake(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        if matches!(self, Self::Asleep(_)) {
            self.change(|tcp| match tcp {
                Self::Asleep(stream) => TcpStream::from_std(stream).map(Self::Awake),
                other => Ok(other),
            });
        }
        match self {
            Self::Awake(stream) => Ok(Pin::new(stream)),
            Self::Broken(kind) => Err((*kind).into()),
            Self::Asleep(_) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn sleep(&mut self) {
        self.change(|tcp| match tcp {
            Self::Awake(stream) => stream.into_std().map(Self::Asleep),
            other => Ok(other),
        });
    }

    fn change(&mut self, to: impl FnOnce(Self) -> io::Result<Self>) {
        let before = mem::replace(self, Self::Broken(io::ErrorKind::NotConnected));
        *self = to(before).unwrap_or_else(|error| Self::Broken(error.kind()));
    }
}

/// A socket on which TLS has been settled, one way or the other.
pub(crate) struct Transport {
    link: Link,
    motion: Arc<Motion>,
    taken: Messages,
    given: Messages,
}

enum Link {
    Plain(Socket),
    Tls(Box<client::TlsStream<Socket>>),
}

impl Transport {
    pub(crate) fn plain(socket: Socket) -> Self {
        Self::new(Link::Plain(socket))
    }

    pub(crate) fn encrypted(stream: client::TlsStream<Socket>) -> Self {
        Self::new(Link::Tls(Box::new(stream)))
    }

    fn new(link: Link) -> Self {
        Self { link, motion: Arc::default(), taken: Messages::default(), given: Messages::default() }
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        matches!(self.link, Link::Tls(_))
    }

    pub(crate) fn motion(&self) -> Arc<Motion> {
        Arc::clone(&self.motion)
    }

    fn took(&mut self, read: &[u8]) {
        self.motion.took(read, &mut self.taken);
    }

    fn gave<'a>(&mut self, written: &Poll<io::Result<usize>>, pieces: impl Iterator<Item = &'a [u8]>) {
        let Poll::Ready(Ok(mut left)) = *written else { return };
        for piece in pieces {
            let written = &piece[..left.min(piece.len())];
            left -= written.len();
            self.motion.gave(written, &mut self.given);
        }
    }

    /// Whatever arrives from now on wakes nobody up, until the next read or write.
    pub(crate) fn sleep(&mut self) {
        if let Socket::Tcp(tcp) = self.socket() {
            tcp.sleep();
        }
    }

    /// At most so many bytes wait here; then whoever sends waits.
    pub(crate) fn narrow(&mut self, bytes: usize) -> io::Result<()> {
        match self.socket() {
            Socket::Tcp(Tcp::Awake(stream)) => SockRef::from(&*stream).set_recv_buffer_size(bytes),
            _ => Ok(()),
        }
    }

    fn socket(&mut self) -> &mut Socket {
        match &mut self.link {
            Link::Plain(socket) => socket,
            Link::Tls(stream) => stream.get_mut().0,
        }
    }

    /// What SCRAM can bind to: the hash of the server's certificate, inside TLS.
    pub(crate) fn end_point(&self) -> Option<Vec<u8>> {
        match &self.link {
            Link::Plain(_) => None,
            Link::Tls(stream) => server_end_point(stream.get_ref().1.peer_certificates()?.first()?),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => stream.awake()?.poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => stream.awake()?.poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => stream.awake()?.poll_write_vectored(cx, bufs),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => stream.awake()?.poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => stream.awake()?.poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(Tcp::Awake(stream)) => stream.is_write_vectored(),
            // As all TCP streams are.
            Self::Tcp(_) => true,
            Self::Unix(stream) => stream.is_write_vectored(),
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = match &mut self.link {
            Link::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Link::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        match &read {
            Poll::Ready(Ok(())) => self.took(&buf.filled()[before..]),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.motion.found_nothing(),
        }
        read
    }
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = match &mut self.link {
            Link::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Link::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        };
        self.gave(&written, iter::once(buf));
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.link {
            Link::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Link::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        };
        self.gave(&written, bufs.iter().map(|piece| &**piece));
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.link {
            Link::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Link::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.link {
            Link::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Link::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.link {
            Link::Plain(stream) => stream.is_write_vectored(),
            Link::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

impl TlsStream for Transport {
    fn channel_binding(&self) -> ChannelBinding {
        self.end_point().map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

/// Hands the driver a transport on which TLS is settled already, so that SQL and replication share one negotiation.
pub(crate) struct Settled;

impl TlsConnect<Transport> for Settled {
    type Stream = Transport;
    type Error = Infallible;
    type Future = Ready<Result<Transport, Infallible>>;

    fn connect(self, stream: Transport) -> Self::Future {
        ready(Ok(stream))
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    /// Both ends of a connection.
    async fn connected() -> (Transport, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (theirs, _) = listener.accept().await.unwrap();
        (Transport::plain(Socket::Tcp(Tcp::Awake(ours))), theirs)
    }

    #[tokio::test]
    async fn answers_are_waited_for_until_the_last_one_is_complete() {
        let (mut transport, mut theirs) = connected().await;
        let motion = transport.motion();
        let mut buffer = [0; 64];
        transport.write_all(b"\0\0\0\x08\0\x03\0\0").await.unwrap();
        motion.begin();
        // A Query and a Bind with its Sync.
        transport.write_all(b"Q\0\0\0\x05\0B\0\0\0\x06SSS\0\0").await.unwrap();
        transport.write_all(b"\0\x04").await.unwrap();
        assert!(!motion.waits(), "nobody has looked yet");
        let answers: [(&[u8], bool); 5] = [
            (b"D\0\0\0\x06ZZZ\0\0", true),
            (b"\0\x05I", true),
            (b"2\0\0\0\x04C\0\0\0\x05\0Z", true),
            (b"\0\0\0\x05I", false),
            (b"N\0\0\0\x05\0", false),
        ];
        for (piece, waits) in answers {
            assert!(futures::poll!(std::pin::pin!(transport.read(&mut buffer))).is_pending());
            theirs.write_all(piece).await.unwrap();
            assert_eq!(transport.read(&mut buffer).await.unwrap(), piece.len());
            assert!(!motion.waits(), "more may be there to read");
            assert!(futures::poll!(std::pin::pin!(transport.read(&mut buffer))).is_pending());
            assert_eq!(motion.waits(), waits, "after {piece:?}");
        }
    }

    #[tokio::test]
    async fn what_arrives_while_a_socket_sleeps_is_read_afterwards_and_writing_wakes_it() {
        let (mut transport, mut theirs) = connected().await;
        let mut read = [0; 3];
        for _ in 0..3 {
            transport.sleep();
            transport.sleep();
            theirs.write_all(b"one").await.unwrap();
            transport.read_exact(&mut read).await.unwrap();
            assert_eq!(&read, b"one");
            transport.sleep();
            transport.write_all(b"two").await.unwrap();
            theirs.read_exact(&mut read).await.unwrap();
            assert_eq!(&read, b"two");
        }
        transport.sleep();
        drop(theirs);
        assert_eq!(transport.read(&mut read).await.unwrap(), 0, "the end is heard of too");
    }
}
