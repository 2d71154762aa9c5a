//! `provision` against the RDS API: what is planned, what is done, how it ends.

use serde_json::json;

use crate::account::{Account, TOPOLOGIES, Topology};

#[tokio::test]
async fn a_plan_changes_nothing() {
    for topology in TOPOLOGIES {
        let account = Account::with(topology).await;
        let plan = account.provision(&["plan", "shop"]).await.ok();
        plan.prints(&["rds.logical_replication", "pgstream-shop-", topology.reboot()]).prints(&["downtime"]);
        let plan = account.provision(&["plan", "shop", "--json"]).await.ok().json();
        assert_eq!((&plan["blockers"], plan["steps"].as_array().unwrap().len()), (&json!([]), 4), "{plan}");
        account.provision(&["verify", "shop"]).await.ends(1).prints(&["To do", "not ready"]);
        assert_eq!(account.changes(), [""; 0], "{topology:?}");
    }
}

#[tokio::test]
async fn apply_reboots_once_and_a_second_apply_changes_nothing() {
    for topology in TOPOLOGIES {
        let (account, word) = (Account::with(topology).await, topology.word());
        account.provision(&["apply", "shop", "--yes"]).await.ok().prints(&["4 changes"]);
        account.assert_ready(&format!("{topology:?}"));
        let kind = if topology == Topology::Instance { "DBInstance" } else { "DBCluster" };
        let expected = [
            format!("Create{word}ParameterGroup"),
            format!("Modify{word}ParameterGroup"),
            format!("Modify{kind}"),
            topology.reboot().to_owned(),
        ];
        assert_eq!(account.changes(), expected);
        account.provision(&["verify", "shop"]).await.ok().prints(&["Nothing to change", "is ready"]);
        account.provision(&["apply", "shop", "--yes"]).await.ok().prints(&["nothing was changed"]);
        // Nothing to do needs nobody's word.
        account.provision(&["apply", "shop"]).await.ok().prints(&["nothing was changed"]);
        assert_eq!(account.changes(), expected);

        account.provision(&["rollback", "shop", "--yes"]).await.ok().prints(&["3 changes"]);
        account.assert_as_before(&format!("{topology:?}"));
        let changes = account.changes();
        account.provision(&["rollback", "shop", "--yes"]).await.ok().prints(&["nothing was changed"]);
        assert_eq!(account.changes(), changes);
        account.provision(&["verify", "shop"]).await.ends(1).prints(&["not ready"]);
    }
}

#[tokio::test]
async fn reports_are_json_when_asked() {
    let account = Account::with(Topology::Aurora).await;
    let verified = account.provision(&["verify", "shop", "--json"]).await.ends(1).json();
    assert_eq!((&verified["id"], &verified["ready"]), (&json!("shop"), &json!(false)));
    let outcome = account.provision(&["apply", "shop", "--json", "--yes"]).await.ok().json();
    assert_eq!((outcome["calls"].as_array().unwrap().len(), &outcome["reboot_pending"]), (4, &json!(false)));
    let verified = account.provision(&["verify", "shop", "--json"]).await.ok().json();
    assert_eq!((&verified["ready"], &verified["calls"]), (&json!(true), &json!([])));
}

#[tokio::test]
async fn nobody_is_rebooted_unasked() {
    for topology in TOPOLOGIES {
        let account = Account::with(topology).await;
        for command in ["apply", "rollback"] {
            account.provision(&[command, "shop", "--yes", "--no-reboot"]).await.ends(2);
        }
        account.provision(&["apply", "shop"]).await.ends(2).says(&["usage::nobody_to_ask"]);
        assert_eq!(account.changes(), [""; 0]);
        account.provision(&["apply", "shop", "--no-reboot"]).await.ok().prints(&["a reboot is pending"]);
        assert_eq!(account.count(topology.reboot()), 0);
        account.provision(&["verify", "shop"]).await.ends(1).prints(&[topology.reboot(), "not ready"]);
        let again = account.provision(&["apply", "shop", "--no-reboot", "--json"]).await.ok().json();
        assert_eq!((&again["calls"], &again["reboot_pending"]), (&json!([]), &json!(true)), "{topology:?}");
        account.provision(&["apply", "shop", "--yes"]).await.ok().prints(&["1 change"]);
        account.assert_ready(&format!("{topology:?}"));

        account.provision(&["rollback", "shop"]).await.ends(2).says(&["usage::nobody_to_ask"]);
        account.provision(&["rollback", "shop", "--no-reboot"]).await.ok().prints(&["a reboot is pending"]);
        assert_eq!(account.count(topology.reboot()), 1);
        let shop = account.simulator.seen("shop");
        assert!(shop.group.starts_with("default.") && shop.apply_status == "pending-reboot", "{shop:?}");
    }
}

#[tokio::test]
async fn a_group_of_somebody_is_copied_and_left_as_it_is() {
    for topology in TOPOLOGIES {
        let account = Account::new().await;
        account.declare(topology, Some("shop-tuned"));
        let tuned = |account: &Account| {
            account.simulator.groups().into_iter().find(|group| group.name == "shop-tuned").unwrap()
        };
        let before = tuned(&account);
        account.provision(&["apply", "shop", "--yes"]).await.ok().prints(&["Copy"]);
        assert_eq!(tuned(&account), before);
        let shop = account.simulator.seen("shop");
        assert_eq!(
            (shop.in_force["work_mem"].as_str(), shop.in_force["rds.logical_replication"].as_str()),
            ("65536", "1")
        );
        account.provision(&["rollback", "shop", "--yes"]).await.ok();
        assert_eq!((account.simulator.seen("shop").group, tuned(&account)), ("shop-tuned".to_owned(), before));
        assert!(account.simulator.groups().iter().all(|group| !group.name.starts_with("pgstream-")));
    }
}

#[tokio::test]
async fn maintenance_that_is_due_is_told() {
    let account = Account::with(Topology::Instance).await;
    account.simulator.add_maintenance("shop", "system-update", "New Operating System update is available");
    account.provision(&["plan", "shop"]).await.ok().prints(&["maintenance is due: New Operating System update"]);
}

#[tokio::test]
async fn the_server_itself_is_tried_and_found_by_its_endpoint() {
    let account = Account::new().await;
    let shop = account.simulator.create_instance(rds_sim::Instance::new("shop")).await.unwrap();
    let url = shop.url("app");
    account.provision(&["apply", "--postgres-url", &url, "--yes"]).await.ok().prints(&[
        "test slot",
        "created and dropped",
        "timeline",
    ]);
    let verified = account.provision(&["verify", "--postgres-url", &url]).await.ok();
    verified.prints(&["replication connection", "is ready"]);
    let slots = shop.cluster().client("app").await.text("SELECT count(*)::text FROM pg_replication_slots").await;
    assert_eq!(slots.as_deref(), Some("0"));
}
