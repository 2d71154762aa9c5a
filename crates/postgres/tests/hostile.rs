//! Servers that send what no server should: every answer is an error, in bounded time and memory, never a panic.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use pgstream_postgres::{
    Class, Dsn, Error, Lsn, Server, Session,
    replication::{Frame, ReplicationStream, StartOptions},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

const LIMIT: Duration = Duration::from_secs(20);

/// A packet with a true length.
fn packet(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

/// AuthenticationOk, ReadyForQuery.
fn welcome() -> Vec<u8> {
    [packet(b'R', &[0; 4]), packet(b'Z', b"I")].concat()
}

fn copy_both() -> Vec<u8> {
    packet(b'W', &[0, 0, 0])
}

/// The answer to `IDENTIFY_SYSTEM`.
fn identity() -> Vec<u8> {
    let field = |name: &str| [name.as_bytes(), &[0; 19]].concat();
    let value = |text: &str| [&u32::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat();
    let fields = ["systemid", "timeline", "xlogpos", "dbname"].map(field).concat();
    let values = ["7", "1", "0/1", "db"].map(value).concat();
    [
        packet(b'T', &[&[0, 4][..], &fields].concat()),
        packet(b'D', &[&[0, 4][..], &values].concat()),
        packet(b'C', b"IDENTIFY_SYSTEM\0"),
        packet(b'Z', b"I"),
    ]
    .concat()
}

/// Waits for a request, and answers `IDENTIFY_SYSTEM` in passing: how often it is asked depends on the clock. False when
/// the connection has ended.
async fn asked(socket: &mut TcpStream) -> bool {
    let mut received = [0; 4096];
    loop {
        let length = socket.read(&mut received).await.unwrap_or(0);
        if !received[..length].windows(15).any(|word| word == b"IDENTIFY_SYSTEM") {
            return length > 0;
        }
        if socket.write_all(&identity()).await.is_err() {
            return false;
        }
    }
}

/// Answers each connection with these bytes: the first part at once, each further one after something was received.
async fn fake(parts: Vec<Vec<u8>>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(answer(socket, parts.clone()));
        }
    });
    let url = format!("postgresql://user:CANARY@127.0.0.1:{port}/db?sslmode=disable&connect_timeout=2");
    Server::new(Dsn::parse(&url).unwrap())
}

async fn answer(mut socket: TcpStream, parts: Vec<Vec<u8>>) {
    for part in parts {
        if !asked(&mut socket).await || socket.write_all(&part).await.is_err() {
            return;
        }
    }
    let _ = socket.shutdown().await;
    let mut received = [0; 4096];
    while socket.read(&mut received).await.unwrap_or(0) > 0 {}
}

async fn stream(server: &Server) -> Result<ReplicationStream, Error> {
    let options = StartOptions {
        slot: "s".to_owned(),
        publications: vec!["p".to_owned()],
        proto_version: 1,
        binary: false,
        messages: false,
    };
    server.replicate().await?.start(Lsn::ZERO, &options).await
}

async fn drain(server: &Server) -> (usize, Error) {
    let mut frames = 0;
    let work = async {
        let mut stream = match stream(server).await {
            Ok(stream) => stream,
            Err(error) => return error,
        };
        loop {
            match stream.frame().await {
                Ok(_) => frames += 1,
                Err(error) => return error,
            }
        }
    };
    let error = tokio::time::timeout(LIMIT, work).await.expect("an end");
    assert!(!format!("{error} {error:?}").contains("CANARY"), "{error}");
    (frames, error)
}

#[tokio::test]
async fn answers_to_the_start_up_are_not_believed() {
    let huge = |tag: u8, length: u32| [&[tag][..], &length.to_be_bytes(), &[0; 100]].concat();
    let scram =
        |text: &[u8]| vec![packet(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0"), packet(b'R', &[b"\0\0\0\x0b", text].concat())];
    for parts in [
        vec![],
        vec![b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()],
        vec![vec![0; 100]],
        vec![vec![0xFF; 100]],
        vec![huge(b'R', 0xFFFF_FFFF)],
        vec![huge(b'R', 0x7FFF_FFFF)],
        vec![huge(b'E', 0x4000_0000)],
        vec![huge(b'R', 3)],
        vec![huge(b'R', 0)],
        vec![packet(b'R', b"")],
        vec![packet(b'R', b"\0\0")],
        vec![packet(b'R', b"\0\0\0\x05ab")],
        vec![packet(b'R', b"\0\0\0\x07")],
        vec![packet(b'R', b"\0\0\0\xff")],
        vec![packet(b'R', b"\0\0\0\x0b")],
        vec![packet(b'R', b"\0\0\0\x0aNOTHING\0\0")],
        vec![packet(b'R', b"\0\0\0\x0a")],
        scram(b"r=,s=,i=4096"),
        scram(b"r=x,s=QQ==,i=4000000000"),
        scram(b"r=x,s=QQ==,i=99999999"),
        scram(b"\xff\xff"),
        scram(b""),
        vec![packet(b'E', b"")],
        vec![packet(b'E', b"SFATAL\0C")],
        vec![packet(b'D', b"\0\x01")],
        vec![packet(b'v', b""), packet(b'N', b"")],
    ] {
        let server = fake(parts.clone()).await;
        let (frames, error) = drain(&server).await;
        assert_eq!(frames, 0, "{parts:?}: {error}");
        // The driver has no limit on the rounds of hashing.
        if !parts.iter().any(|part| part.ends_with(b"i=4000000000") || part.ends_with(b"i=99999999")) {
            let session = Session::new("test");
            let result = tokio::time::timeout(LIMIT, server.connect(&session)).await.expect("an end");
            let error = result.err().expect("an error");
            assert!(matches!(error.class(), Class::Transient | Class::Setup), "{parts:?}: {error}");
        }
        assert!(matches!(error.class(), Class::Transient | Class::Setup), "{parts:?}: {error}");
    }
}

#[tokio::test]
async fn frames_are_not_believed() {
    let data = packet(b'd', &[b"w", &[0; 24][..], b"B"].concat());
    for (wrong, class) in [
        (packet(b'd', b""), Class::Transient),
        (packet(b'd', b"w"), Class::Transient),
        (packet(b'd', &[b"w", &[0; 23][..]].concat()), Class::Transient),
        (packet(b'd', &[b"k", &[0; 16][..]].concat()), Class::Transient),
        (packet(b'd', b"?whatever"), Class::Transient),
        (packet(b'T', b"rows"), Class::Transient),
        (packet(b'c', b""), Class::Transient),
        (packet(b'C', b"COPY 0\0"), Class::Transient),
        (packet(b'E', b"SERROR\0C58P01\0Mrequested WAL segment has already been removed\0\0"), Class::Lost),
        (packet(b'E', b"SFATAL\0C57P01\0Mbye\0\0"), Class::Transient),
        (packet(b'N', b"SWARNING\0C55000\0Mskipped loading publication\0\0"), Class::Setup),
        (vec![b'd', 0x7F, 0xFF, 0xFF, 0xFF, 1, 2, 3], Class::Transient),
        (vec![b'd', 0x80, 0, 0, 0], Class::Transient),
        (vec![b'd', 0, 0, 0, 3], Class::Transient),
        (vec![b'd'], Class::Transient),
        (data[..10].to_vec(), Class::Transient),
    ] {
        let shown = wrong.clone();
        let streamed =
            [copy_both(), data.clone(), packet(b'N', b"SNOTICE\0C00000\0Mhello\0\0"), data.clone(), wrong].concat();
        let server = fake(vec![welcome(), streamed]).await;
        let (frames, error) = drain(&server).await;
        assert_eq!((frames, error.class()), (2, class), "{shown:?}: {error}");
    }
}

#[tokio::test]
async fn a_large_announcement_allocates_only_what_arrives() {
    let before = resident();
    let mut streams = Vec::new();
    for _ in 0..20 {
        // 900 MB announced, 1 MB sent.
        let part = [copy_both(), vec![b'd', 0x35, 0xA4, 0xE9, 0x00, b'w'], vec![0; 1_000_000]].concat();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            for part in [welcome(), part] {
                asked(&mut socket).await;
                let _ = socket.write_all(&part).await;
            }
            socket
        });
        let url = format!("postgresql://u@127.0.0.1:{port}/db?sslmode=disable");
        let mut stream = stream(&Server::new(Dsn::parse(&url).unwrap())).await.unwrap();
        let socket = server.await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(50), stream.frame()).await.is_err());
        assert!(stream.buffered().unwrap().is_none());
        streams.push((stream, socket));
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 200 * 1024, "{grown} KiB for 20 streams");
}

/// Resident memory in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn frames_cut_anywhere_are_put_together() {
    let frames: Vec<u8> = (0..50_u8)
        .flat_map(|number| {
            let length = usize::from(number) * 7;
            packet(b'd', &[b"w", &[0; 24][..], &vec![number; length]].concat())
        })
        .collect();
    for chunk in [1, 2, 3, 5, 7, 31, 1000] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let frames = frames.clone();
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            socket.set_nodelay(true).unwrap();
            asked(&mut socket).await;
            let _ = socket.write_all(&welcome()).await;
            asked(&mut socket).await;
            for piece in [copy_both(), frames].concat().chunks(chunk) {
                let _ = socket.write_all(piece).await;
                tokio::task::yield_now().await;
            }
        });
        let url = format!("postgresql://u@127.0.0.1:{port}/db?sslmode=disable");
        let mut stream = stream(&Server::new(Dsn::parse(&url).unwrap())).await.unwrap();
        let mut kept = Vec::new();
        for number in 0..50_u8 {
            let Frame::Data { message, .. } = stream.frame().await.unwrap() else { panic!("data") };
            assert_eq!(message, vec![number; usize::from(number) * 7]);
            kept.push(message);
        }
        assert!(matches!(stream.frame().await.unwrap_err(), Error::Io { .. }));
        // What was handed out is not overwritten by later reads.
        assert!(
            kept.iter().enumerate().all(|(number, message)| message.iter().all(|byte| usize::from(*byte) == number))
        );
    }
}

#[tokio::test]
async fn an_answer_to_the_request_for_tls_is_yes_or_no() {
    for answer in [&b"E\0\0\0\x08fatal"[..], b"X", b"S\x15\x03\x01\0\x02\x02\x28", b"SR\0\0\0\x08\0\0\0\0", b""] {
        let server = fake(vec![answer.to_vec()]).await;
        let url = format!("postgresql://u@{}/db?sslmode=require&connect_timeout=2", server.dsn().host_display());
        let server = Server::new(Dsn::parse(&url).unwrap());
        let error = server.replicate().await.unwrap_err();
        assert!(matches!(error, Error::Tls { .. } | Error::Io { .. }), "{error}");
        server.connect(&Session::new("test")).await.err().expect("an error");
    }
}

#[tokio::test]
async fn a_silent_server_is_given_up_on() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for mode in ["disable", "require"] {
        let url = format!("postgresql://u@127.0.0.1:{port}/db?connect_timeout=1&sslmode={mode}");
        let server = Server::new(Dsn::parse(&url).unwrap());
        let error = server.replicate().await.unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "{error}");
        assert_eq!(server.connect(&Session::new("test")).await.err().unwrap().class(), Class::Transient);
    }
}
