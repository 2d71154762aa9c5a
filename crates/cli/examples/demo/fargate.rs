//! Fargate for the state machine: ministack records tasks, and this runs their commands.
//!
//! ```text
//!  state machine ──RunTask──> ministack (records) ──> here: our binary, with the command, the variables and the
//!        ▲                        ▲                   configuration that the task definition says
//!        └── waits until STOPPED ─┴──StopTask, once the command has ended with 0──┘
//! ```

use std::{collections::BTreeSet, net::TcpListener};

use serde_json::{Value, json};

use crate::{
    account::Account,
    page::say,
    pgstream::{Replicator, Shell},
};

/// The tasks of one cluster.
pub struct Fargate<'a> {
    account: &'a Account,
    shell: &'a Shell,
    cluster: &'a str,
    seen: BTreeSet<String>,
    /// Tasks that end by themselves.
    jobs: Vec<(String, Replicator)>,
    /// The task of the service.
    pub stream: Option<Replicator>,
}

impl<'a> Fargate<'a> {
    pub fn new(account: &'a Account, shell: &'a Shell, cluster: &'a str) -> Self {
        Self { account, shell, cluster, seen: BTreeSet::new(), jobs: Vec::new(), stream: None }
    }

    /// Starts what was asked for since the last time, and tells what has ended since.
    pub async fn turn(&mut self) -> Result<(), String> {
        let tasks = self.ecs("ListTasks", json!({ "cluster": self.cluster })).await?;
        for arn in strings(&tasks["taskArns"]) {
            if self.seen.insert(arn.clone()) {
                self.start(arn).await?;
            }
        }
        for (arn, mut job) in std::mem::take(&mut self.jobs) {
            if job.is_done()? {
                self.ecs("StopTask", json!({ "cluster": self.cluster, "task": arn, "reason": "ended" })).await?;
            } else {
                self.jobs.push((arn, job));
            }
        }
        match &mut self.stream {
            Some(stream) => stream.check(),
            None => Ok(()),
        }
    }

    async fn start(&mut self, arn: String) -> Result<(), String> {
        let found = self.ecs("DescribeTasks", json!({ "cluster": self.cluster, "tasks": [arn] })).await?;
        let task = &found["tasks"][0];
        let of = json!({ "taskDefinition": task["taskDefinitionArn"] });
        let definition = self.ecs("DescribeTaskDefinition", of).await?;
        let container = &definition["taskDefinition"]["containerDefinitions"][0];
        let overridden = strings(&task["overrides"]["containerOverrides"][0]["command"]);
        let command = if overridden.is_empty() { strings(&container["command"]) } else { overridden }.join(" ");
        let family = definition["taskDefinition"]["family"].as_str().unwrap_or_default();
        say(&format!("task {family:<22} {command}"));
        let task = self.shell.task(&command, self.variables(container).await?)?;
        match command.as_str() {
            "run" => self.stream = Some(task),
            _ => self.jobs.push((arn, task)),
        }
        Ok(())
    }

    /// What a container is given: its variables, and parameters of Systems Manager as variables.
    async fn variables(&self, container: &Value) -> Result<Vec<(String, String)>, String> {
        let mut variables: Vec<(String, String)> = entries(&container["environment"])
            .map(|pair| (text(pair, "name", "Name"), text(pair, "value", "Value")))
            .collect();
        for secret in entries(&container["secrets"]) {
            let arn = text(secret, "valueFrom", "ValueFrom");
            let name = arn.split_once(":parameter").map(|(_, name)| name.to_owned()).unwrap_or_default();
            let found = self.account.call("ssm", "AmazonSSM.GetParameter", json!({ "Name": name })).await?;
            variables.push((text(secret, "name", "Name"), text(&found["Parameter"], "value", "Value")));
        }
        // Each task has a network of its own on Fargate.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = port.map_err(|e| e.to_string())?.port();
        variables.push(("PGSTREAM_HEALTH_CHECK_ADDRESS".to_owned(), format!("127.0.0.1:{port}")));
        Ok(variables)
    }

    async fn ecs(&self, action: &str, body: Value) -> Result<Value, String> {
        self.account.call("ecs", &format!("AmazonEC2ContainerServiceV20141113.{action}"), body).await
    }
}

fn entries(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn strings(list: &Value) -> Vec<String> {
    entries(list).filter_map(|item| item.as_str().map(ToOwned::to_owned)).collect()
}

/// A field by its name in ECS; the emulator leaves some as the template writes them.
fn text(of: &Value, ecs: &str, template: &str) -> String {
    of[ecs].as_str().or_else(|| of[template].as_str()).unwrap_or_default().to_owned()
}
