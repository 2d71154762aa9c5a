//! `destroy` removes what `init` made, from any state, and nothing else.

use pgstream_engine::source::{
    Action, Error, InitSettings, Object, Part,
    destroy::{self as engine, DestroySettings},
};
use pgstream_testkit::cluster;
use tokio_util::sync::CancellationToken;

use crate::setup::{
    SLOT, app, assert_nothing_wrong, codes, destroy, destroy_part, has, init, init_with, leftovers, lines, only_fix,
    part, role, try_destroy,
};

#[tokio::test]
async fn a_slot_in_use_is_refused_and_its_reader_named() {
    let cluster = cluster().await;
    let source = app(&cluster);
    init(&source).await;
    let stream = source
        .replicate()
        .await
        .unwrap()
        .start(
            pgstream_postgres::Lsn::ZERO,
            &pgstream_postgres::replication::StartOptions {
                slot: SLOT.to_owned(),
                publications: vec!["pgstream_app".to_owned()],
                proto_version: 1,
                binary: false,
                messages: false,
            },
        )
        .await
        .unwrap();
    let client = cluster.client("app").await;
    let pid: i32 = client.scalar("SELECT active_pid FROM pg_replication_slots").await;
    let error = try_destroy(&source, &DestroySettings::default()).await.unwrap_err();
    assert!(matches!(&error, Error::SlotActive { pid: found, .. } if *found == pid), "{error}");
    assert_eq!(leftovers(&client).await.len(), 3);
    stream.close().await.unwrap();
    client.wait_until("SELECT count(*) FROM pg_replication_slots WHERE active", "0").await;
    destroy(&source).await;
    assert!(leftovers(&client).await.is_empty());
}

#[tokio::test]
async fn each_half_goes_by_itself_the_slot_first() {
    let cluster = cluster().await;
    let (source, client) = (app(&cluster), cluster.client("app").await);
    init(&source).await;
    assert_eq!(codes(try_destroy(&source, &destroy_part(Part::Migrations)).await), ["source::still_in_use"]);
    let steps = try_destroy(&source, &destroy_part(Part::Slot)).await.unwrap();
    assert_eq!(lines(&steps), ["removed replication slot pgstream_app_slot", "removed slot record pgstream_app_slot"]);
    assert_eq!(leftovers(&client).await, ["publication pgstream_app", "schema pgstream"]);
    init(&source).await;
    assert_nothing_wrong(&source).await;
    try_destroy(&source, &destroy_part(Part::Slot)).await.unwrap();
    try_destroy(&source, &destroy_part(Part::Migrations)).await.unwrap();
    assert!(leftovers(&client).await.is_empty());
}

#[tokio::test]
async fn two_pipelines_share_what_is_shared() {
    let cluster = cluster().await;
    let (source, client) = (app(&cluster), cluster.client("app").await);
    client.batch("CREATE TABLE t (id int)").await;
    init(&source).await;
    let second = InitSettings { slot: Some("second".to_owned()), ..InitSettings::default() };
    init_with(&source, &second).await;
    let steps = destroy(&source).await;
    assert!(has(&steps, Action::Left, Object::Schema, "pgstream"), "{steps:#?}");
    assert!(has(&steps, Action::Left, Object::Publication, "pgstream_app"), "{steps:#?}");
    assert_eq!(leftovers(&client).await, ["publication pgstream_app", "schema pgstream", "slot second"]);
    client.batch("UPDATE t SET id = 1").await;
    let settings = DestroySettings { slot: Some("second".to_owned()), part: Part::All };
    try_destroy(&source, &settings).await.unwrap();
    assert!(leftovers(&client).await.is_empty());
    client.batch("UPDATE t SET id = 1").await;
}

#[tokio::test]
async fn what_others_keep_in_the_schema_stays() {
    let cluster = cluster().await;
    let (source, client) = (app(&cluster), cluster.client("app").await);
    init(&source).await;
    client
        .batch(
            "CREATE TABLE pgstream.apply_progress (id int); CREATE TYPE pgstream.mood AS ENUM ('a');
             CREATE FUNCTION pgstream.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        )
        .await;
    let steps = destroy(&source).await;
    let left = steps.iter().find(|step| step.action == Action::Left).unwrap().detail.clone().unwrap();
    for object in ["apply_progress", "mood", "pgstream.f()"] {
        assert!(left.contains(object), "{left}");
    }
    let sql = "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class
               WHERE relnamespace = 'pgstream'::regnamespace AND relkind IN ('r', 'S')";
    assert_eq!(client.text(sql).await.as_deref(), Some("apply_progress"));
    init(&source).await;
    assert_nothing_wrong(&source).await;
}

#[tokio::test]
async fn what_others_built_on_our_tables_stops_it_without_a_trace() {
    let cluster = cluster().await;
    let (source, client) = (app(&cluster), cluster.client("app").await);
    init(&source).await;
    client.batch("CREATE VIEW recent AS SELECT id FROM pgstream.schema_log").await;
    let error = try_destroy(&source, &DestroySettings::default()).await.unwrap_err();
    assert!(error.to_string().contains("recent"), "{error}");
    client.batch("DROP VIEW recent").await;
    destroy(&source).await;
    assert!(leftovers(&client).await.is_empty());
}

#[tokio::test]
async fn the_plan_that_was_shown_is_the_plan_that_is_carried_out() {
    let cluster = cluster().await;
    let (source, client) = (app(&cluster), cluster.client("app").await);
    init(&source).await;
    let settings = DestroySettings::default();
    let plan = engine::plan(&source, &settings).await.unwrap();
    assert_eq!(leftovers(&client).await.len(), 3, "a plan changes nothing");
    client.batch("CREATE TABLE pgstream.theirs (id int)").await;
    let result = engine::destroy(&source, &settings, &plan, &CancellationToken::new(), |_| ()).await;
    assert!(matches!(result, Err(Error::PlanChanged { .. })));
    assert_eq!(leftovers(&client).await.len(), 3);
}

#[tokio::test]
async fn every_part_that_somebody_removed_by_hand_is_missed_by_nobody() {
    let cluster = cluster().await;
    let (source, client) = (app(&cluster), cluster.client("app").await);
    client.batch("CREATE TABLE t (id int)").await;
    for by_hand in [
        "SELECT pg_drop_replication_slot('pgstream_app_slot')",
        "DROP PUBLICATION pgstream_app",
        "DROP TABLE pgstream.replica_identities",
        "DROP TABLE pgstream.table_ids; DROP SEQUENCE pgstream.xid_serial CASCADE",
        "DROP TABLE t; CREATE TABLE t (id int)",
    ] {
        init(&source).await;
        client.batch(by_hand).await;
        destroy(&source).await;
        assert_eq!(leftovers(&client).await, Vec::<String>::new(), "{by_hand}");
        client.batch("ALTER TABLE t REPLICA IDENTITY DEFAULT").await;
    }
    // Without our record nothing says that the slot is ours.
    init(&source).await;
    client.batch("DROP SCHEMA pgstream CASCADE").await;
    let steps = destroy(&source).await;
    let left = &steps[0];
    assert_eq!((left.action, left.object), (Action::Left, Object::Slot));
    assert!(left.detail.as_ref().unwrap().contains("SELECT pg_drop_replication_slot('pgstream_app_slot')"));
    assert_eq!(leftovers(&client).await, ["slot pgstream_app_slot"]);
}

#[tokio::test]
async fn rights_that_are_missing_are_named_and_nothing_is_removed() {
    let cluster = cluster().await;
    let (owner, client) = (app(&cluster), cluster.client("app").await);
    client.batch("CREATE TABLE t (id int)").await;
    init(&owner).await;
    let source = role(&cluster, "operator", "REPLICATION").await;
    let fix = only_fix(try_destroy(&source, &DestroySettings::default()).await);
    assert_eq!(fix, "as postgres: `GRANT USAGE ON SCHEMA pgstream TO operator;`, or run this as postgres");
    client.batch("GRANT USAGE ON SCHEMA pgstream TO operator").await;
    let result = try_destroy(&source, &DestroySettings::default()).await;
    assert_eq!(codes(result), ["source::publication_owner", "source::replica_identity", "source::schema_privilege"]);
    assert_eq!(leftovers(&client).await.len(), 3);
    let half = init_with(&owner, &part(Part::Migrations)).await;
    assert!(half.steps.iter().all(|step| step.action == Action::Kept));
}
