//! Reads what a database is like; changes nothing.
//!
//! ```text
//!  DescribeDBInstances, DescribeDBClusters ─> which one, its group, its state, who shares the group
//!  DescribeDBEngineVersions                ─> family
//!  Describe…Parameters, Describe…ParameterGroups, ListTagsForResource ─> the attached group and ours
//!  DescribeBlueGreenDeployments, DescribePendingMaintenanceActions    ─> what else is going on
//!  SQL, when there is a URL                ─> what the server runs with
//!  CloudWatch, when asked for              ─> free storage
//! ```

use std::collections::BTreeMap;

use aws_sdk_rds::types::{DbCluster, DbInstance};
use pgstream_postgres::Server;

use super::{
    Error,
    calls::Api,
    locate::{Kind, Named, What},
    model::{
        ApplyStatus, Attached, Free, GroupKind, Inspection, Needs, Own, Side, Storage, Topology, is_on, own_group_name,
    },
    pending,
    plan::Choices,
    sql,
};
use crate::{client::Aws, cloudwatch::CloudWatch, error::Error as AwsError};

/// Tag of a group: the database that it was made for.
pub(super) const TAG_DATABASE: &str = "pgstream:database";

/// Tag of a group: what was attached before.
pub(super) const TAG_PREVIOUS: &str = "pgstream:previous-group";

/// Tag of a group: that this program made it.
pub(super) const TAG_CREATOR: (&str, &str) = ("pgstream:created-by", "pgstream-aws");

/// Parameters for which an instance group's value wins over that of the cluster group.
const WIN_OVER_CLUSTER: &[&str] = &["rds.logical_replication", "max_replication_slots", "max_wal_senders"];

/// A database that is named, and how to reach it.
#[derive(Debug, Clone)]
pub struct Database {
    pub(super) api: Api,
    region: String,
    named: Named,
    side: Side,
    server: Option<Server>,
    needs: Needs,
    /// Where to ask for free storage; it is asked only when somebody reads the answer.
    metrics: Option<CloudWatch>,
    pub(super) choices: Choices,
}

/// The part that changes while something is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Status of the database; of several servers, the first that is not `available`.
    pub status: String,
    /// The attached group.
    pub group: String,
    /// Whether the servers run with it.
    pub apply: ApplyStatus,
}

enum Found<'a> {
    Instance(&'a DbInstance),
    Cluster { cluster: &'a DbCluster, members: Vec<&'a DbInstance> },
}

impl Database {
    /// Names a database; nothing is asked yet.
    #[must_use]
    pub fn new(aws: &Aws, named: Named, side: Side) -> Self {
        let aws = named.region.as_deref().map_or_else(|| aws.clone(), |region| aws.in_region(region));
        let (api, region) = (Api::new(aws.rds()), aws.region().to_owned());
        let (needs, choices) = (Needs::default(), Choices::default());
        Self { api, region, named, side, server: None, needs, metrics: None, choices }
    }

    /// Also asks CloudWatch how much storage is free.
    #[must_use]
    pub fn with_metrics(self, aws: &Aws) -> Self {
        let metrics = Some(CloudWatch::of(&aws.in_region(&self.region)));
        Self { metrics, ..self }
    }

    /// Also asks the server itself.
    #[must_use]
    pub fn with_server(self, server: Option<Server>) -> Self {
        Self { server, ..self }
    }

    /// What is asked of it as a target.
    #[must_use]
    pub fn with_needs(self, needs: Needs) -> Self {
        Self { needs, ..self }
    }

    /// What the user allows.
    #[must_use]
    pub fn with_choices(self, choices: Choices) -> Self {
        Self { choices, ..self }
    }

    /// How to ask the server itself.
    #[must_use]
    pub fn server(&self) -> Option<&Server> {
        self.server.as_ref()
    }

    /// Which end of the pipeline it is.
    #[must_use]
    pub fn side(&self) -> Side {
        self.side
    }

    /// Reads everything.
    ///
    /// # Errors
    /// There is no such database, or AWS does not answer.
    pub async fn inspect(&self) -> Result<Inspection, Error> {
        let (instances, clusters) = (self.api.instances().await?, self.api.clusters().await?);
        let mut inspection = match self.find(&instances, &clusters)? {
            Found::Instance(instance) => self.instance(instance)?,
            Found::Cluster { cluster, members } => self.cluster(cluster, &members),
        };
        let (engine, version) = (&inspection.engine, &inspection.version);
        let family = self.api.family(engine, version).await?;
        inspection.family = family.ok_or_else(|| Error::Family { engine: engine.clone(), version: version.clone() })?;
        inspection.own_name = own_group_name(&inspection.id, &inspection.family);
        let kind = inspection.topology.group_kind();
        let users = |group: &str| users(kind, group, &inspection.id, &instances, &clusters);
        let other_users = users(&inspection.attached.name);
        let own = self.own(kind, &inspection.own_name, &inspection.id, users(&inspection.own_name)).await?;
        let read = self.api.parameters(kind, &inspection.attached.name).await?;
        inspection.attached.other_users = other_users;
        inspection.attached.parameters = read.known;
        inspection.attached.user_set = read.user_set;
        inspection.own = own;
        inspection.overridden = self.overridden(&inspection, &instances).await?;
        inspection.blue_green = self.blue_green(&inspection.arn).await?;
        inspection.maintenance = self.api.maintenance(&inspection.arn).await?;
        self.add_free_storage(&mut inspection).await;
        if let Some(server) = &self.server {
            match Box::pin(sql::facts(server)).await {
                Ok(facts) => inspection.server = Some(facts),
                Err(error) => inspection.server_problem = Some(error.to_string()),
            }
        }
        Ok(inspection)
    }

    /// Without an answer nothing is lost but advice.
    async fn add_free_storage(&self, inspection: &mut Inspection) {
        let disk = match inspection.topology {
            Topology::Instance => Some(inspection.id.as_str()),
            Topology::MultiAzCluster => inspection.writer.as_deref(),
            Topology::Aurora => None,
        };
        let (Some(metrics), Some(disk)) = (&self.metrics, disk) else { return };
        match Box::pin(metrics.free_storage(disk)).await {
            Ok(found) => inspection.storage.free = found.map(|found| Free { bytes: found.value as u64, at: found.at }),
            Err(error) => inspection.storage.free_problem = Some(error.to_string()),
        }
    }

    /// Reads what changes while something is under way.
    ///
    /// # Errors
    /// As [`Self::inspect`].
    pub(super) async fn state(&self, topology: Topology) -> Result<State, Error> {
        let instances = self.api.instances().await?;
        let clusters = match (topology, &self.named.what) {
            (Topology::Instance, _) => Vec::new(),
            _ => self.api.clusters().await?,
        };
        Ok(match self.find(&instances, &clusters)? {
            Found::Instance(instance) => instance_state(instance),
            Found::Cluster { cluster, members } => cluster_state(cluster, &members),
        })
    }

    fn find<'a>(&self, instances: &'a [DbInstance], clusters: &'a [DbCluster]) -> Result<Found<'a>, Error> {
        let missing = || Error::NotFound { name: self.named.text.clone(), region: self.region.clone() };
        let with_members = |cluster: &'a DbCluster| {
            let id = cluster.db_cluster_identifier();
            let members = instances.iter().filter(|instance| instance.db_cluster_identifier() == id).collect();
            Found::Cluster { cluster, members }
        };
        let instance = |found: &'a DbInstance| match found.db_cluster_identifier() {
            None => Ok(Found::Instance(found)),
            Some(of) => {
                let cluster = clusters.iter().find(|cluster| cluster.db_cluster_identifier() == Some(of));
                let cluster = cluster.ok_or_else(missing)?;
                match writer(cluster) == found.db_instance_identifier() {
                    true => Ok(with_members(cluster)),
                    false => Err(Error::Reader { name: self.named.text.clone() }),
                }
            }
        };
        match &self.named.what {
            What::Identifier { id, kind } => {
                let id = Some(id.as_str());
                let by_instance = instances.iter().find(|instance| instance.db_instance_identifier() == id);
                let by_cluster = clusters.iter().find(|cluster| cluster.db_cluster_identifier() == id);
                match (
                    by_cluster.filter(|_| *kind != Some(Kind::Instance)),
                    by_instance.filter(|_| *kind != Some(Kind::Cluster)),
                ) {
                    (Some(cluster), _) => Ok(with_members(cluster)),
                    (None, Some(found)) => instance(found),
                    (None, None) => Err(missing()),
                }
            }
            What::Endpoint { host, port } => {
                let is = |address: Option<&str>, at: Option<i32>| {
                    address.is_some_and(|address| address.eq_ignore_ascii_case(host))
                        && port.is_none_or(|port| at == Some(i32::from(port)))
                };
                if let Some(cluster) = clusters.iter().find(|cluster| is(cluster.endpoint(), cluster.port())) {
                    return Ok(with_members(cluster));
                }
                let at = |found: &&DbInstance| {
                    found.endpoint().is_some_and(|endpoint| is(endpoint.address(), endpoint.port()))
                };
                instances.iter().find(at).map_or_else(|| Err(missing()), instance)
            }
        }
    }

    fn instance(&self, found: &DbInstance) -> Result<Inspection, Error> {
        let state = instance_state(found);
        let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
        let endpoint = found.endpoint().and_then(|endpoint| address(endpoint.address(), endpoint.port()));
        let replica_of =
            found.read_replica_source_db_instance_identifier().or(found.read_replica_source_db_cluster_identifier());
        let mut inspection = self.blank(Topology::Instance, state);
        inspection.id = text(found.db_instance_identifier());
        inspection.arn = text(found.db_instance_arn());
        inspection.engine = text(found.engine());
        inspection.version = text(found.engine_version());
        inspection.endpoint = endpoint;
        inspection.class = text(found.db_instance_class());
        inspection.multi_az = found.multi_az().unwrap_or(false);
        inspection.replica_of = replica_of.map(str::to_owned);
        inspection.replicas = found.read_replica_db_instance_identifiers().to_vec();
        inspection.pending = found.pending_modified_values().map(pending::of_instance).unwrap_or_default();
        inspection.storage = Storage {
            kind: text(found.storage_type()),
            allocated_gib: found.allocated_storage(),
            maximum_gib: found.max_allocated_storage(),
            ..Storage::default()
        };
        match inspection.attached.name.is_empty() {
            true => Err(Error::NotFound { name: self.named.text.clone(), region: self.region.clone() }),
            false => Ok(inspection),
        }
    }

    fn cluster(&self, found: &DbCluster, members: &[&DbInstance]) -> Inspection {
        let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
        let topology = match found.engine() {
            Some(engine) if engine.starts_with("aurora") => Topology::Aurora,
            _ => Topology::MultiAzCluster,
        };
        let mut inspection = self.blank(topology, cluster_state(found, members));
        inspection.id = text(found.db_cluster_identifier());
        inspection.arn = text(found.db_cluster_arn());
        inspection.engine = text(found.engine());
        inspection.version = text(found.engine_version());
        inspection.endpoint = address(found.endpoint(), found.port());
        inspection.writer = writer(found).map(str::to_owned);
        let readers = found.db_cluster_members().iter().filter(|member| !member.is_cluster_writer().unwrap_or(false));
        inspection.readers = readers.filter_map(|member| member.db_instance_identifier()).map(str::to_owned).collect();
        let of_writer = members.iter().find(|member| member.db_instance_identifier() == writer(found));
        inspection.class =
            text(of_writer.and_then(|member| member.db_instance_class()).or(found.db_cluster_instance_class()));
        inspection.multi_az = found.multi_az().unwrap_or(false);
        inspection.engine_mode = found.engine_mode().map(str::to_owned);
        let scaling = found.serverless_v2_scaling_configuration();
        inspection.serverless_v2_minimum = scaling.and_then(|scaling| scaling.min_capacity());
        inspection.replica_of = found.replication_source_identifier().filter(|id| !id.is_empty()).map(str::to_owned);
        inspection.replicas = found.read_replica_identifiers().to_vec();
        inspection.pending = found.pending_modified_values().map(pending::of_cluster).unwrap_or_default();
        inspection.storage = Storage {
            kind: found.storage_type().unwrap_or("aurora").to_owned(),
            allocated_gib: found.allocated_storage().filter(|_| topology == Topology::MultiAzCluster),
            ..Storage::default()
        };
        inspection
    }

    fn blank(&self, topology: Topology, state: State) -> Inspection {
        Inspection {
            side: self.side,
            region: self.region.clone(),
            id: String::new(),
            arn: String::new(),
            topology,
            engine: String::new(),
            version: String::new(),
            family: String::new(),
            status: state.status,
            endpoint: None,
            writer: None,
            readers: Vec::new(),
            class: String::new(),
            multi_az: false,
            engine_mode: None,
            serverless_v2_minimum: None,
            replica_of: None,
            replicas: Vec::new(),
            attached: Attached {
                name: state.group,
                status: state.apply,
                other_users: Vec::new(),
                parameters: BTreeMap::new(),
                user_set: Vec::new(),
            },
            own_name: String::new(),
            own: None,
            overridden: BTreeMap::new(),
            pending: Vec::new(),
            blue_green: None,
            maintenance: Vec::new(),
            storage: Storage::default(),
            server: None,
            server_problem: None,
            needs: self.needs.clone(),
        }
    }

    async fn own(
        &self,
        kind: GroupKind,
        name: &str,
        id: &str,
        other_users: Vec<String>,
    ) -> Result<Option<Own>, AwsError> {
        let Some(tags) = self.api.group(kind, name).await? else { return Ok(None) };
        let tag = |key: &str| tags.iter().find(|(found, _)| found == key).map(|(_, value)| value.clone());
        let ours = tag(TAG_CREATOR.0).as_deref() == Some(TAG_CREATOR.1) && tag(TAG_DATABASE).as_deref() == Some(id);
        let parameters = self.api.parameters(kind, name).await?.known;
        Ok(Some(Own { ours, previous: tag(TAG_PREVIOUS), other_users, parameters }))
    }

    /// What the writer's own group says against the cluster's.
    async fn overridden(
        &self,
        inspection: &Inspection,
        instances: &[DbInstance],
    ) -> Result<BTreeMap<String, String>, AwsError> {
        let writer = instances.iter().find(|found| found.db_instance_identifier() == inspection.writer.as_deref());
        let group = writer.filter(|_| inspection.topology == Topology::Aurora && inspection.side == Side::Source);
        let group = group.map(|found| instance_state(found).group).unwrap_or_default();
        if group.is_empty() || group.starts_with("default.") {
            return Ok(BTreeMap::new());
        }
        let read = self.api.parameters(GroupKind::Instance, &group).await?;
        let set = read.known.into_iter().filter(|(name, parameter)| {
            let harmless = name == "rds.logical_replication" && is_on(parameter.value.as_deref());
            WIN_OVER_CLUSTER.contains(&name.as_str()) && parameter.source == "user" && !harmless
        });
        Ok(set.filter_map(|(name, parameter)| Some((name, parameter.value?))).collect())
    }

    async fn blue_green(&self, arn: &str) -> Result<Option<String>, AwsError> {
        let deployments = self.api.blue_green().await?;
        let part_of = deployments.iter().find(|deployment| {
            let over = matches!(deployment.status(), Some("SWITCHOVER_COMPLETED" | "DELETING"));
            !over && (deployment.source() == Some(arn) || deployment.target() == Some(arn))
        });
        Ok(part_of.map(|deployment| {
            let name = deployment.blue_green_deployment_name().or(deployment.blue_green_deployment_identifier());
            format!("{} ({})", name.unwrap_or("unnamed"), deployment.status().unwrap_or("unknown"))
        }))
    }
}

fn address(host: Option<&str>, port: Option<i32>) -> Option<(String, u16)> {
    Some((host?.to_owned(), u16::try_from(port?).ok()?))
}

fn writer(cluster: &DbCluster) -> Option<&str> {
    let writes = cluster.db_cluster_members().iter().find(|member| member.is_cluster_writer().unwrap_or(false));
    writes.and_then(|member| member.db_instance_identifier())
}

fn instance_state(instance: &DbInstance) -> State {
    let group = instance.db_parameter_groups().first();
    State {
        status: instance.db_instance_status().unwrap_or("unknown").to_owned(),
        group: group.and_then(|group| group.db_parameter_group_name()).unwrap_or_default().to_owned(),
        apply: ApplyStatus::parse(group.and_then(|group| group.parameter_apply_status()).unwrap_or("unknown")),
    }
}

/// Aurora's readers follow the writer by themselves; of a Multi-AZ DB cluster every member counts.
fn cluster_state(cluster: &DbCluster, members: &[&DbInstance]) -> State {
    let aurora = cluster.engine().is_some_and(|engine| engine.starts_with("aurora"));
    let counts = |id: Option<&str>| !aurora || id == writer(cluster);
    let statuses = members.iter().filter(|member| counts(member.db_instance_identifier()));
    let statuses = std::iter::once(cluster.status()).chain(statuses.map(|member| member.db_instance_status()));
    let status = statuses.flatten().find(|status| *status != "available");
    let applies = cluster.db_cluster_members().iter().filter(|member| counts(member.db_instance_identifier()));
    let mut applies =
        applies.map(|member| ApplyStatus::parse(member.db_cluster_parameter_group_status().unwrap_or("unknown")));
    State {
        status: status.unwrap_or("available").to_owned(),
        group: cluster.db_cluster_parameter_group().unwrap_or_default().to_owned(),
        apply: applies.find(|apply| *apply != ApplyStatus::InSync).unwrap_or(ApplyStatus::InSync),
    }
}

/// What else uses a group.
fn users(kind: GroupKind, group: &str, id: &str, instances: &[DbInstance], clusters: &[DbCluster]) -> Vec<String> {
    let users: Vec<&str> = match kind {
        GroupKind::Instance => {
            let with = instances.iter().filter(|found| {
                found.db_parameter_groups().iter().any(|attached| attached.db_parameter_group_name() == Some(group))
            });
            with.filter_map(|found| found.db_instance_identifier()).collect()
        }
        GroupKind::Cluster => {
            let with = clusters.iter().filter(|found| found.db_cluster_parameter_group() == Some(group));
            with.filter_map(|found| found.db_cluster_identifier()).collect()
        }
    };
    users.into_iter().filter(|user| *user != id).map(str::to_owned).collect()
}
