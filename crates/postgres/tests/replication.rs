//! Replication connections to real servers of every major version, and through cuts and stalls.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use pgstream_postgres::{
    Class, Dsn, Error, Lsn, Server,
    pgoutput::Message,
    replication::{Frame, ReplicationStream, StartOptions},
};
use pgstream_testkit::{Client, Cluster, Proxy, Stop, pinned_majors};

fn server(url: &str) -> Server {
    Server::new(Dsn::parse(url).unwrap())
}

fn options(slot: &str) -> StartOptions {
    StartOptions {
        slot: slot.to_owned(),
        publications: vec!["pub".to_owned()],
        proto_version: 1,
        binary: false,
        messages: false,
    }
}

/// A table, a publication of it, and slots.
async fn prepare(admin: &Client, slots: &[&str]) {
    admin.batch("CREATE TABLE t (id int PRIMARY KEY, body text); CREATE PUBLICATION pub FOR TABLE t").await;
    for slot in slots {
        admin.batch(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')")).await;
    }
}

async fn start(server: &Server, options: &StartOptions) -> Result<ReplicationStream, Error> {
    server.replicate().await.unwrap().start(Lsn::ZERO, options).await
}

/// Reads until `commits` transactions have ended; the number of inserts, and one past the last commit.
async fn read_commits(stream: &mut ReplicationStream, commits: usize) -> (usize, Lsn) {
    let (mut inserts, mut ended, mut end) = (0, 0, Lsn::ZERO);
    while ended < commits {
        if let Frame::Data { message, .. } = stream.frame().await.unwrap() {
            match message[0] {
                b'I' => inserts += 1,
                b'C' => {
                    ended += 1;
                    end = Lsn(u64::from_be_bytes(message[10..18].try_into().unwrap()));
                }
                _ => {}
            }
        }
    }
    (inserts, end)
}

#[tokio::test]
async fn every_major_version_streams_and_takes_the_position_back() {
    for major in pinned_majors() {
        let cluster = Cluster::builder().major(major).start().await.unwrap();
        let admin = cluster.client("postgres").await;
        prepare(&admin, &["s"]).await;
        admin.batch("INSERT INTO t SELECT g, repeat('x', 500) FROM generate_series(1, 2000) g").await;

        let server = server(&cluster.url("postgres"));
        let mut connection = server.replicate().await.unwrap();
        let identity = connection.identify_system().await.unwrap();
        let system = admin.text("SELECT system_identifier::text FROM pg_control_system()").await.unwrap();
        assert_eq!((identity.system_identifier, identity.timeline), (system, 1));
        assert_eq!(identity.dbname, "postgres");
        assert_eq!(connection.timeline_history(1).await.unwrap(), []);
        let missing = connection.timeline_history(7).await.unwrap_err();
        assert!(missing.sqlstate().is_some(), "{missing}");

        let modern = major >= 14;
        let options =
            StartOptions { binary: modern, messages: modern, proto_version: 1 + u32::from(modern), ..options("s") };
        let mut stream = start(&server, &options).await.unwrap();
        let (inserts, end) = read_commits(&mut stream, 1).await;
        assert_eq!(inserts, 2000, "{major}");

        stream.status(end, end, end, true).await.unwrap();
        loop {
            if let Frame::Keepalive { end: sent, clock, .. } = stream.frame().await.unwrap() {
                assert!(sent >= end);
                assert!(clock.elapsed().unwrap_or_default() < Duration::from_secs(60), "{clock:?}");
                break;
            }
        }
        let confirmed = format!("SELECT confirmed_flush_lsn >= '{end}' FROM pg_replication_slots");
        admin.wait_until(&confirmed, "t").await;

        // Closed politely, the slot is free at once.
        stream.close().await.unwrap();
        admin.batch("SELECT pg_drop_replication_slot('s')").await;
    }
}

#[tokio::test]
async fn a_slot_that_is_busy_missing_or_lost_is_told_apart() {
    for major in pinned_majors() {
        let cluster = Cluster::builder()
            .major(major)
            .setting("max_slot_wal_keep_size", "1MB")
            .setting("min_wal_size", "32MB")
            .setting("max_wal_size", "32MB")
            .start()
            .await
            .unwrap();
        let admin = cluster.client("postgres").await;
        prepare(&admin, &["busy", "lost"]).await;
        let server = server(&cluster.url("postgres"));

        let running = start(&server, &options("busy")).await.unwrap();
        let busy = start(&server, &options("busy")).await.unwrap_err();
        assert_eq!((busy.sqlstate(), busy.class()), (Some("55006"), Class::Transient), "{major}: {busy}");
        drop(running);

        let missing = start(&server, &options("nowhere")).await.unwrap_err();
        assert_eq!((missing.sqlstate(), missing.class()), (Some("42704"), Class::Setup), "{major}: {missing}");

        for _ in 0..8 {
            admin.batch("SELECT pg_switch_wal(); INSERT INTO t VALUES (1); DELETE FROM t; CHECKPOINT").await;
        }
        admin.wait_until("SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'lost'", "lost").await;
        let lost = start(&server, &options("lost")).await.unwrap_err();
        assert!(matches!(&lost, Error::SlotLost { slot, .. } if slot == "lost"), "{major}: {lost}");
        assert_eq!((lost.sqlstate(), lost.class()), (Some("55000"), Class::Lost));
        assert!(lost.remedy().is_some());
    }
}

#[tokio::test]
async fn a_server_without_logical_decoding_needs_setup_and_not_a_new_snapshot() {
    let cluster = Cluster::builder().start().await.unwrap();
    let admin = cluster.client("postgres").await;
    admin.batch("SELECT pg_create_physical_replication_slot('s')").await;
    let error = start(&server(&cluster.url("postgres")), &options("s")).await.unwrap_err();
    assert_eq!(error.class(), Class::Setup, "{error}");
}

#[tokio::test]
async fn a_missing_publication_ends_the_stream_on_every_version() {
    for major in pinned_majors() {
        let cluster = Cluster::builder().major(major).start().await.unwrap();
        let admin = cluster.client("postgres").await;
        prepare(&admin, &["s"]).await;
        admin.batch("INSERT INTO t VALUES (1)").await;
        let gone = StartOptions { publications: vec!["no \"such' one".to_owned()], ..options("s") };
        let mut stream = start(&server(&cluster.url("postgres")), &gone).await.unwrap();
        let error = loop {
            match stream.frame().await {
                Ok(Frame::Data { message, .. }) => assert_ne!(message[0], b'C', "{major}: passed over"),
                Ok(Frame::Keepalive { .. }) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error.class(), Class::Setup, "{major}: {error}");
        assert!(error.to_string().contains("no \"such' one"), "{error}");
    }
}

#[tokio::test]
async fn a_frame_that_is_cancelled_is_not_lost() {
    let cluster = Cluster::builder().tls().start().await.unwrap();
    let admin = cluster.client("postgres").await;
    prepare(&admin, &["plain", "tls"]).await;
    admin.batch("INSERT INTO t SELECT g, repeat(md5(g::text), 40) FROM generate_series(1, 3000) g").await;
    let proxy = Proxy::start(cluster.port()).await.unwrap();
    for (slot, mode) in [("plain", "disable"), ("tls", "require")] {
        let url = proxy.url(&cluster.url("postgres"), cluster.port()) + &format!("?sslmode={mode}");
        let mut stream = start(&server(&url), &options(slot)).await.unwrap();
        proxy.throttle(4_000_000);
        let (mut ids, mut cancelled, mut committed) = (Vec::new(), 0, false);
        while !committed {
            // Both futures are dropped all the time, half way through reads and writes.
            let position = Lsn(1);
            let frame = tokio::select! {
                biased;
                frame = stream.frame() => Some(frame.unwrap()),
                () = tokio::time::sleep(Duration::from_micros(50)) => None,
            };
            let Some(frame) = frame else {
                cancelled += 1;
                let status = stream.status(position, position, position, cancelled % 3 == 0);
                let _ = tokio::time::timeout(Duration::from_nanos(1), status).await;
                continue;
            };
            let mut next = Some(frame);
            while let Some(frame) = next {
                if let Frame::Data { message, .. } = frame {
                    match Message::parse(&message).unwrap() {
                        Message::Insert { .. } => {
                            let (length, rest) = message[9..].split_first_chunk::<4>().unwrap();
                            let length = u32::from_be_bytes(*length) as usize;
                            ids.push(std::str::from_utf8(&rest[..length]).unwrap().parse::<u32>().unwrap());
                        }
                        Message::Commit { .. } => committed = true,
                        _ => {}
                    }
                }
                next = stream.buffered().unwrap();
            }
        }
        assert_eq!(ids, (1..=3000).collect::<Vec<_>>(), "{mode}");
        assert!(cancelled > 10, "{mode}: {cancelled}");
        proxy.resume();
        // The server understood every update: the connection is still in step.
        stream.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_status_goes_out_while_no_frame_is_read() {
    let cluster = Cluster::builder().setting("wal_sender_timeout", "1s").start().await.unwrap();
    let admin = cluster.client("postgres").await;
    prepare(&admin, &["s"]).await;
    // Far more than the buffers of both sockets take.
    admin.batch("INSERT INTO t SELECT g, repeat(md5(g::text), 300) FROM generate_series(1, 5000) g").await;
    let mut stream = start(&server(&cluster.url("postgres")), &options("s")).await.unwrap();
    let blocked = tokio::time::Instant::now();
    while blocked.elapsed() < Duration::from_secs(3) {
        stream.status(Lsn::ZERO, Lsn::ZERO, Lsn::ZERO, false).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(read_commits(&mut stream, 1).await.0, 5000);
}

#[tokio::test]
async fn the_end_of_the_server_is_transient() {
    let cluster = Cluster::builder().start().await.unwrap();
    let admin = cluster.client("postgres").await;
    prepare(&admin, &["s"]).await;
    let server = server(&cluster.url("postgres"));
    for stop in [Stop::Fast, Stop::Immediate] {
        let mut stream = start(&server, &options("s")).await.unwrap();
        // A server that shuts down waits until what it sent is confirmed.
        let (error, ()) = tokio::join!(
            async {
                loop {
                    match stream.frame().await {
                        Ok(Frame::Keepalive { end, .. }) => {
                            let _ = stream.status(end, end, end, false).await;
                        }
                        Ok(Frame::Data { .. }) => {}
                        Err(error) => break error,
                    }
                }
            },
            cluster.stop(stop)
        );
        assert_eq!(error.class(), Class::Transient, "{error}");
        let down = server.replicate().await.unwrap_err();
        assert_eq!(down.class(), Class::Transient, "{down}");
        cluster.start().await;
    }
    let mut stream = start(&server, &options("s")).await.unwrap();
    let admin = cluster.client("postgres").await;
    admin.batch("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active").await;
    let error = loop {
        if let Err(error) = stream.frame().await {
            break error;
        }
    };
    assert_eq!(error.class(), Class::Transient, "{error}");
}

#[tokio::test]
async fn a_row_of_hundreds_of_megabytes_passes_whole() {
    let cluster = Cluster::builder().start().await.unwrap();
    let admin = cluster.client("postgres").await;
    prepare(&admin, &["s"]).await;
    admin
        .batch("ALTER TABLE t ALTER body SET STORAGE EXTERNAL; INSERT INTO t VALUES (1, repeat('x', 200000000))")
        .await;
    let mut stream = start(&server(&cluster.url("postgres")), &options("s")).await.unwrap();
    let mut largest = 0;
    loop {
        if let Frame::Data { message, .. } = stream.frame().await.unwrap() {
            largest = largest.max(message.len());
            if message[0] == b'C' {
                break;
            }
        }
    }
    assert!(largest > 200_000_000);
}
