//! What follows from what is found.

use super::*;
use crate::provision::model::{Attached, Free, Needs, Own, Parameter, ServerFacts, Storage};

const OWN: &str = "pgstream-shop-postgres16";

fn parameter(value: &str) -> Parameter {
    Parameter { value: Some(value.to_owned()), source: "system".to_owned(), is_static: true, modifiable: true }
}

fn parameters(logical: &str) -> Parameters {
    [("rds.logical_replication".to_owned(), parameter(logical)), ("max_replication_slots".to_owned(), parameter("20"))]
        .into()
}

/// An instance on its default group.
fn fresh() -> Inspection {
    Inspection {
        side: Side::Source,
        region: "eu-west-1".to_owned(),
        id: "shop".to_owned(),
        arn: "arn:aws:rds:eu-west-1:123456789012:db:shop".to_owned(),
        topology: Topology::Instance,
        engine: "postgres".to_owned(),
        version: "16.14".to_owned(),
        family: "postgres16".to_owned(),
        status: "available".to_owned(),
        endpoint: None,
        writer: None,
        readers: Vec::new(),
        class: "db.t4g.medium".to_owned(),
        multi_az: false,
        engine_mode: None,
        serverless_v2_minimum: None,
        replica_of: None,
        replicas: Vec::new(),
        attached: Attached {
            name: "default.postgres16".to_owned(),
            status: ApplyStatus::InSync,
            other_users: Vec::new(),
            parameters: parameters("0"),
            user_set: Vec::new(),
        },
        own_name: OWN.to_owned(),
        own: None,
        overridden: [].into(),
        pending: Vec::new(),
        blue_green: None,
        maintenance: Vec::new(),
        storage: Storage { kind: "gp3".to_owned(), allocated_gib: Some(20), ..Storage::default() },
        server: None,
        server_problem: None,
        needs: Needs::default(),
    }
}

fn own(logical: &str) -> Own {
    let previous = Some("default.postgres16".to_owned());
    Own { ours: true, previous, other_users: Vec::new(), parameters: parameters(logical) }
}

fn facts(wal_level: &str) -> ServerFacts {
    ServerFacts {
        wal_level: wal_level.to_owned(),
        rds_logical_replication: None,
        in_recovery: false,
        slots_used: 0,
        logical_slots: Vec::new(),
        slots_max: 20,
        senders_used: 0,
        senders_max: 20,
        connections_used: 1,
        connections_max: 100,
        wal_sender_timeout: "1min".to_owned(),
        max_slot_wal_keep_size: Some("-1".to_owned()),
        database_bytes: 1,
    }
}

fn make(inspection: Inspection) -> Plan {
    Plan::make(inspection, Choices::default())
}

fn steps(plan: &Plan) -> Vec<&str> {
    plan.calls.iter().map(|call| call.split_whitespace().next().unwrap_or_default()).collect()
}

fn codes(plan: &Plan) -> Vec<&str> {
    plan.blockers.iter().map(|blocker| blocker.code).collect()
}

#[test]
fn a_fresh_instance_gets_a_group_of_its_own_and_one_reboot() {
    let plan = make(fresh());
    assert_eq!(
        plan.calls,
        [
            "CreateDBParameterGroup DBParameterGroupName=pgstream-shop-postgres16 DBParameterGroupFamily=postgres16",
            "ModifyDBParameterGroup DBParameterGroupName=pgstream-shop-postgres16 rds.logical_replication=1 (pending-reboot)",
            "ModifyDBInstance DBInstanceIdentifier=shop DBParameterGroupName=pgstream-shop-postgres16 ApplyImmediately=true",
            "RebootDBInstance DBInstanceIdentifier=shop ForceFailover=false",
        ]
    );
    assert!(plan.blockers.is_empty() && !plan.is_ready());
}

#[test]
fn every_state_on_the_way_leads_to_the_next_step() {
    let mut now = fresh();
    now.own = Some(own("0"));
    assert_eq!(steps(&make(now.clone())), ["ModifyDBParameterGroup", "ModifyDBInstance", "RebootDBInstance"]);
    now.own = Some(own("1"));
    assert_eq!(steps(&make(now.clone())), ["ModifyDBInstance", "RebootDBInstance"]);
    now.attached.name = OWN.to_owned();
    now.attached.parameters = parameters("1");
    now.attached.status = ApplyStatus::PendingReboot;
    assert_eq!(steps(&make(now.clone())), ["RebootDBInstance"]);
    now.attached.status = ApplyStatus::InSync;
    assert!(make(now.clone()).is_ready());
    // The status is ahead of the server.
    now.server = Some(facts("replica"));
    assert_eq!(steps(&make(now.clone())), ["RebootDBInstance"]);
    now.server = Some(facts("logical"));
    assert!(make(now).is_ready());
}

#[test]
fn a_group_of_somebody_is_copied_with_all_that_is_set_in_it() {
    let mut now = fresh();
    now.attached.name = "shop-tuned".to_owned();
    now.attached.other_users = vec!["billing".to_owned()];
    let plan = make(now);
    assert_eq!(plan.calls[0], "CopyDBParameterGroup Source=shop-tuned Target=pgstream-shop-postgres16");
    assert!(plan.notes.iter().any(|note| note.contains("shared with billing")), "{:?}", plan.notes);
    assert!(plan.blockers.is_empty());
}

#[test]
fn a_group_of_somebody_that_does_already_is_left_alone() {
    let mut now = fresh();
    now.attached.name = "shop-tuned".to_owned();
    now.attached.parameters = parameters("1");
    assert!(make(now.clone()).is_ready());
    // A reboot is due for something else.
    now.attached.status = ApplyStatus::PendingReboot;
    now.server = Some(facts("logical"));
    assert!(make(now).is_ready());
}

#[test]
fn slots_and_senders_that_are_all_in_use_get_room() {
    let mut now = fresh();
    now.attached.parameters = parameters("1");
    now.server = Some(ServerFacts { slots_used: 20, ..facts("logical") });
    let plan = make(now);
    assert!(plan.calls[1].contains("max_replication_slots=25"), "{:?}", plan.calls);
}

#[test]
fn clusters_use_their_own_groups_and_reboots() {
    let mut now = fresh();
    now.topology = Topology::Aurora;
    now.engine = "aurora-postgresql".to_owned();
    now.writer = Some("shop-1".to_owned());
    let expected = ["CreateDBClusterParameterGroup", "ModifyDBClusterParameterGroup", "ModifyDBCluster"];
    let plan = make(now.clone());
    assert_eq!(steps(&plan)[..3], expected);
    assert_eq!(plan.calls[3], "RebootDBInstance DBInstanceIdentifier=shop-1 ForceFailover=false");
    now.topology = Topology::MultiAzCluster;
    now.engine = "postgres".to_owned();
    assert_eq!(make(now).calls[3], "RebootDBCluster DBClusterIdentifier=shop");
}

#[test]
fn what_cannot_be_done_is_said_before_anything_is() {
    let blocked = |change: &dyn Fn(&mut Inspection)| {
        let mut now = fresh();
        change(&mut now);
        codes(&make(now)).join(",")
    };
    assert_eq!(blocked(&|now| now.engine = "mysql".to_owned()), "engine");
    assert_eq!(blocked(&|now| now.replica_of = Some("main".to_owned())), "replica");
    assert_eq!(blocked(&|now| now.engine_mode = Some("serverless".to_owned())), "serverless_v1");
    assert_eq!(blocked(&|now| now.status = "stopped".to_owned()), "status");
    assert_eq!(blocked(&|now| now.status = "storage-full".to_owned()), "status");
    assert_eq!(blocked(&|now| now.pending = vec!["EngineVersion".to_owned()]), "pending_changes");
    assert_eq!(blocked(&|now| now.blue_green = Some("green (AVAILABLE)".to_owned())), "blue_green");
    assert_eq!(blocked(&|now| now.attached.status = ApplyStatus::FailedToApply), "failed_to_apply");
    assert_eq!(blocked(&|now| now.attached.status = ApplyStatus::PendingDatabaseUpgrade), "pending_upgrade");
    assert_eq!(blocked(&|now| now.own = Some(Own { ours: false, ..own("0") })), "group_taken");
    assert_eq!(blocked(&|now| now.own = Some(Own { other_users: vec!["x".to_owned()], ..own("0") })), "shared_group");
    assert_eq!(blocked(&|now| now.attached.parameters.clear()), "not_modifiable");
    assert_eq!(blocked(&|now| now.overridden = [("max_wal_senders".to_owned(), "1".to_owned())].into()), "overridden");
    let multi_az = |version: &str| {
        blocked(&|now| {
            now.topology = Topology::MultiAzCluster;
            now.version = version.to_owned();
        })
    };
    assert_eq!([multi_az("13.20"), multi_az("14.7"), multi_az("15.2")], ["version"; 3]);
    assert_eq!([multi_az("14.8"), multi_az("15.3"), multi_az("16.1")], [""; 3]);
}

#[test]
fn pending_changes_are_no_obstacle_when_nothing_is_attached() {
    let mut now = fresh();
    now.attached.parameters = parameters("1");
    now.pending = vec!["EngineVersion".to_owned()];
    assert!(make(now).is_ready());
}

#[test]
fn going_back_attaches_what_was_there_and_deletes_only_what_was_made() {
    let mut now = fresh();
    now.attached.name = OWN.to_owned();
    now.own = Some(Own { previous: Some("shop-tuned".to_owned()), ..own("1") });
    let back = Plan::back(now.clone());
    assert_eq!(
        back.calls,
        [
            "ModifyDBInstance DBInstanceIdentifier=shop DBParameterGroupName=shop-tuned ApplyImmediately=true",
            "RebootDBInstance DBInstanceIdentifier=shop ForceFailover=false",
            "DeleteDBParameterGroup DBParameterGroupName=pgstream-shop-postgres16",
        ]
    );
    let warned = |plan: &Plan| plan.notes.iter().any(|note| note.contains("not asked for logical slots"));
    assert!(warned(&back));
    now.server = Some(facts("logical"));
    assert!(!warned(&Plan::back(now.clone())));
    now.server = Some(ServerFacts { logical_slots: vec!["pgstream_shop_slot".to_owned()], ..facts("logical") });
    assert_eq!(codes(&Plan::back(now.clone())), ["slots_exist"]);
    now.own = Some(Own { ours: false, ..own("1") });
    assert!(Plan::back(now).steps.is_empty());
    assert!(Plan::back(fresh()).steps.is_empty());
}

#[test]
fn a_target_needs_its_extensions_and_no_logical_wal() {
    let mut now = fresh();
    now.side = Side::Target;
    assert!(make(now.clone()).is_ready());
    let dynamic = Parameter { is_static: false, ..parameter("citext") };
    now.attached.parameters.insert("rds.allowed_extensions".to_owned(), dynamic);
    now.attached.parameters.insert("rds.extensions".to_owned(), parameter("citext,hstore,postgis"));
    now.needs.missing_extensions = vec!["hstore".to_owned()];
    let plan = make(now.clone());
    assert!(plan.calls[1].contains("rds.allowed_extensions=citext,hstore (immediate)"), "{:?}", plan.calls);
    now.needs.missing_extensions = vec!["timescaledb".to_owned()];
    assert_eq!(codes(&make(now)), ["extension"]);
}

#[test]
fn a_target_without_room_for_the_copy_is_told_by_how_much() {
    let mut now = fresh();
    now.side = Side::Target;
    let gib = 1_i64 << 30;
    now.needs.bytes = Some(100 * gib);
    assert_eq!(now.room(), None, "nobody knows");
    now.storage.free = Some(Free { bytes: 12 << 30, at: "2026-01-01T12:00:00Z".to_owned() });
    let room = now.room().unwrap();
    assert!(!room.good && room.detail == "12.0 GiB free, 120.0 GiB wanted for the copy", "{room:?}");
    assert!(room.fix.as_ref().is_some_and(|fix| fix.contains("to 128 GiB or more")), "{room:?}");
    assert!(make(now.clone()).notes.iter().any(|note| note.contains("128 GiB")));
    // What it may grow to counts; so does what is copied already.
    now.storage.maximum_gib = Some(200);
    assert!(now.room().is_some_and(|room| room.good && room.detail.contains("grows by 180.0 GiB")));
    now.storage.maximum_gib = None;
    now.needs.bytes = Some(9 * gib);
    assert!(now.room().is_some_and(|room| room.good));
    // A source is not copied to.
    now.side = Side::Source;
    assert_eq!(now.room(), None);
}
