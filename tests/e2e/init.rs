//! `init` and `destroy` as a user sees them.

use pgstream_testkit::cluster;

use crate::replicator::{Replicator, pgstream};

#[tokio::test]
async fn init_says_what_it_did_and_destroy_what_it_will_do() {
    let cluster = cluster().await;
    let url = cluster.url("app");
    cluster.client("app").await.batch("CREATE TABLE t (id int)").await;

    let done = pgstream(&["init", "--postgres-url", &url]).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    for line in [
        "  created   schema           pgstream",
        "  changed   replica identity \"public\".\"t\" (FULL, was DEFAULT without a primary key)",
        "  created   publication      pgstream_app (for all tables)",
        "  created   replication slot pgstream_app_slot (plugin pgoutput)",
    ] {
        assert!(done.out.lines().any(|found| found == line), "no `{line}` in\n{done:?}");
    }
    assert!(done.out.contains("Ready: slot pgstream_app_slot on 127.0.0.1:"), "{done:?}");
    assert_eq!(done.err, "");

    let asked = pgstream(&["destroy", "--postgres-url", &url]).await;
    assert_eq!(asked.code, Some(2), "{asked:?}");
    assert!(asked.out.contains("  remove    replication slot pgstream_app_slot"), "{asked:?}");
    assert!(asked.out.contains("  restore   replica identity \"public\".\"t\" (DEFAULT)"), "{asked:?}");
    assert!(asked.err.contains("error[usage::nobody_to_ask]") && asked.err.contains("--yes"), "{asked:?}");

    let destroyed = pgstream(&["destroy", "--yes", "--postgres-url", &url]).await;
    assert_eq!(destroyed.code, Some(0), "{destroyed:?}");
    assert!(destroyed.out.contains("  removed   schema           pgstream"), "{destroyed:?}");
    let nothing = pgstream(&["destroy", "--yes", "--postgres-url", &url]).await;
    assert_eq!(nothing.code, Some(0), "{nothing:?}");
    assert!(nothing.out.starts_with("Nothing to remove on 127.0.0.1:"), "{nothing:?}");
}

#[tokio::test]
async fn reports_are_json_when_asked() {
    let cluster = cluster().await;
    let url = cluster.url("app");
    let report = pgstream(&["init", "--json", "--postgres-url", &url]).await.json();
    assert_eq!(report["slot"], "pgstream_app_slot");
    assert_eq!(report["steps"][0], serde_json::json!({ "action": "created", "object": "schema", "name": "pgstream" }));
    assert!(report["consistent_point"].as_str().unwrap().contains('/'));
    assert!(report["warnings"].is_array());
    let steps = pgstream(&["destroy", "--json", "--yes", "--postgres-url", &url]).await.json();
    assert_eq!(steps[0], serde_json::json!({ "action": "removed", "object": "slot", "name": "pgstream_app_slot" }));
}

#[tokio::test]
async fn what_is_in_the_way_is_listed_with_its_remedies() {
    let cluster = pgstream_testkit::Cluster::builder().setting("wal_level", "replica").start().await.unwrap();
    cluster.create_database("app").await;
    cluster.client("app").await.batch("CREATE ROLE weak LOGIN PASSWORD 'hush hush'").await;
    let url = cluster.url_as("weak", "hush hush", "app");
    let refused = pgstream(&["init", "--postgres-url", &url]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert_eq!(refused.out, "");
    assert!(refused.err.contains("is not ready: 3 problems, nothing was changed"), "{refused:?}");
    for code in ["source::create_privilege", "source::wal_level", "source::replication_privilege"] {
        assert!(refused.err.contains(&format!("- [{code}] ")), "{refused:?}");
    }
    assert!(refused.err.contains("fix: GRANT CREATE ON DATABASE \"app\" TO \"weak\";"), "{refused:?}");

    let logged = pgstream(&["init", "--log-format", "json", "--postgres-url", &url]).await;
    let line: serde_json::Value = serde_json::from_str(&logged.err).unwrap();
    assert_eq!(line["code"], "source::refused");
    assert_eq!(line["problems"].as_array().unwrap().len(), 3);
    assert_eq!(line["problems"][1]["help"], "ALTER SYSTEM SET wal_level = logical; then restart the server");
    assert!(!format!("{refused:?}{logged:?}").contains("hush"), "a password was printed");
}

#[tokio::test]
async fn a_configuration_file_says_which_tables_and_slot() {
    let cluster = cluster().await;
    cluster.client("app").await.batch("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)").await;
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    let text = format!(
        "source:\n  postgres:\n    url: {}\n    mode: replication\n    replication:\n      replication_slot: mine\n\
         target:\n  postgres:\n    url: postgresql://u@127.0.0.1:1/none\n\
         modifiers:\n  filter:\n    include_tables: [public.a]\n",
        cluster.url("app")
    );
    std::fs::write(file.path(), text).unwrap();
    let report = pgstream(&["init", "--json", "-c", file.path().to_str().unwrap()]).await.json();
    assert_eq!(report["slot"], "mine");
    let listed = "SELECT string_agg(tablename, ' ' ORDER BY tablename) FROM pg_publication_tables";
    assert_eq!(cluster.client("app").await.text(listed).await.as_deref(), Some("a schema_log"));
    // A flag wins over the file.
    let report =
        pgstream(&["init", "--json", "--replication-slot", "other", "-c", file.path().to_str().unwrap()]).await;
    assert_eq!(report.json()["slot"], "other");
}

#[tokio::test]
async fn a_signal_stops_an_init_that_waits_and_leaves_no_slot_behind() {
    let cluster = cluster().await;
    let (writer, watcher) = (cluster.client("app").await, cluster.client("app").await);
    writer.batch("CREATE TABLE t (id int PRIMARY KEY); BEGIN; INSERT INTO t VALUES (1)").await;
    let running = Replicator::start(&["init", "--postgres-url", &cluster.url("app")]);
    let creating = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'
                    AND query LIKE 'SELECT FROM pg_create_logical%'";
    watcher.wait_until(creating, "1").await;
    let stopped = running.stop().await.ends(1);
    stopped.says(&["source::cancelled", "run it again: it goes on where it stopped"]);
    watcher.wait_until("SELECT count(*) FROM pg_replication_slots", "0").await;
    writer.batch("COMMIT").await;
    let again = pgstream(&["init", "--postgres-url", &cluster.url("app")]).await;
    assert_eq!(again.code, Some(0), "{again:?}");
}
