//! Connection URLs as libpq reads them.
//!
//! ```text
//!  postgresql://user:password@host:5432,[::1]:5433/dbname?sslmode=verify-full&options=-c%20work_mem%3D64MB
//!               └── percent-decoded, each part ──┘        └── the parameters of `parameter::Parameter` ──┘
//! ```
//!
//! What the URL leaves open is filled from `PGUSER`, `PGHOST` and so on, as libpq does, except that the default host is
//! `localhost`. No text made here, error, `Debug` or `Display`, holds a password: a part that fails to parse is named,
//! never quoted, since a password with an unescaped `/` or `@` ends up in any of them.

mod parameter;
mod parse;
pub(crate) mod passfile;
#[cfg(test)]
mod tests;

use std::{fmt, net::IpAddr, path::PathBuf, time::Duration};

use secrecy::SecretString;

use crate::tls::TlsFiles;

/// Long enough for a failover's DNS change to show, short enough to try the next host.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The kernel's own defaults (two hours idle) find a dead server far too late.
const DEFAULT_KEEPALIVE: Keepalive =
    Keepalive { idle: Duration::from_secs(30), interval: Some(Duration::from_secs(10)), retries: Some(3) };

/// After this long without an acknowledgement a connection is dead. The kernel tries for a quarter of an hour, and a
/// failover leaves just such connections behind. A peer that acknowledges but does not read, such as one that waits for
/// a lock, counts as dead, too: hence not shorter.
const DEFAULT_USER_TIMEOUT: Duration = Duration::from_secs(120);

/// A parsed connection URL. Cheap enough to clone; a password that it came with is hidden in it, see
/// [`crate::Password`].
#[derive(Debug, Clone)]
pub struct Dsn {
    pub(crate) user: String,
    pub(crate) password: Option<SecretString>,
    /// Never empty.
    pub(crate) hosts: Vec<Host>,
    pub(crate) dbname: String,
    pub(crate) ssl_mode: Option<SslMode>,
    pub(crate) tls: TlsFiles,
    pub(crate) channel_binding: ChannelBinding,
    pub(crate) connect_timeout: Duration,
    pub(crate) options: Option<String>,
    pub(crate) application_name: Option<String>,
    pub(crate) target: TargetSession,
    pub(crate) keepalive: Option<Keepalive>,
    pub(crate) user_timeout: Duration,
    pub(crate) passfile: Option<PathBuf>,
}

/// The URL cannot be used; says which part and why, never the password.
#[derive(Debug, Clone, thiserror::Error, miette::Diagnostic)]
#[error("connection URL: {problem}")]
#[diagnostic(code(pgstream::postgres::url))]
pub struct DsnError {
    /// What is wrong.
    pub problem: String,
    /// What to write instead.
    #[help]
    pub fix: Option<String>,
}

/// One of the places where the server may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    pub address: Address,
    /// Overrides the lookup of the name.
    pub hostaddr: Option<IpAddr>,
    pub port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// A name or an address in text.
    Name(String),
    /// The directory of a Unix socket.
    Unix(PathBuf),
}

/// `sslmode`, from weak to strong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// TLS if the server insists.
    Allow,
    /// TLS if the server can.
    Prefer,
    /// TLS, whoever the server is.
    Require,
    /// TLS, and a certificate of a trusted issuer.
    VerifyCa,
    /// TLS, a trusted certificate, and made out to this host.
    VerifyFull,
}

/// `channel_binding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChannelBinding {
    Disable,
    Prefer,
    Require,
}

/// `target_session_attrs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TargetSession {
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    PreferStandby,
}

/// TCP keepalive probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keepalive {
    pub idle: Duration,
    pub interval: Option<Duration>,
    pub retries: Option<u32>,
}

/// Where the trusted roots are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Roots {
    /// `sslrootcert=system`.
    System,
    File(PathBuf),
}

impl Dsn {
    /// Parses `postgresql://…` or `postgres://…`.
    ///
    /// # Errors
    /// When the URL is malformed or holds an unknown parameter.
    pub fn parse(url: &str) -> Result<Self, DsnError> {
        parse::parse(url, &|name| std::env::var(name).ok())
    }

    /// The database that is connected to.
    #[must_use]
    pub fn dbname(&self) -> &str {
        &self.dbname
    }

    /// The same server, another database.
    #[must_use]
    pub fn with_dbname(&self, dbname: &str) -> Self {
        Self { dbname: dbname.to_owned(), ..self.clone() }
    }

    /// The user that logs in.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// `host:port`, or several of them with commas between.
    #[must_use]
    pub fn host_display(&self) -> String {
        self.hosts.iter().map(Host::to_string).collect::<Vec<_>>().join(",")
    }

    /// Name and port of every host, in the order they are tried; sockets are left out.
    pub fn host_names(&self) -> impl Iterator<Item = (&str, u16)> {
        self.hosts.iter().filter_map(|host| Some((host.name()?, host.port)))
    }

    /// Whether every host must prove its name: `sslmode=verify-full`, given or by default.
    #[must_use]
    pub fn verifies_names(&self) -> bool {
        self.hosts.iter().all(|host| self.ssl_mode(host) == SslMode::VerifyFull)
    }

    /// What is asked of TLS at `host`: RDS is verified unless the URL says otherwise, a Unix socket needs none.
    pub(crate) fn ssl_mode(&self, host: &Host) -> SslMode {
        match (&host.address, self.ssl_mode, &self.tls.roots) {
            (Address::Unix(_), ..) => SslMode::Disable,
            (_, Some(mode), _) => mode,
            (_, None, Some(Roots::System)) => SslMode::VerifyFull,
            _ if host.is_aws() => SslMode::VerifyFull,
            _ => SslMode::Prefer,
        }
    }
}

impl Host {
    /// The name as written; none for a Unix socket.
    pub(crate) fn name(&self) -> Option<&str> {
        match &self.address {
            Address::Name(name) => Some(name),
            Address::Unix(_) => None,
        }
    }

    /// Whether this is an endpoint of RDS or Aurora.
    pub(crate) fn is_aws(&self) -> bool {
        let name = self.name().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
        let china = name.strip_suffix(".amazonaws.com.cn");
        // In China the region stands on either side of `rds`.
        name.ends_with(".rds.amazonaws.com")
            || china.is_some_and(|rest| rest.ends_with(".rds") || rest.contains(".rds.cn-"))
    }
}

impl SslMode {
    pub(crate) const ALL: [Self; 6] =
        [Self::Disable, Self::Allow, Self::Prefer, Self::Require, Self::VerifyCa, Self::VerifyFull];

    /// As written in a URL.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }

    pub(crate) fn verifies(self) -> bool {
        self >= Self::VerifyCa
    }
}

impl ChannelBinding {
    pub(crate) const ALL: [Self; 3] = [Self::Disable, Self::Prefer, Self::Require];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
        }
    }
}

impl TargetSession {
    pub(crate) const ALL: [Self; 6] =
        [Self::Any, Self::ReadWrite, Self::ReadOnly, Self::Primary, Self::Standby, Self::PreferStandby];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::ReadWrite => "read-write",
            Self::ReadOnly => "read-only",
            Self::Primary => "primary",
            Self::Standby => "standby",
            Self::PreferStandby => "prefer-standby",
        }
    }
}

impl fmt::Display for SslMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `host:port`, `[::1]:port`, `/directory:port`.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Name(name) if name.contains(':') => write!(f, "[{name}]:{}", self.port),
            Address::Name(name) => write!(f, "{name}:{}", self.port),
            Address::Unix(directory) => write!(f, "{}:{}", directory.display(), self.port),
        }
    }
}

/// `host:port/database`, without user and password.
impl fmt::Display for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host_display(), self.dbname)
    }
}
