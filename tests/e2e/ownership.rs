//! Roles with as few rights as they need.

use pgstream_testkit::{Load, assert_journal, seed};

use crate::replicator::Pipeline;

/// Parents and children.
const SHOP: &str = "CREATE SCHEMA shop; CREATE TABLE shop.parents (id int PRIMARY KEY, name text);
    CREATE TABLE shop.children (id int PRIMARY KEY, parent int NOT NULL REFERENCES shop.parents);
    INSERT INTO shop.parents SELECT g, 'p' || g FROM generate_series(1, 2000) g;
    INSERT INTO shop.children SELECT g, g FROM generate_series(1, 2000) g;";

/// What the runbook of the source's administrator says.
const HAND_OVER: &str = "CREATE ROLE pgstreamsource LOGIN REPLICATION PASSWORD 's3cret@/:';
    GRANT USAGE ON SCHEMA public, shop, load TO pgstreamsource;
    GRANT SELECT ON ALL TABLES IN SCHEMA public, shop, load TO pgstreamsource;
    GRANT SELECT ON ALL SEQUENCES IN SCHEMA public, shop, load TO pgstreamsource;
    ALTER SCHEMA pgstream OWNER TO pgstreamsource;
    DO $$ DECLARE r record; BEGIN
        FOR r IN SELECT oid::regclass AS name, relkind FROM pg_class
                 WHERE relnamespace = 'pgstream'::regnamespace AND relkind IN ('r', 'S') LOOP
            EXECUTE format('ALTER %s %s OWNER TO pgstreamsource',
                           CASE r.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, r.name);
        END LOOP; END $$";

#[tokio::test]
async fn roles_that_are_no_superusers_copy_and_follow() {
    let mut pipeline = Pipeline::new(&format!("{}{SHOP}", Load::schema())).await;
    pipeline.pgstream(&["init"]).await.ok();
    let here = pipeline.here().await;
    here.batch(HAND_OVER).await;
    let admin = pipeline.target.client("postgres").await;
    admin.batch("CREATE ROLE pgstreamtarget LOGIN PASSWORD 't4rget'; ALTER DATABASE app OWNER TO pgstreamtarget").await;
    pipeline.there().await.batch("ALTER SCHEMA public OWNER TO pgstreamtarget").await;

    let source = pipeline.source.url_as("pgstreamsource", "s3cret@/:", "app");
    pipeline.set("source.postgres.url", source);
    pipeline.set("source.postgres.snapshot.schema.pgdump_pgrestore.roles_snapshot_mode", "disabled");
    pipeline.set("source.postgres.snapshot.schema.pgdump_pgrestore.no_owner", true);
    pipeline.set("source.postgres.snapshot.schema.pgdump_pgrestore.no_privileges", true);
    pipeline.set("target.postgres.url", pipeline.target.url_as("pgstreamtarget", "t4rget", "app"));
    pipeline.set("target.postgres.disable_triggers", false);

    let load = Load::start(&pipeline.source.url("app"), seed(), 2);
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    here.batch(
        "INSERT INTO shop.parents SELECT g, 'new' FROM generate_series(2001, 2500) g;
         INSERT INTO shop.children SELECT g, g FROM generate_series(2001, 2500) g;
         BEGIN; DELETE FROM shop.children; DELETE FROM shop.parents WHERE id % 2 = 0; COMMIT;
         BEGIN; UPDATE shop.parents SET name = 'x' WHERE id = 1; INSERT INTO shop.children VALUES (1, 1); COMMIT",
    )
    .await;
    load.progress(300).await;
    let report = load.stop().await;
    pipeline.caught_up(&mut running).await;
    pipeline.assert_same_rows().await;
    assert_journal(&pipeline.target, "app", &report).await;
    running.stop().await.ok();
    pipeline.pgstream(&["status"]).await.ok().prints(&["Nothing is wrong."]);
    let owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname IN ('shop', 'load', 'public')";
    assert_eq!(pipeline.there().await.text(owners).await.as_deref(), Some("pgstreamtarget"));
}

#[tokio::test]
async fn a_role_that_may_not_replicate_is_told_what_to_grant() {
    let mut pipeline = Pipeline::new("CREATE TABLE t (id int PRIMARY KEY)").await;
    let here = pipeline.here().await;
    here.batch("CREATE ROLE plain LOGIN PASSWORD 'x'; GRANT CREATE ON DATABASE app TO plain").await;
    pipeline.set("source.postgres.url", pipeline.source.url_as("plain", "x", "app"));
    pipeline
        .pgstream(&["init"])
        .await
        .ends(1)
        .says(&["source::replication_privilege", "fix: ALTER ROLE \"plain\" REPLICATION;"]);
    // Where there is such a role, as on RDS, it is a membership.
    here.batch("CREATE ROLE rds_replication NOLOGIN").await;
    pipeline.pgstream(&["init"]).await.ends(1).says(&["fix: GRANT rds_replication TO \"plain\";"]);
    let made = "SELECT count(*) FROM pg_namespace WHERE nspname = 'pgstream'";
    assert_eq!(here.scalar::<i64>(made).await, 0, "nothing is changed");
}
