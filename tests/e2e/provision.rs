//! `provision` against the RDS API: what is planned, what is done, and what is left when it is killed.

use std::{
    collections::BTreeSet,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::provision_rds::{Group, Kind, Rds, Refusal, Silence};

const KINDS: [Kind; 3] = [Kind::Instance, Kind::Aurora, Kind::MultiAzCluster];

fn command(rds: &Rds, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgstream-aws"));
    command
        .arg("provision")
        .args(arguments)
        .env_clear()
        .env("AWS_ENDPOINT_URL_RDS", &rds.endpoint)
        .env("AWS_REGION", "eu-west-1")
        .env("AWS_ACCESS_KEY_ID", "AKIATEST")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_MAX_ATTEMPTS", "3")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn provision(rds: &Rds, arguments: &[&str]) -> Output {
    command(rds, arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[track_caller]
fn ends(output: &Output, code: i32, words: &[&str]) {
    let text = text(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for words in words {
        assert!(text.contains(words), "not said: {words}\n{text}");
    }
}

/// What is there at the end, whatever happened on the way.
fn ready(rds: &Rds) -> bool {
    rds.with(|state| {
        state.attached.starts_with("pgstream-shop-")
            && state.running.get("rds.logical_replication").map(String::as_str) == Some("1")
            && state.groups.len() == 2
            && state.groups[&state.attached]
                .tags
                .get("pgstream:previous-group")
                .is_some_and(|name| name.starts_with("default."))
    })
}

/// The actions of policies, without the service.
fn allowed(files: &[&str]) -> BTreeSet<String> {
    let mut actions = BTreeSet::new();
    for file in files {
        let path = format!("{}/../../infra/iam/{file}", env!("CARGO_MANIFEST_DIR"));
        let policy: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        for statement in policy["Statement"].as_array().unwrap() {
            let list = statement["Action"].as_array().unwrap().iter();
            actions.extend(list.map(|action| action.as_str().unwrap().trim_start_matches("rds:").to_owned()));
        }
    }
    actions
}

#[test]
fn a_plan_changes_nothing_and_makes_only_the_calls_of_its_policy() {
    for kind in KINDS {
        let rds = Rds::start(kind);
        ends(&provision(&rds, &["plan", "shop"]), 0, &["rds.logical_replication", "pgstream-shop-", "downtime"]);
        assert!(rds.changes().is_empty());
        let called: BTreeSet<String> = rds.with(|state| state.calls.iter().cloned().collect());
        let allowed = allowed(&["provisioner-plan.json"]);
        assert!(called.is_subset(&allowed), "{:?}", called.difference(&allowed));
    }
}

#[test]
fn apply_reboots_once_and_a_second_apply_changes_nothing() {
    for kind in KINDS {
        let rds = Rds::start(kind);
        ends(&provision(&rds, &["apply", "shop", "--yes"]), 0, &["4 changes"]);
        assert!(ready(&rds), "{kind:?}");
        let changes = rds.changes();
        assert_eq!(changes.iter().filter(|call| call.starts_with("Reboot")).count(), 1, "{changes:?}");
        ends(&provision(&rds, &["apply", "shop", "--yes"]), 0, &["nothing was changed"]);
        assert_eq!(rds.changes(), changes);
        ends(&provision(&rds, &["rollback", "shop", "--yes"]), 0, &["3 changes"]);
        rds.with(|state| {
            assert!(state.attached.starts_with("default.") && state.groups.len() == 1 && state.running.is_empty())
        });
        let called: BTreeSet<String> = rds.with(|state| state.calls.iter().cloned().collect());
        let allowed = allowed(&["provisioner-plan.json", "provisioner-apply.json"]);
        assert!(called.is_subset(&allowed), "{:?}", called.difference(&allowed));
    }
}

#[test]
fn killed_at_any_change_the_next_run_comes_to_the_same_end() {
    for kind in KINDS {
        for silence in (1..=4).flat_map(|n| [Silence::Before(n), Silence::After(n)]) {
            let rds = Rds::start(kind);
            rds.with(|state| state.silence = Some(silence));
            let mut child =
                command(&rds, &["apply", "shop", "--yes"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            killed_when_silent(&rds, &mut child);
            rds.speak();
            ends(&provision(&rds, &["apply", "shop", "--yes"]), 0, &["Done"]);
            assert!(ready(&rds), "{kind:?} {silence:?}");
            ends(&provision(&rds, &["verify", "shop"]), 0, &["is ready"]);
        }
    }
}

fn killed_when_silent(rds: &Rds, child: &mut Child) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !rds.with(|state| state.silent) {
        assert!(Instant::now() < deadline, "it never came to that call");
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn nobody_is_rebooted_unasked() {
    let rds = Rds::start(Kind::Instance);
    ends(&provision(&rds, &["apply", "shop"]), 2, &["usage::nobody_to_ask"]);
    assert!(rds.changes().is_empty());
    ends(&provision(&rds, &["apply", "shop", "--no-reboot"]), 0, &["a reboot is pending"]);
    assert!(!rds.changes().iter().any(|call| call.starts_with("Reboot")));
    ends(&provision(&rds, &["verify", "shop"]), 1, &["RebootDBInstance", "not ready"]);
    ends(&provision(&rds, &["apply", "shop", "--yes"]), 0, &["1 change"]);
    assert!(ready(&rds));
}

#[test]
fn other_pending_changes_are_not_flushed() {
    let rds = Rds::start(Kind::Instance);
    rds.with(|state| state.pending_engine_version = true);
    ends(&provision(&rds, &["plan", "shop"]), 1, &["[pending_changes]", "EngineVersion"]);
    ends(&provision(&rds, &["apply", "shop", "--yes"]), 1, &["aws::provision::blocked", "EngineVersion"]);
    assert!(rds.changes().is_empty());
}

#[test]
fn what_is_not_a_writer_or_not_there_is_named() {
    let rds = Rds::start(Kind::Aurora);
    ends(&provision(&rds, &["plan", "shop-2"]), 1, &["aws::provision::reader"]);
    ends(&provision(&rds, &["plan", "shop-1"]), 0, &["Aurora cluster"]);
    ends(&provision(&rds, &["plan", "nosuch"]), 1, &["aws::provision::not_found", "eu-west-1"]);
    ends(&provision(&rds, &["plan"]), 2, &["usage::no_database"]);
    ends(&provision(&rds, &["plan", "x.proxy-abc.eu-west-1.rds.amazonaws.com"]), 1, &["aws::provision::proxy"]);
}

#[test]
fn failures_of_aws_are_told_apart() {
    let refuse = |status, code, message: &str, times| {
        let rds = Rds::start(Kind::Instance);
        let message = message.to_owned();
        rds.with(|state| state.refusal = Some(Refusal { status, code, message, times, action: "DescribeDBInstances" }));
        provision(&rds, &["plan", "shop"])
    };
    ends(&refuse(400, "Throttling", "Rate exceeded", 2), 0, &["To do"]);
    ends(&refuse(400, "Throttling", "Rate exceeded", 9), 1, &["aws::throttled"]);
    ends(&refuse(503, "ServiceUnavailable", "", 1), 0, &["To do"]);
    ends(&refuse(500, "InternalFailure", "", 9), 1, &["aws::unavailable"]);
    ends(&refuse(200, "", "", 9), 1, &["aws::unreadable_answer"]);
    ends(&refuse(400, "RequestExpired", "", 9), 1, &["aws::clock_skew"]);
    ends(&refuse(403, "ExpiredToken", "expired", 9), 1, &["aws::expired_credentials"]);
    ends(&refuse(403, "InvalidClientTokenId", "", 9), 1, &["aws::invalid_credentials"]);
    let denied = "User: arn:aws:iam::123456789012:user/me is not authorized to perform: rds:DescribeDBInstances on resource: arn:aws:rds:x";
    ends(&refuse(403, "AccessDenied", denied, 9), 1, &["aws::access_denied", r#""Action": "rds:DescribeDBInstances""#]);
    let rds = Rds::start(Kind::Instance);
    ends(&command(&rds, &["plan", "shop"]).env_remove("AWS_REGION").output().unwrap(), 2, &["aws::no_region"]);
    let nobody = command(&rds, &["plan", "shop"]).env_remove("AWS_ACCESS_KEY_ID").output().unwrap();
    ends(&nobody, 1, &["aws::no_credentials"]);
    let nowhere = command(&rds, &["plan", "shop"]).env("AWS_ENDPOINT_URL_RDS", "http://127.0.0.1:1").output().unwrap();
    ends(&nowhere, 1, &["aws::unreachable"]);
}

#[test]
fn credentials_that_expire_on_the_way_leave_the_rest_for_the_next_run() {
    let rds = Rds::start(Kind::Instance);
    let (code, action, message) = ("ExpiredToken", "ModifyDBInstance", String::new());
    rds.with(|state| state.refusal = Some(Refusal { status: 403, code, message, times: 1, action }));
    ends(&provision(&rds, &["apply", "shop", "--yes"]), 1, &["rds:ModifyDBInstance", "aws::expired_credentials"]);
    ends(&provision(&rds, &["apply", "shop", "--yes"]), 0, &["2 changes"]);
    assert!(ready(&rds));
}

#[test]
fn a_reboot_whose_answer_is_lost_is_not_sent_again_before_looking() {
    let rds = Rds::start(Kind::Instance);
    let (code, action, message) = ("InternalFailure", "RebootDBInstance", String::new());
    rds.with(|state| state.refusal = Some(Refusal { status: 500, code, message, times: 1, action }));
    ends(&provision(&rds, &["apply", "shop", "--yes"]), 0, &["again: rds:RebootDBInstance"]);
    assert!(ready(&rds));
    assert_eq!(rds.changes().iter().filter(|call| *call == "RebootDBInstance").count(), 2);
}

#[test]
fn a_group_of_somebody_is_copied_and_left_as_it_is() {
    for kind in KINDS {
        let rds = Rds::start(kind);
        let tuned = rds.with(|state| {
            let set = [("work_mem".to_owned(), "65536".to_owned())].into();
            let tuned = Group { set, tags: [].into() };
            state.groups.insert("shop-tuned".to_owned(), tuned.clone());
            state.attached = "shop-tuned".to_owned();
            tuned
        });
        ends(&provision(&rds, &["apply", "shop", "--yes"]), 0, &["Copy"]);
        rds.with(|state| {
            assert_eq!(state.groups["shop-tuned"], tuned);
            assert_eq!(state.running["work_mem"], "65536");
            assert_eq!(state.running["rds.logical_replication"], "1");
        });
        ends(&provision(&rds, &["rollback", "shop", "--yes"]), 0, &["Done"]);
        rds.with(|state| assert_eq!((state.attached.as_str(), state.groups.len()), ("shop-tuned", 2)));
    }
}

#[tokio::test]
async fn the_server_itself_is_tried_and_found_by_its_endpoint() {
    let server = pgstream_testkit::cluster().await;
    let rds = Rds::start(Kind::Instance);
    rds.with(|state| state.port = server.port());
    let url = server.url("app");
    ends(
        &provision(&rds, &["apply", "--postgres-url", &url, "--yes"]),
        0,
        &["test slot", "created and dropped", "timeline"],
    );
    ends(&provision(&rds, &["verify", "--postgres-url", &url]), 0, &["replication connection", "is ready"]);
    let slots = server.client("app").await.text("SELECT count(*)::text FROM pg_replication_slots").await.unwrap();
    assert_eq!(slots, "0");
}
