//! `infra/stack.yaml`, deployed into the emulator: its state machine from an empty target to one that is in step, and its alarms.
//!
//! The emulator records tasks without running them, and does not evaluate missing data; what runs here is said in `fargate.rs`.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use pgstream_testkit::{Emulator, assert_same_rows, function_zip};
use serde_json::{Value, json};

use crate::{fargate::Fargate, replicator::SLOT};

const STACK: &str = "pgstream-app";
const MACHINE: &str = "arn:aws:states:eu-west-1:000000000000:stateMachine:pgstream-app";
const OF: [(&str, &str); 2] = [("Slot", SLOT), ("Database", "app")];
/// Not looked into before it is run.
const NEVER_RUN: &[u8] = b"a zip file";
const DEADLINE: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(200);

struct Account {
    emulator: Emulator,
}

impl Account {
    /// The emulator itself, whatever endpoint other tests are pointed at: LocalStack's free edition has no ECS.
    async fn new() -> Self {
        Self { emulator: Emulator::own().await.unwrap_or_else(|error| panic!("{error}")) }
    }

    async fn json(&self, service: &str, target: &str, body: Value) -> Value {
        let (status, answer) = self.emulator.json(service, target, &body.to_string()).await;
        assert_eq!(status, 200, "{target}: {answer}");
        serde_json::from_str(&answer).unwrap_or_default()
    }

    async fn form(&self, service: &str, fields: &[(&str, &str)]) -> String {
        let (status, answer) = self.emulator.form(service, fields).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// A secret of this login; its ARN.
    async fn secret(&self, name: &str, login: Value) -> String {
        let body = json!({ "Name": name, "SecretString": login.to_string() });
        let made = self.json("secretsmanager", "secretsmanager.CreateSecret", body).await;
        made["ARN"].as_str().unwrap().to_owned()
    }

    /// Everything that the template needs, and the stack itself.
    async fn deploy(&self, source: Value, target: Value, monitor: &[u8]) {
        let config = "modifiers:\n  filter:\n    exclude_tables: [scratch]\n";
        let parameter = json!({ "Name": "/pgstream/app", "Type": "String", "Value": config });
        self.json("ssm", "AmazonSSM.PutParameter", parameter).await;
        let region =
            "<CreateBucketConfiguration><LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>";
        self.emulator.put_object("programs", region.as_bytes()).await;
        self.emulator.put_object("programs/slot-monitor.zip", monitor).await;
        let parameters = [
            ("DatabaseName", "app".to_owned()),
            ("SlotName", SLOT.to_owned()),
            ("ConfigParameterName", "/pgstream/app".to_owned()),
            ("AdminSecretArn", self.secret("app/admin", source.clone()).await),
            ("SourceSecretArn", self.secret("app/source", source.clone()).await),
            ("MonitorSecretArn", self.secret("app/monitor", source).await),
            ("TargetSecretArn", self.secret("app/target", target).await),
            ("SubnetIds", "subnet-0123456789abcdef0,subnet-0123456789abcdef1".to_owned()),
            ("SecurityGroupIds", "sg-0123456789abcdef0".to_owned()),
            ("ImageUri", "123456789012.dkr.ecr.eu-west-1.amazonaws.com/pgstream-aws:0.1.0".to_owned()),
            ("MonitorCodeBucket", "programs".to_owned()),
            ("MonitorCodeKey", "slot-monitor.zip".to_owned()),
            ("CatchUpSeconds", "120".to_owned()),
            ("LagBytesThreshold", "1000000".to_owned()),
            ("LagMinutes", "1".to_owned()),
        ];
        let template = format!("{}/../../infra/stack.yaml", env!("CARGO_MANIFEST_DIR"));
        let template = fs::read_to_string(template).unwrap();
        let mut fields = vec![
            ("Action".to_owned(), "CreateStack".to_owned()),
            ("Version".to_owned(), "2010-05-15".to_owned()),
            ("StackName".to_owned(), STACK.to_owned()),
            ("Capabilities.member.1".to_owned(), "CAPABILITY_IAM".to_owned()),
            ("TemplateBody".to_owned(), template),
        ];
        for (n, (name, value)) in parameters.into_iter().enumerate() {
            fields.push((format!("Parameters.member.{}.ParameterKey", n + 1), name.to_owned()));
            fields.push((format!("Parameters.member.{}.ParameterValue", n + 1), value));
        }
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.form("cloudformation", &fields).await;
        let deadline = Instant::now() + DEADLINE;
        let describe = [("Action", "DescribeStacks"), ("Version", "2010-05-15"), ("StackName", STACK)];
        while !self.form("cloudformation", &describe).await.contains("<StackStatus>CREATE_COMPLETE<") {
            assert!(Instant::now() < deadline, "{}", self.events().await);
            tokio::time::sleep(POLL).await;
        }
    }

    async fn events(&self) -> String {
        let fields = [("Action", "DescribeStackEvents"), ("Version", "2010-05-15"), ("StackName", STACK)];
        self.form("cloudformation", &fields).await
    }

    async fn states(&self, action: &str, body: Value) -> Value {
        self.json("states", &format!("AWSStepFunctions.{action}"), body).await
    }

    /// Starts the state machine; the execution's ARN.
    async fn start(&self) -> String {
        let started = self.states("StartExecution", json!({ "stateMachineArn": MACHINE, "input": "{}" })).await;
        started["executionArn"].as_str().unwrap().to_owned()
    }

    /// Plays Fargate until the execution has ended; what became of it.
    async fn ended(&self, execution: &str, fargate: &mut Fargate<'_>) -> Value {
        let deadline = Instant::now() + DEADLINE;
        loop {
            fargate.run().await;
            let found = self.states("DescribeExecution", json!({ "executionArn": execution })).await;
            if found["status"] != "RUNNING" {
                return found;
            }
            assert!(Instant::now() < deadline, "{:?}\n{found:#}", fargate.commands);
            tokio::time::sleep(POLL).await;
        }
    }

    /// Puts a value of a metric that was measured some time ago.
    async fn measured(&self, metric: &str, value: &str, ago: Duration) {
        let at = (std::time::SystemTime::now() - ago).duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let at = at.to_string();
        let fields = [
            ("Action", "PutMetricData"),
            ("Version", "2010-08-01"),
            ("Namespace", "pgstream-aws"),
            ("MetricData.member.1.MetricName", metric),
            ("MetricData.member.1.Timestamp", &at),
            ("MetricData.member.1.Dimensions.member.1.Name", "Slot"),
            ("MetricData.member.1.Dimensions.member.1.Value", SLOT),
            ("MetricData.member.1.Dimensions.member.2.Name", "Database"),
            ("MetricData.member.1.Dimensions.member.2.Value", "app"),
            ("MetricData.member.1.Value", value),
        ];
        self.form("monitoring", &fields).await;
    }

    /// Starts a task as the service would.
    async fn start_task(&self, name: &str) {
        let task = json!({ "cluster": STACK, "taskDefinition": format!("{STACK}-{name}"), "launchType": "FARGATE" });
        self.json("ecs", "AmazonEC2ContainerServiceV20141113.RunTask", task).await;
    }

    /// Runs the slot monitor between two runs of its schedule; what it saw.
    async fn monitor(&self) -> Value {
        let what = format!("POST /2015-03-31/functions/{STACK}-slot-monitor/invocations");
        loop {
            let (status, answer) = self.emulator.rest(&what, "lambda", "{}").await;
            match status {
                200 => return serde_json::from_str(&answer).unwrap(),
                // One at a time.
                429 => tokio::time::sleep(POLL).await,
                _ => panic!("{status} {answer}"),
            }
        }
    }

    async fn is_in(&self, alarm: &str, state: &str) -> bool {
        let name = format!("{STACK}-{alarm}");
        let fields = [
            ("Action", "DescribeAlarms"),
            ("Version", "2010-08-01"),
            ("AlarmNames.member.1", &name),
            ("StateValue", state),
        ];
        self.form("monitoring", &fields).await.contains(&format!("<AlarmName>{name}<"))
    }
}

/// A member of the workspace, built with everything else, beside the program.
fn monitor_zip() -> Vec<u8> {
    function_zip(&Path::new(env!("CARGO_BIN_EXE_pgstream-aws")).with_file_name("slot-monitor"))
}

fn login(server: &pgstream_testkit::Cluster) -> Value {
    json!({ "username": "app_user", "password": "pw", "host": "127.0.0.1", "port": server.port(), "dbname": "app" })
}

#[tokio::test]
async fn the_state_machine_of_the_template_brings_a_target_in_step() {
    let (source, target) = pgstream_testkit::pair().await;
    let role = "CREATE ROLE app_user SUPERUSER LOGIN PASSWORD 'pw'";
    source.client("app").await.batch(role).await;
    target.client("app").await.batch(role).await;
    let rows = "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 1000); CREATE TABLE scratch (id int)";
    source.client("app").await.batch(rows).await;
    let account = Account::new().await;
    account.deploy(login(&source), login(&target), &monitor_zip()).await;

    let mut fargate = Fargate::new(&account.emulator, STACK);
    let execution = account.start().await;
    let ended = account.ended(&execution, &mut fargate).await;
    assert_eq!(ended["status"], "SUCCEEDED", "{:?}\n{ended:#}", fargate.commands);
    let mut commands = fargate.commands.clone();
    commands[3..6].sort();
    assert_eq!(
        commands,
        [
            "check",
            "check --connectivity",
            "init",
            "snapshot coordinate",
            "snapshot worker",
            "snapshot worker",
            "run",
            "status --wait-caught-up --timeout 120"
        ]
    );
    source.client("app").await.batch("DROP TABLE scratch").await;
    let mut stream = fargate.stream.take().unwrap();
    stream.assert_running();
    the_monitor_reports_by_its_schedule(&account).await;
    stream.stop().await.ok();
    assert_same_rows(&source, &target, "app").await;

    let rows = "INSERT INTO t SELECT generate_series(1001, 20000)";
    source.client("app").await.batch(rows).await;
    let seen = account.monitor().await;
    assert_eq!(seen["slots"][0]["active"], false, "{seen:#}");
    assert!(account.is_in("lag-bytes", "ALARM").await, "{seen:#}");

    account.start_task("stream").await;
    let deadline = Instant::now() + DEADLINE;
    while !account.is_in("lag-bytes", "OK").await {
        fargate.run().await;
        assert!(Instant::now() < deadline, "{:#}", account.monitor().await);
        tokio::time::sleep(Duration::from_secs(2)).await;
        account.monitor().await;
    }
    let mut stream = fargate.stream.take().unwrap();
    stream.assert_running();
    assert!(stream.stdout().is_empty() || stream.stdout().contains("CloudWatchMetrics"), "{}", stream.stdout());
    let stopped = stream.stop().await.ok();
    assert!(stopped.out.contains("\"Transactions\":1.0"), "metrics of the stream are lines of its log\n{stopped:?}");
    assert_same_rows(&source, &target, "app").await;
}

async fn the_monitor_reports_by_its_schedule(account: &Account) {
    let deadline = Instant::now() + DEADLINE;
    while account.emulator.metric("pgstream-aws", "SlotActive", &OF, "Maximum").await.last() != Some(&1.0) {
        assert!(Instant::now() < deadline, "nothing was published");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(account.emulator.metric("pgstream-aws", "Up", &OF, "Minimum").await.iter().all(|up| *up == 1.0));
    assert!(account.is_in("monitor-silent", "OK").await);
    assert!(account.is_in("slot-inactive", "OK").await);
}

#[tokio::test]
async fn the_state_machine_ends_with_the_step_that_failed() {
    let account = Account::new().await;
    let nowhere = json!({ "username": "u", "password": "pw", "host": "127.0.0.1", "port": 1, "dbname": "app" });
    account.deploy(nowhere.clone(), nowhere, NEVER_RUN).await;
    // Tasks do not fail in the emulator, which knows no exit codes. This one cannot be started.
    let machine = json!({ "stateMachineArn": MACHINE });
    let deployed = account.states("DescribeStateMachine", machine).await["definition"].as_str().unwrap().to_owned();
    let broken = deployed.replace("task-definition/pgstream-app-init:1", "task-definition/pgstream-app-init:99");
    assert_ne!(deployed, broken);
    account.states("UpdateStateMachine", json!({ "stateMachineArn": MACHINE, "definition": broken })).await;
    let mut fargate = Fargate::new(&account.emulator, STACK);
    let execution = account.start().await;
    let ended = account.ended(&execution, &mut fargate).await;
    assert_eq!(
        (ended["status"].as_str(), ended["error"].as_str()),
        (Some("FAILED"), Some("pgstream.verify")),
        "{ended:#}"
    );
    assert!(ended["cause"].as_str().unwrap().starts_with("The task did not start"), "{ended:#}");
}

#[tokio::test]
async fn the_alarm_on_lag_goes_off_and_back() {
    let account = Account::new().await;
    let nowhere = json!({ "username": "u", "password": "pw", "host": "127.0.0.1", "port": 1, "dbname": "app" });
    account.deploy(nowhere.clone(), nowhere, NEVER_RUN).await;
    assert!(account.is_in("lag-bytes", "INSUFFICIENT_DATA").await);
    // Near the end of the minute that the alarm looks at.
    account.measured("ConfirmedFlushLagBytes", "5000000000", Duration::from_secs(50)).await;
    assert!(account.is_in("lag-bytes", "ALARM").await);
    assert!(account.is_in("slot-lost", "INSUFFICIENT_DATA").await, "another alarm looks at the same metric");
    let deadline = Instant::now() + DEADLINE;
    while !account.is_in("lag-bytes", "OK").await {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_secs(1)).await;
        account.measured("ConfirmedFlushLagBytes", "0", Duration::ZERO).await;
    }
}
