//! From a database as RDS makes it to one that is followed, on real servers behind a simulator of the RDS API.

use pgstream_testkit::{assert_same_rows, cluster};
use rds_sim::{Cluster, Database, Instance};

use crate::{account::Account, replicator::Replicator};

async fn wal_level(database: &Database) -> String {
    database.cluster().client("app").await.text("SHOW wal_level").await.unwrap()
}

#[tokio::test]
async fn a_database_as_rds_makes_it_is_provisioned_prepared_copied_and_followed() {
    let account = Account::new().await;
    let shop = account.simulator.create_instance(Instance::new("shop")).await.unwrap();
    let target = cluster().await;
    let here = shop.cluster().client("app").await;
    here.batch("CREATE TABLE item (id int PRIMARY KEY, text text); INSERT INTO item SELECT n, 'a' FROM generate_series(1, 1000) AS n").await;
    here.batch("GRANT ALL ON SCHEMA public TO master; ALTER TABLE item OWNER TO master").await;
    let config = account.configure(&shop.url("app"), &target.url("app"));
    let config = config.to_str().unwrap();
    let pgstream = async |arguments: &[&str]| Replicator::start(&[arguments, &["-c", config]].concat()).done().await;

    pgstream(&["init"]).await.ends(1).says(&["wal_level"]);
    account.provision(&["verify", "-c", config]).await.ends(1);
    account.provision(&["plan", "-c", config]).await.ok().prints(&["rds.logical_replication", "RebootDBInstance"]);
    assert!(account.changes().is_empty(), "a plan changes nothing");
    assert_eq!(wal_level(&shop).await, "replica");

    account.provision(&["apply", "-c", config, "--yes"]).await.ok();
    assert_eq!(wal_level(&shop).await, "logical");
    account.provision(&["verify", "-c", config]).await.ok();
    let changes = account.changes();
    account.provision(&["apply", "-c", config, "--yes"]).await.ok();
    assert_eq!(account.changes(), changes, "the second time there is nothing to do");

    pgstream(&["init"]).await.ok();
    let mut running = Replicator::start(&["run", "-c", config]);
    running.says("streaming").await;
    shop.cluster().client("app").await.batch("UPDATE item SET text = 'b' WHERE id % 2 = 0").await;
    target.client("app").await.wait_until("SELECT count(*) FROM item WHERE text = 'b'", "500").await;
    assert_same_rows(shop.cluster(), &target, "app").await;
    running.stop().await.ok();
}

#[tokio::test]
async fn every_topology_is_brought_to_logical_replication_and_back() {
    let account = Account::new().await;
    let simulator = &account.simulator;
    let databases = [
        ("single", simulator.create_instance(Instance::new("single").major(16).multi_az()).await.unwrap()),
        (
            "custom",
            simulator
                .create_instance(Instance::new("custom").major(15).group("theirs").parameter("work_mem", "8192"))
                .await
                .unwrap(),
        ),
        ("aur", simulator.create_cluster(Cluster::aurora("aur").serverless_v2(0.0)).await.unwrap()),
        ("maz", simulator.create_cluster(Cluster::multi_az("maz").major(17)).await.unwrap()),
    ];
    for (id, database) in &databases {
        let url = database.url("app");
        account.provision(&["apply", id, "--postgres-url", &url, "--yes"]).await.ok();
        assert_eq!(wal_level(database).await, "logical", "{id}");
        account.provision(&["verify", id, "--postgres-url", &url]).await.ok();
        let changes = account.changes();
        account.provision(&["apply", id, "--postgres-url", &url, "--yes"]).await.ok();
        assert_eq!(account.changes(), changes, "{id}");
        account.provision(&["rollback", id, "--postgres-url", &url, "--yes"]).await.ok();
        assert_eq!(wal_level(database).await, "replica", "{id}");
    }
    let kept = databases[1].1.cluster().client("app").await;
    assert_eq!(kept.text("SELECT setting FROM pg_settings WHERE name = 'work_mem'").await.as_deref(), Some("8192"));
}

#[tokio::test]
async fn a_reader_and_serverless_v1_are_refused_with_the_reason() {
    let account = Account::new().await;
    account.simulator.create_cluster(Cluster::aurora("aur")).await.unwrap();
    account.simulator.create_cluster(Cluster::aurora("old").serverless_v1()).await.unwrap();
    account.simulator.create_instance(Instance::new("primary")).await.unwrap();
    account.simulator.create_instance(Instance::new("copy").replica_of("primary")).await.unwrap();
    for (id, words) in [("aur-instance-2", "reader"), ("old", "Serverless v1"), ("copy", "replica")] {
        account.provision(&["apply", id, "--yes"]).await.ends(1).says(&[words]);
    }
    assert!(account.changes().is_empty());
}

#[tokio::test]
async fn a_reboot_that_never_ends_and_a_group_that_fails_to_apply_are_said() {
    let account = Account::new().await;
    account.simulator.create_instance(Instance::new("shop")).await.unwrap();
    account.simulator.faults().parameters_fail_to_apply();
    account
        .provision(&["apply", "shop", "--yes", "--timeout", "5"])
        .await
        .ends(1)
        .says(&["[failed_to_apply]", "stopped after 3 changes"]);
    account.simulator.faults().clear();

    account.simulator.create_instance(Instance::new("slow")).await.unwrap();
    account.simulator.faults().reboot_never_ends();
    account.provision(&["apply", "slow", "--yes", "--timeout", "5"]).await.ends(1).says(&["rebooting"]);
}
