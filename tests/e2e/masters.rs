//! `users apply` by the master user of RDS, who is no superuser: the roles that it makes copy and follow.

use pgstream_testkit::assert_same_rows;
use rds_sim::{Database, Instance, Options, Simulator};

use crate::{
    credentials::{emulator, name},
    replicator::{Done, Replicator},
};

/// Whose tables are to be copied: an owner that the master user has made, as applications have them.
const SHOP: &str = "CREATE ROLE app_owner; GRANT app_owner TO CURRENT_USER; GRANT CREATE ON DATABASE app TO app_owner;
    CREATE SCHEMA shop AUTHORIZATION app_owner; SET ROLE app_owner;
    CREATE TABLE shop.t (id serial PRIMARY KEY, n int); INSERT INTO shop.t (n) SELECT g FROM generate_series(1, 50) g; RESET ROLE";

async fn master(database: &Database) -> pgstream_testkit::Client {
    pgstream_testkit::Client::open(&database.url("app")).await.unwrap()
}

async fn a_master_user_makes_roles(major: u32) {
    let simulator = Simulator::start(Options::default()).await.unwrap();
    let emulator = emulator().await;
    let logical = Instance::new("shop").major(major).group("logical").parameter("rds.logical_replication", "1");
    let source = simulator.create_instance(logical).await.unwrap();
    let target = simulator.create_instance(Instance::new("copy").major(major)).await.unwrap();
    master(&source).await.batch(SHOP).await;
    let pgstream =
        async |arguments: &[&str]| -> Done { Replicator::start_in(arguments, emulator.environment()).done().await };
    let (here, there) = (source.url("app"), target.url("app"));
    pgstream(&["init", "--postgres-url", &here]).await.ok();
    let (reader, writer) = (name("reader"), name("writer"));
    let made = ["users", "apply", "--yes", "--role", "source", "--admin-url", &here, "--secret", &reader];
    pgstream(&made).await.ok().prints(&["GRANT rds_replication TO \"pgstreamsource\""]);
    // RDS lets members of rds_replication replicate; here it takes the attribute.
    source.cluster().client("app").await.batch("ALTER ROLE pgstreamsource REPLICATION").await;
    let made = ["users", "apply", "--yes", "--role", "target", "--admin-url", &there, "--secret", &writer];
    let made = [made.as_slice(), &["--source-url", &here, "--no-privileges"]].concat();
    pgstream(&made).await.ok();
    pgstream(&made).await.ok();

    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("pipeline.yaml");
    let text = format!(
        "source: {{postgres: {{url: 'secretsmanager://{reader}', mode: snapshot_and_replication, \
         snapshot: {{schema: {{pgdump_pgrestore: {{roles_snapshot_mode: disabled, no_privileges: true}}}}}}}}}}\n\
         target: {{postgres: {{url: 'secretsmanager://{writer}'}}}}\n"
    );
    std::fs::write(&config, text).unwrap();
    let mut running = Replicator::start_in(&["run", "-c", config.to_str().unwrap()], emulator.environment());
    running.says("streaming").await;
    master(&source).await.batch("SET ROLE app_owner; INSERT INTO shop.t (n) VALUES (51)").await;
    let there = target.cluster().client("app").await;
    let arrived = "SELECT count(*) FROM shop.t t, pg_class c WHERE c.oid = 'shop.t'::regclass AND relowner = 'app_owner'::regrole";
    there.wait_until(arrived, "51").await;
    running.stop().await.ok();
    assert_same_rows(source.cluster(), target.cluster(), "app").await;
}

#[tokio::test]
async fn roles_that_a_master_user_makes_copy_and_follow_on_18() {
    a_master_user_makes_roles(18).await;
}

#[tokio::test]
async fn roles_that_a_master_user_makes_copy_and_follow_on_15() {
    a_master_user_makes_roles(15).await;
}

#[tokio::test]
async fn roles_that_a_master_user_makes_copy_and_follow_on_13() {
    a_master_user_makes_roles(13).await;
}
