//! URLs that name a secret instead of holding one.
//!
//! ```text
//!  secretsmanager://<name or ARN>?dbname=shop&host=…&port=5432&sslmode=verify-full
//!                   └─ secret ─┘  └── what is written here wins ─┘ └── libpq's ──┘
//! ```

/// What such URLs start with.
pub(crate) const SCHEME: &str = "secretsmanager://";

/// A parsed `secretsmanager://` URL. It holds no password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretUrl {
    /// Name or ARN.
    pub secret: String,
    /// `?host=`, as written.
    pub host: Option<String>,
    /// `?port=`.
    pub port: Option<u16>,
    /// `?dbname=`, as written.
    pub dbname: Option<String>,
    /// Parameters of libpq, as written, joined by `&`.
    pub parameters: String,
}

/// Such a URL is malformed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretUrlError {
    /// What is wrong, without the value.
    pub problem: &'static str,
    /// What to write.
    pub fix: &'static str,
}

/// Where to connect to, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Name, address or socket directory.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Who logs in.
    pub user: String,
    /// The database.
    pub dbname: String,
}

impl SecretUrl {
    /// Parses the URL; `None` when it is one of another scheme.
    #[must_use]
    pub fn parse(url: &str) -> Option<Result<Self, SecretUrlError>> {
        url.strip_prefix(SCHEME).map(Self::parse_rest)
    }

    fn parse_rest(rest: &str) -> Result<Self, SecretUrlError> {
        let (secret, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut url =
            Self { secret: secret.to_owned(), host: None, port: None, dbname: None, parameters: String::new() };
        // Only ARNs have colons: `user:password@host` is not taken for a name.
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"/_+=.@-!".contains(&byte);
        let is_name = secret.bytes().all(|byte| known(byte) || (byte == b':' && secret.starts_with("arn:")));
        if secret.is_empty() || !is_name {
            return Err(SecretUrlError {
                problem: "names have letters, digits and `/_+=.@-!`",
                fix: "write secretsmanager://<name or ARN>, with `?dbname=`, `host=`, `port=` where the secret lacks them",
            });
        }
        let mut rest = Vec::new();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            match name {
                "host" | "dbname" | "port" if value.is_empty() => {
                    return Err(SecretUrlError {
                        problem: "a parameter is empty",
                        fix: "write its value, or remove it",
                    });
                }
                "host" => url.host = Some(value.to_owned()),
                "dbname" => url.dbname = Some(value.to_owned()),
                "port" => match value.parse() {
                    Ok(port) if port > 0 => url.port = Some(port),
                    _ => {
                        return Err(SecretUrlError {
                            problem: "`port` is no port",
                            fix: "write a number from 1 to 65535",
                        });
                    }
                },
                "user" => {
                    return Err(SecretUrlError { problem: "the user comes from the secret", fix: "remove `user=`" });
                }
                "password" => {
                    return Err(SecretUrlError {
                        problem: "the password comes from the secret",
                        fix: "remove `password=`",
                    });
                }
                _ => rest.push(parameter),
            }
        }
        url.parameters = rest.join("&");
        Ok(url)
    }

    /// The URL of the server that the secret is about, without the password.
    #[must_use]
    pub fn postgres_url(&self, endpoint: &Endpoint) -> String {
        let Endpoint { host, port, user, dbname } = endpoint;
        let host = if host.contains(':') && !host.starts_with('/') { format!("[{host}]") } else { encode(host) };
        let query = if self.parameters.is_empty() { String::new() } else { format!("?{}", self.parameters) };
        format!("postgresql://{}@{host}:{port}/{}{query}", encode(user), encode(dbname))
    }

    /// A URL of this form, to check the parameters before the secret is read.
    #[must_use]
    pub fn example(&self) -> String {
        let decoded = |text: &Option<String>, other: &str| text.as_deref().map_or(other.to_owned(), decode);
        self.postgres_url(&Endpoint {
            host: decoded(&self.host, "localhost"),
            port: self.port.unwrap_or(5432),
            user: "user".to_owned(),
            dbname: decoded(&self.dbname, "postgres"),
        })
    }
}

/// Percent-encodes everything that could mean something in a URL.
fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

/// Undoes percent-encoding; what is not encoded properly stays as it is.
#[must_use]
pub fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok()).filter(|_| first == b'%');
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<SecretUrl, SecretUrlError> {
        SecretUrl::parse(url).unwrap()
    }

    #[test]
    fn what_the_secret_lacks_and_libpq_parameters_are_told_apart() {
        let url =
            parse("secretsmanager://rds!db-1?dbname=my%20shop&sslmode=require&port=5433&host=h&options=-c%20a%3Db");
        let url = url.unwrap();
        assert_eq!((url.secret.as_str(), url.host.as_deref(), url.port), ("rds!db-1", Some("h"), Some(5433)));
        assert_eq!(url.parameters, "sslmode=require&options=-c%20a%3Db");
        assert_eq!(url.example(), "postgresql://user@h:5433/my%20shop?sslmode=require&options=-c%20a%3Db");
    }

    #[test]
    fn names_are_encoded_so_that_they_cannot_break_out() {
        let endpoint = Endpoint { host: "::1".into(), port: 1, user: "a@b:c".into(), dbname: "x/y?z".into() };
        let url = parse("secretsmanager://s").unwrap().postgres_url(&endpoint);
        assert_eq!(url, "postgresql://a%40b%3Ac@[::1]:1/x%2Fy%3Fz");
    }

    #[test]
    fn malformed_ones_are_refused_without_their_value() {
        for url in ["", "u:p@h", "?dbname=x", "a b", "s?port=0", "s?port=x", "s?user=u", "s?password=p", "s?host="] {
            assert!(parse(&format!("secretsmanager://{url}")).is_err(), "{url}");
        }
        assert!(SecretUrl::parse("postgresql://h/d").is_none());
        assert_eq!(decode("a%20b%zz%4"), "a b%zz%4");
    }
}
