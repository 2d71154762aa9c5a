//! What is in the way of a plan, each with its fix. All of it comes at once.

use serde::Serialize;

use super::{
    model::{ApplyStatus, Inspection, Side, Topology},
    plan::{Choices, Step},
};

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

fn blocker(code: &'static str, message: impl Into<String>, fix: impl Into<String>) -> Blocker {
    Blocker { code, message: message.into(), fix: fix.into() }
}

/// What is in the way of making it ready.
pub(super) fn blockers(inspection: &Inspection, steps: &[Step], choices: Choices) -> Vec<Blocker> {
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
pub(super) fn standing(inspection: &Inspection) -> Vec<Blocker> {
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

pub(super) fn sharing(inspection: &Inspection) -> Option<Blocker> {
    let own = inspection.own.as_ref()?;
    let others = match own.other_users.is_empty() {
        true => return None,
        false => own.other_users.join(", "),
    };
    let message = format!("parameter group {} is also used by {others}", inspection.own_name);
    Some(blocker("shared_group", message, "give those a group of their own, or allow it with --change-shared-group"))
}

pub(super) fn pending_changes(inspection: &Inspection) -> Option<Blocker> {
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
        .needs
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

pub(super) fn slots_in_the_way(inspection: &Inspection) -> Option<Blocker> {
    let slots = inspection.server.as_ref().map(|facts| &facts.logical_slots).filter(|slots| !slots.is_empty())?;
    let message = format!("logical replication slots exist: {}", slots.join(", "));
    Some(blocker(
        "slots_exist",
        message,
        "a server does not start without wal_level=logical while it has them: `pgstream-aws destroy` first",
    ))
}
