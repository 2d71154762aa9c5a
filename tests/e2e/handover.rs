//! From the copy to the stream: each source transaction is in the one or comes by the other, never both, never neither.

use std::time::Duration;

use pgstream_testkit::{Cluster, Load, Stop, assert_journal, seed};

use crate::replicator::Pipeline;

/// A table without a key shows what came twice.
const LOOSE: &str = "CREATE TABLE loose (n int, note text);";

/// What `loose` holds on the target, in order.
async fn arrived(pipeline: &Pipeline) -> String {
    let rows = "SELECT string_agg(n::text, ' ' ORDER BY n, note) FROM loose";
    pipeline.there().await.text(rows).await.unwrap_or_default()
}

/// Waits for the copy; what the source commits from now on comes by the stream.
async fn copied(pipeline: &Pipeline, running: &mut crate::replicator::Replicator) {
    let complete = "SELECT count(*) FROM pgstream.snapshot_steps WHERE step = 'complete'";
    pipeline.on_target(running, complete, |found| found == "1").await;
}

#[tokio::test]
async fn transactions_that_are_open_or_prepared_during_the_copy_arrive_once() {
    let pipeline = Pipeline::new(LOOSE).await;
    pipeline.pgstream(&["init"]).await.ok();
    let (here, open) = (pipeline.here().await, pipeline.here().await);
    here.batch("BEGIN; INSERT INTO loose VALUES (1); PREPARE TRANSACTION 'before'").await;
    open.batch(
        "BEGIN; INSERT INTO loose VALUES (10); SAVEPOINT a; INSERT INTO loose VALUES (11); ROLLBACK TO a;
         SAVEPOINT b; INSERT INTO loose VALUES (12); RELEASE b",
    )
    .await;
    here.batch(
        "BEGIN; INSERT INTO loose VALUES (20); SAVEPOINT a; INSERT INTO loose VALUES (21); PREPARE TRANSACTION 'later'",
    )
    .await;
    here.batch("BEGIN; INSERT INTO loose VALUES (30); PREPARE TRANSACTION 'never'").await;
    here.batch("INSERT INTO loose VALUES (40)").await;
    here.batch("COMMIT PREPARED 'before'").await;

    let mut running = pipeline.run();
    copied(&pipeline, &mut running).await;
    assert_eq!(arrived(&pipeline).await, "1 40");
    here.batch("INSERT INTO loose VALUES (50)").await;
    here.batch("COMMIT PREPARED 'later'").await;
    here.batch("ROLLBACK PREPARED 'never'").await;
    open.batch("SAVEPOINT c; INSERT INTO loose VALUES (13); COMMIT").await;
    pipeline.caught_up(&mut running).await;
    assert_eq!(arrived(&pipeline).await, "1 10 12 13 20 21 40 50");
    pipeline.assert_same_rows().await;
    running.stop().await.ok();
}

#[tokio::test]
async fn tables_that_were_copied_under_different_snapshots_are_followed_each_from_its_own() {
    let schema = format!(
        "{}{LOOSE} CREATE TABLE bulk (id int PRIMARY KEY, filler text);
         INSERT INTO bulk SELECT n, repeat('x', 300) FROM generate_series(1, 100000) AS n",
        Load::schema()
    );
    let mut pipeline = Pipeline::new(&schema).await;
    // The largest table first, and the others behind it.
    pipeline.set("source.postgres.snapshot.data.table_workers", 1);
    pipeline.pgstream(&["init"]).await.ok();
    let load = Load::start_paced(&pipeline.source.url("app"), seed(), 4, Duration::from_millis(1));
    let mut first = pipeline.run();
    pipeline.on_target(&mut first, "SELECT to_regclass('public.loose') IS NOT NULL", |there| there == "t").await;
    let lock = pipeline.there().await;
    lock.batch("BEGIN; LOCK TABLE public.loose IN ACCESS EXCLUSIVE MODE").await;
    let bulk = "SELECT count(*) FROM pgstream.snapshot_ledger WHERE table_name = 'bulk' GROUP BY parts HAVING count(*) = parts";
    pipeline.on_target(&mut first, bulk, |parts| parts != "0").await;

    // Both tables are written to while one is copied and the other is not, and after that.
    let here = pipeline.here().await;
    let both = |n: i32| {
        format!(
            "BEGIN; INSERT INTO loose VALUES ({n}); UPDATE bulk SET filler = 'y' WHERE id = {n}; SAVEPOINT s;
             INSERT INTO loose VALUES ({n}, 'no'); DELETE FROM bulk WHERE id = 1; ROLLBACK TO s;
             DELETE FROM bulk WHERE id = 50000 + {n}; COMMIT"
        )
    };
    for n in 0..50 {
        here.batch(&both(n)).await;
    }
    first.kill9();
    for n in 50..100 {
        here.batch(&both(n)).await;
    }
    lock.batch("ROLLBACK").await;
    let mut second = pipeline.run();
    for n in 100..150 {
        here.batch(&both(n)).await;
    }
    pipeline.caught_up(&mut second).await;
    let report = load.stop().await;
    pipeline.caught_up(&mut second).await;
    pipeline.assert_same_rows().await;
    assert_journal(&pipeline.target, "app", &report).await;
    let snapshots =
        "SELECT count(DISTINCT snapshot) FROM pgstream.snapshot_ledger WHERE table_name IN ('bulk', 'loose')";
    assert_eq!(pipeline.there().await.scalar::<i64>(snapshots).await, 2);
    second.stop().await.ok();
}

#[tokio::test]
async fn a_source_in_a_later_epoch_of_transaction_ids_hands_over_exactly() {
    let (source, target) = pgstream_testkit::pair().await;
    source.stop(Stop::Fast).await;
    source.enter_epoch(3);
    source.start().await;
    assert_eq!(epoch(&source).await, 3);
    let pipeline = Pipeline::between(source, target, &format!("{}{LOOSE}", Load::schema())).await;
    pipeline.pgstream(&["init"]).await.ok();
    let load = Load::start_paced(&pipeline.source.url("app"), seed(), 3, Duration::from_millis(1));
    let open = pipeline.here().await;
    open.batch("BEGIN; INSERT INTO loose VALUES (1)").await;
    load.progress(100).await;
    let mut running = pipeline.run();
    copied(&pipeline, &mut running).await;
    open.batch("COMMIT").await;
    load.progress(100).await;
    let report = load.stop().await;
    pipeline.caught_up(&mut running).await;
    assert_eq!(arrived(&pipeline).await, "1");
    pipeline.assert_same_rows().await;
    assert_journal(&pipeline.target, "app", &report).await;
    running.stop().await.ok();
}

async fn epoch(cluster: &Cluster) -> i64 {
    cluster.client("app").await.scalar("SELECT (pg_snapshot_xmax(pg_current_snapshot())::text::bigint) >> 32").await
}

/// A slot is complete when all that ran half-way through its making has ended. What began after that half-way point is open
/// across its start, and decoded whole.
#[tokio::test]
async fn a_transaction_that_is_open_across_the_making_of_the_slot_and_ends_during_the_copy_arrives_once() {
    let bulk = "CREATE TABLE bulk AS SELECT n, repeat('x', 300) AS filler FROM generate_series(1, 60000) AS n";
    let pipeline = Pipeline::new(&format!("{LOOSE}{bulk}")).await;
    pipeline.pgstream(&["init", "--migrations-only"]).await.ok();
    let (here, first) = (pipeline.here().await, pipeline.here().await);
    let (second, across) = (pipeline.here().await, pipeline.here().await);
    let waits_for = async |writer: &pgstream_testkit::Client| {
        let pid: i32 = writer.scalar("SELECT pg_backend_pid()").await;
        let slot = "SELECT l.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid)
                     WHERE NOT l.granted AND a.query LIKE 'SELECT FROM pg_create_logical%'";
        here.wait_until(&format!("SELECT {pid} = ANY (pg_blocking_pids(({slot})))"), "t").await;
    };
    first.batch("BEGIN; INSERT INTO loose VALUES (1)").await;
    let init = pipeline.start(&["init", "--slot-only"]);
    waits_for(&first).await;
    second.batch("BEGIN; INSERT INTO loose VALUES (2)").await;
    first.batch("COMMIT").await;
    waits_for(&second).await;
    across.batch("BEGIN; INSERT INTO loose VALUES (3); SAVEPOINT s; INSERT INTO loose VALUES (4)").await;
    here.batch("BEGIN; INSERT INTO loose VALUES (5); PREPARE TRANSACTION 'across'").await;
    here.batch("BEGIN; INSERT INTO loose VALUES (6); PREPARE TRANSACTION 'never'").await;
    second.batch("COMMIT").await;
    init.done().await.ok();

    let mut running = pipeline.run();
    pipeline.on_target(&mut running, "SELECT to_regclass('public.bulk') IS NOT NULL", |there| there == "t").await;
    across.batch("ROLLBACK TO s; INSERT INTO loose VALUES (7); COMMIT").await;
    here.batch("COMMIT PREPARED 'across'").await;
    here.batch("ROLLBACK PREPARED 'never'").await;
    pipeline.caught_up(&mut running).await;
    assert_eq!(arrived(&pipeline).await, "1 2 3 5 7");
    pipeline.assert_same_rows().await;
    running.stop().await.ok();
}

/// A commit that waits for a synchronous standby is in the WAL and not visible yet: it lies before the position that was read
/// after the snapshot, so that only its transaction id tells that the copy does not hold it.
async fn a_commit_waits_for_a_standby_during_the_copy(epoch_of_source: Option<u32>) {
    let (source, target) = pgstream_testkit::pair().await;
    if let Some(epoch) = epoch_of_source {
        source.stop(Stop::Fast).await;
        source.enter_epoch(epoch);
        source.start().await;
    }
    let pipeline = Pipeline::between(source, target, LOOSE).await;
    pipeline.pgstream(&["init"]).await.ok();
    let here = pipeline.here().await;
    here.batch("ALTER DATABASE app SET synchronous_commit = local").await;
    here.batch("ALTER SYSTEM SET synchronous_standby_names = 'nobody'").await;
    here.batch("SELECT pg_reload_conf()").await;
    here.wait_until("SHOW synchronous_standby_names", "nobody").await;
    // Commits wait once the checkpointer has read the setting, too, which nobody can ask it.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let waiting = pipeline.here().await;
    let waiting = tokio::spawn(async move {
        waiting.batch("SET synchronous_commit = on; BEGIN; INSERT INTO loose VALUES (1); COMMIT").await;
    });
    here.wait_until("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'", "1").await;
    let local = pipeline.here().await;
    local.batch("INSERT INTO loose VALUES (2)").await;

    let mut running = pipeline.run();
    copied(&pipeline, &mut running).await;
    local.batch("INSERT INTO loose VALUES (3)").await;
    here.batch("ALTER SYSTEM RESET synchronous_standby_names").await;
    here.batch("SELECT pg_reload_conf()").await;
    waiting.await.unwrap();
    pipeline.caught_up(&mut running).await;
    assert_eq!(arrived(&pipeline).await, "1 2 3");
    pipeline.assert_same_rows().await;
    running.stop().await.ok();
}

#[tokio::test]
async fn a_commit_that_waits_for_a_standby_during_the_copy_arrives_once() {
    a_commit_waits_for_a_standby_during_the_copy(None).await;
}

#[tokio::test]
async fn a_commit_that_waits_for_a_standby_during_the_copy_arrives_once_in_a_later_epoch() {
    a_commit_waits_for_a_standby_during_the_copy(Some(3)).await;
}
