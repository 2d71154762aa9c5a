//! Where the password of a connection comes from. It is asked for at every connect, since secrets rotate and tokens
//! expire.

use std::{fmt, pin::Pin, sync::Arc};

use secrecy::SecretString;

use crate::{
    Class, Error,
    dsn::{Dsn, Host, passfile},
};

/// So often a provider is asked again for one login. Enough for a store to answer afresh, after a pause, and from a
/// rotation that is under way.
pub const MAX_REFUSALS: u32 = 8;

/// Where the password of a connection comes from; asked at every connect.
#[derive(Debug, Clone)]
pub enum Password {
    /// From the URL, `PGPASSWORD` or the passfile, in this order.
    FromUrl,
    /// Known beforehand.
    Static(SecretString),
    /// Asked of a store of secrets or a signer of tokens.
    Provider(Arc<dyn PasswordProvider>),
}

/// A source of passwords outside this crate, which knows no AWS.
pub trait PasswordProvider: Send + Sync + fmt::Debug {
    /// The password for one login. After a refusal it is asked again for the same login, until it has another answer
    /// that the server accepts or gives up with an error; [`MAX_REFUSALS`] bounds that.
    fn credentials<'a>(&'a self, request: CredentialsRequest<'a>) -> CredentialsFuture<'a>;
}

/// What a [`PasswordProvider`] returns.
pub type CredentialsFuture<'a> = Pin<Box<dyn Future<Output = Result<Credentials, CredentialsError>> + Send + 'a>>;

/// The password could not be obtained.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{problem}")]
pub struct CredentialsError {
    /// Why, without the secret.
    pub problem: String,
    /// Whether trying again may help (throttling, a network fault), or an operator must do something.
    pub class: Class,
    /// The next step.
    pub help: Option<String>,
}

/// For which login a password is asked.
#[derive(Debug, Clone, Copy)]
pub struct CredentialsRequest<'a> {
    /// The host as written in the URL (the real endpoint, which IAM tokens are signed for), or a socket directory.
    pub host: &'a str,
    /// Its port.
    pub port: u16,
    /// The user of the URL.
    pub user: &'a str,
    /// The database.
    pub dbname: &'a str,
    /// A replication connection, for which RDS has rules of its own.
    pub replication: bool,
    /// What became of the answers before for this login.
    pub refusal: Option<Refusal<'a>>,
}

/// The server did not accept what the provider gave.
#[derive(Debug, Clone, Copy)]
pub struct Refusal<'a> {
    /// How many answers for this login it has refused, from 1.
    pub count: u32,
    /// What the server said to the last one.
    pub said: &'a str,
}

/// A password, and the user it belongs to.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Another user than the URL's: rotation between two users changes it.
    pub user: Option<String>,
    /// The password or token.
    pub password: SecretString,
}

/// What one login uses.
pub(crate) struct Login {
    pub user: String,
    pub password: Option<SecretString>,
    /// Asking again may give another password.
    pub renewable: bool,
}

impl Password {
    pub(crate) async fn login(
        &self,
        dsn: &Dsn,
        host: &Host,
        replication: bool,
        refusal: Option<Refusal<'_>>,
    ) -> Result<Login, Error> {
        let user = dsn.user.clone();
        match self {
            Self::FromUrl => {
                let environment = || std::env::var("PGPASSWORD").ok().filter(|text| !text.is_empty()).map(Into::into);
                let password =
                    dsn.password.clone().or_else(environment).or_else(|| passfile::lookup(dsn, host, &dsn.user));
                Ok(Login { user, password, renewable: false })
            }
            Self::Static(password) => Ok(Login { user, password: Some(password.clone()), renewable: false }),
            Self::Provider(provider) => {
                let name = host.name().unwrap_or_default();
                let (port, dbname) = (host.port, dsn.dbname.as_str());
                let request = CredentialsRequest { host: name, port, user: &dsn.user, dbname, replication, refusal };
                let failed = |source| Error::Password { server: format!("{host}/{dbname}"), source: Box::new(source) };
                let credentials = provider.credentials(request).await.map_err(failed)?;
                let user = credentials.user.unwrap_or(user);
                Ok(Login { user, password: Some(credentials.password), renewable: true })
            }
        }
    }
}
