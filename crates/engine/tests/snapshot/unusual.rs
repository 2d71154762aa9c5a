//! What few databases have, and some do: ICU collations, tablespaces, rows that an extension's user may edit, very wide
//! and very empty tables, names that are nothing but trouble.

use pgstream_testkit::{Cluster, assert_same_rows, assert_same_schema, pair, pair_with};

use crate::setup::{job, run};

#[tokio::test]
async fn icu_collations_and_their_indexes() {
    let (source, target) = pair().await;
    let here = source.client("app").await;
    here.batch(
        "CREATE COLLATION phonebook (provider = icu, locale = 'de-u-co-phonebk');
         CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         CREATE TABLE person (name text COLLATE phonebook PRIMARY KEY, mail text COLLATE loose UNIQUE);
         INSERT INTO person VALUES ('Göbel', 'A@x'), ('Goethe', 'b@x'), ('Götz', NULL);
         CREATE INDEX ON person (mail COLLATE phonebook)",
    )
    .await;
    run(job(&source, &target)).await.unwrap();
    assert_same_rows(&source, &target, "app").await;
    assert_same_schema(&source, &target, "app").await;
    let there = target.client("app").await;
    assert_eq!(there.text("SELECT name FROM person WHERE mail = 'a@X'").await.as_deref(), Some("Göbel"));
}

#[tokio::test]
async fn a_database_with_an_icu_locale_is_created_with_it() {
    let (source, target) = pair().await;
    let admin = source.client("postgres").await;
    admin.batch("DROP DATABASE app").await;
    admin.batch("CREATE DATABASE app TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de'").await;
    source.client("app").await.batch("CREATE TABLE t (a text); INSERT INTO t VALUES ('ä'), ('z')").await;
    target.client("postgres").await.batch("DROP DATABASE app").await;
    let mut job = job(&source, &target);
    job.settings.schema.create_target_db = true;
    run(job).await.unwrap();
    assert_same_rows(&source, &target, "app").await;
    let locale = "SELECT datlocprovider::text || ' ' || datlocale FROM pg_database WHERE datname = 'app'";
    assert_eq!(target.client("app").await.text(locale).await.as_deref(), Some("i de"));
}

#[tokio::test]
async fn tables_leave_their_tablespace_behind() {
    let in_place = || Cluster::builder().setting("allow_in_place_tablespaces", "on");
    let (source, target) = pair_with(in_place(), in_place()).await;
    let here = source.client("app").await;
    here.batch("CREATE TABLESPACE fast LOCATION ''").await;
    here.batch(
        "CREATE TABLE t (id int PRIMARY KEY USING INDEX TABLESPACE fast, a text) TABLESPACE fast;
         CREATE INDEX ON t (a) TABLESPACE fast; INSERT INTO t SELECT n, 'a' FROM generate_series(1, 100) AS n;
         CREATE MATERIALIZED VIEW m TABLESPACE fast AS SELECT count(*) FROM t",
    )
    .await;
    run(job(&source, &target)).await.unwrap();
    assert_same_rows(&source, &target, "app").await;
    let apart = "SELECT count(*) FROM pg_class WHERE reltablespace <> 0 AND oid > 16383";
    assert_eq!(target.client("app").await.scalar::<i64>(apart).await, 0);
}

/// An extension whose table `setting` is partly its own: rows with `own` come with CREATE EXTENSION.
const CONTROL: &str = "default_version = '1'\nrelocatable = false\nschema = public\n";
const SCRIPT: &str = "CREATE TABLE setting (name text PRIMARY KEY, value text, own boolean DEFAULT false);
    INSERT INTO setting VALUES ('built-in', 'of the extension', true);
    CREATE TABLE registry (id serial PRIMARY KEY, note text);
    SELECT pg_catalog.pg_extension_config_dump('setting', 'WHERE NOT own');
    SELECT pg_catalog.pg_extension_config_dump('registry', '');
    SELECT pg_catalog.pg_extension_config_dump('registry_id_seq', '');";

#[tokio::test]
async fn rows_that_users_gave_to_an_extension_are_copied_and_its_own_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let extension = directory.path().join("extension");
    std::fs::create_dir(&extension).unwrap();
    std::fs::write(extension.join("keeper.control"), CONTROL).unwrap();
    std::fs::write(extension.join("keeper--1.sql"), SCRIPT).unwrap();
    for path in [directory.path(), extension.as_path()] {
        let readable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(path, readable).unwrap();
    }
    let path = format!("$system:{}", directory.path().display());
    let builder = || Cluster::builder().setting("extension_control_path", &path);
    let (source, target) = pair_with(builder(), builder()).await;
    source
        .client("app")
        .await
        .batch(
            "CREATE EXTENSION keeper; INSERT INTO setting VALUES ('mine', 'of the user', false);
             INSERT INTO registry (note) VALUES ('one'), ('two')",
        )
        .await;
    run(job(&source, &target)).await.unwrap();
    assert_same_rows(&source, &target, "app").await;
    let there = target.client("app").await;
    let settings = "SELECT string_agg(name, ' ' ORDER BY name) FROM setting";
    assert_eq!(there.text(settings).await.as_deref(), Some("built-in mine"));
    assert_eq!(there.scalar::<i64>("SELECT last_value FROM registry_id_seq").await, 2);
}

#[tokio::test]
async fn shapes_and_names_at_the_edge() {
    let (source, target) = pair().await;
    let here = source.client("app").await;
    let columns: Vec<String> = (0..1600).map(|n| format!("c{n} int DEFAULT {n}")).collect();
    let long = "ü".repeat(31);
    here.batch(&format!(
        "CREATE TABLE widest ({}); INSERT INTO widest DEFAULT VALUES;
         CREATE TABLE empty (); INSERT INTO empty DEFAULT VALUES; INSERT INTO empty DEFAULT VALUES;
         CREATE SCHEMA \"; drop schema public; --\"; CREATE SCHEMA \"A \"\"b\"\" \n c\";
         CREATE TABLE \"; drop schema public; --\".\"{long}\" (\"a.b\" int, \"\"\"\" text, \"select\" int, \"\\.\" text);
         INSERT INTO \"; drop schema public; --\".\"{long}\" VALUES (1, '\\.', NULL, E'\\\\.\\n\\t');
         CREATE TABLE \"A \"\"b\"\" \n c\".\"d\ne\" (id int PRIMARY KEY); INSERT INTO \"A \"\"b\"\" \n c\".\"d\ne\" VALUES (1);
         CREATE TABLE parent (a int); CREATE TABLE child (b int) INHERITS (parent);
         INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2, 3);
         CREATE DOMAIN few AS int[] CHECK (cardinality(VALUE) < 4); CREATE TABLE d (f few); INSERT INTO d VALUES ('{{1,2}}');
         CREATE UNLOGGED TABLE u (a int); INSERT INTO u VALUES (1)",
        columns.join(", ")
    ))
    .await;
    run(job(&source, &target)).await.unwrap();
    assert_same_rows(&source, &target, "app").await;
    assert_same_schema(&source, &target, "app").await;
    assert_eq!(target.client("app").await.scalar::<i64>("SELECT count(*) FROM empty").await, 2);
}
