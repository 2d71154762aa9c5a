//! Instances and clusters: what they are like, attaching groups, reboots.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    error::Refusal,
    groups::{self, Kind},
    made::WRITER_GROUP,
    request::Call,
    server::Values,
    world::{Apply, Attachment, ClusterState, InstanceState, Look, State, Status, World, arn},
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
            "DescribeEvents" => Ok(empty("Events")),
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
            if world.faults.states().reboot_never_ends {
                return;
            }
            server.write(&values);
            let started = server.restart().await;
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
    fn describe_instances(&self, call: &Call) -> Result<Xml, Refusal> {
        let mut all: Vec<Xml> = Vec::new();
        let wanted = call.get("DBInstanceIdentifier").map(|id| id.rsplit(':').next().unwrap_or(id).to_lowercase());
        let is_wanted = |id: &str| wanted.as_deref().is_none_or(|wanted| wanted == id);
        for instance in self.instances.values().filter(|instance| is_wanted(&instance.made.id)) {
            all.push(instance.describe());
        }
        for cluster in self.clusters.values() {
            let members = cluster.members();
            all.extend(
                members.iter().enumerate().filter(|(_, id)| is_wanted(id)).map(|(n, id)| cluster.member(id, n == 0)),
            );
        }
        match wanted {
            Some(wanted) if all.is_empty() => Err(Refusal::instance_missing(&wanted)),
            _ => paged(call, all, "DBInstances", "DBInstance"),
        }
    }

    fn one_instance(&self, id: &str) -> Result<Xml, Refusal> {
        let of_cluster = || {
            let cluster = self.clusters.values().find(|cluster| cluster.members().iter().any(|member| member == id))?;
            Some(cluster.member(id, cluster.members().first().is_some_and(|first| first == id)))
        };
        let found = self.instances.get(id).map(InstanceState::describe).or_else(of_cluster);
        let found = found.ok_or_else(|| Refusal::instance_missing(id))?;
        let mut xml = Xml::default();
        xml.within("DBInstance", |xml| xml.append(found));
        Ok(xml)
    }

    fn describe_clusters(&self, call: &Call) -> Result<Xml, Refusal> {
        let wanted = call.get("DBClusterIdentifier").map(|id| id.rsplit(':').next().unwrap_or(id).to_lowercase());
        let is_wanted = |cluster: &&ClusterState| wanted.as_deref().is_none_or(|wanted| wanted == cluster.made.id);
        let all: Vec<Xml> = self.clusters.values().filter(is_wanted).map(ClusterState::describe).collect();
        match wanted {
            Some(wanted) if all.is_empty() => Err(Refusal::cluster_missing(&wanted)),
            _ => paged(call, all, "DBClusters", "DBCluster"),
        }
    }

    fn one_cluster(&self, id: &str) -> Result<Xml, Refusal> {
        let found = self.clusters.get(id).ok_or_else(|| Refusal::cluster_missing(id))?;
        let mut xml = Xml::default();
        xml.within("DBCluster", |xml| xml.append(found.describe()));
        Ok(xml)
    }

    /// Versions of the servers that are there.
    fn describe_versions(&self, call: &Call) -> Result<Xml, Refusal> {
        let instances =
            self.instances.values().map(|instance| ("postgres", instance.version.clone(), instance.made.major));
        let clusters =
            self.clusters.values().map(|cluster| (cluster.engine(), cluster.version.clone(), cluster.made.major));
        let mut versions: Vec<_> = instances.chain(clusters).collect();
        versions.retain(|(engine, version, _)| {
            call.get("Engine").is_none_or(|wanted| wanted == *engine)
                && call.get("EngineVersion").is_none_or(|wanted| wanted == version)
        });
        versions.sort();
        versions.dedup();
        let described = versions.iter().map(|(engine, version, major)| {
            let mut xml = Xml::default();
            xml.text("Engine", engine);
            xml.text("EngineVersion", version);
            xml.text("DBParameterGroupFamily", &groups::family(engine, *major));
            xml.text("Status", "available");
            xml
        });
        paged(call, described.collect(), "DBEngineVersions", "DBEngineVersion")
    }

    fn describe_blue_green(&self, call: &Call) -> Result<Xml, Refusal> {
        let described = self.blue_green.iter().enumerate().map(|(n, deployment)| {
            let mut xml = Xml::default();
            xml.text("BlueGreenDeploymentIdentifier", &format!("bgd-{n:016}"));
            xml.text("BlueGreenDeploymentName", &deployment.name);
            xml.text("Source", &deployment.source);
            xml.text("Target", &format!("{}-green", deployment.source));
            xml.text("Status", &deployment.status);
            xml
        });
        paged(call, described.collect(), "BlueGreenDeployments", "member")
    }

    fn describe_maintenance(&self, call: &Call) -> Result<Xml, Refusal> {
        let wanted = |resource: &str| call.get("ResourceIdentifier").is_none_or(|wanted| wanted == resource);
        let due = self.maintenance.iter().filter(|due| wanted(&due.resource)).map(|due| {
            let mut xml = Xml::default();
            xml.text("ResourceIdentifier", &due.resource);
            xml.within("PendingMaintenanceActionDetails", |xml| {
                xml.within("PendingMaintenanceAction", |xml| {
                    xml.text("Action", &due.action);
                    xml.text("Description", &due.description);
                });
            });
            xml
        });
        paged(call, due.collect(), "PendingMaintenanceActions", "ResourcePendingMaintenanceActions")
    }

    /// Of CloudWatch, the one metric that is about what is here: `FreeStorageSpace` of members with disks.
    fn free_storage(&self, call: &Call) -> Result<Xml, Refusal> {
        let asked =
            ["Namespace", "MetricName", "Dimensions.member.1.Name", "Statistics.member.1"].map(|name| call.get(name));
        let known = asked == ["AWS/RDS", "FreeStorageSpace", "DBInstanceIdentifier", "Minimum"].map(Some);
        let id = call.need("Dimensions.member.1.Value")?;
        let instance = self.instances.get(id).map(|instance| instance.made.free_storage);
        let member = || {
            let disks = self.clusters.values().filter(|cluster| !cluster.made.aurora);
            let mut of = disks.filter(|cluster| cluster.members().iter().any(|member| member == id));
            of.next().map(|cluster| cluster.made.free_storage)
        };
        let free = instance.or_else(member).filter(|_| known);
        let mut xml = Xml::default();
        xml.text("Label", call.need("MetricName")?);
        xml.list("Datapoints", "member", free, |xml, bytes| {
            xml.text("Timestamp", call.get("StartTime").unwrap_or_default());
            xml.value("Minimum", format!("{bytes}.0"));
            xml.text("Unit", "Bytes");
        });
        Ok(xml)
    }

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
            own.group = group;
            own.apply = Apply::Attaching(Instant::now());
        }
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

    fn shown(&self) -> Look {
        self.shown.clone().unwrap_or_else(|| self.look())
    }

    fn write_pending(&self, xml: &mut Xml) {
        xml.within("PendingModifiedValues", |xml| self.pending.iter().for_each(|(name, value)| xml.text(name, value)));
    }
}

fn endpoint(xml: &mut Xml, address: &str, port: u16) {
    xml.within("Endpoint", |xml| {
        xml.text("Address", address);
        xml.value("Port", port);
    });
}

fn group_status(xml: &mut Xml, name: &str, status: &str) {
    xml.within("DBParameterGroups", |xml| {
        xml.within("DBParameterGroup", |xml| {
            xml.text("DBParameterGroupName", name);
            xml.text("ParameterApplyStatus", status);
        });
    });
}

impl InstanceState {
    fn describe(&self) -> Xml {
        let mut xml = Xml::default();
        xml.text("DBInstanceIdentifier", &self.made.id);
        xml.text("DBInstanceClass", "db.t4g.medium");
        xml.text("Engine", "postgres");
        xml.text("EngineVersion", &self.version);
        let shown = self.own.shown();
        xml.text("DBInstanceStatus", shown.status);
        xml.text("MasterUsername", crate::server::MASTER);
        endpoint(&mut xml, "127.0.0.1", self.own.server.port());
        xml.text("AllocatedStorage", "20");
        self.made.grows_to_gib.iter().for_each(|gib| xml.value("MaxAllocatedStorage", gib));
        xml.text("StorageType", "gp3");
        group_status(&mut xml, &shown.group, shown.apply);
        self.own.write_pending(&mut xml);
        xml.value("MultiAZ", self.made.multi_az);
        self.made.replica_of.iter().for_each(|id| xml.text("ReadReplicaSourceDBInstanceIdentifier", id));
        xml.within("ReadReplicaDBInstanceIdentifiers", |xml| {
            self.replicas.iter().for_each(|id| xml.text("ReadReplicaDBInstanceIdentifier", id));
        });
        xml.text("IAMDatabaseAuthenticationEnabled", "false");
        xml.text("DBInstanceArn", &arn("db", &self.made.id));
        xml
    }
}

impl ClusterState {
    fn describe(&self) -> Xml {
        let mut xml = Xml::default();
        xml.text("DBClusterIdentifier", &self.made.id);
        let shown = self.own.shown();
        xml.text("DBClusterParameterGroup", &shown.group);
        xml.text("Status", shown.status);
        xml.text("Endpoint", "127.0.0.1");
        xml.text(
            "ReaderEndpoint",
            &format!("{}.cluster-ro-sim.{}.rds.amazonaws.com", self.made.id, crate::world::REGION),
        );
        xml.value("Port", self.own.server.port());
        xml.text("Engine", self.engine());
        xml.text("EngineVersion", &self.version);
        xml.text("EngineMode", self.made.engine_mode);
        xml.value("MultiAZ", true);
        xml.text("MasterUsername", crate::server::MASTER);
        xml.within("DBClusterMembers", |xml| {
            for (n, id) in self.members().iter().enumerate() {
                xml.within("DBClusterMember", |xml| {
                    xml.text("DBInstanceIdentifier", id);
                    xml.value("IsClusterWriter", n == 0);
                    let status = if n == 0 || !self.made.aurora { shown.apply } else { "in-sync" };
                    xml.text("DBClusterParameterGroupStatus", status);
                });
            }
        });
        if let Some(minimum) = self.made.serverless_minimum {
            xml.within("ServerlessV2ScalingConfiguration", |xml| {
                xml.value("MinCapacity", minimum);
                xml.text("MaxCapacity", "16");
            });
        }
        if !self.made.aurora {
            xml.text("AllocatedStorage", "100");
            xml.text("DBClusterInstanceClass", "db.m6gd.large");
        }
        self.own.write_pending(&mut xml);
        xml.text("DBClusterArn", &arn("cluster", &self.made.id));
        xml
    }

    fn member(&self, id: &str, is_writer: bool) -> Xml {
        let mut xml = Xml::default();
        xml.text("DBInstanceIdentifier", id);
        xml.text(
            "DBInstanceClass",
            if self.made.serverless_minimum.is_some() { "db.serverless" } else { "db.r6g.large" },
        );
        xml.text("Engine", self.engine());
        xml.text("EngineVersion", &self.version);
        xml.text("DBInstanceStatus", if is_writer { self.own.shown().status } else { "available" });
        let reader = format!("{id}.sim.{}.rds.amazonaws.com", crate::world::REGION);
        endpoint(&mut xml, if is_writer { "127.0.0.1" } else { &reader }, self.own.server.port());
        let default = format!("default.{}", groups::family(self.engine(), self.made.major));
        let tuned = is_writer && !self.made.writer_values.is_empty();
        group_status(&mut xml, if tuned { WRITER_GROUP } else { &default }, "in-sync");
        xml.text("DBClusterIdentifier", &self.made.id);
        xml.text("DBInstanceArn", &arn("db", id));
        xml
    }
}

fn empty(list: &str) -> Xml {
    let mut xml = Xml::default();
    xml.within(list, |_| ());
    xml
}

fn paged(call: &Call, all: Vec<Xml>, list: &str, item: &str) -> Result<Xml, Refusal> {
    let (page, marker) = call.page(all)?;
    let mut xml = Xml::default();
    xml.list(list, item, page, Xml::append);
    marker.iter().for_each(|marker| xml.text("Marker", marker));
    Ok(xml)
}
