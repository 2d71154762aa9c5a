//! The password of a login, from a secret, through its rotation.
//!
//! ```text
//!  asked       answer
//!  first       AWSCURRENT, at most FRESH old
//!  refused     AWSCURRENT, read again          it was rotated since
//!  refused     AWSCURRENT, after a pause       a rotation has set the password and is about to say so
//!  refused     AWSPENDING                      … or has not come to say so
//!  refused     AWSCURRENT, after a pause
//!  refused     an error
//! ```

use std::{fmt, sync::Arc, time::Duration};

use pgstream_postgres::{
    Class, Credentials, CredentialsError, CredentialsFuture, CredentialsRequest, PasswordProvider,
};
use tokio::{sync::Mutex, time::Instant};

use super::{Login, SecretError, Stage, Store};

/// A copy opens many connections at once, which need not read the secret each. Far shorter than anybody waits for a
/// rotation to take effect.
const FRESH: Duration = Duration::from_secs(5);

/// A rotation tests the new password and moves the stage within seconds of setting it.
const PAUSE: Duration = Duration::from_secs(2);

/// Answers from one secret.
pub struct SecretPassword {
    store: Store,
    secret: String,
    /// What was read last, and when.
    cache: Mutex<Option<(Instant, Login)>>,
}

/// What is answered to a login that was refused so often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Cached,
    Current { after: Duration },
    Pending,
    GiveUp,
}

impl Answer {
    fn to(refusals: u32) -> Self {
        match refusals {
            0 => Self::Cached,
            1 => Self::Current { after: Duration::ZERO },
            2 | 4 => Self::Current { after: PAUSE },
            3 => Self::Pending,
            _ => Self::GiveUp,
        }
    }
}

impl SecretPassword {
    /// Answers from this secret, of which `login` was just read.
    #[must_use]
    pub fn new(store: Store, secret: &str, login: Login) -> Arc<Self> {
        let cache = Mutex::new(Some((Instant::now(), login)));
        Arc::new(Self { store, secret: secret.to_owned(), cache })
    }

    async fn answer(&self, request: CredentialsRequest<'_>) -> Result<Login, CredentialsError> {
        let failed = |error| credentials_error(&error);
        match Answer::to(request.refusal.map_or(0, |refusal| refusal.count)) {
            Answer::Cached => {
                // Held while reading, so that many connections read once.
                let mut cache = self.cache.lock().await;
                match cache.as_ref() {
                    Some((read, login)) if read.elapsed() < FRESH => Ok(login.clone()),
                    _ => {
                        let login = self.read(Stage::Current).await.map_err(failed)?;
                        *cache = Some((Instant::now(), login.clone()));
                        Ok(login)
                    }
                }
            }
            Answer::Current { after } => {
                tokio::time::sleep(after).await;
                self.renew(Stage::Current).await.map_err(failed)
            }
            Answer::Pending => match self.renew(Stage::Pending).await {
                // No rotation is under way.
                Err(SecretError::NoVersion { .. }) => self.renew(Stage::Current).await.map_err(failed),
                other => other.map_err(failed),
            },
            Answer::GiveUp => Err(self.refused(request)),
        }
    }

    async fn renew(&self, stage: Stage) -> Result<Login, SecretError> {
        let login = self.read(stage).await?;
        *self.cache.lock().await = Some((Instant::now(), login.clone()));
        Ok(login)
    }

    async fn read(&self, stage: Stage) -> Result<Login, SecretError> {
        let text = self.store.read(&self.secret, stage).await?;
        Login::parse(&self.secret, secrecy::ExposeSecret::expose_secret(&text))
    }

    fn refused(&self, request: CredentialsRequest<'_>) -> CredentialsError {
        let said = request.refusal.map(|refusal| refusal.said).unwrap_or_default();
        CredentialsError {
            problem: format!(
                "the server refuses what secret `{}` holds, AWSCURRENT and AWSPENDING, read again {} times: {said}",
                self.secret,
                request.refusal.map_or(0, |refusal| refusal.count - 1),
            ),
            class: Class::Setup,
            help: Some(
                "was the password changed without the secret, or the other way round? Rotate the secret (aws secretsmanager \
                 rotate-secret), or write the right password into it; a user with `rds_iam` cannot log in with a password, and \
                 `no encryption` in the text means that the server wants TLS (sslmode=require or better)"
                    .to_owned(),
            ),
        }
    }
}

impl PasswordProvider for SecretPassword {
    fn credentials<'a>(&'a self, request: CredentialsRequest<'a>) -> CredentialsFuture<'a> {
        Box::pin(async move {
            let Login { user, password, .. } = self.answer(request).await?;
            Ok(Credentials { user: Some(user), password })
        })
    }
}

impl fmt::Debug for SecretPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretPassword({})", self.secret)
    }
}

/// For a crate that knows no AWS.
pub(crate) fn credentials_error(error: &SecretError) -> CredentialsError {
    let help = miette::Diagnostic::help(error).map(|help| help.to_string());
    CredentialsError { problem: error.to_string(), class: error.class(), help }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_found_or_given_up_within_what_a_login_allows() {
        let last = (0..).find(|refusals| Answer::to(*refusals) == Answer::GiveUp).unwrap();
        assert!(last <= pgstream_postgres::MAX_REFUSALS);
        assert_eq!(Answer::to(1), Answer::Current { after: Duration::ZERO });
        assert!((1..last).any(|refusals| Answer::to(refusals) == Answer::Pending));
    }
}
