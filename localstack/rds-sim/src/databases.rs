//! Instances and clusters: attaching groups, reboots, and the states between.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::SignedDuration;

use crate::{
    describe::empty,
    error::Refusal,
    groups::{self, Kind},
    request::Call,
    server::Values,
    world::{Apply, Attachment, Look, State, Status, World},
    xml::Xml,
};

impl World {
    /// A call about databases; `None` when it is about something else.
    pub(crate) fn database_call(self: &Arc<Self>, call: &Call) -> Option<Result<Xml, Refusal>> {
        self.let_time_pass();
        Some(match call.action.as_str() {
            "DescribeDBInstances" => self.state().describe_instances(call),
            "DescribeDBClusters" => self.state().describe_clusters(call),
            "DescribeDBEngineVersions" => self.state().describe_versions(call),
            "DescribeBlueGreenDeployments" => self.state().describe_blue_green(call),
            "DescribePendingMaintenanceActions" => self.state().describe_maintenance(call),
            "DescribeEvents" => self.state().describe_events(call),
            "DescribeDBProxies" => Ok(empty("DBProxies")),
            "GetMetricStatistics" => self.state().free_storage(call),
            "ModifyDBInstance" => self.state().modify(call, Kind::Instance),
            "ModifyDBCluster" => self.state().modify(call, Kind::Cluster),
            "RebootDBInstance" => self.reboot_instance(call),
            "RebootDBCluster" => self.reboot_cluster(call),
            _ => return None,
        })
    }

    /// States that last for a moment go over into the next, and into what lists show.
    pub(crate) fn let_time_pass(&self) {
        self.end_applying();
        let behind = self.faults.states().behind;
        self.state().attachments().for_each(|own| own.show(behind));
    }

    fn end_applying(&self) {
        let fails = self.faults.states().parameters_fail_to_apply;
        let mut state = self.state();
        let groups = state.groups.clone();
        let families = state.families.clone();
        for own in state.attachments() {
            let (Apply::Applying(since) | Apply::Attaching(since)) = own.apply else { continue };
            if since.elapsed() < self.pause {
                continue;
            }
            let statics = groups.get(&(own.kind, own.group.clone())).map(|group| {
                let definitions = families.get(&group.family).cloned().unwrap_or_default();
                let is_static = |name: &String| definitions.iter().any(|d| d.name == *name && d.is_static);
                let of = |values: &Values| -> Values {
                    values.iter().filter(|(name, _)| is_static(name)).map(|(n, v)| (n.clone(), v.clone())).collect()
                };
                of(&group.values) == of(&own.in_force)
            });
            own.apply = match statics {
                _ if fails => Apply::Failed,
                _ if matches!(own.apply, Apply::Attaching(_)) => Apply::PendingReboot,
                Some(true) => Apply::InSync,
                _ => Apply::PendingReboot,
            };
        }
    }

    fn reboot_instance(self: &Arc<Self>, call: &Call) -> Result<Xml, Refusal> {
        let id = call.need("DBInstanceIdentifier")?.to_lowercase();
        let mut state = self.state();
        if call.flag("ForceFailover") && !state.instances.get(&id).is_some_and(|instance| instance.made.multi_az) {
            return Err(Refusal::combination("Cannot force failover: the instance is not Multi-AZ."));
        }
        // The writer of a cluster takes the cluster's group with it.
        let of = state.clusters.values().find(|cluster| cluster.members().contains(&id));
        let (key, is_reader) = match of {
            Some(cluster) => (cluster.made.id.clone(), cluster.members().first() != Some(&id)),
            None => (id.clone(), false),
        };
        if is_reader {
            return state.one_instance(&id);
        }
        self.begin_reboot(&mut state, &key, || Refusal::instance_missing(&id), "InvalidDBInstanceState")?;
        if call.flag("ForceFailover") {
            state.server_event(&key, "failover", "Multi-AZ instance failover started.");
        }
        state.one_instance(&id)
    }

    fn reboot_cluster(self: &Arc<Self>, call: &Call) -> Result<Xml, Refusal> {
        let id = call.need("DBClusterIdentifier")?.to_lowercase();
        let mut state = self.state();
        match state.clusters.get(&id) {
            None => return Err(Refusal::cluster_missing(&id)),
            Some(cluster) if cluster.made.aurora => {
                return Err(Refusal::invalid(
                    "This operation is not supported for Aurora clusters; reboot its instances.",
                ));
            }
            Some(_) => {}
        }
        self.begin_reboot(&mut state, &id, || Refusal::cluster_missing(&id), "InvalidDBClusterStateFault")?;
        state.one_cluster(&id)
    }

    fn begin_reboot(
        self: &Arc<Self>,
        state: &mut State,
        id: &str,
        missing: impl Fn() -> Refusal,
        wrong_state: &'static str,
    ) -> Result<(), Refusal> {
        let groups = state.groups.clone();
        let own = state.attachment(id).ok_or_else(missing)?;
        if own.status != Status::Available {
            return Err(Refusal::new(400, wrong_state, format!("{id} is not in the available state.")));
        }
        own.status = Status::RebootAsked;
        own.reboots += 1;
        let values = groups.get(&(own.kind, own.group.clone())).map(|group| group.values.clone()).unwrap_or_default();
        let (world, id, server) = (Arc::clone(self), id.to_owned(), Arc::clone(&own.server));
        let attached = own.group.clone();
        tokio::spawn(async move {
            tokio::time::sleep(world.pause).await;
            world.set(&id, |own| own.status = Status::Rebooting);
            world.state().server_event(&id, "availability", "DB instance shutdown");
            if world.faults.states().reboot_never_ends {
                return;
            }
            server.write(&values);
            let started = server.restart().await;
            world.state().server_event(&id, "availability", "DB instance restarted");
            tokio::time::sleep(world.pause).await;
            world.set(&id, |own| {
                own.status = if started.is_ok() { Status::Available } else { Status::Incompatible };
                // A group that was attached meanwhile waits for the next reboot.
                if own.group == attached && own.apply != Apply::Failed {
                    own.apply = Apply::InSync;
                    own.in_force = values;
                }
            });
        });
        Ok(())
    }

    fn set(&self, id: &str, change: impl FnOnce(&mut Attachment)) {
        if let Some(own) = self.state().attachment(id) {
            change(own);
        }
    }
}

impl State {
    fn modify(&mut self, call: &Call, kind: Kind) -> Result<Xml, Refusal> {
        let (name, parameter) = match kind {
            Kind::Instance => ("DBInstanceIdentifier", "DBParameterGroupName"),
            Kind::Cluster => ("DBClusterIdentifier", "DBClusterParameterGroupName"),
        };
        let id = call.need(name)?.to_lowercase();
        let family = match kind {
            Kind::Instance => self.instances.get(&id).map(|i| groups::family("postgres", i.made.major)),
            Kind::Cluster => self.clusters.get(&id).map(|c| groups::family(c.engine(), c.made.major)),
        };
        let missing = || match kind {
            Kind::Instance => Refusal::instance_missing(&id),
            Kind::Cluster => Refusal::cluster_missing(&id),
        };
        let family = family.ok_or_else(missing)?;
        if let Some(group) = call.get(parameter) {
            let found = self.groups.get(&(kind, group.to_lowercase())).ok_or_else(|| Refusal::group_missing(group))?;
            if found.family != family {
                return Err(Refusal::combination(format!(
                    "The Parameter Group {group} with DBParameterGroupFamily {} cannot be used for this instance. Please use a Parameter Group with DBParameterGroupFamily {family}",
                    found.family
                )));
            }
        }
        let own = self.attachment(&id).ok_or_else(missing)?;
        if own.status != Status::Available {
            let code = if kind == Kind::Instance { "InvalidDBInstanceState" } else { "InvalidDBClusterStateFault" };
            return Err(Refusal::new(400, code, format!("{id} is not in the available state.")));
        }
        if let Some(group) = call.get(parameter).map(str::to_lowercase).filter(|group| *group != own.group) {
            own.group.clone_from(&group);
            own.apply = Apply::Attaching(Instant::now());
            let message = format!("Updated to use a DBParameterGroup {group}");
            self.past_event(&id, SignedDuration::ZERO, "configuration change", &message);
        }
        let own = self.attachment(&id).ok_or_else(missing)?;
        if call.flag("ApplyImmediately") {
            // All that was waiting for the maintenance window, too.
            own.pending.clear();
        }
        match kind {
            Kind::Instance => self.one_instance(&id),
            Kind::Cluster => self.one_cluster(&id),
        }
    }
}

impl Attachment {
    /// How it really is.
    pub(crate) fn look(&self) -> Look {
        let status = match self.status {
            Status::Other(word) => word,
            Status::Available | Status::RebootAsked => "available",
            Status::Rebooting => "rebooting",
            Status::Incompatible => "incompatible-parameters",
        };
        let apply = match self.apply {
            Apply::InSync => "in-sync",
            Apply::Applying(_) | Apply::Attaching(_) => "applying",
            Apply::PendingReboot => "pending-reboot",
            Apply::Failed => "failed-to-apply",
        };
        Look { group: self.group.clone(), status, apply }
    }

    /// Lists show how it was a while ago.
    fn show(&mut self, behind: Duration) {
        let look = self.look();
        if self.looks.last().is_none_or(|(_, last)| *last != look) {
            self.looks.push((Instant::now(), look));
        }
        let old = self.looks.iter().rev().find(|(since, _)| since.elapsed() >= behind);
        self.shown = old.or(self.looks.first()).map(|(_, look)| look.clone());
    }

    pub(crate) fn shown(&self) -> Look {
        self.shown.clone().unwrap_or_else(|| self.look())
    }
}
