//! From a configured side to a server that can be connected to.
//!
//! ```text
//!  url, Access::Url        ─────────────────────────────────────────> Server
//!  url, Access::Secret     ─> secret, perhaps endpoint ─> URL ──────> Server, asks the secret at every connect
//!  url, Access::IamToken   ─────────────────────────────────────────> Server, signs a token at every connect
//! ```

use std::sync::Arc;

use pgstream_config::{
    SecretUrl,
    pipeline::Access,
    secret_url::{self, decode},
};
use pgstream_postgres::{Dsn, DsnError, Password, Server};
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    Aws, Error, Settings,
    secrets::{Login, SecretError, Stage, Store, endpoint, provider::SecretPassword},
    tokens::TokenPassword,
};

/// Which database a login is for when neither secret nor URL says it: every server has it.
const DEFAULT_DATABASE: &str = "postgres";
const DEFAULT_PORT: u16 = 5432;

/// A side cannot be reached by what is configured.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum AccessError {
    /// Its URL is malformed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Url(#[from] DsnError),
    /// AWS cannot be asked.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Aws(#[from] Error),
    /// Its secret cannot be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Secret(#[from] SecretError),
}

/// The server of a side. Talks to AWS only when its access needs it.
///
/// # Errors
/// URL, secret or AWS settings cannot be used.
pub async fn server(url: &SecretString, access: &Access) -> Result<Server, AccessError> {
    match access {
        Access::Url => Ok(Server::new(Dsn::parse(url.expose_secret())?)),
        Access::IamToken => {
            let dsn = Dsn::parse(url.expose_secret())?;
            let aws = Box::pin(Aws::load(&Settings::default())).await?;
            Box::pin(aws.check_credentials()).await?;
            Ok(Server::new(dsn).with_password(Password::Provider(Arc::new(TokenPassword::new(aws)))))
        }
        Access::Secret { secret, identifier } => {
            let settings = Settings { region: region_of(secret), ..Settings::default() };
            let aws = Box::pin(Aws::load(&settings)).await?;
            let store = Store::of(&aws, secret);
            let text = Box::pin(store.read(secret, Stage::Current)).await?;
            let login = Login::parse(secret, text.expose_secret())?;
            let dsn = match SecretUrl::parse(url.expose_secret()) {
                Some(Ok(named)) => Box::pin(dsn_of_secret(&aws, &store, &named, &login, identifier.as_deref())).await?,
                _ => Dsn::parse(url.expose_secret())?,
            };
            let password = SecretPassword::new(store, secret, login);
            Ok(Server::new(dsn).with_password(Password::Provider(password)))
        }
    }
}

/// An ARN makes a region in the environment unnecessary.
fn region_of(secret: &str) -> Option<String> {
    secret.strip_prefix("arn:")?.split(':').nth(2).filter(|region| !region.is_empty()).map(str::to_owned)
}

/// What the URL says wins over the secret, which wins over the endpoint that RDS describes.
async fn dsn_of_secret(
    aws: &Aws,
    store: &Store,
    url: &SecretUrl,
    login: &Login,
    identifier: Option<&str>,
) -> Result<Dsn, AccessError> {
    let host = url.host.as_deref().map(decode).or_else(|| login.host.clone());
    let described = match host {
        Some(_) => None,
        None => endpoint::find(aws, store, &url.secret, identifier).await?,
    };
    let described = described.as_ref();
    let no_host = || SecretError::NoHost { secret: url.secret.clone() };
    let endpoint = secret_url::Endpoint {
        host: host.or(described.map(|endpoint| endpoint.host.clone())).ok_or_else(no_host)?,
        port: url.port.or(login.port).or(described.map(|endpoint| endpoint.port)).unwrap_or(DEFAULT_PORT),
        user: login.user.clone(),
        dbname: url
            .dbname
            .as_deref()
            .map(decode)
            .or_else(|| login.dbname.clone())
            .or_else(|| described.and_then(|endpoint| endpoint.dbname.clone()))
            .unwrap_or_else(|| DEFAULT_DATABASE.to_owned()),
    };
    let unusable = |error: DsnError| SecretError::Url { secret: url.secret.clone(), problem: error.to_string() };
    Ok(Dsn::parse(&url.postgres_url(&endpoint)).map_err(unusable)?)
}
