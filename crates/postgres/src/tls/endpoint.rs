//! `tls-server-end-point` (RFC 5929): the hash of the server's certificate that SCRAM-SHA-256-PLUS binds to.

use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};

const RSA_PSS: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x0A];
const SEQUENCE: u8 = 0x30;
const OBJECT_ID: u8 = 0x06;
const CONTEXT_0: u8 = 0xA0;

#[derive(Clone, Copy)]
enum Hash {
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

/// The binding for a certificate in DER; `None` where its signature names no hash (Ed25519), which the server cannot
/// bind to either.
pub(crate) fn server_end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    Some(match signature_hash(certificate)? {
        Hash::Sha224 => Sha224::digest(certificate).to_vec(),
        Hash::Sha256 => Sha256::digest(certificate).to_vec(),
        Hash::Sha384 => Sha384::digest(certificate).to_vec(),
        Hash::Sha512 => Sha512::digest(certificate).to_vec(),
    })
}

/// `Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm SEQUENCE { OID, parameters }, … }`
fn signature_hash(certificate: &[u8]) -> Option<Hash> {
    let (body, _) = element(certificate, SEQUENCE)?;
    let (_, after_tbs) = element(body, SEQUENCE)?;
    let (algorithm, _) = element(after_tbs, SEQUENCE)?;
    let (oid, parameters) = element(algorithm, OBJECT_ID)?;
    match oid {
        RSA_PSS => Some(pss_hash(parameters).unwrap_or(Hash::Sha256)),
        // sha…WithRSAEncryption; MD5 (4) and SHA-1 (5) are replaced by SHA-256 (RFC 5929).
        [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, last] => match last {
            0x04 | 0x05 | 0x0B => Some(Hash::Sha256),
            0x0C => Some(Hash::Sha384),
            0x0D => Some(Hash::Sha512),
            0x0E => Some(Hash::Sha224),
            _ => None,
        },
        // ecdsa-with-SHA1
        [0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x01] => Some(Hash::Sha256),
        // ecdsa-with-SHA2
        [0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, last] => match last {
            0x01 => Some(Hash::Sha224),
            0x02 => Some(Hash::Sha256),
            0x03 => Some(Hash::Sha384),
            0x04 => Some(Hash::Sha512),
            _ => None,
        },
        _ => None,
    }
}

/// `RSASSA-PSS-params ::= SEQUENCE { [0] SEQUENCE { OID of the hash }, … }`; without it, SHA-1.
fn pss_hash(parameters: &[u8]) -> Option<Hash> {
    let (parameters, _) = element(parameters, SEQUENCE)?;
    let (tagged, _) = element(parameters, CONTEXT_0)?;
    let (algorithm, _) = element(tagged, SEQUENCE)?;
    let (oid, _) = element(algorithm, OBJECT_ID)?;
    match oid {
        [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, last] => match last {
            0x01 => Some(Hash::Sha256),
            0x02 => Some(Hash::Sha384),
            0x03 => Some(Hash::Sha512),
            0x04 => Some(Hash::Sha224),
            _ => None,
        },
        _ => None,
    }
}

/// The first element of `der`, which must have this tag: its content, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, first], rest) = der.split_first_chunk::<2>()?;
    if found != tag {
        return None;
    }
    let (length, rest) = match first {
        0..=0x7F => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x0F))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// The date, `YYYYMMDD`, until which a certificate is good.
#[cfg(test)]
pub(super) fn good_until(certificate: &[u8]) -> Option<u32> {
    const INTEGER: u8 = 0x02;
    const UTC_TIME: u8 = 0x17;
    const GENERALIZED_TIME: u8 = 0x18;
    let (body, _) = element(certificate, SEQUENCE)?;
    let (tbs, _) = element(body, SEQUENCE)?;
    // version, serialNumber, signature, issuer, validity
    let (_, rest) = element(tbs, CONTEXT_0)?;
    let (_, rest) = element(rest, INTEGER)?;
    let (_, rest) = element(rest, SEQUENCE)?;
    let (_, rest) = element(rest, SEQUENCE)?;
    let (validity, _) = element(rest, SEQUENCE)?;
    let (_, until) = element(validity, UTC_TIME).or_else(|| element(validity, GENERALIZED_TIME))?;
    let digits = match element(until, GENERALIZED_TIME) {
        Some((text, _)) => String::from_utf8(text.get(..8)?.to_vec()).ok()?,
        // Two digits stand for 1950 to 2049; no root here is older than 1950.
        None => format!("20{}", std::str::from_utf8(element(until, UTC_TIME)?.0.get(..6)?).ok()?),
    };
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_hash_is_the_one_of_the_signature() {
        for (algorithm, length) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, Some(32)),
            (&rcgen::PKCS_ECDSA_P384_SHA384, Some(48)),
            (&rcgen::PKCS_ED25519, None),
        ] {
            let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let certificate = rcgen::CertificateParams::new(["h".to_owned()]).unwrap().self_signed(&key).unwrap();
            assert_eq!(server_end_point(certificate.der()).map(|hash| hash.len()), length);
        }
    }

    proptest! {
        #[test]
        fn hostile_certificates_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = server_end_point(&bytes);
        }
    }
}
