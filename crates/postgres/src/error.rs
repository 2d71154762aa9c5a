//! What can go wrong with a server, and what kind of failure it is.
//!
//! ```text
//!  driver error ─┐
//!  ErrorResponse ┼─> Error ── sqlstate() ──> one table ──> class(): retry or stop
//!  socket, TLS  ─┘                                    └──> remedy(): the operator's next step
//! ```
//!
//! The text of an error is complete by itself and has no `source()` chain: the driver's own text is either terse
//! ("db error") or prints `DETAIL`, which holds row values for every constraint violation.

mod server_error;
mod sqlstate;

use std::{borrow::Cow, error, fmt, io, time::Duration};

pub use server_error::ServerError;

use crate::{password::CredentialsError, tls::TlsError};

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

/// A failure at one server. `server` is always `host:port/database`, without secrets.
pub enum Error {
    /// The server refused the session, or it ended before it was ready.
    Connect {
        /// `host:port/database`, without secrets.
        server: String,
        /// The cause.
        source: tokio_postgres::Error,
    },
    /// A statement failed.
    Sql {
        /// `host:port/database`, without secrets.
        server: String,
        /// What was being done, in words.
        doing: String,
        /// The cause.
        source: tokio_postgres::Error,
    },
    /// The server answered a replication connection with an error.
    Refused {
        /// `host:port/database`, without secrets.
        server: String,
        /// What was being done, in words.
        doing: Cow<'static, str>,
        /// What the server said.
        source: Box<ServerError>,
    },
    /// The slot no longer holds the changes that are needed.
    SlotLost {
        /// `host:port/database`, without secrets.
        server: String,
        /// The slot.
        slot: String,
        /// What the server said.
        source: Box<ServerError>,
    },
    /// The network or the socket failed.
    Io {
        /// `host:port/database`, without secrets.
        server: String,
        /// What was being done, in words.
        doing: Cow<'static, str>,
        /// The cause.
        source: io::Error,
    },
    /// The server did not answer in time.
    Timeout {
        /// `host:port/database`, without secrets.
        server: String,
        /// How long was waited.
        after: Duration,
    },
    /// The server waits for a request, and the session for the answer to one.
    Unanswered {
        /// `host:port/database`, without secrets.
        server: String,
        /// How long nothing has moved.
        after: Duration,
    },
    /// TLS could not be set up as `sslmode` asks.
    Tls {
        /// `host:port/database`, without secrets.
        server: String,
        /// The cause.
        source: TlsError,
    },
    /// The password could not be obtained.
    Password {
        /// `host:port/database`, without secrets.
        server: String,
        /// The cause, from where the password is kept.
        source: Box<CredentialsError>,
    },
    /// The two sides have no way to authenticate in common.
    Authentication {
        /// `host:port/database`, without secrets.
        server: String,
        /// Why.
        problem: Cow<'static, str>,
    },
    /// The server is reachable but not of the kind that is needed: that `target_session_attrs` asks for, or, for
    /// replication, one that is not a standby.
    WrongRole {
        /// `host:port/database`, without secrets.
        server: String,
        /// A value of `target_session_attrs`.
        wanted: &'static str,
    },
    /// The bytes received are not the protocol.
    Protocol {
        /// `host:port/database`, without secrets.
        server: String,
        /// What was wrong with them.
        problem: Cow<'static, str>,
    },
    /// The server ended the stream: it is shutting down or restarting.
    Ended {
        /// `host:port/database`, without secrets.
        server: String,
    },
    /// The environment for `pg_dump` and `pg_restore` could not be prepared.
    Tools {
        /// `host:port/database`, without secrets.
        server: String,
        /// Why.
        problem: Cow<'static, str>,
    },
}

impl Error {
    /// What kind of failure this is.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            // A value that is refused at start-up is a setting, not data.
            Self::Connect { source, .. } if source.code().is_some_and(|code| code.code().starts_with("22")) => {
                Class::Config
            }
            Self::Refused { source, .. } if source.code.starts_with("22") => Class::Config,
            // A catalog query met an object that was dropped under it.
            Self::Sql { source, .. } if is_catalog_race(source) => Class::Transient,
            Self::Connect { source, .. } | Self::Sql { source, .. } => match source.code() {
                Some(code) => sqlstate::lookup(code.code()).class,
                None => driver_class(source),
            },
            // The stream reads nothing but WAL from disk, so a missing file is a missing segment.
            Self::Refused { source, .. } if source.code == "58P01" => Class::Lost,
            Self::Refused { source, .. } => sqlstate::lookup(&source.code).class,
            Self::SlotLost { .. } => Class::Lost,
            Self::Io { .. }
            | Self::Timeout { .. }
            | Self::Unanswered { .. }
            | Self::WrongRole { .. }
            | Self::Ended { .. } => Class::Transient,
            Self::Tls { source, .. } => source.class(),
            Self::Password { source, .. } => source.class,
            Self::Authentication { .. } | Self::Tools { .. } => Class::Setup,
            // Garbage is what a broken middleman sends; it rarely comes twice, and the position is safe.
            Self::Protocol { .. } => Class::Transient,
        }
    }

    /// Whether a query met an object that was dropped under it: the next one will not.
    #[must_use]
    pub fn is_catalog_race(&self) -> bool {
        matches!(self, Self::Sql { source, .. } if is_catalog_race(source))
    }

    /// The code that the server gave, when it is the server that refused.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Connect { source, .. } | Self::Sql { source, .. } => source.code().map(|code| code.code()),
            Self::Refused { source, .. } | Self::SlotLost { source, .. } => Some(&source.code),
            _ => None,
        }
    }

    /// Whether the server refused because the role lacks a right.
    #[must_use]
    pub fn is_permission_denied(&self) -> bool {
        self.sqlstate() == Some(tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE.code())
    }

    /// The operator's next step, where one is known.
    #[must_use]
    pub fn remedy(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::SlotLost { slot, .. } => Some(Cow::Owned(format!(
                "the source removed WAL that slot `{slot}` still needed (`max_slot_wal_keep_size`, or a restore). Run `pgstream-aws \
                 destroy --slot-only`, then `pgstream-aws init` and a new snapshot"
            ))),
            Self::Io { .. } | Self::Timeout { .. } => Some(Cow::Borrowed(
                "check the host name, port, security group and route; on AWS the instance must accept the port from this task's \
                 security group",
            )),
            Self::Unanswered { .. } => Some(Cow::Borrowed(
                "what is between this task and the server (a proxy, a firewall, a load balancer) lost or changed a piece of the \
                 connection: try again, and leave it out if it happens again",
            )),
            Self::Tls { source, .. } => source.help().map(Cow::Borrowed),
            Self::Password { source, .. } => source.help.as_deref().map(Cow::Borrowed),
            Self::Authentication { .. } => Some(Cow::Borrowed(
                "give a password in the URL, PGPASSWORD or the passfile, or a secret; `channel_binding=prefer` accepts servers \
                 without it",
            )),
            Self::WrongRole { .. } => {
                Some(Cow::Borrowed("use the writer endpoint, or change `target_session_attrs` in the URL"))
            }
            Self::Refused { source, .. } if source.code == "58P01" => Some(Cow::Borrowed(
                "the WAL that the slot needs is gone: recreate the slot with `pgstream-aws init` and take a new snapshot",
            )),
            _ => self.sqlstate().and_then(|code| sqlstate::lookup(code).help).map(Cow::Borrowed),
        }
    }
}

/// Names of objects in a query's result are looked up as they are now, not as the query's snapshot saw them.
fn is_catalog_race(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|e| {
        let texts = ["could not open relation with OID", "cache lookup failed for"];
        e.code().code() == "XX000" && texts.iter().any(|text| e.message().starts_with(text))
    })
}

/// The class of a driver error that carries no SQLSTATE. The driver keeps its kinds to itself, so its fixed texts have
/// to do; a test against hostile servers notices when they change.
fn driver_class(error: &tokio_postgres::Error) -> Class {
    match error.to_string().as_str() {
        "error communicating with the server"
        | "error connecting to server"
        | "connection closed"
        | "timeout waiting for server"
        | "unexpected message from server"
        | "error parsing response from server" => Class::Transient,
        "authentication error" | "invalid configuration" => Class::Setup,
        // Parameters, columns and rows that are not what the statement has.
        _ => Class::Bug,
    }
}

/// The text of a driver error without row values: `DETAIL` holds them for errors of class Data.
fn describe(error: &tokio_postgres::Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    use error::Error as _;
    if let Some(db) = error.as_db_error() {
        return server_error::write(f, db.severity(), db.code().code(), db.message(), db.detail(), db.hint());
    }
    write!(f, "{error}")?;
    match error.source() {
        Some(cause) => write!(f, ": {cause}"),
        None => Ok(()),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { server, source } => {
                write!(f, "cannot connect to {server}: ")?;
                describe(source, f)
            }
            Self::Sql { server, doing, source } => {
                write!(f, "{doing} on {server}: ")?;
                describe(source, f)
            }
            Self::Refused { server, doing, source } => write!(f, "{doing} on {server}: {source}"),
            Self::SlotLost { server, slot, source } => {
                write!(f, "replication slot `{slot}` on {server} has lost its changes: {source}")
            }
            Self::Io { server, doing, source } => write!(f, "{doing} {server}: {source}"),
            Self::Timeout { server, after } => write!(f, "{server} did not answer within {after:?}"),
            Self::Unanswered { server, after } => {
                let seconds = after.as_secs();
                write!(f, "an answer of {server} was lost on the way: it has waited for a request for {seconds} s")
            }
            Self::Tls { server, source } => write!(f, "cannot connect to {server}: {source}"),
            Self::Password { server, source } => write!(f, "cannot obtain the password for {server}: {source}"),
            Self::Authentication { server, problem } => write!(f, "cannot authenticate to {server}: {problem}"),
            Self::WrongRole { server, wanted } => write!(f, "{server} is not a `{wanted}` server"),
            Self::Protocol { server, problem } => write!(f, "unexpected data from {server}: {problem}"),
            Self::Ended { server } => write!(f, "{server} ended the replication stream"),
            Self::Tools { server, problem } => {
                write!(f, "cannot prepare pg_dump and pg_restore for {server}: {problem}")
            }
        }
    }
}

/// As `Display`: the fields of driver errors hold row values.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({:?}, {self})", self.class())
    }
}

impl error::Error for Error {}

impl miette::Diagnostic for Error {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let name = match self {
            Self::Connect { .. } => "connect",
            Self::Sql { .. } => "sql",
            Self::Refused { .. } => "replication",
            Self::SlotLost { .. } => "slot_lost",
            Self::Io { .. } => "network",
            Self::Timeout { .. } => "timeout",
            Self::Unanswered { .. } => "unanswered",
            Self::Tls { .. } => "tls",
            Self::Password { .. } => "password",
            Self::Authentication { .. } => "authentication",
            Self::WrongRole { .. } => "role",
            Self::Protocol { .. } => "protocol",
            Self::Ended { .. } => "ended",
            Self::Tools { .. } => "tools",
        };
        Some(match self.sqlstate() {
            Some(code) => Box::new(format!("pgstream::postgres::{name}({code})")),
            None => Box::new(format!("pgstream::postgres::{name}")),
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.remedy().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }
}
