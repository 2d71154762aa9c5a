//! `provision --side target`: room for sessions and for the data, extensions that are allowed.

use pgstream_testkit::{Emulator, cluster};
use rds_sim::{Cluster, Database, Instance, Policy};
use serde_json::json;

use crate::{
    account::Account,
    replicator::{Done, Replicator},
};

const GIB: u64 = 1 << 30;

/// A source, and `copy` as the target that a configuration names.
struct Pair {
    account: Account,
    source: pgstream_testkit::Cluster,
    target: Database,
    config: String,
}

impl Pair {
    async fn new(target: Instance) -> Self {
        let account = Account::new().await;
        let (source, target) = (cluster().await, account.simulator.create_instance(target).await.unwrap());
        let config = account.configure(&source.url("app"), &target.url("app")).to_str().unwrap().to_owned();
        Self { account, source, target, config }
    }

    async fn provision(&self, arguments: &[&str]) -> Done {
        self.account.provision(&[arguments, &["--side", "target", "-c", &self.config]].concat()).await
    }
}

#[tokio::test]
async fn a_target_as_rds_makes_it_needs_nothing() {
    let pair = Pair::new(Instance::new("copy")).await;
    let plan = pair.provision(&["plan"]).await.ok();
    plan.prints(&[
        "copy (RDS instance",
        "Nothing to change",
        "18.00 GiB free at",
        "connections are free, the pipeline opens up to",
    ]);
    pair.provision(&["verify"]).await.ok().prints(&[
        "good",
        "connections",
        "storage",
        "wanted for the copy",
        "copy is ready",
    ]);
    pair.provision(&["apply", "--yes"]).await.ok().prints(&["nothing was changed"]);
    assert_eq!(pair.account.changes(), [""; 0]);
    assert_eq!(pair.target.cluster().client("app").await.text("SHOW wal_level").await.as_deref(), Some("replica"));
}

#[tokio::test]
async fn a_target_without_free_connections_is_not_ready() {
    let tight = Instance::new("copy").group("small").parameter("max_connections", "14");
    let pair = Pair::new(tight).await;
    let mut sessions = Vec::new();
    for _ in 0..6 {
        sessions.push(pair.target.cluster().client("app").await);
    }
    let text = std::fs::read_to_string(&pair.config).unwrap();
    std::fs::write(&pair.config, text.replace("target: {postgres: {", "target: {postgres: {max_connections: 10, "))
        .unwrap();
    pair.provision(&["plan"]).await.ok().prints(&["of 14 connections are free, the pipeline opens up to 10"]);
    let verified = pair.provision(&["verify"]).await.ends(1);
    verified.prints(&["bad", "of 14 free, 10 wanted", "lower target.postgres.max_connections", "copy is not ready"]);
    drop(sessions);
    let here = pair.target.cluster().client("app").await;
    here.wait_until("SELECT count(*)::text FROM pg_stat_activity WHERE backend_type = 'client backend'", "1").await;
    drop(here);
    pair.provision(&["verify"]).await.ok().prints(&["copy is ready"]);
}

#[tokio::test]
async fn extensions_of_the_source_are_allowed_and_others_are_named() {
    let listed = Instance::new("copy").group("listed").parameter("rds.allowed_extensions", "pgcrypto");
    let pair = Pair::new(listed).await;
    let here = pair.source.client("app").await;
    here.batch("CREATE EXTENSION pgcrypto; CREATE EXTENSION hstore").await;
    pair.provision(&["plan"]).await.ok().prints(&[
        "CopyDBParameterGroup Source=listed",
        "rds.allowed_extensions=pgcrypto,hstore (immediate)",
        "extensions of the source must be allowed",
    ]);
    pair.provision(&["verify"]).await.ends(1).prints(&["rds.allowed_extensions", "not ready"]);
    pair.provision(&["apply", "--yes"]).await.ok();
    assert_eq!(pair.account.simulator.seen("copy").in_force["rds.allowed_extensions"], "pgcrypto,hstore");
    pair.provision(&["verify"]).await.ok();
    // One that this version does not have.
    here.batch("CREATE EXTENSION fuzzystrmatch").await;
    let plan = pair.provision(&["plan"]).await.ends(1);
    plan.prints(&["[extension]", "extension fuzzystrmatch of the source is not available on postgres"]);
    let changes = pair.account.changes();
    pair.provision(&["apply", "--yes"]).await.ends(1).says(&["[extension]", "fuzzystrmatch"]);
    assert_eq!(pair.account.changes(), changes);
}

#[tokio::test]
async fn a_disk_that_is_too_full_for_the_copy_is_said() {
    let pair = Pair::new(Instance::new("copy").free_storage(1 << 20)).await;
    let here = pair.source.client("app").await;
    here.batch("CREATE TABLE big AS SELECT n, repeat('x', 1000) AS text FROM generate_series(1, 20000) AS n").await;
    let plan = pair.provision(&["plan"]).await.ok();
    plan.prints(&["1.00 MiB free at", "1.0 MiB free, ", "wanted for the copy", "raise its storage to 21 GiB or more"]);
    pair.provision(&["verify"]).await.ends(1).prints(&["bad  storage", "--allocated-storage", "copy is not ready"]);
    let plan = pair.provision(&["plan", "--json"]).await.ok().json();
    assert_eq!(plan["inspection"]["storage"]["free"]["bytes"], json!(1 << 20), "{plan}");

    let growing = Pair::new(Instance::new("copy").free_storage(1 << 20).grows_to_gib(100)).await;
    growing.source.client("app").await.batch("CREATE TABLE t (); COMMENT ON TABLE t IS 'x'").await;
    growing.provision(&["verify"]).await.ok().prints(&["grows by 80.0 GiB", "copy is ready"]);
}

#[tokio::test]
async fn free_storage_of_clusters_is_that_of_the_writer() {
    let account = Account::new().await;
    account.simulator.declare_cluster(Cluster::multi_az("maz"));
    account.provision(&["plan", "maz"]).await.ok().prints(&["100 GiB, 18.00 GiB free at"]);
    account.simulator.declare_cluster(Cluster::aurora("aur"));
    let asked = account.count("GetMetricStatistics");
    account.provision(&["plan", "aur"]).await.ok().prints(&["grows by itself"]);
    assert_eq!(account.count("GetMetricStatistics"), asked, "a volume of Aurora is never full");
    account.provision(&["apply", "maz", "--yes"]).await.ok();
    assert_eq!(account.count("GetMetricStatistics"), asked, "apply does not wait for advice");
}

#[tokio::test]
async fn a_plan_does_without_cloudwatch() {
    let account = Account::new().await;
    account.simulator.declare_instance(Instance::new("shop"));
    let plan = async |environment| Replicator::start_in(&["provision", "plan", "shop"], environment).done().await;
    let nowhere = account.environment_but("AWS_ENDPOINT_URL_CLOUDWATCH", Some("http://127.0.0.1:1"));
    let plan_without = plan(nowhere).await.ok();
    plan_without.prints(&["To do", "free storage is not known: cloudwatch:GetMetricStatistics: AWS cannot be reached"]);
    let rds_only = r#"{"Statement": [{"Effect": "Allow", "Action": "rds:*", "Resource": "*"}]}"#;
    account.simulator.enforce(Some(Policy::parse(rds_only)));
    let denied = plan(account.environment()).await.ok();
    denied.prints(&["To do", "free storage is not known", "AKIATEST may not call cloudwatch:GetMetricStatistics"]);
    account.simulator.enforce(None);
    account.simulator.faults().next("GetMetricStatistics", 1, rds_sim::Fault::Error500);
    plan(account.environment()).await.ok().prints(&["18.00 GiB free at"]);
    account.simulator.faults().next("GetMetricStatistics", usize::MAX, rds_sim::Fault::CutDocument);
    plan(account.environment()).await.ok().prints(&["free storage is not known", "the answer is cut off"]);
}

#[tokio::test]
async fn the_metric_is_read_from_an_emulator_of_cloudwatch_too() {
    let account = Account::new().await;
    account.simulator.declare_instance(Instance::new("shop"));
    let emulator = Emulator::start().await.unwrap_or_else(|error| panic!("{error}"));
    emulator.put_metric("AWS/RDS", "FreeStorageSpace", ("DBInstanceIdentifier", "shop"), (7 * GIB) as f64).await;
    let environment = account.environment_but("AWS_ENDPOINT_URL_CLOUDWATCH", Some(&emulator.endpoint()));
    let plan = Replicator::start_in(&["provision", "plan", "shop"], environment).done().await;
    plan.ok().prints(&["20 GiB, 7.00 GiB free at"]);
}

#[tokio::test]
async fn servers_that_cannot_be_asked_from_here_are_no_obstacle_to_a_plan() {
    let pair = Pair::new(Instance::new("copy")).await;
    let text = std::fs::read_to_string(&pair.config).unwrap();
    // Made by the first copy.
    let later = text.replace(&pair.target.url("app"), &pair.target.url("later"));
    std::fs::write(&pair.config, later).unwrap();
    let plan = pair.provision(&["plan"]).await.ok();
    plan.prints(&["copy (RDS instance", "could not be compared", "database \"later\" does not exist"]);
    // In a private subnet.
    let elsewhere = text.replace(&pair.source.url("app"), "postgresql://u:p@127.0.0.1:1/app");
    std::fs::write(&pair.config, elsewhere).unwrap();
    pair.provision(&["plan"]).await.ok().prints(&["could not be compared", "connections are free"]);
    pair.provision(&["apply", "--yes"]).await.ok().prints(&["nothing was changed"]);
    pair.provision(&["verify"]).await.ok().prints(&["could not be compared", "copy is ready"]);
}
