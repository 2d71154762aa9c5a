//! The proxy breaks connections as it is told.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use pgstream_testkit::{Client, Proxy, cluster};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// An echo server; returns its port.
async fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    port
}

async fn round_trip(stream: &mut TcpStream, text: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(text).await?;
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back).await?;
    Ok(back)
}

#[tokio::test]
async fn a_session_through_the_proxy_is_cut_and_the_next_one_works() {
    let cluster = cluster().await;
    let proxy = Proxy::start(cluster.port()).await.unwrap();
    let url = proxy.url(&cluster.url("app"), cluster.port());
    let client = Client::open(&url).await.unwrap();
    assert_eq!(client.text("SELECT 1").await.as_deref(), Some("1"));
    proxy.cut();
    assert!(client.simple_query("SELECT 1").await.is_err());
    let client = Client::open(&url).await.unwrap();
    assert_eq!(client.text("SELECT 2").await.as_deref(), Some("2"));
    proxy.refuse();
    assert!(Client::open(&url).await.is_err());
    proxy.resume();
    assert!(Client::open(&url).await.is_ok());
}

#[tokio::test]
async fn exactly_the_budget_passes() {
    let proxy = Proxy::start(echo().await).await.unwrap();
    for budget in [1_u64, 5, 9, 10, 19] {
        let before = proxy.passed();
        let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
        proxy.cut_after(budget);
        // Ten bytes up, then ten down.
        assert!(round_trip(&mut stream, b"0123456789").await.is_err(), "budget {budget}");
        assert_eq!(proxy.passed() - before, budget);
    }
    let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
    assert_eq!(round_trip(&mut stream, b"0123456789").await.unwrap(), b"0123456789");
}

#[tokio::test]
async fn a_stalled_connection_is_silent_and_goes_on() {
    let proxy = Proxy::start(echo().await).await.unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
    round_trip(&mut stream, b"a").await.unwrap();
    proxy.stall();
    stream.write_all(b"b").await.unwrap();
    let mut byte = [0];
    assert!(tokio::time::timeout(Duration::from_millis(100), stream.read_exact(&mut byte)).await.is_err());
    proxy.resume();
    stream.read_exact(&mut byte).await.unwrap();
    assert_eq!(&byte, b"b");
    proxy.throttle(1000);
    let started = std::time::Instant::now();
    round_trip(&mut stream, &[7; 300]).await.unwrap();
    assert!(started.elapsed() > Duration::from_millis(200), "{:?}", started.elapsed());
}
