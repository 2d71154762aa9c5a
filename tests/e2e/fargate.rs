//! Fargate for the state machine of `infra/stack.yaml`: the emulator records tasks, and this runs their commands.
//!
//! ```text
//!  state machine ──RunTask──> emulator (records) ──> Fargate: our binary, with the command, the variables and the
//!        ▲                        ▲                  configuration that the task definition says
//!        └── waits until STOPPED ─┴──StopTask, once the command has ended with 0──┘
//! ```

use std::{collections::BTreeSet, net::TcpListener};

use pgstream_testkit::Emulator;
use serde_json::{Value, json};

use crate::replicator::Replicator;

pub struct Fargate<'a> {
    emulator: &'a Emulator,
    cluster: String,
    seen: BTreeSet<String>,
    /// Commands in the order in which they ran.
    pub commands: Vec<String>,
    /// Tasks that end by themselves.
    running: Vec<(String, Replicator)>,
    /// The task of the service.
    pub stream: Option<Replicator>,
}

impl<'a> Fargate<'a> {
    pub fn new(emulator: &'a Emulator, cluster: &str) -> Self {
        let cluster = cluster.to_owned();
        Self { emulator, cluster, seen: BTreeSet::new(), commands: Vec::new(), running: Vec::new(), stream: None }
    }

    /// Starts what was asked for since the last time, and tells what has ended since.
    pub async fn run(&mut self) {
        let tasks = self.ecs("ListTasks", json!({ "cluster": self.cluster })).await;
        for arn in tasks["taskArns"].as_array().unwrap() {
            let arn = arn.as_str().unwrap().to_owned();
            if self.seen.insert(arn.clone()) {
                self.run_task(&arn).await;
            }
        }
        for (arn, mut task) in std::mem::take(&mut self.running) {
            if task.poll().is_none() {
                self.running.push((arn, task));
                continue;
            }
            task.done().await.ok();
            self.ecs("StopTask", json!({ "cluster": self.cluster, "task": arn, "reason": "ended" })).await;
        }
    }

    async fn run_task(&mut self, arn: &str) {
        let task =
            self.ecs("DescribeTasks", json!({ "cluster": self.cluster, "tasks": [arn] })).await["tasks"][0].take();
        let definition =
            self.ecs("DescribeTaskDefinition", json!({ "taskDefinition": task["taskDefinitionArn"] })).await;
        let container = &definition["taskDefinition"]["containerDefinitions"][0];
        let overridden = &task["overrides"]["containerOverrides"][0]["command"];
        let command = if overridden.is_array() { overridden } else { &container["command"] };
        let command: Vec<&str> = command.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
        self.commands.push(command.join(" "));
        let environment = self.environment(container).await;
        let task = Replicator::start_in(&command, environment);
        match command.as_slice() {
            ["run"] => self.stream = Some(task),
            _ => self.running.push((arn.to_owned(), task)),
        }
    }

    /// What a container is given: its variables, and parameters of Systems Manager as variables.
    async fn environment(&self, container: &Value) -> Vec<(String, String)> {
        let mut environment = self.emulator.environment();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        environment.extend(
            container["environment"].as_array().unwrap().iter().map(|pair| (text(&pair["name"]), text(&pair["value"]))),
        );
        for secret in container["secrets"].as_array().unwrap() {
            // The emulator leaves these as the template writes them.
            let field =
                |ours: &str, theirs: &str| text(if secret[ours].is_string() { &secret[ours] } else { &secret[theirs] });
            let arn = field("valueFrom", "ValueFrom");
            let (_, name) = arn.split_once(":parameter").unwrap();
            let (status, answer) =
                self.emulator.json("ssm", "AmazonSSM.GetParameter", &json!({ "Name": name }).to_string()).await;
            assert_eq!(status, 200, "{answer}");
            let answer: Value = serde_json::from_str(&answer).unwrap();
            environment.push((field("name", "Name"), text(&answer["Parameter"]["Value"])));
        }
        // Each task has a network of its own.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        environment.push(("PGSTREAM_HEALTH_CHECK_ADDRESS".to_owned(), format!("127.0.0.1:{port}")));
        environment
    }

    async fn ecs(&self, action: &str, body: Value) -> Value {
        let target = format!("AmazonEC2ContainerServiceV20141113.{action}");
        let (status, answer) = self.emulator.json("ecs", &target, &body.to_string()).await;
        assert_eq!(status, 200, "{action}: {answer}");
        serde_json::from_str(&answer).unwrap()
    }
}
