//! `init`, `destroy` and `status`.

use pgstream_testkit::dump_schema;
use serde_json::Value;

use crate::replicator::{Pipeline, SLOT, pgstream};

const SHOP: &str = "CREATE TABLE customers (id int PRIMARY KEY, name text); INSERT INTO customers VALUES (1, 'a');
    CREATE TABLE visits (customer int, at timestamptz DEFAULT now()); INSERT INTO visits VALUES (1), (1);
    CREATE TABLE codes (code text NOT NULL); CREATE UNIQUE INDEX codes_code ON codes (code);
    ALTER TABLE codes REPLICA IDENTITY USING INDEX codes_code; INSERT INTO codes VALUES ('x')";

const VISITS: &str = r#""public"."visits""#;
const LATER: &str = r#""public"."later""#;

const SLOTS: &str = "SELECT count(*) FROM pg_replication_slots";
const PUBLICATIONS: &str = "SELECT count(*) FROM pg_publication";
const SCHEMAS: &str = "SELECT count(*) FROM pg_namespace WHERE nspname = 'pgstream'";

/// `action object` of each step of a report.
fn steps(steps: &Value) -> Vec<String> {
    let text = |step: &Value, name: &str| step[name].as_str().unwrap().to_owned();
    steps.as_array().unwrap().iter().map(|step| format!("{} {}", text(step, "action"), text(step, "object"))).collect()
}

/// Codes of the findings of a status.
fn findings(status: &Value) -> Vec<&str> {
    status["findings"].as_array().unwrap().iter().map(|finding| finding["code"].as_str().unwrap()).collect()
}

async fn counts(pipeline: &Pipeline) -> [i64; 3] {
    let here = pipeline.here().await;
    [here.scalar(SLOTS).await, here.scalar(PUBLICATIONS).await, here.scalar(SCHEMAS).await]
}

#[tokio::test]
async fn init_prepares_once_and_changes_nothing_the_second_time() {
    let pipeline = Pipeline::new(SHOP).await;
    pipeline.pgstream(&["init"]).await.ok().prints(&[
        "created",
        "replica identity",
        VISITS,
        "Ready: slot pgstream_app_slot",
    ]);
    assert_eq!(counts(&pipeline).await, [1, 1, 1]);
    let second = pipeline.pgstream(&["init", "--json"]).await.ok().json();
    assert_eq!(second["slot"], SLOT);
    assert_eq!(second["publication"], "pgstream_app");
    assert!(steps(&second["steps"]).iter().all(|step| step.starts_with("kept ")), "{second:#}");
    let third = pipeline.pgstream(&["init", "--json"]).await.ok().json();
    assert_eq!(second["consistent_point"], third["consistent_point"]);
    assert_eq!(counts(&pipeline).await, [1, 1, 1]);
}

#[tokio::test]
async fn several_inits_at_once_agree() {
    let pipeline = Pipeline::new(SHOP).await;
    let init = || pipeline.pgstream(&["init", "--json"]);
    let (one, two, three) = tokio::join!(init(), init(), init());
    let reports = [one.ok().json(), two.ok().json(), three.ok().json()];
    assert!(reports.iter().all(|report| report["consistent_point"] == reports[0]["consistent_point"]));
    let created = reports.iter().filter(|r| steps(&r["steps"]).contains(&"created slot".to_owned())).count();
    assert_eq!(created, 1, "{reports:#?}");
    assert_eq!(counts(&pipeline).await, [1, 1, 1]);
}

#[tokio::test]
async fn init_can_be_done_in_two_halves() {
    let pipeline = Pipeline::new(SHOP).await;
    pipeline.pgstream(&["init", "--slot-only"]).await.ends(1).says(&["source::not_migrated", "--migrations-only"]);
    assert_eq!(counts(&pipeline).await, [0, 0, 0]);
    pipeline.pgstream(&["init", "--migrations-only"]).await.ok().prints(&["Ready: publication pgstream_app"]);
    assert_eq!(counts(&pipeline).await, [0, 1, 1]);
    pipeline.pgstream(&["init", "--slot-only"]).await.ok().prints(&["Ready: slot pgstream_app_slot"]);
    assert_eq!(counts(&pipeline).await, [1, 1, 1]);
    pipeline.pgstream(&["destroy", "--slot-only", "--yes"]).await.ok();
    assert_eq!(counts(&pipeline).await, [0, 1, 1]);
    pipeline.pgstream(&["init", "--migrations-only", "--slot-only"]).await.ends(2).says(&["cannot be used with"]);
}

#[tokio::test]
async fn updates_of_tables_without_a_key_work_as_before() {
    let pipeline = Pipeline::new(SHOP).await;
    pipeline.pgstream(&["init"]).await.ok();
    let here = pipeline.here().await;
    assert_eq!(here.execute("UPDATE visits SET customer = 2").await, 2);
    assert_eq!(here.execute("DELETE FROM visits").await, 2);
    here.batch("CREATE TABLE soon (a int); INSERT INTO soon VALUES (1)").await;
    assert_eq!(here.execute("UPDATE soon SET a = 2").await, 1, "a new table has its identity at once");
    // FOR ALL TABLES publishes every table: where its creation is not recorded, its updates fail until init has seen it.
    here.batch("SET pgstream.skip_log = 'true'; CREATE TABLE later (a int); INSERT INTO later VALUES (1)").await;
    let status = pipeline.pgstream(&["status"]).await.ends(1).prints(&[LATER, "pgstream-aws init"]);
    assert!(status.out.contains("[tables_without_identity]"), "{}", status.out);
    pipeline.pgstream(&["init"]).await.ok().prints(&[LATER]);
    assert_eq!(here.execute("UPDATE later SET a = 2").await, 1);
}

#[tokio::test]
async fn destroy_leaves_the_source_as_it_was() {
    let pipeline = Pipeline::new(SHOP).await;
    let here = pipeline.here().await;
    here.batch("CREATE PUBLICATION of_the_user FOR TABLE customers").await;
    let before = dump_schema(&pipeline.source, "app").await;
    pipeline.pgstream(&["init"]).await.ok();
    assert_ne!(dump_schema(&pipeline.source, "app").await, before, "replica identities show in a dump");
    let shown = pipeline.pgstream(&["destroy", "--yes"]).await.ok();
    let shown = shown.prints(&["removed", SLOT, "restored", VISITS, "Done."]);
    assert!(!shown.out.contains("codes"), "{}", shown.out);
    assert_eq!(dump_schema(&pipeline.source, "app").await, before);
    assert_eq!(counts(&pipeline).await, [0, 1, 0], "what the user made stays");
    pipeline.pgstream(&["destroy", "--yes"]).await.ok().prints(&["Nothing to remove"]);
    assert_eq!(pipeline.pgstream(&["destroy", "--yes", "--json"]).await.ok().out.trim(), "[]");
}

#[tokio::test]
async fn destroy_asks_and_without_an_answer_changes_nothing() {
    let pipeline = Pipeline::new(SHOP).await;
    pipeline.pgstream(&["init"]).await.ok();
    let dump = dump_schema(&pipeline.source, "app").await;
    let refused = pipeline.pgstream(&["destroy"]).await.ends(2);
    refused.prints(&["remove", SLOT]).says(&["nothing was changed", "--yes"]);
    assert_eq!(counts(&pipeline).await, [1, 1, 1]);
    assert_eq!(dump_schema(&pipeline.source, "app").await, dump);
    pipeline.pgstream(&["destroy", "--json"]).await.ends(2).says(&["--yes"]);
    assert_eq!(counts(&pipeline).await, [1, 1, 1]);
}

#[tokio::test]
async fn a_slot_that_is_read_is_not_dropped() {
    let pipeline = Pipeline::new(SHOP).await;
    pipeline.pgstream(&["init"]).await.ok();
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    pipeline.pgstream(&["destroy", "--yes"]).await.ends(1).says(&[SLOT]);
    assert_eq!(counts(&pipeline).await, [1, 1, 1]);
    pipeline.caught_up(&mut running).await;
    running.stop().await.ok();
    pipeline.pgstream(&["destroy", "--yes"]).await.ok();
}

#[tokio::test]
async fn status_tells_what_is_wrong_and_what_to_do() {
    let pipeline = Pipeline::new(SHOP).await;
    let status = pipeline.pgstream(&["status"]).await.ends(1);
    status.prints(&["[schema_missing]", "[publication_missing]", "[slot_missing]", "pgstream-aws init"]);
    let status = pipeline.pgstream(&["status", "--json"]).await.ends(1).json();
    assert_eq!(findings(&status), ["schema_missing", "publication_missing", "slot_missing"]);

    pipeline.pgstream(&["init"]).await.ok();
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    pipeline.pgstream(&["status"]).await.ok().prints(&["read by process", "reserved", "Nothing is wrong."]);
    let status = pipeline.pgstream(&["status", "--json"]).await.ok().json();
    assert_eq!(findings(&status), <[&str; 0]>::default());
    assert_eq!(status["slot"]["name"], SLOT);
    assert_eq!(status["slot"]["plugin"], "pgoutput");
    assert_eq!(status["publication"]["tables"], 4);
    assert_eq!(status["target"]["copied_tables"], 4);
    assert!(status["target"]["commit_end_lsn"].is_string(), "{status:#}");
    running.stop().await.ok();

    pipeline.here().await.batch(&format!("SELECT pg_drop_replication_slot('{SLOT}')")).await;
    let gone = pipeline.pgstream(&["status"]).await.ends(1);
    gone.prints(&["[slot_gone]", "pgstream-aws destroy --slot-only", "new snapshot"]);
}

#[tokio::test]
async fn status_says_that_the_target_cannot_be_read() {
    let mut pipeline = Pipeline::new(SHOP).await;
    pipeline.pgstream(&["init"]).await.ok();
    pipeline.set("target.postgres.url", pipeline.target.url_as("postgres", "wrong", "app"));
    let status = pipeline.pgstream(&["status"]).await.ends(1);
    status.prints(&["[target_unreadable]", "password authentication failed"]);
    // The source alone can be asked.
    let url = pipeline.source.url("app");
    pgstream(&["status", "--postgres-url", &url]).await.ok().prints(&["Nothing is wrong."]);
}
