//! A run that dies is continued.

use pgstream_testkit::{assert_same_rows, assert_same_schema, pair};

use crate::setup::{job, run};

#[tokio::test]
async fn a_second_run_copies_nothing_again() {
    let (source, target) = pair().await;
    source
        .client("app")
        .await
        .batch("CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a SELECT generate_series(1, 1000); CREATE TABLE b (id int REFERENCES a)")
        .await;
    let first = run(job(&source, &target)).await.unwrap();
    assert_eq!((first.tables, first.rows), (2, 1000));
    let second = run(job(&source, &target)).await.unwrap();
    assert_eq!((second.tables, second.tables_before, second.rows), (0, 2, 0));
    source
        .client("app")
        .await
        .batch("INSERT INTO a VALUES (0); CREATE TABLE late (x text); INSERT INTO late VALUES ('x')")
        .await;
    let third = run(job(&source, &target)).await.unwrap();
    assert_eq!((third.tables, third.rows), (1, 1));
    let mut again = job(&source, &target);
    again.settings.repeat = true;
    run(again).await.unwrap();
    assert_same_rows(&source, &target, "app").await;
    assert_same_schema(&source, &target, "app").await;
}
