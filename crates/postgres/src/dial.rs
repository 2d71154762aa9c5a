//! From an address to an authenticated session: the part that SQL and replication have in common.
//!
//! ```text
//!  hosts ──> password ──> addresses ──> TCP/Unix ──> SSLRequest, TLS ──> Handshake (start-up, authentication)
//!    next host: this one is away, or of the wrong role      again without/with TLS: sslmode=prefer/allow, refused by pg_hba
//! ```

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
    time::timeout,
};

use crate::{
    Class, Error,
    dsn::{Address, Dsn, Host, SslMode, TargetSession},
    password::{Login, MAX_REFUSALS, Password, Refusal},
    tls::{self, TlsError},
    transport::{Socket, Tcp, Transport},
};

/// What is done with a transport to make a session of it.
pub(crate) trait Handshake: Sync {
    type Session: Send;

    /// Whether this is a replication connection.
    const REPLICATION: bool;

    /// Starts up and authenticates.
    fn start(
        &self,
        transport: Transport,
        server: &str,
        login: &Login,
    ) -> impl Future<Output = Result<Self::Session, Error>> + Send;

    /// Whether the server takes writes, and whether it is a standby.
    fn role(&self, session: &mut Self::Session) -> impl Future<Output = Result<Role, Error>> + Send;
}

/// What `target_session_attrs` chooses by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Role {
    pub read_only: bool,
    pub standby: bool,
}

/// Where a session ended up; enough to reach the same server process again.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub host: Host,
    place: Place,
    /// TLS was used.
    encrypted: bool,
}

#[derive(Debug, Clone)]
enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Whether one attempt uses TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leg {
    Plain,
    IfOffered,
    Tls,
}

/// Opens a session on the first host that is there and of the right role.
pub(crate) async fn dial<H: Handshake>(
    dsn: &Dsn,
    password: &Password,
    handshake: &H,
) -> Result<(H::Session, Peer), Error> {
    // `prefer-standby` looks at every host for a standby first, then takes any.
    let passes: &[TargetSession] = match dsn.target {
        TargetSession::PreferStandby => &[TargetSession::Standby, TargetSession::Any],
        ref other => std::slice::from_ref(other),
    };
    let mut last = None;
    for target in passes {
        for host in &dsn.hosts {
            match dial_host(dsn, password, handshake, host, *target).await {
                Ok(found) => return Ok(found),
                Err(error) if error.class() != Class::Transient => return Err(error),
                Err(error) => {
                    if dsn.hosts.len() > 1 {
                        tracing::info!(%error, "trying the next host");
                    }
                    last = Some(error);
                }
            }
        }
    }
    // The list of hosts is never empty.
    Err(last.unwrap_or_else(|| Error::Timeout { server: dsn.to_string(), after: Duration::ZERO }))
}

async fn dial_host<H: Handshake>(
    dsn: &Dsn,
    password: &Password,
    handshake: &H,
    host: &Host,
    target: TargetSession,
) -> Result<(H::Session, Peer), Error> {
    let attempt = Attempt { dsn, host, server: format!("{host}/{}", dsn.dbname) };
    let places = attempt.resolve().await?;
    let mut refused: Option<(u32, String)> = None;
    loop {
        let refusal = refused.as_ref().map(|(count, said)| Refusal { count: *count, said });
        let login = password.login(dsn, host, H::REPLICATION, refusal).await?;
        let result = attempt.places(handshake, &places, &login, target).await;
        let count = refusal.map_or(1, |refusal| refusal.count + 1);
        match result {
            // A secret that was rotated between being read and being used, or that is being rotated now: who gave the
            // password has another one, or says why not.
            Err(error)
                if login.renewable
                    && count <= MAX_REFUSALS
                    && error.sqlstate().is_some_and(|code| code.starts_with("28")) =>
            {
                tracing::info!(server = %attempt.server, count, "the login was refused, asking for the password again");
                refused = Some((count, error.to_string()));
            }
            other => return other,
        }
    }
}

struct Attempt<'a> {
    dsn: &'a Dsn,
    host: &'a Host,
    server: String,
}

impl Attempt<'_> {
    async fn resolve(&self) -> Result<Vec<Place>, Error> {
        let port = self.host.port;
        match (&self.host.address, self.host.hostaddr) {
            (Address::Unix(directory), _) => Ok(vec![Place::Unix(directory.join(format!(".s.PGSQL.{port}")))]),
            (_, Some(address)) => Ok(vec![Place::Tcp(SocketAddr::new(address, port))]),
            (Address::Name(name), None) => {
                let lookup = tokio::net::lookup_host((name.as_str(), port));
                let found = self.in_time(lookup).await?.map_err(|source| self.io("looking up", source))?;
                Ok(found.map(Place::Tcp).collect())
            }
        }
    }

    /// The first address that answers; the last error if none does.
    async fn places<H: Handshake>(
        &self,
        handshake: &H,
        places: &[Place],
        login: &Login,
        target: TargetSession,
    ) -> Result<(H::Session, Peer), Error> {
        let mut last = self.io("looking up", io::Error::new(io::ErrorKind::NotFound, "no address"));
        for place in places {
            match self.place(handshake, place, login, target).await {
                Ok(found) => return Ok(found),
                Err(error @ (Error::Io { .. } | Error::Timeout { .. })) => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    async fn place<H: Handshake>(
        &self,
        handshake: &H,
        place: &Place,
        login: &Login,
        target: TargetSession,
    ) -> Result<(H::Session, Peer), Error> {
        let mode = self.dsn.ssl_mode(self.host);
        let legs: &[Leg] = match mode {
            SslMode::Disable => &[Leg::Plain],
            SslMode::Allow => &[Leg::Plain, Leg::Tls],
            SslMode::Prefer => &[Leg::IfOffered, Leg::Plain],
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => &[Leg::Tls],
        };
        let (mut session, peer) = match self.leg(handshake, place, login, mode, legs[0]).await {
            Err(error) if legs.len() > 1 && other_leg_may_do(&error) => {
                tracing::debug!(server = %self.server, %error, "trying again, the other way about TLS");
                self.leg(handshake, place, login, mode, legs[1]).await?
            }
            other => other?,
        };
        if target != TargetSession::Any {
            let role = self.in_time(handshake.role(&mut session)).await??;
            if !fits(target, role) {
                return Err(Error::WrongRole { server: self.server.clone(), wanted: target.name() });
            }
        }
        Ok((session, peer))
    }

    /// One connection, start to finish.
    async fn leg<H: Handshake>(
        &self,
        handshake: &H,
        place: &Place,
        login: &Login,
        mode: SslMode,
        leg: Leg,
    ) -> Result<(H::Session, Peer), Error> {
        let work = async {
            let transport = self.transport(place, mode, leg).await?;
            let encrypted = transport.is_encrypted();
            let session = handshake.start(transport, &self.server, login).await?;
            Ok((session, Peer { host: self.host.clone(), place: place.clone(), encrypted }))
        };
        self.in_time(work).await?
    }

    async fn transport(&self, place: &Place, mode: SslMode, leg: Leg) -> Result<Transport, Error> {
        let socket = match place {
            Place::Tcp(address) => {
                let connected = TcpStream::connect(address).await.map_err(|source| self.io("connecting to", source))?;
                tune(&connected, self.dsn).map_err(|source| self.io("setting up the socket to", source))?;
                Socket::Tcp(Tcp::Awake(connected))
            }
            Place::Unix(path) => {
                Socket::Unix(UnixStream::connect(path).await.map_err(|source| self.io("connecting to", source))?)
            }
        };
        match leg {
            Leg::Plain => Ok(Transport::plain(socket)),
            Leg::IfOffered | Leg::Tls => self.negotiate(socket, mode, leg).await,
        }
    }

    async fn negotiate(&self, mut socket: Socket, mode: SslMode, leg: Leg) -> Result<Transport, Error> {
        let failed = |source| Error::Tls { server: self.server.clone(), source };
        let mut request = bytes::BytesMut::with_capacity(8);
        postgres_protocol::message::frontend::ssl_request(&mut request);
        let answer = async {
            socket.write_all(&request).await?;
            socket.flush().await?;
            // One byte and no more: what follows must be TLS, not text smuggled in ahead of it.
            socket.read_u8().await
        };
        match (answer.await.map_err(|source| self.io("asking for TLS at", source))?, leg) {
            (b'S', _) => {
                let stream = tls::handshake(socket, self.host, mode, &self.dsn.tls).await.map_err(failed)?;
                Ok(Transport::encrypted(stream))
            }
            (b'N', Leg::IfOffered) => Ok(Transport::plain(socket)),
            (b'N', _) => Err(failed(TlsError::NotOffered(mode))),
            _ => Err(failed(TlsError::NotPostgres)),
        }
    }

    async fn in_time<T>(&self, work: impl Future<Output = T>) -> Result<T, Error> {
        let after = self.dsn.connect_timeout;
        timeout(after, work).await.map_err(|_| Error::Timeout { server: self.server.clone(), after })
    }

    fn io(&self, doing: &'static str, source: io::Error) -> Error {
        Error::Io { server: self.server.clone(), doing: doing.into(), source }
    }
}

/// Connects to the same place again, in the same way, for a cancel request.
pub(crate) async fn redial(dsn: &Dsn, peer: &Peer) -> Result<Transport, Error> {
    let attempt = Attempt { dsn, host: &peer.host, server: format!("{}/{}", peer.host, dsn.dbname) };
    let leg = if peer.encrypted { Leg::Tls } else { Leg::Plain };
    attempt.in_time(attempt.transport(&peer.place, dsn.ssl_mode(&peer.host), leg)).await?
}

/// Whether a refusal may be about TLS: pg_hba says 28000. A wrong password is not sent again without TLS, and a
/// certificate that was rejected is no reason to go on without one.
fn other_leg_may_do(error: &Error) -> bool {
    match error {
        Error::Tls { source, .. } => matches!(source, TlsError::Handshake(_) | TlsError::Io(_)),
        other => other.sqlstate() == Some("28000"),
    }
}

fn fits(target: TargetSession, role: Role) -> bool {
    match target {
        TargetSession::Any | TargetSession::PreferStandby => true,
        TargetSession::ReadWrite => !role.read_only && !role.standby,
        TargetSession::ReadOnly => role.read_only || role.standby,
        TargetSession::Primary => !role.standby,
        TargetSession::Standby => role.standby,
    }
}

fn tune(stream: &TcpStream, dsn: &Dsn) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(dsn.user_timeout))?;
    let Some(keepalive) = dsn.keepalive else { return Ok(()) };
    let mut probes = TcpKeepalive::new().with_time(keepalive.idle);
    if let Some(interval) = keepalive.interval {
        probes = probes.with_interval(interval);
    }
    if let Some(retries) = keepalive.retries {
        probes = probes.with_retries(retries);
    }
    socket.set_tcp_keepalive(&probes)
}
