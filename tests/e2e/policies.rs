//! The policies of `infra/iam` for what runs in tasks: each program reads and writes the secrets that its policy names, and
//! no others.
//!
//! Keys and metrics are not seen by the emulator: only calls to Secrets Manager and RDS are compared.

use std::{collections::BTreeSet, fs};

use pgstream_testkit::Emulator;
use rds_sim::{Instance, Policy};
use serde_json::{Value, json};

use crate::{
    account::Account,
    recorder::Recorder,
    replicator::{Pipeline, Replicator},
};

/// A policy with its placeholders replaced.
fn policy(file: &str, places: &[(&str, &str)]) -> Policy {
    let path = format!("{}/../../infra/iam/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(path).unwrap();
    let everywhere = [("REGION", "eu-west-1"), ("ACCOUNT", "123456789012")];
    let text =
        everywhere.iter().chain(places).fold(text, |text, (placeholder, value)| text.replace(placeholder, value));
    Policy::parse(&text)
}

/// The ARN of a secret of this name, as Secrets Manager makes it.
fn arn(secret: &str) -> String {
    match secret.starts_with("arn:") {
        true => secret.to_owned(),
        false => format!("arn:aws:secretsmanager:eu-west-1:123456789012:secret:{secret}-AbC123"),
    }
}

/// Everything that was called is allowed, and every action on secrets that is allowed was called.
#[track_caller]
fn assert_fits(policy: &Policy, calls: &[(String, String)]) {
    assert!(!calls.is_empty());
    for (action, secret) in calls {
        assert!(policy.allows(action, &arn(secret)), "{action} on {} is not allowed", arn(secret));
    }
    let called: BTreeSet<String> = calls.iter().map(|(action, _)| action.clone()).collect();
    let granted = policy.actions().into_iter().filter(|action| action.starts_with("secretsmanager:"));
    assert_eq!(called, granted.collect(), "the policy allows what nobody needs");
}

/// Everything an emulator knows, and a recorder in front of it.
struct Secrets {
    emulator: Emulator,
    recorder: Recorder,
}

impl Secrets {
    async fn new() -> Self {
        let emulator = Emulator::start().await.unwrap_or_else(|error| panic!("{error}"));
        let recorder = Recorder::start(&emulator).await;
        Self { emulator, recorder }
    }

    fn environment(&self) -> Vec<(String, String)> {
        let mut environment = self.emulator.environment();
        let own = ("AWS_ENDPOINT_URL_SECRETS_MANAGER".to_owned(), self.recorder.endpoint().to_owned());
        environment.push(own);
        environment
    }

    /// Puts it where the recorder does not see it.
    async fn put(&self, name: &str, value: &Value) {
        let body = json!({ "Name": name, "SecretString": value.to_string() });
        let (status, answer) = self.emulator.secrets("CreateSecret", &body.to_string()).await;
        assert_eq!(status, 200, "{answer}");
    }
}

/// A name that no other run on the same endpoint has.
fn name(what: &str) -> String {
    let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros();
    format!("{what}-{}-{started}", std::process::id())
}

fn login(server: &pgstream_testkit::Cluster) -> Value {
    json!({ "username": "app_user", "password": "pw", "host": "127.0.0.1", "port": server.port(), "dbname": "app" })
}

const ROLE: &str = "CREATE ROLE app_user SUPERUSER LOGIN PASSWORD 'pw'";

#[tokio::test]
async fn init_reads_the_admin_secret_and_the_stream_its_two() {
    let mut pipeline = Pipeline::new("CREATE TABLE t (id int PRIMARY KEY)").await;
    pipeline.here().await.batch(ROLE).await;
    pipeline.there().await.batch(ROLE).await;
    let (admin, source, target) = (name("admin"), name("source"), name("target"));

    let secrets = Secrets::new().await;
    secrets.put(&admin, &login(&pipeline.source)).await;
    pipeline.environment(secrets.environment());
    pipeline.set("source.postgres.url", format!("secretsmanager://{admin}"));
    pipeline.pgstream(&["init"]).await.ok();
    assert_fits(&policy("init-job.json", &[("ADMIN_SECRET", &admin)]), &secrets.recorder.calls());

    let secrets = Secrets::new().await;
    secrets.put(&source, &login(&pipeline.source)).await;
    secrets.put(&target, &login(&pipeline.target)).await;
    pipeline.environment(secrets.environment());
    pipeline.set("source.postgres.url", format!("secretsmanager://{source}"));
    pipeline.set("target.postgres.url", format!("secretsmanager://{target}"));
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    running.stop().await.ok();
    pipeline.pgstream(&["status"]).await.ok();
    let places = [("SOURCE_SECRET", source.as_str()), ("TARGET_SECRET", target.as_str())];
    let calls = secrets.recorder.calls();
    assert_fits(&policy("streaming-task.json", &places), &calls);
    let read: BTreeSet<&String> = calls.iter().map(|(_, secret)| secret).collect();
    assert_eq!(read, BTreeSet::from([&source, &target]));
}

#[tokio::test]
async fn users_apply_keeps_what_it_makes_under_its_own_name() {
    let secrets = Secrets::new().await;
    let server = pgstream_testkit::cluster().await;
    server.client("app").await.batch(ROLE).await;
    let (admin, made) = (name("admin"), format!("pgstream/{}", name("made")));
    secrets.put(&admin, &login(&server)).await;
    let admin_url = format!("secretsmanager://{admin}");
    let apply = ["users", "apply", "--yes", "--admin-url", &admin_url, "--role", "source", "--secret", &made];
    // Made, and found.
    Replicator::start_in(&apply, secrets.environment()).done().await.ok();
    Replicator::start_in(&apply, secrets.environment()).done().await.ok();
    let policy = policy("users-apply.json", &[("ADMIN_SECRET", &admin)]);
    let mut calls = secrets.recorder.calls();
    for (action, secret) in &calls {
        let reads_admin = *secret == admin && action == "secretsmanager:GetSecretValue";
        assert!(*secret == made || reads_admin, "{action} on {secret}");
    }
    // Only for a secret that has no value yet, which the emulator takes for a binary one.
    calls.push(("secretsmanager:PutSecretValue".to_owned(), made.clone()));
    assert_fits(&policy, &calls);
    // Of other secrets nothing may be written.
    for action in ["secretsmanager:CreateSecret", "secretsmanager:PutSecretValue"] {
        assert!(policy.allows(action, &arn(&made)) && !policy.allows(action, &arn("theirs")), "{action}");
    }
}

#[tokio::test]
async fn a_managed_secret_is_joined_with_one_database_only() {
    let account = Account::new().await;
    let shop = account.simulator.create_instance(Instance::new("shop")).await.unwrap();
    account.simulator.declare_instance(Instance::new("other"));
    let secrets = Secrets::new().await;
    let managed = name("managed");
    shop.cluster().client("app").await.batch(ROLE).await;
    secrets.put(&managed, &json!({ "username": "app_user", "password": "pw" })).await;
    let tags = json!({ "SecretId": managed, "Tags": [{ "Key": "aws:rds:primaryDBInstanceArn",
        "Value": "arn:aws:rds:eu-west-1:123456789012:db:shop" }] });
    let (status, answer) = secrets.emulator.secrets("TagResource", &tags.to_string()).await;
    assert_eq!(status, 200, "{answer}");
    let policy = policy("managed-secret.json", &[("MANAGED_SECRET", &managed), ("IDENTIFIER", "shop")]);
    account.simulator.enforce(Some(policy.clone()));
    let mut environment = secrets.environment();
    environment.push(("AWS_ENDPOINT_URL_RDS".to_owned(), account.simulator.endpoint()));
    let url = format!("secretsmanager://{managed}?dbname=app");
    Replicator::start_in(&["status", "--postgres-url", &url], environment)
        .done()
        .await
        .ends(1)
        .prints(&["[slot_missing]"]);
    let calls = secrets.recorder.calls();
    let (reads, describes): (Vec<_>, Vec<_>) =
        calls.into_iter().partition(|(action, _)| action == "secretsmanager:GetSecretValue");
    assert!(!reads.is_empty() && reads.iter().all(|(_, secret)| *secret == managed));
    assert_fits(&policy, &describes);
    assert_eq!(account.count("DescribeDBInstances"), 1);
}
