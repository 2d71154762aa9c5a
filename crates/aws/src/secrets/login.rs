//! The text of a secret: the JSON that RDS and its rotation functions write.
//!
//! ```text
//!  {"engine":"postgres", "host":…, "port":5432 or "5432", "dbname":…, "username":…, "password":…, "masterarn":…}
//!  {"username":…, "password":…}                               managed by RDS: the endpoint comes from Describe
//! ```

use std::fmt;

use secrecy::SecretString;
use serde::Deserialize;

use super::SecretError;

/// What a secret says; what it leaves out is `None`.
#[derive(Debug, Clone)]
pub struct Login {
    /// Who logs in.
    pub user: String,
    /// With what.
    pub password: SecretString,
    /// Where the server is.
    pub host: Option<String>,
    /// Its port.
    pub port: Option<u16>,
    /// The database.
    pub dbname: Option<String>,
}

/// As written. Unknown keys are fine: rotation functions add theirs.
#[derive(Deserialize)]
struct Written {
    engine: Option<String>,
    username: Option<String>,
    password: Option<String>,
    host: Option<String>,
    port: Option<Port>,
    dbname: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Port {
    Number(u64),
    Text(String),
}

impl Login {
    /// Reads the text of the secret with this name.
    ///
    /// # Errors
    /// It is not of this form, or lacks user or password.
    pub fn parse(secret: &str, text: &str) -> Result<Self, SecretError> {
        let malformed = |problem: String| SecretError::Malformed { secret: secret.to_owned(), problem };
        // The parser's own message quotes values.
        let written: Written = serde_json::from_str(text).map_err(|error| malformed(describe(&error)))?;
        if let Some(engine) = written.engine.filter(|engine| !engine.to_ascii_lowercase().contains("postgres")) {
            let engine: String = engine.chars().filter(char::is_ascii_alphanumeric).take(20).collect();
            return Err(malformed(format!("its engine is `{engine}`, not postgres")));
        }
        let present = |text: Option<String>| text.filter(|text| !text.is_empty());
        let missing: Vec<_> = [
            ("username", written.username.as_ref().is_none_or(String::is_empty)),
            ("password", written.password.as_ref().is_none_or(String::is_empty)),
        ]
        .into_iter()
        .filter_map(|(key, missing)| missing.then_some(key))
        .collect();
        let (Some(user), Some(password), []) = (written.username, written.password, missing.as_slice()) else {
            return Err(malformed(format!("it has no {}", missing.join(" and no "))));
        };
        let port = match written.port {
            None => None,
            Some(Port::Text(text)) if text.is_empty() => None,
            Some(port) => {
                Some(port.number().ok_or_else(|| malformed("its port is not a number from 1 to 65535".into()))?)
            }
        };
        Ok(Self { user, password: password.into(), host: present(written.host), port, dbname: present(written.dbname) })
    }
}

impl Port {
    fn number(&self) -> Option<u16> {
        let number = match self {
            Self::Number(number) => u16::try_from(*number).ok(),
            Self::Text(text) => text.trim().parse().ok(),
        };
        number.filter(|port| *port > 0)
    }
}

/// Where the text stops being what it should be, without quoting it.
fn describe(error: &serde_json::Error) -> String {
    let what: &dyn fmt::Display = match error.classify() {
        serde_json::error::Category::Data => &"it is JSON, and not an object whose keys hold text",
        serde_json::error::Category::Eof => &"its JSON is cut off",
        _ => &"it is not JSON",
    };
    format!("{what} (line {}, column {})", error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn parse(text: &str) -> Result<Login, String> {
        Login::parse("s", text).map_err(|error| error.to_string())
    }

    #[test]
    fn every_form_that_rds_writes_is_read() {
        let full = r#"{"engine":"postgres","host":"h","username":"u","password":"p@:/%' \"","dbname":"d","port":5433,
                       "masterarn":"arn:aws:secretsmanager:eu-west-1:1:secret:m"}"#;
        let login = parse(full).unwrap();
        assert_eq!((login.user.as_str(), login.host.as_deref(), login.port), ("u", Some("h"), Some(5433)));
        assert_eq!((login.password.expose_secret(), login.dbname.as_deref()), ("p@:/%' \"", Some("d")));

        let managed = parse(r#"{"username":"u","password":"p"}"#).unwrap();
        assert_eq!((managed.host, managed.port, managed.dbname), (None, None, None));
        for port in [r#""5433""#, r#"" 5433 ""#, "5433"] {
            let text = format!(r#"{{"username":"u","password":"p","port":{port},"engine":"aurora-postgresql"}}"#);
            assert_eq!(parse(&text).unwrap().port, Some(5433), "{port}");
        }
        let blank = parse(r#"{"username":"u","password":"p","host":"","port":"","dbname":null}"#).unwrap();
        assert_eq!((blank.host, blank.port, blank.dbname), (None, None, None));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_value() {
        for (text, problem) in [
            ("CANARY", "it is not JSON"),
            (r#"{"password":"CANARY""#, "its JSON is cut off"),
            (r#"["CANARY"]"#, "not an object"),
            (r#"{"username":"u","password":{"CANARY":1}}"#, "not an object whose keys hold text"),
            (r#"{"username":"CANARY"}"#, "it has no password"),
            (r#"{"password":"CANARY"}"#, "it has no username"),
            (r#"{"username":"","password":""}"#, "it has no username and no password"),
            (r#"{"username":"u","password":"CANARY","port":0}"#, "its port"),
            (r#"{"username":"u","password":"CANARY","port":"CANARY"}"#, "its port"),
            (r#"{"username":"u","password":"CANARY","engine":"mysql"}"#, "its engine is `mysql`"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(problem) && !error.contains("CANARY"), "{text}: {error}");
        }
    }
}
