//! Sessions whose server says any bytes at all: the entrance of the fuzz targets, not part of the interface.
//!
//! ```text
//!  bytes ──> a socket pair, written at once ──> Wire ──> log in, commands, frames    as with a real server
//! ```
//! Nothing here reads or decides anything by itself, so what is fuzzed is the code that runs in production.

use std::{io, io::Write as _, net::Shutdown, os::unix::net::UnixStream as Peer, time::Duration};

use bytes::Bytes;
use futures::TryStreamExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::timeout,
};

use super::{Connection, ReplicationStream, StartOptions, login};
use crate::{
    Error, Lsn,
    dsn::ChannelBinding,
    password::Login,
    transport::{Settled, Socket, Transport},
    wire::Wire,
};

/// Who "the server" is in errors.
const NAME: &str = "hostile";

/// How long a client may take for its next question.
const PATIENCE: Duration = Duration::from_millis(20);

/// ReadyForQuery, without the state.
const READY: &[u8] = b"Z\0\0\0\x05";

/// A stream that has just started, and the peer that says `said` and no more; what a socket's buffer does not take
/// (about 200 KiB) is not said.
///
/// # Errors
/// When no sockets can be had.
pub fn stream(said: &[u8]) -> io::Result<(ReplicationStream, Peer)> {
    let (mut wire, peer) = wire(said)?;
    wire.allow_large_packets();
    Ok((ReplicationStream { wire }, peer))
}

/// Logs in, asks what every session asks, and starts a stream; `said` answers all of it.
///
/// # Errors
/// What these bytes amount to.
pub async fn session(said: &[u8]) -> Result<(ReplicationStream, Peer), Error> {
    let (mut wire, peer) = wire(said).map_err(failed)?;
    let login = Login { user: "user".to_owned(), password: Some("password".to_owned().into()), renewable: false };
    login::log_in(&mut wire, &login, "db", NAME, "", ChannelBinding::Prefer).await?;
    let mut connection = Connection { wire };
    connection.identify_system().await?;
    connection.timeline_history(2).await?;
    let options = StartOptions {
        slot: "slot".to_owned(),
        publications: vec!["publication".to_owned()],
        proto_version: 4,
        binary: true,
        messages: false,
    };
    Ok((connection.start(Lsn::ZERO, &options).await?, peer))
}

/// Bytes of rows that `COPY … TO STDOUT` brings when `said` is the answer to it.
///
/// # Errors
/// What these bytes amount to.
pub async fn copy_out(said: &[u8]) -> Result<usize, tokio_postgres::Error> {
    let (Ok((ours, theirs)), said) = (UnixStream::pair(), said.to_vec()) else { return Ok(0) };
    let server = tokio::spawn(answer(theirs, said));
    let mut config = tokio_postgres::Config::new();
    config.user("user").dbname("db");
    let (client, connection) = config.connect_raw(Transport::plain(Socket::Unix(ours)), Settled).await?;
    let connection = tokio::spawn(connection);
    let read = async {
        let rows = client.copy_out("COPY t TO STDOUT (FORMAT binary)").await?;
        rows.try_fold(0, |bytes, chunk: Bytes| async move { Ok(bytes + chunk.len()) }).await
    };
    let read = read.await;
    drop(client);
    // A panic of the driver is one of ours.
    for ended in [connection.await.map(drop), server.await.map(drop)] {
        if let Err(error) = ended
            && let Ok(panic) = error.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
    }
    read
}

/// Logs the client in, and answers what it asks: each answer ends with the server being ready.
async fn answer(mut socket: UnixStream, said: Vec<u8>) -> io::Result<()> {
    let mut asked = [0; 1024];
    let ready =
        said.windows(READY.len()).position(|bytes| bytes == READY).map_or(said.len(), |at| at + READY.len() + 1);
    let (first, rest) = said.split_at(ready.min(said.len()));
    for part in [&b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I"[..], first, rest] {
        // Who does not ask waits for more of the answer.
        match timeout(PATIENCE, socket.read(&mut asked)).await {
            Ok(Ok(0)) => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Ok(Ok(_)) | Err(_) => socket.write_all(part).await?,
        }
    }
    socket.shutdown().await?;
    while socket.read(&mut asked).await? > 0 {}
    Ok(())
}

fn wire(said: &[u8]) -> io::Result<(Wire, Peer)> {
    let (ours, mut peer) = Peer::pair()?;
    peer.set_nonblocking(true)?;
    let mut rest = said;
    while !rest.is_empty() {
        match peer.write(rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    // What we say stays in the socket: were it closed, our writes would fail before our reads.
    peer.shutdown(Shutdown::Write)?;
    ours.set_nonblocking(true)?;
    let transport = Transport::plain(Socket::Unix(UnixStream::from_std(ours)?));
    Ok((Wire::new(transport, NAME), peer))
}

fn failed(source: io::Error) -> Error {
    Error::Io { server: NAME.to_owned(), doing: "preparing".into(), source }
}
