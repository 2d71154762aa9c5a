//! From what is to what should be, and the calls between.
//!
//! ```text
//!  Inspection ──> blockers  (each with its fix; any of them stops apply)
//!             ├─> wishes    (what a parameter should be, and why)
//!             └─> steps     create or copy a group ─> set ─> attach ─> reboot
//! ```
//!
//! The plan is a function of what was found and nothing else. `apply` carries out the first step, looks again, and plans
//! again, until no step is left: a run that was killed between any two calls is continued by the next one.
//!
//! Only a group that this program made is ever changed; another one is copied. So `rollback` is attaching what was there before.

use serde::Serialize;

use super::model::{ApplyStatus, GroupKind, Inspection, Parameters, Side, Topology, is_on};

/// At most so many parameters fit into one Modify call.
const PARAMETERS_PER_CALL: usize = 20;

/// Slots and senders beyond those in use, when there are too few: room for a second pipeline and a rebuilt slot.
const HEADROOM: i64 = 5;

/// Senders end a silent connection after this many milliseconds at the least, or a slow moment cuts the stream.
const SHORTEST_SENDER_TIMEOUT: i64 = 15_000;

/// Every parameter that is looked at.
pub const PARAMETERS: &[&str] = &[
    "rds.logical_replication",
    "max_replication_slots",
    "max_wal_senders",
    "wal_sender_timeout",
    "max_slot_wal_keep_size",
    "rds.force_ssl",
    "rds.allowed_extensions",
    "rds.extensions",
    "max_connections",
];

/// What the user allows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Choices {
    /// Our group may be changed though something else uses it, too.
    pub change_shared_group: bool,
}

/// Something that only the user can mend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Blocker {
    /// Stable word.
    pub code: &'static str,
    /// What is in the way.
    pub message: String,
    /// What to do.
    pub fix: String,
}

/// What a parameter should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Wish {
    /// The parameter.
    pub parameter: &'static str,
    /// What it is.
    pub is: Option<String>,
    /// `user`, `system`, `engine-default`.
    pub source: String,
    /// What it should be.
    pub should: Option<String>,
    /// Why.
    pub why: &'static str,
}

/// A value to be set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The parameter.
    pub parameter: &'static str,
    /// Its new value.
    pub value: String,
    /// Takes effect at a restart only.
    pub is_static: bool,
}

impl Change {
    /// When it takes effect, in the words of the API.
    fn method(&self) -> &'static str {
        match self.is_static {
            true => "pending-reboot",
            false => "immediate",
        }
    }
}

/// One call that changes something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// Make an empty group.
    CreateGroup {
        /// Its name.
        group: String,
        /// Its family.
        family: String,
        /// What is attached now; remembered in a tag.
        previous: String,
    },
    /// Make a group with all that somebody set in the attached one.
    CopyGroup {
        /// Its name.
        group: String,
        /// What is copied; remembered in a tag.
        previous: String,
    },
    /// Set parameters of the group.
    SetParameters {
        /// Which group.
        group: String,
        /// What is set.
        changes: Vec<Change>,
    },
    /// Make the database use the group.
    Attach {
        /// Which group.
        group: String,
    },
    /// Restart, without failover.
    Reboot {
        /// Instance, or the whole cluster.
        id: String,
    },
    /// Delete a group that this program made.
    DeleteGroup {
        /// Which one.
        group: String,
    },
}

/// What apply would do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// What is.
    pub inspection: Inspection,
    /// What should be.
    pub wishes: Vec<Wish>,
    /// What is in the way.
    pub blockers: Vec<Blocker>,
    /// What is done, in order.
    pub steps: Vec<Step>,
    /// The same as calls of the API.
    pub calls: Vec<String>,
    /// Costs, downtime, advice.
    pub notes: Vec<String>,
}

impl Plan {
    /// Nothing to do and nothing in the way.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.steps.is_empty() && self.blockers.is_empty() && !self.inspection.is_in_transition()
    }

    /// Whether apply interrupts the database.
    #[must_use]
    pub fn reboots(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Reboot { .. }))
    }

    /// Plans what brings a database to where it should be.
    #[must_use]
    pub fn make(inspection: Inspection, choices: Choices) -> Self {
        let kind = inspection.topology.group_kind();
        let wishes = wishes(&inspection);
        let steps = steps(&inspection);
        let blockers = blockers(&inspection, &steps, choices);
        let calls = steps.iter().map(|step| step.call(&inspection, kind)).collect();
        let notes = notes(&inspection, &steps);
        Self { wishes, steps, blockers, calls, notes, inspection }
    }

    /// Plans what puts back the group that was there before.
    #[must_use]
    pub fn back(inspection: Inspection) -> Self {
        let kind = inspection.topology.group_kind();
        let steps = steps_back(&inspection);
        let mut blockers = Vec::new();
        if !steps.is_empty() {
            blockers.extend(standing(&inspection));
            blockers.extend(slots_in_the_way(&inspection));
            blockers.extend(sharing(&inspection));
        }
        if steps.iter().any(|step| matches!(step, Step::Attach { .. })) {
            blockers.extend(pending_changes(&inspection));
        }
        let calls = steps.iter().map(|step| step.call(&inspection, kind)).collect();
        let mut notes = Vec::new();
        if steps.iter().any(|step| matches!(step, Step::Reboot { .. })) {
            notes.push(downtime(&inspection));
            notes.push(
                "after the reboot wal_level is what the previous group says: replication from here ends".to_owned(),
            );
        }
        Self { wishes: Vec::new(), steps, blockers, calls, notes, inspection }
    }
}

fn wishes(inspection: &Inspection) -> Vec<Wish> {
    let changes = changes(inspection, effective(inspection));
    PARAMETERS
        .iter()
        .filter_map(|name| {
            let parameter = effective(inspection).get(*name)?;
            let should = changes.iter().find(|change| change.parameter == *name).map(|change| change.value.clone());
            let source = parameter.source.clone();
            Some(Wish { parameter: name, is: parameter.value.clone(), source, should, why: why(name, inspection.side) })
        })
        .collect()
}

/// The parameters that the database has, or gets with what is attached.
fn effective(inspection: &Inspection) -> &Parameters {
    &inspection.attached.parameters
}

fn why(parameter: &str, side: Side) -> &'static str {
    match (parameter, side) {
        ("rds.logical_replication", Side::Source) => "turns on wal_level=logical, without which no slot can be made",
        ("rds.logical_replication", Side::Target) => "not needed on a target",
        ("max_replication_slots", _) => "one free slot is needed",
        ("max_wal_senders", _) => "one free WAL sender is needed",
        ("wal_sender_timeout", _) => "below 15 s a slow moment cuts the stream",
        ("max_slot_wal_keep_size", _) => {
            "-1 keeps all WAL for a stalled slot: watch the disk, or set a limit and lose the slot"
        }
        ("rds.force_ssl", _) => "1 refuses connections without TLS; sessions here use verify-full",
        ("rds.allowed_extensions", _) => "extensions of the source must be allowed",
        ("rds.extensions", _) => "extensions that this version has",
        _ => "sessions of the pipeline need room",
    }
}

/// What is not as it should be among these parameters.
fn changes(inspection: &Inspection, parameters: &Parameters) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut wish = |parameter: &'static str, value: String| {
        let is_static = parameters.get(parameter).is_none_or(|found| found.is_static);
        changes.push(Change { parameter, value, is_static });
    };
    let value = |name: &str| parameters.get(name).and_then(|parameter| parameter.value.as_deref());
    if inspection.side == Side::Source {
        if !is_on(value("rds.logical_replication")) {
            wish("rds.logical_replication", "1".to_owned());
        }
        let (slots, senders) =
            inspection.server.as_ref().map_or((0, 0), |facts| (facts.slots_used, facts.senders_used));
        for (name, used) in [("max_replication_slots", slots), ("max_wal_senders", senders)] {
            // A formula, or nothing: the engine's choice, which has room.
            if value(name).and_then(|text| text.parse::<i64>().ok()).is_some_and(|most| most <= used) {
                wish(name, (used + HEADROOM).to_string());
            }
        }
    }
    let allowed = value("rds.allowed_extensions").filter(|list| !list.is_empty() && *list != "*");
    if let Some(allowed) = allowed {
        let missing = missing_extensions(inspection, allowed);
        if !missing.is_empty() {
            wish("rds.allowed_extensions", format!("{allowed},{}", missing.join(",")));
        }
    }
    changes
}

fn missing_extensions(inspection: &Inspection, allowed: &str) -> Vec<String> {
    let is_allowed = |name: &str| allowed.split(',').any(|one| one.trim() == name);
    inspection.missing_extensions.iter().filter(|name| !is_allowed(name)).cloned().collect()
}

fn steps(inspection: &Inspection) -> Vec<Step> {
    let mut steps = Vec::new();
    let attached_changes = changes(inspection, &inspection.attached.parameters);
    let group = inspection.own_name.clone();
    let runs_on_own = inspection.attached.name == group;
    let mut reboot = waits_for_reboot(inspection) || runs_without_logical(inspection);
    if !attached_changes.is_empty() {
        let set = match &inspection.own {
            Some(own) => changes(inspection, &own.parameters),
            None => {
                let previous = inspection.attached.name.clone();
                steps.push(match inspection.attached.is_default() {
                    true => Step::CreateGroup { group: group.clone(), family: inspection.family.clone(), previous },
                    false => Step::CopyGroup { group: group.clone(), previous },
                });
                attached_changes
            }
        };
        for chunk in set.chunks(PARAMETERS_PER_CALL) {
            reboot |= chunk.iter().any(|change| change.is_static);
            steps.push(Step::SetParameters { group: group.clone(), changes: chunk.to_vec() });
        }
        if !runs_on_own {
            steps.push(Step::Attach { group });
            reboot = true;
        }
    }
    if reboot {
        steps.push(Step::Reboot { id: rebooted(inspection) });
    }
    steps
}

/// A reboot is due for a value that matters here. In somebody else's group it may be due for another one.
fn waits_for_reboot(inspection: &Inspection) -> bool {
    let logical = inspection.server.as_ref().is_some_and(|facts| facts.wal_level == "logical");
    let matters = inspection.attached.name == inspection.own_name || (inspection.side == Side::Source && !logical);
    matters && inspection.attached.status == ApplyStatus::PendingReboot
}

/// The server still runs with what was before, though the group and its status say otherwise.
fn runs_without_logical(inspection: &Inspection) -> bool {
    let wanted = inspection.attached.parameters.get("rds.logical_replication");
    inspection.side == Side::Source
        && is_on(wanted.and_then(|parameter| parameter.value.as_deref()))
        && inspection.server.as_ref().is_some_and(|facts| facts.wal_level != "logical")
}

/// What is rebooted: Aurora's writer, a Multi-AZ DB cluster as a whole.
fn rebooted(inspection: &Inspection) -> String {
    match inspection.topology {
        Topology::Instance | Topology::MultiAzCluster => inspection.id.clone(),
        Topology::Aurora => inspection.writer.clone().unwrap_or_else(|| inspection.id.clone()),
    }
}

fn steps_back(inspection: &Inspection) -> Vec<Step> {
    let Some(own) = inspection.own.as_ref().filter(|own| own.ours) else { return Vec::new() };
    let mut steps = Vec::new();
    let attached = inspection.attached.name == inspection.own_name;
    if attached {
        let default = format!("default.{}", inspection.family);
        steps.push(Step::Attach { group: own.previous.clone().unwrap_or(default) });
    }
    if attached || inspection.attached.status == ApplyStatus::PendingReboot {
        steps.push(Step::Reboot { id: rebooted(inspection) });
    }
    steps.push(Step::DeleteGroup { group: inspection.own_name.clone() });
    steps
}

fn blocker(code: &'static str, message: impl Into<String>, fix: impl Into<String>) -> Blocker {
    Blocker { code, message: message.into(), fix: fix.into() }
}

/// What is in the way of making it ready.
fn blockers(inspection: &Inspection, steps: &[Step], choices: Choices) -> Vec<Blocker> {
    let mut found = kind_of_database(inspection);
    found.extend(standing(inspection));
    for (parameter, value) in &inspection.overridden {
        found.push(blocker(
            "overridden",
            format!(
                "the writer's instance parameter group sets {parameter}={value}, which wins over the cluster's group"
            ),
            format!("reset {parameter} in the instance parameter group of the writer"),
        ));
    }
    match inspection.attached.status {
        ApplyStatus::FailedToApply => found.push(blocker(
            "failed_to_apply",
            format!("values of parameter group {} could not be applied", inspection.attached.name),
            "see the events of the database for the parameter, correct it in the group, then run this again",
        )),
        ApplyStatus::PendingDatabaseUpgrade => found.push(blocker(
            "pending_upgrade",
            format!("parameter group {} waits for an upgrade of the engine", inspection.attached.name),
            "let the upgrade finish first, or cancel it",
        )),
        _ => {}
    }
    if let Some(own) = inspection.own.as_ref().filter(|_| steps.iter().any(|step| !matches!(step, Step::Reboot { .. })))
    {
        if !own.ours {
            found.push(blocker(
                "group_taken",
                format!(
                    "parameter group {} exists and was not made by this program for this database",
                    inspection.own_name
                ),
                "delete or rename it, or set the parameters in the attached group by hand",
            ));
        } else if !choices.change_shared_group && steps.iter().any(|step| matches!(step, Step::SetParameters { .. })) {
            found.extend(sharing(inspection));
        }
    }
    if steps.iter().any(|step| matches!(step, Step::Attach { .. })) {
        found.extend(pending_changes(inspection));
    }
    found.extend(unmodifiable(inspection, steps));
    found.extend(unavailable_extensions(inspection));
    found
}

/// Kinds of databases that cannot do it at all.
fn kind_of_database(inspection: &Inspection) -> Vec<Blocker> {
    let mut found = Vec::new();
    if !matches!(inspection.engine.as_str(), "postgres" | "aurora-postgresql") {
        let message = format!("{} runs {}", inspection.id, inspection.engine);
        found.push(blocker("engine", message, "name a database of RDS for PostgreSQL or Aurora PostgreSQL"));
    }
    if let Some(primary) = &inspection.replica_of {
        let message = format!("{} is a read replica of {primary}", inspection.id);
        found.push(blocker("replica", message, format!("name {primary}, or promote the replica first")));
    }
    if inspection.engine_mode.as_deref() == Some("serverless") {
        found.push(blocker(
            "serverless_v1",
            "Aurora Serverless v1 has no logical replication",
            "convert the cluster to Serverless v2 or provisioned instances first",
        ));
    }
    if inspection.topology == Topology::MultiAzCluster
        && inspection.side == Side::Source
        && too_old(&inspection.version)
    {
        found.push(blocker(
            "version",
            format!(
                "Multi-AZ DB clusters have logical replication from 14.8 and 15.3 on; this is {}",
                inspection.version
            ),
            "upgrade the engine first",
        ));
    }
    if inspection.topology == Topology::Aurora && inspection.writer.is_none() {
        let message = format!("cluster {} has no writer", inspection.id);
        found.push(blocker("no_writer", message, "add an instance to the cluster"));
    }
    found
}

/// Before 14.8 and 15.3.
fn too_old(version: &str) -> bool {
    let mut numbers = version.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    match major {
        ..=13 => true,
        14 => minor < 8,
        15 => minor < 3,
        _ => false,
    }
}

/// A state in which nothing should be changed.
fn standing(inspection: &Inspection) -> Vec<Blocker> {
    let mut found = Vec::new();
    if inspection.is_stuck() {
        let fix = match inspection.status.as_str() {
            "stopped" => format!(
                "start it (`aws rds start-db-instance`, or start-db-cluster) and wait for available: {}",
                inspection.id
            ),
            "storage-full" => "raise its storage; if a slot that nobody reads keeps the WAL, drop that slot".to_owned(),
            _ => "see the events of the database in the RDS console".to_owned(),
        };
        found.push(blocker("status", format!("{} is {}", inspection.id, inspection.status), fix));
    }
    if let Some(deployment) = &inspection.blue_green {
        found.push(blocker(
            "blue_green",
            format!("a blue/green deployment is under way: {deployment}"),
            "switch over or delete the deployment first; the green side is another system, a slot does not move to it",
        ));
    }
    found
}

fn sharing(inspection: &Inspection) -> Option<Blocker> {
    let own = inspection.own.as_ref()?;
    let others = match own.other_users.is_empty() {
        true => return None,
        false => own.other_users.join(", "),
    };
    let message = format!("parameter group {} is also used by {others}", inspection.own_name);
    Some(blocker("shared_group", message, "give those a group of their own, or allow it with --change-shared-group"))
}

fn pending_changes(inspection: &Inspection) -> Option<Blocker> {
    match inspection.pending.is_empty() {
        true => None,
        false => Some(blocker(
            "pending_changes",
            format!(
                "other changes wait for the maintenance window and would be made at once: {}",
                inspection.pending.join(", ")
            ),
            "apply or cancel them first: attaching a group applies all of them",
        )),
    }
}

fn unmodifiable(inspection: &Inspection, steps: &[Step]) -> Vec<Blocker> {
    let parameters = inspection.own.as_ref().map_or(&inspection.attached.parameters, |own| &own.parameters);
    let changes = steps.iter().filter_map(|step| match step {
        Step::SetParameters { changes, .. } => Some(changes),
        _ => None,
    });
    changes
        .flatten()
        .filter(|change| parameters.get(change.parameter).is_none_or(|found| !found.modifiable))
        .map(|change| {
            let message = format!("{} cannot be set in family {}", change.parameter, inspection.family);
            blocker(
                "not_modifiable",
                message,
                "this engine or version does not support it: upgrade, or use another database",
            )
        })
        .collect()
}

fn unavailable_extensions(inspection: &Inspection) -> Vec<Blocker> {
    let list = inspection.attached.parameters.get("rds.extensions").and_then(|parameter| parameter.value.as_deref());
    let Some(available) = list.filter(|list| !list.is_empty()) else { return Vec::new() };
    let is_available = |name: &str| available.split(',').any(|one| one.trim() == name);
    inspection
        .missing_extensions
        .iter()
        .filter(|name| !is_available(name))
        .map(|name| {
            let message = format!(
                "extension {name} of the source is not available on {} {}",
                inspection.engine, inspection.version
            );
            blocker("extension", message, "choose a version that has it, or leave out what needs it")
        })
        .collect()
}

fn slots_in_the_way(inspection: &Inspection) -> Option<Blocker> {
    let slots = inspection.server.as_ref().map(|facts| &facts.logical_slots).filter(|slots| !slots.is_empty())?;
    let message = format!("logical replication slots exist: {}", slots.join(", "));
    Some(blocker(
        "slots_exist",
        message,
        "a server does not start without wal_level=logical while it has them: `pgstream-aws destroy` first",
    ))
}

fn downtime(inspection: &Inspection) -> String {
    let what = match inspection.topology {
        Topology::Instance if inspection.multi_az => "the instance, without failover",
        Topology::Instance => "the instance",
        Topology::Aurora => "the writer; readers may restart with it",
        Topology::MultiAzCluster => "all members of the cluster",
    };
    format!("downtime: a reboot of {what}, usually 10 s to a few minutes; all connections are cut")
}

fn notes(inspection: &Inspection, steps: &[Step]) -> Vec<String> {
    let mut notes = Vec::new();
    match steps.iter().any(|step| matches!(step, Step::Reboot { .. })) {
        true => notes.push(downtime(inspection)),
        false if !steps.is_empty() => notes.push("no downtime".to_owned()),
        false => {}
    }
    if !steps.is_empty() && inspection.is_in_transition() {
        notes.push(format!("{} is {}: apply waits until it is available", inspection.id, inspection.status));
    }
    if !inspection.attached.other_users.is_empty() {
        let others = inspection.attached.other_users.join(", ");
        notes.push(format!(
            "{} is shared with {others}: it is left alone, a copy of it is changed",
            inspection.attached.name
        ));
    }
    if inspection.side == Side::Source {
        source_notes(inspection, &mut notes);
    }
    if let Some(facts) = &inspection.server {
        let free = facts.connections_max - facts.connections_used;
        notes.push(format!("{free} of {} connections are free", facts.connections_max));
    }
    notes.extend(inspection.maintenance.iter().map(|action| format!("maintenance is due: {action}")));
    notes
}

fn source_notes(inspection: &Inspection, notes: &mut Vec<String>) {
    notes.push("cost: logical WAL is a few percent larger; no other charge for the setting itself".to_owned());
    if let Some(minimum) = inspection.serverless_v2_minimum {
        let pauses = if minimum == 0.0 { ", and it no longer pauses at 0 ACU" } else { "" };
        notes.push(format!("cost: Serverless v2 with at least {minimum} ACU stays awake while a slot is read{pauses}"));
    }
    if !inspection.replicas.is_empty() {
        let replicas = inspection.replicas.join(", ");
        notes.push(format!("read replicas have groups of their own and are left alone: {replicas}"));
    }
    let value = |name: &str| inspection.attached.parameters.get(name).and_then(|found| found.value.as_deref());
    if value("max_slot_wal_keep_size").is_none_or(|size| size == "-1") {
        notes.push(
            "a slot that nobody reads keeps WAL until the disk is full: set an alarm on OldestReplicationSlotLag"
                .to_owned(),
        );
    }
    let timeout = value("wal_sender_timeout").and_then(|text| text.parse::<i64>().ok());
    if timeout.is_some_and(|milliseconds| milliseconds > 0 && milliseconds < SHORTEST_SENDER_TIMEOUT) {
        notes.push("wal_sender_timeout is short: 60000 (60 s) lets the stream survive slow moments".to_owned());
    }
}

impl Step {
    /// The call of the API, as a person could make it.
    #[must_use]
    pub fn call(&self, inspection: &Inspection, kind: GroupKind) -> String {
        let word = match kind {
            GroupKind::Instance => "DB",
            GroupKind::Cluster => "DBCluster",
        };
        let id = &inspection.id;
        match self {
            Self::CreateGroup { group, family, .. } => {
                format!("Create{word}ParameterGroup {word}ParameterGroupName={group} DBParameterGroupFamily={family}")
            }
            Self::CopyGroup { group, previous } => {
                format!("Copy{word}ParameterGroup Source={previous} Target={group}")
            }
            Self::SetParameters { group, changes } => {
                let list: Vec<String> = changes
                    .iter()
                    .map(|change| format!("{}={} ({})", change.parameter, change.value, change.method()))
                    .collect();
                format!("Modify{word}ParameterGroup {word}ParameterGroupName={group} {}", list.join(" "))
            }
            Self::Attach { group } => match kind {
                GroupKind::Instance => {
                    format!(
                        "ModifyDBInstance DBInstanceIdentifier={id} DBParameterGroupName={group} ApplyImmediately=true"
                    )
                }
                GroupKind::Cluster => {
                    format!(
                        "ModifyDBCluster DBClusterIdentifier={id} DBClusterParameterGroupName={group} ApplyImmediately=true"
                    )
                }
            },
            Self::Reboot { id } if inspection.topology == Topology::MultiAzCluster => {
                format!("RebootDBCluster DBClusterIdentifier={id}")
            }
            Self::Reboot { id } => format!("RebootDBInstance DBInstanceIdentifier={id} ForceFailover=false"),
            Self::DeleteGroup { group } => format!("Delete{word}ParameterGroup {word}ParameterGroupName={group}"),
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
