//! The target database is made, or replaced only when its replacement is complete.

use pgstream_engine::snapshot::{Error, Event, LedgerSource, Progress};
use pgstream_testkit::{assert_same_rows, pair};
use tokio_util::sync::CancellationToken;

use crate::setup::{assert_same_schema, job, run, server};

#[tokio::test]
async fn a_missing_database_is_created_like_the_source() {
    let (source, target) = pair().await;
    let there = source.client("app").await;
    there.batch("CREATE TABLE t (a int); INSERT INTO t VALUES (1); ALTER DATABASE app SET work_mem = '7MB'").await;
    target.client("postgres").await.batch("DROP DATABASE app").await;
    assert!(matches!(run(job(&source, &target)).await, Err(Error::DatabaseMissing { .. })));
    let mut job = job(&source, &target);
    job.settings.schema.create_target_db = true;
    run(job).await.unwrap();
    assert_same_rows(&source, &target, "app").await;
    assert_eq!(target.client("app").await.text("SHOW work_mem").await.as_deref(), Some("7MB"));
}

#[tokio::test]
async fn a_clean_copy_replaces_the_database_only_when_it_is_complete() {
    let (source, target) = pair().await;
    source
        .client("app")
        .await
        .batch(
            "CREATE TABLE big AS SELECT g AS id, repeat('x', 500) AS filler FROM generate_series(1, 20000) g;
             CREATE TABLE small (a int); INSERT INTO small VALUES (1)",
        )
        .await;
    let old = target.client("app").await;
    old.batch(
        "CREATE TABLE precious (a int); INSERT INTO precious VALUES (42); ALTER DATABASE app CONNECTION LIMIT 77",
    )
    .await;
    let clean = || {
        let mut job = job(&source, &target);
        job.settings.schema.clean_target_db = true;
        job.settings.table_workers = 1.try_into().unwrap();
        job
    };
    let (progress, mut events) = Progress::channel();
    let cancel = CancellationToken::new();
    let task = tokio::spawn(pgstream_engine::snapshot::run(clean(), progress, cancel.clone()));
    while let Some(event) = events.recv().await {
        if matches!(event, Event::TableFinished(_)) {
            cancel.cancel();
            break;
        }
    }
    task.await.unwrap().unwrap_err();
    assert_eq!(old.scalar::<i32>("SELECT a FROM precious").await, 42);
    let second = run(clean()).await.unwrap();
    assert!(second.tables_before >= 1, "{second:?}");
    assert_same_rows(&source, &target, "app").await;
    let admin = target.client("postgres").await;
    assert_eq!(admin.scalar::<i64>("SELECT count(*) FROM pg_database WHERE datname LIKE 'app%'").await, 1);
    assert_eq!(admin.scalar::<i32>("SELECT datconnlimit FROM pg_database WHERE datname = 'app'").await, 77);
    let third = run(clean()).await.unwrap();
    assert_eq!((third.tables, third.tables_before), (2, 0));
    assert_same_schema(&source, &target, "app").await;
}

#[tokio::test]
async fn a_database_that_is_being_followed_is_not_built_again() {
    let (source, target) = pair().await;
    let here = source.client("app").await;
    here.batch("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").await;
    here.batch("SELECT pg_create_logical_replication_slot('s', 'pgoutput')").await;
    let mut clean = job(&source, &target);
    clean.settings.schema.clean_target_db = true;
    clean.ledger_source = LedgerSource::Slot("s".to_owned());
    run(clean.clone()).await.unwrap();
    let admin = target.client("postgres").await;
    let oid: u32 = admin.scalar("SELECT oid FROM pg_database WHERE datname = 'app'").await;
    let second = run(clean.clone()).await.unwrap();
    assert_eq!((second.tables, second.tables_before), (0, 1));
    assert_eq!(admin.scalar::<u32>("SELECT oid FROM pg_database WHERE datname = 'app'").await, oid);
    // A new slot of the same name cannot go on from it.
    here.batch("SELECT pg_drop_replication_slot('s')").await;
    here.batch("INSERT INTO t VALUES (2)").await;
    here.batch("SELECT pg_create_logical_replication_slot('s', 'pgoutput')").await;
    assert_eq!(run(clean).await.unwrap().rows, 2);
    assert_same_rows(&source, &target, "app").await;
}

#[tokio::test]
async fn a_database_that_is_not_ours_is_never_dropped() {
    let (source, target) = pair().await;
    target.client("postgres").await.batch("CREATE DATABASE app_pgstream_new").await;
    let mut first = job(&source, &target);
    first.settings.schema.clean_target_db = true;
    assert!(matches!(run(first.clone()).await, Err(Error::DatabaseInTheWay { .. })));
    target.client("postgres").await.batch("ALTER DATABASE app_pgstream_new RENAME TO app_pgstream_old").await;
    assert!(matches!(run(first).await, Err(Error::DatabaseInTheWay { .. })));
    drop(server(&target.url("app_pgstream_old")));
    target.client("app_pgstream_old").await;
}
