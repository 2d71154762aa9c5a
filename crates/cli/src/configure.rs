//! From flags and files to servers and settings.

use pgstream_aws_api::{AccessError, access};
use pgstream_config::{
    Loaded, Needs, Overrides, SecretUrl, load,
    pipeline::{Access, Presentation, Target},
};
use pgstream_engine::stream::Destination;
use pgstream_postgres::{Dsn, Server, dsn::DsnError};
use secrecy::SecretString;

use crate::{
    arguments::Common,
    failure::{Failure, URL},
};

/// Reads the configuration, with what the environment says.
pub fn configuration(common: &Common, overrides: &Overrides, needs: Needs) -> Result<Loaded, Failure> {
    let check = |url: &str| {
        let refused = |error: DsnError| (error.problem, error.fix.unwrap_or_else(|| URL.to_owned()));
        // Whether a secret's URL can be used is known once it is read, but for its parameters.
        let example = SecretUrl::parse(url).and_then(Result::ok).map(|url| url.example());
        Dsn::parse(example.as_deref().unwrap_or(url)).map(drop).map_err(refused)
    };
    Ok(load(common.config.as_deref(), overrides, needs, &|name| std::env::var(name).ok(), &check)?)
}

/// How to log and draw.
pub fn presentation(common: &Common) -> Presentation {
    pgstream_config::presentation(common.config.as_deref(), &common.overrides(), &|name| std::env::var(name).ok())
}

/// Says which accepted keys mean something else here.
pub fn tell_notices(loaded: &Loaded) {
    for notice in &loaded.notices {
        tracing::warn!("{}: {}", notice.key, notice.message);
    }
}

/// The source of a configuration.
pub async fn source(loaded: &Loaded) -> Result<Server, Failure> {
    let source = &loaded.pipeline.source;
    server("the source's URL", &source.url, &source.access).await
}

/// The target server of a configuration, when it has one.
pub async fn target(loaded: &Loaded) -> Result<Option<Server>, Failure> {
    match &loaded.pipeline.target {
        Some(Target::Postgres(target)) => server("the target's URL", &target.url, &target.access).await.map(Some),
        Some(Target::Stdout) | None => Ok(None),
    }
}

/// Where changes go.
pub async fn destination(loaded: &Loaded) -> Result<Destination, Failure> {
    Ok(target(loaded).await?.map_or(Destination::Stdout, Destination::Postgres))
}

/// A server by its URL and where its login comes from.
pub async fn server(which: &'static str, url: &SecretString, access: &Access) -> Result<Server, Failure> {
    Box::pin(access::server(url, access)).await.map_err(|error| match error {
        AccessError::Url(error) => Failure::Url { which, error },
        other => Failure::Access(other),
    })
}

/// The server of a URL that was given by a flag.
pub async fn server_of_flag(url: &str) -> Result<Server, Failure> {
    server("--postgres-url", &SecretString::from(url), &Access::default()).await
}
