//! Schema changes while everything runs, as an operator sees them.

use pgstream_testkit::{assert_same_rows, assert_same_schema};
use serde_json::Value;

use crate::replicator::Pipeline;

const SHOP: &str = "CREATE TABLE orders (id int PRIMARY KEY, item text); INSERT INTO orders SELECT i, 'pen' FROM generate_series(1, 500) i";

async fn assert_equal(pipeline: &Pipeline) {
    assert_same_schema(&pipeline.source, &pipeline.target, "app").await;
    assert_same_rows(&pipeline.source, &pipeline.target, "app").await;
}

#[tokio::test]
async fn a_migration_is_followed_from_before_the_copy_to_after_a_kill() {
    let pipeline = Pipeline::new(SHOP).await;
    pipeline.pgstream(&["init"]).await.ok();
    let here = pipeline.here().await;
    here.batch("ALTER TABLE orders ADD before_copy int DEFAULT 1; CREATE TABLE early (id int PRIMARY KEY)").await;
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    here.batch(
        "BEGIN; ALTER TABLE orders RENAME item TO article; INSERT INTO orders VALUES (501, 'ink', 2); COMMIT;
         CREATE TABLE notes AS SELECT id, random() AS r FROM orders;
         CREATE INDEX orders_article ON orders (article); CREATE VIEW articles AS SELECT DISTINCT article FROM orders",
    )
    .await;
    pipeline.caught_up(&mut running).await;
    running.kill9();
    here.batch("ALTER TABLE orders ADD CONSTRAINT named CHECK (article <> ''); ALTER TABLE early ADD t text; INSERT INTO early VALUES (1, 't')").await;
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    assert_equal(&pipeline).await;
    running.stop().await.ok();

    let log = pipeline.pgstream(&["ddl", "log"]).await.ok();
    log.prints(&["copied", "applied", "ALTER TABLE", "table public.orders", "CREATE TABLE AS", "view public.articles"]);
    let json: Value = serde_json::from_str(&pipeline.pgstream(&["ddl", "log", "--json"]).await.ok().out).unwrap();
    let states: Vec<&str> = json.as_array().unwrap().iter().map(|entry| entry["state"].as_str().unwrap()).collect();
    assert!(states.starts_with(&["copied", "copied"]) && states.ends_with(&["applied", "applied"]), "{states:?}");
}

#[tokio::test]
async fn what_is_not_replayed_stops_the_stream_until_it_is_skipped() {
    let pipeline = Pipeline::new(SHOP).await;
    pipeline.pgstream(&["init"]).await.ok();
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    let family = "CREATE OPERATOR FAMILY fam USING btree";
    let here = pipeline.here().await;
    here.batch(&format!("{family}; INSERT INTO orders VALUES (1000, 'after')")).await;
    running.done().await.ends(1).says(&["stream::ddl_uncovered", "operator family", "ddl skip", "docs/ddl.md"]);
    pipeline.pgstream(&["ddl", "log"]).await.ends(1).prints(&["failed", "CREATE OPERATOR FAMILY"]);

    pipeline.there().await.batch(family).await;
    let id: i64 = here.scalar("SELECT max(id) FROM pgstream.schema_log").await;
    pipeline.pgstream(&["ddl", "skip", &id.to_string()]).await.ok().prints(&["will skip", "CREATE OPERATOR FAMILY"]);
    pipeline.pgstream(&["ddl", "skip", "4711"]).await.ends(1).prints(&["no schema change 4711"]);
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    assert_equal(&pipeline).await;
    pipeline.pgstream(&["ddl", "log"]).await.ok().prints(&["skipped"]);
    running.stop().await.ok();
}

#[tokio::test]
async fn a_target_changed_behind_its_back_stops_the_stream_with_the_statement() {
    let pipeline = Pipeline::new(SHOP).await;
    pipeline.pgstream(&["init"]).await.ok();
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    pipeline.there().await.batch("ALTER TABLE orders ADD extra int").await;
    pipeline.here().await.batch("ALTER TABLE orders ADD extra int").await;
    let refused = ["stream::ddl_refused", "already exists", "ADD COLUMN", "Nothing of this transaction was applied"];
    running.done().await.ends(1).says(&refused);
    pipeline.there().await.batch("ALTER TABLE orders DROP extra").await;
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    assert_equal(&pipeline).await;
    running.stop().await.ok();
}

#[tokio::test]
async fn ignored_changes_are_noted_and_left_alone() {
    let mut pipeline = Pipeline::new(SHOP).await;
    pipeline.set("target.postgres.ignore_ddl", true);
    pipeline.pgstream(&["init"]).await.ok();
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    pipeline.here().await.batch("CREATE INDEX nobody ON orders (item)").await;
    pipeline.caught_up(&mut running).await;
    pipeline.pgstream(&["ddl", "log"]).await.ok().prints(&["ignored", "CREATE INDEX"]);
    let there = pipeline.there().await;
    assert_eq!(there.scalar::<i64>("SELECT count(*) FROM pg_class WHERE relname = 'nobody'").await, 0);
    running.stop().await.ok();
}

#[tokio::test]
async fn kinds_of_objects_and_tables_that_are_left_out_are_left_out_of_changes() {
    let mut pipeline = Pipeline::new(SHOP).await;
    pipeline.set("target.postgres.exclude_ddl_object_types", vec!["indexes", "views"]);
    pipeline.set("modifiers.filter.exclude_tables", vec!["private.*"]);
    pipeline.pgstream(&["init"]).await.ok();
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    let here = pipeline.here().await;
    here.batch(
        "CREATE INDEX left_out ON orders (item); CREATE VIEW left_out_too AS SELECT 1 AS one; ALTER TABLE orders ADD kept int;
         CREATE SCHEMA private CREATE TABLE secrets (id int PRIMARY KEY); INSERT INTO private.secrets VALUES (1)",
    )
    .await;
    pipeline.caught_up(&mut running).await;
    let there = pipeline.there().await;
    let left_out = "SELECT count(*) FROM pg_class WHERE relname LIKE 'left_out%' OR relname = 'secrets'";
    assert_eq!(there.scalar::<i64>(left_out).await, 0);
    let kept = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'orders'::regclass AND attname = 'kept'";
    assert_eq!(there.scalar::<i64>(kept).await, 1);
    running.stop().await.ok();
}
