//! What must hold between every pair of versions.

use pgstream_testkit::{assert_same_rows, assert_sequences_not_behind, pair};

use crate::replicator::{MARKER, Replicator, both, caught_up, copied, succeeds};

#[tokio::test]
async fn a_database_with_many_types_is_copied_and_followed() {
    let (source, target) = pair().await;
    let here = source.client("app").await;
    here.batch(MARKER).await;
    here.batch(
        "CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE SCHEMA \"Odd schema\";
         CREATE TYPE \"Odd schema\".mood AS ENUM ('sad', 'happy');
         CREATE DOMAIN positive AS int CHECK (VALUE > 0);
         CREATE TABLE \"Odd schema\".\"Many types\" (id serial PRIMARY KEY, m \"Odd schema\".mood, ms \"Odd schema\".mood[], p positive,
            n numeric, f float8, t text, b bytea, j json, jb jsonb, ts timestamptz, iv interval, u uuid, ar int[], h hstore,
            c citext, r int4range, ip inet, ref regclass);
         CREATE TABLE m (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
         CREATE TABLE m_26 PARTITION OF m FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
         CREATE TABLE m_rest PARTITION OF m DEFAULT;
         CREATE TABLE parent (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED);
         CREATE TABLE child (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, parent_id int REFERENCES parent);
         CREATE TABLE journal (what text, n numeric);",
    )
    .await;
    let rows = "INSERT INTO \"Odd schema\".\"Many types\" (m, ms, p, n, f, t, b, j, jb, ts, iv, u, ar, h, c, r, ip, ref)
         SELECT 'sad', '{sad,happy}', n, n / 7.0, n / 3.0, 'é ' || n, '\\x00ff', '{\"a\": 1}', '{\"b\": [1, null]}',
                '2026-01-01'::timestamptz + n * interval '1 hour', '1 mon -1 day 00:00:00.5', md5(n::text)::uuid, ARRAY[n, NULL],
                'a=>1', 'CiText', int4range(n, n + 5), '10.0.0.1', 'parent'::regclass
           FROM generate_series(1, 500) AS n;
         INSERT INTO m SELECT n, '2025-12-01'::date + n % 60 FROM generate_series(1, 300) AS n ON CONFLICT DO NOTHING;
         INSERT INTO journal SELECT 'line', n % 3 FROM generate_series(1, 100) AS n;";
    here.batch(rows).await;
    here.batch(
        "INSERT INTO parent SELECT generate_series(1, 50); INSERT INTO child (parent_id) SELECT generate_series(1, 50)",
    )
    .await;
    let config = both(&source, &target);
    succeeds(&["init", "-c", &config.path()]);
    here.batch("UPDATE journal SET what = 'between init and copy' WHERE n = 1").await;
    let mut replicator = Replicator::run(&config);
    let there = target.client("app").await;
    copied(&there, &replicator).await;
    here.batch(&rows.replace("CONFLICT DO NOTHING", "CONFLICT (id, at) DO NOTHING")).await;
    here.batch(
        "UPDATE \"Odd schema\".\"Many types\" SET m = 'happy', n = -n, ar = ar || 7 WHERE id % 3 = 0;
         UPDATE \"Odd schema\".\"Many types\" SET id = id + 100000 WHERE id % 50 = 0;
         DELETE FROM \"Odd schema\".\"Many types\" WHERE id % 7 = 0;
         UPDATE m SET at = at + 30 WHERE id % 10 = 0 AND at < '2025-12-20'; DELETE FROM m WHERE id % 9 = 0;
         DELETE FROM child WHERE id <= 10; DELETE FROM parent WHERE id <= 10;
         DELETE FROM journal WHERE ctid IN (SELECT ctid FROM journal WHERE n = 2 LIMIT 3);
         BEGIN; TRUNCATE child; INSERT INTO child (parent_id) VALUES (20); COMMIT;
         BEGIN; INSERT INTO journal VALUES ('gone', 0); ROLLBACK;
         BEGIN; INSERT INTO journal VALUES ('two-phase', 0); PREPARE TRANSACTION 'x'",
    )
    .await;
    here.batch("COMMIT PREPARED 'x'").await;
    caught_up(&here, &there).await;
    replicator.assert_running();
    assert_same_rows(&source, &target, "app").await;
    assert!(replicator.stop().0.success());
    assert_sequences_not_behind(&source, &target, "app").await;
}
