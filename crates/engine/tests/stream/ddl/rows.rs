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
    let mut mirror = Mirror::new().await;
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
