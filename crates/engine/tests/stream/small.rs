//! Small transactions of a kind that comes again and again: one statement each, and no less exact.

use pgstream_engine::stream::Error;

use crate::harness::{Pair, Running, pair};

const SHOP: &str = "CREATE TABLE account (id int PRIMARY KEY, balance numeric NOT NULL, note text);
                    CREATE TABLE entry (id int PRIMARY KEY, account int, amount numeric, tags text[], at timestamptz);
                    CREATE TABLE journal (line text);
                    INSERT INTO account SELECT n, 0, 'account ' || n FROM generate_series(1, 20) AS n;";

fn transfer(n: i32) -> String {
    format!(
        "BEGIN; UPDATE account SET balance = balance + {n} WHERE id = {};
         INSERT INTO entry VALUES ({n}, 1, {n}.50, ARRAY['a', NULL, 'c,{n}'], '2026-01-01'::timestamptz + interval '{n} s');
         INSERT INTO journal VALUES ('line {n}'); COMMIT",
        n % 20 + 1
    )
}

/// A stream that has seen the kind so often that it has a statement for it.
async fn used_to_transfers(pair: &Pair) -> Running {
    pair.there.batch("ALTER SYSTEM SET log_min_duration_statement = 0").await;
    pair.there.batch("SELECT pg_reload_conf()").await;
    let running = pair.stream();
    for n in 1..=20 {
        pair.here.batch(&transfer(n)).await;
        pair.caught_up(&running).await;
    }
    assert!(single_statements(pair) > 0, "{}", pair.target.log());
    running
}

/// Transactions that were one statement, as the target logs them.
fn single_statements(pair: &Pair) -> usize {
    pair.target.log().lines().filter(|line| line.contains("execute") && line.contains(": WITH moved AS")).count()
}

#[tokio::test]
async fn transactions_of_a_known_kind_are_one_statement_each() {
    let pair = pair(SHOP).await;
    let running = used_to_transfers(&pair).await;
    pair.here.batch(&(31..=200).map(transfer).collect::<Vec<_>>().join(";")).await;
    pair.caught_up(&running).await;
    pair.assert_same().await;
    running.stop().await.unwrap();
    pair.assert_same().await;
}

#[tokio::test]
async fn several_rows_a_table_and_every_action_are_one_statement_too() {
    let pair = pair(SHOP).await;
    let running = pair.stream();
    for n in 0..8 {
        let (first, second) = (2 * n, 2 * n + 1);
        pair.here
            .batch(&format!(
                "BEGIN; UPDATE account SET balance = balance - 1, note = NULL WHERE id IN (3, 4, 5);
                 INSERT INTO entry SELECT i, i, NULL, '{{}}', NULL FROM generate_series({first}, {second}) AS i; COMMIT;
                 BEGIN; DELETE FROM entry WHERE id IN ({first}, {second}); UPDATE account SET balance = {n} WHERE id = 6; COMMIT"
            ))
            .await;
        pair.caught_up(&running).await;
    }
    pair.assert_same().await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_row_that_is_missing_is_named_and_its_transaction_left_out() {
    let pair = pair(SHOP).await;
    let running = used_to_transfers(&pair).await;
    pair.there.batch("DELETE FROM account WHERE id = 12").await;
    let before = pair.there.text("SELECT commit_end_lsn::text FROM pgstream.apply_progress").await;
    pair.here.batch(&transfer(31)).await;
    let error = running.failure().await;
    assert!(error.to_string().contains("account"), "{error}");
    assert_eq!(pair.there.scalar::<i64>("SELECT count(*) FROM entry WHERE id = 31").await, 0);
    assert_eq!(pair.there.text("SELECT commit_end_lsn::text FROM pgstream.apply_progress").await, before);

    pair.there.batch("INSERT INTO account VALUES (12, 0, 'mended')").await;
    let running = pair.stream();
    pair.caught_up(&running).await;
    pair.assert_same().await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn whoever_lost_its_claim_commits_nothing_this_way_either() {
    let pair = pair(SHOP).await;
    let running = used_to_transfers(&pair).await;
    pair.there.batch("UPDATE pgstream.apply_progress SET epoch = epoch + 1").await;
    pair.here.batch(&transfer(31)).await;
    let error = running.failure().await;
    assert!(matches!(error, Error::Fenced { .. }), "{error}");
    assert_eq!(pair.there.scalar::<i64>("SELECT count(*) FROM entry WHERE id = 31").await, 0);
}

#[tokio::test]
async fn nothing_is_acknowledged_that_a_crash_of_the_target_takes_back() {
    let pair = pair(SHOP).await;
    let running = used_to_transfers(&pair).await;
    let end = pair.here.text("SELECT pg_current_wal_insert_lsn()::text").await.unwrap();
    pair.here.batch(&transfer(31)).await;
    let acknowledged = format!("SELECT confirmed_flush_lsn > '{end}'::pg_lsn FROM pg_replication_slots");
    pair.here.wait_until(&acknowledged, "t").await;
    pair.target.kill9();
    pair.target.start().await;
    let there = pair.target.client("app").await;
    there.wait_until("SELECT count(*) FROM entry WHERE id = 31", "1").await;
    running.stop().await.unwrap();
    pair.assert_same().await;
}
