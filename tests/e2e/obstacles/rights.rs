//! Rights of the roles on both sides.

use super::{BOSS, Mend, Obstacle, all_of, prepared};

fn of_reading() -> Vec<Obstacle> {
    let snapshot =
        |id, diagnosis, mend| Obstacle::new(id, "snapshot", diagnosis, mend).set("source.postgres.mode", "snapshot");
    vec![
        snapshot("access.usage", "permission_schema", Mend::Printed)
            .source("CREATE SCHEMA closed; CREATE TABLE closed.c (a int PRIMARY KEY); GRANT SELECT ON closed.c TO reader"),
        snapshot("access.select", "permission_relation", Mend::Printed).source("CREATE TABLE secret (a int PRIMARY KEY)"),
        snapshot("access.row_security", "row_security", Mend::Printed).source(
            "CREATE TABLE hidden (a int PRIMARY KEY); ALTER TABLE hidden ENABLE ROW LEVEL SECURITY; GRANT SELECT ON hidden TO reader",
        ),
    ]
}

#[tokio::test]
async fn rights_to_read_are_named_and_mended_on_old_servers() {
    all_of(13, of_reading()).await;
}

#[tokio::test]
async fn rights_to_read_are_named_and_mended_on_new_servers() {
    all_of(18, of_reading()).await;
}

fn of_preparing() -> Vec<Obstacle> {
    let init = |id, mend| Obstacle::new(id, "init", "preparing-the-source-init-and-destroy", mend);
    vec![
        init("source::create_privilege", Mend::Printed).source("REVOKE CREATE ON DATABASE app FROM reader"),
        Obstacle::new("source::replication_privilege", "init", "replication_permission", Mend::Printed)
            .source("ALTER ROLE reader NOREPLICATION"),
        init("source::replica_identity", Mend::PrintedWith("source::publish_privilege")).source(
            "CREATE ROLE another; CREATE TABLE keyless (a int); ALTER TABLE keyless OWNER TO another; GRANT SELECT ON keyless TO reader",
        ),
        init("source::publish_privilege", Mend::Printed).source(
            "CREATE ROLE another; CREATE TABLE theirs (a int PRIMARY KEY); ALTER TABLE theirs OWNER TO another",
        ),
    ]
}

#[tokio::test]
async fn what_init_needs_is_named_and_mended_on_old_servers() {
    all_of(13, of_preparing()).await;
}

#[tokio::test]
async fn what_init_needs_is_named_and_mended_on_new_servers() {
    all_of(18, of_preparing()).await;
}

fn of_writing() -> Vec<Obstacle> {
    let snapshot =
        |id, diagnosis, mend| Obstacle::new(id, "snapshot", diagnosis, mend).set("source.postgres.mode", "snapshot");
    vec![
        snapshot("access.create_on_database", "permission_database", Mend::Printed)
            .target("ALTER DATABASE app OWNER TO postgres; REVOKE CREATE ON DATABASE app FROM owner_of_all"),
        snapshot("access.create_in_public", "schema_public", Mend::PrintedWith("access.owner_create")).target(
            "ALTER DATABASE app OWNER TO postgres; GRANT CREATE ON DATABASE app TO writer;
             REVOKE CREATE ON SCHEMA public FROM public, writer, owner_of_all",
        ),
        snapshot("access.owner_missing", "role_missing", Mend::Printed)
            .source(BOSS)
            .target("GRANT CREATE ON SCHEMA public TO public"),
        snapshot("access.owner_membership", "member_of_role", Mend::Printed)
            .source(BOSS)
            .target("CREATE ROLE boss; GRANT CREATE ON SCHEMA public TO boss"),
        snapshot("access.owner_create", "schema_public", Mend::Printed)
            .source(BOSS)
            .target("REVOKE CREATE ON SCHEMA public FROM public; CREATE ROLE boss; GRANT boss TO writer"),
    ]
}

/// Rights on the whole server or database, and what is there.
fn of_creating() -> Vec<Obstacle> {
    let snapshot =
        |id, diagnosis, mend| Obstacle::new(id, "snapshot", diagnosis, mend).set("source.postgres.mode", "snapshot");
    let clean = "source.postgres.snapshot.schema.pgdump_pgrestore.clean_target_db";
    let no_owner = "source.postgres.snapshot.schema.pgdump_pgrestore.no_owner";
    let roles = "source.postgres.snapshot.schema.pgdump_pgrestore.roles_snapshot_mode";
    vec![
        snapshot("access.createrole", "create_role", Mend::PrintedWith("access.copied_owner"))
            .source(BOSS)
            .target("GRANT CREATE ON SCHEMA public TO public")
            .set(roles, "no_passwords")
            .set("source.postgres.snapshot.schema.pgdump_pgrestore.no_privileges", true),
        snapshot("access.createdb", "create_database", Mend::Printed).set(clean, true).set(no_owner, true),
        snapshot("access.database_owner", "not_owner", Mend::Printed)
            .target("ALTER DATABASE app OWNER TO postgres; GRANT CREATE ON DATABASE app TO writer; ALTER ROLE writer CREATEDB")
            .set(clean, true)
            .set(no_owner, true),
        snapshot("access.target_schema", "permission_schema", Mend::Printed)
            .target("CREATE ROLE before; CREATE SCHEMA pgstream AUTHORIZATION before"),
        snapshot("connectivity.target_read_only", "read_only_node", Mend::Printed)
            .target("ALTER ROLE writer SET default_transaction_read_only = on")
            .set("source.postgres.retry_policy", serde_json::json!({ "disable_retries": true }))
            .set("target.postgres.retry_policy", serde_json::json!({ "disable_retries": true })),
        snapshot("access.create_extension", "extension_permission", Mend::Printed).source("CREATE EXTENSION file_fdw"),
        snapshot(
            "access.copied_event_trigger",
            "event_trigger",
            Mend::Configure(
                "source.postgres.snapshot.schema.pgdump_pgrestore.exclude_object_types",
                serde_json::json!(["event_triggers"]),
            ),
        )
        .source(
            "CREATE FUNCTION look() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; ALTER FUNCTION look OWNER TO owner_of_all;
             CREATE EVENT TRIGGER look ON ddl_command_end EXECUTE FUNCTION look()",
        ),
        snapshot("access.pg_authid", "pg_authid", Mend::Configure(roles, "no_passwords".into()))
            .target("ALTER ROLE writer CREATEROLE")
            .set(roles, "enabled"),
        snapshot("schema.target_not_empty", "the-copy", Mend::Flags(&["--reset"]))
            .target("CREATE TABLE t (a int PRIMARY KEY); ALTER TABLE t OWNER TO owner_of_all; ALTER ROLE writer CREATEDB")
            .set(no_owner, true),
    ]
}

#[tokio::test]
async fn rights_to_write_are_named_and_mended_on_old_servers() {
    all_of(14, of_writing()).await;
}

#[tokio::test]
async fn rights_to_write_are_named_and_mended_on_new_servers() {
    all_of(18, of_writing()).await;
}

#[tokio::test]
async fn rights_to_create_are_named_and_mended_on_old_servers() {
    all_of(14, of_creating()).await;
}

#[tokio::test]
async fn rights_to_create_are_named_and_mended_on_new_servers() {
    let no_owner = Mend::Configure("source.postgres.snapshot.schema.pgdump_pgrestore.no_owner", true.into());
    let anew = Obstacle::new("access.owner_in_new_database", "snapshot", "schema_public", no_owner)
        .target("ALTER ROLE writer CREATEDB")
        .set("source.postgres.mode", "snapshot")
        .set("source.postgres.snapshot.schema.pgdump_pgrestore.clean_target_db", true);
    all_of(18, of_creating().into_iter().chain([anew]).collect()).await;
}

#[tokio::test]
async fn what_following_needs_is_named_and_mended() {
    let tables = "CREATE TABLE t (a int PRIMARY KEY, b int); CREATE TABLE marker (n bigint PRIMARY KEY)";
    let owned = "CREATE TABLE t (a int PRIMARY KEY, b int); CREATE TABLE marker (n bigint PRIMARY KEY);
                 ALTER TABLE t OWNER TO writer; ALTER TABLE marker OWNER TO writer";
    let run = |id, diagnosis, mend| Obstacle::new(id, "run", diagnosis, mend).source("INSERT INTO t VALUES (1)");
    let configure = Mend::Configure("target.postgres.disable_triggers", false.into());
    for obstacle in [
        run("access.write", "permission_relation", Mend::Printed).target(tables),
        run("access.session_replication_role", "session_replication_role", configure)
            .target(owned)
            .set("target.postgres.disable_triggers", true),
        run("schema.target_table_missing", "the-stream", Mend::CopySchema),
    ] {
        let (source, target) = pgstream_testkit::pair().await;
        let mut pipeline = prepared(source, target).await;
        pipeline.set("source.postgres.mode", "replication");
        pipeline.pgstream(&["init"]).await.ok();
        obstacle.proves(&mut pipeline).await;
    }
}
