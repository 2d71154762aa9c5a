//! `monitor`, and the metrics of `run`, as a user and CloudWatch see them.

use std::sync::{Arc, Mutex};

use pgstream_testkit::{Emulator, Proxy, Stop};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

use crate::replicator::{Pipeline, SLOT};

const OF: [(&str, &str); 2] = [("Slot", SLOT), ("Database", "app")];

async fn prepared() -> Pipeline {
    let pipeline = Pipeline::new("CREATE TABLE t (id int PRIMARY KEY)").await;
    pipeline.pgstream(&["init"]).await.ok();
    pipeline
}

#[tokio::test]
async fn a_slot_without_a_reader_is_named_and_one_with_is_well() {
    let pipeline = prepared().await;
    let unread = pipeline.pgstream(&["monitor"]).await;
    let unread = unread.ends(1).prints(&[SLOT, "reserved", "nobody reads slot pgstream_app_slot", "of WAL a second"]);
    assert!(unread.out.lines().all(|line| line.trim_end().chars().count() <= 100), "{unread:?}");

    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    let well = pipeline.pgstream(&["monitor", "--to", "json"]).await.ok();
    let sample: Value = serde_json::from_str(&well.out).unwrap();
    assert_eq!(sample["up"], true, "{sample:#}");
    assert_eq!(sample["slots"][0]["active"], true, "{sample:#}");
    assert_eq!(sample["slots"][0]["inactive_seconds"], 0.0, "{sample:#}");
    running.stop().await.ok();

    pipeline.pgstream(&["destroy", "--yes"]).await.ok();
    pipeline.pgstream(&["monitor"]).await.ends(1).prints(&["missing", "does not exist: run `pgstream-aws status`"]);
}

#[tokio::test]
async fn a_source_that_is_down_is_said_to_be_and_comes_back() {
    let pipeline = prepared().await;
    let mut watching = pipeline.start(&["monitor", "--every", "1", "--to", "prometheus"]);
    watching.prints("pgstream_slot_up{slot=\"pgstream_app_slot\",database=\"app\"} 1").await;
    watching.prints("pgstream_slot_wal_bytes_per_second{").await;
    pipeline.source.stop(Stop::Immediate).await;
    watching.prints("pgstream_slot_up{slot=\"pgstream_app_slot\",database=\"app\"} 0").await;
    watching.says("the source does not answer").await;
    let down = pipeline.pgstream(&["monitor", "--to", "prometheus"]).await.ends(1);
    assert_eq!(down.out.lines().filter(|line| !line.starts_with('#')).count(), 1, "nothing else is known\n{down:?}");
    pipeline.source.start().await;
    let before = watching.stdout().matches("pgstream_slot_active{").count();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while watching.stdout().matches("pgstream_slot_active{").count() == before {
        assert!(std::time::Instant::now() < deadline, "{}", watching.stdout());
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    watching.stop().await.ok();
}

#[tokio::test]
async fn a_source_that_does_not_answer_is_not_waited_for() {
    let mut pipeline = prepared().await;
    let proxy = Proxy::start(pipeline.source.port()).await.unwrap();
    pipeline.set("source.postgres.url", proxy.url(&pipeline.source.url("app"), pipeline.source.port()));
    proxy.stall();
    let slow = pipeline.pgstream(&["monitor", "--to", "json"]).await.ends(1);
    let sample: Value = serde_json::from_str(&slow.out).unwrap();
    assert_eq!(sample["up"], false, "{sample:#}");
}

#[tokio::test]
async fn a_slot_that_fell_behind_its_limit_is_lost() {
    let pipeline = prepared().await;
    let here = pipeline.here().await;
    here.batch("ALTER SYSTEM SET max_slot_wal_keep_size = '16MB'").await;
    here.batch("SELECT pg_reload_conf()").await;
    here.batch("INSERT INTO t VALUES (1)").await;
    for _ in 0..4 {
        here.batch("SELECT pg_switch_wal(); INSERT INTO t VALUES (2); DELETE FROM t WHERE id = 2; CHECKPOINT").await;
    }
    let lost = pipeline.pgstream(&["monitor", "--to", "prometheus"]).await;
    lost.ends(1).prints(&["pgstream_slot_wal_status{slot=\"pgstream_app_slot\",database=\"app\"} 3"]);
}

#[tokio::test]
async fn cloudwatch_is_given_what_was_seen_and_free_storage_says_when_the_disk_is_full() {
    let mut pipeline = prepared().await;
    let emulator = Emulator::start().await.unwrap();
    pipeline.environment(emulator.environment());
    let instance = ("DBInstanceIdentifier", "shop-1");
    emulator.put_metric("AWS/RDS", "FreeStorageSpace", instance, 5e9).await;
    pipeline
        .pgstream(&["monitor", "--to", "cloudwatch", "--rds-instance", "shop-1"])
        .await
        .ends(1)
        .says(&["published"]);
    assert_eq!(emulator.metric("pgstream-aws", "Up", &OF, "Minimum").await, [1.0]);
    assert_eq!(emulator.metric("pgstream-aws", "SlotActive", &OF, "Maximum").await, [0.0]);
    assert_eq!(emulator.metric("pgstream-aws", "FreeStorageBytes", &OF, "Minimum").await, [5e9]);
    assert!(emulator.metric("pgstream-aws", "RetainedWalBytes", &OF, "Maximum").await[0] > 0.0);
}

/// A CloudWatch that refuses the first calls with this status and code, and takes those after them.
struct Moody {
    endpoint: String,
    /// Bodies of the calls, and whether each was taken.
    calls: Arc<Mutex<Vec<(String, bool)>>>,
}

impl Moody {
    async fn start(refusals: usize, status: &'static str, code: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let calls = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&calls);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let mut client = BufReader::new(client);
                let body = request(&mut client).await;
                let taken = kept.lock().unwrap().len() >= refusals;
                kept.lock().unwrap().push((body, taken));
                let (status, answer) = match taken {
                    true => ("200 OK", "<PutMetricDataResponse></PutMetricDataResponse>".to_owned()),
                    false => (
                        status,
                        format!(
                            "<ErrorResponse><Error><Code>{code}</Code><Message>no</Message></Error></ErrorResponse>"
                        ),
                    ),
                };
                let head = format!("HTTP/1.1 {status}\r\nContent-Type: text/xml\r\nConnection: close");
                let answer = format!("{head}\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
                client.get_mut().write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Self { endpoint, calls }
    }

    fn environment(&self, emulator: &Emulator) -> Vec<(String, String)> {
        let mut environment = emulator.environment();
        environment.push(("AWS_ENDPOINT_URL_CLOUDWATCH".to_owned(), self.endpoint.clone()));
        environment
    }

    fn calls(&self) -> Vec<(String, bool)> {
        self.calls.lock().unwrap().clone()
    }
}

/// The body of a request.
async fn request(client: &mut BufReader<TcpStream>) -> String {
    let (mut line, mut length) = (String::new(), 0);
    while client.read_line(&mut line).await.unwrap() > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    client.read_exact(&mut body).await.unwrap();
    String::from_utf8(body).unwrap()
}

#[tokio::test]
async fn what_cloudwatch_throttles_is_tried_again_and_published_once() {
    let mut pipeline = prepared().await;
    let emulator = Emulator::own().await.unwrap();
    let moody = Moody::start(2, "400 Bad Request", "Throttling").await;
    pipeline.environment(moody.environment(&emulator));
    pipeline.pgstream(&["monitor", "--to", "cloudwatch"]).await.ends(1).says(&["published"]);
    let calls = moody.calls();
    assert_eq!(calls.iter().map(|(_, taken)| *taken).collect::<Vec<_>>(), [false, false, true], "{calls:?}");
    assert!(calls[0].0.contains("MetricName=Up") && calls.iter().all(|(body, _)| *body == calls[0].0), "{calls:?}");
}

#[tokio::test]
async fn metrics_that_cloudwatch_refuses_are_said_to_be_refused() {
    let mut pipeline = prepared().await;
    let emulator = Emulator::own().await.unwrap();
    let moody = Moody::start(usize::MAX, "403 Forbidden", "AccessDenied").await;
    pipeline.environment(moody.environment(&emulator));
    let refused = pipeline.pgstream(&["monitor", "--to", "cloudwatch"]).await.ends(1);
    assert!(!refused.err.contains("published") && !refused.err.contains("panicked"), "{refused:?}");
    refused.says(&["cloudwatch:PutMetricData"]);
    assert_eq!(moody.calls().len(), 1, "a refusal is not tried again");
}

#[tokio::test]
async fn the_stream_prints_metrics_that_cloudwatch_logs_reads() {
    let mut pipeline = prepared().await;
    pipeline.set("aws.metrics.to", "emf");
    pipeline.set("aws.metrics.interval", 1);
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    running.prints("\"Transactions\":").await;
    let stopped = running.stop().await.ok();
    let lines: Vec<Value> = stopped.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let sum = |name: &str| lines.iter().filter_map(|line| line[name].as_f64()).sum::<f64>();
    assert!(sum("Transactions") >= 1.0 && sum("RowsInserted") >= 1.0, "{lines:#?}");
    assert_eq!(sum("Errors"), 0.0);
    assert!(lines.iter().all(|line| line["Slot"] == SLOT && line["Database"] == "app"));

    // What ends the stream is counted, by its code.
    pipeline.there().await.batch("DELETE FROM marker").await;
    let running = pipeline.run();
    pipeline.here().await.batch("DELETE FROM marker WHERE n = 0").await;
    let ended = running.done().await.ends(1);
    let last: Value = serde_json::from_str(ended.out.lines().last().unwrap()).unwrap();
    assert_eq!((&last["Errors"], &last["Code"]), (&Value::from(1.0), &Value::from("stream::conflict")), "{ended:?}");
}

#[tokio::test]
async fn the_stream_publishes_metrics_by_itself() {
    let mut pipeline = prepared().await;
    let emulator = Emulator::start().await.unwrap();
    pipeline.environment(emulator.environment());
    pipeline.set("aws.metrics.to", "cloudwatch");
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    // With the last ones, not after a minute.
    running.stop().await.ok();
    assert!(emulator.metric("pgstream-aws", "Transactions", &OF, "Sum").await.iter().sum::<f64>() >= 1.0);
    assert_eq!(emulator.metric("pgstream-aws", "Errors", &OF, "Sum").await.iter().sum::<f64>(), 0.0);
}

#[tokio::test]
async fn metrics_on_standard_output_and_changes_on_standard_output_exclude_each_other() {
    let mut pipeline = prepared().await;
    pipeline.unset("target.postgres");
    pipeline.set("target.stdout", Value::Object(serde_json::Map::new()));
    pipeline.set("source.postgres.mode", "replication");
    pipeline.set("aws.metrics.to", "emf");
    pipeline.pgstream(&["run"]).await.ends(2).says(&["aws.metrics.to", "`aws.metrics.to: cloudwatch`"]);
}

#[tokio::test]
async fn the_safety_valve_warns_holds_the_copy_back_and_drops_the_slot_in_this_order() {
    let mut pipeline = prepared().await;
    let emulator = Emulator::own().await.unwrap();
    pipeline.environment(emulator.environment());
    let free = async |bytes: f64| {
        emulator.put_metric("AWS/RDS", "FreeStorageSpace", ("DBInstanceIdentifier", "shop-1"), bytes).await;
    };
    free(100e9).await;
    let mut stream = pipeline.run();
    pipeline.caught_up(&mut stream).await;
    let valve = ["monitor", "--every", "1", "--to", "json", "--rds-instance", "shop-1"];
    let ladder = ["--notify-below", "40GB", "--pause-copy-below", "20GB", "--drop-slot-below", "5GB"];
    let mut watching = pipeline.start(&[&valve[..], &ladder[..]].concat());
    watching.prints("\"valve\":\"closed\"").await;
    free(30e9).await;
    watching.prints("\"valve\":\"notify\"").await;
    watching.says("the source's disk is filling up").await;
    stream.assert_running();

    free(10e9).await;
    watching.prints("\"valve\":\"pause\"").await;
    pipeline.pgstream(&["status"]).await.ends(1).prints(&["[copy_paused]", "are free on the source's disk"]);
    stream.assert_running();
    // The least of a minute counts.
    while !watching.stderr().contains("the copy is no longer held back") {
        free(100e9).await;
        watching.assert_running();
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    pipeline.pgstream(&["status"]).await.ok();

    free(1e9).await;
    watching.says("the slot is dropped: the target needs a new copy").await;
    watching.stop().await.ok();
    stream.done().await.ends(1).says(&["stream::slot_dropped", "1.0 GB are free on the source's disk"]);
    pipeline.pgstream(&["status"]).await.ends(1).prints(&["[slot_dropped]"]);

    // Starting over, as documented.
    pipeline.pgstream(&["destroy", "--slot-only", "--yes"]).await.ok();
    pipeline.pgstream(&["init"]).await.ok();
    pipeline.pgstream(&["snapshot", "--reset"]).await.ok();
    let mut stream = pipeline.run();
    pipeline.caught_up(&mut stream).await;
    pipeline.assert_same_rows().await;
    pipeline.pgstream(&["status"]).await.ok();
    stream.stop().await.ok();
}

#[tokio::test]
async fn a_copy_that_is_held_back_goes_on_when_it_is_let() {
    let pipeline = Pipeline::new("CREATE TABLE t AS SELECT generate_series(1, 1000) AS id").await;
    pipeline.pgstream(&["init"]).await.ok();
    // So that the target is prepared.
    pipeline.pgstream(&["snapshot", "--tables", "marker"]).await.ok();
    let there = pipeline.there().await;
    there.batch("INSERT INTO pgstream.safety_valve VALUES ('pgstream_app_slot', 'copy_paused', 'no room')").await;
    let mut copying = pipeline.start(&["snapshot"]);
    copying.says("the copy is paused by the safety valve").await;
    assert_eq!(there.text("SELECT count(*)::text FROM t").await.as_deref(), Some("0"));
    there.batch("DELETE FROM pgstream.safety_valve").await;
    copying.done().await.ok().says(&["the copy goes on"]);
    pipeline.assert_same_rows().await;
}

#[tokio::test]
async fn a_safety_valve_that_cannot_work_is_refused() {
    let pipeline = prepared().await;
    let unknown = pipeline.pgstream(&["monitor", "--every", "1", "--drop-slot-below", "5GB"]).await;
    unknown.ends(2).says(&["usage::valve_without_instance", "max_slot_wal_keep_size"]);
    let upside_down =
        ["monitor", "--every", "1", "--rds-instance", "x", "--notify-below", "1GB", "--drop-slot-below", "5GB"];
    pipeline.pgstream(&upside_down).await.ends(2).says(&["usage::valve_order", "must fall"]);
}
