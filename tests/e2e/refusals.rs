//! Bad input: what the user reads, and the exit code.

use pgstream_testkit::{Cluster, cluster, pair};

use crate::replicator::{Config, MARKER, Replicator, both, copied, fails, pgstream, succeeds, text};

#[tokio::test]
async fn what_was_written_wrong_is_named_with_exit_code_2() {
    for (arguments, words) in [
        (&["run", "--nope"][..], "--nope"),
        (&["status", "--postgres-url", "mysql://u:hunter2@h/d"], "postgresql://"),
        (&["status", "--postgres-url", "postgres://u:hunter2@h:x/d"], "port"),
        (&["run"], "no source is configured"),
    ] {
        let said = fails(2, arguments);
        assert!(said.contains(words) && !said.contains("hunter2"), "{said}");
    }
    let config = Config::raw("source:\n  postgres:\n    url: postgres://u:hunter2@h/d\n    mood: replication\n");
    let said = fails(2, &["run", "-c", &config.path()]);
    assert!(said.contains(":4:") && said.contains("did you mean `mode`?") && !said.contains("hunter2"), "{said}");
}

#[tokio::test]
async fn servers_that_refuse_are_named_with_the_fix() {
    let source = cluster().await;
    let url = source.url("app");
    let wrong = source.url_as("postgres", "c4n4ry", "app");
    let missing = source.url("nowhere");
    for (url, words) in [
        ("postgres://u:c4n4ry@127.0.0.1:1/d?connect_timeout=2", "127.0.0.1:1"),
        (wrong.as_str(), "28P01"),
        (missing.as_str(), "nowhere"),
    ] {
        let said = fails(1, &["init", "--postgres-url", url, "--log-level", "trace"]);
        assert!(said.contains(words) && said.contains("help:") && !said.contains("c4n4ry"), "{said}");
    }
    let line = fails(1, &["init", "--postgres-url", &missing, "--log-format", "json"]);
    for line in line.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
    drop(url);
}

#[tokio::test]
async fn a_source_that_is_not_prepared_is_refused_before_anything_is_written() {
    let source = Cluster::builder().setting("wal_level", "replica").start().await.unwrap();
    source.create_database("app").await;
    let said = fails(1, &["init", "--postgres-url", &source.url("app")]);
    assert!(said.contains("wal_level"), "{said}");
    let here = source.client("app").await;
    assert!(here.scalar::<bool>("SELECT to_regnamespace('pgstream') IS NULL").await);
}

#[tokio::test]
async fn running_before_init_says_to_run_init() {
    let (source, target) = pair().await;
    source.client("app").await.batch(MARKER).await;
    let config = both(&source, &target);
    let output = pgstream(&["run", "-c", &config.path()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("pgstream-aws init"), "{}", text(&output.stderr));
}

#[tokio::test]
async fn a_target_with_rows_of_its_own_is_not_touched() {
    let (source, target) = pair().await;
    source.client("app").await.batch("CREATE TABLE item (id int PRIMARY KEY); INSERT INTO item VALUES (1)").await;
    let there = target.client("app").await;
    there.batch("CREATE TABLE item (id int PRIMARY KEY); INSERT INTO item VALUES (7)").await;
    let said = fails(1, &["snapshot", "--postgres-url", &source.url("app"), "--target-url", &target.url("app")]);
    assert!(said.contains("item"), "{said}");
    assert_eq!(there.scalar::<i32>("SELECT id FROM item").await, 7);
}

#[tokio::test]
async fn a_stream_that_meets_an_unknown_table_stops_and_names_it() {
    let (source, target) = pair().await;
    let here = source.client("app").await;
    here.batch(MARKER).await;
    let config = both(&source, &target);
    succeeds(&["init", "-c", &config.path()]);
    let mut replicator = Replicator::run(&config);
    copied(&target.client("app").await, &replicator).await;
    here.batch("CREATE TABLE newcomer (id int PRIMARY KEY); INSERT INTO newcomer VALUES (1)").await;
    assert_eq!(replicator.ends().await.code(), Some(1));
    assert!(replicator.log().contains("\"newcomer\" is not on the target"), "{}", replicator.log());
}
