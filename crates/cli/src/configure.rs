//! From flags and files to servers and settings.

use pgstream_config::{
    Loaded, Needs, Overrides, load,
    pipeline::{Presentation, Target},
};
use pgstream_engine::stream::Destination;
use pgstream_postgres::{Dsn, Server, dsn::DsnError};
use secrecy::{ExposeSecret, SecretString};

use crate::{
    arguments::Common,
    failure::{Failure, URL},
};

/// Reads the configuration, with what the environment says.
pub fn configuration(common: &Common, overrides: &Overrides, needs: Needs) -> Result<Loaded, Failure> {
    let check = |url: &str| {
        let refused = |error: DsnError| (error.problem, error.fix.unwrap_or_else(|| URL.to_owned()));
        Dsn::parse(url).map(drop).map_err(refused)
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
pub fn source(loaded: &Loaded) -> Result<Server, Failure> {
    server("the source's URL", &loaded.pipeline.source.url)
}

/// The target server of a configuration, when it has one.
pub fn target(loaded: &Loaded) -> Result<Option<Server>, Failure> {
    match &loaded.pipeline.target {
        Some(Target::Postgres(target)) => server("the target's URL", &target.url).map(Some),
        Some(Target::Stdout) | None => Ok(None),
    }
}

/// Where changes go.
pub fn destination(loaded: &Loaded) -> Result<Destination, Failure> {
    Ok(target(loaded)?.map_or(Destination::Stdout, Destination::Postgres))
}

/// The server of a URL that was given by a flag.
pub fn server_of_flag(url: &str) -> Result<Server, Failure> {
    server("--postgres-url", &SecretString::from(url))
}

fn server(which: &'static str, url: &SecretString) -> Result<Server, Failure> {
    let dsn = Dsn::parse(url.expose_secret()).map_err(|error| Failure::Url { which, error })?;
    Ok(Server::new(dsn))
}
