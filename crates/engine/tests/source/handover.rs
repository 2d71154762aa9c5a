//! The administrator prepares, another role replicates: users run ALTER … OWNER on names that are fixed.

use pgstream_engine::source::{Action, InitSettings};
use pgstream_testkit::cluster;

use crate::setup::{app, assert_nothing_wrong, init, init_with, only_fix, role, try_init};

/// As the onboarding guide has it.
const HAND_OVER: &str = "
    ALTER SCHEMA pgstream OWNER TO pgstreamsource;
    ALTER TABLE pgstream.schema_log OWNER TO pgstreamsource;
    ALTER TABLE pgstream.table_ids OWNER TO pgstreamsource;
    ALTER SEQUENCE pgstream.xid_serial OWNER TO pgstreamsource";

#[tokio::test]
async fn matrix_source_state_can_be_handed_over() {
    let cluster = cluster().await;
    let client = cluster.client("app").await;
    client.batch("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int)").await;
    init(&app(&cluster)).await;
    let source = role(&cluster, "pgstreamsource", "REPLICATION").await;
    client.batch(HAND_OVER).await;

    let report = init(&source).await;
    assert!(report.steps.iter().all(|step| step.action == Action::Kept), "{:#?}", report.steps);
    assert_nothing_wrong(&source).await;
    // It reads what it needs, and streams.
    let session = source.connect(&pgstream_postgres::Session::new("test")).await.unwrap();
    assert!(pgstream_engine::source::slot::fence(&session, "pgstream_app_slot").await.unwrap().is_some());
    source.replicate().await.unwrap().identify_system().await.unwrap();

    // A slot of its own needs one more statement, which it is told.
    let second = InitSettings { slot: Some("second".to_owned()), ..InitSettings::default() };
    let fix = only_fix(try_init(&source, &second).await);
    assert_eq!(fix, "as its owner: ALTER TABLE pgstream.replication_slots OWNER TO \"pgstreamsource\";");
    client.batch("ALTER TABLE pgstream.replication_slots OWNER TO pgstreamsource").await;
    init_with(&source, &second).await;
    // The administrator is not locked out.
    assert_nothing_wrong(&app(&cluster)).await;
}

#[tokio::test]
async fn default_privileges_do_not_let_others_write_ddl() {
    let cluster = cluster().await;
    let client = cluster.client("app").await;
    client
        .batch(
            "CREATE ROLE \"app user\"; ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO \"app user\", PUBLIC;
             ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO \"app user\"",
        )
        .await;
    init(&app(&cluster)).await;
    let sql =
        "SELECT string_agg(DISTINCT c.relname || ' ' || a.privilege_type, ', ') FROM pg_class c, aclexplode(c.relacl) a
               WHERE relnamespace = 'pgstream'::regnamespace AND a.grantee <> c.relowner";
    let granted = client.text(sql).await.unwrap();
    assert_eq!(granted, "ddl_objects SELECT, migrations SELECT, replica_identities SELECT, replication_slots SELECT");
}
