//! How PostgreSQL's own client programs reach the same server.

use secrecy::SecretString;

use crate::{Error, Server};

/// Environment of a client program, and the password that goes into its passfile (never into the environment).
pub struct Libpq {
    /// `PGHOST`, `PGPORT`, `PGUSER`, `PGDATABASE`, `PGSSLMODE`, …
    pub environment: Vec<(&'static str, String)>,
    /// The password, if one is used.
    pub password: Option<SecretString>,
}

impl Server {
    /// Connection parameters in the form that libpq programs take.
    ///
    /// # Errors
    /// When the password cannot be fetched.
    #[expect(clippy::unused_async, reason = "fetching a password may wait")]
    pub async fn libpq(&self) -> Result<Libpq, Error> {
        let config = self.dsn().config();
        let mut environment = Vec::new();
        if let Some(host) = config.get_hosts().first() {
            let host = match host {
                tokio_postgres::config::Host::Tcp(name) => name.clone(),
                tokio_postgres::config::Host::Unix(path) => path.display().to_string(),
            };
            environment.push(("PGHOST", host));
        }
        if let Some(port) = config.get_ports().first() {
            environment.push(("PGPORT", port.to_string()));
        }
        if let Some(user) = config.get_user() {
            environment.push(("PGUSER", user.to_owned()));
        }
        environment.push(("PGDATABASE", self.dsn().dbname().to_owned()));
        let password = config.get_password().map(|p| String::from_utf8_lossy(p).into_owned().into());
        Ok(Libpq { environment, password })
    }
}
