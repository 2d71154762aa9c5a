//! SQL in tests: what fails, fails the test and says so.

use std::{
    ops::{Deref, DerefMut},
    time::{Duration, Instant},
};

use tokio_postgres::{NoTls, Row, SimpleQueryMessage, types::FromSqlOwned};

use crate::{Error, error::describe};

/// How long [`Client::wait_until`] waits.
pub const WAIT_DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// A session; dereferences to [`tokio_postgres::Client`] for all that is not here.
pub struct Client {
    client: tokio_postgres::Client,
    connection: tokio::task::JoinHandle<()>,
}

impl Client {
    /// Connects without TLS.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn connect(config: &tokio_postgres::Config) -> Result<Self, Error> {
        let (client, connection) = config.connect(NoTls).await.map_err(|source| Error::Sql {
            doing: format!("connecting to {:?} {:?}", config.get_hosts(), config.get_dbname().unwrap_or_default()),
            source,
        })?;
        // The end of the connection shows in the calls on the client.
        let connection = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { client, connection })
    }

    /// Connects to a URL without TLS.
    ///
    /// # Errors
    /// When the URL is wrong, or the server cannot be reached or refuses.
    pub async fn open(url: &str) -> Result<Self, Error> {
        let config = url.parse().map_err(|source| Error::Sql { doing: "parsing a URL".to_owned(), source })?;
        Self::connect(&config).await
    }

    /// Runs statements separated by semicolons.
    ///
    /// # Panics
    /// When one fails.
    pub async fn batch(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap_or_else(|error| fail(sql, &error));
    }

    /// Runs one statement; returns the number of rows.
    ///
    /// # Panics
    /// When it fails.
    pub async fn execute(&self, sql: &str) -> u64 {
        self.client.execute(sql, &[]).await.unwrap_or_else(|error| fail(sql, &error))
    }

    /// The rows of one statement.
    ///
    /// # Panics
    /// When it fails.
    pub async fn query(&self, sql: &str) -> Vec<Row> {
        self.client.query(sql, &[]).await.unwrap_or_else(|error| fail(sql, &error))
    }

    /// The first column of the only row.
    ///
    /// # Panics
    /// When the statement fails, has not exactly one row, or has another type.
    pub async fn scalar<T: FromSqlOwned>(&self, sql: &str) -> T {
        let row = self.client.query_one(sql, &[]).await.unwrap_or_else(|error| fail(sql, &error));
        row.try_get(0).unwrap_or_else(|error| fail(sql, &error))
    }

    /// The first column of the first row as text; `None` for no row or NULL.
    ///
    /// # Panics
    /// When the statement fails.
    pub async fn text(&self, sql: &str) -> Option<String> {
        self.try_text(sql).await.unwrap_or_else(|error| fail(sql, &error))
    }

    /// Asks again until the first column of the first row is this text; booleans are `t` and `f`.
    ///
    /// # Panics
    /// When it is not after [`WAIT_DEADLINE`], or the statement fails.
    pub async fn wait_until(&self, sql: &str, expected: &str) {
        self.wait_until_within(WAIT_DEADLINE, sql, expected).await;
    }

    /// [`Client::wait_until`] with another deadline.
    ///
    /// # Panics
    /// As there.
    pub async fn wait_until_within(&self, limit: Duration, sql: &str, expected: &str) {
        let deadline = Instant::now() + limit;
        loop {
            let found = self.text(sql).await;
            if found.as_deref() == Some(expected) {
                return;
            }
            let found = found.as_deref().unwrap_or("nothing");
            assert!(Instant::now() < deadline, "after {limit:?}: expected {expected}, found {found}\n  {sql}");
            tokio::time::sleep(POLL).await;
        }
    }

    pub(crate) async fn try_text(&self, sql: &str) -> Result<Option<String>, tokio_postgres::Error> {
        Ok(self
            .client
            .simple_query(sql)
            .await?
            .into_iter()
            .find_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(row.get(0).map(str::to_owned)),
                _ => None,
            })
            .flatten())
    }
}

fn fail(sql: &str, error: &tokio_postgres::Error) -> ! {
    panic!("{}\n  in: {sql}", describe(error))
}

/// A SQL string literal.
pub(crate) fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// The driver's client where a method of the same name is in front of it.
impl AsRef<tokio_postgres::Client> for Client {
    fn as_ref(&self) -> &tokio_postgres::Client {
        &self.client
    }
}

impl Deref for Client {
    type Target = tokio_postgres::Client;

    fn deref(&self) -> &Self::Target {
        &self.client
    }
}

impl DerefMut for Client {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.client
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
