//! What is told of instances, clusters and what is going on with them.

use crate::{
    error::Refusal,
    groups,
    made::WRITER_GROUP,
    request::Call,
    world::{Attachment, ClusterState, InstanceState, State, arn},
    xml::Xml,
};

impl State {
    pub(crate) fn describe_instances(&self, call: &Call) -> Result<Xml, Refusal> {
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

    pub(crate) fn one_instance(&self, id: &str) -> Result<Xml, Refusal> {
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

    pub(crate) fn describe_clusters(&self, call: &Call) -> Result<Xml, Refusal> {
        let wanted = call.get("DBClusterIdentifier").map(|id| id.rsplit(':').next().unwrap_or(id).to_lowercase());
        let is_wanted = |cluster: &&ClusterState| wanted.as_deref().is_none_or(|wanted| wanted == cluster.made.id);
        let all: Vec<Xml> = self.clusters.values().filter(is_wanted).map(ClusterState::describe).collect();
        match wanted {
            Some(wanted) if all.is_empty() => Err(Refusal::cluster_missing(&wanted)),
            _ => paged(call, all, "DBClusters", "DBCluster"),
        }
    }

    pub(crate) fn one_cluster(&self, id: &str) -> Result<Xml, Refusal> {
        let found = self.clusters.get(id).ok_or_else(|| Refusal::cluster_missing(id))?;
        let mut xml = Xml::default();
        xml.within("DBCluster", |xml| xml.append(found.describe()));
        Ok(xml)
    }

    /// Versions of the servers that are there.
    pub(crate) fn describe_versions(&self, call: &Call) -> Result<Xml, Refusal> {
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

    pub(crate) fn describe_blue_green(&self, call: &Call) -> Result<Xml, Refusal> {
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

    pub(crate) fn describe_maintenance(&self, call: &Call) -> Result<Xml, Refusal> {
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
    pub(crate) fn free_storage(&self, call: &Call) -> Result<Xml, Refusal> {
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
}

impl Attachment {
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

pub(crate) fn empty(list: &str) -> Xml {
    let mut xml = Xml::default();
    xml.within(list, |_| ());
    xml
}

pub(crate) fn paged(call: &Call, all: Vec<Xml>, list: &str, item: &str) -> Result<Xml, Refusal> {
    let (page, marker) = call.page(all)?;
    let mut xml = Xml::default();
    xml.list(list, item, page, Xml::append);
    marker.iter().for_each(|marker| xml.text("Marker", marker));
    Ok(xml)
}
