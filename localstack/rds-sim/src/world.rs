//! Everything that the simulated account holds.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use pgstream_testkit::Error;

use crate::{
    Database,
    catalog::{self, Definition},
    error::Refusal,
    faults::Faults,
    groups::{self, Group, Kind},
    request::Call,
    server::{Server, Values},
    xml::Xml,
};

/// Where all of it lies.
pub(crate) const REGION: &str = "eu-west-1";
const ACCOUNT: &str = "123456789012";

/// The name of a resource.
pub(crate) fn arn(kind: &str, name: &str) -> String {
    format!("arn:aws:rds:{REGION}:{ACCOUNT}:{kind}:{name}")
}

/// A database instance that is to be made.
#[derive(Debug, Clone)]
pub struct Instance {
    pub(crate) id: String,
    pub(crate) major: u32,
    pub(crate) group: Option<String>,
    pub(crate) values: Values,
    pub(crate) multi_az: bool,
    pub(crate) replica_of: Option<String>,
}

impl Instance {
    /// A single instance of PostgreSQL 18 with its family's default group.
    #[must_use]
    pub fn new(id: &str) -> Self {
        let (group, values) = (None, Values::new());
        Self { id: id.to_owned(), major: 18, group, values, multi_az: false, replica_of: None }
    }

    /// Another major version.
    #[must_use]
    pub fn major(mut self, major: u32) -> Self {
        self.major = major;
        self
    }

    /// A group of this name, made now unless it is there.
    #[must_use]
    pub fn group(mut self, name: &str) -> Self {
        self.group = Some(name.to_owned());
        self
    }

    /// A value in that group, in force from the beginning.
    #[must_use]
    pub fn parameter(mut self, name: &str, value: &str) -> Self {
        self.values.insert(name.to_owned(), value.to_owned());
        self
    }

    /// With a standby in another zone.
    #[must_use]
    pub fn multi_az(mut self) -> Self {
        self.multi_az = true;
        self
    }

    /// A read replica of another instance; the server behind it is one of its own.
    #[must_use]
    pub fn replica_of(mut self, id: &str) -> Self {
        self.replica_of = Some(id.to_owned());
        self
    }
}

/// A cluster that is to be made.
#[derive(Debug, Clone)]
pub struct Cluster {
    pub(crate) id: String,
    pub(crate) major: u32,
    pub(crate) aurora: bool,
    pub(crate) readers: usize,
    pub(crate) group: Option<String>,
    pub(crate) values: Values,
    pub(crate) engine_mode: &'static str,
    pub(crate) serverless_minimum: Option<f64>,
}

impl Cluster {
    /// Aurora, with a writer and one reader.
    #[must_use]
    pub fn aurora(id: &str) -> Self {
        let (group, values) = (None, Values::new());
        let (engine_mode, serverless_minimum) = ("provisioned", None);
        Self { id: id.to_owned(), major: 16, aurora: true, readers: 1, group, values, engine_mode, serverless_minimum }
    }

    /// A Multi-AZ DB cluster: a writer and two readers.
    #[must_use]
    pub fn multi_az(id: &str) -> Self {
        Self { aurora: false, readers: 2, ..Self::aurora(id) }
    }

    /// Another major version.
    #[must_use]
    pub fn major(mut self, major: u32) -> Self {
        self.major = major;
        self
    }

    /// A cluster group of this name, made now unless it is there.
    #[must_use]
    pub fn group(mut self, name: &str) -> Self {
        self.group = Some(name.to_owned());
        self
    }

    /// Serverless v2 down to so many ACU.
    #[must_use]
    pub fn serverless_v2(mut self, minimum: f64) -> Self {
        self.serverless_minimum = Some(minimum);
        self
    }

    /// Serverless v1.
    #[must_use]
    pub fn serverless_v1(mut self) -> Self {
        self.engine_mode = "serverless";
        self
    }
}

/// How far the attached group is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Apply {
    InSync,
    Applying(Instant),
    PendingReboot,
    Failed,
}

/// Whether the server can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Available,
    /// A reboot was asked for and has not begun to show.
    RebootAsked,
    Rebooting,
    Incompatible,
}

/// What an instance and a cluster have in common.
pub(crate) struct Attachment {
    pub(crate) kind: Kind,
    pub(crate) group: String,
    pub(crate) apply: Apply,
    pub(crate) status: Status,
    /// Static values that the server was started with.
    pub(crate) in_force: Values,
    pub(crate) server: Arc<Server>,
    /// Modifications that wait for the maintenance window.
    pub(crate) pending: Vec<(&'static str, String)>,
}

pub(crate) struct InstanceState {
    pub(crate) made: Instance,
    pub(crate) version: String,
    pub(crate) own: Attachment,
    pub(crate) replicas: Vec<String>,
}

pub(crate) struct ClusterState {
    pub(crate) made: Cluster,
    pub(crate) version: String,
    pub(crate) own: Attachment,
}

impl ClusterState {
    pub(crate) fn engine(&self) -> &'static str {
        if self.made.aurora { "aurora-postgresql" } else { "postgres" }
    }

    /// The writer first.
    pub(crate) fn members(&self) -> Vec<String> {
        (1..=1 + self.made.readers).map(|n| format!("{}-instance-{n}", self.made.id)).collect()
    }
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) instances: BTreeMap<String, InstanceState>,
    pub(crate) clusters: BTreeMap<String, ClusterState>,
    pub(crate) groups: BTreeMap<(Kind, String), Group>,
    /// Parameters by family.
    pub(crate) families: BTreeMap<String, Arc<Vec<Definition>>>,
    calls: Vec<Call>,
}

/// The account.
pub(crate) struct World {
    pub(crate) faults: Faults,
    pub(crate) pause: Duration,
    state: Mutex<State>,
}

impl World {
    pub(crate) fn new(pause: Duration) -> Self {
        Self { faults: Faults::default(), pause, state: Mutex::default() }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// Keeps the call; returns the id of the request.
    pub(crate) fn note(&self, call: Call) -> String {
        let mut state = self.state();
        state.calls.push(call);
        format!("00000000-0000-4000-8000-{:012}", state.calls.len())
    }

    pub(crate) async fn create_instance(&self, made: Instance) -> Result<Database, Error> {
        let family = groups::family("postgres", made.major);
        let server = Arc::new(Server::start(made.major, &made.values).await?);
        let version = self.learn(&server, &family, made.major, false).await;
        let mut state = self.state();
        let group = state.attach_new(Kind::Instance, &family, made.group.as_deref(), &made.values);
        if let Some(source) = made.replica_of.as_ref().and_then(|id| state.instances.get_mut(id)) {
            source.replicas.push(made.id.clone());
        }
        let own = Attachment::new(Kind::Instance, group, &made.values, Arc::clone(&server));
        state.instances.insert(made.id.clone(), InstanceState { made, version, own, replicas: Vec::new() });
        Ok(Database { server })
    }

    pub(crate) async fn create_cluster(&self, made: Cluster) -> Result<Database, Error> {
        let engine = if made.aurora { "aurora-postgresql" } else { "postgres" };
        let family = groups::family(engine, made.major);
        let server = Arc::new(Server::start(made.major, &made.values).await?);
        let version = self.learn(&server, &family, made.major, made.aurora).await;
        let mut state = self.state();
        let group = state.attach_new(Kind::Cluster, &family, made.group.as_deref(), &made.values);
        state.attach_new(Kind::Instance, &family, None, &Values::new());
        let own = Attachment::new(Kind::Cluster, group, &made.values, Arc::clone(&server));
        state.clusters.insert(made.id.clone(), ClusterState { made, version, own });
        Ok(Database { server })
    }

    pub(crate) fn add_pending_modification(&self, id: &str, name: &'static str, value: &str) {
        if let Some(own) = self.state().attachment(id) {
            own.pending.push((name, value.to_owned()));
        }
    }

    /// The version of the server; its parameters are those of the family from now on.
    async fn learn(&self, server: &Server, family: &str, major: u32, aurora: bool) -> String {
        let client = server.cluster.client("postgres").await;
        let definitions = catalog::read(&client, major, aurora).await;
        self.state().families.entry(family.to_owned()).or_insert_with(|| Arc::new(definitions));
        client.text("SELECT split_part(current_setting('server_version'), ' ', 1)").await.unwrap_or_default()
    }

    /// Does what a call says.
    pub(crate) fn act(self: &Arc<Self>, call: &Call) -> Result<Xml, Refusal> {
        let unknown = || Refusal::new(400, "InvalidAction", format!("Could not find operation {}", call.action));
        if let Some(answer) = self.group_call(call) {
            return answer;
        }
        self.database_call(call).unwrap_or_else(|| Err(unknown()))
    }
}

impl State {
    /// Of an instance or a cluster.
    pub(crate) fn attachment(&mut self, id: &str) -> Option<&mut Attachment> {
        match self.instances.get_mut(id) {
            Some(instance) => Some(&mut instance.own),
            None => self.clusters.get_mut(id).map(|cluster| &mut cluster.own),
        }
    }

    pub(crate) fn attachments(&mut self) -> impl Iterator<Item = &mut Attachment> {
        let instances = self.instances.values_mut().map(|instance| &mut instance.own);
        instances.chain(self.clusters.values_mut().map(|cluster| &mut cluster.own))
    }

    /// The group that a new database begins with.
    fn attach_new(&mut self, kind: Kind, family: &str, name: Option<&str>, values: &Values) -> String {
        let default = format!("default.{family}");
        let name = name.unwrap_or(&default).to_owned();
        let group =
            self.groups.entry((kind, name.clone())).or_insert_with(|| Group::new(family, "Default parameter group"));
        group.values.extend(values.clone());
        name
    }
}

impl Attachment {
    fn new(kind: Kind, group: String, in_force: &Values, server: Arc<Server>) -> Self {
        let (apply, status) = (Apply::InSync, Status::Available);
        Self { kind, group, apply, status, in_force: in_force.clone(), server, pending: Vec::new() }
    }
}
