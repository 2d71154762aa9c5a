//! Partitions, filters, and the sequences beside the tables.

use pgstream_config::pattern::TablePattern;

use crate::harness::{PUBLICATION, Running, pair};

#[tokio::test]
async fn partitions_follow_leaf_by_leaf() {
    let pair = pair(
        "CREATE TABLE m (id int, at date, v int, PRIMARY KEY (id, at, v)) PARTITION BY RANGE (at);
         CREATE TABLE m_25 PARTITION OF m FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
         CREATE TABLE m_26 PARTITION OF m FOR VALUES FROM ('2026-01-01') TO ('2027-01-01') PARTITION BY LIST (v);
         CREATE TABLE m_26_a PARTITION OF m_26 FOR VALUES IN (1, 2); CREATE TABLE m_26_rest PARTITION OF m_26 DEFAULT;",
    )
    .await;
    pair.follows(
        "INSERT INTO m SELECT n, '2025-06-01'::date + n % 400, n % 5 FROM generate_series(1, 3000) AS n;
         UPDATE m SET v = 1 WHERE id % 10 = 0; UPDATE m SET at = at + 300 WHERE id % 100 = 0 AND at < '2025-07-01';
         DELETE FROM m WHERE id % 7 = 0; TRUNCATE m_25; INSERT INTO m VALUES (1, '2025-01-01', 1)",
    )
    .await;
}

#[tokio::test]
async fn partitions_follow_through_their_root_into_another_partitioning() {
    let pair = pair("").await;
    pair.here
        .batch(
            "CREATE TABLE m (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
             CREATE TABLE m_low PARTITION OF m FOR VALUES FROM (0) TO (1000); CREATE TABLE m_high PARTITION OF m DEFAULT",
        )
        .await;
    pair.here.batch(&format!("ALTER PUBLICATION {PUBLICATION} SET (publish_via_partition_root = true)")).await;
    pair.there
        .batch(
            "CREATE TABLE m (id int PRIMARY KEY, v int) PARTITION BY HASH (id);
             CREATE TABLE m_0 PARTITION OF m FOR VALUES WITH (MODULUS 2, REMAINDER 0);
             CREATE TABLE m_1 PARTITION OF m FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
        )
        .await;
    let running = pair.stream();
    pair.here
        .batch("INSERT INTO m SELECT n, n FROM generate_series(1, 2500) AS n; UPDATE m SET v = 0 WHERE id % 3 = 0; DELETE FROM m WHERE id % 4 = 0; UPDATE m SET id = id + 5000 WHERE id < 50")
        .await;
    pair.caught_up(&running).await;
    let sum = "SELECT count(*)::text || sum(id)::text || sum(v)::text || sum(id::bigint * v)::text FROM m";
    assert_eq!(pair.here.text(sum).await, pair.there.text(sum).await);
    pair.here.batch("TRUNCATE m").await;
    pair.caught_up(&running).await;
    assert_eq!(pair.there.scalar::<i64>("SELECT count(*) FROM m").await, 0);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn tables_outside_the_filter_are_left_alone() {
    let pair = pair("CREATE TABLE wanted (id int PRIMARY KEY);").await;
    pair.here.batch("CREATE SCHEMA private; CREATE TABLE private.a (id int PRIMARY KEY); CREATE TABLE noise (id int PRIMARY KEY)").await;
    let pattern = |schema: Option<&str>, table: Option<&str>| TablePattern {
        schema: schema.map(Into::into),
        table: table.map(Into::into),
    };
    let mut job = pair.job();
    job.filter.exclude = vec![pattern(Some("private"), None), pattern(None, Some("noise"))];
    let running = Running::start(job);
    pair.here
        .batch("INSERT INTO private.a VALUES (1); INSERT INTO noise VALUES (1); INSERT INTO wanted VALUES (1)")
        .await;
    pair.here.batch("TRUNCATE wanted, noise; INSERT INTO wanted VALUES (2)").await;
    pair.caught_up(&running).await;
    assert_eq!(pair.there.text("SELECT string_agg(id::text, ',') FROM wanted").await.as_deref(), Some("2"));
    running.stop().await.unwrap();
}

#[tokio::test]
async fn sequences_move_forward_and_never_back() {
    let pair = pair(
        "CREATE TABLE item (id serial PRIMARY KEY); CREATE SEQUENCE \"Odd name\" INCREMENT -5; CREATE SEQUENCE ahead;
         CREATE SEQUENCE unused;",
    )
    .await;
    pair.there.batch("SELECT setval('ahead', 1000)").await;
    let running = pair.stream();
    pair.here.batch("INSERT INTO item SELECT FROM generate_series(1, 40); SELECT nextval('\"Odd name\"'), nextval('\"Odd name\"')").await;
    pair.here.batch("SELECT nextval('ahead')").await;
    pair.caught_up(&running).await;
    running.stop().await.unwrap();
    assert_eq!(pair.there.scalar::<i64>("SELECT last_value FROM item_id_seq").await, 40);
    assert_eq!(pair.there.scalar::<i64>("SELECT last_value FROM \"Odd name\"").await, -6);
    assert_eq!(pair.there.scalar::<i64>("SELECT last_value FROM ahead").await, 1000);
    assert!(!pair.there.scalar::<bool>("SELECT is_called FROM unused").await);
}
