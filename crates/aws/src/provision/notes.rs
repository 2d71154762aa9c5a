//! What the reader of a plan should know: downtime, costs, advice.

use super::{
    model::{Inspection, Side, Topology},
    plan::Step,
};

/// Senders end a silent connection after this many milliseconds; below it a slow moment cuts the stream.
const SHORTEST_SENDER_TIMEOUT: i64 = 15_000;

pub(super) fn downtime(inspection: &Inspection) -> String {
    let what = match inspection.topology {
        Topology::Instance if inspection.multi_az => "the instance, without failover",
        Topology::Instance => "the instance",
        Topology::Aurora => "the writer; readers may restart with it",
        Topology::MultiAzCluster => "all members of the cluster",
    };
    format!("downtime: a reboot of {what}, usually 10 s to a few minutes; all connections are cut")
}

pub(super) fn notes(inspection: &Inspection, steps: &[Step]) -> Vec<String> {
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
        let wanted = inspection.needs.sessions.map(|sessions| format!(", the pipeline opens up to {sessions}"));
        let wanted = wanted.unwrap_or_default();
        notes.push(format!("{free} of {} connections are free{wanted}", facts.connections_max));
    }
    if let Some(problem) = &inspection.needs.problem {
        notes.push(format!("source and target could not be compared, for extensions and room: {problem}"));
    }
    if let Some(room) = inspection.room().filter(|room| !room.good) {
        notes.push(format!("storage: {}: {}", room.detail, room.fix.unwrap_or_default()));
    }
    if let Some(problem) = &inspection.storage.free_problem {
        notes.push(format!("free storage is not known: {problem}"));
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
