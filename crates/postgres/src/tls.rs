//! TLS towards a server, with the meaning that libpq gives to `sslmode`.
//!
//! ```text
//!  sslmode       TLS            certificate chain      host name
//!  require       always         if roots are given     -
//!  verify-ca     always         checked                -
//!  verify-full   always         checked                checked
//! ```
//!
//! The crypto provider is always named, never the process default: another library in the process may have set one.

mod endpoint;
mod verifier;

use std::{io, path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    Class,
    dsn::{Host, Roots, SslMode},
    transport::Socket,
};
pub(crate) use endpoint::server_end_point;
use verifier::Verifier;

/// What an RDS endpoint is verified with; see the head of the file for where it comes from.
pub(crate) const RDS_ROOTS: &[u8] = include_bytes!("../data/rds-roots.pem");

/// Why TLS is not as `sslmode` asks.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The server answered that it has no TLS.
    #[error("the server does not offer TLS, which sslmode={0} asks for")]
    NotOffered(SslMode),
    /// The server answered the request for TLS with something that is neither yes nor no.
    #[error("the server did not understand the request for TLS")]
    NotPostgres,
    /// A file named in the URL cannot be used.
    #[error("{parameter} `{}`: {problem}", path.display())]
    File {
        /// The parameter that names it.
        parameter: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The system has no trusted roots.
    #[error("no trusted root certificate was found on this system")]
    NoRoots,
    /// The host cannot be named in TLS.
    #[error("the host name cannot be used for TLS")]
    HostName,
    /// The server's certificate is not trusted or not for this host.
    #[error("the certificate of the server is not accepted: {0}")]
    Certificate(rustls::CertificateError),
    /// The two sides found no common ground.
    #[error("TLS handshake: {0}")]
    Handshake(rustls::Error),
    /// The connection broke during the handshake.
    #[error("TLS handshake: {0}")]
    Io(io::Error),
}

impl TlsError {
    /// What kind of failure this is.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Io(_) => Class::Transient,
            Self::Handshake(error) if is_damage(error) => Class::Transient,
            Self::File { .. } | Self::NoRoots | Self::HostName => Class::Config,
            Self::NotOffered(_) | Self::NotPostgres | Self::Certificate(_) | Self::Handshake(_) => Class::Setup,
        }
    }

    pub(crate) fn help(&self) -> Option<&'static str> {
        match self {
            Self::NotOffered(_) => {
                Some("turn on `ssl` at the server, or, for a server on this machine, use `sslmode=disable` in the URL")
            }
            Self::NotPostgres => Some("check the port: does a PostgreSQL server listen there?"),
            Self::File { .. } => Some("the file must exist, be readable and hold PEM"),
            Self::NoRoots => Some("name the root certificate with `sslrootcert=/path/to/root.pem` in the URL"),
            Self::Certificate(_) => Some(
                "connect by the name that is in the certificate (the endpoint, not a CNAME or an address), and name its issuer with \
                 `sslrootcert=…`",
            ),
            Self::HostName | Self::Handshake(_) | Self::Io(_) => None,
        }
    }
}

/// Whether bytes were changed on their way, which checksums of TCP do not always show: the next handshake is a new one. What
/// the two sides will never agree on, or a certificate that one refuses, is not.
fn is_damage(error: &rustls::Error) -> bool {
    use rustls::{AlertDescription as Alert, Error};
    match error {
        Error::DecryptError
        | Error::InvalidMessage(_)
        | Error::PeerMisbehaved(_)
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. } => true,
        Error::AlertReceived(alert) => matches!(
            alert,
            Alert::BadRecordMac
                | Alert::DecryptError
                | Alert::DecodeError
                | Alert::UnexpectedMessage
                | Alert::RecordOverflow
                | Alert::IllegalParameter
                | Alert::InternalError
        ),
        _ => false,
    }
}

/// What a URL asks of TLS.
#[derive(Debug, Clone, Default)]
pub(crate) struct TlsFiles {
    pub roots: Option<Roots>,
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
}

/// Shakes hands over `socket`.
pub(crate) async fn handshake(
    socket: Socket,
    host: &Host,
    mode: SslMode,
    files: &TlsFiles,
) -> Result<TlsStream<Socket>, TlsError> {
    let name = host.name().ok_or(TlsError::HostName)?.to_owned();
    let name = ServerName::try_from(name).map_err(|_| TlsError::HostName)?;
    let config = client_config(host, mode, files)?;
    TlsConnector::from(Arc::new(config)).connect(name, socket).await.map_err(|error| {
        match error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(problem)) => TlsError::Certificate(problem.clone()),
            Some(other) => TlsError::Handshake(other.clone()),
            None => TlsError::Io(error),
        }
    })
}

fn client_config(host: &Host, mode: SslMode, files: &TlsFiles) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        Verifier::new(Arc::clone(&provider), Trust::of(host, mode, files).certificates()?, mode == SslMode::VerifyFull);
    let builder = builder(provider)?.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    match (&files.certificate, &files.key) {
        (Some(certificate), Some(key)) => {
            let chain = read_certificates("sslcert", certificate)?;
            let unusable = |problem: String| TlsError::File { parameter: "sslkey", path: key.clone(), problem };
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(error.to_string()))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| unusable(error.to_string()))
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

fn builder(
    provider: Arc<CryptoProvider>,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, TlsError> {
    ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(TlsError::Handshake)
}

/// Which certificates are trusted for a host.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// All: nothing is checked.
    Everyone,
    File(PathBuf),
    /// The roots of RDS that come with this program.
    Rds,
    System,
}

impl Trust {
    /// As libpq decides, except where it would give up: RDS is known, and elsewhere the system's roots serve.
    pub(crate) fn of(host: &Host, mode: SslMode, files: &TlsFiles) -> Self {
        match &files.roots {
            Some(Roots::File(path)) => Self::File(path.clone()),
            Some(Roots::System) => Self::System,
            None if mode < SslMode::Require => Self::Everyone,
            None => match default_root_file() {
                Some(path) => Self::File(path),
                None if !mode.verifies() => Self::Everyone,
                None if host.is_aws() => Self::Rds,
                None => Self::System,
            },
        }
    }

    pub(crate) fn certificates(&self) -> Result<Option<Vec<CertificateDer<'static>>>, TlsError> {
        match self {
            Self::Everyone => Ok(None),
            Self::File(path) => read_certificates("sslrootcert", path).map(Some),
            Self::Rds => Ok(Some(rds_roots())),
            Self::System => match rustls_native_certs::load_native_certs().certs {
                found if found.is_empty() => Err(TlsError::NoRoots),
                found => Ok(Some(found)),
            },
        }
    }
}

fn rds_roots() -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(RDS_ROOTS).filter_map(Result::ok).collect()
}

/// libpq's default, when the file exists.
fn default_root_file() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("HOME")?).join(".postgresql/root.crt");
    path.exists().then_some(path)
}

fn read_certificates(parameter: &'static str, path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let problem = |problem: String| TlsError::File { parameter, path: path.clone(), problem };
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| problem(error.to_string()))?;
    if certificates.is_empty() { Err(problem("it holds no certificate".to_owned())) } else { Ok(certificates) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dsn;

    #[test]
    fn the_rds_roots_are_whole() {
        let blocks = String::from_utf8_lossy(RDS_ROOTS).matches("BEGIN CERTIFICATE").count();
        let mut store = rustls::RootCertStore::empty();
        assert_eq!(store.add_parsable_certificates(rds_roots()), (blocks, 0));
        assert!(blocks > 80);
    }

    #[test]
    fn no_rds_root_expires_within_a_year() {
        let days = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() / 86_400;
        // Close enough to the calendar for a warning that comes a year ahead.
        let this_year = 1970 + u32::try_from(days * 10_000 / 3_652_425).unwrap();
        for root in rds_roots() {
            let until = endpoint::good_until(&root).expect("a certificate says how long it is good");
            assert!(
                until / 10_000 > this_year + 1,
                "a root of crates/postgres/data/rds-roots.pem expires on {until}: replace the file by AWS's global-bundle.pem"
            );
        }
    }

    #[test]
    fn a_damaged_handshake_is_tried_again_and_a_refused_one_is_not() {
        use rustls::{AlertDescription as Alert, Error, InvalidMessage};
        let class = |error| TlsError::Handshake(error).class();
        for error in [
            Error::DecryptError,
            Error::InvalidMessage(InvalidMessage::InvalidCcs),
            Error::AlertReceived(Alert::BadRecordMac),
            Error::AlertReceived(Alert::DecodeError),
        ] {
            assert_eq!(class(error.clone()), Class::Transient, "{error}");
        }
        for alert in [Alert::HandshakeFailure, Alert::ProtocolVersion, Alert::UnknownCA, Alert::CertificateRequired] {
            assert_eq!(class(Error::AlertReceived(alert)), Class::Setup, "{alert:?}");
        }
    }

    #[test]
    fn rds_is_verified_unless_the_url_says_otherwise() {
        let trust = |url: &str| {
            let dsn = Dsn::parse(url).unwrap();
            let mode = dsn.ssl_mode(&dsn.hosts[0]);
            (mode, Trust::of(&dsn.hosts[0], mode, &dsn.tls))
        };
        let rds = "postgresql://u@db.abc.eu-west-1.rds.amazonaws.com/d";
        if default_root_file().is_none() {
            assert_eq!(trust(rds), (SslMode::VerifyFull, Trust::Rds));
            assert_eq!(trust(&format!("{rds}?sslmode=require")), (SslMode::Require, Trust::Everyone));
            assert_eq!(trust("postgresql://u@h/d?sslmode=verify-ca"), (SslMode::VerifyCa, Trust::System));
        }
        assert_eq!(trust("postgresql://u@x.rds.amazonaws.com.evil.example/d").0, SslMode::Prefer);
        assert_eq!(trust("postgresql://u@X.RDS.amazonaws.com.cn./d").0, SslMode::VerifyFull);
        let file = trust("postgresql://u@h/d?sslmode=require&sslrootcert=/r.pem");
        assert_eq!(file, (SslMode::Require, Trust::File("/r.pem".into())));
    }
}
