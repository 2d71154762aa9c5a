//! The load writes all kinds of changes, survives its server, and its ledger tells the truth.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use pgstream_testkit::{
    Conserved, Load, Proxy, Stop, assert_accounts, assert_journal, assert_same_rows, cluster, seed,
};

/// Also the proof that every source of the matrix can be loaded.
#[tokio::test]
async fn matrix_the_ledger_is_exact_through_crashes_of_the_server() {
    let cluster = cluster().await;
    cluster.client("app").await.batch(Load::schema()).await;
    let load = Load::start(&cluster.url("app"), seed(), 4);
    let conserved = Conserved::watch(&cluster.url("app"));
    for _ in 0..3 {
        load.progress(200).await;
        cluster.kill9();
        cluster.start().await;
    }
    load.progress(200).await;
    cluster.restart(Stop::Immediate).await;
    load.progress(400).await;
    let report = load.stop().await;
    assert!(conserved.stop().await > 0);
    assert!(report.transactions() >= 1200);
    assert!(report.rolled_back > 0 && report.reconnects >= 4, "{} {}", report.rolled_back, report.reconnects);

    assert_journal(&cluster, "app", &report).await;
    assert_accounts(&cluster, "app").await;
    assert_same_rows(&cluster, &cluster, "app").await;
    let client = cluster.client("app").await;
    assert_eq!(client.text("SELECT count(*) FROM pg_prepared_xacts").await.as_deref(), Some("0"));
    // No kind of change fails for a reason of its own.
    let log = cluster.log();
    let errors: Vec<&str> = log.lines().filter(|line| line.contains("ERROR:") && !line.contains("40P01")).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    for table in ["journal", "orders", "items", "twins", "side", "events_0", "events_1", "events_rest"] {
        let sql = format!("SELECT count(*) > 0 FROM load.{table}");
        assert!(table == "side" || client.scalar::<bool>(&sql).await, "{table} is empty");
    }
}

#[tokio::test]
async fn lost_doubled_and_foreign_numbers_are_found() {
    let cluster = cluster().await;
    cluster.client("app").await.batch(Load::schema()).await;
    let load = Load::start(&cluster.url("app"), seed(), 1);
    load.progress(20).await;
    let report = load.stop().await;
    let (worker, numbers) = report.acknowledged.first_key_value().unwrap();
    for (damage, found) in [
        (format!("DELETE FROM load.journal WHERE n = {}", numbers[3]), format!("1 lost: {worker}/{}", numbers[3])),
        (format!("INSERT INTO load.journal VALUES ({worker}, {})", numbers[5]), "1 doubled".to_owned()),
        (format!("INSERT INTO load.journal VALUES ({worker}, -1)"), "1 there though never committed".to_owned()),
    ] {
        cluster.client("app").await.batch(&damage).await;
        let panic = AssertUnwindSafe(assert_journal(&cluster, "app", &report)).catch_unwind().await.unwrap_err();
        let message = panic.downcast::<String>().unwrap();
        assert!(message.contains(&found), "{found} is not in {message}");
    }
}

#[tokio::test]
async fn commits_without_an_answer_are_maybes() {
    let cluster = cluster().await;
    cluster.client("app").await.batch(Load::schema()).await;
    let proxy = Proxy::start(cluster.port()).await.unwrap();
    let load = Load::start(&proxy.url(&cluster.url("app"), cluster.port()), seed(), 3);
    for round in 0..20 {
        load.progress(10).await;
        proxy.cut_after(round * 97);
    }
    load.progress(10).await;
    let report = load.stop().await;
    assert!(report.reconnects >= 20, "{}", report.reconnects);
    assert_journal(&cluster, "app", &report).await;
    assert_accounts(&cluster, "app").await;
}
