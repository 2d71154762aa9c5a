//! The calls of the RDS API that this program makes, and no others; `infra/iam` grants exactly these.
//!
//! Everything that is answered in pages is read to its end. Calls that change something may be sent again by the SDK: all
//! of them set a state, except the reboot, which is sent once, so that a lost answer cannot mean two reboots.

use aws_sdk_rds::{
    Client,
    config::{http::HttpResponse, retry::RetryConfig},
    error::{ProvideErrorMetadata, SdkError},
    types::{
        ApplyMethod, BlueGreenDeployment, DbCluster, DbEngineVersion, DbInstance, Event, Parameter as SdkParameter,
        ResourcePendingMaintenanceActions, SourceType, Tag,
    },
};

use super::{
    model::{GroupKind, Parameter, Parameters, Topology},
    plan::{Change, PARAMETERS},
};
use crate::error::{Call, Error};

/// The RDS API in one region.
#[derive(Debug, Clone)]
pub(super) struct Api {
    client: Client,
}

/// Keys and values.
pub(super) type Tags = Vec<(String, String)>;

/// What was read of the parameters of a group.
#[derive(Default)]
pub(super) struct Read {
    /// Those that matter here.
    pub known: Parameters,
    /// Names of what somebody set.
    pub user_set: Vec<String>,
}

impl Read {
    fn add(&mut self, found: SdkParameter) {
        let Some(name) = found.parameter_name else { return };
        let source = found.source.unwrap_or_else(|| "engine-default".to_owned());
        if source == "user" {
            self.user_set.push(name.clone());
        }
        if PARAMETERS.contains(&name.as_str()) {
            let parameter = Parameter {
                value: found.parameter_value,
                source,
                is_static: found.apply_type.as_deref() != Some("dynamic"),
                modifiable: found.is_modifiable.unwrap_or(false),
            };
            self.known.insert(name, parameter);
        }
    }
}

impl Api {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    pub(super) async fn instances(&self) -> Result<Vec<DbInstance>, Error> {
        let items = self.client.describe_db_instances().into_paginator().items().send();
        result(Call::rds("DescribeDBInstances"), items.collect().await)
    }

    pub(super) async fn clusters(&self) -> Result<Vec<DbCluster>, Error> {
        let items = self.client.describe_db_clusters().into_paginator().items().send();
        result(Call::rds("DescribeDBClusters"), items.collect().await)
    }

    /// The family of parameter groups of an engine's version.
    pub(super) async fn family(&self, engine: &str, version: &str) -> Result<Option<String>, Error> {
        let items = self
            .client
            .describe_db_engine_versions()
            .engine(engine)
            .engine_version(version)
            .include_all(true)
            .into_paginator()
            .items()
            .send();
        let versions: Vec<DbEngineVersion> = result(Call::rds("DescribeDBEngineVersions"), items.collect().await)?;
        Ok(versions.into_iter().find_map(|found| found.db_parameter_group_family))
    }

    /// Running blue/green deployments, with their source and target.
    pub(super) async fn blue_green(&self) -> Result<Vec<BlueGreenDeployment>, Error> {
        let items = self.client.describe_blue_green_deployments().into_paginator().items().send();
        result(Call::rds("DescribeBlueGreenDeployments"), items.collect().await)
    }

    /// Maintenance that is due for a database, in words.
    pub(super) async fn maintenance(&self, arn: &str) -> Result<Vec<String>, Error> {
        let request = self.client.describe_pending_maintenance_actions().resource_identifier(arn);
        let items = request.into_paginator().items().send();
        let due: Vec<ResourcePendingMaintenanceActions> =
            result(Call::rds("DescribePendingMaintenanceActions"), items.collect().await)?;
        let actions =
            due.into_iter().flat_map(|resource| resource.pending_maintenance_action_details.unwrap_or_default());
        Ok(actions.filter_map(|action| action.description.or(action.action)).collect())
    }

    /// What happened to an instance or a cluster in the last minutes.
    pub(super) async fn events(&self, kind: SourceType, id: &str, minutes: i32) -> Result<Vec<Event>, Error> {
        let request = self.client.describe_events().source_type(kind).source_identifier(id).duration(minutes);
        result(Call::rds("DescribeEvents"), request.into_paginator().items().send().collect().await)
    }

    /// The tags of a parameter group, when there is one of this name.
    pub(super) async fn group(&self, kind: GroupKind, name: &str) -> Result<Option<Tags>, Error> {
        let arn = match kind {
            GroupKind::Instance => {
                let call = Call::rds("DescribeDBParameterGroups");
                let sent = self.client.describe_db_parameter_groups().db_parameter_group_name(name).send().await;
                let Some(found) = unless_missing(call, sent)? else { return Ok(None) };
                let Some(group) = found.db_parameter_groups.unwrap_or_default().pop() else { return Ok(None) };
                group.db_parameter_group_arn
            }
            GroupKind::Cluster => {
                let call = Call::rds("DescribeDBClusterParameterGroups");
                let request = self.client.describe_db_cluster_parameter_groups().db_cluster_parameter_group_name(name);
                let Some(found) = unless_missing(call, request.send().await)? else { return Ok(None) };
                let Some(group) = found.db_cluster_parameter_groups.unwrap_or_default().pop() else { return Ok(None) };
                group.db_cluster_parameter_group_arn
            }
        };
        let call = Call::rds("ListTagsForResource");
        let tags = self.client.list_tags_for_resource().resource_name(arn.unwrap_or_default()).send().await;
        let Some(tags) = unless_missing(call, tags)? else { return Ok(None) };
        let tags = tags.tag_list.unwrap_or_default().into_iter();
        Ok(Some(tags.filter_map(|tag| Some((tag.key?, tag.value.unwrap_or_default()))).collect()))
    }

    pub(super) async fn parameters(&self, kind: GroupKind, name: &str) -> Result<Read, Error> {
        let found: Vec<SdkParameter> = match kind {
            GroupKind::Instance => {
                let items =
                    self.client.describe_db_parameters().db_parameter_group_name(name).into_paginator().items().send();
                result(Call::rds("DescribeDBParameters"), items.collect().await)?
            }
            GroupKind::Cluster => {
                let request = self.client.describe_db_cluster_parameters().db_cluster_parameter_group_name(name);
                let items = request.into_paginator().items().send();
                result(Call::rds("DescribeDBClusterParameters"), items.collect().await)?
            }
        };
        let mut read = Read::default();
        found.into_iter().for_each(|parameter| read.add(parameter));
        Ok(read)
    }

    pub(super) async fn create_group(
        &self,
        kind: GroupKind,
        name: &str,
        family: &str,
        tags: &[(&str, &str)],
    ) -> Result<(), Error> {
        match kind {
            GroupKind::Instance => {
                let request = self.client.create_db_parameter_group().db_parameter_group_name(name);
                let request = request.db_parameter_group_family(family).description(DESCRIPTION);
                let sent = request.set_tags(Some(sdk_tags(tags))).send().await;
                unless_there(Call::rds("CreateDBParameterGroup"), sent)
            }
            GroupKind::Cluster => {
                let request = self.client.create_db_cluster_parameter_group().db_cluster_parameter_group_name(name);
                let request = request.db_parameter_group_family(family).description(DESCRIPTION);
                let sent = request.set_tags(Some(sdk_tags(tags))).send().await;
                unless_there(Call::rds("CreateDBClusterParameterGroup"), sent)
            }
        }
    }

    pub(super) async fn copy_group(
        &self,
        kind: GroupKind,
        from: &str,
        name: &str,
        tags: &[(&str, &str)],
    ) -> Result<(), Error> {
        match kind {
            GroupKind::Instance => {
                let request = self.client.copy_db_parameter_group().source_db_parameter_group_identifier(from);
                let request = request.target_db_parameter_group_identifier(name);
                let request = request.target_db_parameter_group_description(DESCRIPTION);
                let sent = request.set_tags(Some(sdk_tags(tags))).send().await;
                unless_there(Call::rds("CopyDBParameterGroup"), sent)
            }
            GroupKind::Cluster => {
                let request =
                    self.client.copy_db_cluster_parameter_group().source_db_cluster_parameter_group_identifier(from);
                let request = request.target_db_cluster_parameter_group_identifier(name);
                let request = request.target_db_cluster_parameter_group_description(DESCRIPTION);
                let sent = request.set_tags(Some(sdk_tags(tags))).send().await;
                unless_there(Call::rds("CopyDBClusterParameterGroup"), sent)
            }
        }
    }

    pub(super) async fn set_parameters(&self, kind: GroupKind, name: &str, changes: &[Change]) -> Result<(), Error> {
        let parameters = changes
            .iter()
            .map(|change| {
                let method = if change.is_static { ApplyMethod::PendingReboot } else { ApplyMethod::Immediate };
                let parameter = SdkParameter::builder().parameter_name(change.parameter).parameter_value(&change.value);
                parameter.apply_method(method).build()
            })
            .collect();
        match kind {
            GroupKind::Instance => {
                let request = self.client.modify_db_parameter_group().db_parameter_group_name(name);
                done(Call::rds("ModifyDBParameterGroup"), request.set_parameters(Some(parameters)).send().await)
            }
            GroupKind::Cluster => {
                let request = self.client.modify_db_cluster_parameter_group().db_cluster_parameter_group_name(name);
                done(Call::rds("ModifyDBClusterParameterGroup"), request.set_parameters(Some(parameters)).send().await)
            }
        }
    }

    pub(super) async fn attach(&self, kind: GroupKind, id: &str, group: &str) -> Result<(), Error> {
        match kind {
            GroupKind::Instance => {
                let request = self.client.modify_db_instance().db_instance_identifier(id);
                let sent = request.db_parameter_group_name(group).apply_immediately(true).send().await;
                done(Call::rds("ModifyDBInstance"), sent)
            }
            GroupKind::Cluster => {
                let request = self.client.modify_db_cluster().db_cluster_identifier(id);
                let sent = request.db_cluster_parameter_group_name(group).apply_immediately(true).send().await;
                done(Call::rds("ModifyDBCluster"), sent)
            }
        }
    }

    /// Restarts without failover; sent once only.
    pub(super) async fn reboot(&self, topology: Topology, id: &str) -> Result<(), Error> {
        let once = aws_sdk_rds::config::Builder::new().retry_config(RetryConfig::disabled());
        match topology {
            Topology::Instance | Topology::Aurora => {
                let request = self.client.reboot_db_instance().db_instance_identifier(id).force_failover(false);
                done(Call::rds("RebootDBInstance"), request.customize().config_override(once).send().await)
            }
            Topology::MultiAzCluster => {
                let request = self.client.reboot_db_cluster().db_cluster_identifier(id);
                done(Call::rds("RebootDBCluster"), request.customize().config_override(once).send().await)
            }
        }
    }

    /// Deletes a group; that it is gone already is fine.
    pub(super) async fn delete_group(&self, kind: GroupKind, name: &str) -> Result<(), Error> {
        match kind {
            GroupKind::Instance => {
                let sent = self.client.delete_db_parameter_group().db_parameter_group_name(name).send().await;
                unless_missing(Call::rds("DeleteDBParameterGroup"), sent).map(drop)
            }
            GroupKind::Cluster => {
                let request = self.client.delete_db_cluster_parameter_group().db_cluster_parameter_group_name(name);
                unless_missing(Call::rds("DeleteDBClusterParameterGroup"), request.send().await).map(drop)
            }
        }
    }
}

/// What people read beside the group in the console.
const DESCRIPTION: &str = "Made by pgstream-aws provision";

/// The code for a group that is not there, of instances and of clusters alike.
const GROUP_MISSING: &str = "DBParameterGroupNotFound";

/// The code for a group that is there.
const GROUP_EXISTS: &str = "DBParameterGroupAlreadyExists";

type Sent<T, E> = Result<T, SdkError<E, HttpResponse>>;

fn result<T, E>(call: Call, sent: Sent<T, E>) -> Result<T, Error>
where
    E: std::error::Error + ProvideErrorMetadata + 'static,
{
    sent.map_err(|error| Error::from_sdk(call, &error))
}

fn done<T, E>(call: Call, sent: Sent<T, E>) -> Result<(), Error>
where
    E: std::error::Error + ProvideErrorMetadata + 'static,
{
    result(call, sent).map(drop)
}

fn unless_missing<T, E>(call: Call, sent: Sent<T, E>) -> Result<Option<T>, Error>
where
    E: std::error::Error + ProvideErrorMetadata + 'static,
{
    match result(call, sent) {
        Err(error) if error.refusal() == Some(GROUP_MISSING) => Ok(None),
        other => other.map(Some),
    }
}

/// A lost answer, or a list that is behind, lets a group be made twice: the second time is no failure.
fn unless_there<T, E>(call: Call, sent: Sent<T, E>) -> Result<(), Error>
where
    E: std::error::Error + ProvideErrorMetadata + 'static,
{
    match result(call, sent) {
        Err(error) if error.refusal() == Some(GROUP_EXISTS) => Ok(()),
        other => other.map(drop),
    }
}

fn sdk_tags(tags: &[(&str, &str)]) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag::builder().key(*key).value(*value).build()).collect()
}
