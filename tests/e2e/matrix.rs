//! The whole job on each pair of server versions; `scripts/matrix` chooses them.

use std::time::Duration;

use pgstream_testkit::{Load, assert_accounts, assert_journal, assert_same_schema, assert_sequences_not_behind, seed};

use crate::replicator::Pipeline;

/// Types that users make, types whose OIDs differ between servers, and forms of tables.
const TYPES: &str = "
    CREATE EXTENSION hstore; CREATE TYPE mood AS ENUM ('sad', 'it''s ok', 'happy');
    CREATE DOMAIN positive AS int CHECK (VALUE > 0); CREATE TYPE pair AS (a int, m mood);
    CREATE TABLE made (id positive PRIMARY KEY, m mood, ms mood[], p pair, ps pair[], h hstore, c char(4));
    INSERT INTO made SELECT g, 'sad', '{sad,happy}', (g, 'happy')::pair, ARRAY[(g, 'sad')::pair], 'a=>1,b=>NULL', 'ab'
        FROM generate_series(1, 500) g;
    CREATE TABLE built_in (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n numeric, f float8, b bytea, d date,
        ts timestamptz, iv interval, u uuid, j json, jb jsonb, ip inet, r int4range, tr tstzrange, ia int[], ta text[],
        bi bit(5), tv tsvector, pt point, m money, x xml, mac macaddr, up int GENERATED ALWAYS AS (1 + 1) STORED);
    INSERT INTO built_in (n, f, b, d, ts, iv, u, j, jb, ip, r, tr, ia, ta, bi, tv, pt, m, x, mac)
        VALUES ('NaN', '-Infinity', '\\x00ff5c', 'infinity', '-infinity', '1 mon -1 day 00:00:00.000001',
                '00000000-0000-0000-0000-000000000001', ' {\"a\" : 1}', '{\"a\": 1e40}', '::1/64', 'empty', '[2026-01-01 00:00+00,)',
                '[2:3]={7,8}', '{\"\",NULL,\"NULL\",\"a,b\"}', '10101', 'a:1A b', '(1,-2)', '-1.50', '<a/>', '08:00:2b:01:02:03');
    CREATE TABLE \"odd \"\"name\" (\"the \"\"key\" int PRIMARY KEY, \"select\" text);
    CREATE TABLE references_to (id int PRIMARY KEY, class regclass); INSERT INTO references_to VALUES (1, 'made');
    CREATE VIEW sad AS SELECT * FROM made WHERE m = 'sad'; CREATE INDEX made_m ON made (m) WHERE m <> 'happy';";

/// Changes of all of them.
const CHANGES: &str = "
    INSERT INTO made SELECT g, 'it''s ok', NULL, NULL, ARRAY[NULL::pair], '', 'é' FROM generate_series(501, 900) g;
    UPDATE made SET m = 'happy', p.a = 7, h = h || 'z=>26' WHERE id % 2 = 0; DELETE FROM made WHERE id % 7 = 0;
    INSERT INTO built_in (n, f, b, d, ts, iv, u, j, jb, ip, r, tr, ia, ta, bi, tv, pt, m, x, mac)
        SELECT n, f, b, d, ts, iv, u, j, jb, ip, r, tr, ia, ta, bi, tv, pt, m, x, mac FROM built_in;
    UPDATE built_in SET n = 1.500, f = 1e-300, ts = '2026-02-28 12:00:00.123456+02', ta = ta || 'x'::text WHERE id = 1;
    INSERT INTO \"odd \"\"name\" VALUES (1, 'a'), (2, NULL); UPDATE \"odd \"\"name\" SET \"the \"\"key\" = 3 WHERE \"select\" = 'a';
    INSERT INTO references_to VALUES (2, 'built_in')";

#[tokio::test]
async fn matrix_the_whole_job() {
    let pipeline = Pipeline::new(&format!("{}{TYPES}", Load::schema())).await;
    // The same type has another OID on each server.
    pipeline.there().await.batch("CREATE TYPE gap AS ENUM (); DROP TYPE gap").await;
    pipeline.pgstream(&["init"]).await.ok();
    let load = Load::start(&pipeline.source.url("app"), seed(), 2);
    load.progress(100).await;
    let mut first = pipeline.run();
    pipeline.caught_up(&mut first).await;
    pipeline.here().await.batch(CHANGES).await;
    load.progress(200).await;
    first.kill9();
    load.progress(50).await;

    let mut second = pipeline.run();
    let report = load.stop().await;
    pipeline.caught_up(&mut second).await;
    let stopped = second.stop().await.ok();
    assert!(stopped.took < Duration::from_secs(10), "stopped only after {:?}", stopped.took);
    pipeline.assert_same_rows().await;
    assert_journal(&pipeline.target, "app", &report).await;
    assert_accounts(&pipeline.target, "app").await;
    assert_sequences_not_behind(&pipeline.source, &pipeline.target, "app").await;
    // Servers of different versions write the same definition in different ways.
    if pipeline.source.major() == pipeline.target.major() {
        assert_same_schema(&pipeline.source, &pipeline.target, "app").await;
    }
    pipeline.pgstream(&["status"]).await.ok().prints(&["Nothing is wrong."]);
    pipeline.pgstream(&["destroy", "--yes"]).await.ok().prints(&["Done."]);
}

const MANY_TYPES: &str = "CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE SCHEMA \"Odd schema\";
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
         CREATE TABLE journal (what text, n numeric);";

const ROWS: &str = "INSERT INTO \"Odd schema\".\"Many types\" (m, ms, p, n, f, t, b, j, jb, ts, iv, u, ar, h, c, r, ip, ref)
         SELECT 'sad', '{sad,happy}', n, n / 7.0, n / 3.0, 'é ' || n, '\\x00ff', '{\"a\": 1}', '{\"b\": [1, null]}',
                '2026-01-01'::timestamptz + n * interval '1 hour', '1 mon -1 day 00:00:00.5', md5(n::text)::uuid, ARRAY[n, NULL],
                'a=>1', 'CiText', int4range(n, n + 5), '10.0.0.1', 'parent'::regclass
           FROM generate_series(1, 500) AS n;
         INSERT INTO m SELECT n, '2025-12-01'::date + n % 60 FROM generate_series(1, 300) AS n ON CONFLICT DO NOTHING;
         INSERT INTO journal SELECT 'line', n % 3 FROM generate_series(1, 100) AS n;";

#[tokio::test]
async fn matrix_many_types_and_forms_of_tables() {
    let pipeline = Pipeline::new(MANY_TYPES).await;
    let here = pipeline.here().await;
    here.batch(ROWS).await;
    here.batch(
        "INSERT INTO parent SELECT generate_series(1, 50); INSERT INTO child (parent_id) SELECT generate_series(1, 50)",
    )
    .await;
    pipeline.pgstream(&["init"]).await.ok();
    here.batch("UPDATE journal SET what = 'between init and copy' WHERE n = 1").await;
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    here.batch(&ROWS.replace("CONFLICT DO NOTHING", "CONFLICT (id, at) DO NOTHING")).await;
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
    pipeline.caught_up(&mut running).await;
    pipeline.assert_same_rows().await;
    running.stop().await.ok();
    assert_sequences_not_behind(&pipeline.source, &pipeline.target, "app").await;
}
