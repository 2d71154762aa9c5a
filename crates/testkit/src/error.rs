//! What can go wrong before a test starts.

use std::{io, path::PathBuf};

/// A cluster cannot be made or started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No server of that major version is in the cache.
    #[error("no PostgreSQL {major} at {}: run scripts/fetch-postgres {major}", path.display())]
    NoServer {
        /// The version that was asked for.
        major: u32,
        /// Where it would be.
        path: PathBuf,
    },
    /// A client tool is not in the cache.
    #[error("no {tool} at {}: run scripts/fetch-postgres", path.display())]
    NoTool {
        /// The program.
        tool: String,
        /// Where it would be.
        path: PathBuf,
    },
    /// The emulator of AWS is not in the cache.
    #[error("no emulator of AWS at {}: run scripts/fetch-emulator", path.display())]
    NoEmulator {
        /// Where it would be.
        path: PathBuf,
    },
    /// An endpoint from outside that tests must not touch.
    #[error("AWS_ENDPOINT_URL={0} is not http:// on this machine: tests use no other")]
    NotLoopback(String),
    /// A major version that is not in `scripts/postgres-versions`.
    #[error("PostgreSQL {0} is not pinned in scripts/postgres-versions")]
    NotPinned(String),
    /// A file or a process of the cluster.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done, with the path.
        doing: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A program of the cluster failed.
    #[error("{doing} failed:\n{output}")]
    Program {
        /// The program and what for.
        doing: String,
        /// What it printed.
        output: String,
    },
    /// SQL of the kit itself failed.
    #[error("{doing}: {}", describe(source))]
    Sql {
        /// What was being done.
        doing: String,
        /// Why it failed.
        source: tokio_postgres::Error,
    },
}

/// The server's own words; the driver's `Display` says only "db error".
pub(crate) fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => {
            let mut text = format!("{} {}: {}", db.severity(), db.code().code(), db.message());
            for part in [db.detail(), db.hint(), db.where_()].into_iter().flatten() {
                text.push_str("\n  ");
                text.push_str(part);
            }
            text
        }
        None => match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}

/// Says what was being done when an operation of the system failed.
pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let doing = doing.into();
    move |source| Error::Io { doing, source }
}
