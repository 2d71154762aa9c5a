//! A copy by several workers.

use std::time::Duration;

use pgstream_engine::snapshot::{Copiers, Error, Event, Job, Progress, Summary, Worked, work};
use pgstream_testkit::{Client, Cluster, assert_same_rows, pair};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::setup::{assert_same_schema, job, run, server};

const FAMILY: &str = "
    CREATE TABLE big (id int PRIMARY KEY, filler text);
    INSERT INTO big SELECT g, repeat('x', 500) FROM generate_series(1, 20000) g; CREATE INDEX big_filler ON big (md5(filler));
    CREATE TABLE middle (id int PRIMARY KEY, big int REFERENCES big);
    INSERT INTO middle SELECT g, g FROM generate_series(1, 10000) g; CREATE INDEX middle_big ON middle (big);
    CREATE TABLE small (a int); INSERT INTO small VALUES (1), (1);
    CREATE TABLE nothing (a int);
    CREATE TABLE days (day int, n int) PARTITION BY RANGE (day);
    CREATE TABLE days_1 PARTITION OF days FOR VALUES FROM (0) TO (50);
    CREATE TABLE days_2 PARTITION OF days FOR VALUES FROM (50) TO (100);
    INSERT INTO days SELECT g % 100, g FROM generate_series(1, 5000) g;";

const LONG: Duration = Duration::from_secs(60);

/// For workers elsewhere, with tables in many parts.
fn offered(source: &Cluster, target: &Cluster) -> Job {
    let mut job = job(source, target);
    job.settings.part_bytes = 256 * 1024;
    job.settings.table_workers = 2.try_into().unwrap();
    job.copiers = Copiers::Elsewhere { wait: LONG };
    job
}

type Running<T> = JoinHandle<Result<T, Error>>;

fn coordinator(job: Job) -> Running<Summary> {
    tokio::spawn(run(job))
}

fn worker(job: Job, wait: Duration) -> Running<Worked> {
    tokio::spawn(work(job, wait, CancellationToken::new()))
}

/// Ends at a point where nothing of it is left on the servers.
async fn killed<T>(task: Running<T>, there: &Client, purpose: &str) {
    task.abort();
    assert!(task.await.is_err_and(|error| error.is_cancelled()));
    let left =
        format!("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgstream-aws snapshot {purpose}%'");
    there.wait_until(&left, "0").await;
}

/// Waits until a round is offered.
async fn opened(there: &Client) {
    there.wait_until("SELECT to_regclass('pgstream.snapshot_rounds') IS NOT NULL", "t").await;
    there.wait_until("SELECT count(*) FROM pgstream.snapshot_rounds WHERE state = 'open'", "1").await;
}

#[tokio::test]
async fn three_workers_copy_each_part_once() {
    let (source, target) = pair().await;
    source.client("app").await.batch(FAMILY).await;
    let offered = offered(&source, &target);
    let workers: Vec<_> = (0..3).map(|_| worker(offered.clone(), LONG)).collect();
    let summary = coordinator(offered).await.unwrap().unwrap();
    let mut total = Worked::default();
    for worker in workers {
        let worked = worker.await.unwrap().unwrap();
        total.parts += worked.parts;
        total.rows += worked.rows;
        total.bytes += worked.bytes;
    }
    let there = target.client("app").await;
    let parts: i64 = there.scalar("SELECT count(*) FROM pgstream.snapshot_ledger").await;
    assert_eq!(total.parts, parts.unsigned_abs());
    assert_eq!((total.rows, total.bytes), (summary.rows, summary.bytes));
    assert_eq!(total.rows, 35_002);
    if source.major() >= 14 {
        assert!(total.parts > 20, "{total:?}");
    }
    let snapshots = "SELECT count(DISTINCT snapshot) FROM pgstream.snapshot_ledger";
    assert_eq!(there.scalar::<i64>(snapshots).await, 1);
    assert_eq!(there.scalar::<i64>("SELECT count(*) FROM pgstream.snapshot_parts").await, 0);
    assert_same_rows(&source, &target, "app").await;
    assert_same_schema(&source, &target, "app").await;
}

#[tokio::test]
async fn workers_of_a_role_that_cannot_ignore_foreign_keys_fill_parents_first() {
    let (source, target) = pair().await;
    source.client("app").await.batch(FAMILY).await;
    // With the keys on the target before the rows.
    let there = target.client("app").await;
    there.batch("CREATE TABLE big (id int PRIMARY KEY, filler text); CREATE TABLE middle (id int PRIMARY KEY, big int REFERENCES big)").await;
    let mut offered = offered(&source, &target);
    offered.target_settings.disable_triggers = Some(false);
    let workers = [worker(offered.clone(), LONG), worker(offered.clone(), LONG)];
    coordinator(offered).await.unwrap().unwrap();
    for worker in workers {
        worker.await.unwrap().unwrap();
    }
    assert_same_rows(&source, &target, "app").await;
}

#[tokio::test]
async fn a_worker_that_dies_gives_its_part_back() {
    let (source, target) = pair().await;
    source.client("app").await.batch(FAMILY).await;
    let there = target.client("app").await;
    let copied = coordinator(offered(&source, &target));
    opened(&there).await;
    // It gets everything but `small`, and dies over that one.
    let lock = target.client("app").await;
    lock.batch("BEGIN; LOCK TABLE small IN SHARE MODE").await;
    let first = worker(offered(&source, &target), LONG);
    there.wait_until("SELECT count(DISTINCT table_name) FROM pgstream.snapshot_ledger", "5").await;
    there.wait_until("SELECT count(*) FROM pg_locks WHERE relation = 'small'::regclass AND NOT granted", "1").await;
    assert_eq!(there.scalar::<i64>("SELECT count(*) FROM pgstream.snapshot_parts").await, 1, "seen, but claimed");
    killed(first, &there, "copy").await;
    lock.batch("ROLLBACK").await;
    let second = worker(offered(&source, &target), LONG).await.unwrap().unwrap();
    assert_eq!((second.parts, second.rows), (1, 2));
    copied.await.unwrap().unwrap();
    assert_same_rows(&source, &target, "app").await;
}

#[tokio::test]
async fn a_coordinator_that_dies_ends_its_round_and_the_next_one_copies_what_is_left() {
    let (source, target) = pair().await;
    source.client("app").await.batch(FAMILY).await;
    let there = target.client("app").await;
    let first = coordinator(offered(&source, &target));
    opened(&there).await;
    let lock = target.client("app").await;
    lock.batch("BEGIN; LOCK TABLE small IN SHARE MODE").await;
    let (leaves, stays) = (worker(offered(&source, &target), Duration::ZERO), worker(offered(&source, &target), LONG));
    there.wait_until("SELECT count(DISTINCT table_name) FROM pgstream.snapshot_ledger", "5").await;
    let copied =
        "SELECT string_agg(l::text, ',' ORDER BY l::text) FROM pgstream.snapshot_ledger l WHERE table_name <> 'small'";
    let before = there.text(copied).await;
    killed(first, &source.client("app").await, "export").await;
    let error = leaves.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::CoordinatorGone { .. }), "{error:?}");
    lock.batch("ROLLBACK").await;
    let second = coordinator(offered(&source, &target)).await.unwrap().unwrap();
    assert_eq!((second.tables, second.tables_before), (1, 5));
    stays.await.unwrap().unwrap();
    assert_eq!(there.text(copied).await, before, "nothing was copied twice");
    let states = "SELECT string_agg(state, ' ' ORDER BY round) FROM pgstream.snapshot_rounds";
    assert_eq!(there.text(states).await.as_deref(), Some("abandoned copied"));
    assert_same_rows(&source, &target, "app").await;
    assert_same_schema(&source, &target, "app").await;
}

/// The worker hangs where it cannot see that its coordinator is gone; what it holds is taken from it.
#[tokio::test]
async fn sessions_of_an_abandoned_round_are_ended_before_the_next_one_looks() {
    let (source, target) = pair().await;
    source.client("app").await.batch(FAMILY).await;
    let there = target.client("app").await;
    let first = coordinator(offered(&source, &target));
    opened(&there).await;
    // As a worker would that has copied `small` and does not get to the end of its transaction.
    let origin = there.text("SELECT source FROM pgstream.snapshot_rounds").await.unwrap();
    let hung = target.client("app").await;
    let mark = format!("SELECT pg_advisory_lock_shared(hashtextextended('pgstream snapshot {origin}', 2))");
    hung.batch(&format!("{mark}; BEGIN; TRUNCATE small; INSERT INTO small VALUES (666)")).await;
    killed(first, &source.client("app").await, "export").await;
    run(job(&source, &target)).await.unwrap();
    assert_same_rows(&source, &target, "app").await;
}

#[tokio::test]
async fn a_worker_without_a_coordinator_says_so() {
    let (source, target) = pair().await;
    source.client("app").await.batch(FAMILY).await;
    let error = worker(job(&source, &target), Duration::ZERO).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::NoCoordinator { .. }), "{error:?}");
    // Complete is complete, whoever copied it.
    run(job(&source, &target)).await.unwrap();
    let worked = worker(job(&source, &target), Duration::ZERO).await.unwrap().unwrap();
    assert_eq!(worked.parts, 0);
}

#[tokio::test]
async fn a_coordinator_without_workers_says_so() {
    let (source, target) = pair().await;
    source.client("app").await.batch(FAMILY).await;
    let mut alone = offered(&source, &target);
    alone.copiers = Copiers::Elsewhere { wait: Duration::from_secs(1) };
    let error = coordinator(alone).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::NoWorkers { .. }), "{error:?}");
    // What it has prepared is of use.
    run(job(&source, &target)).await.unwrap();
    assert_same_rows(&source, &target, "app").await;
}

#[tokio::test]
async fn a_second_coordinator_is_refused() {
    let (source, target) = pair().await;
    source.client("app").await.batch(FAMILY).await;
    let first = coordinator(offered(&source, &target));
    opened(&target.client("app").await).await;
    let error = coordinator(offered(&source, &target)).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::AlreadyRunning { .. }), "{error:?}");
    worker(offered(&source, &target), LONG).await.unwrap().unwrap();
    first.await.unwrap().unwrap();
    assert_same_rows(&source, &target, "app").await;
}

/// Same system identifier, same data, same name of the snapshot even; only the server is another one.
#[tokio::test]
async fn a_worker_on_another_server_of_the_cluster_is_refused() {
    let (source, target) = pair().await;
    let here = source.client("app").await;
    here.batch(FAMILY).await;
    here.batch("SELECT pg_create_physical_replication_slot('standby', true)").await;
    let standby = source.standby("").await;
    let there = target.client("app").await;
    let copied = coordinator(offered(&source, &target));
    opened(&there).await;
    let mut astray = offered(&source, &target);
    astray.source = server(&standby.url("app"));
    let error = worker(astray, LONG).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::OtherServer { .. }), "{error:?}");
    worker(offered(&source, &target), LONG).await.unwrap().unwrap();
    copied.await.unwrap().unwrap();
    assert_same_rows(&source, &target, "app").await;
}

#[tokio::test]
async fn a_worker_reads_nothing_that_its_own_configuration_leaves_out() {
    let (source, target) = pair().await;
    source.client("app").await.batch(FAMILY).await;
    let copied = coordinator(offered(&source, &target));
    let mut stricter = offered(&source, &target);
    stricter.settings.tables.exclude.push(crate::setup::pattern("public.big"));
    let error = worker(stricter, LONG).await.unwrap().unwrap_err();
    assert!(matches!(&error, Error::WorkerDiffers { table } if table.contains("big")), "{error:?}");
    // Nor does the target make it read what is never copied.
    let there = target.client("app").await;
    for forged in
        ["schema_name = 'pg_catalog', table_name = 'pg_authid'", "schema_name = 'public', table_name = 'none'"]
    {
        there.batch(&format!("UPDATE pgstream.snapshot_units SET {forged} WHERE unit = 0")).await;
        let error = worker(offered(&source, &target), LONG).await.unwrap().unwrap_err();
        assert!(!error.is_transient(), "{error:?}");
    }
    there.batch("UPDATE pgstream.snapshot_units SET table_name = 'big' WHERE unit = 0").await;
    worker(offered(&source, &target), LONG).await.unwrap().unwrap();
    copied.await.unwrap().unwrap();
    assert_same_rows(&source, &target, "app").await;
}

/// A statement that waits for the exporter's lock makes everybody behind it wait: the exporter reads that table itself.
#[tokio::test]
async fn a_table_that_a_statement_waits_to_change_is_read_by_the_coordinator() {
    let (source, target) = pair().await;
    source.client("app").await.batch(FAMILY).await;
    let there = target.client("app").await;
    let copied = coordinator(offered(&source, &target));
    opened(&there).await;
    let altered = source.client("app").await;
    let waits = tokio::spawn(async move { altered.batch("ALTER TABLE small ADD COLUMN late int").await });
    let waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'small'::regclass AND NOT granted";
    source.client("app").await.wait_until(waiting, "1").await;
    worker(offered(&source, &target), LONG).await.unwrap().unwrap();
    copied.await.unwrap().unwrap();
    waits.await.unwrap();
    assert_eq!(there.scalar::<i64>("SELECT count(*) FROM small").await, 2);
}

#[tokio::test]
async fn workers_fill_the_database_that_is_built_beside_the_present_one() {
    let (source, target) = pair().await;
    source.client("app").await.batch(FAMILY).await;
    target.client("app").await.batch("CREATE TABLE old (a int)").await;
    let mut anew = offered(&source, &target);
    anew.settings.schema.clean_target_db = true;
    let workers = [worker(offered(&source, &target), LONG), worker(offered(&source, &target), LONG)];
    coordinator(anew).await.unwrap().unwrap();
    for worker in workers {
        worker.await.unwrap().unwrap();
    }
    assert_same_rows(&source, &target, "app").await;
    assert_same_schema(&source, &target, "app").await;
}

#[tokio::test]
async fn progress_covers_what_others_copy() {
    let (source, target) = pair().await;
    source.client("app").await.batch(FAMILY).await;
    let (progress, mut events) = Progress::channel();
    let offered = offered(&source, &target);
    let worker = worker(offered.clone(), LONG);
    let copied = tokio::spawn(pgstream_engine::snapshot::run(offered, progress, CancellationToken::new()));
    let (mut started, mut finished, mut rows) = (0, 0, 0);
    while let Some(event) = events.recv().await {
        match event {
            Event::TableStarted(_) => started += 1,
            Event::TableFinished(table) => {
                finished += 1;
                rows += table.rows();
            }
            _ => {}
        }
    }
    copied.await.unwrap().unwrap();
    worker.await.unwrap().unwrap();
    assert_eq!((finished, rows), (6, 35_002));
    assert!(started >= 5, "{started}: an empty table may be finished before it is seen");
}

#[tokio::test]
async fn workers_copy_what_the_publication_hands_out() {
    let (source, target) = pair().await;
    if source.major() < 15 {
        return;
    }
    let here = source.client("app").await;
    here.batch(FAMILY).await;
    here.batch(
        "CREATE SCHEMA whole; CREATE TABLE whole.t AS SELECT 1 AS a; ALTER TABLE big ALTER filler SET DEFAULT 'none';
         CREATE PUBLICATION listed FOR TABLE big (id) WHERE (id <= 100), days WITH (publish_via_partition_root = true);
         CREATE PUBLICATION by_schema FOR TABLES IN SCHEMA whole",
    )
    .await;
    for (publication, tables, rows) in [("listed", 2, 5100), ("by_schema", 1, 1)] {
        let mut offered = offered(&source, &target);
        offered.publication = Some(publication.to_owned());
        let worker = worker(offered.clone(), LONG);
        let summary = coordinator(offered).await.unwrap().unwrap();
        worker.await.unwrap().unwrap();
        assert_eq!((summary.tables, summary.rows), (tables, rows), "{publication}");
    }
    let there = target.client("app").await;
    assert_eq!(there.text("SELECT count(*) || filler FROM big GROUP BY filler").await.as_deref(), Some("100none"));
    assert_eq!(there.scalar::<i64>("SELECT count(*) FROM days").await, 5000);
}
