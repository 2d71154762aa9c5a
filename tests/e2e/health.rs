//! The HTTP endpoints of a running pipeline.

use std::net::{Ipv4Addr, TcpListener};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::replicator::Pipeline;

/// Status and body of a GET.
async fn get(port: u16, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// The value of a metric.
fn metric(metrics: &str, name: &str) -> f64 {
    let line = metrics.lines().find(|line| line.split(' ').next() == Some(name));
    line.unwrap_or_else(|| panic!("no {name} in\n{metrics}")).split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_running_pipeline_tells_how_it_is() {
    let mut pipeline = Pipeline::new("CREATE TABLE t (id int PRIMARY KEY)").await;
    pipeline.pgstream(&["init"]).await.ok();
    let port = free_port();
    pipeline.set("instrumentation.health.enabled", true);
    pipeline.set("instrumentation.health.address", format!("127.0.0.1:{port}"));
    pipeline.set("instrumentation.metrics.prometheus.enabled", true);
    let mut running = pipeline.run();
    running.says("serving /health").await;
    assert_eq!(get(port, "/health").await, (200, "ok\n".to_owned()));
    pipeline.caught_up(&mut running).await;
    let here = pipeline.here().await;
    here.batch("INSERT INTO t SELECT generate_series(1, 7)").await;
    pipeline.caught_up(&mut running).await;
    here.batch("DELETE FROM t WHERE id = 1").await;
    pipeline.caught_up(&mut running).await;

    assert_eq!(get(port, "/ready").await, (200, "streaming\n".to_owned()));
    assert_eq!(pipeline.pgstream(&["health", "--ready"]).await.ok().out, "streaming\n");
    let (code, status) = get(port, "/status").await;
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!((code, status["phase"].as_str(), status["deletes"].as_u64()), (200, Some("streaming"), Some(1)));
    assert!(status["lag_bytes"].is_u64() && status["applied_lsn"].is_string(), "{status:#}");
    let (code, metrics) = get(port, "/metrics").await;
    assert_eq!((code, metric(&metrics, "pgstream_up"), metric(&metrics, "pgstream_deletes_total")), (200, 1.0, 1.0));
    assert!(metric(&metrics, "pgstream_inserts_total") >= 7.0);
    assert_eq!(get(port, "/nothing").await.0, 404);

    // Alive, but not ready: restarting it would not help.
    pipeline.target.kill9();
    here.batch("INSERT INTO t VALUES (100)").await;
    running.says("reconnecting").await;
    while get(port, "/ready").await.0 == 200 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(get(port, "/ready").await.0, 503);
    assert_eq!(get(port, "/health").await.0, 200);
    assert_eq!(pipeline.pgstream(&["health"]).await.ok().out, "ok\n");
    pipeline.pgstream(&["health", "--ready"]).await.ends(1);
    assert_eq!(metric(&get(port, "/metrics").await.1, "pgstream_up"), 0.0);
    pipeline.target.start().await;
    pipeline.caught_up(&mut running).await;
    assert_eq!(get(port, "/ready").await.0, 200);
    running.stop().await.ok();
    pipeline.pgstream(&["health"]).await.ends(1).says(&["local::io", "is `pgstream-aws run` running here"]);
}

#[tokio::test]
async fn a_health_check_without_an_endpoint_is_a_mistake_of_whoever_wrote_it() {
    let pipeline = Pipeline::new("").await;
    pipeline.pgstream(&["health"]).await.ends(2).says(&["usage::no_health_endpoint", "instrumentation.health.enabled"]);
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let mut pipeline = Pipeline::new("").await;
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    pipeline.set("instrumentation.health.enabled", true);
    pipeline.set("instrumentation.health.address", address.clone());
    pipeline.pgstream(&["run"]).await.ends(1).says(&[&address, "instrumentation.health.address"]);
}
