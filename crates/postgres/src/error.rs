//! What can go wrong with a server, and what kind of failure it is.

/// What an error means for the operation that met it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Goes away by itself: reconnect and try again.
    Transient,
    /// The server or its objects are not prepared; an operator's step is needed.
    Setup,
    /// What the user wrote is wrong.
    Config,
    /// A row or value cannot be applied.
    Data,
    /// The history needed is gone; only a new snapshot helps.
    Lost,
    /// A defect of this program.
    Bug,
}

/// A failure at one server.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// The connection could not be made.
    #[error("cannot connect to {server}: {source}")]
    Connect {
        /// `host:port/database`, without secrets.
        server: String,
        /// The cause.
        source: tokio_postgres::Error,
    },
    /// A statement failed.
    #[error("{doing} on {server}: {source}")]
    Sql {
        /// `host:port/database`, without secrets.
        server: String,
        /// What was being done, in words.
        doing: String,
        /// The cause.
        source: tokio_postgres::Error,
    },
}

impl Error {
    /// What kind of failure this is.
    #[must_use]
    pub fn class(&self) -> Class {
        Class::Transient
    }
}
