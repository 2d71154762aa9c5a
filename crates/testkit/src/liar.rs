//! A proxy on loopback whose server starts to lie.
//!
//! ```text
//!  client ──> 127.0.0.1:port ── everything ──> upstream
//!         <── log in, catalogs, … as they are ──
//!         <── from CopyBothResponse (a stream) or CopyOutResponse (COPY TO) on: the lie, and the end of the connection
//! ```
//! All else is true, so what is tested gets as far as with an honest server.

use std::{
    io,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp},
    task::JoinHandle,
};

use crate::{Error, error};

/// The protocol number by which a client asks for TLS.
const SSL_REQUEST: [u8; 4] = 80_877_103_u32.to_be_bytes();

/// Where the truth ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lies {
    /// Where a replication stream starts.
    InStreams,
    /// Where the rows of `COPY TO` start.
    InCopies,
}

impl Lies {
    /// The packet behind which the lie begins.
    fn after(self) -> u8 {
        match self {
            Self::InStreams => b'W',
            Self::InCopies => b'H',
        }
    }
}

/// What is said instead of the truth.
#[derive(Debug, Clone, Default)]
pub struct Lie {
    parts: Vec<(Vec<u8>, usize)>,
    pause: Duration,
    stays: bool,
}

impl Lie {
    /// Says these bytes and hangs up.
    #[must_use]
    pub fn of(bytes: Vec<u8>) -> Self {
        Self { parts: vec![(bytes, 1)], ..Self::default() }
    }

    /// Then says these bytes so many times.
    #[must_use]
    pub fn then(mut self, bytes: Vec<u8>, times: usize) -> Self {
        self.parts.push((bytes, times));
        self
    }

    /// With a pause after every byte.
    #[must_use]
    pub fn dripping(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// And does not hang up.
    #[must_use]
    pub fn staying(mut self) -> Self {
        self.stays = true;
        self
    }

    async fn tell(&self, to: &mut tcp::WriteHalf<'_>) -> io::Result<()> {
        for (bytes, times) in &self.parts {
            for _ in 0..*times {
                if self.pause.is_zero() {
                    to.write_all(bytes).await?;
                    continue;
                }
                for byte in bytes {
                    to.write_all(&[*byte]).await?;
                    tokio::time::sleep(self.pause).await;
                }
            }
        }
        if !self.stays {
            to.shutdown().await?;
        }
        Ok(())
    }
}

/// A running liar; dropping it ends it.
pub struct Liar {
    port: u16,
    told: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Liar {
    /// Listens on a free loopback port in front of one on loopback.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(upstream_port: u16, lies: Lies, lie: Lie) -> Result<Self, Error> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(error::io("binding the liar"))?;
        let port = listener.local_addr().map_err(error::io("reading the liar's address"))?.port();
        let (told, lie) = (Arc::new(AtomicU64::new(0)), Arc::new(lie));
        let task = tokio::spawn({
            let told = Arc::clone(&told);
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    let (told, lie) = (Arc::clone(&told), Arc::clone(&lie));
                    // However a connection ends: that is what is tested.
                    tokio::spawn(async move { serve(client, upstream_port, lies, &lie, &told).await.ok() });
                }
            }
        });
        Ok(Self { port, told, task })
    }

    /// The same URL, through the liar. Only the port that belongs to the upstream is replaced.
    #[must_use]
    pub fn url(&self, url: &str, upstream_port: u16) -> String {
        url.replacen(&format!("@127.0.0.1:{upstream_port}/"), &format!("@127.0.0.1:{}/", self.port), 1)
    }

    /// How often it has begun to lie.
    #[must_use]
    pub fn told(&self) -> u64 {
        self.told.load(Ordering::SeqCst)
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut client: TcpStream, upstream_port: u16, lies: Lies, lie: &Lie, told: &AtomicU64) -> io::Result<()> {
    let mut upstream = TcpStream::connect((Ipv4Addr::LOCALHOST, upstream_port)).await?;
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    let mut start = [0; 8];
    client.read_exact(&mut start).await?;
    if start[4..] == SSL_REQUEST {
        client.write_all(b"N").await?;
    } else {
        upstream.write_all(&start).await?;
    }
    let ((mut from_client, mut to_client), (mut from_upstream, mut to_upstream)) = (client.split(), upstream.split());
    let up = async {
        tokio::io::copy(&mut from_client, &mut to_upstream).await?;
        to_upstream.shutdown().await
    };
    let down = async {
        loop {
            let mut header = [0; 5];
            if from_upstream.read_exact(&mut header).await.is_err() {
                return to_client.shutdown().await;
            }
            let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]).saturating_sub(4);
            let mut body = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
            from_upstream.read_exact(&mut body).await?;
            to_client.write_all(&[&header[..], &body].concat()).await?;
            if header[0] == lies.after() {
                told.fetch_add(1, Ordering::SeqCst);
                lie.tell(&mut to_client).await?;
                // What the server says from here on is for nobody.
                tokio::io::copy(&mut from_upstream, &mut tokio::io::sink()).await?;
                return Ok(());
            }
        }
    };
    tokio::try_join!(up, down).map(drop)
}
