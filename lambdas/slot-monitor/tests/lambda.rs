//! The slot monitor as Lambda runs it: the emulator starts the real bootstrap and speaks the real runtime API with it.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pgstream_testkit::{Cluster, Emulator, Stop, function_zip};
use serde_json::{Value, json};

const SLOT: &str = "pgstream_app_slot";
const OF: [(&str, &str); 2] = [("Slot", SLOT), ("Database", "app")];

/// A login of the source in Secrets Manager; the secret's name.
async fn secret(emulator: &Emulator, name: &str, source: &Cluster, password: &str) {
    let login =
        json!({ "username": "pgstreammonitor", "password": password, "host": "127.0.0.1", "port": source.port() });
    let body = json!({ "Name": name, "SecretString": login.to_string() }).to_string();
    let (status, answer) = emulator.secrets("CreateSecret", &body).await;
    assert_eq!(status, 200, "{answer}");
}

struct Function<'a> {
    emulator: &'a Emulator,
    name: &'static str,
}

impl<'a> Function<'a> {
    async fn new(emulator: &'a Emulator, name: &'static str, variables: Value) -> Self {
        let body = json!({
            "FunctionName": name,
            "Runtime": "provided.al2023",
            "Handler": "bootstrap",
            "Role": "arn:aws:iam::000000000000:role/slot-monitor",
            "Timeout": 50,
            "Code": { "ZipFile": STANDARD.encode(function_zip(Path::new(env!("CARGO_BIN_EXE_slot-monitor")))) },
            "Environment": { "Variables": variables },
        });
        let (status, answer) = emulator.rest("POST /2015-03-31/functions", "lambda", &body.to_string()).await;
        assert_eq!(status, 201, "{answer}");
        Self { emulator, name }
    }

    /// What it answers to one event of a schedule.
    async fn run(&self) -> Value {
        let event = json!({ "source": "aws.events", "detail-type": "Scheduled Event", "detail": {} });
        let what = format!("POST /2015-03-31/functions/{}/invocations", self.name);
        let (status, answer) = self.emulator.rest(&what, "lambda", &event.to_string()).await;
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }
}

#[tokio::test]
async fn the_function_publishes_what_it_sees_with_the_login_of_the_monitor_alone() {
    let source = pgstream_testkit::cluster().await;
    let here = source.client("app").await;
    here.batch("REVOKE CONNECT ON DATABASE app FROM PUBLIC").await;
    here.batch(&format!("SELECT pg_create_logical_replication_slot('{SLOT}', 'pgoutput')")).await;
    here.batch("CREATE ROLE pgstreammonitor LOGIN PASSWORD 'first'; GRANT CONNECT ON DATABASE app TO pgstreammonitor")
        .await;
    here.batch("CREATE TABLE t AS SELECT generate_series(1, 10000) AS n").await;
    let emulator = Emulator::own().await.unwrap();
    secret(&emulator, "app/monitor", &source, "first").await;
    let variables =
        json!({ "PGSTREAM_MONITOR_SECRET": "app/monitor", "PGSTREAM_SLOT": SLOT, "PGSTREAM_DATABASE": "app" });
    let function = Function::new(&emulator, "slot-monitor", variables).await;

    let seen = function.run().await;
    assert_eq!(seen["up"], true, "{seen:#}");
    assert_eq!(seen["slots"][0]["active"], false, "{seen:#}");
    assert_eq!(emulator.metric("pgstream-aws", "Up", &OF, "Minimum").await, [1.0]);
    assert_eq!(emulator.metric("pgstream-aws", "SlotMissing", &OF, "Maximum").await, [0.0]);
    let kept = emulator.metric("pgstream-aws", "RetainedWalBytes", &OF, "Maximum").await;
    assert!(kept[0] > 100_000.0, "{kept:?}");

    // A password that was rotated is read again, in the same run.
    here.batch("ALTER ROLE pgstreammonitor PASSWORD 'second'").await;
    let login =
        json!({ "username": "pgstreammonitor", "password": "second", "host": "127.0.0.1", "port": source.port() });
    let body = json!({ "SecretId": "app/monitor", "SecretString": login.to_string() }).to_string();
    let (status, answer) = emulator.secrets("PutSecretValue", &body).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(function.run().await["up"], true);

    // A source that is down is a metric, not a failure.
    source.stop(Stop::Immediate).await;
    let down = function.run().await;
    assert_eq!(down["up"], false, "{down:#}");
    assert_eq!(emulator.metric("pgstream-aws", "Up", &OF, "Minimum").await.iter().copied().fold(1.0, f64::min), 0.0);
    source.start().await;
    let seen = function.run().await;
    assert_eq!(seen["up"], true, "{seen:#}");

    source.client("app").await.batch(&format!("SELECT pg_drop_replication_slot('{SLOT}')")).await;
    let missing = function.run().await;
    assert_eq!((&missing["up"], &missing["slots"][0]["missing"]), (&Value::Bool(true), &Value::Bool(true)));
    assert_eq!(
        emulator.metric("pgstream-aws", "SlotMissing", &OF, "Maximum").await.iter().copied().fold(0.0, f64::max),
        1.0
    );
}

#[tokio::test]
async fn a_secret_that_is_not_there_is_a_source_that_is_not_up() {
    let emulator = Emulator::own().await.unwrap();
    let variables = json!({ "PGSTREAM_MONITOR_SECRET": "nowhere", "PGSTREAM_SLOT": SLOT, "PGSTREAM_DATABASE": "app" });
    let function = Function::new(&emulator, "slot-monitor", variables).await;
    let blind = function.run().await;
    assert_eq!(blind["up"], false, "{blind:#}");
    assert!(blind["error"].as_str().unwrap().contains("there is no secret `nowhere`"), "{blind:#}");
    assert_eq!(emulator.metric("pgstream-aws", "Up", &OF, "Minimum").await, [0.0]);
}
