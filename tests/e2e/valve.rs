//! The Lambda's safety valve: its real bootstrap, run by the emulator, between a real stream and a disk that fills up.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pgstream_testkit::{Cluster, Emulator, PASSWORD, USER, function_zip};
use serde_json::{Map, Value, json};

use crate::replicator::{Pipeline, SLOT};

const FUNCTION: &str = "slot-monitor";
const OF: [(&str, &str); 2] = [("Slot", SLOT), ("Database", "app")];

struct Lambda {
    emulator: Emulator,
}

impl Lambda {
    /// With these steps of the ladder, and the logins that the template gives it.
    async fn new(pipeline: &Pipeline, ladder: &[(&str, &str)]) -> Self {
        let emulator = Emulator::own().await.unwrap();
        for (name, server) in [("app/source", &pipeline.source), ("app/target", &pipeline.target)] {
            let body = json!({ "Name": name, "SecretString": login(server).to_string() }).to_string();
            let (status, answer) = emulator.secrets("CreateSecret", &body).await;
            assert_eq!(status, 200, "{answer}");
        }
        let fixed = [
            ("PGSTREAM_MONITOR_SECRET", "app/source"),
            ("PGSTREAM_VALVE_SECRET", "app/source"),
            ("PGSTREAM_TARGET_SECRET", "app/target"),
            ("PGSTREAM_SLOT", SLOT),
            ("PGSTREAM_DATABASE", "app"),
            ("PGSTREAM_RDS_INSTANCE", "shop-1"),
        ];
        let variables: Map<String, Value> =
            fixed.iter().chain(ladder).map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect();
        // A member of the workspace, built with everything else, beside the program.
        let program = Path::new(env!("CARGO_BIN_EXE_pgstream-aws")).with_file_name("slot-monitor");
        let body = json!({
            "FunctionName": FUNCTION,
            "Runtime": "provided.al2023",
            "Handler": "bootstrap",
            "Role": "arn:aws:iam::000000000000:role/slot-monitor",
            "Timeout": 50,
            "Code": { "ZipFile": STANDARD.encode(function_zip(&program)) },
            "Environment": { "Variables": variables },
        });
        let (status, answer) = emulator.rest("POST /2015-03-31/functions", "lambda", &body.to_string()).await;
        assert_eq!(status, 201, "{answer}");
        Self { emulator }
    }

    /// Runs it once so many bytes are free; the step that it took.
    async fn sees_free(&self, bytes: f64) -> String {
        let instance = ("DBInstanceIdentifier", "shop-1");
        self.emulator.put_metric("AWS/RDS", "FreeStorageSpace", instance, bytes).await;
        let what = format!("POST /2015-03-31/functions/{FUNCTION}/invocations");
        let (status, answer) = self.emulator.rest(&what, "lambda", "{}").await;
        assert_eq!(status, 200, "{answer}");
        let seen: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(seen["up"], true, "{seen:#}");
        seen["valve"].as_str().unwrap_or_else(|| panic!("{seen:#}")).to_owned()
    }

    async fn highest_step(&self) -> f64 {
        self.emulator.metric("pgstream-aws", "ValveStep", &OF, "Maximum").await.into_iter().fold(0.0, f64::max)
    }
}

fn login(server: &Cluster) -> Value {
    json!({ "username": USER, "password": PASSWORD, "host": "127.0.0.1", "port": server.port(), "dbname": "app" })
}

const SLOTS: &str = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'pgstream_app_slot'";

#[tokio::test]
async fn the_lambda_warns_holds_the_copy_back_and_drops_the_slot_in_this_order() {
    let pipeline = Pipeline::new("CREATE TABLE t (id int PRIMARY KEY)").await;
    pipeline.pgstream(&["init"]).await.ok();
    let mut stream = pipeline.run();
    pipeline.caught_up(&mut stream).await;
    let ladder = [
        ("PGSTREAM_VALVE_NOTIFY_BELOW", "40000000000"),
        ("PGSTREAM_VALVE_PAUSE_BELOW", "20000000000"),
        ("PGSTREAM_VALVE_DROP_BELOW", "5000000000"),
    ];
    let lambda = Lambda::new(&pipeline, &ladder).await;
    assert_eq!(lambda.sees_free(100e9).await, "closed");
    assert_eq!(lambda.sees_free(30e9).await, "notify");
    assert_eq!(lambda.highest_step().await, 1.0);
    pipeline.pgstream(&["status"]).await.ok();

    assert_eq!(lambda.sees_free(10e9).await, "pause");
    assert_eq!(lambda.highest_step().await, 2.0);
    pipeline.pgstream(&["status"]).await.ends(1).prints(&["[copy_paused]", "are free on the source's disk"]);
    stream.assert_running();
    assert_eq!(pipeline.here().await.scalar::<i64>(SLOTS).await, 1);

    assert_eq!(lambda.sees_free(1e9).await, "drop");
    assert_eq!(lambda.highest_step().await, 3.0);
    assert_eq!(pipeline.here().await.scalar::<i64>(SLOTS).await, 0);
    stream.done().await.ends(1).says(&["stream::slot_dropped"]);
    pipeline.pgstream(&["status"]).await.ends(1).prints(&["[slot_dropped]"]);
}

#[tokio::test]
async fn a_lambda_that_may_only_warn_does_nothing_else_whatever_happens() {
    let pipeline = Pipeline::new("CREATE TABLE t (id int PRIMARY KEY)").await;
    pipeline.pgstream(&["init"]).await.ok();
    let mut stream = pipeline.run();
    pipeline.caught_up(&mut stream).await;
    let lambda = Lambda::new(&pipeline, &[("PGSTREAM_VALVE_NOTIFY_BELOW", "40000000000")]).await;
    assert_eq!(lambda.sees_free(1.0).await, "notify");
    assert_eq!(lambda.highest_step().await, 1.0);
    pipeline.pgstream(&["status"]).await.ok();
    stream.stop().await.ok();
}
