//! Roles of the target: of a stream, of a copy, of one that builds databases and roles.

use pgstream_testkit::Client;

use super::{PASSWORD, Subject, begin, copied, each_grant_is_needed, empty, fixes, follow, login, pipeline};
use crate::replicator::Pipeline;

/// `used`: another role has followed, or copied, before.
async fn target_of_a_stream(major: u32, used: bool) {
    let mut pipeline = copied(13, major).await;
    pipeline.pgstream(&["init"]).await.ok();
    pipeline.set("source.postgres.mode", "replication");
    if used {
        follow(&pipeline).await.ok();
    }
    pipeline.set("target.postgres.url", login(&pipeline.target, "target"));
    let subject = Subject::new(&pipeline.target, "target", &["--mode", "replication"]);
    let prepare = async || {
        if !used {
            begin(&pipeline, &pipeline.source.url("app")).await;
        }
    };
    each_grant_is_needed(&subject, prepare, || follow(&pipeline), &|_| ("42501", None)).await;
    pipeline.assert_same_rows().await;
}

#[tokio::test]
async fn a_stream_goes_on_where_another_role_began_with_exactly_its_grants() {
    target_of_a_stream(18, true).await;
}

#[tokio::test]
async fn a_stream_writes_with_exactly_its_grants_on_18() {
    target_of_a_stream(18, false).await;
}

#[tokio::test]
async fn a_stream_writes_with_exactly_its_grants_on_13() {
    target_of_a_stream(13, false).await;
}

async fn assert_restored(pipeline: &Pipeline) {
    pipeline.assert_same_rows().await;
    let owned = "SELECT string_agg(tableowner, ' ' ORDER BY schemaname, tablename) FROM pg_tables
                 WHERE schemaname IN ('public', 'the shop')";
    let there = pipeline.there().await.text(owned).await;
    assert_eq!(there.as_deref(), Some("app_owner app_owner app_owner shop_owner"));
}

async fn target_of_a_snapshot(major: u32, no_privileges: bool) {
    let mut pipeline = pipeline(13, major).await;
    let url = pipeline.source.url("app");
    pipeline.set("source.postgres.mode", "snapshot");
    pipeline.set("target.postgres.url", login(&pipeline.target, "target"));
    pipeline.set("source.postgres.snapshot.schema.pgdump_pgrestore.no_privileges", no_privileges);
    let more = ["--mode", "snapshot", "--source-url", &url, "--no-privileges"];
    let subject = Subject::new(&pipeline.target, "target", if no_privileges { &more } else { &more[..4] });
    let prepare = async || {
        empty(&pipeline.target).await;
        pipeline
            .target
            .client("app")
            .await
            .batch("DROP ROLE IF EXISTS app_owner; DROP ROLE IF EXISTS shop_owner")
            .await;
    };
    let command = async || {
        let done = pipeline.pgstream(&["snapshot"]).await;
        if done.code == Some(0) {
            assert_restored(&pipeline).await;
        }
        done
    };
    let expected = |sql: &str| match sql {
        sql if sql.starts_with("CREATE ROLE") => ("42704", None),
        _ => ("42501", None),
    };
    each_grant_is_needed(&subject, prepare, command, &expected).await;
}

#[tokio::test]
async fn a_snapshot_writes_with_exactly_its_grants_on_18() {
    target_of_a_snapshot(18, false).await;
}

#[tokio::test]
async fn a_snapshot_writes_with_exactly_its_grants_on_16() {
    target_of_a_snapshot(16, false).await;
}

#[tokio::test]
async fn a_snapshot_writes_with_exactly_its_grants_on_13() {
    target_of_a_snapshot(13, false).await;
}

/// Builds the target's database beside the present one, and the source's roles.
async fn builder_of_databases_and_roles(major: u32) {
    let mut pipeline = pipeline(13, major).await;
    let url = pipeline.source.url("app");
    pipeline.set("source.postgres.mode", "snapshot");
    pipeline.set("source.postgres.snapshot.schema.pgdump_pgrestore.roles_snapshot_mode", "no_passwords");
    pipeline.set("source.postgres.snapshot.schema.pgdump_pgrestore.clean_target_db", true);
    pipeline.set("target.postgres.url", login(&pipeline.target, "target"));
    let more = ["--mode", "snapshot", "--source-url", &url, "--createdb", "--createrole"];
    let subject = Subject::new(&pipeline.target, "target", &more);
    let prepare = async || {
        empty(&pipeline.target).await;
        let visitor = "DROP ROLE IF EXISTS visitor; CREATE ROLE visitor LOGIN PASSWORD 'x'; GRANT CONNECT ON DATABASE app TO visitor";
        let there = pipeline.there().await;
        there.batch("DROP ROLE IF EXISTS app_owner; DROP ROLE IF EXISTS shop_owner").await;
        there.batch(visitor).await;
    };
    let command = async || {
        // Somebody is there when the database is replaced.
        let _visitor = Client::open(&pipeline.target.url_as("visitor", "x", "app")).await.unwrap();
        let done = pipeline.pgstream(&["snapshot"]).await;
        if done.code == Some(0) {
            assert_restored(&pipeline).await;
        }
        done
    };
    let expected = |sql: &str| match sql {
        sql if sql.contains("CREATEROLE") => ("snapshot::role", None),
        _ => ("42501", None),
    };
    each_grant_is_needed(&subject, prepare, command, &expected).await;
}

#[tokio::test]
async fn a_database_and_its_roles_are_built_with_exactly_its_grants_on_18() {
    builder_of_databases_and_roles(18).await;
}

#[tokio::test]
async fn a_database_and_its_roles_are_built_with_exactly_its_grants_on_16() {
    builder_of_databases_and_roles(16).await;
}

#[tokio::test]
async fn a_database_and_its_roles_are_built_with_exactly_its_grants_on_13() {
    builder_of_databases_and_roles(13).await;
}

#[tokio::test]
async fn a_snapshot_without_grants_writes_with_exactly_its_grants() {
    target_of_a_snapshot(18, true).await;
}

#[tokio::test]
async fn a_database_that_cannot_be_created_names_the_attribute() {
    let mut pipeline = pipeline(18, 18).await;
    pipeline.set("source.postgres.mode", "snapshot");
    pipeline.set("source.postgres.snapshot.schema.pgdump_pgrestore.no_owner", true);
    pipeline.set("source.postgres.snapshot.schema.pgdump_pgrestore.no_privileges", true);
    pipeline.set("source.postgres.snapshot.schema.pgdump_pgrestore.create_target_db", true);
    pipeline.set("target.postgres.url", pipeline.target.url_as("maker", PASSWORD, "made"));
    let admin = pipeline.there().await;
    admin.batch(&format!("CREATE ROLE maker LOGIN PASSWORD '{PASSWORD}'")).await;
    let refused = pipeline.pgstream(&["snapshot"]).await.ends(1).says(&["42501", "missing_privilege"]);
    assert_eq!(fixes(&refused), ["ALTER ROLE \"maker\" CREATEDB"]);
    admin.batch(&fixes(&refused)[0]).await;
    pipeline.pgstream(&["snapshot"]).await.ok();
}

/// The owners' member alters what they own and makes what will be theirs.
#[tokio::test]
async fn schema_changes_are_followed_with_exactly_its_grants() {
    let mut pipeline = pipeline(18, 18).await;
    let url = pipeline.source.url("app");
    pipeline.pgstream(&["init"]).await.ok();
    empty(&pipeline.target).await;
    pipeline.set("target.postgres.url", login(&pipeline.target, "target"));
    let more = ["--mode", "snapshot-and-replication", "--source-url", &url];
    let subject = Subject::new(&pipeline.target, "target", &more);
    let all = subject.printed().await;
    subject.give(all.iter()).await;
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    let here = pipeline.here().await;
    here.batch(
        "SET ROLE app_owner;
         ALTER TABLE keyless ADD b float8 DEFAULT random(), ADD CONSTRAINT small CHECK (a < 1000);
         CREATE TABLE fresh (id int PRIMARY KEY, at timestamptz DEFAULT now()); INSERT INTO fresh VALUES (1);
         CREATE INDEX fresh_at ON fresh (at); ALTER TABLE fresh RENAME at TO since; COMMENT ON TABLE fresh IS 'new';
         CREATE VIEW seen AS SELECT * FROM fresh; CREATE TABLE filled AS SELECT * FROM keyless;
         CREATE TYPE mood AS ENUM ('good'); ALTER TABLE fresh ADD m mood; DROP TABLE filled",
    )
    .await;
    pipeline.caught_up(&mut running).await;
    pipeline.assert_same_rows().await;
    let owner = "SELECT string_agg(DISTINCT relowner::regrole::text, ' ') FROM pg_class
                  WHERE relname IN ('fresh', 'seen', 'keyless')";
    assert_eq!(pipeline.there().await.text(owner).await.as_deref(), Some("app_owner"));
    let noted = "SELECT count(*) FROM pgstream.ddl_applied WHERE state <> 'applied' OR notes <> '{}'";
    assert_eq!(pipeline.there().await.text(noted).await.as_deref(), Some("0"));
    running.stop().await.ok();
}
