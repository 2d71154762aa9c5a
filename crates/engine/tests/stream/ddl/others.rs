use super::mirror::Mirror;

#[tokio::test]
async fn types_follow() {
    let mirror = Mirror::new().await;
    mirror
        .follows(&[
            "CREATE TYPE mood AS ENUM ('sad', 'ok')",
            "CREATE TABLE t (id int PRIMARY KEY, m mood DEFAULT 'ok')",
            "ALTER TYPE mood ADD VALUE 'happy'",
            "INSERT INTO t VALUES (1, 'happy')",
            "ALTER TYPE mood ADD VALUE 'angry' BEFORE 'sad'",
            "ALTER TYPE mood ADD VALUE 'calm' AFTER 'sad'",
            "ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'",
            "INSERT INTO t VALUES (2, 'calm'), (3, 'angry'); INSERT INTO t VALUES (4)",
            "ALTER TYPE mood RENAME TO feeling",
            "INSERT INTO t VALUES (5, 'fine')",
            "CREATE SCHEMA s; ALTER TYPE feeling SET SCHEMA s",
            "INSERT INTO t VALUES (6, 'sad')",
            "CREATE DOMAIN positive AS int DEFAULT 1 NOT NULL CHECK (value > 0)",
            "ALTER TABLE t ADD p positive",
            "ALTER DOMAIN positive ADD CONSTRAINT small CHECK (value < 1000) NOT VALID",
            "ALTER DOMAIN positive VALIDATE CONSTRAINT small",
            "ALTER DOMAIN positive RENAME CONSTRAINT small TO \"small one\"",
            "ALTER DOMAIN positive SET DEFAULT 2; ALTER DOMAIN positive DROP NOT NULL",
            "INSERT INTO t (id) VALUES (7)",
            "ALTER DOMAIN positive DROP CONSTRAINT \"small one\"",
            "CREATE TYPE pair AS (a int, b text COLLATE \"C\")",
            "ALTER TYPE pair ADD ATTRIBUTE c date, DROP ATTRIBUTE b",
            "ALTER TYPE pair RENAME ATTRIBUTE a TO aa; ALTER TYPE pair ALTER ATTRIBUTE aa TYPE bigint",
            "ALTER TABLE t ADD c pair; UPDATE t SET c = row(1, '2020-02-02') WHERE id = 1",
            "CREATE TABLE typed OF pair (PRIMARY KEY (aa)); INSERT INTO typed VALUES (1, NULL)",
            "CREATE TYPE span AS RANGE (subtype = float8, subtype_diff = float8mi)",
            "ALTER TABLE t ADD r span; UPDATE t SET r = '[1,2]' WHERE id = 2",
            "COMMENT ON TYPE span IS 'x'; COMMENT ON DOMAIN positive IS 'y'; GRANT USAGE ON TYPE span TO alice; REVOKE USAGE ON TYPE span FROM PUBLIC",
            "ALTER TYPE span OWNER TO alice",
            "DROP TYPE span CASCADE; DROP DOMAIN positive CASCADE; DROP TABLE t, typed; DROP TYPE s.feeling, pair",
        ])
        .await;
    mirror.stop().await;
}

#[tokio::test]
async fn functions_and_operators_follow() {
    let mirror = Mirror::new().await;
    mirror
        .follows(&[
            "CREATE FUNCTION f(a int, b text DEFAULT 'x') RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE COST 5 AS $$ SELECT b || a $$",
            "CREATE OR REPLACE FUNCTION f(a int, b text DEFAULT 'y') RETURNS text LANGUAGE sql AS $$ SELECT b $$",
            "CREATE FUNCTION f(a int) RETURNS SETOF int LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$ BEGIN RETURN NEXT a; END $$",
            "ALTER FUNCTION f(int) RENAME TO g; ALTER FUNCTION g(int) OWNER TO bob; ALTER FUNCTION g(int) COST 7",
            "CREATE SCHEMA s; ALTER FUNCTION g(int) SET SCHEMA s",
            "CREATE PROCEDURE p(x int) LANGUAGE sql AS $$ SELECT x $$",
            "GRANT EXECUTE ON PROCEDURE p(int) TO alice; REVOKE ALL ON FUNCTION f(int, text) FROM PUBLIC",
            "COMMENT ON FUNCTION f(int, text) IS 'it'",
            "CREATE AGGREGATE total(int) (sfunc = int4pl, stype = int, initcond = '0', combinefunc = int4pl, parallel = safe)",
            "CREATE AGGREGATE middle(float8 ORDER BY anyelement) (sfunc = ordered_set_transition, stype = internal, finalfunc = percentile_disc_final, finalfunc_extra)",
            "CREATE OPERATOR ### (function = int4pl, leftarg = int, rightarg = int, commutator = ###)",
            "COMMENT ON OPERATOR ### (int, int) IS 'adds'",
            "CREATE TYPE box2 AS (x int); CREATE FUNCTION as_int(box2) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT ($1).x'",
            "CREATE CAST (box2 AS int) WITH FUNCTION as_int(box2) AS ASSIGNMENT",
            "DROP CAST (box2 AS int); DROP OPERATOR ### (int, int); DROP AGGREGATE total(int), middle(float8 ORDER BY anyelement)",
            "DROP ROUTINE p(int), s.g(int)",
        ])
        .await;
    mirror.stop().await;
}

#[tokio::test]
async fn triggers_rules_and_policies_follow() {
    let mirror = Mirror::new().await;
    mirror
        .follows(&[
            "CREATE TABLE t (id int PRIMARY KEY, a text); CREATE TABLE log (n int)",
            "CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log VALUES (1); RETURN new; END $$",
            "CREATE TRIGGER tr AFTER INSERT OR UPDATE OF a ON t FOR EACH ROW WHEN (new.a IS NOT NULL) EXECUTE FUNCTION noted()",
            "INSERT INTO t VALUES (1, 'x'), (2, NULL)",
            "ALTER TRIGGER tr ON t RENAME TO trr",
            "ALTER TABLE t DISABLE TRIGGER trr",
            "INSERT INTO t VALUES (3, 'y')",
            "ALTER TABLE t ENABLE TRIGGER trr",
            "CREATE CONSTRAINT TRIGGER later AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION noted()",
            "COMMENT ON TRIGGER trr ON t IS 'x'",
            "INSERT INTO t VALUES (4, 'z')",
            "DROP TRIGGER later ON t",
            "CREATE RULE quiet AS ON INSERT TO log WHERE new.n > 100 DO INSTEAD NOTHING",
            "ALTER RULE quiet ON log RENAME TO silent; ALTER TABLE log DISABLE RULE silent",
            "DROP RULE silent ON log",
            "ALTER TABLE t ENABLE ROW LEVEL SECURITY; ALTER TABLE t FORCE ROW LEVEL SECURITY",
            "CREATE POLICY own ON t AS RESTRICTIVE FOR UPDATE TO alice, bob USING (id > 0) WITH CHECK (a <> '')",
            "CREATE POLICY all_of_it ON t USING (true)",
            "ALTER POLICY own ON t RENAME TO mine; ALTER POLICY mine ON t TO alice USING (id > 1)",
            "COMMENT ON POLICY mine ON t IS 'p'",
            "DROP POLICY all_of_it ON t; ALTER TABLE t NO FORCE ROW LEVEL SECURITY",
            "ALTER TABLE t RENAME TO tt",
            "INSERT INTO tt VALUES (5, 'after')",
        ])
        .await;
    mirror.stop().await;
}

#[tokio::test]
async fn sequences_grants_and_the_rest_follow() {
    let mirror = Mirror::new().await;
    mirror
        .follows(&[
            "CREATE SEQUENCE s AS smallint START 5 INCREMENT 2 MINVALUE 1 MAXVALUE 99 CACHE 3 CYCLE",
            "ALTER SEQUENCE s INCREMENT 3 NO CYCLE MAXVALUE 200; ALTER SEQUENCE s AS int; ALTER SEQUENCE s RENAME TO ss",
            "CREATE TABLE t (id int PRIMARY KEY DEFAULT nextval('ss')); ALTER SEQUENCE ss OWNED BY t.id",
            "INSERT INTO t DEFAULT VALUES",
            "ALTER SEQUENCE ss OWNED BY NONE; GRANT USAGE ON SEQUENCE ss TO alice; ALTER SEQUENCE ss OWNER TO bob",
            "GRANT SELECT, INSERT ON t TO alice WITH GRANT OPTION; GRANT SELECT ON ALL TABLES IN SCHEMA public TO bob",
            "REVOKE GRANT OPTION FOR SELECT ON t FROM alice; REVOKE INSERT ON t FROM alice",
            "CREATE SCHEMA x; GRANT USAGE, CREATE ON SCHEMA x TO alice",
            "ALTER DEFAULT PRIVILEGES IN SCHEMA x GRANT SELECT ON TABLES TO bob",
            "ALTER DEFAULT PRIVILEGES FOR ROLE alice REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC",
            "CREATE TABLE x.granted (i int PRIMARY KEY)",
            "ALTER DEFAULT PRIVILEGES IN SCHEMA x REVOKE SELECT ON TABLES FROM bob",
            "CREATE EXTENSION hstore SCHEMA x; CREATE TABLE h (id int PRIMARY KEY, h x.hstore); INSERT INTO h VALUES (1, 'a=>1')",
            "CREATE COLLATION german (provider = icu, locale = 'de')",
            "ALTER COLLATION german RENAME TO deutsch; COMMENT ON COLLATION deutsch IS 'x'",
            "CREATE TEXT SEARCH DICTIONARY d (TEMPLATE = simple, STOPWORDS = english)",
            "CREATE TEXT SEARCH CONFIGURATION c (COPY = english); ALTER TEXT SEARCH CONFIGURATION c ALTER MAPPING FOR asciiword WITH d; ALTER TEXT SEARCH CONFIGURATION c DROP MAPPING FOR url",
            "CREATE TABLE st (a int PRIMARY KEY, b int); CREATE STATISTICS stat (ndistinct, dependencies) ON a, b FROM st; ALTER STATISTICS stat SET STATISTICS 50; ALTER STATISTICS stat RENAME TO statt",
            "CREATE CONVERSION conv FOR 'UTF8' TO 'LATIN1' FROM utf8_to_iso8859_1",
            "REASSIGN OWNED BY bob TO alice",
            "ALTER TABLE t ALTER id DROP DEFAULT; DROP OWNED BY alice",
            "DROP TEXT SEARCH CONFIGURATION c; DROP TEXT SEARCH DICTIONARY d; DROP COLLATION deutsch; DROP CONVERSION conv; DROP STATISTICS statt",
            "DROP TABLE h; DROP EXTENSION hstore",
        ])
        .await;
    mirror.stop().await;
}
