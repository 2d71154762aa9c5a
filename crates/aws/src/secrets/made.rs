//! The login of a role that `users apply` makes: kept before it is set, so that a run that is cut off can be repeated.

use rand::{Rng as _, distr::Alphanumeric};
use secrecy::SecretString;
use serde_json::json;

use super::{Login, SecretError, Stage, Store};

/// 32 letters and digits are 190 bits, and mean nothing in URLs, passfiles or shells.
const LENGTH: usize = 32;

/// Where the role will log in.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The role.
    pub user: &'a str,
    /// The server.
    pub host: &'a str,
    /// Its port.
    pub port: u16,
    /// The database.
    pub dbname: &'a str,
}

/// The password that the secret keeps for the role; a new secret with a new password when there is none.
///
/// # Errors
/// The secret cannot be read or written, or belongs to another user.
pub async fn password(store: &Store, secret: &str, place: Place<'_>) -> Result<SecretString, SecretError> {
    use secrecy::ExposeSecret as _;
    match store.read(secret, Stage::Current).await {
        Ok(text) => {
            let login = Login::parse(secret, text.expose_secret())?;
            if login.user == place.user {
                return Ok(login.password);
            }
            let problem =
                format!("it keeps the login of another user than `{}`; give another name with --secret", place.user);
            Err(SecretError::Malformed { secret: secret.to_owned(), problem })
        }
        Err(SecretError::NotFound { .. } | SecretError::NoVersion { .. }) => {
            let password: String = rand::rng().sample_iter(Alphanumeric).take(LENGTH).map(char::from).collect();
            let Place { user, host, port, dbname } = place;
            let text = json!({ "engine": "postgres", "host": host, "port": port, "dbname": dbname,
                               "username": user, "password": password });
            store.write(secret, &text.to_string().into()).await?;
            Ok(password.into())
        }
        Err(error) => Err(error),
    }
}
