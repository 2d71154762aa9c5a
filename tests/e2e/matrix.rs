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
