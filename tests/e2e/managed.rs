//! Master secrets that RDS manages: user and password only, joined with the endpoint that RDS describes.

use std::time::Duration;

use pgstream_testkit::{Emulator, assert_same_rows};
use rds_sim::{Cluster, Database, Fault, Instance, Options, Simulator};
use serde_json::{Value, json};

use crate::{
    credentials::{emulator, name},
    replicator::{Done, Replicator},
};

const INSTANCE: &str = "arn:aws:rds:eu-west-1:123456789012:db:shop";

/// An account: RDS with an instance `shop` and an Aurora cluster `orders`, and Secrets Manager.
struct Account {
    simulator: Simulator,
    emulator: Emulator,
    source: Database,
    target: Database,
    directory: tempfile::TempDir,
}

impl Account {
    async fn new() -> Self {
        let simulator = Simulator::start(Options::default()).await.unwrap();
        let instance = Instance::new("shop").group("logical").parameter("rds.logical_replication", "1");
        let source = simulator.create_instance(instance).await.unwrap();
        let target = simulator.create_cluster(Cluster::aurora("orders")).await.unwrap();
        Self { simulator, emulator: emulator().await, source, target, directory: tempfile::tempdir().unwrap() }
    }

    /// A secret as RDS makes it, perhaps with the tags that say what it belongs to.
    async fn secret(&self, value: &Value, tags: &Value) -> String {
        let secret = name("managed").replace('/', "!");
        let body = json!({ "Name": secret, "SecretString": value.to_string(), "Tags": tags });
        let (status, answer) = self.emulator.secrets("CreateSecret", &body.to_string()).await;
        assert_eq!(status, 200, "{answer}");
        secret
    }

    async fn call(&self, action: &str, body: &Value) -> Value {
        let (status, answer) = self.emulator.secrets(action, &body.to_string()).await;
        assert_eq!(status, 200, "{action}: {answer}");
        serde_json::from_str(&answer).unwrap()
    }

    fn start(&self, arguments: &[&str]) -> Replicator {
        let mut environment = self.emulator.environment();
        environment.push(("AWS_ENDPOINT_URL_RDS".to_owned(), self.simulator.endpoint()));
        Replicator::start_in(arguments, environment)
    }

    async fn status(&self, url: &str) -> Done {
        self.start(&["status", "--postgres-url", url]).done().await
    }

    /// A configuration with this section `aws`.
    fn configure(&self, source: &str, target: &str, aws: &str) -> String {
        let path = self.directory.path().join("pipeline.yaml");
        let retry = "retry_policy: {exponential: {initial_interval: 100, max_interval: 1000}}";
        let text = format!(
            "source: {{postgres: {{url: '{source}', mode: snapshot_and_replication, {retry}}}}}\n\
             target: {{postgres: {{url: '{target}'}}}}\naws: {aws}\n"
        );
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

fn login(password: &str) -> Value {
    json!({ "username": "master", "password": password })
}

/// Waits until the target has so many rows; the table may be yet to come.
async fn arrive(running: &mut Replicator, target: &Database, rows: i64) {
    loop {
        if let Ok(there) = target.cluster().try_client("app").await
            && let Ok(row) = there.query_one("SELECT count(*) FROM item", &[]).await
            && row.get::<_, i64>(0) == rows
        {
            return;
        }
        running.assert_running();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_stream_goes_on_through_the_rotation_of_a_managed_secret() {
    let account = Account::new().await;
    let here = account.source.cluster().client("app").await;
    here.batch("GRANT ALL ON SCHEMA public TO master; CREATE TABLE item (id int PRIMARY KEY); ALTER TABLE item OWNER TO master").await;
    here.batch("INSERT INTO item SELECT n FROM generate_series(1, 100) n").await;
    // One is found by its tags, the other by its identifier.
    let tags = json!([{ "Key": "aws:rds:primaryDBInstanceArn", "Value": INSTANCE }]);
    let source = account.secret(&login("master-password"), &tags).await;
    let target = account.secret(&login("master-password"), &json!([])).await;
    let config = account.configure(
        &format!("secretsmanager://{source}?dbname=app"),
        &format!("secretsmanager://{target}?dbname=app"),
        "{target: {identifier: orders}}",
    );
    account.start(&["init", "-c", &config]).done().await.ok();
    let mut running = account.start(&["run", "-c", &config, "--log-level", "trace"]);
    arrive(&mut running, &account.target, 100).await;

    for (n, database, secret) in [(101, &account.source, &source), (102, &account.target, &target)] {
        // As a rotation does it: the new value is pending, the server is told, and only then it is current.
        let password = format!("canary{n} '\"@:/%\\?#&=$");
        let value = login(&password).to_string();
        let pending = json!({ "SecretId": secret, "SecretString": value, "VersionStages": ["AWSPENDING"] });
        let version = account.call("PutSecretValue", &pending).await["VersionId"].as_str().unwrap().to_owned();
        let admin = database.cluster().client("app").await;
        admin.batch(&format!("ALTER ROLE master PASSWORD '{}'", password.replace('\'', "''"))).await;
        admin.batch("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'master'").await;
        here.batch(&format!("INSERT INTO item VALUES ({n})")).await;
        arrive(&mut running, &account.target, n).await;
        let described = account.call("DescribeSecret", &json!({ "SecretId": secret })).await;
        let stages = described["VersionIdsToStages"].as_object().unwrap().clone();
        let current = stages.iter().find(|(_, stages)| stages.to_string().contains("AWSCURRENT")).unwrap().0;
        let moved = json!({ "SecretId": secret, "VersionStage": "AWSCURRENT", "MoveToVersionId": version,
                            "RemoveFromVersionId": current });
        account.call("UpdateSecretVersionStage", &moved).await;
    }
    let done = running.stop().await.ok();
    assert!(!done.err.contains("canary") && !done.err.contains("master-password"), "{}", done.err);
    assert_same_rows(account.source.cluster(), account.target.cluster(), "app").await;
    account.start(&["status", "-c", &config]).done().await.ok().prints(&["Nothing is wrong."]);
}

#[tokio::test]
async fn what_the_secret_leaves_out_comes_from_the_url_or_from_rds() {
    let account = Account::new().await;
    let tags =
        json!([{ "Key": "aws:rds:primaryDBClusterArn", "Value": "arn:aws:rds:eu-west-1:123456789012:cluster:orders" }]);
    let (shop, orders) = (account.source.port(), account.target.port());
    for (more, tags, query, port) in [
        (json!({}), &tags, "?dbname=app".to_owned(), orders),
        // As text or a number, the secret's own port and host win over what RDS describes, and the URL over both.
        (
            json!({ "host": "127.0.0.1", "port": shop.to_string(), "dbname": "app", "engine": "postgres" }),
            &tags,
            String::new(),
            shop,
        ),
        (json!({ "host": "127.0.0.1", "port": shop, "masterarn": "arn:aws:x" }), &tags, "?dbname=app".to_owned(), shop),
        (
            json!({ "host": "unknown.invalid", "port": 1 }),
            &tags,
            format!("?host=127.0.0.1&port={shop}&dbname=app"),
            shop,
        ),
        (json!({ "host": "", "port": "", "dbname": "" }), &tags, "?dbname=app".to_owned(), orders),
    ] {
        let mut value = login("master-password");
        value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let secret = account.secret(&value, tags).await;
        let done = account.status(&format!("secretsmanager://{secret}{query}")).await.ends(1);
        done.prints(&[&format!("127.0.0.1:{port}/app"), "[slot_missing]"]);
    }
}

#[tokio::test]
async fn a_database_that_rds_does_not_describe_is_said() {
    let account = Account::new().await;
    let tagged = |arn: &str| json!([{ "Key": "aws:rds:primaryDBInstanceArn", "Value": arn }]);
    let gone = account.secret(&login("x"), &tagged("arn:aws:rds:eu-west-1:123456789012:db:gone")).await;
    account.status(&format!("secretsmanager://{gone}")).await.ends(1).says(&["aws::no_endpoint", "db:gone"]);
    let alone = account.secret(&login("x"), &json!([])).await;
    let done = account.status(&format!("secretsmanager://{alone}")).await.ends(1);
    done.says(&["aws::secret_without_host", "aws.source.identifier"]);
    let here = account.secret(&login("x"), &tagged(INSTANCE)).await;
    account.simulator.faults().next("DescribeDBInstances", 100, Fault::Deny);
    let done = account.status(&format!("secretsmanager://{here}")).await.ends(1);
    done.says(&["aws::access_denied", "rds:DescribeDBInstances"]);
}
