//! The parameters of a URL, and the environment variables that stand in for them.

use std::collections::BTreeMap;

use super::DsnError;

/// A parameter that libpq knows and that means something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Parameter {
    Host,
    Hostaddr,
    Port,
    User,
    Password,
    Dbname,
    Sslmode,
    Sslrootcert,
    Sslcert,
    Sslkey,
    ChannelBinding,
    ConnectTimeout,
    Options,
    ApplicationName,
    TargetSessionAttrs,
    Keepalives,
    KeepalivesIdle,
    KeepalivesInterval,
    KeepalivesCount,
    TcpUserTimeout,
    Passfile,
    Gssencmode,
    ClientEncoding,
    FallbackApplicationName,
}

use Parameter as P;

/// Name in a URL, and variable. Of libpq's variables those are left out that would steer both servers of a pipeline
/// to one place (`PGHOSTADDR`) or change what sessions do (`PGOPTIONS`). `PGPASSWORD` and `PGPASSFILE` are read at
/// connect.
const TABLE: &[(&str, Parameter, Option<&str>)] = &[
    ("host", P::Host, Some("PGHOST")),
    ("hostaddr", P::Hostaddr, None),
    ("port", P::Port, Some("PGPORT")),
    ("user", P::User, Some("PGUSER")),
    ("password", P::Password, None),
    ("dbname", P::Dbname, Some("PGDATABASE")),
    ("sslmode", P::Sslmode, Some("PGSSLMODE")),
    ("sslrootcert", P::Sslrootcert, Some("PGSSLROOTCERT")),
    ("sslcert", P::Sslcert, Some("PGSSLCERT")),
    ("sslkey", P::Sslkey, Some("PGSSLKEY")),
    ("channel_binding", P::ChannelBinding, Some("PGCHANNELBINDING")),
    ("connect_timeout", P::ConnectTimeout, Some("PGCONNECT_TIMEOUT")),
    ("options", P::Options, None),
    ("application_name", P::ApplicationName, None),
    ("target_session_attrs", P::TargetSessionAttrs, None),
    ("keepalives", P::Keepalives, None),
    ("keepalives_idle", P::KeepalivesIdle, None),
    ("keepalives_interval", P::KeepalivesInterval, None),
    ("keepalives_count", P::KeepalivesCount, None),
    ("tcp_user_timeout", P::TcpUserTimeout, None),
    ("passfile", P::Passfile, None),
    ("gssencmode", P::Gssencmode, None),
    ("client_encoding", P::ClientEncoding, None),
    ("fallback_application_name", P::FallbackApplicationName, None),
];

/// What libpq knows and this program does not use; said apart from a misspelling.
const UNUSED: &[&str] = &[
    "gssdelegation",
    "gsslib",
    "krbsrvname",
    "load_balance_hosts",
    "max_protocol_version",
    "min_protocol_version",
    "oauth_client_id",
    "oauth_client_secret",
    "oauth_issuer",
    "oauth_scope",
    "replication",
    "require_auth",
    "requirepeer",
    "requiressl",
    "scram_client_key",
    "scram_server_key",
    "service",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcertmode",
    "sslcompression",
    "sslcrl",
    "sslcrldir",
    "sslkeylogfile",
    "sslnegotiation",
    "sslpassword",
    "sslsni",
];

impl Parameter {
    /// The parameter of this name.
    pub(super) fn find(name: &str) -> Result<Self, DsnError> {
        if let Some(&(_, parameter, _)) = TABLE.iter().find(|(known, ..)| *known == name) {
            return Ok(parameter);
        }
        if UNUSED.contains(&name) {
            return Err(DsnError {
                problem: format!("parameter `{name}` is not supported"),
                fix: Some(format!("remove `{name}`")),
            });
        }
        // The name may be a piece of a password with an unescaped `?`: only what looks like a name is shown.
        if name.len() > 40 || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
            return Err(DsnError {
                problem: "it has an unknown parameter".to_owned(),
                fix: Some("write parameters as `name=value`, with special characters percent-encoded".to_owned()),
            });
        }
        let nearest = TABLE
            .iter()
            .map(|(known, ..)| (strsim::jaro_winkler(known, name), known))
            .filter(|(likeness, _)| *likeness > 0.7)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        Err(DsnError {
            problem: format!("unknown parameter `{name}`"),
            fix: Some(match nearest {
                Some((_, known)) => {
                    format!("did you mean `{known}`? A server setting goes into `options=-c%20{name}%3D…`")
                }
                None => format!("remove it; a server setting goes into `options=-c%20{name}%3D…`"),
            }),
        })
    }

    pub(super) fn name(self) -> &'static str {
        TABLE.iter().find(|(_, parameter, _)| *parameter == self).map_or("", |(name, ..)| name)
    }
}

/// The parameters that were given, later ones over earlier ones.
#[derive(Default)]
pub(super) struct Values(BTreeMap<Parameter, String>);

impl Values {
    pub(super) fn set(&mut self, parameter: Parameter, value: String) {
        self.0.insert(parameter, value);
    }

    /// Takes from the environment what the URL left open.
    pub(super) fn fill(&mut self, environment: &dyn Fn(&str) -> Option<String>) {
        for &(_, parameter, variable) in TABLE {
            if !self.0.contains_key(&parameter)
                && let Some(value) = variable.and_then(environment).filter(|value| !value.is_empty())
            {
                self.0.insert(parameter, value);
            }
        }
    }

    /// The value, unless empty: to libpq an empty value is none.
    pub(super) fn get(&self, parameter: Parameter) -> Option<&str> {
        self.0.get(&parameter).map(String::as_str).filter(|value| !value.is_empty())
    }
}
