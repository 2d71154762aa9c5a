//! Target roles that are no superusers, and roles of the source.

use pgstream_config::pipeline::RolesMode;
use pgstream_engine::snapshot::Error;
use pgstream_testkit::{assert_same_rows, pair};

use crate::setup::{job, run, server};

#[tokio::test]
async fn a_target_role_without_superpowers_is_enough() {
    let (source, target) = pair().await;
    source
        .client("app")
        .await
        .batch(
            "CREATE ROLE owner1; CREATE ROLE reader LOGIN; CREATE SCHEMA shop AUTHORIZATION owner1;
             CREATE TABLE shop.a (id int PRIMARY KEY); CREATE TABLE shop.b (id int PRIMARY KEY, a int REFERENCES shop.a);
             ALTER TABLE shop.a OWNER TO owner1; ALTER TABLE shop.b OWNER TO owner1; GRANT SELECT ON shop.a TO reader;
             INSERT INTO shop.a SELECT generate_series(1, 1000); INSERT INTO shop.b SELECT g, g FROM generate_series(1, 1000) g;
             CREATE TABLE of_the_master (a int); INSERT INTO of_the_master VALUES (1)",
        )
        .await;
    let admin = target.client("postgres").await;
    admin.batch("CREATE ROLE loader LOGIN PASSWORD 'p@ss:w/ord' CREATEROLE CREATEDB").await;
    admin.batch("ALTER DATABASE app OWNER TO loader").await;
    let mut job = job(&source, &target);
    job.target = server(&target.url_as("loader", "p@ss:w/ord", "app"));
    run(job).await.unwrap();
    assert_same_rows(&source, &target, "app").await;
    let owners = "SELECT string_agg(tablename || ':' || tableowner, ' ' ORDER BY tablename) FROM pg_tables
                  WHERE schemaname IN ('public', 'shop')";
    // What belongs to the source's master user belongs to the one who restores it.
    let there = target.client("app").await.text(owners).await;
    assert_eq!(there.as_deref(), Some("a:owner1 b:owner1 of_the_master:loader"));
}

#[tokio::test]
async fn another_role_can_be_acted_as() {
    let (source, target) = pair().await;
    source
        .client("app")
        .await
        .batch("CREATE SCHEMA shop; CREATE TABLE shop.a (id int PRIMARY KEY); INSERT INTO shop.a VALUES (1)")
        .await;
    let admin = target.client("app").await;
    admin.batch("CREATE ROLE deployer; CREATE ROLE loader LOGIN PASSWORD 'x' NOINHERIT IN ROLE deployer").await;
    admin.batch("GRANT CREATE ON DATABASE app TO deployer, loader").await;
    let mut job = job(&source, &target);
    job.target = server(&target.url_as("loader", "x", "app"));
    job.settings.schema.role = Some("deployer".to_owned());
    job.settings.schema.no_owner = true;
    run(job).await.unwrap();
    assert_same_rows(&source, &target, "app").await;
    assert_eq!(admin.text("SELECT tableowner FROM pg_tables WHERE tablename = 'a'").await.as_deref(), Some("deployer"));
}

#[tokio::test]
async fn a_clean_copy_needs_no_superpowers_either() {
    let (source, target) = pair().await;
    source.client("app").await.batch("CREATE TABLE a AS SELECT generate_series(1, 10) AS x").await;
    let admin = target.client("postgres").await;
    admin.batch("CREATE ROLE loader LOGIN PASSWORD 'x' CREATEROLE CREATEDB; ALTER DATABASE app OWNER TO loader").await;
    let mut job = job(&source, &target);
    job.target = server(&target.url_as("loader", "x", "app"));
    job.settings.schema.clean_target_db = true;
    job.settings.schema.no_owner = true;
    run(job).await.unwrap();
    assert_same_rows(&source, &target, "app").await;
}

#[tokio::test]
async fn roles_arrive_with_their_memberships_and_settings() {
    let (source, target) = pair().await;
    source
        .client("app")
        .await
        .batch(
            "CREATE ROLE team NOINHERIT CREATEDB CONNECTION LIMIT 3 VALID UNTIL '2040-01-01';
             CREATE ROLE \"Mem\"\"ber\" LOGIN PASSWORD 'secret' IN ROLE team; GRANT pg_monitor TO team WITH ADMIN OPTION;
             ALTER ROLE team SET search_path = \"$user\", 'a,b', public; ALTER ROLE team SET work_mem = '5MB';
             CREATE ROLE rds_superuser; CREATE ROLE rdsadmin; GRANT rds_superuser TO team; CREATE ROLE rds_app",
        )
        .await;
    run(job(&source, &target)).await.unwrap();
    let there = target.client("app").await;
    let roles = "SELECT string_agg(rolname, ' ' ORDER BY rolname) FROM pg_roles WHERE oid >= 16384";
    assert_eq!(there.text(roles).await.as_deref(), Some("Mem\"ber rds_app team"));
    let settings = "SELECT array_to_string(setconfig, ';') FROM pg_db_role_setting";
    let (from, to) = (source.client("app").await.text(settings).await, there.text(settings).await);
    assert_eq!(from, to);
    let members = "SELECT string_agg(roleid::regrole || '>' || member::regrole || admin_option, ' ' ORDER BY 1)
                   FROM pg_auth_members WHERE member >= 16384";
    assert_eq!(there.text(members).await.as_deref(), Some("pg_monitor>teamtrue team>\"Mem\"\"ber\"false"));
    let hashes = "SELECT count(*) FROM pg_authid WHERE rolpassword IS NOT NULL AND oid >= 16384";
    assert_eq!(there.scalar::<i64>(hashes).await, 0);
    there.batch("DROP ROLE \"Mem\"\"ber\"; DROP SCHEMA pgstream CASCADE").await;
    let mut with_passwords = job(&source, &target);
    with_passwords.settings.schema.roles = RolesMode::Enabled;
    run(with_passwords).await.unwrap();
    assert_eq!(there.scalar::<i64>(hashes).await, 1);
}

#[tokio::test]
async fn passwords_of_roles_need_pg_authid() {
    let (source, target) = pair().await;
    source.client("app").await.batch("CREATE ROLE reader LOGIN PASSWORD 'x'").await;
    let mut job = job(&source, &target);
    job.source = server(&source.url_as("reader", "x", "app"));
    job.settings.schema.roles = RolesMode::Enabled;
    let error = run(job.clone()).await.unwrap_err();
    assert!(matches!(error, Error::RolePasswords { .. }), "{error:?}");
    job.settings.schema.roles = RolesMode::NoPasswords;
    run(job).await.unwrap();
}
