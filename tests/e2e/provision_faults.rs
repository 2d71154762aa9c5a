//! AWS that does not do as it is asked: what `provision` says, and what the next run makes of it.

use std::time::Duration;

use rds_sim::{Fault, Options};

use crate::{
    account::{Account, TOPOLOGIES, Topology},
    replicator::{Done, Replicator},
};

/// Every call meets this.
const ALWAYS: usize = usize::MAX;

/// `plan` of an instance, while an action meets a fault so often.
async fn plan_with(action: &str, times: usize, fault: Fault) -> Done {
    let account = Account::with(Topology::Instance).await;
    account.simulator.faults().next(action, times, fault);
    account.provision(&["plan", "shop"]).await
}

#[tokio::test]
async fn a_short_failure_is_outlasted_and_a_long_one_is_named() {
    let cases = [
        (Fault::Throttle, "aws::throttled", "AWS throttled the call, also when it was tried again", "wait a minute"),
        (Fault::Error500, "aws::unavailable", "AWS failed (InternalFailure)", "run the same command again"),
        (Fault::Truncate, "aws::unreachable", "connection closed", "check the region"),
    ];
    for (fault, code, words, help) in cases {
        plan_with("DescribeDBInstances", 2, fault).await.ok().prints(&["To do"]);
        let failed = plan_with("DescribeDBInstances", ALWAYS, fault).await.ends(1);
        failed.says(&[code, "rds:DescribeDBInstances", words, help]);
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_never_taken_for_a_short_list() {
    for action in ["DescribeDBInstances", "DescribeDBClusters", "DescribeDBParameters", "DescribeBlueGreenDeployments"]
    {
        plan_with(action, 1, Fault::Truncate).await.ok();
        plan_with(action, ALWAYS, Fault::CutDocument).await.ends(1).says(&[
            "aws::unreadable_answer",
            action,
            "cut off",
        ]);
    }
}

#[tokio::test]
async fn a_call_that_is_never_answered_is_tried_again_and_then_named() {
    let account = Account::with(Topology::Instance).await;
    account.simulator.faults().next("DescribeDBClusters", 1, Fault::HangBefore);
    account.provision(&["plan", "shop"]).await.ok();
    account.simulator.faults().next("DescribeDBClusters", ALWAYS, Fault::HangBefore);
    let failed =
        Replicator::start_in(&["provision", "plan", "shop"], account.environment_but("AWS_MAX_ATTEMPTS", Some("2")));
    failed.done().await.ends(1).says(&["aws::timeout", "rds:DescribeDBClusters: AWS did not answer in time"]);
}

#[tokio::test]
async fn credentials_clocks_and_keys_are_told_apart() {
    let cases = [
        (Fault::ExpiredToken, "aws::expired_credentials", "aws sso login"),
        (Fault::ClockSkew, "aws::clock_skew", "timedatectl"),
        (Fault::RequestExpired, "aws::clock_skew", "timedatectl"),
        (Fault::WrongSecret, "aws::invalid_credentials", "SignatureDoesNotMatch"),
        (Fault::UnknownKey, "aws::invalid_credentials", "InvalidClientTokenId"),
    ];
    for (fault, code, words) in cases {
        let account = Account::with(Topology::Instance).await;
        account.simulator.faults().next("DescribeDBInstances", ALWAYS, fault);
        account.provision(&["plan", "shop"]).await.ends(1).says(&[code, words, "rds:DescribeDBInstances"]);
        // The SDK tries again by the clock of the answer; other credentials it does not have.
        let attempts = if fault == Fault::ClockSkew { 3 } else { 1 };
        assert_eq!(account.count("DescribeDBInstances"), attempts, "{fault:?}");
    }
    plan_with("DescribeDBInstances", 1, Fault::ClockSkew).await.ok().prints(&["To do"]);
}

#[tokio::test]
async fn a_denied_call_names_who_what_and_the_policy_line() {
    let arn = "arn:aws:rds:eu-west-1:123456789012:pg:pgstream-shop-postgres16";
    for (action, resource) in [
        ("CreateDBParameterGroup", arn),
        ("ModifyDBParameterGroup", arn),
        ("ModifyDBInstance", "arn:aws:rds:eu-west-1:123456789012:db:shop"),
        ("RebootDBInstance", "arn:aws:rds:eu-west-1:123456789012:db:shop"),
    ] {
        let account = Account::with(Topology::Instance).await;
        account.simulator.faults().next(action, ALWAYS, Fault::Deny);
        account.provision(&["apply", "shop", "--yes"]).await.ends(1).says(&[
            "aws::access_denied",
            "user/AKIATEST may not call",
            &format!("rds:{action} on"),
            &format!(r#"{{"Effect": "Allow", "Action": "rds:{action}", "Resource": "{resource}"}}"#),
        ]);
        assert_eq!(account.count(action), 1);
        // Once the line is there, the rest is done.
        account.simulator.faults().clear();
        account.provision(&["apply", "shop", "--yes"]).await.ok();
        account.assert_ready(action);
    }
}

#[tokio::test]
async fn credentials_that_expire_on_the_way_leave_the_rest_for_the_next_run() {
    let account = Account::with(Topology::Instance).await;
    account.simulator.faults().next("ModifyDBInstance", 1, Fault::ExpiredToken);
    let failed = account.provision(&["apply", "shop", "--yes"]).await.ends(1);
    failed.says(&["rds:ModifyDBInstance", "aws::expired_credentials", "goes on where it stopped"]);
    account.provision(&["apply", "shop", "--yes"]).await.ok().prints(&["2 changes"]);
    account.assert_ready("after new credentials");
}

#[tokio::test]
async fn what_is_not_set_is_named() {
    let account = Account::with(Topology::Instance).await;
    let plan = async |name: &'static str, value: Option<&str>| {
        Replicator::start_in(&["provision", "plan", "shop"], account.environment_but(name, value)).done().await
    };
    plan("AWS_REGION", None).await.ends(2).says(&["aws::no_region", "--region"]);
    plan("AWS_ACCESS_KEY_ID", None).await.ends(1).says(&["aws::no_credentials", "aws sso login"]);
    plan("AWS_ENDPOINT_URL_RDS", Some("http://127.0.0.1:1")).await.ends(1).says(&["aws::unreachable", "HTTPS_PROXY"]);
    assert!(account.simulator.calls().is_empty());
    account.provision(&["plan", "nosuch"]).await.ends(1).says(&["aws::provision::not_found", "eu-west-1", "--region"]);
    account.provision(&["plan"]).await.ends(2).says(&["usage::no_database"]);
    account.provision(&["plan", "a b"]).await.ends(2).says(&["aws::provision::name"]);
}

#[tokio::test]
async fn a_reboot_whose_answer_is_lost_is_not_sent_again_before_looking() {
    // It was done: seen by looking, and not done again.
    for fault in [Fault::Truncate, Fault::HangAfter] {
        let account = Account::with(Topology::Instance).await;
        account.simulator.faults().next("RebootDBInstance", 1, fault);
        account.provision(&["apply", "shop", "--yes"]).await.ok();
        account.assert_ready(&format!("{fault:?}"));
        assert_eq!(account.count("RebootDBInstance"), 1, "{fault:?}");
    }
    // It was not: that takes a while to be sure of.
    let account = Account::with(Topology::Instance).await;
    account.simulator.faults().next("RebootDBInstance", 1, Fault::Error500);
    account.provision(&["apply", "shop", "--yes"]).await.ok().prints(&["again: rds:RebootDBInstance"]);
    account.assert_ready("not done at first");
    assert_eq!(account.count("RebootDBInstance"), 2);
}

#[tokio::test]
async fn every_change_whose_answer_is_lost_is_made_once() {
    for action in ["CreateDBParameterGroup", "ModifyDBParameterGroup", "ModifyDBInstance"] {
        let account = Account::with(Topology::Instance).await;
        account.simulator.faults().next(action, 1, Fault::Truncate);
        account.provision(&["apply", "shop", "--yes"]).await.ok().prints(&["4 changes"]);
        account.assert_ready(action);
    }
    let account = Account::with(Topology::Instance).await;
    account.provision(&["apply", "shop", "--yes"]).await.ok();
    account.simulator.faults().next("DeleteDBParameterGroup", 1, Fault::Truncate);
    account.provision(&["rollback", "shop", "--yes"]).await.ok();
    account.assert_as_before("the group is deleted");
}

#[tokio::test]
async fn waiting_outlasts_a_moment_without_the_api() {
    let account = Account::of(Options { pause: Duration::from_secs(2), ..Options::default() }).await;
    account.declare(Topology::Aurora, None);
    let mut running = account.start(&["apply", "shop", "--yes"]);
    running.prints("rebooting,").await;
    account.simulator.faults().next("DescribeDBClusters", 8, Fault::Throttle);
    running.done().await.ok();
    account.assert_ready("throttled while waiting");
}

#[tokio::test]
async fn lists_that_are_behind_are_not_believed() {
    for topology in TOPOLOGIES {
        let account = Account::with(topology).await;
        account.simulator.faults().describes_are_behind(Duration::from_secs(1));
        account.provision(&["apply", "shop", "--yes"]).await.ok().prints(&["4 changes"]);
        account.assert_ready(&format!("{topology:?}, behind"));
        account.provision(&["apply", "shop", "--yes"]).await.ok().prints(&["nothing was changed"]);
        account.provision(&["rollback", "shop", "--yes"]).await.ok().prints(&["3 changes"]);
        account.assert_as_before(&format!("{topology:?}, behind"));
        assert_eq!(account.simulator.seen("shop").reboots, 2, "{topology:?}");
    }
}

#[tokio::test]
async fn two_that_apply_at_once_come_to_one_end() {
    for topology in TOPOLOGIES {
        let account = Account::with(topology).await;
        let (one, other) = (account.start(&["apply", "shop", "--yes"]), account.start(&["apply", "shop", "--yes"]));
        one.done().await.ok();
        other.done().await.ok();
        account.assert_ready(&format!("{topology:?}, two at once"));
    }
}

#[tokio::test]
async fn one_that_is_asked_to_stop_says_that_it_can_go_on() {
    let account = Account::of(Options { pause: Duration::from_secs(3), ..Options::default() }).await;
    account.declare(Topology::Instance, None);
    let mut running = account.start(&["apply", "shop", "--yes"]);
    running.prints("rebooting,").await;
    running.stop().await.ends(1).says(&["aws::provision::stopped", "goes on where it stopped"]);
    account.provision(&["apply", "shop", "--yes"]).await.ok().prints(&["nothing was changed"]);
    account.assert_ready("stopped while it rebooted");
}
