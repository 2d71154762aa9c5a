//! `snapshot`: a copy for its own sake.

use pgstream_testkit::assert_same_schema;

use crate::replicator::Pipeline;

const SHOP: &str = "CREATE SCHEMA shop; CREATE TABLE shop.customers (id int PRIMARY KEY, name text NOT NULL);
    CREATE TABLE shop.orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer int REFERENCES shop.customers);
    CREATE INDEX ON shop.orders (customer); CREATE VIEW shop.v AS SELECT * FROM shop.orders;
    INSERT INTO shop.customers SELECT g, 'c' || g FROM generate_series(1, 3000) g;
    INSERT INTO shop.orders (customer) SELECT 1 + g % 3000 FROM generate_series(1, 9000) g;
    CREATE TABLE notes (text text); INSERT INTO notes VALUES ('a'), ('a'), (NULL)";

const CLEAN: &str = "source.postgres.snapshot.schema.pgdump_pgrestore.clean_target_db";

#[tokio::test]
async fn a_database_is_copied_once() {
    let mut pipeline = Pipeline::new(SHOP).await;
    pipeline.set("source.postgres.mode", "snapshot");
    let first = pipeline.pgstream(&["snapshot", "--json"]).await.ok().json();
    assert_eq!((first["complete"].as_bool(), first["rows"].as_u64()), (Some(true), Some(12_003)), "{first:#}");
    pipeline.assert_same_rows().await;
    assert_same_schema(&pipeline.source, &pipeline.target, "app").await;
    let copied = pipeline.copied().await;
    let second = pipeline.pgstream(&["snapshot", "--json"]).await.ok().json();
    assert_eq!((second["tables"].as_u64(), second["tables_before"].as_u64()), (Some(0), Some(4)), "{second:#}");
    assert_eq!(pipeline.copied().await, copied);
    pipeline.pgstream(&["snapshot"]).await.ok().prints(&["Copied 0 tables", "4 were there before"]);
    pipeline.assert_same_rows().await;
}

#[tokio::test]
async fn only_the_tables_that_are_asked_for_are_copied() {
    let mut pipeline = Pipeline::new(SHOP).await;
    pipeline.set("source.postgres.mode", "snapshot");
    pipeline.pgstream(&["snapshot", "--tables", "shop.customers,notes"]).await.ok();
    let there = pipeline.there().await;
    assert_eq!(there.scalar::<i64>("SELECT count(*) FROM shop.customers").await, 3000);
    assert_eq!(there.scalar::<i64>("SELECT count(*) FROM notes").await, 3);
    let others = "SELECT count(*) FROM pg_class WHERE relname IN ('orders', 'marker') AND relkind = 'r'";
    assert_eq!(there.scalar::<i64>(others).await, 0);
}

#[tokio::test]
async fn a_target_that_holds_other_rows_is_left_alone() {
    let mut pipeline = Pipeline::new(SHOP).await;
    pipeline.set("source.postgres.mode", "snapshot");
    let there = pipeline.there().await;
    there.batch("CREATE TABLE notes (text text); INSERT INTO notes VALUES ('mine')").await;
    let refused = pipeline.pgstream(&["snapshot"]).await.ends(1);
    refused.says(&["snapshot::target_not_empty", r#""public"."notes""#, "nothing was written", "clean_target_db"]);
    assert_eq!(there.text("SELECT string_agg(text, ',') FROM notes").await.as_deref(), Some("mine"));
    assert_eq!(there.text("SELECT to_regclass('shop.orders')::text").await, None);
}

#[tokio::test]
async fn a_target_that_the_slot_left_behind_is_built_anew_when_asked() {
    let pipeline = Pipeline::new(SHOP).await;
    pipeline.pgstream(&["init"]).await.ok();
    let mut first = pipeline.run();
    pipeline.caught_up(&mut first).await;
    first.stop().await.ok();
    let here = pipeline.here().await;
    here.batch("DELETE FROM notes").await;
    here.batch("SELECT pg_replication_slot_advance('pgstream_app_slot', pg_current_wal_lsn())").await;
    pipeline.pgstream(&["run"]).await.ends(1).says(&["stream::slot_ahead"]);
    for _ in 0..2 {
        let mut reset = pipeline.start(&["run", "--reset"]);
        pipeline.caught_up(&mut reset).await;
        reset.stop().await.ok();
        pipeline.assert_same_rows().await;
    }
}

#[tokio::test]
async fn a_clean_copy_that_fails_leaves_the_old_database_untouched() {
    // An index that can only be built where a setting says so.
    let mut pipeline = Pipeline::new(&format!(
        "{SHOP}; CREATE FUNCTION shop.picky(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
           $$ BEGIN IF current_setting('shop.ok', true) IS DISTINCT FROM 'yes' THEN RAISE 'not here'; END IF; RETURN $1; END $$;
         SET shop.ok = 'yes'; CREATE INDEX picky ON shop.orders (shop.picky(customer))"
    ))
    .await;
    pipeline.set("source.postgres.mode", "snapshot");
    pipeline.set(CLEAN, true);
    let there = pipeline.there().await;
    there.batch("CREATE TABLE precious (a int); INSERT INTO precious VALUES (42)").await;
    pipeline.pgstream(&["snapshot"]).await.ends(1).says(&["snapshot::restore", "picky", "not here"]);
    assert_eq!(there.scalar::<i32>("SELECT a FROM precious").await, 42, "and its sessions live on");
    assert_eq!(there.text("SELECT to_regclass('shop.orders')::text").await, None);

    // Mended, it goes on with what was copied.
    there.batch("ALTER ROLE postgres SET shop.ok = 'yes'").await;
    let done = pipeline.pgstream(&["snapshot", "--json"]).await.ok().json();
    assert_eq!(done["complete"], true, "{done:#}");
    pipeline.assert_same_rows().await;
    let databases = "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE datname ~ '^app'";
    let admin = pipeline.target.client("postgres").await;
    assert_eq!(admin.text(databases).await.as_deref(), Some("app"));
}

#[tokio::test]
async fn a_clean_copy_that_is_killed_leaves_the_old_database_untouched() {
    let schema = "CREATE TABLE big AS SELECT g AS id, repeat('x', 300) AS f FROM generate_series(1, 150000) g";
    let mut pipeline = Pipeline::new(schema).await;
    pipeline.set("source.postgres.mode", "snapshot");
    let there = pipeline.there().await;
    there.batch("CREATE TABLE precious (a int); INSERT INTO precious VALUES (42)").await;
    let running = pipeline.start(&["snapshot", "--reset"]);
    let admin = pipeline.target.client("postgres").await;
    admin.wait_until("SELECT count(*) > 0 FROM pg_stat_progress_copy", "t").await;
    running.kill9();
    assert_eq!(there.scalar::<i32>("SELECT a FROM precious").await, 42);
    pipeline.pgstream(&["snapshot", "--reset"]).await.ok();
    pipeline.assert_same_rows().await;
}

#[tokio::test]
async fn a_missing_database_is_created_when_asked() {
    let mut pipeline = Pipeline::new(SHOP).await;
    pipeline.set("source.postgres.mode", "snapshot");
    pipeline.target.client("postgres").await.batch("DROP DATABASE app").await;
    let refused = pipeline.pgstream(&["snapshot"]).await.ends(1);
    refused.says(&["snapshot::database_missing", "does not exist", "create_target_db: true"]);
    pipeline.set("source.postgres.snapshot.schema.pgdump_pgrestore.create_target_db", true);
    pipeline.pgstream(&["snapshot"]).await.ok();
    pipeline.assert_same_rows().await;
}

#[tokio::test]
async fn the_schema_dump_is_kept_when_asked() {
    let mut pipeline = Pipeline::new(SHOP).await;
    pipeline.set("source.postgres.mode", "snapshot");
    let file = pipeline.file("schema.sql");
    pipeline.pgstream(&["snapshot", "--dump-file", file.to_str().unwrap()]).await.ok();
    let dump = std::fs::read(&file).unwrap();
    assert!(!dump.is_empty());
}
