//! Transactions and rows that do not fit into one batch.

use pgstream_engine::stream::Limits;

use crate::harness::{Running, pair};

#[tokio::test]
async fn a_transaction_larger_than_a_batch_arrives_whole() {
    let pair = pair("CREATE TABLE item (id int PRIMARY KEY, name text); CREATE TABLE nokey (a int); ALTER TABLE nokey REPLICA IDENTITY FULL;").await;
    let mut job = pair.job();
    job.limits = Limits { bytes: 64 << 10, changes: 500 };
    let running = Running::start(job);
    pair.here
        .batch(
            "BEGIN; INSERT INTO item SELECT n, 'item ' || n FROM generate_series(1, 30000) AS n;
             INSERT INTO nokey SELECT n % 10 FROM generate_series(1, 1000) AS n;
             UPDATE item SET name = name || '!' WHERE id % 2 = 0; UPDATE item SET id = id + 100000 WHERE id % 1000 = 0;
             DELETE FROM nokey WHERE ctid IN (SELECT ctid FROM nokey WHERE a = 3 LIMIT 5);
             DELETE FROM item WHERE id % 3 = 0; COMMIT",
        )
        .await;
    pair.caught_up(&running).await;
    pair.assert_same().await;
    let reading = running.monitor.read();
    assert!(reading.inserts >= 31_000 && reading.deletes >= 10_005, "every chunk is counted: {reading:?}");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn large_transactions_in_a_row_are_committed_one_by_one() {
    let pair = pair("CREATE TABLE item (id int PRIMARY KEY);").await;
    for n in 0..6 {
        pair.here.batch(&format!("INSERT INTO item SELECT {n} * 1000 + i FROM generate_series(1, 500) AS i")).await;
    }
    let mut job = pair.job();
    // Each chunk is full just before the commit of its transaction.
    job.limits = Limits { bytes: 8 << 20, changes: 500 };
    let running = Running::start(job);
    pair.caught_up(&running).await;
    let reading = running.monitor.read();
    assert!(reading.batches >= 6 && reading.transactions == 7, "{reading:?}");
    pair.assert_same().await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn readers_of_the_target_never_see_half_a_transaction() {
    let pair = pair("CREATE TABLE account (id int PRIMARY KEY, credit int NOT NULL);").await;
    let mut job = pair.job();
    job.limits = Limits { bytes: 16 << 10, changes: 50 };
    let running = Running::start(job);
    pair.here.batch("INSERT INTO account SELECT n, 100 FROM generate_series(1, 500) AS n").await;
    pair.caught_up(&running).await;
    let writer = async {
        for round in 0..60 {
            pair.here
                .batch(&format!(
                    "BEGIN; UPDATE account SET credit = credit - 1 WHERE id % 2 = {};
                     UPDATE account SET credit = credit + 1 WHERE id % 2 = {}; COMMIT",
                    round % 2,
                    (round + 1) % 2
                ))
                .await;
        }
    };
    let reader = async {
        for _ in 0..300 {
            assert_eq!(pair.there.scalar::<i64>("SELECT sum(credit) FROM account").await, 50_000);
        }
    };
    tokio::join!(writer, reader);
    pair.caught_up(&running).await;
    pair.assert_same().await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn wide_rows_and_many_columns_arrive() {
    let columns: Vec<String> = (0..1500).map(|n| format!("c{n} int")).collect();
    let pair = pair(&format!(
        "CREATE TABLE wide (id int PRIMARY KEY, {}); CREATE TABLE blob (id int PRIMARY KEY, b bytea);",
        columns.join(", ")
    ))
    .await;
    pair.follows(
        "INSERT INTO wide (id, c0, c1499) SELECT n, n, n FROM generate_series(1, 50) AS n;
         UPDATE wide SET c700 = 1; INSERT INTO blob VALUES (1, convert_to(repeat('x', 30000000), 'UTF8'));
         UPDATE blob SET b = b || '\\x00' WHERE id = 1",
    )
    .await;
}
