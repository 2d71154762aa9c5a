//! Objects that few databases have, and what the target must have for them.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
};

use pgstream_config::pattern::TableFilter;
use pgstream_testkit::{Builder, Cluster, assert_same_rows, assert_same_rows_in, pair, pair_with, pinned_majors};

use crate::setup::{assert_same_schema, job, run};

/// Servers that know what the test is about, whatever the matrix says.
async fn newest_pair(with: impl Fn(Builder) -> Builder) -> (Cluster, Cluster) {
    let builder = || with(Cluster::builder().major(*pinned_majors().last().unwrap()));
    pair_with(builder(), builder()).await
}

async fn copied(schema: &str) -> (Cluster, Cluster) {
    let (source, target) = pair().await;
    source.client("app").await.batch(schema).await;
    run(job(&source, &target)).await.unwrap();
    assert_same_rows(&source, &target, "app").await;
    assert_same_schema(&source, &target, "app").await;
    (source, target)
}

#[tokio::test]
async fn collations_of_icu_sort_as_before() {
    let (_, target) = copied(
        "CREATE COLLATION german_phonebook (provider = icu, locale = 'de-u-co-phonebk');
         CREATE COLLATION ignore_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         CREATE TABLE words (w text COLLATE german_phonebook, i text COLLATE ignore_case UNIQUE);
         INSERT INTO words VALUES ('Göbel', 'A'), ('Goethe', 'b'), ('Goldmann', 'c'), ('Göthe', 'd');
         CREATE INDEX words_w ON words (w); COMMENT ON COLLATION ignore_case IS 'it''s'",
    )
    .await;
    let there = target.client("app").await;
    let sorted = "SELECT string_agg(w, ' ' ORDER BY w) FROM words";
    assert_eq!(there.text(sorted).await.as_deref(), Some("Göbel Goethe Göthe Goldmann"));
    assert_eq!(there.text("SELECT count(*) FROM words WHERE i = 'a'").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn a_database_with_a_locale_of_icu_is_created_alike() {
    // Older databases have no such locale.
    let (source, target) = newest_pair(|builder| builder).await;
    let admin = source.client("postgres").await;
    admin.batch("DROP DATABASE app").await;
    let made =
        "CREATE DATABASE app TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'sv-SE' LC_COLLATE 'C' LC_CTYPE 'C'";
    admin.batch(made).await;
    let here = source.client("app").await;
    here.batch("CREATE TABLE words (w text PRIMARY KEY); INSERT INTO words VALUES ('ö'), ('z'), ('a'), ('å')").await;
    target.client("postgres").await.batch("DROP DATABASE app").await;
    let mut job = job(&source, &target);
    job.settings.schema.create_target_db = true;
    run(job).await.unwrap();
    assert_same_rows(&source, &target, "app").await;
    assert_same_schema(&source, &target, "app").await;
    let sorted = "SELECT string_agg(w, ' ' ORDER BY w) FROM words";
    assert_eq!(target.client("app").await.text(sorted).await.as_deref(), Some("a z å ö"));
}

#[tokio::test]
async fn what_lies_in_a_tablespace_comes_to_a_target_without_it() {
    let (source, target) = pair().await;
    let here = source.client("app").await;
    let directory = source.data_dir().join("space");
    make_directory(&source, &directory).await;
    here.batch(&format!("CREATE TABLESPACE fast LOCATION '{}'", directory.display())).await;
    here.batch(
        "CREATE TABLE t (id int, v text, PRIMARY KEY (id) USING INDEX TABLESPACE fast) TABLESPACE fast;
         CREATE INDEX t_v ON t (v) TABLESPACE fast; INSERT INTO t SELECT g, g FROM generate_series(1, 100) g;
         CREATE TABLE parts (id int) PARTITION BY RANGE (id) TABLESPACE fast;
         CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10); INSERT INTO parts VALUES (1);
         CREATE MATERIALIZED VIEW m TABLESPACE fast AS SELECT count(*) AS n FROM t",
    )
    .await;
    let mut job = job(&source, &target);
    job.settings.schema.refresh_materialized_views = true;
    run(job).await.unwrap();
    assert_same_rows(&source, &target, "app").await;
    let there = target.client("app").await;
    let elsewhere = "SELECT count(*) FROM pg_class WHERE reltablespace <> 0 AND relnamespace = 'public'::regnamespace";
    assert_eq!(there.scalar::<i64>(elsewhere).await, 0, "all of it is in the default tablespace");
    assert_eq!(there.scalar::<i64>("SELECT count(*) FROM pg_indexes WHERE tablename = 't'").await, 2);
}

/// The server makes it, as the user that it runs as. The row has to be read by somebody, or the pipe breaks.
async fn make_directory(cluster: &Cluster, directory: &std::path::Path) {
    let make = format!("COPY (SELECT 1) TO PROGRAM 'cat >/dev/null && mkdir -p {}'", directory.display());
    cluster.client("postgres").await.batch(&make).await;
}

#[tokio::test]
async fn comments_default_privileges_inheritance_and_domains_over_arrays_arrive() {
    let (_, target) = copied(
        "CREATE ROLE clerk; CREATE ROLE \"Big Boss\";
         CREATE DOMAIN tags AS text[] CHECK (array_length(VALUE, 1) < 4); CREATE DOMAIN strict_tags AS tags NOT NULL;
         CREATE TYPE item AS (name text, tags tags); CREATE DOMAIN item_list AS item[];
         CREATE TABLE tagged (id int PRIMARY KEY, t tags DEFAULT '{a}', s strict_tags, i item, l item_list, n tags[]);
         INSERT INTO tagged VALUES (1, NULL, '{x,NULL}', ('a', '{b}'), ARRAY[('c', '{\"d,e\"}')::item, NULL], ARRAY['{q}'::tags]);
         CREATE TABLE animal (id int PRIMARY KEY, name text NOT NULL, CHECK (name <> ''));
         CREATE TABLE pet (owner text) INHERITS (animal); CREATE TABLE toy (price int);
         CREATE TABLE robot_pet (volts int) INHERITS (pet, toy);
         ALTER TABLE ONLY pet ADD CONSTRAINT owned CHECK (owner <> '') NO INHERIT;
         INSERT INTO animal VALUES (1, 'cat'); INSERT INTO pet VALUES (1, 'dog', 'x'); INSERT INTO robot_pet VALUES (3, 'r', 'y', 9, 5);
         ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO clerk;
         ALTER DEFAULT PRIVILEGES FOR ROLE \"Big Boss\" IN SCHEMA public GRANT EXECUTE ON FUNCTIONS TO clerk;
         ALTER DEFAULT PRIVILEGES REVOKE USAGE ON TYPES FROM PUBLIC;
         COMMENT ON TABLE animal IS E'line\\nline -- not a comment; $$'; COMMENT ON COLUMN animal.name IS 'é';
         COMMENT ON CONSTRAINT owned ON pet IS 'c'; COMMENT ON DOMAIN tags IS 'd'; COMMENT ON SCHEMA public IS 'mine';
         COMMENT ON INDEX animal_pkey IS 'i'; CREATE UNLOGGED TABLE scratch (a int); INSERT INTO scratch VALUES (7);
         COMMENT ON DATABASE app IS 'the app'",
    )
    .await;
    let there = target.client("app").await;
    assert_eq!(
        there.text("SELECT count(*) || ' ' || (SELECT count(*) FROM ONLY animal) FROM animal").await.as_deref(),
        Some("3 1")
    );
    there.batch("CREATE TABLE made_later (a int)").await;
    assert_eq!(there.text("SELECT has_table_privilege('clerk', 'made_later', 'SELECT')").await.as_deref(), Some("t"));
    assert_eq!(there.text("SELECT relpersistence FROM pg_class WHERE relname = 'scratch'").await.as_deref(), Some("u"));
}

#[tokio::test]
async fn as_many_columns_as_a_table_can_have_and_none() {
    let columns: Vec<String> = (1..=1600).map(|n| format!("c{n} \"char\"")).collect();
    let (_, target) = copied(&format!(
        "CREATE TABLE wide ({}); INSERT INTO wide (c1, c800, c1600) VALUES ('a', 'b', 'c'), ('d', NULL, 'e');
         CREATE TABLE none (); INSERT INTO none SELECT FROM generate_series(1, 5); CREATE TABLE dropped (a int);
         INSERT INTO dropped VALUES (1), (2); ALTER TABLE dropped DROP COLUMN a",
        columns.join(", ")
    ))
    .await;
    let there = target.client("app").await;
    let counts = "SELECT (SELECT count(*) FROM wide) || ' ' || (SELECT count(*) FROM none) || ' ' || (SELECT count(*) FROM dropped)";
    assert_eq!(there.text(counts).await.as_deref(), Some("2 5 2"));
}

#[tokio::test]
async fn names_are_taken_as_they_are() {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let mut sql = String::new();
    let long = "ñ".repeat(31) + "x";
    assert_eq!(long.len(), 63);
    let names = [
        long.as_str(),
        "\"; DROP TABLE precious; --",
        "two\nlines",
        "tab\tand\r return",
        "back\\slash",
        "O'Brien $$ $1 %s {}",
        "🦀 名前",
        "\\restrict x\n\\unrestrict x",
        " ",
        "select",
    ];
    for (n, name) in names.iter().enumerate() {
        let q = quoted(name);
        sql.push_str(&format!(
            "CREATE SCHEMA {q}; CREATE TYPE {q}.{q} AS ENUM ({lit}); CREATE SEQUENCE {q}.{t}; CREATE ROLE {q};
             CREATE TABLE {q}.{u} ({q} int PRIMARY KEY, e {q}.{q} DEFAULT {lit}, s bigint DEFAULT nextval({seq}::regclass));
             INSERT INTO {q}.{u} ({q}) VALUES ({n}), (100); CREATE INDEX {i} ON {q}.{u} (e); GRANT SELECT ON {q}.{u} TO {q};
             COMMENT ON TABLE {q}.{u} IS {lit}; ALTER TABLE {q}.{u} ADD CONSTRAINT {q} CHECK ({q} >= 0);",
            lit = literal(name),
            t = quoted(&format!("s{}", cut(name))),
            u = quoted(&format!("t{}", cut(name))),
            i = quoted(&format!("i{}", cut(name))),
            seq = literal(&format!("{q}.{}", quoted(&format!("s{}", cut(name))))),
        ));
    }
    copied(&sql).await;
}

fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// The name with room for one byte before it.
fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(62)]
}

#[tokio::test]
async fn large_objects_are_counted_and_left() {
    let (source, target) = pair().await;
    let here = source.client("app").await;
    here.batch("CREATE TABLE t (id int PRIMARY KEY, o oid); SELECT lo_from_bytea(0, 'abc')").await;
    here.batch("INSERT INTO t SELECT 1, oid FROM pg_largeobject_metadata; SELECT lo_from_bytea(0, 'def')").await;
    let summary = run(job(&source, &target)).await.unwrap();
    let said = summary.notices.iter().find(|notice| notice.contains("large object")).cloned();
    assert!(said.as_ref().is_some_and(|notice| notice.contains('2')), "{summary:?}");
    assert_same_rows(&source, &target, "app").await;
    let there = target.client("app").await;
    assert_eq!(there.scalar::<i64>("SELECT count(*) FROM pg_largeobject_metadata").await, 0);
}

/// A server without a label provider takes no labels; that they are read at all is what can be shown.
#[tokio::test]
async fn a_source_without_security_labels_is_copied() {
    let (source, target) = pair().await;
    let here = source.client("app").await;
    here.batch("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").await;
    let labelled = here.batch_execute("SECURITY LABEL ON TABLE t IS 'secret'").await.unwrap_err();
    assert!(labelled.as_db_error().unwrap().message().contains("provider"), "{labelled}");
    let mut job = job(&source, &target);
    job.settings.schema.exclude_security_labels = vec!["*".to_owned()];
    job.settings.tables = TableFilter::default();
    run(job).await.unwrap();
    assert_same_rows_in(&source, &target, "app", |_| true).await;
}

/// An extension that keeps settings of its users in its own tables.
const EXTENSION: &str = "CREATE TABLE setting (name text PRIMARY KEY, value text, standard boolean DEFAULT false);
    CREATE TABLE internal (n int);
    INSERT INTO setting VALUES ('shipped', '1', true); INSERT INTO internal VALUES (1);
    CREATE SEQUENCE numbers;
    SELECT pg_catalog.pg_extension_config_dump('setting', 'WHERE NOT standard');
    SELECT pg_catalog.pg_extension_config_dump('numbers', '');";

#[tokio::test]
async fn settings_that_users_keep_in_tables_of_an_extension_are_copied() {
    let files = tempfile::tempdir().unwrap();
    let directory = files.path().join("extension");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("keeper.control"), "default_version = '1'\nrelocatable = true\n").unwrap();
    fs::write(directory.join("keeper--1.sql"), EXTENSION).unwrap();
    fs::set_permissions(files.path(), Permissions::from_mode(0o755)).unwrap();
    let path = format!("$system:{}", files.path().display());
    let (source, target) = newest_pair(|builder| builder.setting("extension_control_path", &path)).await;
    let here = source.client("app").await;
    here.batch(
        "CREATE EXTENSION keeper; INSERT INTO setting VALUES ('mine', '2'), ('also', NULL); INSERT INTO internal VALUES (2);
         SELECT setval('numbers', 41); CREATE TABLE t (a int); INSERT INTO t VALUES (1)",
    )
    .await;
    run(job(&source, &target)).await.unwrap();
    let there = target.client("app").await;
    let names = "SELECT string_agg(name, ' ' ORDER BY name) FROM setting";
    assert_eq!(there.text(names).await.as_deref(), Some("also mine shipped"));
    assert_eq!(
        there.text("SELECT string_agg(n::text, ' ') FROM internal").await.as_deref(),
        Some("1"),
        "not the user's"
    );
    assert_eq!(there.text("SELECT nextval('numbers')").await.as_deref(), Some("42"));
}
