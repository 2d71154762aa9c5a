//! What a database on RDS is like: plain values, read by [`super::inspect`], judged by [`super::plan`].

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

/// Which end of the pipeline a database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Changes are read from it.
    Source,
    /// Changes are written to it.
    Target,
}

/// How servers and groups belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Topology {
    /// One instance, perhaps with a standby: its own parameter group, rebooted by itself.
    Instance,
    /// Shared storage with a writer and readers: the cluster's group, the writer is rebooted.
    Aurora,
    /// Three instances with their own storage: the cluster's group, the cluster is rebooted.
    MultiAzCluster,
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Instance => "RDS instance",
            Self::Aurora => "Aurora cluster",
            Self::MultiAzCluster => "Multi-AZ DB cluster",
        })
    }
}

/// What a parameter group is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupKind {
    /// A DB parameter group.
    Instance,
    /// A DB cluster parameter group.
    Cluster,
}

impl Topology {
    /// The kind of group that holds the parameters of replication.
    #[must_use]
    pub fn group_kind(self) -> GroupKind {
        match self {
            Self::Instance => GroupKind::Instance,
            Self::Aurora | Self::MultiAzCluster => GroupKind::Cluster,
        }
    }
}

/// A parameter of a group, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Parameter {
    /// The value; none when the engine decides.
    pub value: Option<String>,
    /// `user`, `system` or `engine-default`.
    pub source: String,
    /// Takes effect at a restart only.
    pub is_static: bool,
    /// AWS lets it be set.
    pub modifiable: bool,
}

/// Parameters by name.
pub type Parameters = BTreeMap<String, Parameter>;

/// Whether the servers run with what the attached group says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ApplyStatus {
    /// They do.
    InSync,
    /// Being carried over.
    Applying,
    /// After the next reboot.
    PendingReboot,
    /// After the next upgrade.
    PendingDatabaseUpgrade,
    /// A value was not accepted.
    FailedToApply,
    /// A word that this version does not know.
    #[serde(untagged)]
    Other(String),
}

impl ApplyStatus {
    /// From the word of the API.
    #[must_use]
    pub fn parse(word: &str) -> Self {
        match word {
            "in-sync" => Self::InSync,
            "applying" => Self::Applying,
            "pending-reboot" => Self::PendingReboot,
            "pending-database-upgrade" => Self::PendingDatabaseUpgrade,
            "failed-to-apply" => Self::FailedToApply,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl fmt::Display for ApplyStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InSync => "in-sync",
            Self::Applying => "applying",
            Self::PendingReboot => "pending-reboot",
            Self::PendingDatabaseUpgrade => "pending-database-upgrade",
            Self::FailedToApply => "failed-to-apply",
            Self::Other(word) => word,
        })
    }
}

/// The attached group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attached {
    /// Its name.
    pub name: String,
    /// Whether the servers run with it.
    pub status: ApplyStatus,
    /// What else uses it.
    pub other_users: Vec<String>,
    /// The parameters that matter here.
    pub parameters: Parameters,
    /// Names of what somebody set in it.
    pub user_set: Vec<String>,
}

impl Attached {
    /// A group of AWS's own, which can be neither changed nor copied.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.name.starts_with("default.")
    }
}

/// The group that bears the name that this program gives, whether attached or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Own {
    /// Its tags say that this program made it for this database.
    pub ours: bool,
    /// What was attached before, from its tags.
    pub previous: Option<String>,
    /// What else uses it.
    pub other_users: Vec<String>,
    /// The parameters that matter here.
    pub parameters: Parameters,
}

/// What the server itself says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerFacts {
    /// `replica` or `logical`.
    pub wal_level: String,
    /// `rds.logical_replication`, where the server has it.
    pub rds_logical_replication: Option<String>,
    /// Standbys cannot be replicated from.
    pub in_recovery: bool,
    /// Slots that exist.
    pub slots_used: i64,
    /// Logical ones among them, by name.
    pub logical_slots: Vec<String>,
    /// `max_replication_slots`.
    pub slots_max: i64,
    /// WAL senders that run.
    pub senders_used: i64,
    /// `max_wal_senders`.
    pub senders_max: i64,
    /// Client connections that are open.
    pub connections_used: i64,
    /// `max_connections`.
    pub connections_max: i64,
    /// `wal_sender_timeout`, as shown.
    pub wal_sender_timeout: String,
    /// `max_slot_wal_keep_size`, as shown; from version 13.
    pub max_slot_wal_keep_size: Option<String>,
    /// Bytes of all databases.
    pub database_bytes: i64,
}

/// Room for data.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Storage {
    /// `gp3`, `aurora`, …
    pub kind: String,
    /// GiB that are there; Aurora grows by itself.
    pub allocated_gib: Option<i32>,
    /// GiB that it may grow to.
    pub maximum_gib: Option<i32>,
    /// What of it was free, lately.
    pub free: Option<Free>,
    /// Why that is not known.
    pub free_problem: Option<String>,
}

/// Free storage, as CloudWatch last measured it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Free {
    /// Bytes.
    pub bytes: u64,
    /// When, as CloudWatch writes it.
    pub at: String,
}

/// What a pipeline asks of its target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Needs {
    /// Extensions that are on the source and not here.
    pub missing_extensions: Vec<String>,
    /// Bytes of the source's database that are not here.
    pub bytes: Option<i64>,
    /// Sessions that may be opened.
    pub sessions: Option<i64>,
    /// Why the rest is not known: one of the servers could not be asked from here.
    pub problem: Option<String>,
}

/// A database as it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspection {
    /// Which end.
    pub side: Side,
    /// Its region.
    pub region: String,
    /// Identifier of the instance, or of the cluster.
    pub id: String,
    /// Its ARN.
    pub arn: String,
    /// What kind of thing it is.
    pub topology: Topology,
    /// `postgres` or `aurora-postgresql`; another one is refused.
    pub engine: String,
    /// `16.14`.
    pub version: String,
    /// Family of its parameter groups.
    pub family: String,
    /// Status; of cluster and writer, the one that is not `available`.
    pub status: String,
    /// Where it answers.
    pub endpoint: Option<(String, u16)>,
    /// The member that writes, for clusters.
    pub writer: Option<String>,
    /// The members that do not.
    pub readers: Vec<String>,
    /// Class of the instance, or of the writer.
    pub class: String,
    /// A standby elsewhere takes over.
    pub multi_az: bool,
    /// `serverless` for Aurora Serverless v1.
    pub engine_mode: Option<String>,
    /// Least capacity of Serverless v2.
    pub serverless_v2_minimum: Option<f64>,
    /// What it is a replica of.
    pub replica_of: Option<String>,
    /// Its read replicas.
    pub replicas: Vec<String>,
    /// The attached group.
    pub attached: Attached,
    /// Name of the group that this program makes.
    pub own_name: String,
    /// That group, when there is one.
    pub own: Option<Own>,
    /// What the writer's instance group sets over the cluster's.
    pub overridden: BTreeMap<String, String>,
    /// Changes that wait for the next `ApplyImmediately` or maintenance window.
    pub pending: Vec<String>,
    /// A running blue/green deployment that it is part of.
    pub blue_green: Option<String>,
    /// Maintenance that is due.
    pub maintenance: Vec<String>,
    /// Room.
    pub storage: Storage,
    /// What the server says, when it was asked.
    pub server: Option<ServerFacts>,
    /// Why the server could not be asked.
    pub server_problem: Option<String>,
    /// What is asked of it, when source and target could be compared.
    pub needs: Needs,
}

impl Inspection {
    /// The group that this program made is attached.
    #[must_use]
    pub fn runs_on_own(&self) -> bool {
        self.attached.name == self.own_name && self.own.as_ref().is_some_and(|own| own.ours)
    }

    /// Nothing is under way.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.status == "available" && self.attached.status != ApplyStatus::Applying
    }

    /// Something is under way that ends by itself.
    #[must_use]
    pub fn is_in_transition(&self) -> bool {
        !self.is_settled() && !self.is_stuck()
    }

    /// A status that only somebody's action ends.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        let word = self.status.as_str();
        matches!(word, "stopped" | "failed" | "storage-full" | "restore-error" | "deleting" | "inactive")
            || ["incompatible-", "inaccessible-", "insufficient-"].iter().any(|start| word.starts_with(start))
    }
}

/// Whether a value of `rds.logical_replication` means on.
#[must_use]
pub fn is_on(value: Option<&str>) -> bool {
    matches!(value, Some("1" | "on" | "true"))
}

/// The name that this program gives to the group of a database: letters, digits and single hyphens.
#[must_use]
pub fn own_group_name(id: &str, family: &str) -> String {
    let mut name = String::new();
    for letter in format!("pgstream-{id}-{family}").to_lowercase().chars() {
        match letter.is_ascii_alphanumeric() {
            true => name.push(letter),
            false if !name.ends_with('-') => name.push('-'),
            false => {}
        }
    }
    name.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_groups_are_such_as_aws_takes() {
        assert_eq!(own_group_name("Shop", "postgres16"), "pgstream-shop-postgres16");
        assert_eq!(own_group_name("a--b", "aurora-postgresql16"), "pgstream-a-b-aurora-postgresql16");
    }
}
