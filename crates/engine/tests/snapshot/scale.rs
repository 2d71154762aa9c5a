//! Many tables.
use crate::setup::{job, run};
use pgstream_testkit::{assert_same_rows, pair};

#[tokio::test]
async fn many_tables() {
    let (source, target) = pair().await;
    source.client("app").await.batch("DO $$ BEGIN FOR i IN 1..3000 LOOP EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY, v text UNIQUE, w int GENERATED ALWAYS AS IDENTITY)', i); IF i % 50 = 0 THEN COMMIT; END IF; END LOOP; END $$").await;
    source.client("app").await.batch("DO $$ BEGIN FOR i IN 1..3000 LOOP EXECUTE format('INSERT INTO t%s SELECT g, g::text FROM generate_series(1, 10) g', i); END LOOP; END $$").await;
    let start = std::time::Instant::now();
    let summary = run(job(&source, &target)).await.unwrap();
    eprintln!("{:?} {summary:?}", start.elapsed());
    let start = std::time::Instant::now();
    let summary = run(job(&source, &target)).await.unwrap();
    eprintln!("again {:?} {summary:?}", start.elapsed());
    assert_same_rows(&source, &target, "app").await;
}
#[tokio::test]
async fn many_rows() {
    let (source, target) = pair().await;
    source.client("app").await.batch("CREATE TABLE big AS SELECT g AS id, g * 2 AS b, md5(g::text) AS c, now() AS d FROM generate_series(1, 2000000) g; ALTER TABLE big ADD PRIMARY KEY (id); CREATE INDEX ON big (b); CREATE INDEX ON big (c)").await;
    let start = std::time::Instant::now();
    let summary = run(job(&source, &target)).await.unwrap();
    eprintln!("{:?} {summary:?}", start.elapsed());
}
