//! A server that logs in by IAM tokens, as RDS does: in front of a real one that trusts it.
//!
//! ```text
//!  the program ──TLS, user──> Gate ──"cleartext password"──> token ──signature checked──> the real server
//!                               └─> FATAL 28000: PAM authentication failed
//! ```
//! The signature is computed here from what AWS documents (Signature Version 4), not by the SDK that made the token.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

pub const REGION: &str = "eu-central-1";
pub const HOST: &str = "shop.abcdefghijkl.eu-central-1.rds.amazonaws.com";
const ACCESS_KEY: &str = "ASIATEST";
const SECRET_KEY: &str = "canary-secret-key";
const SESSION_TOKEN: &str = "canary/session+token=";

/// A login that was tried.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub user: String,
    pub application: String,
    pub replication: bool,
    /// What is wrong with the token.
    pub problem: Option<String>,
    /// Its signature: a new token has another.
    pub signature: String,
}

/// A running gate; gone when dropped.
pub struct Gate {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
    directory: tempfile::TempDir,
}

struct Shared {
    port: u16,
    upstream: u16,
    tls: TlsAcceptor,
    /// `rds.iam_auth_for_replication`
    replication: AtomicBool,
    attempts: Mutex<Vec<Attempt>>,
}

impl Gate {
    pub async fn start(upstream: u16) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec![HOST.to_owned()]).unwrap().self_signed(&key).unwrap();
        std::fs::write(directory.path().join("ca.pem"), certificate.pem()).unwrap();
        let chain = vec![certificate.der().clone()];
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let tls = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
        let shared = Arc::new(Shared {
            port: listener.local_addr().unwrap().port(),
            upstream,
            tls: TlsAcceptor::from(Arc::new(tls)),
            replication: AtomicBool::new(true),
            attempts: Mutex::new(Vec::new()),
        });
        let task = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Self { shared, task, directory }
    }

    /// A URL by the endpoint's own name, whose address is known.
    pub fn url(&self, user: &str) -> String {
        let root = self.ca_file();
        let port = self.shared.port;
        format!("postgresql://{user}@{HOST}:{port}/app?hostaddr=127.0.0.1&sslrootcert={}", root.display())
    }

    pub fn ca_file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// What a program needs in its environment to sign.
    pub fn environment() -> Vec<(String, String)> {
        [
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
            ("AWS_SESSION_TOKEN", SESSION_TOKEN),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// Sets `rds.iam_auth_for_replication`.
    pub fn allow_replication(&self, allowed: bool) {
        self.shared.replication.store(allowed, Ordering::SeqCst);
    }

    pub fn attempts(&self) -> Vec<Attempt> {
        self.shared.attempts.lock().unwrap().clone()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move { admit(stream, &shared).await });
    }
}

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const CLEARTEXT: [u8; 9] = [b'R', 0, 0, 0, 8, 0, 0, 0, 3];

async fn admit(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut first = [0; 8];
    stream.read_exact(&mut first).await?;
    if first != SSL_REQUEST {
        // A cancel request, which goes without TLS; the real server's key is in it.
        let mut upstream = TcpStream::connect((Ipv4Addr::LOCALHOST, shared.upstream)).await?;
        upstream.write_all(&first).await?;
        return tokio::io::copy_bidirectional(&mut stream, &mut upstream).await.map(drop);
    }
    stream.write_all(b"S").await?;
    let mut client = shared.tls.accept(stream).await?;
    let length = client.read_u32().await?;
    let mut startup = vec![0; length as usize - 4];
    client.read_exact(&mut startup).await?;
    if startup[..4] == [4, 210, 22, 46] {
        let mut upstream = TcpStream::connect((Ipv4Addr::LOCALHOST, shared.upstream)).await?;
        upstream.write_u32(length).await?;
        return upstream.write_all(&startup).await;
    }
    let parameters = parameters(&startup[4..]);
    let parameter = |name: &str| parameters.get(name).cloned().unwrap_or_default();
    client.write_all(&CLEARTEXT).await?;
    let token = password(&mut client).await?;
    let (user, replication) = (parameter("user"), parameters.contains_key("replication"));
    let problem = match check(&token, &user, shared.port) {
        Err(problem) => Some(problem),
        Ok(()) if replication && !shared.replication.load(Ordering::SeqCst) => Some("for replication".to_owned()),
        Ok(()) => None,
    };
    let signature =
        token.rsplit_once("X-Amz-Signature=").map(|(_, signature)| signature.to_owned()).unwrap_or_default();
    let attempt =
        Attempt { user: user.clone(), application: parameter("application_name"), replication, problem, signature };
    let refused = attempt.problem.is_some();
    shared.attempts.lock().unwrap().push(attempt);
    if refused {
        let fields = format!("SFATAL\0VFATAL\0C28000\0MPAM authentication failed for user \"{user}\"\0\0");
        client.write_u8(b'E').await?;
        client.write_u32(u32::try_from(fields.len()).unwrap() + 4).await?;
        client.write_all(fields.as_bytes()).await?;
        return client.shutdown().await;
    }
    let mut upstream = TcpStream::connect((Ipv4Addr::LOCALHOST, shared.upstream)).await?;
    upstream.write_u32(length).await?;
    upstream.write_all(&startup).await?;
    tokio::io::copy_bidirectional(&mut client, &mut upstream).await.map(drop)
}

/// Names and values of a startup message, each ended by a zero byte.
fn parameters(bytes: &[u8]) -> BTreeMap<String, String> {
    let mut texts = bytes.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned());
    let mut found = BTreeMap::new();
    while let (Some(name), Some(value)) = (texts.next(), texts.next()) {
        found.insert(name, value);
    }
    found
}

async fn password(client: &mut TlsStream<TcpStream>) -> std::io::Result<String> {
    assert_eq!(client.read_u8().await?, b'p', "a password message");
    let mut bytes = vec![0; client.read_u32().await? as usize - 4];
    client.read_exact(&mut bytes).await?;
    Ok(String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned())
}

/// Whether it is a URL that was presigned for this endpoint and user, not long ago, by who has the secret key.
fn check(token: &str, user: &str, port: u16) -> Result<(), String> {
    let endpoint = format!("{HOST}:{port}");
    let rest = token.strip_prefix(&endpoint).ok_or(format!("it is not for {endpoint}"))?;
    let query = rest.strip_prefix("/?").ok_or("it has no query")?;
    let mut parameters: BTreeMap<&str, &str> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let signature = parameters.remove("X-Amz-Signature").ok_or("it is not signed")?.to_owned();
    let value = |name: &str| parameters.get(name).copied().unwrap_or_default();
    let date = value("X-Amz-Date");
    let day = date.get(..8).ok_or("it has no date")?;
    let scope = format!("{day}/{REGION}/rds-db/aws4_request");
    for (name, expected) in [
        ("Action", "connect".to_owned()),
        ("DBUser", encode(user)),
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA256".to_owned()),
        ("X-Amz-Credential", encode(&format!("{ACCESS_KEY}/{scope}"))),
        ("X-Amz-Expires", "900".to_owned()),
        ("X-Amz-SignedHeaders", "host".to_owned()),
        ("X-Amz-Security-Token", encode(SESSION_TOKEN)),
    ] {
        if value(name) != expected {
            return Err(format!("{name} is {}, not {expected}", value(name)));
        }
    }
    // Sorted by name, as the canonical request wants it.
    let query: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let request = format!("GET\n/\n{}\nhost:{endpoint}\n\nhost\n{}", query.join("&"), hex(&Sha256::digest(b"")));
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(&Sha256::digest(request.as_bytes())));
    let mut key = format!("AWS4{SECRET_KEY}").into_bytes();
    for part in [day, REGION, "rds-db", "aws4_request"] {
        key = hmac(&key, part.as_bytes());
    }
    if hex(&hmac(&key, text.as_bytes())) == signature { Ok(()) } else { Err("the signature is wrong".to_owned()) }
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    assert!(key.len() <= 64, "longer keys would be hashed");
    let pad = |with: u8| -> Vec<u8> { (0..64).map(|at| key.get(at).copied().unwrap_or_default() ^ with).collect() };
    let inner = Sha256::digest([pad(0x36), text.to_vec()].concat());
    Sha256::digest([pad(0x5c), inner.to_vec()].concat()).to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}
