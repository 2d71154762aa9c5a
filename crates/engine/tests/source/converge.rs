//! Twice, in parallel, and killed anywhere: what is there in the end is the same.

use pgstream_engine::source::{Action, Error, InitSettings, Object, Part, slot};
use pgstream_postgres::Session;
use pgstream_testkit::{Proxy, cluster, dump_schema};
use tokio_util::sync::CancellationToken;

use crate::setup::{
    SLOT, app, assert_nothing_wrong, destroy, has, init, init_with, leftovers, lines, part, server, try_destroy,
    try_init,
};

const SCHEMA: &str = "
    CREATE TABLE keyed (id int PRIMARY KEY, note text);
    CREATE TABLE plain (a int, b text);
    CREATE TABLE silent (a int PRIMARY KEY); ALTER TABLE silent REPLICA IDENTITY NOTHING;
    CREATE SCHEMA other;
    CREATE TABLE other.indexed (a int NOT NULL UNIQUE);
    ALTER TABLE other.indexed REPLICA IDENTITY USING INDEX indexed_a_key;
    INSERT INTO plain VALUES (1, 'x'), (2, 'y')";

#[tokio::test]
async fn matrix_source_init_is_idempotent_and_destroy_undoes_it() {
    let cluster = cluster().await;
    let client = cluster.client("app").await;
    client.batch(SCHEMA).await;
    let before = dump_schema(&cluster, "app").await;
    let source = app(&cluster);

    let first = init(&source).await;
    assert_eq!(
        lines(&first.steps),
        [
            "created schema pgstream",
            "created migration 0001 schema_log_and_records",
            "created migration 0002 ddl_describe",
            "created migration 0003 ddl_objects",
            "created migration 0004 ddl_capture",
            "created event trigger pgstream_ddl_command_end",
            "created event trigger pgstream_sql_drop",
            "created event trigger pgstream_table_rewrite",
            "changed replica identity \"public\".\"plain\"",
            "changed replica identity \"public\".\"silent\"",
            "created publication pgstream_app",
            "created replication slot pgstream_app_slot",
            "created slot record pgstream_app_slot",
        ]
    );
    assert_nothing_wrong(&source).await;
    // The user's own work goes on.
    client.batch("UPDATE plain SET b = 'z' WHERE a = 1; DELETE FROM plain WHERE a = 2; DELETE FROM silent").await;

    let again = init(&source).await;
    assert!(again.steps.iter().all(|step| step.action == Action::Kept), "{:#?}", again.steps);
    assert_eq!(again.consistent_point, first.consistent_point);
    assert_nothing_wrong(&source).await;

    let removed = destroy(&source).await;
    assert_eq!(
        lines(&removed),
        [
            "removed replication slot pgstream_app_slot",
            "removed event trigger pgstream_ddl_command_end",
            "removed event trigger pgstream_sql_drop",
            "removed event trigger pgstream_table_rewrite",
            "removed publication pgstream_app",
            "restored replica identity \"public\".\"plain\"",
            "restored replica identity \"public\".\"silent\"",
            "removed schema pgstream",
        ]
    );
    assert_eq!(dump_schema(&cluster, "app").await, before);
    assert!(leftovers(&client).await.is_empty());
    assert!(destroy(&source).await.is_empty());
}

#[tokio::test]
async fn the_record_of_the_slot_is_right() {
    let cluster = cluster().await;
    let source = app(&cluster);
    let report = init(&source).await;
    let client = source.connect(&Session::new("test")).await.unwrap();
    let fence = slot::fence(&client, SLOT).await.unwrap().unwrap();
    let state = slot::read(&client, SLOT).await.unwrap().unwrap();
    assert_eq!(Some(fence.consistent_point), state.confirmed_flush_lsn);
    assert_eq!(Some(fence.consistent_point.to_string()), report.consistent_point);
    assert_eq!((state.plugin.as_deref(), state.database.as_deref()), (Some("pgoutput"), Some("app")));
    assert!(!state.temporary && !state.two_phase && !state.failover && !state.is_lost());
    let identity = source.replicate().await.unwrap().identify_system().await.unwrap();
    assert_eq!(fence.system_identifier, identity.system_identifier);
    // Whatever commits from now on is not in the snapshot of the slot's creation.
    let xid: String = cluster.client("app").await.scalar("SELECT pg_current_xact_id()::text").await;
    let sql = format!("SELECT pg_visible_in_snapshot('{xid}', '{}')", fence.created_snapshot);
    assert!(!cluster.client("app").await.scalar::<bool>(&sql).await);
}

#[tokio::test]
async fn many_inits_at_once_agree() {
    let cluster = cluster().await;
    cluster.client("app").await.batch(SCHEMA).await;
    let source = app(&cluster);
    let tasks: Vec<_> = (0..6)
        .map(|_| {
            let source = source.clone();
            tokio::spawn(async move { init(&source).await })
        })
        .collect();
    let mut creators = 0;
    let mut points = Vec::new();
    for task in tasks {
        let report = task.await.unwrap();
        creators += usize::from(has(&report.steps, Action::Created, Object::Slot, SLOT));
        points.push(report.consistent_point);
    }
    assert_eq!(creators, 1);
    points.dedup();
    assert_eq!(points.len(), 1);
    assert_nothing_wrong(&source).await;
}

/// Bytes between two cuts of destroy: about one for every statement and its answer.
const STEP: u64 = 353;
/// Of init, whose migrations are long texts.
const INIT_STEP: u64 = 1201;

#[tokio::test]
async fn an_init_cut_off_anywhere_is_finished_by_the_next() {
    let cluster = cluster().await;
    let client = cluster.client("app").await;
    client.batch(SCHEMA).await;
    let before = dump_schema(&cluster, "app").await;
    let source = app(&cluster);
    let proxy = Proxy::start(cluster.port()).await.unwrap();
    let through = server(&proxy.url(&cluster.url("app"), cluster.port()));
    // The connections themselves are made whole: what happens before is no concern of init.
    let (mut cut_at, mut cuts, mut finished) = (800, 0, 0);
    while finished < 2 {
        proxy.cut_after(cut_at);
        if try_init(&through, &InitSettings::default()).await.is_ok() {
            finished += 1;
        } else {
            cuts += 1;
        }
        init(&source).await;
        assert_nothing_wrong(&source).await;
        client.batch("UPDATE plain SET b = 'z'; UPDATE silent SET a = a; UPDATE other.indexed SET a = a").await;
        destroy(&source).await;
        assert_eq!(leftovers(&client).await, Vec::<String>::new(), "after a cut at byte {cut_at}");
        let silent = client.text("SELECT relreplident::text FROM pg_class WHERE relname = 'silent'").await;
        assert_eq!(silent.as_deref(), Some("n"), "after a cut at byte {cut_at}");
        cut_at += INIT_STEP;
    }
    assert!(cuts > 15, "only {cuts} cuts");
    assert_eq!(dump_schema(&cluster, "app").await, before);
}

#[tokio::test]
async fn a_destroy_cut_off_anywhere_is_finished_by_the_next() {
    let cluster = cluster().await;
    let client = cluster.client("app").await;
    client.batch(SCHEMA).await;
    let before = dump_schema(&cluster, "app").await;
    let source = app(&cluster);
    let proxy = Proxy::start(cluster.port()).await.unwrap();
    let through = server(&proxy.url(&cluster.url("app"), cluster.port()));
    let (mut cut_at, mut cuts, mut finished) = (800, 0, 0);
    while finished < 2 {
        init(&source).await;
        proxy.cut_after(cut_at);
        if try_destroy(&through, &Default::default()).await.is_ok() {
            finished += 1;
        } else {
            cuts += 1;
        }
        client.batch("UPDATE plain SET b = 'z'").await;
        destroy(&source).await;
        assert_eq!(leftovers(&client).await, Vec::<String>::new(), "after a cut at byte {cut_at}");
        assert_eq!(dump_schema(&cluster, "app").await, before, "after a cut at byte {cut_at}");
        cut_at += STEP;
    }
    assert!(cuts > 15, "only {cuts} cuts");
}

#[tokio::test]
async fn init_waits_for_old_transactions_and_can_be_stopped() {
    let cluster = cluster().await;
    let writer = cluster.client("app").await;
    writer.batch("CREATE TABLE t (id int PRIMARY KEY); BEGIN; INSERT INTO t VALUES (1)").await;
    let (source, watcher) = (app(&cluster), cluster.client("app").await);
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_create_logical_replication_slot%'
                   AND state = 'active' AND pid <> pg_backend_pid()";

    let cancel = CancellationToken::new();
    let task = tokio::spawn({
        let (source, cancel) = (source.clone(), cancel.clone());
        async move { pgstream_engine::source::init(&source, &InitSettings::default(), &cancel, |_| ()).await.map(drop) }
    });
    watcher.wait_until(waiting, "1").await;
    cancel.cancel();
    assert!(matches!(task.await.unwrap(), Err(Error::Cancelled)));
    watcher.wait_until("SELECT count(*) FROM pg_replication_slots", "0").await;

    let task = tokio::spawn({
        let source = source.clone();
        async move { init(&source).await }
    });
    watcher.wait_until(waiting, "1").await;
    writer.batch("COMMIT").await;
    assert!(task.await.unwrap().consistent_point.is_some());
    assert_nothing_wrong(&source).await;
}

#[tokio::test]
async fn the_two_halves_make_the_whole() {
    let cluster = cluster().await;
    let client = cluster.client("app").await;
    client.batch(SCHEMA).await;
    let source = app(&cluster);
    assert_eq!(crate::setup::codes(try_init(&source, &part(Part::Slot)).await), ["source::not_migrated"]);
    let half = init_with(&source, &part(Part::Migrations)).await;
    assert_eq!(half.consistent_point, None);
    assert_eq!(leftovers(&client).await, ["publication pgstream_app", "schema pgstream"]);
    let other = init_with(&source, &part(Part::Slot)).await;
    assert!(other.consistent_point.is_some());
    assert_eq!(
        lines(&other.steps),
        ["created replication slot pgstream_app_slot", "created slot record pgstream_app_slot"]
    );
    assert_nothing_wrong(&source).await;
}

#[tokio::test]
async fn hostile_names_are_taken_as_they_are() {
    let cluster = cluster().await;
    let database = "My \"db\"; DROP TABLE x; --";
    cluster.create_database(database).await;
    let client = cluster.client(database).await;
    client
        .batch(
            "CREATE SCHEMA \"s \"\"q\"\".x\";
             CREATE TABLE \"s \"\"q\"\".x\".\"t'; DROP SCHEMA public; --\n\\\" (\"Ä\" int)",
        )
        .await;
    let before = dump_schema(&cluster, database).await;
    let source = server(&cluster.url(database));
    let report = init(&source).await;
    assert!(report.slot.starts_with("pgstream_my__db___drop_table_x____"), "{}", report.slot);
    assert_nothing_wrong(&source).await;
    client.batch("UPDATE \"s \"\"q\"\".x\".\"t'; DROP SCHEMA public; --\n\\\" SET \"Ä\" = 1").await;
    destroy(&source).await;
    assert_eq!(dump_schema(&cluster, database).await, before);
}

#[tokio::test]
async fn matrix_source_a_slot_is_kept_in_step_on_standbys_where_the_server_can() {
    let cluster = cluster().await;
    let source = app(&cluster);
    let report = init_with(&source, &InitSettings { failover: true, ..InitSettings::default() }).await;
    let client = source.connect(&Session::new("test")).await.unwrap();
    let able = cluster.major() >= 17;
    assert_eq!(slot::read(&client, SLOT).await.unwrap().unwrap().failover, able);
    assert_eq!(report.warnings.iter().any(|warning| warning.contains("standbys")), !able, "{:#?}", report.warnings);
}
