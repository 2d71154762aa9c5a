//! Targets that are not empty.

use pgstream_config::pipeline::{OnConflict, SnapshotMode};
use pgstream_engine::snapshot::{Error, Event, Progress};
use pgstream_postgres::Class;
use pgstream_testkit::{Proxy, assert_same_rows, pair};
use tokio_util::sync::CancellationToken;

use crate::setup::{job, run, server};

const TABLE: &str = "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text, w text)";

#[tokio::test]
async fn rows_that_are_not_ours_stop_the_copy_before_anything_is_written() {
    let (source, target) = pair().await;
    source
        .client("app")
        .await
        .batch(&format!("{TABLE}; INSERT INTO t (v) VALUES ('a'); CREATE TABLE other (a int)"))
        .await;
    let there = target.client("app").await;
    there.batch(&format!("{TABLE}; INSERT INTO t (v) VALUES ('mine')")).await;
    let error = run(job(&source, &target)).await.unwrap_err();
    assert!(matches!(&error, Error::TargetNotEmpty { tables } if *tables == ["\"public\".\"t\""]), "{error:?}");
    assert_eq!(there.text("SELECT to_regclass('other')::text || to_regnamespace('pgstream')::text").await, None);
    assert_eq!(there.text("SELECT v FROM t").await.as_deref(), Some("mine"));
}

#[tokio::test]
async fn rows_are_merged_when_asked() {
    let (source, target) = pair().await;
    source.client("app").await.batch(&format!("{TABLE}; INSERT INTO t (v) VALUES ('a'), ('b')")).await;
    let there = target.client("app").await;
    there.batch(&format!("{TABLE}; INSERT INTO t (v, w) VALUES ('mine', 'kept')")).await;
    let mut merge = job(&source, &target);
    merge.target_settings.on_conflict = OnConflict::Nothing;
    run(merge.clone()).await.unwrap();
    assert_eq!(there.text("SELECT string_agg(v, ',' ORDER BY id) FROM t").await.as_deref(), Some("mine,b"));
    there.batch("DROP SCHEMA pgstream CASCADE").await;
    merge.target_settings.on_conflict = OnConflict::Update;
    run(merge).await.unwrap();
    assert_same_rows(&source, &target, "app").await;
}

#[tokio::test]
async fn empty_tables_that_were_there_are_used_as_they_are() {
    let (source, target) = pair().await;
    source.client("app").await.batch(&format!("{TABLE}; INSERT INTO t (v) VALUES ('a')")).await;
    target.client("app").await.batch("CREATE TABLE t (id bigint PRIMARY KEY, v varchar, w text, extra int)").await;
    let summary = run(job(&source, &target)).await.unwrap();
    assert!(
        summary.notices.iter().any(|n| n.contains("kept as they are") && n.contains("TABLE public t")),
        "{summary:?}"
    );
    assert_eq!(target.client("app").await.text("SELECT id || v FROM t").await.as_deref(), Some("1a"));
}

#[tokio::test]
async fn a_copy_that_the_target_refuses_is_not_read_to_its_end() {
    let (source, target) = pair().await;
    source
        .client("app")
        .await
        .batch("CREATE TABLE t AS SELECT g AS id, md5(random()::text) || repeat('x', 1000) AS v FROM generate_series(1, 30000) g")
        .await;
    target.client("app").await.batch("CREATE TABLE t (id int CHECK (id <> 7), v text)").await;
    let proxy = Proxy::start(source.port()).await.unwrap();
    let mut job = job(&source, &target);
    job.source = server(&proxy.url(&source.url("app"), source.port()));
    let (progress, mut events) = Progress::channel();
    let task = tokio::spawn(pgstream_engine::snapshot::run(job, progress, CancellationToken::new()));
    while !matches!(events.recv().await, Some(Event::TableStarted(_)) | None) {}
    proxy.throttle(2_000_000);
    let error = task.await.unwrap().unwrap_err();
    assert_eq!(error.class(), Class::Data, "{error:?}");
    assert!(!error.to_string().contains("xxx"), "{error}");
    assert!(proxy.passed() < 20_000_000, "{} bytes were read", proxy.passed());
}

#[tokio::test]
async fn rows_are_not_in_errors() {
    let (source, target) = pair().await;
    source.client("app").await.batch("CREATE TABLE t (id text PRIMARY KEY); INSERT INTO t VALUES ('sensitive')").await;
    // Another table of the same name without its key: a second copy of the row makes the index impossible.
    let there = target.client("app").await;
    there.batch("CREATE TABLE t (id text); INSERT INTO t VALUES ('sensitive')").await;
    let mut job = job(&source, &target);
    job.target_settings.on_conflict = OnConflict::Nothing;
    let error = run(job).await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(matches!(error, Error::Restore { .. }) && !text.contains("sensitive"), "{text}");
}

const FAMILY: &str = "
    CREATE TABLE grandchild (id int PRIMARY KEY, child int);
    CREATE TABLE child (id int PRIMARY KEY, parent int, self int REFERENCES child);
    CREATE TABLE parent (id int PRIMARY KEY);
    ALTER TABLE grandchild ADD FOREIGN KEY (child) REFERENCES child; ALTER TABLE child ADD FOREIGN KEY (parent) REFERENCES parent;";

const FAMILY_ROWS: &str = "
    INSERT INTO parent SELECT generate_series(1, 100); INSERT INTO child SELECT g, g, 101 - g FROM generate_series(1, 100) g;
    INSERT INTO grandchild SELECT g, 1 + g % 100 FROM generate_series(1, 5000) g;";

#[tokio::test]
async fn rows_alone_are_copied_parents_first_when_keys_cannot_be_switched_off() {
    let (source, target) = pair().await;
    source.client("app").await.batch(&format!("{FAMILY}{FAMILY_ROWS}")).await;
    target.client("app").await.batch(FAMILY).await;
    for triggers_off in [Some(false), None] {
        let mut job = job(&source, &target);
        job.settings.mode = SnapshotMode::Data;
        job.target_settings.disable_triggers = triggers_off;
        job.settings.repeat = true;
        run(job).await.unwrap();
        assert_same_rows(&source, &target, "app").await;
        target.client("app").await.batch("TRUNCATE parent, child, grandchild; DROP SCHEMA pgstream CASCADE").await;
    }
}

#[tokio::test]
async fn a_circle_of_keys_needs_them_switched_off() {
    let (source, target) = pair().await;
    let circle = "CREATE TABLE a (id int PRIMARY KEY, b int); CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a);
                  ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b;";
    let rows = "INSERT INTO a VALUES (1, NULL); INSERT INTO b VALUES (1, 1); UPDATE a SET b = 1;";
    source.client("app").await.batch(&format!("{circle}{rows}")).await;
    target.client("app").await.batch(circle).await;
    let mut job = job(&source, &target);
    job.settings.mode = SnapshotMode::Data;
    job.target_settings.disable_triggers = Some(false);
    assert!(matches!(run(job.clone()).await, Err(Error::ForeignKeyCircle { .. })));
    job.target_settings.disable_triggers = None;
    run(job).await.unwrap();
    assert_same_rows(&source, &target, "app").await;
}

#[tokio::test]
async fn rows_alone_need_their_tables() {
    let (source, target) = pair().await;
    source.client("app").await.batch("CREATE TABLE t (a int, b int)").await;
    let mut job = job(&source, &target);
    job.settings.mode = SnapshotMode::Data;
    assert!(matches!(run(job.clone()).await, Err(Error::TableMissing { .. })));
    target.client("app").await.batch("CREATE TABLE t (a int)").await;
    let error = run(job).await.unwrap_err();
    assert!(matches!(&error, Error::ShapeDiffers { columns, .. } if *columns == ["\"b\""]), "{error:?}");
}
