//! The policies of `infra/iam` for `provision`: each command does its work with exactly what its policy allows.
//!
//! ```text
//!  provisioner-plan.json                           plan, verify     all they call, and nothing they do not
//!  provisioner-plan.json + provisioner-apply.json  apply, rollback  likewise, on this database and on groups of our name
//! ```

use std::{collections::BTreeSet, fs};

use rds_sim::{Instance, Policy};

use crate::account::{Account, TOPOLOGIES, Topology};

/// A policy as it is for `shop`.
pub fn policy(file: &str) -> Policy {
    let path = format!("{}/../../infra/iam/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(path).unwrap();
    let placed =
        [("REGION", "eu-west-1"), ("ACCOUNT", "123456789012"), ("DATABASE", "shop"), ("WRITER", "shop-instance-1")];
    let text = placed
        .iter()
        .fold(text, |text, (placeholder, value)| text.replace(&format!(":{placeholder}"), &format!(":{value}")));
    Policy::parse(&text)
}

fn plan_policy() -> Policy {
    policy("provisioner-plan.json")
}

fn apply_policy() -> Policy {
    plan_policy().and(policy("provisioner-apply.json"))
}

/// Where everything that a policy has to allow is met: default groups and groups of somebody.
async fn accounts() -> Vec<Account> {
    let mut accounts = Vec::new();
    for topology in TOPOLOGIES {
        for group in [None, Some("tuned")] {
            let account = Account::new().await;
            account.declare(topology, group);
            accounts.push(account);
        }
    }
    accounts
}

/// Actions that the calls after the first `made` ones needed.
fn called(account: &Account, made: usize) -> BTreeSet<String> {
    let calls = account.simulator.calls().into_iter().skip(made);
    calls.flat_map(|call| call.needs()).map(|(action, _)| action).collect()
}

#[tokio::test]
async fn plan_and_verify_do_with_their_policy_and_use_all_of_it() {
    let accounts = accounts().await;
    for account in &accounts {
        // Ours is there, too, so that its tags are read.
        account.provision(&["apply", "shop", "--no-reboot"]).await.ok();
    }
    let before: Vec<usize> = accounts.iter().map(|account| account.simulator.calls().len()).collect();
    let mut used = BTreeSet::new();
    for (account, before) in accounts.iter().zip(before) {
        account.simulator.enforce(Some(plan_policy()));
        account.provision(&["plan", "shop"]).await.ok().prints(&["To do"]);
        account.provision(&["verify", "shop"]).await.ends(1).prints(&["is not ready"]);
        used.extend(called(account, before));
    }
    assert_eq!(used, plan_policy().actions().into_iter().collect(), "the policy allows what nobody needs");
}

#[tokio::test]
async fn plan_names_each_action_that_its_policy_lacks() {
    for topology in [Topology::Instance, Topology::Aurora] {
        let account = Account::with(topology).await;
        account.provision(&["apply", "shop", "--no-reboot"]).await.ok();
        let made = account.simulator.calls().len();
        account.provision(&["plan", "shop"]).await.ok();
        // The rest is advice, and the plan does without it.
        for action in called(&account, made).into_iter().filter(|action| action.starts_with("rds:")) {
            account.simulator.enforce(Some(plan_policy().without(&action)));
            let denied = account.provision(&["plan", "shop"]).await.ends(1);
            denied.says(&["aws::access_denied", &format!(r#""Effect": "Allow", "Action": "{action}""#)]);
        }
    }
}

#[tokio::test]
async fn apply_and_rollback_do_with_their_policies_and_use_all_of_them() {
    let mut used = BTreeSet::new();
    for account in accounts().await {
        account.simulator.enforce(Some(apply_policy()));
        account.provision(&["apply", "shop", "--yes"]).await.ok().prints(&["4 changes"]);
        account.provision(&["verify", "shop"]).await.ok();
        account.provision(&["rollback", "shop", "--yes"]).await.ok().prints(&["3 changes"]);
        // Tags come with a new group, and are a right of their own.
        used.extend(called(&account, 0));
    }
    assert_eq!(used, apply_policy().actions().into_iter().collect(), "the policies allow what nobody needs");
}

#[tokio::test]
async fn apply_names_each_action_that_its_policy_lacks_and_goes_on_once_it_is_there() {
    for (topology, group) in
        [(Topology::Instance, None), (Topology::Aurora, Some("tuned")), (Topology::MultiAzCluster, None)]
    {
        let whole = Account::new().await;
        whole.declare(topology, group);
        whole.provision(&["apply", "shop", "--yes"]).await.ok();
        let reads = plan_policy().actions();
        for action in called(&whole, 0).into_iter().filter(|action| !reads.contains(action)) {
            let account = Account::new().await;
            account.declare(topology, group);
            account.simulator.enforce(Some(apply_policy().without(&action)));
            let denied = account.provision(&["apply", "shop", "--yes"]).await.ends(1);
            denied.says(&["aws::access_denied", &format!(r#""Action": "{action}", "Resource": "arn:aws:rds:"#)]);
            account.simulator.enforce(Some(apply_policy()));
            account.provision(&["apply", "shop", "--yes"]).await.ok();
            let shop = account.simulator.seen("shop");
            assert_eq!((shop.in_force["rds.logical_replication"].as_str(), shop.reboots), ("1", 1), "{action}");
        }
    }
}

#[tokio::test]
async fn nothing_else_in_the_account_can_be_changed() {
    let account = Account::with(Topology::Instance).await;
    account.simulator.declare_instance(Instance::new("shop2").major(16));
    account.simulator.enforce(Some(apply_policy()));
    let denied = account.provision(&["apply", "shop2", "--yes"]).await.ends(1);
    denied.says(&["may not call rds:ModifyDBInstance on arn:aws:rds:eu-west-1:123456789012:db:shop2"]);
    let other = account.simulator.seen("shop2");
    assert_eq!((other.group.as_str(), other.apply_status, other.reboots), ("default.postgres16", "in-sync", 0));
    // A plan's policy changes nothing at all.
    account.simulator.enforce(Some(plan_policy()));
    account.provision(&["apply", "shop", "--yes"]).await.ends(1).says(&["may not call rds:CreateDBParameterGroup"]);
    let shop = account.simulator.seen("shop");
    assert_eq!((shop.group.as_str(), shop.apply_status, shop.reboots), ("default.postgres16", "in-sync", 0));
}
