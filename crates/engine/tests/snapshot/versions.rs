//! Between major versions.

use pgstream_engine::snapshot::Error;
use pgstream_testkit::{assert_same_rows, pair_of};

use crate::setup::{job, run};

const MIXED: &str = "
    CREATE EXTENSION hstore; CREATE TYPE mood AS ENUM ('a', 'b'); CREATE TYPE pair AS (m mood, i int);
    CREATE TABLE t (id int PRIMARY KEY, m mood, ms mood[], p pair, ps pair[], h hstore, r regclass, n numeric, j jsonb);
    INSERT INTO t SELECT g, 'a', '{a,b}', ('b', g)::pair, ARRAY[('a', 1)::pair], 'a=>1', 't', 'NaN', '{\"a\": 1}' FROM generate_series(1, 5000) g;
    CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
    INSERT INTO parts VALUES (5); CREATE INDEX t_m ON t (m); CREATE VIEW v AS SELECT * FROM t;";

async fn between(from: u32, to: u32) {
    let (source, target) = pair_of(from, to).await;
    // The OIDs of the two servers' types differ.
    target
        .client("app")
        .await
        .batch("CREATE TYPE gap1 AS ENUM (); DROP TYPE gap1; CREATE TYPE gap2 AS (); DROP TYPE gap2")
        .await;
    source.client("app").await.batch(MIXED).await;
    let mut job = job(&source, &target);
    job.settings.part_bytes = 200_000;
    run(job).await.unwrap();
    assert_same_rows(&source, &target, "app").await;
}

#[tokio::test]
async fn from_13_to_18() {
    between(13, 18).await;
}

#[tokio::test]
async fn from_15_to_16() {
    between(15, 16).await;
}

#[tokio::test]
async fn from_14_to_13() {
    between(14, 13).await;
}

#[tokio::test]
async fn an_extension_that_the_target_lacks_is_named_before_anything_is_written() {
    let (source, target) = pair_of(16, 18).await;
    source.client("app").await.batch("CREATE EXTENSION adminpack; CREATE ROLE somebody").await;
    let error = run(job(&source, &target)).await.unwrap_err();
    assert!(matches!(&error, Error::ExtensionMissing { extensions } if *extensions == ["adminpack"]), "{error:?}");
    let there = target.client("app").await;
    assert_eq!(there.text("SELECT to_regnamespace('pgstream')::text").await, None);
    assert_eq!(there.text("SELECT rolname FROM pg_roles WHERE rolname = 'somebody'").await, None);
}

#[tokio::test]
async fn tools_that_are_too_old_are_refused() {
    let (source, target) = pair_of(18, 18).await;
    let mut job = job(&source, &target);
    job.tools = Some("/nonexistent".into());
    match run(job).await {
        // Tools of another directory are new enough.
        Ok(_) => {}
        Err(error) => assert!(matches!(error, Error::ToolMissing { needed: 18, .. }), "{error:?}"),
    }
}
