//! `infra/stack.yaml`, deployed into ministack: the Lambda, its metrics, an alarm, the state machine.
//!
//! ```text
//!  slot ──looked at──> Lambda (the real bootstrap) ──> CloudWatch ──> alarm pgstream-shop-lag-bytes
//!  state machine ──> tasks (fargate.rs) ──> stream
//! ```
//! An alarm looks at whole minutes: one that has rung is silent a minute after its cause has gone. The story goes on
//! meanwhile.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use console::style;
use indicatif::HumanBytes;
use pgstream_testkit::function_zip;
use serde_json::{Value, json};

use crate::{
    account::{Account, DATABASE, Logins},
    fargate::Fargate,
    page::{say, typed},
    pgstream::{Replicator, Shell, binary},
};

const STACK: &str = "pgstream-shop";
const SLOT: &str = "pgstream_shop_slot";
const OF: [(&str, &str); 2] = [("Slot", SLOT), ("Database", DATABASE)];
const TEMPLATE: &str = include_str!("../../../../infra/stack.yaml");
const MACHINE: &str = "arn:aws:states:eu-west-1:000000000000:stateMachine:pgstream-shop";
/// So low that a crash of seconds is enough; it is 1 GiB unless told otherwise.
const LAG_BYTES: &str = "1000000";
const METRICS: [(&str, &str); 6] = [
    ("Up", "whether the source answers"),
    ("SlotActive", "whether somebody reads the slot"),
    ("WalStatus", "0 reserved, 3 lost"),
    ("ConfirmedFlushLagBytes", "what the target has not acknowledged"),
    ("RetainedWalBytes", "WAL kept on the source's disk for the slot"),
    ("SecondsBehind", "age of the oldest change that has not arrived"),
];
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(200);
const LOOK: Duration = Duration::from_secs(1);

/// The stack, once it is deployed.
pub struct Stack<'a> {
    account: &'a Account,
    rang: Cell<Option<Instant>>,
}

impl<'a> Stack<'a> {
    pub fn new(account: &'a Account) -> Self {
        Self { account, rang: Cell::new(None) }
    }

    /// Everything that the template needs, and the stack itself.
    pub async fn deploy(account: &Account, logins: &Logins) -> Result<(), String> {
        let program = binary()?.with_file_name("slot-monitor");
        if !program.is_file() {
            return Err("slot-monitor is not built: run `make demo`".to_owned());
        }
        let zip = function_zip(&program);
        let region =
            "<CreateBucketConfiguration><LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>";
        account.emulator.put_object("programs", region.as_bytes()).await;
        account.emulator.put_object("programs/slot-monitor.zip", &zip).await;
        say(&format!("s3://programs/slot-monitor.zip   the Lambda, {}", HumanBytes(zip.len() as u64)));
        let parameter = json!({ "Name": "/pgstream/shop", "Type": "String", "Value": "modifiers:\n  filter:\n    exclude_tables: []\n" });
        account.call("ssm", "AmazonSSM.PutParameter", parameter).await?;
        say("/pgstream/shop                   the configuration of the tasks, without URLs: those come from secrets");

        let began = Instant::now();
        typed(&format!(
            "aws cloudformation deploy --template-file infra/stack.yaml --stack-name {STACK} --capabilities CAPABILITY_IAM …"
        ));
        create(account, logins).await?;
        let resources = stack_resources(account).await?;
        say(&format!("CREATE_COMPLETE in {:.1?}: {resources} resources", began.elapsed()));
        Ok(())
    }

    /// Has the Lambda look until the alarm on lag rings.
    pub async fn rings(&self) -> Result<(), String> {
        say("the Lambda looks at the slot, called by hand here: its schedule, too, calls it, once a minute");
        let began = Instant::now();
        loop {
            tokio::time::sleep(LOOK).await;
            let seen = self.look().await?;
            let slot = &seen["slots"][0];
            let lag = slot["confirmed_flush_lag_bytes"].as_f64().unwrap_or_default();
            say(&format!("Lambda   active: {}, {} not acknowledged", slot["active"], HumanBytes(lag as u64)));
            if self.is_in("ALARM").await? && slot["active"] == false {
                self.rang.set(Some(Instant::now()));
                say(&format!("alarm    {STACK}-lag-bytes is {}", style("ALARM").red().bold()));
                return Ok(());
            }
            if began.elapsed() > PATIENCE {
                return Err(format!("the alarm on lag did not ring: {seen:#}"));
            }
        }
    }

    /// Waits until it is silent; how long it rang.
    pub async fn falls_silent(&self) -> Result<Duration, String> {
        let began = Instant::now();
        let rang = self.rang.get().unwrap_or(began);
        while !self.is_in("OK").await? {
            if began.elapsed() > PATIENCE {
                return Err("the alarm on lag did not fall silent".to_owned());
            }
            tokio::time::sleep(LOOK).await;
            self.look().await?;
        }
        say(&format!(
            "alarm    {STACK}-lag-bytes is {}, {:.0?} after it rang",
            style("OK").green().bold(),
            rang.elapsed()
        ));
        Ok(rang.elapsed())
    }

    /// Executes the state machine; the stream that it leaves running.
    pub async fn run_state_machine(&self, shell: &Shell) -> Result<Replicator, String> {
        typed(&format!("aws stepfunctions start-execution --state-machine-arn {MACHINE}"));
        let began = Instant::now();
        let started = self.states("StartExecution", json!({ "stateMachineArn": MACHINE, "input": "{}" })).await?;
        let execution = json!({ "executionArn": started["executionArn"] });
        let mut fargate = Fargate::new(self.account, shell, STACK);
        loop {
            fargate.turn().await?;
            let found = self.states("DescribeExecution", execution.clone()).await?;
            match found["status"].as_str() {
                Some("RUNNING") if began.elapsed() < PATIENCE => tokio::time::sleep(POLL).await,
                Some("SUCCEEDED") => break,
                _ => return Err(format!("the state machine: {found:#}")),
            }
        }
        say(&format!(
            "{} in {:.1?}: the stream runs as a service, and the target is in step",
            style("SUCCEEDED").green(),
            began.elapsed()
        ));
        fargate.stream.take().ok_or_else(|| "the state machine started no stream".to_owned())
    }

    /// What the Lambda has published.
    pub async fn show_metrics(&self) {
        say(&format!("{:<24} {:>12} {:>12}", "pgstream-aws", "least", "most"));
        for (metric, meaning) in METRICS {
            let values = |statistic| self.account.emulator.metric("pgstream-aws", metric, &OF, statistic);
            let (least, most) = (values("Minimum").await, values("Maximum").await);
            let least = least.into_iter().reduce(f64::min).map_or("none".to_owned(), |value| format!("{value:.0}"));
            let most = most.into_iter().reduce(f64::max).map_or("none".to_owned(), |value| format!("{value:.0}"));
            say(&format!("{metric:<24} {least:>12} {most:>12}   {}", style(meaning).dim()));
        }
    }

    /// Calls the Lambda; what it saw.
    async fn look(&self) -> Result<Value, String> {
        let what = format!("POST /2015-03-31/functions/{STACK}-slot-monitor/invocations");
        loop {
            match self.account.emulator.rest(&what, "lambda", "{}").await {
                (200, answer) => return serde_json::from_str(&answer).map_err(|e| format!("{e}: {answer}")),
                // One at a time, and the schedule may be first.
                (429, _) => tokio::time::sleep(POLL).await,
                (status, answer) => return Err(format!("the Lambda: {status} {answer}")),
            }
        }
    }

    async fn is_in(&self, state: &str) -> Result<bool, String> {
        let name = format!("{STACK}-lag-bytes");
        let fields = [
            ("Action", "DescribeAlarms"),
            ("Version", "2010-08-01"),
            ("AlarmNames.member.1", &name),
            ("StateValue", state),
        ];
        Ok(form(self.account, "monitoring", &fields).await?.contains(&format!("<AlarmName>{name}<")))
    }

    async fn states(&self, action: &str, body: Value) -> Result<Value, String> {
        self.account.call("states", &format!("AWSStepFunctions.{action}"), body).await
    }
}

async fn create(account: &Account, logins: &Logins) -> Result<(), String> {
    // One login of the source for all who read it; `users apply` makes one for each.
    let parameters = [
        ("DatabaseName", DATABASE),
        ("SlotName", SLOT),
        ("ConfigParameterName", "/pgstream/shop"),
        ("AdminSecretArn", &logins.source),
        ("SourceSecretArn", &logins.source),
        ("MonitorSecretArn", &logins.source),
        ("TargetSecretArn", &logins.target),
        ("SubnetIds", "subnet-0123456789abcdef0,subnet-0123456789abcdef1"),
        ("SecurityGroupIds", "sg-0123456789abcdef0"),
        ("ImageUri", "123456789012.dkr.ecr.eu-west-1.amazonaws.com/pgstream-aws:0.1.0"),
        ("MonitorCodeBucket", "programs"),
        ("MonitorCodeKey", "slot-monitor.zip"),
        ("CatchUpSeconds", "60"),
        ("LagBytesThreshold", LAG_BYTES),
        ("LagMinutes", "1"),
    ];
    let mut fields = vec![
        ("Action".to_owned(), "CreateStack"),
        ("Version".to_owned(), "2010-05-15"),
        ("StackName".to_owned(), STACK),
        ("Capabilities.member.1".to_owned(), "CAPABILITY_IAM"),
        ("TemplateBody".to_owned(), TEMPLATE),
    ];
    for (n, (name, value)) in (1..).zip(parameters) {
        fields.push((format!("Parameters.member.{n}.ParameterKey"), name));
        fields.push((format!("Parameters.member.{n}.ParameterValue"), value));
    }
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    form(account, "cloudformation", &fields).await?;
    let began = Instant::now();
    let describe = [("Action", "DescribeStacks"), ("Version", "2010-05-15"), ("StackName", STACK)];
    loop {
        let found = form(account, "cloudformation", &describe).await?;
        if found.contains("<StackStatus>CREATE_COMPLETE<") {
            return Ok(());
        }
        if began.elapsed() > PATIENCE || found.contains("_FAILED<") || found.contains("<StackStatus>ROLLBACK") {
            return Err(format!("the stack was not created: {found}"));
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn stack_resources(account: &Account) -> Result<usize, String> {
    let list = [("Action", "DescribeStackResources"), ("Version", "2010-05-15"), ("StackName", STACK)];
    Ok(form(account, "cloudformation", &list).await?.matches("<LogicalResourceId>").count())
}

async fn form(account: &Account, service: &str, fields: &[(&str, &str)]) -> Result<String, String> {
    match account.emulator.form(service, fields).await {
        (200, answer) => Ok(answer),
        (status, answer) => Err(format!("{service}: {status} {answer}")),
    }
}
