//! A certificate authority and a certificate for a server on loopback.

use std::{fs, path::Path};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};

use crate::{Error, error::io, template::give_to_server};

/// Writes `ca.crt`, `server.crt` and `server.key`; the certificate is for `localhost` and `127.0.0.1`.
pub(crate) fn write_certificates(dir: &Path) -> Result<(), Error> {
    let made = || -> Result<[(&str, String); 3], rcgen::Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, "testkit CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;

        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, "localhost");
        let certificate = params.signed_by(&key, &ca)?;
        Ok([("ca.crt", ca.as_ref().pem()), ("server.crt", certificate.pem()), ("server.key", key.serialize_pem())])
    };
    let files = made().map_err(|error| Error::Program { doing: "certificates".into(), output: error.to_string() })?;
    for (name, pem) in files {
        let path = dir.join(name);
        fs::write(&path, pem).map_err(io(format!("writing {}", path.display())))?;
        // The server refuses a key that others can read.
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .map_err(io(format!("chmod {}", path.display())))?;
        give_to_server(&path)?;
    }
    Ok(())
}
