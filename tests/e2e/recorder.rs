//! What a program asks Secrets Manager for: a forwarder in front of the emulator that keeps every request.

use std::sync::{Arc, Mutex};

use pgstream_testkit::Emulator;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

type Carried = Arc<Mutex<Vec<u8>>>;

/// A running forwarder; it ends when dropped.
pub struct Recorder {
    endpoint: String,
    /// What each connection carried towards the service.
    asked: Arc<Mutex<Vec<Carried>>>,
    task: JoinHandle<()>,
}

impl Recorder {
    pub async fn start(emulator: &Emulator) -> Self {
        let upstream = emulator.endpoint().trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let bytes = Carried::default();
                kept.lock().unwrap().push(Arc::clone(&bytes));
                let server = TcpStream::connect(&upstream).await.unwrap();
                tokio::spawn(forward(client, server, bytes));
            }
        });
        Self { endpoint, asked, task }
    }

    /// For `AWS_ENDPOINT_URL_SECRETS_MANAGER`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Actions as IAM names them, each with the name or ARN of its secret.
    pub fn calls(&self) -> Vec<(String, String)> {
        let connections = self.asked.lock().unwrap();
        connections.iter().flat_map(|bytes| requests(&bytes.lock().unwrap())).collect()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(mut client: TcpStream, mut server: TcpStream, bytes: Carried) {
    let ((mut from, mut back), (mut answers, mut to)) = (client.split(), server.split());
    let up = async {
        let mut buffer = [0; 8192];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            bytes.lock().unwrap().extend_from_slice(&buffer[..read]);
            to.write_all(&buffer[..read]).await?;
        }
        to.shutdown().await
    };
    let down = async { tokio::io::copy(&mut answers, &mut back).await };
    // Either side may go away; what was asked is kept.
    let _ = tokio::join!(up, down);
}

/// The requests of one connection, one after the other.
fn requests(mut bytes: &[u8]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    while let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let header = |name: &str| {
            let lines = head.lines().filter_map(|line| line.split_once(':'));
            lines
                .into_iter()
                .find(|(found, _)| found.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.trim().to_owned())
        };
        let length: usize = header("content-length").and_then(|digits| digits.parse().ok()).unwrap_or(0);
        let body = &bytes[end + 4..bytes.len().min(end + 4 + length)];
        if let Some(action) = header("x-amz-target") {
            let body: Value = serde_json::from_slice(body).unwrap();
            let secret = body["SecretId"].as_str().or(body["Name"].as_str()).unwrap();
            found.push((action.replacen('.', ":", 1), secret.to_owned()));
        }
        bytes = &bytes[bytes.len().min(end + 4 + length)..];
    }
    found
}
