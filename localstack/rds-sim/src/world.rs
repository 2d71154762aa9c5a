//! Everything that the simulated account holds.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use jiff::SignedDuration;
use pgstream_testkit::Error;

use crate::{
    Database,
    catalog::{self, Definition},
    error::Refusal,
    events::Event,
    faults::Faults,
    groups::{self, Group, Kind},
    iam::{self, Policy},
    made::{Cluster, Instance, WRITER_GROUP},
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

/// How far the attached group is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Apply {
    InSync,
    /// Values of the attached group are being carried over.
    Applying(Instant),
    /// Another group was attached: none of its values is in force before a reboot.
    Attaching(Instant),
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
    /// One that a test wants.
    Other(&'static str),
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
    /// Reboots that were begun.
    pub(crate) reboots: usize,
    /// What was to be seen of it since when, for lists that are behind.
    pub(crate) looks: Vec<(Instant, Look)>,
    /// What lists show.
    pub(crate) shown: Option<Look>,
}

/// The part that lists show and that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) group: String,
    pub(crate) status: &'static str,
    pub(crate) apply: &'static str,
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
        self.made.engine()
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
    pub(crate) blue_green: Vec<BlueGreen>,
    pub(crate) maintenance: Vec<Maintenance>,
    pub(crate) events: Vec<Event>,
    /// Most groups of a kind, without AWS's own; `None` is no limit.
    pub(crate) group_quota: Option<usize>,
}

/// A blue/green deployment.
pub(crate) struct BlueGreen {
    pub(crate) name: String,
    /// ARN of the blue side.
    pub(crate) source: String,
    pub(crate) status: String,
}

/// Maintenance that is due.
pub(crate) struct Maintenance {
    /// ARN.
    pub(crate) resource: String,
    pub(crate) action: String,
    pub(crate) description: String,
}

/// The account.
pub(crate) struct World {
    pub(crate) faults: Faults,
    pub(crate) pause: Duration,
    /// What callers may do; everything when there is none.
    policy: Mutex<Option<Policy>>,
    state: Mutex<State>,
}

impl World {
    pub(crate) fn new(pause: Duration) -> Self {
        Self { faults: Faults::default(), pause, policy: Mutex::default(), state: Mutex::default() }
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
        let (server, cluster) = Server::start(made.major, &made.values).await?;
        let version = self.learn(&cluster, &family, made.major, false).await;
        self.add_instance(made, version, server);
        Ok(Database { cluster })
    }

    pub(crate) fn declare_instance(&self, made: Instance) {
        let version = self.learn_on_paper(&groups::family("postgres", made.major), made.major, false);
        self.add_instance(made, version, Server::Paper);
    }

    pub(crate) async fn create_cluster(&self, made: Cluster) -> Result<Database, Error> {
        let family = groups::family(made.engine(), made.major);
        let (server, cluster) = Server::start(made.major, &made.values).await?;
        let version = self.learn(&cluster, &family, made.major, made.aurora).await;
        self.add_cluster(made, version, server);
        Ok(Database { cluster })
    }

    pub(crate) fn declare_cluster(&self, made: Cluster) {
        let version = self.learn_on_paper(&groups::family(made.engine(), made.major), made.major, made.aurora);
        self.add_cluster(made, version, Server::Paper);
    }

    fn add_instance(&self, made: Instance, version: String, server: Server) {
        let family = groups::family("postgres", made.major);
        let mut state = self.state();
        let group = state.attach_new(Kind::Instance, &family, made.group.as_deref(), &made.values);
        if let Some(source) = made.replica_of.as_ref().and_then(|id| state.instances.get_mut(id)) {
            source.replicas.push(made.id.clone());
        }
        let own = Attachment::new(Kind::Instance, group, &made.values, server);
        state.instances.insert(made.id.clone(), InstanceState { made, version, own, replicas: Vec::new() });
    }

    fn add_cluster(&self, made: Cluster, version: String, server: Server) {
        let family = groups::family(made.engine(), made.major);
        let mut state = self.state();
        let group = state.attach_new(Kind::Cluster, &family, made.group.as_deref(), &made.values);
        let of_writer = (!made.writer_values.is_empty()).then_some(WRITER_GROUP);
        state.attach_new(Kind::Instance, &family, of_writer, &made.writer_values);
        let own = Attachment::new(Kind::Cluster, group, &made.values, server);
        state.clusters.insert(made.id.clone(), ClusterState { made, version, own });
    }

    pub(crate) fn add_pending_modification(&self, id: &str, name: &'static str, value: &str) {
        if let Some(own) = self.state().attachment(id) {
            own.pending.push((name, value.to_owned()));
        }
    }

    pub(crate) fn set_status(&self, id: &str, status: &'static str) {
        if let Some(own) = self.state().attachment(id) {
            own.status = Status::Other(status);
        }
    }

    pub(crate) fn add_blue_green(&self, id: &str, name: &str, status: &str) {
        let mut state = self.state();
        let (name, source, status) = (name.to_owned(), state.arn(id), status.to_owned());
        state.blue_green.push(BlueGreen { name, source, status });
    }

    pub(crate) fn add_maintenance(&self, id: &str, action: &str, description: &str) {
        let mut state = self.state();
        let (resource, action, description) = (state.arn(id), action.to_owned(), description.to_owned());
        state.maintenance.push(Maintenance { resource, action, description });
    }

    pub(crate) fn add_event(&self, id: &str, ago: Duration, category: &str, message: &str) {
        self.state().past_event(id, SignedDuration::try_from(ago).unwrap_or(SignedDuration::MAX), category, message);
    }

    pub(crate) fn set_group_quota(&self, most: usize) {
        self.state().group_quota = Some(most);
    }

    pub(crate) fn nothing_is_due(&self, id: &str) {
        let mut state = self.state();
        let arn = state.arn(id);
        state.blue_green.retain(|it| it.source != arn);
        state.maintenance.retain(|it| it.resource != arn);
    }

    /// The version of the server; its parameters are those of the family from now on.
    async fn learn(&self, cluster: &pgstream_testkit::Cluster, family: &str, major: u32, aurora: bool) -> String {
        let client = cluster.client("postgres").await;
        let definitions = catalog::read(&client, major, aurora).await;
        self.state().families.insert(family.to_owned(), Arc::new(definitions));
        client.text("SELECT split_part(current_setting('server_version'), ' ', 1)").await.unwrap_or_default()
    }

    /// A version, and a family of the parameters that matter, unless a server has told all of them.
    fn learn_on_paper(&self, family: &str, major: u32, aurora: bool) -> String {
        let mut state = self.state();
        state.families.entry(family.to_owned()).or_insert_with(|| Arc::new(catalog::on_paper(major, aurora)));
        format!("{major}.9")
    }

    pub(crate) fn enforce(&self, policy: Option<Policy>) {
        *self.policy.lock().unwrap_or_else(PoisonError::into_inner) = policy;
    }

    /// Whether the caller may do it.
    pub(crate) fn allowed(&self, call: &Call) -> Result<(), Refusal> {
        let policy = self.policy.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(policy) = policy.as_ref() else { return Ok(()) };
        let missing = iam::needed(call).into_iter().find(|(action, resource)| !policy.allows(action, resource));
        missing.map_or(Ok(()), |(action, resource)| Err(iam::denied(&call.access_key, &action, &resource)))
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

    fn arn(&self, id: &str) -> String {
        arn(if self.clusters.contains_key(id) { "cluster" } else { "db" }, id)
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
    fn new(kind: Kind, group: String, in_force: &Values, server: Server) -> Self {
        let (apply, status, server) = (Apply::InSync, Status::Available, Arc::new(server));
        Self {
            kind,
            group,
            apply,
            status,
            in_force: in_force.clone(),
            server,
            pending: Vec::new(),
            reboots: 0,
            looks: Vec::new(),
            shown: None,
        }
    }
}
