//! `status` as a user sees it.

use pgstream_testkit::pair;

use crate::replicator::{Pipeline, Replicator, pgstream};

#[tokio::test]
async fn findings_end_it_with_one_and_come_with_a_remedy() {
    let (source, target) = pair().await;
    let (source_url, target_url) = (source.url("app"), target.url("app"));
    let both = ["status", "--postgres-url", &source_url, "--target-url", &target_url];

    let before = pgstream(&both).await;
    assert_eq!(before.code, Some(1), "{before:?}");
    for line in [
        "[schema_missing] schema pgstream has not been prepared",
        "[publication_missing] publication pgstream_app does not exist",
        "[slot_missing] slot pgstream_app_slot does not exist",
        "  fix: run `pgstream-aws init`",
    ] {
        assert!(before.out.lines().any(|found| found == line), "no `{line}` in\n{before:?}");
    }

    pgstream(&["init", "--postgres-url", &source_url]).await;
    let after = pgstream(&both).await;
    assert_eq!(after.code, Some(0), "{after:?}");
    assert!(after.out.ends_with("Nothing is wrong.\n"), "{after:?}");
    assert!(after.out.contains("pgstream_app_slot (nobody reads it)"), "{after:?}");
    assert!(after.out.lines().all(|line| line.trim_end().len() <= 80), "{after:?}");
    assert!(!format!("{after:?}").contains(pgstream_testkit::PASSWORD), "a password was printed");

    let report = pgstream(&[&both[..], &["--json"]].concat()).await;
    assert_eq!(report.code, Some(0), "{report:?}");
    let report = report.json();
    assert_eq!(report["findings"], serde_json::json!([]));
    assert_eq!(report["slot"]["wal_status"], "reserved");
    assert_eq!(report["target"]["commit_end_lsn"], serde_json::Value::Null);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_one_failure_and_no_secret() {
    let ended = pgstream(&["status", "--postgres-url", "postgresql://u:geheim@127.0.0.1:1/app"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.starts_with("error[pgstream::postgres::"), "{ended:?}");
    assert!(ended.err.contains("127.0.0.1:1"), "{ended:?}");
    assert!(ended.err.contains("  help: "), "{ended:?}");
    assert!(!format!("{ended:?}").contains("geheim"), "a password was printed");
}

#[tokio::test]
async fn waiting_ends_when_the_target_is_in_step_and_not_before() {
    let pipeline = Pipeline::new("CREATE TABLE t (id int PRIMARY KEY)").await;
    pipeline.pgstream(&["init"]).await.ok();
    // Nobody copies: it cannot come true.
    let waited = pipeline.pgstream(&["status", "--wait-caught-up", "--timeout", "3"]).await;
    waited.ends(1).says(&["status::not_caught_up", "is not in step after 3 s"]);

    let mut waiting = pipeline.start(&["status", "--wait-caught-up", "--json"]);
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    pipeline.here().await.batch("INSERT INTO t SELECT generate_series(1, 1000)").await;
    waiting.prints("\n}").await;
    assert_eq!(waiting.done().await.ok().json()["findings"], serde_json::json!([]));
    pipeline.pgstream(&["status", "--wait-caught-up"]).await.ok().prints(&["The target is in step."]);
    running.stop().await.ok();

    pipeline.pgstream(&["destroy", "--yes", "--slot-only"]).await.ok();
    pipeline.pgstream(&["status", "--wait-caught-up"]).await.ends(1).prints(&["[slot_missing]"]);
}

#[tokio::test]
async fn a_container_is_given_the_configuration_in_a_variable() {
    let pipeline = Pipeline::new("").await;
    let text = std::fs::read_to_string(pipeline.config()).unwrap();
    let start = |arguments: &[&str], text: &str| Replicator::start_in(arguments, vec![("PGSTREAM_CONFIG", text)]);
    start(&["init"], &text).done().await.ok();
    start(&["status"], &text).done().await.ok().prints(&["Nothing is wrong."]);
    // What is wrong with it has a place, and its text is never shown.
    let wrong = start(&["status"], &format!("{text}surce: 1\n")).done().await.ends(2);
    assert!(wrong.err.contains("PGSTREAM_CONFIG:"), "{wrong:?}");
    let help = start(&["status", "--help"], &text).done().await.ok();
    assert!(!format!("{wrong:?}{help:?}").contains(pgstream_testkit::PASSWORD), "a password was printed");
}
