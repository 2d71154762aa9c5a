//! What is between the program and a source: TLS, logins, limits, poolers.

use std::{fs, net::Ipv4Addr, process::Command};

use pgstream_testkit::Cluster;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::{findings, found, prepared};
use crate::replicator::Pipeline;

const URL: &str = "source.postgres.url";

/// The source as a role without any obstacle reaches it, and `init` done.
async fn reached(source: Cluster) -> Pipeline {
    let target = Cluster::builder().tls().start().await.unwrap();
    target.create_database("app").await;
    let mut pipeline = prepared(source, target).await;
    for side in ["source", "target"] {
        pipeline.set(&format!("{side}.postgres.retry_policy"), serde_json::json!({ "disable_retries": true }));
    }
    pipeline.pgstream(&["init"]).await.ok();
    pipeline
}

/// `check` says that the source cannot be reached, and `init` fails with this diagnosis.
async fn refuses(pipeline: &Pipeline, diagnosis: &str) {
    let done = pipeline.pgstream(&["check", "--json"]).await.ends(1);
    assert!(found(&done).contains(&"connectivity.source".to_owned()), "{diagnosis}: {done:?}");
    assert!(findings(&done).iter().any(|it| it["instances"][0]["fix"] != ""), "{diagnosis}: {done:?}");
    let docs = format!("docs: docs/troubleshooting.md#{diagnosis}\n");
    pipeline.pgstream(&["init"]).await.ends(1).says(&["fix:", &docs]);
}

async fn lets_in(pipeline: &Pipeline) {
    let done = pipeline.pgstream(&["check", "--json"]).await;
    assert!(!found(&done).contains(&"connectivity.source".to_owned()), "{done:?}");
    pipeline.pgstream(&["init"]).await.ok();
}

async fn ways_of(major: u32) {
    let source = Cluster::builder().major(major).tls().start().await.unwrap();
    source.create_database("app").await;
    let mut pipeline = reached(source).await;
    let good = pipeline.source.url_as("reader", "secret", "app");

    // Some users by TLS only, some not at all.
    let boss = pipeline.here().await;
    boss.batch("CREATE ROLE encrypted LOGIN REPLICATION PASSWORD 'secret' IN ROLE reader").await;
    boss.batch("CREATE ROLE stranger LOGIN REPLICATION PASSWORD 'secret' IN ROLE reader").await;
    let hba = pipeline.source.data_dir().join("pg_hba.conf");
    let mut rules = "hostssl all,replication encrypted 127.0.0.1/32 scram-sha-256\n\
                     host all,replication postgres,reader 127.0.0.1/32 scram-sha-256\n"
        .to_owned();
    fs::write(&hba, &rules).unwrap();
    boss.batch("SELECT pg_reload_conf()").await;
    let encrypted = pipeline.source.url_as("encrypted", "secret", "app");
    pipeline.set(URL, format!("{encrypted}?sslmode=disable"));
    refuses(&pipeline, "tls_required").await;
    pipeline.set(URL, format!("{encrypted}?sslmode=require"));
    lets_in(&pipeline).await;

    let verified =
        |authority: &Cluster| format!("{encrypted}?sslmode=verify-full&sslrootcert={}", authority.ca_file().display());
    let (wrong, right) = (verified(&pipeline.target), verified(&pipeline.source));
    pipeline.set(URL, wrong);
    refuses(&pipeline, "certificate").await;
    pipeline.set(URL, right);
    lets_in(&pipeline).await;

    // What is tried last decides what is said: without TLS that is all that the server complains about.
    let stranger = pipeline.source.url_as("stranger", "secret", "app");
    pipeline.set(URL, stranger.as_str());
    refuses(&pipeline, "tls_required").await;
    pipeline.set(URL, format!("{stranger}?sslmode=require"));
    refuses(&pipeline, "no_hba_entry").await;
    rules.push_str("host all,replication stranger 127.0.0.1/32 scram-sha-256\n");
    fs::write(&hba, &rules).unwrap();
    boss.batch("SELECT pg_reload_conf()").await;
    lets_in(&pipeline).await;

    for (url, diagnosis) in [
        (pipeline.source.url_as("reader", "rotated", "app"), "password"),
        (pipeline.source.url_as("reader", "secret", "nowhere"), "database_missing"),
        (good.replacen("127.0.0.1", "nowhere.invalid", 1), "host_unknown"),
    ] {
        pipeline.set(URL, url);
        refuses(&pipeline, diagnosis).await;
        pipeline.set(URL, good.as_str());
        lets_in(&pipeline).await;
    }

    boss.batch("ALTER ROLE reader CONNECTION LIMIT 0").await;
    refuses(&pipeline, "too_many_connections").await;
    boss.batch("ALTER ROLE reader CONNECTION LIMIT -1").await;
    lets_in(&pipeline).await;

    // A server that waits for its last session to end lets nobody in; then nothing answers.
    let terminated = Command::new("kill").arg(pipeline.source.postmaster_pid().to_string()).status().unwrap();
    assert!(terminated.success());
    while pipeline.source.try_client("app").await.is_ok() {}
    refuses(&pipeline, "starting").await;
    drop(boss);
    while pipeline.source.is_running() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    refuses(&pipeline, "unreachable").await;
    pipeline.source.start().await;
    lets_in(&pipeline).await;
}

#[tokio::test]
async fn ways_to_old_servers_are_named_and_mended() {
    ways_of(13).await;
}

#[tokio::test]
async fn ways_to_new_servers_are_named_and_mended() {
    ways_of(18).await;
}

/// A pooler as far as it matters: sessions pass, replication does not.
async fn pooler(listener: TcpListener, upstream: u16) {
    while let Ok((mut client, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut startup = Vec::new();
            loop {
                let length = client.read_u32().await?;
                startup.resize(usize::try_from(length).unwrap() - 4, 0);
                client.read_exact(&mut startup).await?;
                // A request for TLS, which it does not have.
                if length != 8 {
                    break;
                }
                client.write_all(b"N").await?;
            }
            if startup.windows(12).any(|part| part == b"replication\0") {
                let fields = b"SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter: replication\0\0";
                client.write_u8(b'E').await?;
                client.write_u32(u32::try_from(fields.len()).unwrap() + 4).await?;
                return client.write_all(fields).await;
            }
            let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, upstream)).await?;
            server.write_u32(u32::try_from(startup.len()).unwrap() + 4).await?;
            server.write_all(&startup).await?;
            tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop)
        });
    }
}

#[tokio::test]
async fn a_pooler_is_named_by_its_port_and_by_what_it_refuses() {
    let (source, target) = pgstream_testkit::pair().await;
    let mut pipeline = prepared(source, target).await;
    // Its usual port, on an address that nothing else is on.
    let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 64), 6432)).await.unwrap();
    let pooler = tokio::spawn(pooler(listener, pipeline.source.port()));
    let right = pipeline.source.url_as("reader", "secret", "app");
    let through = right.replacen(&format!("127.0.0.1:{}", pipeline.source.port()), "127.0.0.64:6432", 1);
    pipeline.set(URL, through);
    let done = pipeline.pgstream(&["check", "--json"]).await.ends(1);
    for id in ["connectivity.pooler", "source::replication_privilege"] {
        assert!(found(&done).contains(&id.to_owned()), "{done:?}");
    }
    pipeline.pgstream(&["init"]).await.ends(1).says(&["unsupported startup parameter", "troubleshooting.md#proxy\n"]);
    pipeline.set(URL, right);
    let done = pipeline.pgstream(&["check", "--json"]).await.ok();
    assert!(!found(&done).contains(&"connectivity.pooler".to_owned()), "{done:?}");
    pipeline.pgstream(&["init"]).await.ok();
    pooler.abort();
}

#[tokio::test]
async fn tables_of_a_superuser_are_published_by_it_and_never_by_granting_it() {
    let (source, target) = pgstream_testkit::pair().await;
    let pipeline = prepared(source, target).await;
    pipeline.here().await.batch("CREATE TABLE theirs (a int PRIMARY KEY); GRANT SELECT ON theirs TO reader").await;
    let done = pipeline.pgstream(&["check", "--json"]).await.ends(1);
    let finding = findings(&done).into_iter().find(|it| it["id"] == "source::publish_privilege").unwrap();
    let fix = finding["instances"][0]["fix"].as_str().unwrap();
    assert!(fix.contains("run init as postgres") && !fix.contains("GRANT"), "{fix}");
    // As it says.
    pipeline.here().await.batch("ALTER TABLE theirs OWNER TO owner_of_all").await;
    pipeline.pgstream(&["init"]).await.ok();
}
