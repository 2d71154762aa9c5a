//! Digests, schemas and sequences: what is the same passes, what is not is named.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use pgstream_testkit::{Cluster, assert_same_rows, assert_same_schema, assert_sequences_not_behind, pair, pair_of};

const SCHEMA: &str = r#"
    CREATE TABLE item (id int PRIMARY KEY, note text, row_of_table float8, at timestamptz DEFAULT 'epoch');
    CREATE TABLE "Weird ""name" (v text);
    CREATE TABLE parted (id int, v text) PARTITION BY HASH (id);
    CREATE TABLE parted_0 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE parted_1 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    CREATE TABLE parent (id int);
    CREATE TABLE child (extra text) INHERITS (parent);
    CREATE UNLOGGED TABLE unlogged (id int);
    CREATE TABLE nothing ();
    CREATE SEQUENCE up; CREATE SEQUENCE down INCREMENT -1;
    INSERT INTO item SELECT i, 'note ' || i, i / 3.0 FROM generate_series(1, 100) i;
    INSERT INTO "Weird ""name" VALUES ('x'), ('x'), (NULL);
    INSERT INTO parted SELECT i, i FROM generate_series(1, 10) i;
    INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2, 'c');
    SELECT nextval('up'), nextval('down');
"#;

/// The message of a failing assertion.
async fn failure(assertion: impl Future<Output = ()>) -> String {
    let panic = AssertUnwindSafe(assertion).catch_unwind().await.expect_err("the assertion holds");
    *panic.downcast::<String>().unwrap()
}

async fn both(source: &Cluster, target: &Cluster, sql: &str) {
    source.client("app").await.batch(sql).await;
    target.client("app").await.batch(sql).await;
}

#[tokio::test]
async fn equal_databases_are_equal_across_versions() {
    let (source, target) = pair_of(13, 18).await;
    both(&source, &target, SCHEMA).await;
    target
        .client("app")
        .await
        .batch("INSERT INTO unlogged VALUES (1); CREATE SCHEMA pgstream; CREATE TABLE pgstream.x ()")
        .await;
    // The defaults of `public` changed in 15; a restored dump would have carried the older ones over.
    target
        .client("app")
        .await
        .batch("ALTER SCHEMA public OWNER TO postgres; GRANT ALL ON SCHEMA public TO public")
        .await;
    assert_same_rows(&source, &target, "app").await;
    assert_same_schema(&source, &target, "app").await;
    assert_sequences_not_behind(&source, &target, "app").await;
}

#[tokio::test]
async fn what_differs_is_named() {
    let (source, target) = pair().await;
    both(&source, &target, SCHEMA).await;
    source
        .client("app")
        .await
        .batch(
            "UPDATE item SET note = 'other' WHERE id = 7; CREATE TABLE extra (); SELECT nextval('up'), nextval('down');
             ALTER TABLE child ADD COLUMN z int; DELETE FROM parted WHERE id = 3",
        )
        .await;
    target.client("app").await.batch(r#"INSERT INTO "Weird ""name" VALUES ('x')"#).await;

    let rows = failure(assert_same_rows(&source, &target, "app")).await;
    for part in [
        "public.item: source 100 rows",
        "only on the source: (7) x1",
        "only on the target: (7) x1",
        r#"public."Weird ""name": source 3 rows"#,
        "only on the target: (x) x1",
        "public.extra: not on the target",
    ] {
        assert!(rows.contains(part), "{part} is not in\n{rows}");
    }
    assert!(!rows.contains("public.parent:"), "{rows}");

    let schema = failure(assert_same_schema(&source, &target, "app")).await;
    assert!(schema.contains("extra; Type: TABLE; Schema: public; Owner: postgres: not on the target"), "{schema}");
    assert!(schema.contains("z integer"), "{schema}");

    let sequences = failure(assert_sequences_not_behind(&source, &target, "app")).await;
    assert!(sequences.contains("public.up: source Some(2), target Some(1)"), "{sequences}");
    assert!(sequences.contains("public.down: source Some(-2), target Some(-1)"), "{sequences}");
}
