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

use super::{
    blockers::{Blocker, blockers, pending_changes, sharing, slots_in_the_way, standing},
    model::{ApplyStatus, GroupKind, Inspection, Parameters, Side, Topology, is_on},
    notes::{downtime, notes},
};

/// At most so many parameters fit into one Modify call.
const PARAMETERS_PER_CALL: usize = 20;

/// Slots and senders beyond those in use, when there are too few: room for a second pipeline and a rebuilt slot.
const HEADROOM: i64 = 5;

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
            if inspection.server.is_none() {
                notes.push(
                    "the server was not asked for logical slots, and with one left it does not start after the reboot: give -c or --postgres-url"
                        .to_owned(),
                );
            }
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
    inspection.needs.missing_extensions.iter().filter(|name| !is_allowed(name)).cloned().collect()
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
