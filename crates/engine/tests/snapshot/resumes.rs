//! A run that dies is continued.

use pgstream_config::pipeline::SnapshotMode;
use pgstream_engine::snapshot::{Error, Event, Progress};
use pgstream_testkit::{Edge, Proxy, assert_same_rows, pair};
use tokio_util::sync::CancellationToken;

use crate::setup::{assert_same_schema, job, run, server};

const THREE: &str = "
    CREATE TABLE big (id int PRIMARY KEY, filler text);
    INSERT INTO big SELECT g, repeat('x', 500) FROM generate_series(1, 20000) g;
    CREATE TABLE middle (id int PRIMARY KEY, big int REFERENCES big);
    INSERT INTO middle SELECT g, g FROM generate_series(1, 10000) g; CREATE INDEX middle_big ON middle (big);
    CREATE TABLE small (a int); INSERT INTO small VALUES (1), (1);";

#[tokio::test]
async fn a_second_run_copies_nothing_again() {
    let (source, target) = pair().await;
    let there = source.client("app").await;
    there
        .batch(
            "CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a SELECT generate_series(1, 1000);
             CREATE TABLE b (id int REFERENCES a)",
        )
        .await;
    let first = run(job(&source, &target)).await.unwrap();
    assert_eq!((first.tables, first.rows), (2, 1000));
    let second = run(job(&source, &target)).await.unwrap();
    assert_eq!((second.tables, second.tables_before, second.rows), (0, 2, 0));
    there.batch("INSERT INTO a VALUES (0); CREATE TABLE late (x text); INSERT INTO late VALUES ('x')").await;
    let third = run(job(&source, &target)).await.unwrap();
    assert_eq!((third.tables, third.rows), (1, 1));
    let mut again = job(&source, &target);
    again.settings.repeat = true;
    run(again).await.unwrap();
    assert_same_rows(&source, &target, "app").await;
    assert_same_schema(&source, &target, "app").await;
}

/// Stops the run when the first table is complete: politely, or as a kill would.
async fn stopped_after_the_first_table(politely: bool) {
    let (source, target) = pair().await;
    source.client("app").await.batch(THREE).await;
    let mut first = job(&source, &target);
    first.settings.table_workers = 1.try_into().unwrap();
    let (progress, mut events) = Progress::channel();
    let cancel = CancellationToken::new();
    let task = tokio::spawn(pgstream_engine::snapshot::run(first, progress, cancel.clone()));
    while let Some(event) = events.recv().await {
        if let Event::TableFinished(table) = event {
            assert_eq!(table.name.name, "big");
            break;
        }
    }
    if politely {
        cancel.cancel();
        assert!(matches!(task.await.unwrap(), Err(Error::Cancelled)));
    } else {
        task.abort();
        task.await.unwrap_err();
    }
    let there = target.client("app").await;
    there.wait_until("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgstream-aws%'", "0").await;
    let before = there.text("SELECT xmin::text || ctid::text FROM big WHERE id = 1").await;
    let second = run(job(&source, &target)).await.unwrap();
    assert!(second.tables_before >= 1 && second.tables_before + second.tables == 3, "{second:?}");
    assert_eq!(there.text("SELECT xmin::text || ctid::text FROM big WHERE id = 1").await, before);
    assert_same_rows(&source, &target, "app").await;
    assert_same_schema(&source, &target, "app").await;
}

#[tokio::test]
async fn a_cancelled_run_goes_on() {
    stopped_after_the_first_table(true).await;
}

#[tokio::test]
async fn a_killed_run_goes_on() {
    stopped_after_the_first_table(false).await;
}

#[tokio::test]
async fn a_big_table_is_split_and_its_parts_belong_to_one_snapshot() {
    let (source, target) = pair().await;
    if source.major() < 14 {
        return;
    }
    source.client("app").await.batch(THREE).await;
    let small_parts = || {
        let mut job = job(&source, &target);
        job.settings.part_bytes = 512 * 1024;
        job
    };
    run(small_parts()).await.unwrap();
    assert_same_rows(&source, &target, "app").await;
    let there = target.client("app").await;
    let parts: i64 =
        there.scalar("SELECT count(*) FROM pgstream.snapshot_ledger WHERE table_name = 'big' AND parts > 5").await;
    assert!(parts > 5, "{parts}");
    // As if a part had never arrived: its rows are not there, and nobody says they are.
    there.batch("ALTER TABLE middle DROP CONSTRAINT middle_big_fkey").await;
    there.batch("DELETE FROM big WHERE id < 100; DELETE FROM pgstream.snapshot_ledger WHERE table_name = 'big' AND part = 0").await;
    let second = run(small_parts()).await.unwrap();
    assert_eq!((second.tables, second.tables_before), (1, 2));
    assert_same_rows(&source, &target, "app").await;
    let snapshots: i64 =
        there.scalar("SELECT count(DISTINCT snapshot) FROM pgstream.snapshot_ledger WHERE table_name = 'big'").await;
    assert_eq!(snapshots, 1);
}

#[tokio::test]
async fn a_connection_that_breaks_is_made_again() {
    let (source, target) = pair().await;
    source.client("app").await.batch(THREE).await;
    let proxy = Proxy::start(target.port()).await.unwrap();
    let mut job = job(&source, &target);
    job.target = server(&proxy.url(&target.url("app"), target.port()));
    let (progress, mut events) = Progress::channel();
    let task = tokio::spawn(pgstream_engine::snapshot::run(job.clone(), progress, CancellationToken::new()));
    while let Some(event) = events.recv().await {
        if matches!(event, Event::TableStarted(_)) {
            proxy.cut_after(300_000);
            break;
        }
    }
    // The steering session is cut, too: the caller starts again, as it does after any transient failure.
    match task.await.unwrap() {
        Ok(_) => {}
        Err(error) => {
            assert!(error.is_transient(), "{error:?}");
            run(job).await.unwrap();
        }
    }
    assert_same_rows(&source, &target, "app").await;
    assert_same_schema(&source, &target, "app").await;
}

#[tokio::test]
async fn two_runs_at_once_are_refused() {
    let (source, target) = pair().await;
    source.client("app").await.batch(THREE).await;
    let (first, second) = tokio::join!(run(job(&source, &target)), run(job(&source, &target)));
    let refused = [&first, &second].into_iter().filter(|r| matches!(r, Err(Error::AlreadyRunning { .. }))).count();
    assert_eq!(refused, 1, "{first:?} {second:?}");
    assert_same_rows(&source, &target, "app").await;
}

/// With the exporter go its locks: a table that is rewritten then looks empty under the old snapshot.
#[tokio::test]
async fn a_table_that_is_rewritten_after_the_exporter_died_is_not_copied_as_empty() {
    let (source, target) = pair().await;
    let here = source.client("app").await;
    here.batch(
        "CREATE TABLE big AS SELECT g AS id, repeat(md5(g::text), 20) AS filler FROM generate_series(1, 20000) g;
         CREATE TABLE later AS SELECT g AS id FROM generate_series(1, 100) g;
         ALTER TABLE later ALTER COLUMN id TYPE bigint",
    )
    .await;
    let leg = Proxy::start(target.port()).await.unwrap();
    let mut slow = job(&source, &target);
    slow.settings.table_workers = 1.try_into().unwrap();
    slow.target = server(&leg.url(&target.url("app"), target.port()));
    let (progress, mut events) = Progress::channel();
    let task = tokio::spawn(pgstream_engine::snapshot::run(slow, progress, CancellationToken::new()));
    while !matches!(events.recv().await, Some(Event::TableStarted(table)) if table.name.name == "big") {}
    leg.stall();
    // The only worker has imported the snapshot, and reads `later` with the same session.
    let imported = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgstream-aws snapshot read'
                     AND (state = 'idle in transaction' OR query LIKE 'COPY%')";
    here.wait_until(imported, "1").await;
    let ended = "SELECT count(*) FROM (SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                  WHERE application_name = 'pgstream-aws snapshot export') AS ended";
    assert_eq!(here.scalar::<i64>(ended).await, 1);
    here.batch("ALTER TABLE later ALTER COLUMN id TYPE int").await;
    here.batch("ALTER TABLE later ALTER COLUMN id TYPE bigint").await;
    leg.resume();
    let error = task.await.unwrap().unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    run(job(&source, &target)).await.unwrap();
    assert_same_rows(&source, &target, "app").await;
}

/// The server has done it, and nobody was told.
#[tokio::test]
async fn whichever_commit_loses_its_answer_its_work_is_there_once() {
    let (source, target) = pair().await;
    source
        .client("app")
        .await
        .batch(
            "CREATE TABLE big (id int, filler text);
             INSERT INTO big SELECT g, repeat('x', 500) FROM generate_series(1, 20000) g;
             DO $$ BEGIN FOR n IN 1..20 LOOP
                 EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY); INSERT INTO t%1$s VALUES (1)', n);
             END LOOP; END $$",
        )
        .await;
    let leg = Proxy::start(target.port()).await.unwrap();
    let mut job = job(&source, &target);
    job.target = server(&leg.url(&target.url("app"), target.port()));
    job.settings.part_bytes = 2 << 20;
    // What surrounds the rows, then the rows.
    for mode in [SnapshotMode::Schema, SnapshotMode::Full] {
        job.settings.mode = mode;
        for kept in 0.. {
            let losing = async {
                for _ in 0..kept {
                    leg.held_at(Edge::Reply).await;
                    leg.resume();
                }
                leg.held_at(Edge::Reply).await;
                leg.cut();
                leg.resume();
                std::future::pending::<()>().await;
            };
            let outcome = tokio::select! {
                outcome = run(job.clone()) => outcome,
                () = losing => unreachable!("it pends"),
            };
            leg.resume();
            match outcome {
                Ok(_) => {
                    assert!(kept > 1, "only {kept} commits were lost");
                    break;
                }
                Err(error) => assert!(error.is_transient(), "{error:?}"),
            }
        }
    }
    assert_same_rows(&source, &target, "app").await;
    assert_same_schema(&source, &target, "app").await;
}

/// A COMMIT may be under way when its run dies.
#[tokio::test]
async fn sessions_of_a_run_that_died_are_ended_before_the_next_one_looks() {
    let (source, target) = pair().await;
    source.client("app").await.batch(THREE).await;
    let mut schema = job(&source, &target);
    schema.settings.mode = SnapshotMode::Schema;
    run(schema).await.unwrap();
    let origin = target.client("app").await.text("SELECT DISTINCT source FROM pgstream.snapshot_steps").await.unwrap();
    let hung = target.client("app").await;
    let mark = format!("SELECT pg_advisory_lock_shared(hashtextextended('pgstream snapshot {origin}', 3))");
    hung.batch(&format!("{mark}; BEGIN; INSERT INTO small VALUES (666)")).await;
    run(job(&source, &target)).await.unwrap();
    assert_same_rows(&source, &target, "app").await;
}
