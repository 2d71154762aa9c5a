//! What each command prints, changes and returns.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
};

use pgstream_testkit::{assert_same_rows, cluster, dump_schema, pair};

use crate::replicator::{Config, MARKER, Replicator, both, caught_up, copied, fails, pgstream, succeeds, text};

const ITEMS: &str = "CREATE TABLE item (id int PRIMARY KEY, t text); CREATE TABLE keyless (n int);
    INSERT INTO item SELECT n, 'x' FROM generate_series(1, 500) AS n; INSERT INTO keyless VALUES (1), (1);";

#[tokio::test]
async fn init_converges_and_destroy_leaves_the_source_as_it_was() {
    let source = cluster().await;
    let here = source.client("app").await;
    here.batch(ITEMS).await;
    let before = dump_schema(&source, "app").await;
    let url = source.url("app");
    let (one, two) = tokio::join!(
        tokio::task::spawn_blocking({
            let url = url.clone();
            move || pgstream(&["init", "--postgres-url", &url])
        }),
        tokio::task::spawn_blocking({
            let url = url.clone();
            move || pgstream(&["init", "--postgres-url", &url])
        }),
    );
    for output in [one.unwrap(), two.unwrap()] {
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    here.batch("UPDATE keyless SET n = 2").await;
    let again = succeeds(&["init", "--postgres-url", &url, "--json"]);
    let report: serde_json::Value = serde_json::from_str(&again).unwrap();
    assert_eq!(report["slot"], "pgstream_app_slot");
    succeeds(&["status", "--postgres-url", &url]);

    let refused = fails(2, &["destroy", "--postgres-url", &url]);
    assert!(refused.contains("nothing was changed") && refused.contains("--yes"), "{refused}");
    succeeds(&["destroy", "--postgres-url", &url, "--yes"]);
    assert_eq!(dump_schema(&source, "app").await, before);
    assert_eq!(here.scalar::<i64>("SELECT count(*) FROM pg_replication_slots").await, 0);
    let found = pgstream(&["status", "--postgres-url", &url, "--json"]);
    assert_eq!(found.status.code(), Some(1));
    let status: serde_json::Value = serde_json::from_slice(&found.stdout).unwrap();
    assert!(!status["findings"].as_array().unwrap().is_empty(), "{status}");
}

#[tokio::test]
async fn snapshot_copies_once_and_not_again() {
    let (source, target) = pair().await;
    source.client("app").await.batch(ITEMS).await;
    let (from, to) = (source.url("app"), target.url("app"));
    let arguments = ["snapshot", "--postgres-url", from.as_str(), "--target-url", to.as_str(), "--json"];
    let first: serde_json::Value = serde_json::from_str(&succeeds(&arguments)).unwrap();
    assert_eq!((first["tables"].as_u64(), first["rows"].as_u64()), (Some(2), Some(502)), "{first}");
    assert_same_rows(&source, &target, "app").await;
    let second: serde_json::Value = serde_json::from_str(&succeeds(&arguments)).unwrap();
    assert_eq!((second["tables"].as_u64(), second["tables_before"].as_u64()), (Some(0), Some(2)), "{second}");
}

#[tokio::test]
async fn changes_go_to_standard_output_as_json_lines() {
    let source = cluster().await;
    let here = source.client("app").await;
    here.batch(ITEMS).await;
    let url = source.url("app");
    succeeds(&["init", "--postgres-url", &url]);
    let config = Config::raw(&format!("source: {{postgres: {{url: \"{url}\"}}}}\ntarget: {{stdout: {{}}}}\n"));
    let replicator = Replicator::run(&config);
    here.batch("BEGIN; INSERT INTO item VALUES (1000, 'quo\"ted'); UPDATE item SET t = NULL WHERE id = 1; COMMIT")
        .await;
    here.batch("DELETE FROM item WHERE id = 2; TRUNCATE keyless").await;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !replicator.log().contains("truncate") {
        assert!(std::time::Instant::now() < deadline, "{}", replicator.log());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let lines: Vec<serde_json::Value> =
        replicator.log().lines().filter(|l| l.starts_with('{')).map(|l| serde_json::from_str(l).unwrap()).collect();
    let ops: Vec<&str> = lines.iter().map(|l| l["op"].as_str().unwrap()).collect();
    assert_eq!(ops, ["insert", "update", "delete", "truncate"]);
    assert_eq!(lines[0]["new"]["t"], "quo\"ted");
    assert_eq!(lines[1]["new"], serde_json::json!({"id": "1", "t": null}));
    assert_eq!(lines[2]["old"], serde_json::json!({"id": "2"}));
    assert!(replicator.stop().0.success());
}

#[tokio::test]
async fn health_status_and_metrics_are_served_while_it_runs() {
    let (source, target) = pair().await;
    let here = source.client("app").await;
    here.batch(MARKER).await;
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = both(&source, &target);
    let yaml = std::fs::read_to_string(config.path()).unwrap();
    let config = Config::raw(&format!(
        "{yaml}instrumentation:\n  health: {{enabled: true, address: \"127.0.0.1:{port}\"}}\n  metrics: {{prometheus: {{enabled: true}}}}\n"
    ));
    succeeds(&["init", "-c", &config.path()]);
    let replicator = Replicator::run(&config);
    let there = target.client("app").await;
    copied(&there, &replicator).await;
    caught_up(&here, &there).await;
    let get = |path: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(get("/health").starts_with("HTTP/1.1 200") && get("/ready").starts_with("HTTP/1.1 200"));
    assert!(get("/status").contains("\"phase\":\"streaming\""), "{}", get("/status"));
    assert!(get("/metrics").contains("\npgstream_up 1\n"), "{}", get("/metrics"));
}
