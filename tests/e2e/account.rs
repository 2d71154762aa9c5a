//! Somebody with a simulated AWS account: `provision` in front of it, and what it did.

use std::{fs, path::PathBuf};

use rds_sim::{Call, Cluster, Instance, Options, Simulator};
use tempfile::TempDir;

use crate::replicator::{Done, Replicator};

/// The three ways in which servers and groups belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topology {
    Instance,
    Aurora,
    MultiAzCluster,
}

pub const TOPOLOGIES: [Topology; 3] = [Topology::Instance, Topology::Aurora, Topology::MultiAzCluster];

impl Topology {
    /// The call that restarts it.
    pub fn reboot(self) -> &'static str {
        match self {
            Self::Instance | Self::Aurora => "RebootDBInstance",
            Self::MultiAzCluster => "RebootDBCluster",
        }
    }

    /// What its groups are called in calls.
    pub fn word(self) -> &'static str {
        match self {
            Self::Instance => "DB",
            Self::Aurora | Self::MultiAzCluster => "DBCluster",
        }
    }
}

pub struct Account {
    pub simulator: Simulator,
    directory: TempDir,
}

impl Account {
    /// With nothing in it.
    pub async fn new() -> Self {
        Self::of(Options::default()).await
    }

    pub async fn of(options: Options) -> Self {
        let simulator = Simulator::start(options).await.unwrap();
        Self { simulator, directory: tempfile::tempdir().unwrap() }
    }

    /// With a database `shop` on its default group, without a server behind it.
    pub async fn with(topology: Topology) -> Self {
        let account = Self::new().await;
        account.declare(topology, None);
        account
    }

    /// Adds a database `shop`, perhaps with a group of somebody's own.
    pub fn declare(&self, topology: Topology, group: Option<&str>) {
        match topology {
            Topology::Instance => {
                let made = Instance::new("shop").major(16);
                self.simulator.declare_instance(
                    group.map_or(made.clone(), |name| made.group(name).parameter("work_mem", "65536")),
                );
            }
            Topology::Aurora | Topology::MultiAzCluster => {
                let made =
                    if topology == Topology::Aurora { Cluster::aurora("shop") } else { Cluster::multi_az("shop") };
                self.simulator.declare_cluster(
                    group.map_or(made.clone(), |name| made.group(name).parameter("work_mem", "65536")),
                );
            }
        }
    }

    pub fn configure(&self, source: &str, target: &str) -> PathBuf {
        let path = self.directory.path().join("pipeline.yaml");
        let text = format!(
            "source: {{postgres: {{url: '{source}', mode: snapshot_and_replication}}}}\ntarget: {{postgres: {{url: '{target}'}}}}\n"
        );
        fs::write(&path, text).unwrap();
        path
    }

    /// What a program needs to be in this account.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL_RDS", self.simulator.endpoint()),
            ("AWS_ENDPOINT_URL_CLOUDWATCH", self.simulator.endpoint()),
            ("AWS_REGION", "eu-west-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "AKIATEST".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ("AWS_MAX_ATTEMPTS", "3".to_owned()),
        ]
    }

    /// The same with something else in one variable; taken out when there is nothing.
    pub fn environment_but(&self, name: &'static str, value: Option<&str>) -> Vec<(&'static str, String)> {
        let mut environment = self.environment();
        environment.retain(|(found, _)| *found != name);
        environment.extend(value.map(|value| (name, value.to_owned())));
        environment
    }

    pub fn start(&self, arguments: &[&str]) -> Replicator {
        Replicator::start_in(&[&["provision"], arguments].concat(), self.environment())
    }

    pub async fn provision(&self, arguments: &[&str]) -> Done {
        self.start(arguments).done().await
    }

    /// Calls that change something.
    pub fn changes(&self) -> Vec<String> {
        self.simulator.calls().into_iter().filter(is_change).map(|call| call.action).collect()
    }

    /// How often something was called.
    pub fn count(&self, action: &str) -> usize {
        self.simulator.calls().iter().filter(|call| call.action == action).count()
    }

    /// `shop` is where `apply` brings it, after one reboot, with one group more than AWS's own.
    #[track_caller]
    pub fn assert_ready(&self, how: &str) {
        let shop = self.simulator.seen("shop");
        assert!(shop.group.starts_with("pgstream-shop-"), "{how}: {shop:?}");
        assert_eq!((shop.status, shop.apply_status), ("available", "in-sync"), "{how}");
        assert_eq!(shop.in_force.get("rds.logical_replication").map(String::as_str), Some("1"), "{how}: {shop:?}");
        assert_eq!(shop.reboots, 1, "{how}");
        let groups = self.simulator.groups();
        let made: Vec<_> = groups.iter().filter(|group| group.name.starts_with("pgstream-")).collect();
        assert_eq!(made.len(), 1, "{how}: {made:?}");
        assert_eq!(made[0].name, shop.group, "{how}");
        assert!(made[0].tags["pgstream:previous-group"].starts_with("default."), "{how}: {made:?}");
    }

    /// `shop` is as it was before, and nothing is left over.
    #[track_caller]
    pub fn assert_as_before(&self, how: &str) {
        let shop = self.simulator.seen("shop");
        assert!(shop.group.starts_with("default.") && shop.in_force.is_empty(), "{how}: {shop:?}");
        assert_eq!((shop.status, shop.apply_status), ("available", "in-sync"), "{how}");
        assert!(self.simulator.groups().iter().all(|group| group.name.starts_with("default.")), "{how}");
    }
}

fn is_change(call: &Call) -> bool {
    !["Describe", "List", "Get"].iter().any(|word| call.action.starts_with(word))
}
