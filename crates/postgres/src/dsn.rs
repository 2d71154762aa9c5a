//! Connection URLs as libpq reads them.

use secrecy::{ExposeSecret, SecretString};

/// A parsed connection URL. Holds no password: that is taken out into [`crate::Password`].
#[derive(Debug, Clone)]
pub struct Dsn {
    /// SKELETON: to be replaced by typed fields.
    pub(crate) url: SecretString,
    dbname: String,
}

/// The URL cannot be used; says which part and why, never the password.
#[derive(Debug, Clone, thiserror::Error, miette::Diagnostic)]
#[error("connection URL: {problem}")]
pub struct DsnError {
    /// What is wrong.
    pub problem: String,
    /// What to write instead.
    #[help]
    pub fix: Option<String>,
}

impl Dsn {
    /// Parses `postgresql://…` or `postgres://…`.
    ///
    /// # Errors
    /// When the URL is malformed or holds an unknown parameter.
    pub fn parse(url: &str) -> Result<Self, DsnError> {
        let config: tokio_postgres::Config =
            url.parse().map_err(|e| DsnError { problem: format!("{e}"), fix: None })?;
        Ok(Self { url: url.into(), dbname: config.get_dbname().unwrap_or("postgres").to_owned() })
    }

    /// The database that is connected to.
    #[must_use]
    pub fn dbname(&self) -> &str {
        &self.dbname
    }

    /// The same server, another database.
    #[must_use]
    pub fn with_dbname(&self, dbname: &str) -> Self {
        Self { url: self.url.clone(), dbname: dbname.to_owned() }
    }

    pub(crate) fn config(&self) -> tokio_postgres::Config {
        let mut config: tokio_postgres::Config = self.url.expose_secret().parse().unwrap_or_default();
        config.dbname(&self.dbname);
        config
    }
}
