//! The copy as the stream's beginning.

use pgstream_engine::snapshot::{Error, Fence, LedgerSource};
use pgstream_testkit::{assert_same_rows_in, pair};

use crate::setup::{job, run};

#[tokio::test]
async fn a_slot_gets_its_progress_row_before_the_rows() {
    let (source, target) = pair().await;
    let here = source.client("app").await;
    here.batch("CREATE TABLE t (a int); INSERT INTO t VALUES (1); CREATE PUBLICATION p FOR ALL TABLES").await;
    here.batch("SELECT pg_create_logical_replication_slot('s', 'pgoutput')").await;
    let mut job = job(&source, &target);
    job.ledger_source = LedgerSource::Slot("s".to_owned());
    job.publication = Some("p".to_owned());
    run(job.clone()).await.unwrap();
    let there = target.client("app").await;
    let confirmed = here.text("SELECT confirmed_flush_lsn::text FROM pg_replication_slots").await;
    assert_eq!(
        there.text("SELECT commit_end_lsn::text FROM pgstream.apply_progress WHERE slot_name = 's'").await,
        confirmed
    );
    // The slot moves on without us: what it passed is lost.
    here.batch("INSERT INTO t VALUES (2)").await;
    here.batch("SELECT pg_replication_slot_advance('s', pg_current_wal_lsn())").await;
    let error = run(job.clone()).await.unwrap_err();
    assert!(matches!(error, Error::SlotAhead { .. }), "{error:?}");
    there.batch("UPDATE pgstream.apply_progress SET commit_end_lsn = 'FFFF/0'").await;
    there.batch("UPDATE pgstream.snapshot_ledger SET system_identifier = '1'").await;
    assert!(matches!(run(job).await, Err(Error::OtherHistory { .. })));
}

#[tokio::test]
async fn what_is_published_is_what_is_copied() {
    let (source, target) = pair().await;
    let here = source.client("app").await;
    here.batch(
        "CREATE TABLE parts (id int, v text) PARTITION BY RANGE (id); CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
         CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (10) TO (20); INSERT INTO parts SELECT g, g FROM generate_series(0, 19) g;
         CREATE UNLOGGED TABLE scratch (a int); INSERT INTO scratch VALUES (1); CREATE TABLE t (a int); INSERT INTO t VALUES (1);
         CREATE PUBLICATION p FOR TABLE parts, t WITH (publish_via_partition_root = true)",
    )
    .await;
    let mut job = job(&source, &target);
    job.publication = Some("p".to_owned());
    let summary = run(job.clone()).await.unwrap();
    assert!(summary.notices.iter().any(|n| n.contains("\"scratch\"")), "{summary:?}");
    let there = target.client("app").await;
    let ledger = "SELECT string_agg(table_name, ' ' ORDER BY table_name) FROM pgstream.snapshot_ledger";
    assert_eq!(there.text(ledger).await.as_deref(), Some("parts t"));
    assert_same_rows_in(&source, &target, "app", |t| !t.contains("scratch")).await;
    job.publication = Some("absent".to_owned());
    assert!(matches!(run(job).await, Err(Error::PublicationMissing { .. })));
}

#[tokio::test]
async fn transactions_older_than_the_slot_are_waited_for() {
    let (source, target) = pair().await;
    let (here, other) = (source.client("app").await, source.client("app").await);
    here.batch("CREATE TABLE t (a int)").await;
    other.batch("BEGIN; INSERT INTO t VALUES (7)").await;
    let snapshot = here.text("SELECT pg_current_snapshot()::text").await.unwrap();
    let mut job = job(&source, &target);
    job.created_after = Some(Fence { xid_snapshot_at_slot_creation: snapshot });
    let task = tokio::spawn(run(job));
    here.wait_until(
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE '%pg_snapshot_xip%' AND pid <> pg_backend_pid()",
        "t",
    )
    .await;
    assert_eq!(
        here.scalar::<i64>("SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass AND mode = 'AccessShareLock'")
            .await,
        0
    );
    other.batch("COMMIT").await;
    assert_eq!(task.await.unwrap().unwrap().rows, 1);
}
