//! A server, and connections to it.
//!
//! ```text
//!  Server ── connect() ──> Client ─── statements, COPY ───> connection task ───> socket
//!                            │ drop: Terminate; a statement that still runs is cancelled at the server
//!                            │ an answer that cannot come any more ends the connection (pulse.rs)
//! ```

use std::{
    collections::BTreeMap,
    fmt,
    future::poll_fn,
    ops::Deref,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use secrecy::ExposeSecret as _;
use tokio::{task::JoinHandle, time::timeout};
use tokio_postgres::{
    AsyncMessage, CancelToken,
    config::{SslMode, SslNegotiation},
};

use crate::{
    Dsn, Error, Password,
    dial::{self, Handshake, Peer, Role},
    dsn::ChannelBinding,
    password::Login,
    pulse::Pulse,
    replication,
    transport::{Settled, Transport},
};

/// A dropped client whose session is idle ends well within this; one that is not is cancelled.
const GRACE: Duration = Duration::from_millis(250);

/// For the cancelled statement to end before the socket is closed on it.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// What a session is for.
#[derive(Debug, Clone)]
pub struct Session {
    /// `application_name`, e.g. `pgstream-aws snapshot`.
    pub application_name: String,
    /// Settings sent at connect (`options`-like start-up parameters).
    pub settings: BTreeMap<String, String>,
}

impl Session {
    /// A session with settings that make output independent of server defaults: UTC, ISO dates,
    /// `extra_float_digits`, hex bytea, `row_security = off`, no statement, lock or idle timeouts,
    /// empty-ish `search_path` (`pg_catalog`).
    #[must_use]
    pub fn new(application_name: &str) -> Self {
        let mut settings = BTreeMap::new();
        for (name, value) in [
            ("TimeZone", "UTC"),
            ("DateStyle", "ISO, MDY"),
            ("IntervalStyle", "postgres"),
            ("extra_float_digits", "3"),
            ("bytea_output", "hex"),
            ("row_security", "off"),
            ("search_path", "pg_catalog"),
            ("client_encoding", "UTF8"),
            ("statement_timeout", "0"),
            ("lock_timeout", "0"),
            ("idle_in_transaction_session_timeout", "0"),
        ] {
            settings.insert(name.to_owned(), value.to_owned());
        }
        Self { application_name: application_name.to_owned(), settings }
    }

    /// With one more setting.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.settings.insert(name.to_owned(), value.to_owned());
        self
    }
}

/// The `options` of the start-up packet: the user's first, so that the session's win.
pub(crate) fn start_options(dsn: &Dsn, session: &Session) -> String {
    let mut options = dsn.options.clone().unwrap_or_default();
    for (name, value) in &session.settings {
        options.push_str(" -c ");
        for character in name.chars().chain(['=']).chain(value.chars()) {
            if character == '\\' || character.is_ascii_whitespace() || character == '\x0B' {
                options.push('\\');
            }
            options.push(character);
        }
    }
    options
}

/// A server that can be connected to: address, TLS, credentials. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    dsn: Arc<Dsn>,
    password: Password,
}

impl Server {
    /// A server from its URL; the password, if any, comes from the URL.
    #[must_use]
    pub fn new(dsn: Dsn) -> Self {
        Self { dsn: Arc::new(dsn), password: Password::FromUrl }
    }

    /// The same server, with the password from elsewhere.
    #[must_use]
    pub fn with_password(self, password: Password) -> Self {
        Self { password, ..self }
    }

    /// The parsed URL.
    #[must_use]
    pub fn dsn(&self) -> &Dsn {
        &self.dsn
    }

    pub(crate) fn password(&self) -> &Password {
        &self.password
    }

    /// The same server and credentials, another database.
    #[must_use]
    pub fn with_dbname(&self, dbname: &str) -> Self {
        Self { dsn: Arc::new(self.dsn.with_dbname(dbname)), password: self.password.clone() }
    }

    /// Opens a session for SQL and COPY.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn connect(&self, session: &Session) -> Result<Client, Error> {
        let (mut client, peer) = Box::pin(self.dial(session)).await?;
        client.canceller.peer = Some(peer);
        Ok(client)
    }

    pub(crate) async fn dial(&self, session: &Session) -> Result<(Client, Peer), Error> {
        let handshake =
            SqlHandshake { server: self, dsn: &self.dsn, session, options: start_options(&self.dsn, session) };
        dial::dial(&self.dsn, &self.password, &handshake).await
    }

    /// Opens a replication connection (`replication=database`).
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn replicate(&self) -> Result<replication::Connection, Error> {
        replication::Connection::open(self).await
    }
}

/// `host:port/database`, without user and password.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.dsn.fmt(f)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({self})")
    }
}

struct SqlHandshake<'a> {
    server: &'a Server,
    dsn: &'a Arc<Dsn>,
    session: &'a Session,
    options: String,
}

impl Handshake for SqlHandshake<'_> {
    type Session = Client;
    const REPLICATION: bool = false;

    async fn start(&self, transport: Transport, server: &str, login: &Login) -> Result<Client, Error> {
        let mut config = tokio_postgres::Config::new();
        config
            .user(&login.user)
            .dbname(&self.dsn.dbname)
            .application_name(self.dsn.application_name.as_ref().unwrap_or(&self.session.application_name))
            .options(&self.options)
            // The transport has settled TLS already, `Settled` passes it through.
            .ssl_mode(SslMode::Require)
            .ssl_negotiation(SslNegotiation::Direct)
            .channel_binding(match self.dsn.channel_binding {
                ChannelBinding::Disable => tokio_postgres::config::ChannelBinding::Disable,
                ChannelBinding::Prefer => tokio_postgres::config::ChannelBinding::Prefer,
                ChannelBinding::Require => tokio_postgres::config::ChannelBinding::Require,
            });
        if let Some(password) = &login.password {
            config.password(password.expose_secret());
        }
        let connect = |source| Error::Connect { server: server.to_owned(), source };
        let motion = transport.motion();
        let (client, connection) = Box::pin(config.connect_raw(transport, Settled)).await.map_err(connect)?;
        motion.begin();
        let pulse = Pulse::new(self.server.clone(), client.cancel_token(), motion).await;
        let pulse = pulse.map_err(|source| Error::Io {
            server: server.to_owned(),
            doing: "reading the session's number of".into(),
            source,
        })?;
        let parting = Arc::default();
        let task = tokio::spawn(drive(connection, server.to_owned(), pulse.clone(), Arc::clone(&parting)));
        let canceller = Canceller { dsn: Arc::clone(self.dsn), peer: None, token: client.cancel_token() };
        Ok(Client { client, task: Some(task), server: server.to_owned(), parting, canceller, pulse })
    }

    async fn role(&self, client: &mut Client) -> Result<Role, Error> {
        let sql = "SELECT current_setting('transaction_read_only') = 'on', pg_is_in_recovery()";
        let row = client.query_one(sql, &[]).await.map_err(client.failed("asking for the role"))?;
        Ok(Role { read_only: row.get(0), standby: row.get(1) })
    }
}

/// What ended a connection while no statement was there to be told.
enum Parting {
    Error(tokio_postgres::Error),
    /// Nothing has moved for so long, and nothing will.
    Unanswered(Duration),
}

/// Runs a connection to its end; statements get their errors themselves.
async fn drive(
    mut connection: tokio_postgres::Connection<Transport, Transport>,
    server: String,
    pulse: Pulse,
    parting: Arc<Mutex<Option<Parting>>>,
) {
    let part = |why| *parting.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    let mut lost = pin!(pulse.lost());
    loop {
        let message = tokio::select! {
            biased;
            message = poll_fn(|cx| connection.poll_message(cx)) => message,
            after = &mut lost => return part(Parting::Unanswered(after)),
        };
        match message {
            Some(Ok(AsyncMessage::Notice(notice))) => {
                // The message only: a detail may hold values.
                tracing::debug!(%server, code = notice.code().code(), notice = notice.message(), "the server says");
            }
            Some(Ok(_)) => {}
            // Dropping the connection now tells waiting statements, which then find the reason.
            Some(Err(error)) => return part(Parting::Error(error)),
            None => return,
        }
    }
}

/// A session on a server; dropping it closes the connection. A statement that still runs is cancelled at the server
/// then, which would otherwise go on until it next wrote to the socket.
pub struct Client {
    client: tokio_postgres::Client,
    task: Option<JoinHandle<()>>,
    server: String,
    parting: Arc<Mutex<Option<Parting>>>,
    canceller: Canceller,
    pulse: Pulse,
}

impl Client {
    /// Turns a driver error into ours, saying what was being done.
    pub fn failed(&self, doing: &str) -> impl FnOnce(tokio_postgres::Error) -> Error + use<> {
        let (server, doing, parting) = (self.server.clone(), doing.to_owned(), Arc::clone(&self.parting));
        move |source| {
            // "connection closed" hides why: an administrator's command, a restart.
            let mut parting = parting.lock().unwrap_or_else(PoisonError::into_inner);
            match parting.take_if(|_| source.is_closed()) {
                Some(Parting::Error(reason)) => Error::Sql { server, doing, source: reason },
                Some(Parting::Unanswered(after)) => {
                    *parting = Some(Parting::Unanswered(after));
                    Error::Unanswered { server, after }
                }
                None => Error::Sql { server, doing, source },
            }
        }
    }

    /// `server_version_num / 10000`.
    ///
    /// # Errors
    /// When the session is gone.
    pub async fn major_version(&self) -> Result<u32, Error> {
        let row = self
            .query_one("SELECT current_setting('server_version_num')::int4 / 10000", &[])
            .await
            .map_err(self.failed("reading the server version"))?;
        Ok(row.get::<_, i32>(0).unsigned_abs())
    }

    /// What tells whether its answers can still come, for [`answered`](crate::answered).
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// A handle that cancels what this session runs. Use it instead of the driver's `cancel_token`, which does not
    /// know how to reach the server.
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        self.canceller.clone()
    }
}

/// Cancels the statement that a session runs.
#[derive(Clone)]
pub struct Canceller {
    dsn: Arc<Dsn>,
    /// Known once the session is established.
    peer: Option<Peer>,
    token: CancelToken,
}

impl Canceller {
    /// Asks the server to cancel the running statement, which then fails with 57014. No effect on an idle session.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn cancel(&self) -> Result<(), Error> {
        let Some(peer) = &self.peer else { return Ok(()) };
        let transport = Box::pin(dial::redial(&self.dsn, peer)).await?;
        let server = || format!("{}/{}", peer.host, self.dsn.dbname);
        let failed = |source| Error::Sql { server: server(), doing: "cancelling a statement".to_owned(), source };
        self.token.cancel_query_raw(transport, Settled).await.map_err(failed)
    }
}

impl std::ops::DerefMut for Client {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.client
    }
}

impl Deref for Client {
    type Target = tokio_postgres::Client;

    fn deref(&self) -> &Self::Target {
        &self.client
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let Some(mut task) = self.task.take().filter(|task| !task.is_finished()) else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return task.abort() };
        let canceller = self.canceller.clone();
        // The driver's client is dropped after this, which makes an idle connection say Terminate and end.
        runtime.spawn(async move {
            if timeout(GRACE, &mut task).await.is_err() {
                let cancelled = timeout(CANCEL_TIMEOUT, canceller.cancel()).await;
                if !matches!(cancelled, Ok(Ok(()))) || timeout(CANCEL_TIMEOUT, &mut task).await.is_err() {
                    task.abort();
                }
            }
        });
    }
}
