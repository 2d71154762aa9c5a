//! What `provision` does not touch: said by `plan` and by `apply`, each with its fix, and nothing is changed.

use rds_sim::{Cluster, Fault, Instance};

use crate::account::{Account, TOPOLOGIES, Topology};

/// `plan`, `apply` and `verify` of a database stop at these.
async fn refused(account: &Account, id: &str, codes: &[&str], words: &[&str]) {
    let codes: Vec<String> = codes.iter().map(|code| format!("[{code}]")).collect();
    let codes: Vec<&str> = codes.iter().map(String::as_str).collect();
    account.provision(&["plan", id]).await.ends(1).prints(&codes).prints(words).prints(&["fix:"]);
    account.provision(&["verify", id]).await.ends(1).prints(&codes).prints(&["is not ready"]);
    let applied = account.provision(&["apply", id, "--yes"]).await.ends(1).says(&codes).says(words);
    applied.says(&["aws::provision::blocked", &format!("{id} cannot be prepared: nothing was changed")]);
    let applied = account.provision(&["apply", id, "--no-reboot", "--json"]).await.ends(1).says(&codes);
    assert_eq!(applied.out, "", "only what was done is printed");
    assert_eq!(account.changes(), [""; 0]);
}

/// Names that are refused before anything is asked of a database.
async fn refused_by_name(account: &Account, name: &str, code: &str, help: &str) {
    for command in [&["plan", name][..], &["verify", name], &["apply", name, "--yes"], &["rollback", name, "--yes"]] {
        account.provision(command).await.ends(1).says(&[code, help]);
    }
    assert_eq!(account.changes(), [""; 0]);
}

#[tokio::test]
async fn other_pending_changes_are_not_flushed() {
    for topology in TOPOLOGIES {
        let account = Account::with(topology).await;
        account.simulator.add_pending_modification("shop", "EngineVersion", "17.1");
        refused(&account, "shop", &["pending_changes"], &["would be made at once: EngineVersion"]).await;
    }
    // Nor on the way back; where nothing is attached they are in nobody's way.
    let account = Account::with(Topology::Instance).await;
    account.provision(&["apply", "shop", "--yes"]).await.ok();
    account.simulator.add_pending_modification("shop", "AllocatedStorage", "100");
    account.provision(&["apply", "shop", "--yes"]).await.ok().prints(&["nothing was changed"]);
    account.provision(&["verify", "shop"]).await.ok();
    let rolled = account.provision(&["rollback", "shop", "--yes"]).await.ends(1);
    rolled.says(&["[pending_changes]", "AllocatedStorage", "nothing was changed"]);
    account.assert_ready("after the refusal");
}

#[tokio::test]
async fn a_group_that_others_share_is_left_alone_and_copied() {
    let account = Account::new().await;
    account.declare(Topology::Instance, Some("tuned"));
    account.simulator.declare_instance(Instance::new("billing").major(16).group("tuned"));
    account.provision(&["plan", "shop"]).await.ok().prints(&["also used by", "billing", "a copy of it is changed"]);
    account.provision(&["apply", "shop", "--yes"]).await.ok();
    let billing = account.simulator.seen("billing");
    assert_eq!((billing.group.as_str(), billing.apply_status, billing.reboots), ("tuned", "in-sync", 0));
}

#[tokio::test]
async fn our_group_that_others_use_by_now_is_changed_only_when_told() {
    for topology in [Topology::Instance, Topology::Aurora] {
        let account = Account::with(topology).await;
        let create = format!("Create{}ParameterGroup", topology.word());
        let modify = format!("Modify{}ParameterGroup", topology.word());
        account.simulator.faults().next(&modify, usize::MAX, Fault::Deny);
        account.provision(&["apply", "shop", "--yes"]).await.ends(1).says(&["aws::access_denied"]);
        account.simulator.faults().clear();
        assert_eq!(account.changes(), [create, modify]);
        let group = account.simulator.groups().into_iter().find(|group| group.name.starts_with("pgstream-")).unwrap();
        match topology {
            Topology::Instance => {
                account.simulator.declare_instance(Instance::new("billing").major(16).group(&group.name))
            }
            _ => account.simulator.declare_cluster(Cluster::aurora("billing").group(&group.name)),
        }
        let before = account.changes();
        let told = ["[shared_group]", "also used by billing", "--change-shared-group"];
        account.provision(&["plan", "shop"]).await.ends(1).prints(&told);
        account.provision(&["apply", "shop", "--yes"]).await.ends(1).says(&told);
        account.provision(&["rollback", "shop", "--yes"]).await.ends(1).says(&["[shared_group]"]);
        assert_eq!(account.changes(), before);
        account.provision(&["apply", "shop", "--yes", "--change-shared-group"]).await.ok();
        account.assert_ready(&format!("{topology:?}, told"));
        assert_eq!(account.simulator.seen("billing").reboots, 0);
    }
}

#[tokio::test]
async fn a_group_of_our_name_that_is_not_ours_is_not_touched() {
    let account = Account::with(Topology::Instance).await;
    account.simulator.declare_instance(Instance::new("other").major(16).group("pgstream-shop-postgres16"));
    refused(&account, "shop", &["group_taken"], &["was not made by this program for this database"]).await;
    account.provision(&["rollback", "shop", "--yes"]).await.ok().prints(&["nothing was changed"]);
    assert_eq!(account.changes(), [""; 0]);
}

#[tokio::test]
async fn readers_and_proxies_are_refused_by_their_names() {
    let account = Account::with(Topology::Aurora).await;
    let host = |label: &str| format!("shop.{label}.eu-west-1.rds.amazonaws.com");
    for reader in ["shop-instance-2", &host("cluster-ro-c9x"), &host("cluster-custom-c9x")] {
        refused_by_name(&account, reader, "aws::provision::reader", "name the cluster").await;
    }
    for proxy in [&host("proxy-c9x"), "arn:aws:rds:eu-west-1:123456789012:db-proxy:prx-1"] {
        refused_by_name(&account, proxy, "aws::provision::proxy", "name the database behind it").await;
    }
    // So they are when the configuration leads to them.
    let target = "postgresql://u:p@127.0.0.1:1/app";
    for (label, code) in [("cluster-ro-c9x", "aws::provision::reader"), ("proxy-c9x", "aws::provision::proxy")] {
        let config = account.configure(&format!("postgresql://u:p@{}:5432/app", host(label)), target);
        account.provision(&["apply", "-c", config.to_str().unwrap(), "--yes"]).await.ends(1).says(&[code]);
    }
    // The writer and the cluster's endpoint are the cluster.
    for writer in ["shop-instance-1", &host("cluster-c9x"), "arn:aws:rds:eu-west-1:123456789012:cluster:shop"] {
        account.provision(&["plan", writer]).await.ok().prints(&["shop (Aurora cluster, eu-west-1)"]);
    }
}

#[tokio::test]
async fn a_read_replica_is_refused_and_its_primary_is_not() {
    let account = Account::with(Topology::Instance).await;
    account.simulator.declare_instance(Instance::new("shop-copy").major(16).replica_of("shop"));
    refused(&account, "shop-copy", &["replica"], &["shop-copy is a read replica of shop", "name shop"]).await;
    account.provision(&["plan", "shop"]).await.ok().prints(&["have groups of their own and are left alone: shop-copy"]);
    account.provision(&["apply", "shop", "--yes"]).await.ok();
    let copy = account.simulator.seen("shop-copy");
    assert_eq!((copy.group.as_str(), copy.reboots), ("default.postgres16", 0));
}

#[tokio::test]
async fn a_blue_green_deployment_comes_first() {
    for topology in TOPOLOGIES {
        let account = Account::with(topology).await;
        account.simulator.add_blue_green("shop", "upgrade-17", "AVAILABLE");
        refused(&account, "shop", &["blue_green"], &["upgrade-17 (AVAILABLE)", "a slot does not move to it"]).await;
    }
    let account = Account::with(Topology::Instance).await;
    account.simulator.add_blue_green("shop", "upgrade-16", "SWITCHOVER_COMPLETED");
    account.provision(&["apply", "shop", "--yes"]).await.ok();
    account.simulator.add_blue_green("shop", "upgrade-17", "PROVISIONING");
    account
        .provision(&["rollback", "shop", "--yes"])
        .await
        .ends(1)
        .says(&["[blue_green]", "upgrade-17 (PROVISIONING)"]);
    account.assert_ready("after the refusal");
}

#[tokio::test]
async fn a_database_that_does_not_become_available_by_itself_is_not_waited_for() {
    for (status, fix) in [
        ("stopped", "start-db-instance"),
        ("storage-full", "raise its storage"),
        ("incompatible-parameters", "RDS console"),
        ("inaccessible-encryption-credentials", "RDS console"),
    ] {
        let account = Account::with(Topology::Instance).await;
        account.simulator.set_status("shop", status);
        refused(&account, "shop", &["status"], &[&format!("shop is {status}"), fix]).await;
    }
    // One that may is waited for, for so long.
    let account = Account::with(Topology::MultiAzCluster).await;
    account.simulator.set_status("shop", "backing-up");
    account.provision(&["plan", "shop"]).await.ok().prints(&["shop is backing-up: apply waits"]);
    let waited = account.provision(&["apply", "shop", "--yes", "--timeout", "1"]).await.ends(1);
    waited.says(&["aws::provision::timeout", "shop is still backing-up"]);
    assert_eq!(account.changes(), [""; 0]);
}

#[tokio::test]
async fn what_wins_over_the_cluster_group_is_named() {
    let account = Account::new().await;
    let tuned = Cluster::aurora("shop")
        .writer_parameter("rds.logical_replication", "0")
        .writer_parameter("max_wal_senders", "20");
    account.simulator.declare_cluster(tuned);
    let words =
        ["sets max_wal_senders=20", "sets rds.logical_replication=0", "the instance parameter group of the writer"];
    refused(&account, "shop", &["overridden"], &words).await;
}

#[tokio::test]
async fn engines_that_cannot_are_named() {
    let account = Account::new().await;
    account.simulator.declare_cluster(Cluster::multi_az("old").major(13));
    refused(&account, "old", &["version"], &["from 14.8 and 15.3 on; this is 13.9"]).await;
    account.simulator.declare_cluster(Cluster::aurora("v1").serverless_v1());
    refused(&account, "v1", &["serverless_v1"], &["Serverless v1 has no logical replication"]).await;
}

#[tokio::test]
async fn everything_that_is_in_the_way_is_said_at_once() {
    let account = Account::with(Topology::Aurora).await;
    account.simulator.add_pending_modification("shop", "EngineVersion", "17.1");
    account.simulator.add_blue_green("shop", "upgrade-17", "PROVISIONING");
    account.simulator.set_status("shop", "storage-full");
    refused(&account, "shop", &["pending_changes", "blue_green", "status"], &[]).await;
    let plan = account.provision(&["plan", "shop", "--json"]).await.ends(1).json();
    assert_eq!(plan["blockers"].as_array().unwrap().len(), 3, "{plan}");
}

#[tokio::test]
async fn a_rollback_waits_until_the_last_slot_is_dropped() {
    let account = Account::new().await;
    let shop = account.simulator.create_instance(Instance::new("shop")).await.unwrap();
    let url = shop.url("app");
    account.provision(&["apply", "shop", "--postgres-url", &url, "--yes"]).await.ok();
    let here = shop.cluster().client("app").await;
    here.batch("SELECT pg_create_logical_replication_slot('left_over', 'pgoutput')").await;
    let before = account.changes();
    // Without a way to ask, it is said before anybody is asked to agree.
    account
        .provision(&["rollback", "shop"])
        .await
        .ends(2)
        .prints(&["was not asked for logical slots", "--postgres-url"]);
    let rolled = account.provision(&["rollback", "shop", "--postgres-url", &url, "--yes"]).await.ends(1);
    rolled.says(&["[slots_exist]", "left_over", "pgstream-aws destroy"]);
    assert_eq!(account.changes(), before);
    here.batch("SELECT pg_drop_replication_slot('left_over')").await;
    drop(here);
    account.provision(&["rollback", "shop", "--postgres-url", &url, "--yes"]).await.ok();
    account.assert_as_before("without slots");
}
