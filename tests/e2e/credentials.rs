//! Logins that Secrets Manager keeps: every form of secret, rotation in the middle of a stream, and what is said when one
//! cannot be used.

use std::sync::atomic::{AtomicU64, Ordering};

use pgstream_testkit::{Emulator, cluster};
use serde_json::{Value, json};

use crate::{
    replicator::{Pipeline, Replicator},
    secrets::{children, raw},
};

/// More than a kilobyte, with everything that means something in URLs, passfiles and SQL.
fn password(n: u32) -> String {
    format!("canary{n} '\"@:/%\\?#&=$ {}", "x".repeat(1100))
}

pub async fn emulator() -> Emulator {
    Emulator::start().await.unwrap_or_else(|error| panic!("{error}"))
}

pub async fn put(emulator: &Emulator, name: &str, value: &Value) {
    let body = json!({ "Name": name, "SecretString": value.to_string() });
    let (status, answer) = emulator.secrets("CreateSecret", &body.to_string()).await;
    if status != 200 {
        assert!(answer.contains("ResourceExists"), "{answer}");
        let body = json!({ "SecretId": name, "SecretString": value.to_string() });
        let (status, answer) = emulator.secrets("PutSecretValue", &body.to_string()).await;
        assert_eq!(status, 200, "{answer}");
    }
}

/// A name that no other run on the same endpoint has.
pub fn name(what: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    format!("pgstream-test/{started}-{}/{what}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn quoted(password: &str) -> String {
    format!("'{}'", password.replace('\'', "''"))
}

#[tokio::test]
async fn a_stream_goes_on_through_rotation_and_shows_no_secret() {
    let emulator = emulator().await;
    let mut pipeline = Pipeline::new("CREATE TABLE t (id int PRIMARY KEY)").await;
    let (source, target) = (name("source"), name("target"));
    // As in E'…' a backslash would mean something, so it does not stand in one.
    let role = |n| format!("CREATE ROLE app_user SUPERUSER LOGIN PASSWORD {}", quoted(&password(n)));
    pipeline.here().await.batch(&role(1)).await;
    pipeline.there().await.batch(&role(1)).await;
    let full = |port: Value, n| {
        json!({ "engine": "postgres", "host": "127.0.0.1", "port": port, "dbname": "app", "username": "app_user",
                "password": password(n) })
    };
    // The port as a string on one side, as a number on the other.
    put(&emulator, &source, &full(pipeline.source.port().to_string().into(), 1)).await;
    let managed = json!({ "username": "app_user", "password": password(1) });
    put(&emulator, &target, &managed).await;
    let query = format!("?host=127.0.0.1&port={}&dbname=app&application_name=by%20secret", pipeline.target.port());
    pipeline.set("source.postgres.url", format!("secretsmanager://{source}"));
    pipeline.set("target.postgres.url", format!("secretsmanager://{target}{query}"));
    // The keys of a task are secrets, too, and so is what its environment holds for others.
    let keys = ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "PGPASSWORD", "DB_PASSWORD"]
        .map(|name| (name.to_owned(), "canary-key".to_owned()));
    pipeline.environment(emulator.environment().into_iter().chain(keys).collect());
    pipeline.pgstream(&["init"]).await.ok();

    let mut locker = pipeline.here().await;
    let lock = locker.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut running = pipeline.start(&["run", "--log-level", "trace"]);
    let mut seen = false;
    while !seen {
        for (child, arguments) in children(running.pid()) {
            assert!(!arguments.contains("canary") && !raw(child, "environ").contains("canary"), "{arguments}");
            seen |= arguments.contains("pg_dump");
        }
        running.assert_running();
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    lock.commit().await.unwrap();
    pipeline.caught_up(&mut running).await;

    // The target's secret follows its server; the source's is still to come when the sessions end.
    for (n, at_source) in [(2, true), (3, false)] {
        let alter = format!("ALTER ROLE app_user PASSWORD {}", quoted(&password(n)));
        let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app_user'";
        pipeline.here().await.batch("INSERT INTO t SELECT coalesce(max(id), 0) + 1 FROM t").await;
        let admin = if at_source { pipeline.here().await } else { pipeline.there().await };
        admin.batch(&alter).await;
        admin.batch(kill).await;
        let value = if at_source {
            full(pipeline.source.port().into(), n)
        } else {
            json!({ "username": "app_user", "password": password(n) })
        };
        put(&emulator, if at_source { &source } else { &target }, &value).await;
        pipeline.here().await.batch("INSERT INTO t SELECT coalesce(max(id), 0) + 1 FROM t").await;
        pipeline.caught_up(&mut running).await;
    }
    let done = running.stop().await.ok();
    pipeline.assert_same_rows().await;
    assert!(done.err.contains("TRACE") || done.err.contains("DEBUG"), "everything is logged");
    assert!(!done.err.contains("canary") && !done.out.contains("canary"), "{}", done.err);
}

#[tokio::test]
async fn a_password_that_stays_wrong_ends_with_what_was_tried() {
    let (emulator, cluster) = (emulator().await, cluster().await);
    let secret = name("wrong");
    cluster.client("app").await.batch("CREATE ROLE app_user LOGIN PASSWORD 'right'").await;
    put(
        &emulator,
        &secret,
        &json!({ "username": "app_user", "password": "canary", "host": "127.0.0.1", "port": cluster.port() }),
    )
    .await;
    let url = format!("secretsmanager://{secret}?dbname=app");
    let done = Replicator::start_in(&["status", "--postgres-url", &url], emulator.environment()).done().await;
    let done = done.ends(1).says(&["refuses what secret", "AWSPENDING", "28P01", "rotate-secret"]);
    assert!(!done.err.contains("canary"));
}

#[tokio::test]
async fn a_secret_that_cannot_be_used_is_said_precisely() {
    let emulator = emulator().await;
    let environment = emulator.environment();
    let status = async |url: String| {
        Replicator::start_in(&["status", "--postgres-url", &url], environment.clone()).done().await.ends(1)
    };
    let absent = name("absent");
    status(format!("secretsmanager://{absent}")).await.says(&["aws::secret_not_found", &absent]);
    for (value, code, says) in [
        (json!("canary"), "aws::secret_malformed", "not an object"),
        (json!({ "username": "canary" }), "aws::secret_malformed", "it has no password"),
        (json!({ "username": "u", "password": "canary" }), "aws::secret_without_host", "has no host"),
        (json!({ "username": "u", "password": "canary", "port": "x" }), "aws::secret_malformed", "its port"),
    ] {
        let secret = name(says);
        let secret = secret.replace(' ', "-");
        put(&emulator, &secret, &value).await;
        let done = status(format!("secretsmanager://{secret}")).await.says(&[code, says]);
        assert!(!done.err.contains("canary"), "{}", done.err);
    }
    let binary = name("binary");
    let body = json!({ "Name": binary, "SecretBinary": "Y2FuYXJ5" });
    assert_eq!(emulator.secrets("CreateSecret", &body.to_string()).await.0, 200);
    status(format!("secretsmanager://{binary}")).await.says(&["aws::secret_binary"]);
}

#[tokio::test]
async fn without_region_credentials_or_endpoint_the_next_step_is_named() {
    let without = |name: &str| -> Vec<(String, String)> {
        let all = [
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("AWS_MAX_ATTEMPTS", "1"),
        ];
        all.iter().filter(|entry| !entry.0.starts_with(name)).map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    };
    let arguments = ["status", "--postgres-url", "secretsmanager://s?host=h"];
    for (variable, code) in [
        ("AWS_REGION", "aws::no_region"),
        ("AWS_ACCESS_KEY_ID", "aws::no_credentials"),
        ("nothing", "aws::unreachable"),
    ] {
        let done = Replicator::start_in(&arguments, without(variable)).done().await;
        done.ends(1).says(&[code]);
    }
}
