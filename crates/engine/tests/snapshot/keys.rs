//! What follows the rows: indexes and keys, and how rows have to lie for them.

use pgstream_testkit::{assert_same_rows, pair};

use crate::setup::{assert_same_schema, job, run};

const PARENTS_AND_CHILDREN: &str = "
    CREATE TABLE parent (a int, b text, PRIMARY KEY (a, b));
    CREATE TABLE child (id int PRIMARY KEY, a int, b text, next int REFERENCES child, FOREIGN KEY (a, b) REFERENCES parent);
    CREATE INDEX ON child (a, b); CREATE INDEX ON child (next);
    INSERT INTO parent SELECT n, 'p' || n FROM generate_series(1, 30000) n;
    INSERT INTO child SELECT n, 1 + n * 7 % 30000, 'p' || 1 + n * 7 % 30000, nullif(n - 1, 0) FROM generate_series(1, 30000) n";

#[tokio::test]
async fn a_table_is_frozen_unless_it_would_outlast_the_others() {
    let (source, target) = pair().await;
    let here = source.client("app").await;
    here.batch(PARENTS_AND_CHILDREN).await;
    here.batch("CREATE TABLE huge AS SELECT n, repeat('x', 100) AS x FROM generate_series(1, 100000) n").await;
    let mut job = job(&source, &target);
    job.settings.part_bytes = 64 * 1024;
    job.settings.table_workers = 2.try_into().unwrap();
    run(job).await.unwrap();
    assert_same_rows(&source, &target, "app").await;
    let there = target.client("app").await;
    let frozen = "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class
                  WHERE relkind = 'r' AND relpages > 10 AND relallvisible > relpages / 2 AND relnamespace = 'public'::regnamespace";
    assert_eq!(there.text(frozen).await.as_deref(), Some("child parent"));
    let parts = "SELECT string_agg(DISTINCT table_name || (parts > 1), ' ' ORDER BY table_name || (parts > 1)) FROM pgstream.snapshot_ledger";
    assert_eq!(there.text(parts).await.as_deref(), Some("childfalse hugetrue parentfalse"));
}

#[tokio::test]
async fn a_row_without_its_parent_is_found_when_the_key_is_added() {
    let (source, target) = pair().await;
    let here = source.client("app").await;
    here.batch(PARENTS_AND_CHILDREN).await;
    here.batch("SET session_replication_role = replica; DELETE FROM parent WHERE a = 12345").await;
    let error = run(job(&source, &target)).await.unwrap_err().to_string();
    assert!(error.contains("child_a_b_fkey"), "{error}");
}

#[tokio::test]
async fn an_index_whose_text_looks_like_a_part_of_a_dump_is_built() {
    let (source, target) = pair().await;
    let here = source.client("app").await;
    here.batch(
        "CREATE TABLE t (id int PRIMARY KEY, x text);
         CREATE INDEX ON t (id) WHERE x <> E'\\n--\\n-- TOC entry 1 (class 2606 OID 16384)\\n-- Name: t\\n--\\n\\nDROP TABLE t;\\n';
         CREATE INDEX ON t (x); INSERT INTO t VALUES (1, 'x')",
    )
    .await;
    run(job(&source, &target)).await.unwrap();
    assert_same_rows(&source, &target, "app").await;
    assert_same_schema(&source, &target, "app").await;
}
