//! `check` and `doctor` with what the RDS API knows, in front of real servers behind the simulator.

use std::time::{Duration, Instant};

use pgstream_testkit::{Client, Cluster, cluster};
use rds_sim::{Database, Instance, Options, Simulator};
use serde_json::Value;

use crate::{
    obstacles::busy,
    provision_policies::policy,
    replicator::{Done, Pipeline, Replicator},
};

fn environment(endpoint: &str) -> Vec<(String, String)> {
    [
        ("AWS_ENDPOINT_URL_RDS", endpoint),
        ("AWS_ENDPOINT_URL_CLOUDWATCH", endpoint),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ACCESS_KEY_ID", "AKIATEST"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_MAX_ATTEMPTS", "1"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

/// The pipeline's own servers are not used: its configuration names a database of the account, and a plain target.
async fn between(shop: &Database, target: &Cluster, simulator: &Simulator) -> Pipeline {
    let here = shop.cluster().client("app").await;
    here.batch("CREATE TABLE item (id int PRIMARY KEY); GRANT ALL ON SCHEMA public TO master").await;
    here.batch("ALTER TABLE item OWNER TO master; GRANT CREATE ON DATABASE app TO master").await;
    let mut pipeline = Pipeline::new("").await;
    pipeline.set("source.postgres.url", shop.url("app"));
    pipeline.set("target.postgres.url", target.url("app"));
    pipeline.environment(environment(&simulator.endpoint()));
    pipeline
}

fn of_aws(done: &Done) -> Vec<Value> {
    let mut findings = done.json()["findings"].as_array().unwrap().clone();
    findings.retain(|finding| finding["category"] == "aws");
    findings
}

fn ids(findings: &[Value]) -> Vec<&str> {
    findings.iter().map(|finding| finding["id"].as_str().unwrap()).collect()
}

/// Runs the command of a fix as printed, agreeing to it.
async fn run_printed(finding: &Value, simulator: &Simulator, more: &[&str]) -> Done {
    let fix = finding["instances"][0]["fix"].as_str().unwrap();
    let (_, command) = fix.split_once("pgstream-aws ").unwrap();
    let words: Vec<&str> = command.split(' ').chain(more.iter().copied()).collect();
    Replicator::start_in(&words, environment(&simulator.endpoint())).done().await
}

#[tokio::test]
async fn a_database_on_its_default_group_is_named_provisioned_as_printed_and_fine() {
    let simulator = Simulator::start(Options::default()).await.unwrap();
    let shop = simulator.create_instance(Instance::new("shop")).await.unwrap();
    let target = cluster().await;
    let pipeline = between(&shop, &target, &simulator).await;

    let found = of_aws(&pipeline.pgstream(&["check", "--json"]).await.ends(1));
    assert_eq!(ids(&found), ["aws.parameters"], "{found:#?}");
    assert!(found[0]["instances"][0]["found"].as_str().unwrap().contains("rds.logical_replication"), "{found:#?}");
    pipeline.pgstream(&["init"]).await.ends(1).says(&["source::wal_level", "docs: docs/troubleshooting.md#"]);

    // Everything but the reboot: that is what is missing then, and nothing takes effect before it.
    run_printed(&found[0], &simulator, &["--no-reboot"]).await;
    let found = of_aws(&pipeline.pgstream(&["check", "--json"]).await.ends(1));
    assert_eq!(ids(&found), ["aws.pending_reboot"], "{found:#?}");
    let seen = of_aws(&pipeline.pgstream(&["doctor", "--json"]).await.ends(1));
    assert_eq!(ids(&seen), ["aws.pending_reboot"], "{seen:#?}");
    let said = found[0]["instances"][0]["found"].as_str().unwrap();
    assert_eq!(explained(said).await, ["pending_reboot"], "{said}");
    pipeline.pgstream(&["init"]).await.ends(1).says(&["source::wal_level"]);

    run_printed(&found[0], &simulator, &["--yes"]).await.ok();
    let done = pipeline.pgstream(&["check", "--json"]).await.ok();
    assert!(of_aws(&done).is_empty(), "{done:?}");
    pipeline.pgstream(&["init"]).await.ok();

    // What was not asked for is not asked of AWS.
    let before = simulator.calls().len();
    pipeline.pgstream(&["check", "--schema"]).await.ok();
    assert_eq!(simulator.calls().len(), before);
}

#[tokio::test]
async fn changes_that_wait_and_groups_that_fail_are_named() {
    let simulator = Simulator::start(Options::default()).await.unwrap();
    let shop = simulator.create_instance(Instance::new("shop")).await.unwrap();
    let target = cluster().await;
    let pipeline = between(&shop, &target, &simulator).await;
    simulator.add_pending_modification("shop", "DBInstanceClass", "db.r7g.large");
    let found = of_aws(&pipeline.pgstream(&["check", "--json", "--aws"]).await.ends(1));
    assert!(ids(&found).contains(&"aws.pending_changes"), "{found:#?}");

    let simulator = Simulator::start(Options::default()).await.unwrap();
    let shop = simulator.create_instance(Instance::new("shop")).await.unwrap();
    let pipeline = between(&shop, &target, &simulator).await;
    simulator.faults().parameters_fail_to_apply();
    let found = of_aws(&pipeline.pgstream(&["check", "--json", "--aws"]).await.ends(1));
    run_printed(&found[0], &simulator, &["--yes", "--timeout", "5"]).await.ends(1);
    let found = of_aws(&pipeline.pgstream(&["check", "--json", "--aws"]).await.ends(1));
    assert!(ids(&found).contains(&"aws.unfit"), "{found:#?}");
}

#[tokio::test]
async fn an_api_that_cannot_be_asked_is_said_and_in_the_way_of_nothing() {
    let mut pipeline = Pipeline::new("").await;
    let closed = format!("http://127.0.0.1:{}", closed_port());
    pipeline.environment(environment(&closed));
    let done = pipeline.pgstream(&["check", "--json"]).await.ok();
    let found = of_aws(&done);
    assert!(found.iter().all(|it| it["id"] == "aws.rds_api" && it["severity"] == "notice"), "{found:#?}");
    assert!(!found.is_empty());
}

#[tokio::test]
async fn an_endpoint_of_rds_is_looked_at_by_its_name() {
    let mut pipeline = Pipeline::new("").await;
    pipeline.environment(vec![
        ("AWS_EC2_METADATA_DISABLED".to_owned(), "true".to_owned()),
        ("AWS_MAX_ATTEMPTS".to_owned(), "1".to_owned()),
    ]);
    let host = "shop.c1abc2def3gh.eu-west-1.rds.amazonaws.com";
    let url = named(&pipeline.source, host);
    pipeline.set("source.postgres.url", url.as_str());
    let found = of_aws(&pipeline.pgstream(&["check", "--json", "--aws"]).await.ok());
    assert_eq!(ids(&found), ["aws.tls_not_verified", "aws.rds_api"], "{found:#?}");
    assert!(found[1].to_string().contains("credentials"), "{found:#?}");

    // As the fix says. This server has no TLS, so that it cannot be reached then.
    pipeline.set("source.postgres.url", url.replace("sslmode=prefer", "sslmode=verify-full"));
    let done = pipeline.pgstream(&["check", "--json", "--aws"]).await.ends(1);
    assert_eq!(ids(&of_aws(&done)), ["aws.rds_api"]);

    for (host, id) in [
        ("shop.cluster-ro-c1abc2def3gh.eu-west-1.rds.amazonaws.com", "aws.reader_endpoint"),
        ("shop.cluster-custom-c1abc2def3gh.eu-west-1.rds.amazonaws.com", "aws.custom_endpoint"),
        ("shop.proxy-c1abc2def3gh.eu-west-1.rds.amazonaws.com", "aws.proxy_endpoint"),
    ] {
        let url =
            format!("postgresql://postgres@{host}:{}/app?hostaddr=127.0.0.1&sslmode=prefer", pipeline.source.port());
        pipeline.set("source.postgres.url", url);
        let done = pipeline.pgstream(&["check", "--json", "--aws"]).await.ends(1);
        assert!(ids(&of_aws(&done)).contains(&id), "{done:?}");
    }
}

/// The server under the name of an endpoint, which nobody is asked for.
fn named(server: &Cluster, host: &str) -> String {
    let url = server.url("app").replacen("127.0.0.1", host, 1);
    let next = if url.contains('?') { '&' } else { '?' };
    format!("{url}{next}hostaddr=127.0.0.1&sslmode=prefer")
}

#[tokio::test]
async fn what_happened_to_a_database_lately_is_told_and_explains_what_may_be_wrong() {
    let simulator = Simulator::start(Options::default()).await.unwrap();
    let shop = simulator.create_instance(Instance::new("shop")).await.unwrap();
    let target = cluster().await;
    let pipeline = between(&shop, &target, &simulator).await;
    let hours = |n: u64| Duration::from_secs(n * 3600);
    simulator.add_event("shop", hours(2), "backup", "Finished DB Instance backup");
    simulator.add_event("shop", hours(3), "availability", "DB instance restarted");
    simulator.add_event("shop", hours(25), "low storage", "The free storage capacity is low");

    let done = pipeline.pgstream(&["doctor", "--json"]).await;
    let told = |done: &Done| -> Vec<String> {
        let events = done.json()["events"].as_array().unwrap().clone();
        events.iter().map(|event| event["message"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(told(&done), ["Finished DB Instance backup", "DB instance restarted"]);
    assert!(!ids(&of_aws(&done)).contains(&"doctor.aws_event"), "{done:?}");

    // A real restart, by a real command.
    let apply = ["provision", "apply", "shop", "--yes"];
    Replicator::start_in(&apply, environment(&simulator.endpoint())).done().await.ok();
    let done = pipeline.pgstream(&["doctor", "--json"]).await;
    assert_eq!(told(&done)[..2], ["DB instance restarted", "DB instance shutdown"]);
    let found = of_aws(&done);
    let finding = found.iter().find(|it| it["id"] == "doctor.aws_event").unwrap_or_else(|| panic!("{found:#?}"));
    assert_eq!(finding["severity"], "warning", "{finding:#}");
    let said = finding["instances"][0]["found"].as_str().unwrap();
    assert!(said.contains("shop (availability): DB instance restarted"), "{said}");

    simulator.add_event("shop", hours(5), "low storage", "The free storage capacity for DB instance shop is low at 8%");
    pipeline.pgstream(&["doctor"]).await.prints(&[
        "doctor.aws_event",
        "low at 8%",
        "--allocated-storage",
        "What RDS tells of the last 24 hours:",
    ]);
    // Nobody else asks.
    let before = simulator.calls().len();
    pipeline.pgstream(&["check"]).await;
    let calls = simulator.calls();
    assert!(calls[before..].iter().all(|call| call.action != "DescribeEvents"));
}

#[tokio::test]
async fn doctor_reads_events_with_its_policy_and_says_what_it_lacks() {
    let simulator = Simulator::start(Options::default()).await.unwrap();
    let shop = Instance::new("shop").group("logical").parameter("rds.logical_replication", "1");
    let shop = simulator.create_instance(shop).await.unwrap();
    let target = cluster().await;
    let pipeline = between(&shop, &target, &simulator).await;
    pipeline.pgstream(&["init"]).await.ok();
    simulator.enforce(Some(policy("provisioner-plan.json")));
    let done = pipeline.pgstream(&["doctor", "--json"]).await;
    let found = of_aws(&done);
    assert_eq!(ids(&found), ["aws.rds_api"], "{found:#?}");
    assert_eq!(found[0]["severity"], "notice", "{found:#?}");
    let said = found[0].to_string();
    assert!(said.contains("events were not read") && said.contains("rds:DescribeEvents"), "{said}");

    simulator.enforce(Some(policy("provisioner-plan.json").and(policy("doctor.json"))));
    let found = of_aws(&pipeline.pgstream(&["doctor", "--json"]).await);
    assert_eq!(ids(&found), [""; 0], "{found:#?}");
    assert_eq!(policy("doctor.json").actions(), ["rds:DescribeEvents"]);
}

/// What doctor knows of a text.
async fn explained(text: &str) -> Vec<String> {
    let known = Replicator::start(&["doctor", "--json", text]).done().await.ok().json();
    known.as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect()
}

fn closed_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What stands in the way beside parameters: each is named while it is there, and not afterwards.
#[tokio::test]
async fn what_the_api_says_of_a_source_is_named_until_it_is_over() {
    let target = cluster().await;
    for (id, severity, says) in [
        ("aws.status", "error", "storage-full"),
        ("aws.blue_green", "warning", "upgrade-17 (AVAILABLE)"),
        ("aws.maintenance", "notice", "Operating System update"),
    ] {
        let simulator = Simulator::start(Options::default()).await.unwrap();
        let shop = simulator.create_instance(Instance::new("shop")).await.unwrap();
        let pipeline = between(&shop, &target, &simulator).await;
        let look = async || of_aws(&pipeline.pgstream(&["check", "--json", "--aws"]).await);
        assert!(!ids(&look().await).contains(&id), "{id} before");
        match id {
            "aws.status" => simulator.set_status("shop", "storage-full"),
            "aws.blue_green" => simulator.add_blue_green("shop", "upgrade-17", "AVAILABLE"),
            _ => simulator.add_maintenance("shop", "system-update", "New Operating System update is available"),
        }
        let found = look().await;
        let finding = found.iter().find(|it| it["id"] == id).unwrap_or_else(|| panic!("{id}: {found:#?}"));
        assert_eq!(finding["severity"], severity, "{finding:#}");
        assert!(finding["instances"][0]["found"].as_str().unwrap().contains(says), "{finding:#}");
        if id == "aws.status" {
            assert!(finding["instances"][0]["fix"].as_str().unwrap().contains("raise its storage"), "{finding:#}");
            simulator.set_status("shop", "available");
        }
        simulator.nothing_is_due("shop");
        assert!(!ids(&look().await).contains(&id), "{id} afterwards");
        drop(shop);
    }
}

#[tokio::test]
async fn a_target_without_room_for_the_copy_is_named_with_the_storage_that_it_needs() {
    let simulator = Simulator::start(Options::default()).await.unwrap();
    let mut pipeline =
        Pipeline::new("CREATE TABLE big AS SELECT n, repeat('x', 1000) FROM generate_series(1, 20000) n").await;
    pipeline.environment(environment(&simulator.endpoint()));
    for (copy, full) in [
        (Instance::new("tight").free_storage(1 << 20), true),
        (Instance::new("growing").free_storage(1 << 20).grows_to_gib(100), false),
        (Instance::new("roomy"), false),
    ] {
        let copy = simulator.create_instance(copy).await.unwrap();
        pipeline.set("target.postgres.url", copy.url("app"));
        let found = of_aws(&pipeline.pgstream(&["check", "--json", "--aws"]).await);
        let finding = found.iter().find(|it| it["id"] == "aws.storage");
        assert_eq!(finding.is_some(), full, "{found:#?}");
        if let Some(finding) = finding {
            let fix = finding["instances"][0]["fix"].as_str().unwrap();
            assert!(fix.contains("raise its storage to") && fix.contains("--allocated-storage"), "{fix}");
        }
    }
}

/// Waits until the last statement of who was stopped has ended too.
async fn nobody_writes(here: &Client) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let end = "SELECT pg_current_wal_lsn()::text";
    let mut before = here.text(end).await;
    loop {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let now = here.text(end).await;
        if now == before {
            return;
        }
        assert!(Instant::now() < deadline, "WAL is still written");
        before = now;
    }
}

#[tokio::test]
async fn a_source_whose_wal_would_fill_its_disk_soon_is_named_with_the_storage_that_it_needs() {
    let simulator = Simulator::start(Options::default()).await.unwrap();
    let target = cluster().await;
    for (shop, soon) in [
        (Instance::new("tight").free_storage(1 << 30), true),
        (Instance::new("growing").free_storage(1 << 30).grows_to_gib(60_000), false),
    ] {
        let shop = shop.group("logical").parameter("rds.logical_replication", "1");
        let shop = simulator.create_instance(shop).await.unwrap();
        let pipeline = between(&shop, &target, &simulator).await;
        let writing = busy(shop.cluster().client("app").await);
        let found = of_aws(&pipeline.pgstream(&["check", "--json"]).await);
        writing.abort();
        let finding = found.iter().find(|it| it["id"] == "aws.wal_room");
        assert_eq!(finding.is_some(), soon, "{found:#?}");
        if let Some(finding) = finding {
            assert_eq!(finding["severity"], "warning", "{finding:#}");
            let fix = finding["instances"][0]["fix"].as_str().unwrap();
            assert!(fix.contains("raise its storage to") && fix.contains("--allocated-storage"), "{fix}");
            nobody_writes(&shop.cluster().client("app").await).await;
            let found = of_aws(&pipeline.pgstream(&["check", "--json"]).await);
            assert!(!ids(&found).contains(&"aws.wal_room"), "{found:#?}");
        }
    }
}
