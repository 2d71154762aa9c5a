//! `status` says what is there and what is wrong.

use pgstream_engine::{
    source::{self, Status, StatusSettings},
    target::migrate::migrate,
};
use pgstream_postgres::{Server, Session};
use pgstream_testkit::{cluster, pair};

use crate::setup::{app, init, status};

fn found(status: &Status) -> Vec<&'static str> {
    status.findings.iter().map(|finding| finding.code).collect()
}

async fn both(source: &Server, target: &Server) -> Status {
    source::status(source, Some(target), &StatusSettings::default()).await.unwrap()
}

#[tokio::test]
async fn before_init_everything_is_missing() {
    let cluster = cluster().await;
    let status = status(&app(&cluster)).await;
    assert_eq!(found(&status), ["schema_missing", "publication_missing", "slot_missing"]);
    assert!(status.findings.iter().all(|finding| finding.fix == "run `pgstream-aws init`"));
    assert!(status.publication.is_none() && status.slot.is_none() && !status.objects.schema);
}

#[tokio::test]
async fn matrix_source_and_target_are_shown_side_by_side() {
    let (source_cluster, target_cluster) = pair().await;
    let (source, target) = (app(&source_cluster), app(&target_cluster));
    source_cluster.client("app").await.batch("CREATE TABLE t (id int PRIMARY KEY)").await;
    init(&source).await;
    let status = both(&source, &target).await;
    assert_eq!(found(&status), Vec::<&str>::new());
    assert_eq!(status.target.as_ref().unwrap().commit_end_lsn, None);
    let slot = status.slot.unwrap();
    assert!(slot.retained_bytes.is_some() && slot.lag_bytes.is_some() && slot.active_pid.is_none());
    assert_eq!(slot.inactive_since.is_some(), source_cluster.major() >= 17);

    migrate(&mut target.connect(&Session::new("test")).await.unwrap()).await.unwrap();
    let system = status.system_identifier.unwrap();
    let client = target_cluster.client("app").await;
    client
        .batch(&format!(
            "INSERT INTO pgstream.apply_progress (slot_name, system_identifier, timeline, commit_end_lsn, commit_time)
             VALUES ('pgstream_app_slot', '{system}', 1, 'F/0', '2026-01-01 00:00Z');
             INSERT INTO pgstream.snapshot_ledger VALUES
             ('pgstream_app_slot', '{system}', 's', 't', 0, 2, '1:1:', '0/1', 10, 100),
             ('pgstream_app_slot', '{system}', 's', 't', 1, 2, '1:1:', '0/1', 10, 100),
             ('pgstream_app_slot', '{system}', 's', 'u', 0, 2, '1:1:', '0/1', 5, 100)"
        ))
        .await;
    let status = both(&source, &target).await;
    assert_eq!(found(&status), Vec::<&str>::new());
    let shown = status.target.unwrap();
    assert_eq!(shown.commit_end_lsn.as_deref(), Some("F/0"));
    assert_eq!((shown.copied_tables, shown.unfinished_tables, shown.copied_rows), (1, 1, 25));

    client.batch("UPDATE pgstream.apply_progress SET commit_end_lsn = '0/1'").await;
    assert_eq!(found(&both(&source, &target).await), ["slot_ahead_of_target"]);
    client.batch("UPDATE pgstream.apply_progress SET system_identifier = '1'").await;
    assert_eq!(found(&both(&source, &target).await), ["target_other_system"]);
    drop(client);
    drop(target_cluster);
    assert_eq!(found(&both(&source, &target).await), ["target_unreadable"]);
}

#[tokio::test]
async fn a_slot_that_is_gone_differs_from_one_that_never_was() {
    let cluster = cluster().await;
    let source = app(&cluster);
    init(&source).await;
    let client = cluster.client("app").await;
    client.execute("SELECT pg_drop_replication_slot('pgstream_app_slot')").await;
    assert_eq!(found(&status(&source).await), ["slot_gone"]);
    client.batch("DELETE FROM pgstream.replication_slots").await;
    assert_eq!(found(&status(&source).await), ["slot_missing"]);
    client.batch("UPDATE pgstream.migrations SET version = 99 WHERE version = (SELECT max(version) FROM pgstream.migrations)").await;
    assert_eq!(found(&status(&source).await), ["schema_newer", "slot_missing"]);
}
