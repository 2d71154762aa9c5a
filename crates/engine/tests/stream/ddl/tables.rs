use super::mirror::Mirror;

#[tokio::test]
async fn tables_are_created_renamed_moved_and_dropped() {
    let mirror = Mirror::new().await;
    mirror
        .follows(&[
            "CREATE SCHEMA s; CREATE SCHEMA \"S 2\" AUTHORIZATION alice",
            "CREATE TABLE s.t (id serial PRIMARY KEY, v text); INSERT INTO s.t (v) VALUES ('a'), ('b')",
            "CREATE TABLE s.\"T; drop\" (LIKE s.t INCLUDING ALL)",
            "INSERT INTO s.\"T; drop\" VALUES (7, 'x')",
            "CREATE UNLOGGED TABLE s.u (i int)",
            "ALTER TABLE s.t RENAME TO tt",
            "INSERT INTO s.tt (v) VALUES ('c')",
            "ALTER TABLE s.tt SET SCHEMA \"S 2\"",
            "UPDATE \"S 2\".tt SET v = 'moved' WHERE id = 1",
            "ALTER SCHEMA \"S 2\" RENAME TO s3",
            "INSERT INTO s3.tt (v) VALUES ('after the schema was renamed')",
            "ALTER TABLE s3.tt OWNER TO bob",
            "ALTER TABLE s.u SET LOGGED",
            "COMMENT ON TABLE s3.tt IS 'comment'; COMMENT ON SCHEMA s3 IS 'comment'",
            "ALTER TABLE s3.tt SET (fillfactor = 70, autovacuum_enabled = false)",
            "ALTER TABLE s3.tt RESET (autovacuum_enabled)",
            "ALTER TABLE s3.tt SET (toast.autovacuum_enabled = false)",
            "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a)",
            "ALTER TABLE a ADD b int REFERENCES b",
            "DROP TABLE a, b",
            "DROP TABLE s.\"T; drop\", s.u",
            "DROP SCHEMA s3 CASCADE",
        ])
        .await;
    mirror.stop().await;
}

#[tokio::test]
async fn what_a_function_a_block_or_a_string_of_commands_does_is_followed_command_by_command() {
    let mirror = Mirror::new().await;
    mirror
        .follows(&[
            "CREATE FUNCTION make(name text) RETURNS void LANGUAGE plpgsql AS $$
             BEGIN EXECUTE format('CREATE TABLE %I (id int PRIMARY KEY)', name);
                   EXECUTE format('INSERT INTO %I VALUES (1)', name);
                   EXECUTE format('ALTER TABLE %I ADD v int DEFAULT 3', name); END $$",
            "SELECT make('one'), make('two')",
            "DO $$ BEGIN CREATE TABLE three (id int PRIMARY KEY); INSERT INTO three VALUES (3); DROP TABLE one; END $$",
            "CREATE TABLE four (id int PRIMARY KEY); INSERT INTO four VALUES (1); ALTER TABLE four RENAME TO five; INSERT INTO five VALUES (2)",
            "SET search_path = pg_catalog; CREATE TABLE public.six (id int PRIMARY KEY, t public.five); RESET search_path",
            "BEGIN; CREATE TABLE seven (i int); SAVEPOINT a; CREATE TABLE eight (i int); ROLLBACK TO a; INSERT INTO seven VALUES (1); COMMIT",
            "BEGIN; CREATE TABLE nine (i int); ROLLBACK",
            "SET SESSION AUTHORIZATION alice; RESET SESSION AUTHORIZATION",
        ])
        .await;
    mirror.stop().await;
}

#[tokio::test]
async fn tables_filled_by_a_query_have_their_rows() {
    let mirror = Mirror::new().await;
    mirror
        .follows(&[
            "CREATE TABLE t (id int PRIMARY KEY, v float8)",
            "INSERT INTO t SELECT i, random() FROM generate_series(1, 500) i",
            "CREATE TABLE copy AS SELECT * FROM t WHERE id % 2 = 0",
            "UPDATE copy SET v = 0 WHERE id < 100",
            "SELECT id, v, random() AS r INTO another FROM t",
            "BEGIN; INSERT INTO t VALUES (0, 0); CREATE TABLE third AS SELECT * FROM t; DELETE FROM third WHERE id = 1; UPDATE t SET v = 1 WHERE id = 2; COMMIT",
            "BEGIN; CREATE TABLE gone AS SELECT * FROM t; DROP TABLE gone; COMMIT",
            "CREATE TABLE renamed AS SELECT * FROM t; ALTER TABLE renamed RENAME TO other; ALTER TABLE other ADD x int DEFAULT 3; INSERT INTO other VALUES (9999, 1, 2)",
            "CREATE TABLE empty AS SELECT * FROM t WITH NO DATA",
        ])
        .await;
    mirror.stop().await;
}

#[tokio::test]
async fn inheritance_follows() {
    let mirror = Mirror::new().await;
    mirror
        .follows(&[
            "CREATE TABLE p (id int PRIMARY KEY, a text DEFAULT 'p', CHECK (id > 0))",
            "CREATE TABLE c (b int) INHERITS (p); CREATE TABLE d (b int) INHERITS (c)",
            "INSERT INTO c VALUES (1, 'x', 2); INSERT INTO d (id) VALUES (3)",
            "ALTER TABLE p ADD n int DEFAULT 5",
            "ALTER TABLE p RENAME a TO aa",
            "ALTER TABLE p ALTER aa SET DEFAULT 'q'",
            "ALTER TABLE c ALTER aa SET DEFAULT 'only here'",
            "ALTER TABLE p ADD CONSTRAINT small CHECK (n < 100)",
            "ALTER TABLE p ALTER n TYPE bigint",
            "ALTER TABLE d NO INHERIT c",
            "ALTER TABLE d INHERIT c",
            "ALTER TABLE p DROP n",
            "DROP TABLE p CASCADE",
        ])
        .await;
    mirror.stop().await;
}
