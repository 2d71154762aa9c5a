//! What is copied arrives as it was.

use pgstream_testkit::{assert_same_rows, assert_sequences_not_behind, pair};

use crate::setup::{assert_same_schema, job, run};

const TYPES: &str = r#"
CREATE TYPE mood AS ENUM ('sad', 'ok', 'it''s "fine"');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TYPE pair AS (a int, m mood, note text);
CREATE TYPE floats AS RANGE (subtype = float8);
CREATE TABLE edges (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    s smallint, i int, b bigint, n numeric, r real, d double precision, m money, t text, vc varchar(10), c char(5),
    nm name, ch "char", by bytea, bo bool, da date, ti time, tz timetz, ts timestamp, tt timestamptz, iv interval,
    u uuid, j json, jb jsonb, x xml, ip inet, ci cidr, mac macaddr, mac8 macaddr8, bi bit(5), vb varbit,
    p point, l line, ls lseg, bx box, pa path, po polygon, ci2 circle, tv tsvector, tq tsquery,
    i4r int4range, nr numrange, tr tstzrange, fr floats, e mood, ea mood[], dm positive, da2 positive[], cp pair, cpa pair[],
    aa int[][], ta text[], lsn pg_lsn, ox oid, rc regclass, rt regtype, rca regclass[], o1 oidvector, snap pg_snapshot, td tid, xx xid, jp jsonpath
);
INSERT INTO edges (t) VALUES (NULL);
INSERT INTO edges (s, i, b, n, r, d, m, t, vc, c, nm, ch, by, bo, da, ti, tz, ts, tt, iv, u, j, jb, ip, ci, mac, mac8, bi, vb,
    p, l, ls, bx, pa, po, ci2, tv, tq, i4r, nr, tr, fr, e, ea, dm, da2, cp, cpa, aa, ta, lsn, ox, rc, rt, rca, o1, snap, td, xx, jp)
VALUES (-32768, -2147483648, -9223372036854775808, 'NaN', 'NaN', '-Infinity', '-92233720368547758.08', E'a\tb\nc\\d\u20ac\U0001F600',
    '\N', 'x', 'nm', 'q', '\x00ff', true, '-infinity', '24:00:00', '00:00:00+15:59', 'infinity', '-infinity', '-178000000 years 1 mon -1 day 00:00:00.000001',
    '00000000-0000-0000-0000-000000000000', '{"a":  1, "a": 2}', '{"a": [1, null, 1e400]}', '::1/64', '10.0.0.0/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05',
    B'10101', B'', '(1e300,-0)', '{1,2,3}', '[(0,0),(1,1)]', '(1,1),(0,0)', '[(0,0),(1,1)]', '((0,0),(1,1),(2,0))', '<(0,0),1>',
    'a:1A fat:2B,4C', 'fat & (rat | !cat)', 'empty', '(,)', '[-infinity,infinity)', '[1.5,2.5)', 'it''s "fine"', '{sad,NULL,ok}', 1, '{1,2}',
    '(1,ok,"x,""y")', ARRAY[(1,'sad',NULL)::pair, NULL], '[0:1][5:6]={{1,2},{3,NULL}}', '{"NULL",NULL,"",a\\b}', 'FFFFFFFF/FFFFFFFF', 4294967295,
    'edges', 'mood', '{pg_class,edges}', '1 2 3', '10:20:10,14,15', '(4294967295,65535)', '4294967295', 'strict $.a[*] ? (@ > 1)');
INSERT INTO edges (n, r, d, ti, ts, b, t) VALUES (1e-1000 + 1e1000, 1.17549435e-38, 1.7976931348623157e308, '00:00:00.000001', '294276-12-31 23:59:59.999999', 9223372036854775807, repeat('x', 100000));
"#;

const OBJECTS: &str = r#"
CREATE EXTENSION hstore; CREATE EXTENSION citext;
CREATE SCHEMA "We""ird; drop table x; --";
CREATE TABLE "We""ird; drop table x; --"."tab	le
new" ("a b" int, "c""d" text DEFAULT 'x;y', "select" hstore, ct citext UNIQUE, gen int GENERATED ALWAYS AS ("a b" * 2) STORED);
INSERT INTO "We""ird; drop table x; --"."tab	le
new" ("a b", "select", ct) SELECT g, hstore('k', g::text), 'V' || g FROM generate_series(1, 1000) g;
CREATE TABLE empty_columns ();
INSERT INTO empty_columns SELECT FROM generate_series(1, 3);
CREATE TABLE only_generated (g int GENERATED ALWAYS AS (1 + 1) STORED);
INSERT INTO only_generated DEFAULT VALUES;
CREATE TABLE nokey (a int, b text); INSERT INTO nokey SELECT g % 3, 'x' FROM generate_series(1, 100) g;
CREATE TABLE parent (id serial PRIMARY KEY, v text); CREATE TABLE child (w int) INHERITS (parent);
INSERT INTO parent (v) SELECT 'p' || g FROM generate_series(1, 10) g; INSERT INTO child (v, w) SELECT 'c' || g, g FROM generate_series(1, 20) g;
CREATE TABLE sales (id int, at date NOT NULL, amount numeric, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE sales_24 PARTITION OF sales FOR VALUES FROM ('2024-01-01') TO ('2025-01-01') PARTITION BY LIST (id);
CREATE TABLE sales_24_1 PARTITION OF sales_24 FOR VALUES IN (1); CREATE TABLE sales_24_x PARTITION OF sales_24 DEFAULT;
CREATE TABLE sales_25 PARTITION OF sales FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE INDEX sales_amount ON sales (amount);
INSERT INTO sales SELECT g, '2024-06-01'::date + g, g FROM generate_series(1, 400) g;
CREATE TABLE sale_notes (sale int, at date, FOREIGN KEY (sale, at) REFERENCES sales);
INSERT INTO sale_notes SELECT id, at FROM sales LIMIT 10;
CREATE TABLE husband (id int PRIMARY KEY, wife int); CREATE TABLE wife (id int PRIMARY KEY, husband int REFERENCES husband DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE husband ADD FOREIGN KEY (wife) REFERENCES wife;
INSERT INTO husband VALUES (1, NULL); INSERT INTO wife VALUES (1, 1); UPDATE husband SET wife = 1;
ALTER TABLE husband ADD CONSTRAINT notyet CHECK (id < 5) NOT VALID;
CREATE TABLE booking (room int, during tsrange, EXCLUDE USING gist (during WITH &&)); INSERT INTO booking VALUES (1, '[2024-01-01,2024-01-02)');
CREATE TABLE ri (a int NOT NULL, b int); CREATE UNIQUE INDEX ri_a ON ri (a); ALTER TABLE ri REPLICA IDENTITY USING INDEX ri_a; CLUSTER ri USING ri_a;
INSERT INTO ri SELECT g, g FROM generate_series(1, 50) g; CREATE STATISTICS ri_stat ON a, b FROM ri;
CREATE MATERIALIZED VIEW mv AS SELECT count(*) AS n FROM nokey; CREATE UNIQUE INDEX mv_n ON mv (n); CREATE MATERIALIZED VIEW mv2 AS SELECT n + 1 AS n FROM mv;
CREATE VIEW v AS SELECT * FROM mv2; COMMENT ON VIEW v IS 'a
-- TOC entry 5 (class 1259 OID 3)
\unrestrict x
comment; with ''quotes''';
CREATE FUNCTION bump() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'must not fire; %', TG_NAME; END $$;
CREATE TRIGGER nokey_bump BEFORE INSERT ON nokey FOR EACH ROW EXECUTE FUNCTION bump();
CREATE RULE nokey_rule AS ON DELETE TO nokey DO INSTEAD NOTHING;
ALTER TABLE ri ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON ri USING (a = 1);
CREATE ROLE reader NOLOGIN; GRANT SELECT ON parent TO reader; CREATE ROLE "Own er"; ALTER TABLE child OWNER TO "Own er"; GRANT USAGE, CREATE ON SCHEMA public TO "Own er";
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO reader;
CREATE UNLOGGED TABLE scratch (a int); INSERT INTO scratch VALUES (1);
CREATE SEQUENCE down INCREMENT -1; SELECT setval('down', -5); CREATE SEQUENCE fresh START 100; SELECT setval('fresh', 500, false);
CREATE SCHEMA pgstream; CREATE TABLE pgstream.schema_log (a int); INSERT INTO pgstream.schema_log VALUES (1);
CREATE FUNCTION pgstream.capture() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN END $$; CREATE EVENT TRIGGER pgstream_capture ON ddl_command_end EXECUTE FUNCTION pgstream.capture();
CREATE FUNCTION noted() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN END $$; CREATE EVENT TRIGGER noted ON ddl_command_end EXECUTE FUNCTION noted(); COMMENT ON EVENT TRIGGER noted IS 'x';
"#;

#[tokio::test]
async fn every_type_at_its_edges() {
    let (source, target) = pair().await;
    source.client("app").await.batch(TYPES).await;
    let summary = run(job(&source, &target)).await.unwrap();
    assert_eq!(summary.tables, 1);
    assert_same_rows(&source, &target, "app").await;
    assert_same_schema(&source, &target, "app").await;
}

#[tokio::test]
async fn many_small_tables() {
    let (source, target) = pair().await;
    let each =
        |what: &str| format!("DO $$ BEGIN FOR i IN 1..400 LOOP EXECUTE format($f${what}$f$, i); END LOOP; END $$");
    let there = source.client("app").await;
    there
        .batch(&each("CREATE TABLE t%s (id int PRIMARY KEY, v text UNIQUE, w int GENERATED ALWAYS AS IDENTITY)"))
        .await;
    there.batch(&each("INSERT INTO t%s SELECT g, g FROM generate_series(1, 10) g")).await;
    assert_eq!(run(job(&source, &target)).await.unwrap().rows, 4000);
    assert_same_rows(&source, &target, "app").await;
    assert_same_schema(&source, &target, "app").await;
    assert_sequences_not_behind(&source, &target, "app").await;
}

#[tokio::test]
async fn every_kind_of_object() {
    let (source, target) = pair().await;
    source.client("app").await.batch(OBJECTS).await;
    let mut job = job(&source, &target);
    job.settings.schema.refresh_materialized_views = true;
    run(job).await.unwrap();
    assert_same_rows(&source, &target, "app").await;
    assert_same_schema(&source, &target, "app").await;
    assert_sequences_not_behind(&source, &target, "app").await;
    let there = target.client("app").await;
    assert_eq!(there.text("SELECT n FROM v").await.as_deref(), Some("101"));
    assert_eq!(there.text("SELECT nextval('fresh') || ' ' || nextval('down')").await.as_deref(), Some("500 -6"));
    assert_eq!(there.text("SELECT to_regclass('pgstream.schema_log')").await, None);
}
