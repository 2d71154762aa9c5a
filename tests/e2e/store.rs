//! Secrets Manager with faults: in front of the emulator, which has none.
//!
//! ```text
//!  the program ──GetSecretValue──> Store ──as it is told──> the emulator
//!                                    └─> a refusal, silence, nobody there
//! ```

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use pgstream_testkit::Emulator;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What the store does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// What the emulator says.
    Honest,
    /// A status, a code and a message.
    Refusing(u16, &'static str, &'static str),
    /// The call is taken, and no answer comes.
    Silent,
    /// Connections are closed at once.
    Gone,
    /// Something that is not of the service.
    Babbling,
}

/// A running store; gone when dropped.
pub struct Store {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    emulator: Emulator,
    mood: Mutex<Mood>,
    /// Actions, in order.
    calls: Mutex<Vec<String>>,
}

impl Store {
    pub async fn new(emulator: Emulator) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mood, calls) = (Mutex::new(Mood::Honest), Mutex::new(Vec::new()));
        let shared = Arc::new(Shared { emulator, mood, calls });
        let task = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Self { address, shared, task }
    }

    pub fn emulator(&self) -> &Emulator {
        &self.shared.emulator
    }

    pub fn be(&self, mood: Mood) {
        *self.shared.mood.lock().unwrap_or_else(PoisonError::into_inner) = mood;
    }

    /// How often an action was called.
    pub fn called(&self, action: &str) -> usize {
        let calls = self.shared.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.iter().filter(|call| *call == action).count()
    }

    /// What a program needs in its environment to use it.
    pub fn environment(&self) -> Vec<(String, String)> {
        let mut environment = self.shared.emulator.environment();
        environment.push(("AWS_ENDPOINT_URL_SECRETS_MANAGER".to_owned(), format!("http://{}", self.address)));
        environment
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(answer(stream, Arc::clone(&shared)));
    }
}

/// One call a connection: the client opens another for the next.
async fn answer(mut stream: TcpStream, shared: Arc<Shared>) -> Option<()> {
    let mood = *shared.mood.lock().ok()?;
    if mood == Mood::Gone {
        return None;
    }
    let (action, body) = request(&mut stream).await?;
    shared.calls.lock().ok()?.push(action.clone());
    let (status, text) = match mood {
        Mood::Honest => shared.emulator.secrets(&action, &body).await,
        Mood::Refusing(status, code, message) => {
            (status, serde_json::json!({ "__type": code, "Message": message }).to_string())
        }
        Mood::Silent => std::future::pending().await,
        Mood::Gone => return None,
        Mood::Babbling => (200, "<html>log in to the network first</html>".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        text.len()
    );
    stream.write_all((head + &text).as_bytes()).await.ok()?;
    stream.shutdown().await.ok()
}

/// The action and the body of a call.
async fn request(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let header = |wanted: &str| {
            let line = head
                .lines()
                .find_map(|line| line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case(wanted)));
            line.map(|(_, value)| value.trim().to_owned())
        };
        if body.len() >= header("content-length")?.parse().ok()? {
            let action = header("x-amz-target")?.rsplit_once('.')?.1.to_owned();
            return Some((action, body.to_owned()));
        }
    }
}
