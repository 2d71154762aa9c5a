//! Which tables the publication publishes, and in which way.

use pgstream_engine::source::{Action, Object, publication, slot};
use pgstream_postgres::{Session, TableName};
use pgstream_testkit::cluster;

use crate::setup::{app, assert_nothing_wrong, excluding, has, including, init, init_with, lines, role, status};

const SCHEMA: &str = "
    CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); CREATE UNLOGGED TABLE u (id int PRIMARY KEY);
    CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id);
    CREATE TABLE leaf_1 PARTITION OF root FOR VALUES FROM (1) TO (10);
    CREATE TABLE leaf_2 PARTITION OF root FOR VALUES FROM (10) TO (20);
    CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent)";

async fn published(cluster: &pgstream_testkit::Cluster) -> Vec<String> {
    let sql =
        "SELECT schemaname || '.' || tablename FROM pg_publication_tables WHERE pubname = 'pgstream_app' ORDER BY 1";
    cluster.client("app").await.query(sql).await.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn without_a_filter_all_tables_are_published() {
    let cluster = cluster().await;
    let client = cluster.client("app").await;
    client.batch(SCHEMA).await;
    let source = app(&cluster);
    let report = init(&source).await;
    assert!(report.warnings.iter().any(|warning| warning.contains("\"public\".\"u\"")), "{:#?}", report.warnings);
    client.batch("CREATE TABLE later (id int PRIMARY KEY)").await;
    let session = source.connect(&Session::new("test")).await.unwrap();
    let found = publication::describe(&session, "pgstream_app").await.unwrap().unwrap();
    assert!(found.all_tables && !found.via_root && found.is_standard());
    for table in ["a", "later", "leaf_1", "child"] {
        assert!(found.tables.contains(&TableName::new("public", table)), "{table}");
    }
    for table in ["root", "u"] {
        assert!(!found.tables.contains(&TableName::new("public", table)), "{table}");
    }
    assert_nothing_wrong(&source).await;
    assert!(publication::describe(&session, "other").await.unwrap().is_none());
}

#[tokio::test]
async fn matrix_source_a_filter_becomes_a_list_with_partitions_as_a_whole() {
    let cluster = cluster().await;
    let client = cluster.client("app").await;
    client.batch(SCHEMA).await;
    let source = app(&cluster);
    let settings = including(&[("public", "a"), ("public", "root"), ("public", "parent")]);
    init_with(&source, &settings).await;
    let expected = ["pgstream.schema_log", "public.a", "public.leaf_1", "public.leaf_2", "public.parent"];
    assert_eq!(published(&cluster).await, expected);
    // A partition that comes later is followed, a table that inherits is not.
    client.batch("CREATE TABLE leaf_3 PARTITION OF root FOR VALUES FROM (20) TO (30); UPDATE root SET id = id").await;
    assert_eq!(published(&cluster).await.len(), expected.len() + 1);
    // The next init adds what is wanted now, and takes nothing away.
    let report = init_with(&source, &including(&[("public", "b"), ("public", "root")])).await;
    assert!(has(&report.steps, Action::Created, Object::PublishedTable, "\"public\".\"b\""), "{:#?}", report.steps);
    let unwanted = report.warnings.iter().find(|warning| warning.contains("no longer wanted")).unwrap();
    assert!(unwanted.contains("\"public\".\"a\", \"public\".\"parent\""), "{unwanted}");
    assert!(published(&cluster).await.contains(&"public.a".to_owned()));
    let report = init_with(&source, &including(&[("public", "b"), ("public", "root")])).await;
    assert!(report.steps.iter().all(|step| step.action == Action::Kept), "{:#?}", report.steps);
}

#[tokio::test]
async fn a_partition_left_out_leaves_out_nothing_else() {
    let cluster = cluster().await;
    cluster.client("app").await.batch(SCHEMA).await;
    init_with(&app(&cluster), &excluding("public", "leaf_1")).await;
    let expected = ["pgstream.schema_log", "public.a", "public.b", "public.child", "public.leaf_2", "public.parent"];
    assert_eq!(published(&cluster).await, expected);
}

#[tokio::test]
async fn who_may_not_publish_everything_publishes_a_list() {
    let cluster = cluster().await;
    let source = role(&cluster, "operator", "REPLICATION").await;
    let client = cluster.client("app").await;
    client.batch("GRANT CREATE ON DATABASE app TO operator; GRANT ALL ON SCHEMA public TO operator").await;
    client.batch("SET ROLE operator; CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int); RESET ROLE").await;
    let report = init(&source).await;
    assert_eq!(published(&cluster).await, ["pgstream.schema_log", "public.a", "public.b"]);
    assert!(report.warnings.iter().any(|warning| warning.contains("after the next init")), "{:#?}", report.warnings);
    client.batch("SET ROLE operator; CREATE TABLE c (id int PRIMARY KEY); RESET ROLE").await;
    let found = status(&source).await;
    assert_eq!(found.publication.as_ref().unwrap().unpublished, ["\"public\".\"c\""]);
    assert_eq!(found.findings[0].code, "tables_unpublished");
    init(&source).await;
    assert_nothing_wrong(&source).await;
    crate::setup::destroy(&source).await;
    assert!(crate::setup::leftovers(&client).await.is_empty());
}

#[tokio::test]
async fn settings_that_would_lose_changes_are_put_right() {
    let cluster = cluster().await;
    let client = cluster.client("app").await;
    client.batch(SCHEMA).await;
    let source = app(&cluster);
    init(&source).await;
    client.batch("ALTER PUBLICATION pgstream_app SET (publish = 'insert', publish_via_partition_root = true)").await;
    assert_eq!(status(&source).await.findings[0].code, "publication_settings");
    let report = init(&source).await;
    assert!(has(&report.steps, Action::Changed, Object::Publication, "pgstream_app"), "{:#?}", report.steps);
    assert_nothing_wrong(&source).await;
    if cluster.major() >= 18 {
        client.batch("ALTER PUBLICATION pgstream_app SET (publish_generated_columns = stored)").await;
        assert_eq!(status(&source).await.findings[0].code, "publication_settings");
        init(&source).await;
        assert_nothing_wrong(&source).await;
    }
}

#[tokio::test]
async fn a_publication_and_slot_that_were_there_are_used_and_left() {
    let cluster = cluster().await;
    let client = cluster.client("app").await;
    client
        .batch(
            "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int); CREATE PUBLICATION pgstream_app FOR TABLE a",
        )
        .await;
    client.execute("SELECT pg_create_logical_replication_slot('pgstream_app_slot', 'pgoutput')").await;
    let source = app(&cluster);
    let report = init(&source).await;
    assert!(has(&report.steps, Action::Kept, Object::Slot, "pgstream_app_slot"), "{:#?}", report.steps);
    assert!(has(&report.steps, Action::Created, Object::PublishedTable, "\"public\".\"b\""), "{:#?}", report.steps);
    let session = source.connect(&Session::new("test")).await.unwrap();
    assert!(slot::fence(&session, "pgstream_app_slot").await.unwrap().is_some());
    let steps = crate::setup::destroy(&source).await;
    assert_eq!(
        lines(&steps),
        [
            "left replication slot pgstream_app_slot",
            "removed event trigger pgstream_ddl_command_end",
            "removed event trigger pgstream_sql_drop",
            "removed event trigger pgstream_table_rewrite",
            "left publication pgstream_app",
            "left replica identity \"public\".\"b\"",
            "removed schema pgstream",
        ]
    );
    client.batch("UPDATE b SET id = 1").await;
}

#[tokio::test]
async fn tables_of_an_extension_are_published_only_when_they_hold_the_users_rows() {
    let cluster = cluster().await;
    let client = cluster.client("app").await;
    client
        .batch(
            "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE internal (id int); CREATE TABLE config (id int);
             ALTER EXTENSION plpgsql ADD TABLE internal; ALTER EXTENSION plpgsql ADD TABLE config;
             UPDATE pg_extension SET extconfig = ARRAY['config'::regclass::oid], extcondition = '{\"\"}'
             WHERE extname = 'plpgsql'",
        )
        .await;
    let settings = including(&[("public", "*")]);
    init_with(&app(&cluster), &settings).await;
    assert_eq!(published(&cluster).await, ["pgstream.schema_log", "public.a", "public.config"]);
}
