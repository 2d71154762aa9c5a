//! What `pg_dump` and `pg_restore` are given to reach the same server in the same way.

use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::ExposeSecret as _;

use crate::{
    Dsn, Error, Server, Session,
    dsn::{Address, Host, passfile},
    tls::{RDS_ROOTS, Trust},
};

impl Server {
    /// The environment for `pg_dump`, `pg_restore` and their like. The password goes into a file in `dir` that only its
    /// owner can read, never into an argument or a variable; `dir` should be private and must live as long as the tool.
    /// Of several hosts, the one that accepts a connection now. Variables that would interfere are emptied; remove
    /// `PGSERVICE`, which cannot be.
    ///
    /// # Errors
    /// When no host can be reached, the password cannot be had, or the files cannot be written.
    pub async fn tool_environment(&self, dir: &Path) -> Result<Vec<(String, String)>, Error> {
        let dsn = self.dsn();
        let host = match dsn.hosts.as_slice() {
            [only] => only.clone(),
            _ => self.dial(&Session::new("pgstream-aws tools")).await?.1.host,
        };
        let server = format!("{host}/{}", dsn.dbname);
        let unusable = |problem: String| Error::Tools { server: server.clone(), problem: problem.into() };
        let login = self.password().login(dsn, &host, false, None).await?;

        let mut variables = vec![
            ("PGHOST", address(&host)),
            ("PGHOSTADDR", host.hostaddr.map(|address| address.to_string()).unwrap_or_default()),
            ("PGPORT", host.port.to_string()),
            ("PGDATABASE", dsn.dbname.clone()),
            ("PGUSER", login.user.clone()),
            ("PGPASSWORD", String::new()),
            ("PGSSLMODE", dsn.ssl_mode(&host).name().to_owned()),
            ("PGCHANNELBINDING", dsn.channel_binding.name().to_owned()),
            ("PGCONNECT_TIMEOUT", dsn.connect_timeout.as_secs().to_string()),
            ("PGOPTIONS", dsn.options.clone().unwrap_or_default()),
            ("PGGSSENCMODE", "disable".to_owned()),
            ("PGTARGETSESSIONATTRS", "any".to_owned()),
            ("PGCLIENTENCODING", "UTF8".to_owned()),
        ];
        if let Some(password) = &login.password {
            let password = password.expose_secret();
            if password.contains(['\n', '\r']) || login.user.contains(['\n', '\r']) {
                return Err(unusable("a password file cannot hold a user or password with a line break".to_owned()));
            }
            let path = dir.join("passfile");
            passfile::write(&path, &login.user, password)
                .map_err(|error| unusable(format!("{}: {error}", path.display())))?;
            variables.push(("PGPASSFILE", path.display().to_string()));
        }
        if let Some(path) = roots(&host, dsn, dir)? {
            variables.push(("PGSSLROOTCERT", path.display().to_string()));
        }
        for (variable, file) in [("PGSSLCERT", &dsn.tls.certificate), ("PGSSLKEY", &dsn.tls.key)] {
            variables.extend(file.as_ref().map(|path| (variable, path.display().to_string())));
        }
        Ok(variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }
}

fn address(host: &Host) -> String {
    match &host.address {
        Address::Name(name) => name.clone(),
        Address::Unix(directory) => directory.display().to_string(),
    }
}

/// A file with the roots that are trusted: tools before 16 do not know `system`, and none knows those of RDS.
fn roots(host: &Host, dsn: &Dsn, dir: &Path) -> Result<Option<PathBuf>, Error> {
    let server = || format!("{host}/{}", dsn.dbname);
    let trust = Trust::of(host, dsn.ssl_mode(host), &dsn.tls);
    let content = match &trust {
        Trust::Everyone => return Ok(None),
        Trust::File(path) => return Ok(Some(path.clone())),
        Trust::Rds => RDS_ROOTS.to_vec(),
        Trust::System => {
            let certificates = trust.certificates().map_err(|source| Error::Tls { server: server(), source })?;
            certificates.iter().flatten().flat_map(|certificate| pem(certificate)).collect()
        }
    };
    let path = dir.join("roots.pem");
    std::fs::write(&path, content)
        .map_err(|error| Error::Tools { server: server(), problem: format!("{}: {error}", path.display()).into() })?;
    Ok(Some(path))
}

fn pem(der: &[u8]) -> Vec<u8> {
    let mut text = b"-----BEGIN CERTIFICATE-----\n".to_vec();
    for line in STANDARD.encode(der).as_bytes().chunks(64) {
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    text.extend_from_slice(b"-----END CERTIFICATE-----\n");
    text
}
