//! A server, and connections to it.

use std::{collections::BTreeMap, fmt, ops::Deref};

use crate::{Dsn, Error, replication};

/// Where the password of a connection comes from; asked at every connect.
#[derive(Debug, Clone)]
pub enum Password {
    /// From the URL, `PGPASSWORD` or the passfile.
    FromUrl,
}

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

/// A server that can be connected to: address, TLS, credentials. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    dsn: Dsn,
    #[allow(dead_code)]
    password: Password,
}

impl Server {
    /// A server from its URL; the password, if any, comes from the URL.
    #[must_use]
    pub fn new(dsn: Dsn) -> Self {
        Self { dsn, password: Password::FromUrl }
    }

    /// The parsed URL.
    #[must_use]
    pub fn dsn(&self) -> &Dsn {
        &self.dsn
    }

    /// The same server and credentials, another database.
    #[must_use]
    pub fn with_dbname(&self, dbname: &str) -> Self {
        Self { dsn: self.dsn.with_dbname(dbname), password: self.password.clone() }
    }

    /// Opens a session for SQL and COPY.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn connect(&self, session: &Session) -> Result<Client, Error> {
        let mut config = self.dsn.config();
        config.application_name(&session.application_name);
        let connect = |source| Error::Connect { server: self.to_string(), source };
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.map_err(connect)?;
        let task = tokio::spawn(async move { drop(connection.await) });
        for (name, value) in &session.settings {
            client.execute("SELECT set_config($1, $2, false)", &[name, value]).await.map_err(connect)?;
        }
        Ok(Client { client, task, server: self.to_string() })
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
        write!(f, "{}", self.dsn.dbname())
    }
}

/// A session on a server; dropping it closes the connection.
pub struct Client {
    client: tokio_postgres::Client,
    task: tokio::task::JoinHandle<()>,
    server: String,
}

impl Client {
    /// Turns a driver error into ours, saying what was being done.
    pub fn failed(&self, doing: &str) -> impl FnOnce(tokio_postgres::Error) -> Error + use<> {
        let (server, doing) = (self.server.clone(), doing.to_owned());
        move |source| Error::Sql { server, doing, source }
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
        self.task.abort();
    }
}
