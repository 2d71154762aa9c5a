//! Inserts, updates and deletes, under every replica identity.

use crate::harness::pair;

const ITEMS: &str = "CREATE TABLE item (id int PRIMARY KEY, name text, qty int);";

#[tokio::test]
async fn rows_follow() {
    let pair = pair(ITEMS).await;
    pair.follows(
        "INSERT INTO item SELECT n, 'item ' || n, n FROM generate_series(1, 5000) AS n;
         UPDATE item SET qty = qty + 1 WHERE id % 3 = 0;
         DELETE FROM item WHERE id % 5 = 0;
         UPDATE item SET name = NULL WHERE id % 7 = 0",
    )
    .await;
}

#[tokio::test]
async fn what_was_rolled_back_never_arrives() {
    let pair = pair(ITEMS).await;
    pair.follows(
        "BEGIN; INSERT INTO item VALUES (1, 'gone', 1); ROLLBACK;
         BEGIN; INSERT INTO item VALUES (2, 'kept', 1); SAVEPOINT s; INSERT INTO item VALUES (3, 'gone', 1);
         ROLLBACK TO s; SAVEPOINT t; INSERT INTO item VALUES (4, 'kept', 1); RELEASE t; COMMIT",
    )
    .await;
}

#[tokio::test]
async fn prepared_transactions_arrive_when_they_commit() {
    let pair = pair(ITEMS).await;
    let running = pair.stream();
    pair.here.batch("BEGIN; INSERT INTO item VALUES (1, 'two-phase', 1); PREPARE TRANSACTION 'a'").await;
    pair.here.batch("BEGIN; INSERT INTO item VALUES (2, 'rolled back', 1); PREPARE TRANSACTION 'b'").await;
    pair.here.batch("ROLLBACK PREPARED 'b'").await;
    pair.caught_up(&running).await;
    assert_eq!(pair.there.scalar::<i64>("SELECT count(*) FROM item").await, 0);
    pair.here.batch("COMMIT PREPARED 'a'").await;
    pair.caught_up(&running).await;
    pair.assert_same().await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn keys_change_and_swap() {
    let pair = pair("CREATE TABLE item (id int PRIMARY KEY, slot int UNIQUE DEFERRABLE, name text);").await;
    pair.follows(
        "INSERT INTO item SELECT n, n, 'item ' || n FROM generate_series(1, 100) AS n;
         UPDATE item SET id = id + 1000 WHERE id <= 10;
         BEGIN; UPDATE item SET id = -1 WHERE id = 50; UPDATE item SET id = 50 WHERE id = 51;
         UPDATE item SET id = 51 WHERE id = -1; COMMIT;
         UPDATE item SET slot = 101 - slot;
         DELETE FROM item WHERE id = 60; INSERT INTO item VALUES (60, 41, 'again')",
    )
    .await;
}

#[tokio::test]
async fn a_unique_value_moves_from_one_row_to_another() {
    let pair = pair("CREATE TABLE item (id int PRIMARY KEY, code text UNIQUE);").await;
    pair.follows(
        "INSERT INTO item VALUES (1, 'a'), (2, 'b'), (3, 'c');
         BEGIN; UPDATE item SET code = 'x' WHERE id = 1; UPDATE item SET code = 'a' WHERE id = 2;
         UPDATE item SET code = 'b' WHERE id = 1; COMMIT;
         BEGIN; DELETE FROM item WHERE id = 3; INSERT INTO item VALUES (4, 'c'); COMMIT;
         BEGIN; UPDATE item SET code = 'd' WHERE id = 4; INSERT INTO item VALUES (5, 'c'); COMMIT",
    )
    .await;
}

#[tokio::test]
async fn unchanged_toast_stays() {
    let pair = pair(
        "CREATE TABLE doc (id int PRIMARY KEY, body text, other text, n int);
         ALTER TABLE doc ALTER body SET STORAGE EXTERNAL, ALTER other SET STORAGE EXTERNAL;
         CREATE TABLE full_doc (id int, body text, n int);
         ALTER TABLE full_doc REPLICA IDENTITY FULL, ALTER body SET STORAGE EXTERNAL;",
    )
    .await;
    pair.follows(
        "INSERT INTO doc SELECT n, repeat('x' || n, 5000), repeat('y' || n, 5000), n FROM generate_series(1, 50) AS n;
         INSERT INTO full_doc SELECT n, repeat('z' || n, 5000), n FROM generate_series(1, 20) AS n;
         UPDATE doc SET n = n + 1;
         UPDATE doc SET other = repeat('w', 9000) WHERE id % 2 = 0;
         BEGIN; UPDATE doc SET n = 0 WHERE id = 1; UPDATE doc SET body = NULL WHERE id = 1;
         UPDATE doc SET n = 7 WHERE id = 1; COMMIT;
         BEGIN; INSERT INTO doc VALUES (99, repeat('q', 9000), NULL, 1); UPDATE doc SET n = 2 WHERE id = 99; COMMIT;
         UPDATE doc SET id = id + 500 WHERE id < 10;
         UPDATE full_doc SET n = n + 1; DELETE FROM full_doc WHERE id = 3",
    )
    .await;
    // Rows of an earlier transaction: now nobody but the target has the values.
    pair.follows("UPDATE doc SET n = n + 1; UPDATE doc SET other = 'short' WHERE id % 5 = 0").await;
}

#[tokio::test]
async fn a_replica_identity_index_finds_rows() {
    let schema = "CREATE TABLE item (a int NOT NULL, b text NOT NULL, v int);
        CREATE UNIQUE INDEX item_key ON item (b, a); ALTER TABLE item REPLICA IDENTITY USING INDEX item_key;";
    let pair = pair(schema).await;
    pair.follows(
        "INSERT INTO item SELECT n, 'b' || n % 7, n FROM generate_series(1, 1000) AS n;
         UPDATE item SET v = -v WHERE a % 2 = 0; DELETE FROM item WHERE a % 3 = 0; UPDATE item SET b = 'z' WHERE a = 1",
    )
    .await;
}

#[tokio::test]
async fn of_equal_rows_without_a_key_exactly_one_is_meant() {
    let schema = "CREATE TABLE journal (a int, b numeric, c jsonb, d text);
        ALTER TABLE journal REPLICA IDENTITY FULL;";
    let pair = pair(schema).await;
    pair.follows(
        "INSERT INTO journal SELECT 1, 1.0, '{\"a\": 1}', NULL FROM generate_series(1, 5);
         INSERT INTO journal VALUES (1, 1.00, '{\"a\": 1}', NULL), (2, 'NaN', NULL, 'x'), (2, 'NaN', NULL, 'x');
         DELETE FROM journal WHERE ctid = (SELECT min(ctid) FROM journal WHERE a = 1);
         UPDATE journal SET d = 'one' WHERE ctid = (SELECT max(ctid) FROM journal WHERE a = 2);
         UPDATE journal SET b = 1.000 WHERE b = 1.00 AND scale(b) = 2",
    )
    .await;
}

#[tokio::test]
async fn of_many_equal_rows_exactly_as_many_are_meant() {
    let schema = "CREATE TABLE journal (day date, n int, note text, amount numeric, body json);
        ALTER TABLE journal REPLICA IDENTITY FULL, ALTER note SET STORAGE EXTERNAL;
        CREATE INDEX ON journal (n);";
    let pair = pair(schema).await;
    pair.follows(
        "INSERT INTO journal SELECT '2026-01-01'::date + n % 3, n % 50, CASE n % 4 WHEN 0 THEN NULL WHEN 1 THEN repeat('n' || n % 8, 3000)
                ELSE 'note ' || n % 8 END, CASE WHEN n % 5 > 0 THEN n % 2 + 0.50 END, '{\"a\": 1}' FROM generate_series(1, 2000) AS n",
    )
    .await;
    let running = pair.stream();
    pair.here
        .batch(
            "BEGIN;
         DELETE FROM journal WHERE ctid IN (SELECT ctid FROM journal ORDER BY n, ctid LIMIT 500);
         UPDATE journal SET amount = amount + 0.10 WHERE ctid IN (SELECT ctid FROM journal ORDER BY n, ctid LIMIT 300);
         UPDATE journal SET note = NULL, n = n + 1 WHERE n BETWEEN 20 AND 25;
         UPDATE journal SET note = 'x', day = NULL WHERE n BETWEEN 24 AND 30;
         UPDATE journal SET body = '{\"a\":1}' WHERE n = 40;
         UPDATE journal SET n = n WHERE n = 41;
         INSERT INTO journal SELECT * FROM journal WHERE n = 42; DELETE FROM journal WHERE n = 42 AND amount IS NULL;
         COMMIT",
        )
        .await;
    pair.caught_up(&running).await;
    pair.assert_same().await;
    assert_eq!(running.monitor.read().fallbacks, 0);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn an_update_without_a_key_keeps_what_only_the_target_has() {
    let pair = pair("CREATE TABLE log (a int, b text); ALTER TABLE log REPLICA IDENTITY FULL;").await;
    pair.follows("INSERT INTO log SELECT n % 10, 'x' FROM generate_series(1, 100) AS n").await;
    pair.there.batch("ALTER TABLE log ADD mark int; UPDATE log SET mark = a").await;
    let running = pair.stream();
    pair.here.batch("UPDATE log SET b = 'y', a = a + 100 WHERE a < 5; DELETE FROM log WHERE a = 9").await;
    pair.caught_up(&running).await;
    running.stop().await.unwrap();
    let rows = "SELECT string_agg(a || b || mark || ':' || n, ' ' ORDER BY mark) FROM
        (SELECT a, b, mark, count(*) AS n FROM log GROUP BY 1, 2, 3) AS g";
    let expected = "100y0:10 101y1:10 102y2:10 103y3:10 104y4:10 5x5:10 6x6:10 7x7:10 8x8:10";
    assert_eq!(pair.there.text(rows).await.as_deref(), Some(expected));
}

#[tokio::test]
async fn many_rows_without_a_key_take_one_pass_over_the_table() {
    let schema = "CREATE TABLE plain (a int, b text); ALTER TABLE plain REPLICA IDENTITY FULL;
        CREATE TABLE parts (a int, b text) PARTITION BY RANGE (a); ALTER TABLE parts REPLICA IDENTITY FULL;
        CREATE TABLE low PARTITION OF parts FOR VALUES FROM (MINVALUE) TO (500); ALTER TABLE low REPLICA IDENTITY FULL;
        CREATE TABLE high PARTITION OF parts FOR VALUES FROM (500) TO (MAXVALUE); ALTER TABLE high REPLICA IDENTITY FULL;";
    let pair = pair(schema).await;
    pair.follows(
        "INSERT INTO plain SELECT n, 'b' || n FROM generate_series(1, 1000) AS n; INSERT INTO parts SELECT * FROM plain",
    )
    .await;
    pair.follows(
        "UPDATE plain SET b = 'c' || a WHERE a % 2 = 0; DELETE FROM plain WHERE a % 5 = 1;
         UPDATE parts SET a = a + 500 WHERE a % 2 = 0; DELETE FROM parts WHERE a % 5 = 1",
    )
    .await;
    // The session that applied has ended, and its figures come all at once. Row by row it would be 1,400 passes.
    let figures = "FROM pg_stat_user_tables WHERE relname IN ('plain', 'low', 'high')";
    pair.there.wait_until(&format!("SELECT sum(n_tup_del) >= 400 {figures}"), "t").await;
    let passes = pair.there.scalar::<i64>(&format!("SELECT sum(seq_scan)::int8 {figures}")).await;
    assert!(passes < 100, "{passes}");
}

/// Whatever types are looked up by, alone and beside nulls.
#[tokio::test]
async fn a_row_without_a_key_is_found_by_columns_of_any_type() {
    let types = [
        ("bool", "n % 2 = 0"),
        ("\"char\"", "chr(65 + n % 3)"),
        ("name", "'n' || n % 3"),
        ("int2", "n % 3"),
        ("oid", "n % 3"),
        ("float4", "CASE WHEN n % 3 = 0 THEN 'NaN' WHEN n % 3 = 1 THEN '-0' ELSE '0' END::float4"),
        ("float8", "1 / (1.0 + n % 3)"),
        ("numeric(10, 4)", "n % 3"),
        ("time", "'10:00'::time + n % 3 * interval '1 ms'"),
        ("timetz", "'10:00+02'::timetz + n % 3 * interval '1 ms'"),
        ("timestamptz", "'infinity'::timestamptz"),
        ("interval", "CASE WHEN n % 2 = 0 THEN '1 month' ELSE '30 days' END::interval"),
        ("inet", "'10.0.0.1'::inet + n % 3"),
        ("macaddr", "'08:00:2b:01:02:03'::macaddr"),
        ("uuid", "md5((n % 3)::text)::uuid"),
        ("bytea", "decode(repeat(md5((n % 3)::text), 1 + 100 * (n % 2)), 'hex')"),
        ("char(5)", "'c' || n % 3"),
        ("varchar(9)", "'v' || n % 3"),
        ("code", "'d' || n % 3"),
        ("small", "1 + n % 3"),
        ("text COLLATE \"C\"", "repeat('t' || n % 3, 1 + 200 * (n % 2))"),
    ];
    let tables = types.iter().enumerate().map(|(i, (ty, value))| {
        // Every other table has nulls.
        let null = if i % 2 == 0 { "n % 5 = 0" } else { "false" };
        format!(
            "CREATE TABLE t{i} (v {ty}, j json); ALTER TABLE t{i} REPLICA IDENTITY FULL;
             INSERT INTO t{i} SELECT CASE WHEN {null} THEN NULL ELSE {value} END, '{{}}' FROM generate_series(1, 60) AS n;"
        )
    });
    let domains = "CREATE DOMAIN code AS text CHECK (VALUE <> ''); CREATE DOMAIN small AS int CHECK (VALUE > 0);";
    let pair = pair(&format!("{domains}{}", tables.collect::<String>())).await;
    let running = pair.stream();
    for i in 0..types.len() {
        let some = format!("ctid IN (SELECT ctid FROM t{i} ORDER BY ctid LIMIT 20)");
        let changes = format!("DELETE FROM t{i} WHERE {some}; UPDATE t{i} SET j = '{{\"a\": 1}}' WHERE {some}");
        pair.here.batch(&format!("BEGIN; {changes}; COMMIT")).await;
    }
    pair.caught_up(&running).await;
    pair.assert_same().await;
    assert_eq!(running.monitor.read().fallbacks, 0);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn rows_of_many_columns_without_a_key_follow() {
    let pair = pair(
        "DO $$ BEGIN EXECUTE 'CREATE TABLE wide (' || (SELECT string_agg('c' || n || ' int', ',') FROM generate_series(1, 400) AS n) || ')'; END $$;
         ALTER TABLE wide REPLICA IDENTITY FULL",
    )
    .await;
    let running = pair.stream();
    pair.here.batch("INSERT INTO wide (c1, c2) SELECT n, n % 10 FROM generate_series(1, 2000) AS n").await;
    pair.here
        .batch(
            "BEGIN; UPDATE wide SET c400 = c1; UPDATE wide SET c2 = c2 + 1, c3 = 7 WHERE c1 % 2 = 0; DELETE FROM wide WHERE c2 > 8; COMMIT",
        )
        .await;
    pair.caught_up(&running).await;
    pair.assert_same().await;
    assert_eq!(running.monitor.read().fallbacks, 0);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_full_identity_with_a_key_on_the_target_uses_it() {
    let pair = pair("CREATE TABLE item (id int PRIMARY KEY, v numeric); ALTER TABLE item REPLICA IDENTITY FULL;").await;
    pair.follows(
        "INSERT INTO item SELECT n, n FROM generate_series(1, 2000) AS n;
         UPDATE item SET v = v + 0.50 WHERE id % 2 = 0; UPDATE item SET id = id + 10000 WHERE id < 10;
         DELETE FROM item WHERE id % 5 = 0",
    )
    .await;
}

#[tokio::test]
async fn inserts_need_no_identity_at_all() {
    let pair = pair("CREATE TABLE log (what text); ALTER TABLE log REPLICA IDENTITY NOTHING;").await;
    pair.follows("INSERT INTO log SELECT 'line ' || n % 10 FROM generate_series(1, 3000) AS n").await;
}

#[tokio::test]
async fn truncate_takes_several_tables_and_restarts_identities() {
    let schema = "CREATE TABLE parent (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v int);
        CREATE TABLE child (id int PRIMARY KEY, parent_id int REFERENCES parent);
        CREATE TABLE other (id int PRIMARY KEY);";
    let pair = pair(schema).await;
    pair.follows(
        "INSERT INTO parent (v) SELECT n FROM generate_series(1, 10) AS n; INSERT INTO child SELECT n, n FROM generate_series(1, 10) AS n;
         INSERT INTO other VALUES (1), (2);
         BEGIN; INSERT INTO other VALUES (3); TRUNCATE parent CASCADE; INSERT INTO parent (v) VALUES (11); COMMIT;
         TRUNCATE parent, child RESTART IDENTITY; INSERT INTO parent (v) VALUES (1); INSERT INTO child VALUES (1, 1);
         BEGIN; TRUNCATE other; INSERT INTO other VALUES (9); ROLLBACK",
    )
    .await;
}
