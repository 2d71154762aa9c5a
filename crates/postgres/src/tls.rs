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
    let verifier = Verifier::new(Arc::clone(&provider), trusted(host, mode, files)?, mode == SslMode::VerifyFull);
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

/// The certificates to trust, or none where the mode checks nothing and the user named none.
fn trusted(host: &Host, mode: SslMode, files: &TlsFiles) -> Result<Option<Vec<CertificateDer<'static>>>, TlsError> {
    match &files.roots {
        Some(Roots::File(path)) => read_certificates("sslrootcert", path).map(Some),
        Some(Roots::System) => system_roots().map(Some),
        None if !mode.verifies() => Ok(None),
        None => match default_root_file() {
            Some(path) => read_certificates("sslrootcert", &path).map(Some),
            None => system_roots().map(Some),
        },
    }
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

pub(crate) fn system_roots() -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = rustls_native_certs::load_native_certs().certs;
    if found.is_empty() { Err(TlsError::NoRoots) } else { Ok(found) }
}
