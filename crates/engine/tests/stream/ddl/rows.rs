use pgstream_config::pattern::TableFilter;

use super::mirror::Mirror;

#[tokio::test]
async fn rows_and_schema_changes_of_one_transaction_commit_together() {
    let mirror = Mirror::new().await;
    mirror
        .follows(&[
            "CREATE TABLE t (id int PRIMARY KEY, v int)",
            "BEGIN; INSERT INTO t SELECT i, i FROM generate_series(1, 1000) i; ALTER TABLE t ADD w text DEFAULT 'w'; UPDATE t SET w = 'x' WHERE id % 3 = 0; ALTER TABLE t DROP v; DELETE FROM t WHERE id > 900; COMMIT",
            "BEGIN; TRUNCATE t; ALTER TABLE t ADD z int; INSERT INTO t VALUES (1, 'a', 2); COMMIT",
        ])
        .await;
    mirror.stop().await;
}

#[tokio::test]
async fn a_table_without_a_key_can_be_updated_and_gets_its_identity_back_with_a_key() {
    let mirror = Mirror::new().await;
    mirror
        .follows(&[
            "CREATE TABLE t (id int, v int); INSERT INTO t VALUES (1, 1), (1, 1), (2, 2)",
            "UPDATE t SET v = 5 WHERE id = 2; DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t)",
            "ALTER TABLE t ADD PRIMARY KEY (id)",
            "UPDATE t SET v = 6",
        ])
        .await;
    let identity: String = mirror.source().scalar("SELECT relreplident::text FROM pg_class WHERE relname = 't'").await;
    assert_eq!(identity, "d");
    mirror.stop().await;
}

#[tokio::test]
async fn a_column_of_object_numbers_is_carried_over_by_name() {
    let mirror = Mirror::new().await;
    // Other numbers on the source than on the target.
    mirror.target().batch("CREATE TABLE other (i int); DROP TABLE other").await;
    mirror
        .follows(&[
            "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)",
            "BEGIN; ALTER TABLE t ADD r regclass; INSERT INTO t VALUES (2, 't'); COMMIT",
            "INSERT INTO t VALUES (3, 't'), (4, 'pg_class')",
        ])
        .await;
    mirror.stop().await;
}

#[tokio::test]
async fn a_replicator_that_is_killed_at_any_time_goes_on_with_schema_changes() {
    killed_at_any_time(Mirror::new().await).await;
}

#[tokio::test]
async fn a_replicator_that_is_killed_while_tables_are_copied_beside_the_stream_copies_them_again() {
    killed_at_any_time(Mirror::new().await.copying_beside().await).await;
}

/// The copy waits for a lock that the test holds; its table is written to all the while.
#[tokio::test]
async fn the_stream_goes_on_while_a_table_is_copied_beside_it_and_waits_at_the_first_row_that_the_copy_lacks() {
    let mirror = Mirror::new().await.copying_beside().await;
    mirror
        .follows(&[
            "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, i FROM generate_series(1, 1000) i",
            "CREATE TABLE other (id int PRIMARY KEY)",
        ])
        .await;
    let there = mirror.target();
    let lock = "hashtextextended('pgstream copies:' || slot_name, 0)) FROM pgstream.apply_progress";
    there.batch(&format!("SELECT pg_advisory_lock({lock}")).await;
    mirror.run(&["ALTER TABLE t ADD c float8 DEFAULT random(); UPDATE t SET v = 0 WHERE id < 10"]).await;
    mirror.run(&["INSERT INTO other VALUES (1)"]).await;
    let others = "SELECT count(*) FROM other";
    there.wait_until(others, "1").await;
    assert_eq!(there.scalar::<i64>("SELECT count(*) FROM t").await, 0, "its rows come all at once");
    mirror.run(&["INSERT INTO other VALUES (2)"]).await;
    there.wait_until(others, "2").await;
    mirror
        .run(&["BEGIN; INSERT INTO other VALUES (3); UPDATE t SET v = 1; INSERT INTO other VALUES (4); COMMIT"])
        .await;
    mirror.run(&["ALTER TABLE other ADD w int; INSERT INTO other VALUES (5, 5)"]).await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(there.scalar::<i64>(others).await, 2, "a transaction that the copy lacks waits for it, whole");
    there.batch(&format!("SELECT pg_advisory_unlock({lock}")).await;
    mirror.is_equal().await;
    mirror.stop().await;
}

#[tokio::test]
async fn large_tables_are_copied_beside_the_stream_under_load() {
    let mirror = Mirror::new().await.copying_beside().await;
    mirror
        .follows(&[
            "CREATE TABLE a (id int PRIMARY KEY, v int); INSERT INTO a SELECT i, i FROM generate_series(1, 20000) i",
            "CREATE TABLE b (id int PRIMARY KEY REFERENCES a, v int); INSERT INTO b SELECT i, i FROM generate_series(1, 20000) i",
        ])
        .await;
    for round in 0..3 {
        mirror.run(&[&format!("ALTER TABLE a ADD c{round} float8 DEFAULT random()")]).await;
        for n in 0..40 {
            mirror
                .run(&[&format!(
                    "UPDATE a SET v = v + 1 WHERE id % 40 = {n}; DELETE FROM b WHERE id = 400 * {round} + {n} + 1;
                     BEGIN; UPDATE b SET v = v - 1 WHERE id % 40 = {n}; DELETE FROM a WHERE id = 400 * {round} + {n} + 1; COMMIT"
                )])
                .await;
        }
        mirror.run(&[&format!("TRUNCATE b; CREATE TABLE made{round} AS SELECT id, random() AS r FROM a")]).await;
        mirror.run(&[&format!("INSERT INTO b SELECT id, 0 FROM a; DELETE FROM made{round} WHERE id % 2000 = 0")]).await;
    }
    mirror.is_equal().await;
    mirror.stop().await;
}

async fn killed_at_any_time(mut mirror: Mirror) {
    mirror
        .run(&["CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, i FROM generate_series(1, 2000) i"])
        .await;
    for round in 0..12 {
        mirror.source().batch(&format!("ALTER TABLE t ADD c{round} float8 DEFAULT random()")).await;
        mirror.source().batch(&format!("INSERT INTO t (id) VALUES ({})", 10_000 + round)).await;
        tokio::time::sleep(std::time::Duration::from_millis(15 * round)).await;
        mirror.kill().await;
        mirror.source().batch(&format!("ALTER TABLE t DROP c{round}; UPDATE t SET v = v + 1 WHERE id % 7 = 0")).await;
    }
    mirror.is_equal().await;
    mirror.stop().await;
}

#[tokio::test]
async fn new_tables_join_a_publication_that_is_a_list_when_they_are_meant_to() {
    let list = |items: &[&str]| items.iter().map(|item| item.parse().unwrap()).collect();
    let tables = TableFilter {
        include: list(&["public.*", "shop.*", "other.named"]),
        exclude: list(&["shop.secret"]),
        schema_only: list(&["shop.audit"]),
    };
    let mirror = Mirror::of(tables).await;
    mirror
        .run(&[
            "CREATE SCHEMA shop; CREATE SCHEMA other",
            "CREATE TABLE shop.orders (id int PRIMARY KEY); INSERT INTO shop.orders VALUES (1)",
            "CREATE TABLE shop.keyless (id int); INSERT INTO shop.keyless VALUES (1); UPDATE shop.keyless SET id = 2",
            "CREATE TABLE shop.secret (id int); INSERT INTO shop.secret VALUES (1); UPDATE shop.secret SET id = 2",
            "CREATE TABLE shop.audit (id int PRIMARY KEY); INSERT INTO shop.audit VALUES (1)",
            "CREATE TABLE shop.parts (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE shop.parts_1 PARTITION OF shop.parts DEFAULT; INSERT INTO shop.parts VALUES (1)",
            "CREATE TABLE other.named (id int PRIMARY KEY); INSERT INTO other.named VALUES (1)",
            "CREATE TABLE other.unnamed (id int PRIMARY KEY); INSERT INTO other.unnamed VALUES (1)",
            "CREATE TABLE shop.filled AS SELECT 1 AS id",
        ])
        .await;
    mirror.caught_up().await;
    let there = mirror.target();
    for (table, rows) in [("orders", 1), ("keyless", 1), ("parts", 1), ("filled", 1), ("audit", 0)] {
        assert_eq!(there.scalar::<i64>(&format!("SELECT count(*) FROM shop.{table}")).await, rows, "{table}");
    }
    assert_eq!(there.scalar::<i64>("SELECT id::int8 FROM shop.keyless").await, 2);
    assert_eq!(there.scalar::<i64>("SELECT count(*) FROM other.named").await, 1);
    let left_out = "SELECT count(*) FROM pg_class WHERE relname IN ('secret', 'unnamed')";
    assert_eq!(there.scalar::<i64>(left_out).await, 0);
    let identity = "SELECT relreplident::text FROM pg_class WHERE relname = 'secret'";
    assert_eq!(mirror.source().scalar::<String>(identity).await, "d", "what is not published is left alone");
    mirror.stop().await;
}

#[tokio::test]
async fn rows_that_were_never_in_the_stream_come_when_their_table_is_logged() {
    let mirror = Mirror::new().await;
    mirror
        .follows(&[
            "CREATE UNLOGGED TABLE u (id int PRIMARY KEY, v int); INSERT INTO u SELECT i, i FROM generate_series(1, 100) i",
            "ALTER TABLE u SET LOGGED; INSERT INTO u VALUES (101, 101); UPDATE u SET v = 0 WHERE id < 10",
            "ALTER TABLE u ADD twice int GENERATED ALWAYS AS (v * 2) STORED",
        ])
        .await;
    let copies = "SELECT count(*) FROM pgstream.snapshot_ledger WHERE table_name = 'u'";
    assert_eq!(mirror.target().scalar::<i64>(copies).await, 1);
    mirror.stop().await;
}
