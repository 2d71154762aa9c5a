//! Every setup that cannot work is refused before anything is changed, all reasons at once.

use pgstream_engine::source::{Error, InitSettings};
use pgstream_testkit::{Client, Cluster, Stop, cluster};

use crate::setup::{SLOT, app, codes, init, leftovers, only_fix, role, server, try_destroy, try_init};

fn defaults() -> InitSettings {
    InitSettings::default()
}

async fn with_app(builder: pgstream_testkit::Builder) -> Cluster {
    let cluster = builder.start().await.unwrap();
    cluster.create_database("app").await;
    cluster
}

#[tokio::test]
async fn all_problems_come_at_once() {
    let cluster =
        with_app(Cluster::builder().setting("wal_level", "replica").setting("max_replication_slots", "1")).await;
    let client = cluster.client("app").await;
    client.execute("SELECT pg_create_physical_replication_slot('taken')").await;
    client.batch("CREATE TABLE t (id int)").await;
    let source = role(&cluster, "nobody", "").await;
    let result = try_init(&source, &defaults()).await;
    let expected = [
        "source::create_privilege",
        "source::replica_identity",
        "source::publish_privilege",
        "source::wal_level",
        "source::replication_privilege",
        "source::no_free_slot",
    ];
    assert_eq!(codes(result), expected);
    assert_eq!(leftovers(&client).await, ["slot taken"]);
}

#[tokio::test]
async fn the_server_must_write_logical_wal() {
    let cluster = with_app(Cluster::builder().setting("wal_level", "replica")).await;
    let client = cluster.client("app").await;
    // A setting of this name can be made up by anybody; it says nothing.
    client.batch("ALTER DATABASE app SET rds.logical_replication = 'on'").await;
    let fix = only_fix(try_init(&app(&cluster), &defaults()).await);
    assert_eq!(fix, "ALTER SYSTEM SET wal_level = logical; then restart the server");
    client.batch("ALTER SYSTEM SET wal_level = logical").await;
    drop(client);
    cluster.restart(Stop::Fast).await;
    init(&app(&cluster)).await;
}

#[tokio::test]
async fn a_standby_is_refused() {
    let cluster = cluster().await;
    init(&app(&cluster)).await;
    cluster.stop(Stop::Fast).await;
    std::fs::write(cluster.data_dir().join("standby.signal"), "").unwrap();
    cluster.start().await;
    assert_eq!(codes(try_init(&app(&cluster), &defaults()).await), ["source::in_recovery"]);
    assert_eq!(codes(try_destroy(&app(&cluster), &Default::default()).await), ["source::in_recovery"]);
}

#[tokio::test]
async fn a_role_that_may_not_replicate_is_told_how_to() {
    let cluster = cluster().await;
    cluster
        .client("app")
        .await
        .batch("CREATE ROLE owner LOGIN PASSWORD 'secret'; ALTER DATABASE app OWNER TO owner")
        .await;
    let source = server(&cluster.url_as("owner", "secret", "app"));
    let fix = only_fix(try_init(&source, &defaults()).await);
    assert_eq!(fix, "ALTER ROLE \"owner\" REPLICATION;");
}

/// Makes a slot with our name in some other way, and returns with what it is refused.
async fn refused_slot(cluster: &Cluster, sql: &str) -> Vec<&'static str> {
    let client = cluster.client("app").await;
    client.batch("DROP PUBLICATION IF EXISTS pgstream_app; CREATE PUBLICATION pgstream_app FOR ALL TABLES").await;
    client.execute(sql).await;
    let found = codes(try_init(&app(cluster), &defaults()).await);
    drop_slot(&client).await;
    found
}

async fn drop_slot(client: &Client) {
    client.execute("SELECT pg_drop_replication_slot('pgstream_app_slot')").await;
}

#[tokio::test]
async fn a_slot_that_is_not_ours_is_never_taken_over() {
    let cluster = cluster().await;
    let client = cluster.client("app").await;
    let physical = format!("SELECT pg_create_physical_replication_slot('{SLOT}', true)");
    assert_eq!(refused_slot(&cluster, &physical).await, ["source::slot_physical"]);
    let plugin = format!("SELECT pg_create_logical_replication_slot('{SLOT}', 'test_decoding')");
    if client.batch_execute(&plugin).await.is_ok() {
        drop_slot(&client).await;
        assert_eq!(refused_slot(&cluster, &plugin).await, ["source::slot_plugin"]);
    }
    if cluster.major() >= 15 {
        let two_phase = format!("SELECT pg_create_logical_replication_slot('{SLOT}', 'pgoutput', false, true)");
        assert_eq!(refused_slot(&cluster, &two_phase).await, ["source::slot_two_phase"]);
    }
    client.execute(&format!("SELECT pg_create_logical_replication_slot('{SLOT}', 'pgoutput', true)")).await;
    assert_eq!(codes(try_init(&app(&cluster), &defaults()).await), ["source::slot_temporary"]);
    drop_slot(&client).await;
    let elsewhere = cluster.client("postgres").await;
    elsewhere.execute(&format!("SELECT pg_create_logical_replication_slot('{SLOT}', 'pgoutput')")).await;
    assert_eq!(codes(try_init(&app(&cluster), &defaults()).await), ["source::slot_database"]);
}

#[tokio::test]
async fn a_slot_older_than_its_publication_is_refused() {
    let cluster = cluster().await;
    let client = cluster.client("app").await;
    client.execute(&format!("SELECT pg_create_logical_replication_slot('{SLOT}', 'pgoutput')")).await;
    assert_eq!(codes(try_init(&app(&cluster), &defaults()).await), ["source::slot_before_publication"]);
    drop_slot(&client).await;
    init(&app(&cluster)).await;
    client.batch("DROP PUBLICATION pgstream_app").await;
    assert_eq!(codes(try_init(&app(&cluster), &defaults()).await), ["source::slot_before_publication"]);
}

#[tokio::test]
async fn a_slot_that_went_away_is_never_recreated() {
    let cluster = cluster().await;
    let client = cluster.client("app").await;
    init(&app(&cluster)).await;
    drop_slot(&client).await;
    let result = try_init(&app(&cluster), &defaults()).await;
    let fix = "changes are missing, start over: `pgstream-aws destroy --slot-only`, `pgstream-aws init`, then `pgstream-aws run --reset`, a new snapshot beside the present database";
    assert_eq!(only_fix(result), fix);
    // And what it says helps.
    try_destroy(&app(&cluster), &crate::setup::destroy_part(pgstream_engine::source::Part::Slot)).await.unwrap();
    init(&app(&cluster)).await;
}

#[tokio::test]
async fn a_copy_of_the_database_on_another_system_is_another_history() {
    let cluster = cluster().await;
    let client = cluster.client("app").await;
    init(&app(&cluster)).await;
    client.batch("UPDATE pgstream.replication_slots SET system_identifier = '1'").await;
    assert_eq!(codes(try_init(&app(&cluster), &defaults()).await), ["source::other_system"]);
}

#[tokio::test]
async fn matrix_source_a_lost_slot_is_refused() {
    let cluster = with_app(
        Cluster::builder()
            .setting("max_slot_wal_keep_size", "1MB")
            .setting("min_wal_size", "32MB")
            .setting("max_wal_size", "32MB"),
    )
    .await;
    let client = cluster.client("app").await;
    init(&app(&cluster)).await;
    client.batch("CREATE TABLE t (id int PRIMARY KEY, b text)").await;
    for _ in 0..4 {
        client
            .batch("INSERT INTO t SELECT coalesce((SELECT max(id) FROM t), 0) + g, '' FROM generate_series(1, 1000) g")
            .await;
        client.batch("SELECT pg_switch_wal(); CHECKPOINT").await;
    }
    client.wait_until(&format!("SELECT wal_status FROM pg_replication_slots WHERE slot_name = '{SLOT}'"), "lost").await;
    assert_eq!(codes(try_init(&app(&cluster), &defaults()).await), ["source::slot_lost"]);
    let found = crate::setup::status(&app(&cluster)).await;
    assert_eq!(found.findings.iter().map(|finding| finding.code).collect::<Vec<_>>(), ["slot_lost"]);
    crate::setup::destroy(&app(&cluster)).await;
    init(&app(&cluster)).await;
}

#[tokio::test]
async fn a_schema_of_another_program_is_left_alone() {
    let cluster = cluster().await;
    let client = cluster.client("app").await;
    client.batch("CREATE SCHEMA pgstream; CREATE TABLE pgstream.schema_log (id int, theirs text)").await;
    assert_eq!(codes(try_init(&app(&cluster), &defaults()).await), ["source::schema_of_another_program"]);
    let steps = crate::setup::destroy(&app(&cluster)).await;
    assert_eq!(crate::setup::lines(&steps), ["left schema pgstream"]);
    assert_eq!(crate::setup::status(&app(&cluster)).await.findings[0].code, "schema_of_another_program");
    client.batch("SELECT theirs FROM pgstream.schema_log").await;
}

#[tokio::test]
async fn a_name_that_cannot_be_a_slots_is_refused_without_asking_the_server() {
    let nowhere = server("postgresql://u@127.0.0.1:1/db");
    let settings = InitSettings { slot: Some("Not-A-Slot".to_owned()), ..InitSettings::default() };
    assert!(matches!(try_init(&nowhere, &settings).await, Err(Error::SlotName { .. })));
}
