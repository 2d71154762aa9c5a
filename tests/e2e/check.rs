//! `check`: each obstacle is made on a real server, and named.

use std::{collections::BTreeMap, fs};

use pgstream_testkit::{Cluster, Stop};
use serde_json::Value;

use crate::replicator::{Done, Pipeline};

/// What was found: identifier and all that was said, by severity.
fn found(done: &Done) -> BTreeMap<String, String> {
    let report = done.json();
    let findings = report["findings"].as_array().unwrap();
    findings.iter().map(|it| (it["id"].as_str().unwrap().to_owned(), it.to_string())).collect()
}

#[track_caller]
fn assert_found(done: &Done, expected: &[&str]) {
    let found = found(done);
    for id in expected {
        assert!(found.contains_key(*id), "{id} was not found: {:?}\n{}", found.keys(), done.err);
    }
}

/// Errors and warnings.
fn troubles(report: &Value) -> Vec<&Value> {
    report["findings"].as_array().unwrap().iter().filter(|it| it["severity"] != "notice").collect()
}

#[tokio::test]
async fn a_prepared_pair_has_nothing_in_the_way_before_and_after_init() {
    for major in [13, 18] {
        let (source, target) = pgstream_testkit::pair_of(major, major).await;
        let pipeline = Pipeline::between(source, target, "CREATE TABLE t (a int PRIMARY KEY)").await;
        for step in ["check", "init"] {
            pipeline.pgstream(&[step]).await.ok();
            let done = pipeline.pgstream(&["check", "--strict", "--json"]).await.ok();
            let report = done.json();
            assert!(troubles(&report).is_empty(), "{report:#}");
            assert!(report["checked"].as_u64().unwrap() > 30, "{report:#}");
        }
    }
}

#[tokio::test]
async fn roles_with_exactly_the_privileges_of_the_guide_have_nothing_in_the_way() {
    let mut pipeline = Pipeline::new(
        "CREATE ROLE reader LOGIN REPLICATION PASSWORD 'secret';
         GRANT CREATE ON DATABASE app TO reader; GRANT pg_read_all_data TO reader;
         CREATE TABLE t (a int PRIMARY KEY, b serial); ALTER TABLE t OWNER TO reader; ALTER TABLE marker OWNER TO reader",
    )
    .await;
    pipeline
        .there()
        .await
        .batch(
            "CREATE ROLE writer LOGIN CREATEROLE PASSWORD 'secret'; GRANT CREATE ON DATABASE app TO writer;
             GRANT USAGE, CREATE ON SCHEMA public TO writer",
        )
        .await;
    pipeline.set("source.postgres.url", pipeline.source.url_as("reader", "secret", "app"));
    pipeline.set("target.postgres.url", pipeline.target.url_as("writer", "secret", "app"));
    let report = pipeline.pgstream(&["check", "--strict", "--json"]).await.ok().json();
    assert!(troubles(&report).is_empty(), "{report:#}");
}

#[tokio::test]
async fn what_tables_are_made_of_is_looked_at() {
    let pipeline = Pipeline::new(
        "CREATE UNLOGGED TABLE u (a int PRIMARY KEY);
         CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w; CREATE FOREIGN TABLE f (a int) SERVER s;
         SELECT lo_create(0);
         CREATE TABLE k (a int); INSERT INTO k VALUES (1), (1);
         CREATE COLLATION c (locale = 'C.UTF-8', provider = libc);
         UPDATE pg_collation SET collversion = '0' WHERE collname = 'c';
         UPDATE pg_extension SET extname = 'nowhere' WHERE extname = 'plpgsql'",
    )
    .await;
    let here = pipeline.here().await;
    here.simple_query("CREATE UNIQUE INDEX CONCURRENTLY k_a ON k (a)").await.unwrap_err();
    here.batch("SET allow_in_place_tablespaces = on").await;
    here.batch("CREATE TABLESPACE space LOCATION ''").await;
    here.batch("CREATE TABLE away (a int PRIMARY KEY) TABLESPACE space").await;
    let there = pipeline.there().await;
    there
        .batch(
            "CREATE TABLE marker (n int PRIMARY KEY);
             CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
             CREATE TRIGGER always BEFORE INSERT ON marker FOR EACH ROW EXECUTE FUNCTION f();
             ALTER TABLE marker ENABLE ALWAYS TRIGGER always",
        )
        .await;
    there.batch("CREATE SUBSCRIPTION sub CONNECTION 'host=localhost' PUBLICATION p WITH (connect = false)").await;
    there.batch("ALTER SUBSCRIPTION sub SET (slot_name = 'nothing')").await;
    there.batch("ALTER SUBSCRIPTION sub ENABLE").await;
    let done = pipeline.pgstream(&["check", "--json"]).await.ends(1);
    assert_found(
        &done,
        &[
            "schema.unlogged",
            "schema.foreign_table",
            "schema.large_objects",
            "schema.no_key",
            "schema.collation_version",
            "schema.extension",
            "schema.invalid_index",
            "schema.tablespace",
            "schema.always_trigger",
            "schema.target_not_empty",
            "replication.target_subscription",
            "replication.unlimited_wal",
        ],
    );
    // A category by itself; and text for people.
    let only = pipeline.pgstream(&["check", "--replication", "--json"]).await.ok();
    assert!(!found(&only).contains_key("schema.unlogged"));
    pipeline.pgstream(&["check"]).await.ends(1).prints(&["error[schema.extension] on the target", "fix:", "why:"]);
}

#[tokio::test]
async fn missing_privileges_are_named_with_the_statement_that_gives_them() {
    for major in [13, 18] {
        let (source, target) = pgstream_testkit::pair_of(major, major).await;
        let mut pipeline = Pipeline::between(
            source,
            target,
            "CREATE ROLE reader LOGIN PASSWORD 'secret'; CREATE ROLE boss;
             CREATE SCHEMA closed; CREATE TABLE closed.t (a int PRIMARY KEY);
             CREATE TABLE mine (a int PRIMARY KEY); ALTER TABLE mine OWNER TO boss;
             CREATE TABLE hidden (a int PRIMARY KEY); ALTER TABLE hidden ENABLE ROW LEVEL SECURITY;
             GRANT SELECT ON hidden TO reader; CREATE SEQUENCE seq",
        )
        .await;
        let there = pipeline.there().await;
        there.batch("CREATE ROLE writer LOGIN PASSWORD 'secret'; REVOKE CREATE ON SCHEMA public FROM public").await;
        pipeline.set("source.postgres.url", pipeline.source.url_as("reader", "secret", "app"));
        pipeline.set("target.postgres.url", pipeline.target.url_as("writer", "secret", "app"));
        pipeline.set("source.postgres.snapshot.schema.pgdump_pgrestore.roles_snapshot_mode", "enabled");
        pipeline.set("target.postgres.disable_triggers", true);
        let done = pipeline.pgstream(&["check", "--json"]).await.ends(1);
        assert_found(
            &done,
            &[
                "access.usage",
                "access.select",
                "access.select_sequence",
                "access.row_security",
                "access.pg_authid",
                "access.create_on_database",
                "access.create_in_public",
                "access.session_replication_role",
                "access.createrole",
                "source::replication_privilege",
                "source::create_privilege",
            ],
        );

        // The statements as printed, and it is gone.
        let report = done.json();
        for (ids, client) in [
            (
                ["access.usage", "access.select", "access.select_sequence", "access.row_security"].as_slice(),
                pipeline.here().await,
            ),
            (["access.create_on_database", "access.create_in_public"].as_slice(), pipeline.there().await),
        ] {
            let meant =
                report["findings"].as_array().unwrap().iter().filter(|it| ids.contains(&it["id"].as_str().unwrap()));
            for instance in meant.flat_map(|it| it["instances"].as_array().unwrap()) {
                client.batch(instance["fix"].as_str().unwrap()).await;
            }
        }
        let after = found(&pipeline.pgstream(&["check", "--json"]).await.ends(1));
        for id in ["usage", "select", "select_sequence", "row_security", "create_on_database", "create_in_public"] {
            assert!(!after.contains_key(&format!("access.{id}")), "{after:#?}");
        }

        pipeline.set("source.postgres.snapshot.schema.pgdump_pgrestore.roles_snapshot_mode", "disabled");
        pipeline.set("source.postgres.snapshot.schema.pgdump_pgrestore.clean_target_db", true);
        assert_found(
            &pipeline.pgstream(&["check", "--access", "--json"]).await.ends(1),
            &["access.owner_missing", "access.createdb"],
        );
    }
}

#[tokio::test]
async fn a_target_that_is_only_followed_needs_its_tables_and_rights_on_them() {
    let mut pipeline = Pipeline::new("CREATE TABLE t (a int PRIMARY KEY)").await;
    let there = pipeline.there().await;
    there.batch("CREATE TABLE t (a int PRIMARY KEY); CREATE ROLE writer LOGIN PASSWORD 'secret'").await;
    there.batch("GRANT CREATE ON DATABASE app TO writer").await;
    pipeline.set("source.postgres.mode", "replication");
    pipeline.set("target.postgres.url", pipeline.target.url_as("writer", "secret", "app"));
    let done = pipeline.pgstream(&["check", "--json"]).await.ends(1);
    assert_found(&done, &["access.write", "schema.target_table_missing"]);
}

#[tokio::test]
async fn settings_and_transactions_that_get_in_the_way_are_named() {
    let source = Cluster::builder()
        .setting("wal_sender_timeout", "5s")
        .setting("idle_session_timeout", "1h")
        .setting("max_connections", "6")
        .setting("superuser_reserved_connections", "1")
        .setting("max_prepared_transactions", "5")
        .setting("max_wal_senders", "0");
    let target = Cluster::builder()
        .setting("temp_file_limit", "1GB")
        .setting("transaction_timeout", "1h")
        .setting("max_connections", "6")
        .setting("superuser_reserved_connections", "1");
    let (source, target) = pgstream_testkit::pair_with(source, target).await;
    let pipeline = Pipeline::between(source, target, "CREATE TABLE t (a int PRIMARY KEY)").await;
    let here = pipeline.here().await;
    here.batch("SELECT pg_create_logical_replication_slot('idle', 'pgoutput')").await;
    for _ in 0..17 {
        here.batch("INSERT INTO t SELECT coalesce(max(a), 0) + 1 FROM t; SELECT pg_switch_wal()").await;
    }
    here.batch("BEGIN; INSERT INTO t VALUES (1000); PREPARE TRANSACTION 'gid'").await;
    here.batch("BEGIN; INSERT INTO t VALUES (1001); SELECT pg_sleep(11)").await;
    pipeline.there().await.batch("ALTER DATABASE app SET default_transaction_read_only = on").await;
    let done = pipeline.pgstream(&["check", "--json"]).await.ends(1);
    assert_found(
        &done,
        &[
            "replication.wal_sender_timeout",
            "replication.free_sender",
            "replication.idle_slot",
            "replication.prepared_transaction",
            "replication.long_transaction",
            "resources.source_connections",
            "resources.source_time_limits",
            "resources.target_connections",
            "resources.target_time_limits",
            "resources.temp_file_limit",
            "connectivity.target_read_only",
        ],
    );
}

#[tokio::test]
async fn older_targets_and_other_encodings_are_named() {
    let (source, target) = pgstream_testkit::pair_of(18, 13).await;
    let mut pipeline = Pipeline::between(source, target, "").await;
    let there = pipeline.there().await;
    there.batch("CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'POSIX' LC_CTYPE 'POSIX' TEMPLATE template0").await;
    pipeline.set("target.postgres.url", pipeline.target.url("latin"));
    let done = pipeline.pgstream(&["check", "--json"]).await.ends(1);
    assert_found(&done, &["connectivity.version", "schema.encoding"]);
    there.batch("CREATE DATABASE other LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8' TEMPLATE template0").await;
    pipeline.set("target.postgres.url", pipeline.target.url("other"));
    let done = pipeline.pgstream(&["check", "--json"]).await.ends(1);
    assert_found(&done, &["schema.locale"]);
    assert!(!found(&done).contains_key("schema.encoding"));
}

#[tokio::test]
async fn standbys_are_named_and_refused_until_the_primary_is_used() {
    let (source, target) = pgstream_testkit::pair().await;
    let (source_primary, target_primary) = pgstream_testkit::pair().await;
    let mut pipeline = Pipeline::between(source, target, "CREATE TABLE t (a int PRIMARY KEY)").await;
    pipeline.set("source.postgres.mode", "snapshot");
    // A failover may be under way: what is read-only is tried again for a while.
    for side in ["source", "target"] {
        pipeline.set(&format!("{side}.postgres.retry_policy"), serde_json::json!({ "disable_retries": true }));
    }
    source_primary.client("app").await.batch("CREATE TABLE t (a int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    for (id, key, primary, says) in [
        (
            "connectivity.target_standby",
            "target.postgres.url",
            target_primary.url("app"),
            "docs: docs/troubleshooting.md#read_only_node",
        ),
        (
            "connectivity.source_standby",
            "source.postgres.url",
            source_primary.url("app"),
            "snapshot::source_in_recovery",
        ),
    ] {
        let server = if key.starts_with("target") { &pipeline.target } else { &pipeline.source };
        server.stop(Stop::Fast).await;
        fs::write(server.data_dir().join("standby.signal"), "").unwrap();
        server.start().await;
        assert_found(&pipeline.pgstream(&["check", "--json"]).await.ends(1), &[id]);
        pipeline.pgstream(&["check"]).await.ends(1).prints(&["connect to the primary"]);
        pipeline.pgstream(&["snapshot"]).await.ends(1).says(&[says, "docs: docs/troubleshooting.md#"]);
        pipeline.set(key, primary);
        assert!(!found(&pipeline.pgstream(&["check", "--json"]).await).contains_key(id));
        pipeline.pgstream(&["snapshot"]).await.ok();
    }
}

#[tokio::test]
async fn servers_that_cannot_be_reached_are_named_both_at_once() {
    let pipeline = Pipeline::new("").await;
    pipeline.source.stop(Stop::Fast).await;
    pipeline.target.stop(Stop::Fast).await;
    let done = pipeline.pgstream(&["check", "--json"]).await.ends(1);
    assert_found(&done, &["connectivity.source", "connectivity.target"]);
}
