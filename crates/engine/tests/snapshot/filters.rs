//! Only what is wanted arrives, and what hangs on the rest is named.

use pgstream_config::pipeline::{ObjectType, ObjectTypes, SnapshotMode};
use pgstream_testkit::{assert_same_rows_in, pair};

use crate::setup::{job, pattern, run};

const SHOP: &str = "
    CREATE TYPE state AS ENUM ('new', 'done');
    CREATE TABLE customers (id serial PRIMARY KEY, name text); INSERT INTO customers (name) VALUES ('a'), ('b');
    CREATE TABLE orders (id serial PRIMARY KEY, customer int REFERENCES customers, state state);
    INSERT INTO orders (customer, state) VALUES (1, 'new'), (2, 'done'); CREATE INDEX orders_state ON orders (state);
    CREATE TABLE audit (a text); INSERT INTO audit VALUES ('x');
    CREATE VIEW totals AS SELECT customer, count(*) FROM orders JOIN customers c ON c.id = customer GROUP BY 1;
    CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'; COMMENT ON TABLE orders IS 'x';
    CREATE TABLE parts (id int) PARTITION BY RANGE (id); CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
    INSERT INTO parts VALUES (1);";

#[tokio::test]
async fn tables_that_are_not_wanted_take_their_dependants_with_them() {
    let (source, target) = pair().await;
    source.client("app").await.batch(SHOP).await;
    let mut job = job(&source, &target);
    job.settings.tables.include = vec![pattern("public.orders"), pattern("public.parts")];
    job.settings.tables.schema_only = vec![pattern("public.audit")];
    let summary = run(job).await.unwrap();
    let notice = summary.notices.iter().find(|n| n.starts_with("left out")).unwrap();
    assert!(notice.contains("FK CONSTRAINT public orders") && notice.contains("VIEW public totals"), "{notice}");
    let there = target.client("app").await;
    let relations = "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class
                     WHERE relnamespace = 'public'::regnamespace";
    assert_eq!(
        there.text(relations).await.as_deref(),
        Some("audit orders orders_id_seq orders_pkey orders_state parts parts_1")
    );
    assert_eq!(there.scalar::<i64>("SELECT count(*) FROM audit").await, 0);
    assert_same_rows_in(&source, &target, "app", |t| t.contains("orders") || t.contains("parts")).await;
}

#[tokio::test]
async fn object_types_that_are_not_wanted_stay_behind() {
    let (source, target) = pair().await;
    source.client("app").await.batch(SHOP).await;
    let mut job = job(&source, &target);
    job.settings.schema.object_types =
        ObjectTypes::Except(vec![ObjectType::Indexes, ObjectType::Functions, ObjectType::Comments, ObjectType::Views]);
    run(job).await.unwrap();
    let there = target.client("app").await;
    assert_eq!(there.text("SELECT to_regclass('orders_state')::text").await, None);
    assert_eq!(there.text("SELECT to_regproc('one')::text").await, None);
    assert_eq!(there.text("SELECT obj_description('orders'::regclass)").await, None);
    assert_eq!(there.scalar::<i64>("SELECT count(*) FROM pg_constraint WHERE contype = 'f'").await, 1);
}

#[tokio::test]
async fn schema_alone_brings_no_rows() {
    let (source, target) = pair().await;
    source.client("app").await.batch(SHOP).await;
    let mut job = job(&source, &target);
    job.settings.mode = SnapshotMode::Schema;
    let file = std::env::temp_dir().join(format!("pgstream-test-{}.dump", std::process::id()));
    job.settings.schema.dump_file = Some(file.clone());
    run(job.clone()).await.unwrap();
    let there = target.client("app").await;
    assert_eq!(there.scalar::<i64>("SELECT count(*) FROM orders").await, 0);
    assert!(std::fs::read(&file).unwrap().starts_with(b"PGDMP"));
    std::fs::remove_file(file).unwrap();
    // Then everything: the rows come into the tables that are there.
    job.settings.schema.dump_file = None;
    job.settings.mode = SnapshotMode::Full;
    run(job).await.unwrap();
    assert_same_rows_in(&source, &target, "app", |_| true).await;
}
