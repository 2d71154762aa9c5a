//! Who is recorded, what is kept of it, and what happens when it cannot be.

use super::mirror::Mirror;
use crate::harness::describe;

/// A role that owns nothing and may create tables in a schema of its own.
const MALLORY: &str = "CREATE ROLE mallory LOGIN; CREATE SCHEMA own AUTHORIZATION mallory";

#[tokio::test]
async fn a_role_without_rights_on_the_log_is_recorded_and_cannot_write_it() {
    let mirror = Mirror::new().await;
    mirror.target().batch("CREATE ROLE mallory").await;
    mirror.run(&[MALLORY]).await;
    let session = mirror.as_role("mallory").await;
    session
        .batch_execute(
            "CREATE TABLE own.t (id int PRIMARY KEY); INSERT INTO own.t VALUES (1); ALTER TABLE own.t ADD v int",
        )
        .await
        .unwrap();
    for forged in [
        "INSERT INTO pgstream.schema_log (command, objects) VALUES ('DROP TABLE', '[]')",
        "SELECT pgstream.ddl_write('DROP TABLE', '[{}]')",
        "DELETE FROM pgstream.ddl_objects",
    ] {
        let refused = session.batch_execute(forged).await.unwrap_err();
        assert_eq!(refused.code().map(|code| code.code()), Some("42501"), "{forged}");
    }
    // Only members of the log's owner may leave a command out.
    session.batch_execute("SET pgstream.skip_log = 'true'; ALTER TABLE own.t ADD w int").await.unwrap();
    mirror.is_equal().await;
    mirror.stop().await;
}

#[tokio::test]
async fn passwords_are_not_kept() {
    let mirror = Mirror::new().await;
    mirror
        .run(&["CREATE TABLE t (id int PRIMARY KEY); CREATE ROLE secretive PASSWORD 'hunter2'; ALTER ROLE secretive WITH ENCRYPTED PASSWORD $$hunter2$$"])
        .await;
    mirror.caught_up().await;
    let kept: String = mirror.source().scalar("SELECT string_agg(query, ' ') FROM pgstream.schema_log").await;
    assert!(kept.contains("***") && !kept.contains("hunter2"), "{kept}");
    mirror.stop().await;
}

#[tokio::test]
async fn a_prepared_transaction_brings_its_changes_when_it_commits() {
    let (source, target) = pgstream_testkit::pair_with(
        pgstream_testkit::Cluster::builder().setting("max_prepared_transactions", "5"),
        pgstream_testkit::Cluster::builder(),
    )
    .await;
    let mirror = Mirror::on(source, target).await;
    mirror
        .follows(&[
            "CREATE TABLE t (id int PRIMARY KEY)",
            "BEGIN; ALTER TABLE t ADD v int; INSERT INTO t VALUES (1, 2); PREPARE TRANSACTION 'one'",
            "COMMIT PREPARED 'one'",
            "BEGIN; ALTER TABLE t ADD w int; PREPARE TRANSACTION 'two'",
            "ROLLBACK PREPARED 'two'",
            "INSERT INTO t VALUES (2, 3)",
        ])
        .await;
    mirror.stop().await;
}

#[tokio::test]
async fn what_cannot_be_described_stops_the_stream_or_the_command() {
    let mut mirror = Mirror::new().await;
    mirror.run(&["CREATE TABLE t (id int PRIMARY KEY)"]).await;
    mirror.caught_up().await;
    // As if a later server had a catalog that the function does not understand.
    let broken = "CREATE OR REPLACE FUNCTION pgstream.ddl_schema(whole oid) RETURNS jsonb LANGUAGE plpgsql AS
                  $$ BEGIN RAISE 'not understood'; END $$";
    mirror.run(&[broken]).await;
    let here = mirror.as_role("postgres").await;
    here.batch_execute("SET pgstream.capture_failure = 'error'").await.unwrap();
    let refused = here.batch_execute("CREATE SCHEMA strict").await.unwrap_err();
    assert!(refused.to_string().contains("db error"), "{refused}");
    mirror.run(&["CREATE SCHEMA lax"]).await;
    let error = mirror.failure().await;
    let text = describe(&error);
    assert!(text.contains("CREATE SCHEMA") && text.contains("not understood"), "{text}");
}

#[tokio::test]
async fn foreign_data_objects_are_reported_and_left() {
    let mirror = Mirror::new().await;
    mirror
        .run(&[
            "CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER far FOREIGN DATA WRAPPER nowhere OPTIONS (password 'hunter2')",
            "CREATE FOREIGN TABLE there (id int) SERVER far",
            "CREATE TABLE t (id int PRIMARY KEY)",
            "DROP FOREIGN TABLE there",
        ])
        .await;
    mirror.caught_up().await;
    let notes: String = mirror
        .target()
        .scalar(
            "SELECT array_to_string(array_agg(array_to_string(notes, ' ') ORDER BY id), ' ') FROM pgstream.ddl_applied",
        )
        .await;
    assert!(notes.contains("server far is not carried over") && notes.contains("foreign table"), "{notes}");
    assert_eq!(mirror.target().scalar::<i64>("SELECT count(*) FROM pg_class WHERE relname = 't'").await, 1);
    mirror.stop().await;
}

#[tokio::test]
async fn a_role_that_the_target_lacks_is_a_note() {
    let mirror = Mirror::new().await;
    mirror.run(&["CREATE ROLE only_here; CREATE TABLE t (id int PRIMARY KEY); GRANT SELECT ON t TO only_here; ALTER TABLE t OWNER TO only_here"]).await;
    mirror.caught_up().await;
    let notes = "SELECT count(*) FROM pgstream.ddl_applied WHERE notes::text LIKE '%only_here%' AND state = 'applied'";
    assert_eq!(mirror.target().scalar::<i64>(notes).await, 2);
    mirror.stop().await;
}

#[tokio::test]
async fn a_target_role_without_superuser_replays_what_it_owns() {
    let mut mirror = Mirror::new().await;
    mirror.caught_up().await;
    mirror
        .target()
        .batch(
            "CREATE ROLE pgstreamtarget LOGIN PASSWORD 'secret'; ALTER DATABASE app OWNER TO pgstreamtarget;
             ALTER SCHEMA public OWNER TO pgstreamtarget; ALTER TABLE marker OWNER TO pgstreamtarget;
             ALTER SCHEMA pgstream OWNER TO pgstreamtarget;
             DO $$ DECLARE t regclass; BEGIN
                 FOR t IN SELECT oid FROM pg_class WHERE relnamespace = 'pgstream'::regnamespace AND relkind = 'r' LOOP
                     EXECUTE format('ALTER TABLE %s OWNER TO pgstreamtarget', t); END LOOP; END $$",
        )
        .await;
    mirror.restart_as("pgstreamtarget", "secret").await;
    mirror
        .run(&[
            "CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY, p int REFERENCES p)",
            "INSERT INTO p VALUES (1); INSERT INTO t VALUES (1, 1)",
            "BEGIN; ALTER TABLE t ADD v float8 DEFAULT random(); UPDATE t SET v = 2; COMMIT",
            "CREATE TABLE q AS SELECT * FROM t; CREATE INDEX ON q (id); CREATE VIEW w AS SELECT * FROM q",
            "ALTER TABLE t RENAME p TO parent; DROP VIEW w; CREATE SCHEMA s; ALTER TABLE q SET SCHEMA s",
        ])
        .await;
    mirror.caught_up().await;
    pgstream_testkit::assert_same_rows(&mirror.pair().source, &mirror.pair().target, "app").await;
    let owner: String =
        mirror.target().scalar("SELECT relowner::regrole::text FROM pg_class WHERE relname = 'q'").await;
    assert_eq!(owner, "pgstreamtarget");
    mirror.stop().await;
}
