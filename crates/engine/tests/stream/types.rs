//! Values of every built-in type at its edges, and of types that users make.

use crate::harness::pair;

const ENUMS: &str = "CREATE EXTENSION IF NOT EXISTS hstore; CREATE EXTENSION IF NOT EXISTS citext;
    CREATE TYPE mood AS ENUM ('sad', 'it''s ok', 'happy \"quoted\"');
    CREATE DOMAIN positive AS int CHECK (VALUE > 0);
    CREATE DOMAIN moods AS mood[];
    CREATE TYPE pair AS (a int, b text, m mood);
    CREATE TYPE span AS RANGE (subtype = int);";

#[tokio::test]
async fn built_in_types_arrive_at_their_edges() {
    let pair = pair(
        "CREATE TABLE t (id int PRIMARY KEY, b bool, i2 int2, i4 int4, i8 int8, f4 float4, f8 float8, n numeric, m money,
            c char(5), vc varchar(10), tx text, by bytea, d date, ti time, titz timetz, ts timestamp, tstz timestamptz,
            iv interval, u uuid, j json, jb jsonb, x xml, ine inet, ci cidr, ma macaddr, ma8 macaddr8, bi bit(5),
            vb varbit, pt point, ln line, sg lseg, bx box, pa path, po polygon, cl circle, tv tsvector, tq tsquery,
            ir int4range, nr numrange, tr tstzrange, dr daterange, o oid, nm name, ch \"char\", lsn pg_lsn, jp jsonpath,
            i4a int4[], ta text[], nul int4[]);",
    )
    .await;
    pair.follows(
        "INSERT INTO t (id) VALUES (1);
         INSERT INTO t VALUES (2, true, -32768, -2147483648, -9223372036854775808, '-Infinity', 'NaN', 'NaN',
            '-92233720368547758.08', 'a', '', '', '', '-infinity', '00:00', '00:00+15:59', 'infinity', '-infinity',
            '-178000000 years', '00000000-0000-0000-0000-000000000000', ' {\"a\" : 1 , \"a\": 2}', '{\"a\": 1e400}', '<a/>',
            '::1', '10/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05', '10101', '1', '(1e308,-1e-300)', '{1,2,3}',
            '[(0,0),(1,1)]', '(1,1),(0,0)', '[(0,0),(1,1)]', '((0,0),(1,1))', '<(0,0),1>', 'a:1A b', 'a & !b',
            'empty', '(,1.50]', '[2026-01-01 00:00+00,)', '[2026-01-01,2026-02-01)', 4294967295, 'name', 'x', '16/B374D848',
            '$.a[*] ? (@ > 1)', '{{1,2},{3,NULL}}', '{\"\",NULL,\"NULL\",\"a,b\",\"\\\"\"}', '[2:3]={7,8}');
         INSERT INTO t (id, f4, f8, n, c, tx, by, d, ts, iv, vc) VALUES
            (3, 1e-45, 5e-324, ('1.' || repeat('0', 1000) || '1')::numeric, 'ab', E'tab\\there\\\\ and\\nnewline \\r é 漢 🦀', '\\x00ff5c',
             '4713-01-01 BC', '294276-12-31 23:59:59.999999', '1 mon -1 day 00:00:00.000001', E'\\\\N'),
            (4, '-0', '-0', 0.00, '', repeat('long', 50000), repeat('b', 100000)::bytea, '5874897-12-31', 'epoch', '0', NULL);
         UPDATE t SET i4 = 7, ta = ta || 'more'::text, jb = '[]' WHERE id IN (2, 3);
         UPDATE t SET id = id + 10;
         DELETE FROM t WHERE id = 11",
    )
    .await;
}

#[tokio::test]
async fn user_types_arrive() {
    let pair = pair(&format!(
        "{ENUMS} CREATE TABLE t (id positive PRIMARY KEY, m mood, ms mood[], dm moods, p pair, ps pair[], s span, h hstore, c citext);"
    ))
    .await;
    pair.follows(
        "INSERT INTO t SELECT n, (enum_range(NULL::mood))[1 + n % 3], enum_range(NULL::mood), ARRAY['sad']::mood[],
            ('(' || n || ',\"text, \"\"and\"\" (more)\",sad)')::pair, ARRAY['(1,,sad)'::pair], span(n, n + 5), 'a=>1,b=>NULL', 'CiText'
           FROM generate_series(1, 1500) AS n;
         UPDATE t SET m = 'happy \"quoted\"', h = h || 'z=>26' WHERE id % 2 = 0;
         UPDATE t SET p.b = 'changed', ms = NULL WHERE id % 3 = 0; DELETE FROM t WHERE id % 5 = 0",
    )
    .await;
}

/// Composites of built-in types travel in binary form, and as elements of arrays they must stay whole.
#[tokio::test]
async fn many_rows_with_composites_are_applied_as_sets() {
    let pair = pair(
        "CREATE TYPE place AS (street text, number int); CREATE DOMAIN address AS place CHECK ((VALUE).number > 0);
         CREATE TABLE t (id int PRIMARY KEY, before text, p place, a address, after text);
         CREATE TABLE k (p place PRIMARY KEY, n int)",
    )
    .await;
    let running = pair.stream();
    pair.caught_up(&running).await;
    for sql in [
        "INSERT INTO t SELECT n, 'b', CASE n % 3 WHEN 0 THEN NULL WHEN 1 THEN ROW(NULL, NULL)::place ELSE ROW('s', n)::place END,
            ROW('d', n)::place, 'a' FROM generate_series(1, 300) AS n",
        "INSERT INTO k SELECT ROW('s', n)::place, n FROM generate_series(1, 300) AS n",
        "UPDATE t SET p.street = 'changed', before = 'c', after = NULL WHERE id <= 200",
        "UPDATE t SET p = NULL WHERE id > 100",
        "UPDATE k SET n = -n; DELETE FROM k WHERE n < -200",
    ] {
        pair.here.batch(sql).await;
        pair.caught_up(&running).await;
    }
    pair.assert_same().await;
    assert_eq!(running.monitor.read().fallbacks, 0);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn object_references_arrive_by_name() {
    let schema = "CREATE TABLE early (id int PRIMARY KEY);
        CREATE TABLE refs (id int PRIMARY KEY, c regclass, ty regtype[], f regproc);";
    let (source, target) = pgstream_testkit::pair().await;
    // Object numbers differ on the two sides.
    target.client("app").await.batch("CREATE TABLE shift_a (); CREATE TABLE shift_b ()").await;
    let pair = crate::harness::pair_on(source, target, schema).await;
    let running = pair.stream();
    pair.here.batch("INSERT INTO refs VALUES (1, 'early', '{int4,refs}', 'now')").await;
    pair.caught_up(&running).await;
    assert_eq!(pair.there.text("SELECT c || ' ' || ty::text FROM refs").await.as_deref(), Some("early {integer,refs}"));
    running.stop().await.unwrap();
}

#[tokio::test]
async fn generated_and_identity_columns_arrive() {
    let pair = pair(
        "CREATE TABLE g (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int, twice int GENERATED ALWAYS AS (a * 2) STORED);
         CREATE TABLE d (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, other int GENERATED ALWAYS AS IDENTITY UNIQUE);",
    )
    .await
    ;
    pair.follows(
        "INSERT INTO g (a) SELECT n FROM generate_series(1, 1200) AS n; INSERT INTO g (a) VALUES (7);
         UPDATE g SET a = a + 1 WHERE id % 2 = 0; UPDATE g SET id = DEFAULT WHERE id = 5; DELETE FROM g WHERE id = 6",
    )
    .await;
}

#[tokio::test]
async fn hostile_names_are_only_names() {
    let long = "n".repeat(63);
    let pair = pair(&format!(
        "CREATE SCHEMA \"sch\"\"; drop table x; --\";
         CREATE TABLE \"sch\"\"; drop table x; --\".\"ta'ble\n$1 %I\" (\"i\"\"d\" int PRIMARY KEY, \"{long}\" text, \"sélect\" int);"
    ))
    .await;
    let table = "\"sch\"\"; drop table x; --\".\"ta'ble\n$1 %I\"";
    pair.follows(&format!(
        "INSERT INTO {table} SELECT n, 'x', n FROM generate_series(1, 2000) AS n; UPDATE {table} SET \"sélect\" = 1;
         DELETE FROM {table} WHERE \"i\"\"d\" < 10"
    ))
    .await;
}
