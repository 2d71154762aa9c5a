//! The simulator as the AWS SDK sees it.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::time::Duration;

use aws_sdk_rds::{
    Client,
    config::{BehaviorVersion, Credentials, Region, retry::RetryConfig, timeout::TimeoutConfig},
    error::{DisplayErrorContext, ProvideErrorMetadata},
    types::{ApplyMethod, Event, Parameter, SourceType, Tag},
};
use rds_sim::{Cluster, Database, Fault, Instance, Options, Policy, Simulator};

async fn simulator() -> (Simulator, Client) {
    let simulator = Simulator::start(Options::default()).await.unwrap();
    let timeouts = TimeoutConfig::builder().operation_attempt_timeout(Duration::from_secs(5)).build();
    let config = aws_sdk_rds::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(simulator.endpoint())
        .region(Region::new("eu-west-1"))
        .credentials_provider(Credentials::new("AKIATEST", "secret", None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        .build();
    (simulator, Client::from_conf(config))
}

async fn instance_status(client: &Client, id: &str) -> (String, String, String) {
    let found = client.describe_db_instances().db_instance_identifier(id).send().await.unwrap();
    let instance = &found.db_instances()[0];
    let group = &instance.db_parameter_groups()[0];
    (
        instance.db_instance_status().unwrap().to_owned(),
        group.db_parameter_group_name().unwrap().to_owned(),
        group.parameter_apply_status().unwrap().to_owned(),
    )
}

async fn until(client: &Client, id: &str, status: &str, apply: &str) {
    for _ in 0..600 {
        let (now, _, applied) = instance_status(client, id).await;
        if now == status && applied == apply {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{id} never was {status}, {apply}: {:?}", instance_status(client, id).await);
}

fn parameter(name: &str, value: &str, method: ApplyMethod) -> Parameter {
    Parameter::builder().parameter_name(name).parameter_value(value).apply_method(method).build()
}

async fn own_group(client: &Client, name: &str, family: &str) {
    let request = client.create_db_parameter_group().db_parameter_group_name(name).db_parameter_group_family(family);
    request.description("test").tags(Tag::builder().key("k").value("v").build()).send().await.unwrap();
}

async fn setting(database: &Database, name: &str) -> String {
    database.cluster().client("app").await.text(&format!("SHOW {name}")).await.unwrap()
}

fn code<T: std::fmt::Debug, E: ProvideErrorMetadata + std::fmt::Debug>(sent: Result<T, E>) -> String {
    sent.unwrap_err().code().unwrap_or("none").to_owned()
}

#[tokio::test]
async fn a_static_parameter_comes_into_force_with_a_reboot() {
    let (simulator, client) = simulator().await;
    let shop = simulator.create_instance(Instance::new("shop").major(16)).await.unwrap();
    let before = instance_status(&client, "shop").await;
    assert_eq!(before, ("available".into(), "default.postgres16".into(), "in-sync".into()));
    assert_eq!(setting(&shop, "wal_level").await, "replica");

    own_group(&client, "Mine", "postgres16").await;
    let on = parameter("rds.logical_replication", "1", ApplyMethod::PendingReboot);
    client.modify_db_parameter_group().db_parameter_group_name("mine").parameters(on).send().await.unwrap();
    let attach = client.modify_db_instance().db_instance_identifier("shop").db_parameter_group_name("mine");
    attach.apply_immediately(true).send().await.unwrap();
    assert_eq!(instance_status(&client, "shop").await.2, "applying");
    until(&client, "shop", "available", "pending-reboot").await;
    assert_eq!(setting(&shop, "wal_level").await, "replica");

    client.reboot_db_instance().db_instance_identifier("shop").send().await.unwrap();
    assert_eq!(instance_status(&client, "shop").await.0, "available", "for a moment yet");
    let again = client.reboot_db_instance().db_instance_identifier("shop").send().await;
    assert_eq!(code(again), "InvalidDBInstanceState");
    until(&client, "shop", "rebooting", "pending-reboot").await;
    until(&client, "shop", "available", "in-sync").await;
    assert_eq!(setting(&shop, "wal_level").await, "logical");
    assert_eq!(setting(&shop, "rds.logical_replication").await, "on");

    let tags = client.list_tags_for_resource().resource_name("arn:aws:rds:eu-west-1:123456789012:pg:mine");
    assert_eq!(tags.send().await.unwrap().tag_list()[0].value(), Some("v"));
    let calls = simulator.calls();
    assert!(calls.iter().all(|call| call.access_key == "AKIATEST"));
    assert_eq!(calls.iter().filter(|call| call.action == "RebootDBInstance").count(), 2);
}

#[tokio::test]
async fn parameters_come_in_pages_with_what_may_be_done_to_them() {
    let (simulator, client) = simulator().await;
    simulator.create_instance(Instance::new("shop").major(16).group("g").parameter("work_mem", "8192")).await.unwrap();
    let pages = client.describe_db_parameters().db_parameter_group_name("g").into_paginator().items().send();
    let all: Vec<Parameter> = pages.collect::<Result<_, _>>().await.unwrap();
    assert!(all.len() > 300, "{}", all.len());
    let find = |name: &str| all.iter().find(|parameter| parameter.parameter_name() == Some(name)).unwrap();
    let logical = find("rds.logical_replication");
    assert_eq!((logical.apply_type(), logical.parameter_value()), (Some("static"), Some("0")));
    assert_eq!((logical.source(), logical.is_modifiable()), (Some("system"), Some(true)));
    assert_eq!((find("work_mem").source(), find("work_mem").parameter_value()), (Some("user"), Some("8192")));
    assert_eq!(find("max_wal_senders").apply_type(), Some("static"));
    assert_eq!(find("wal_level").is_modifiable(), Some(false));
    assert_eq!(find("wal_sender_timeout").source(), Some("engine-default"));
}

#[tokio::test]
async fn a_dynamic_parameter_is_in_force_at_once() {
    let (simulator, client) = simulator().await;
    let shop = simulator.create_instance(Instance::new("shop").major(16).group("g")).await.unwrap();
    let change = parameter("wal_sender_timeout", "30000", ApplyMethod::Immediate);
    client.modify_db_parameter_group().db_parameter_group_name("g").parameters(change).send().await.unwrap();
    until(&client, "shop", "available", "in-sync").await;
    let there = shop.cluster().client("app").await;
    there.wait_until("SELECT setting FROM pg_settings WHERE name = 'wal_sender_timeout'", "30000").await;
}

#[tokio::test]
async fn another_group_waits_for_a_reboot_though_only_dynamic_values_differ() {
    let (simulator, client) = simulator().await;
    simulator.declare_instance(Instance::new("shop").major(16));
    own_group(&client, "mine", "postgres16").await;
    let change = parameter("work_mem", "8192", ApplyMethod::Immediate);
    client.modify_db_parameter_group().db_parameter_group_name("mine").parameters(change).send().await.unwrap();
    let attach = client.modify_db_instance().db_instance_identifier("shop").db_parameter_group_name("mine");
    attach.send().await.unwrap();
    until(&client, "shop", "available", "pending-reboot").await;
    assert!(simulator.seen("shop").in_force.is_empty());
    client.reboot_db_instance().db_instance_identifier("shop").send().await.unwrap();
    until(&client, "shop", "available", "in-sync").await;
    let shop = simulator.seen("shop");
    assert_eq!((shop.in_force["work_mem"].as_str(), shop.reboots), ("8192", 1));
}

#[tokio::test]
async fn a_caller_may_do_what_a_policy_allows_and_nothing_else() {
    let (simulator, client) = simulator().await;
    simulator.declare_instance(Instance::new("shop").major(16));
    let listing = r#"{"Statement": [{"Effect": "Allow", "Action": "rds:DescribeDBInstances", "Resource": "*"}]}"#;
    simulator.enforce(Some(Policy::parse(listing)));
    client.describe_db_instances().send().await.unwrap();
    let denied = client.describe_db_clusters().send().await.unwrap_err();
    assert_eq!(denied.code(), Some("AccessDenied"));
    let message = denied.message().unwrap();
    assert!(
        message.contains("perform: rds:DescribeDBClusters on resource: arn:aws:rds:eu-west-1:123456789012:cluster:*"),
        "{message}"
    );
    simulator.enforce(None);
    client.describe_db_clusters().send().await.unwrap();
}

#[tokio::test]
async fn what_aws_refuses_is_refused() {
    let (simulator, client) = simulator().await;
    simulator.create_instance(Instance::new("shop").major(16).group("used")).await.unwrap();
    simulator.create_instance(Instance::new("old").major(15)).await.unwrap();
    own_group(&client, "fifteen", "postgres15").await;
    let modify = |group: &str, change: Parameter| {
        client.modify_db_parameter_group().db_parameter_group_name(group).parameters(change).send()
    };
    let ok = || parameter("work_mem", "8192", ApplyMethod::Immediate);
    assert_eq!(code(modify("default.postgres16", ok()).await), "InvalidParameterValue");
    assert_eq!(code(modify("nobody", ok()).await), "DBParameterGroupNotFound");
    let fixed = parameter("rds.logical_replication", "1", ApplyMethod::Immediate);
    assert_eq!(code(modify("used", fixed).await), "InvalidParameterCombination");
    for (name, value) in
        [("no_such", "1"), ("rds.logical_replication", "on"), ("wal_level", "logical"), ("max_wal_senders", "-5")]
    {
        let change = parameter(name, value, ApplyMethod::PendingReboot);
        assert_eq!(code(modify("used", change).await), "InvalidParameterValue", "{name}");
    }
    let many = client.modify_db_parameter_group().db_parameter_group_name("used");
    let many = (0..21).fold(many, |many, _| many.parameters(ok()));
    assert_eq!(code(many.send().await), "InvalidParameterValue");

    let create = |name: &str, family: &str| {
        let request = client.create_db_parameter_group().db_parameter_group_name(name);
        request.db_parameter_group_family(family).description("x").send()
    };
    assert_eq!(code(create("used", "postgres16").await), "DBParameterGroupAlreadyExists");
    assert_eq!(code(create("new", "postgres99").await), "InvalidParameterValue");
    for name in ["1a", "a--b", "a-", "a_b", "default.postgres16"] {
        assert_eq!(code(create(name, "postgres16").await), "InvalidParameterValue", "{name}");
    }
    let attach =
        |group: &str| client.modify_db_instance().db_instance_identifier("shop").db_parameter_group_name(group).send();
    assert_eq!(code(attach("fifteen").await), "InvalidParameterCombination");
    assert_eq!(code(attach("nobody").await), "DBParameterGroupNotFound");
    let delete = |group: &str| client.delete_db_parameter_group().db_parameter_group_name(group).send();
    assert_eq!(code(delete("used").await), "InvalidDBParameterGroupState");
    assert_eq!(code(delete("default.postgres16").await), "InvalidParameterValue");
    delete("fifteen").await.unwrap();
    let missing = client.describe_db_instances().db_instance_identifier("nobody").send().await;
    assert_eq!(code(missing), "DBInstanceNotFound");
    let copy = client.copy_db_parameter_group().source_db_parameter_group_identifier("default.postgres16");
    let copy = copy.target_db_parameter_group_identifier("c").target_db_parameter_group_description("x");
    assert_eq!(code(copy.send().await), "InvalidParameterValue");
}

#[tokio::test]
async fn a_cluster_has_its_own_group_and_its_writer_takes_it() {
    let (simulator, client) = simulator().await;
    let aurora = simulator.create_cluster(Cluster::aurora("aur").group("c")).await.unwrap();
    let multi = simulator.create_cluster(Cluster::multi_az("maz").group("m")).await.unwrap();
    for (group, on) in [("c", "1"), ("m", "1")] {
        let change = parameter("rds.logical_replication", on, ApplyMethod::PendingReboot);
        let request = client.modify_db_cluster_parameter_group().db_cluster_parameter_group_name(group);
        request.parameters(change).send().await.unwrap();
    }
    let member = async |id: &str| {
        let found = client.describe_db_clusters().db_cluster_identifier(id).send().await.unwrap();
        let members = found.db_clusters()[0].db_cluster_members().to_vec();
        let writer = members.iter().find(|member| member.is_cluster_writer() == Some(true)).unwrap();
        writer.db_cluster_parameter_group_status().unwrap().to_owned()
    };
    let becomes = async |id: &str, wanted: &str| {
        for _ in 0..600 {
            if member(id).await == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{id}: {}", member(id).await);
    };
    becomes("aur", "pending-reboot").await;
    assert_eq!(code(client.reboot_db_cluster().db_cluster_identifier("aur").send().await), "InvalidParameterValue");
    client.reboot_db_instance().db_instance_identifier("aur-instance-1").send().await.unwrap();
    becomes("aur", "in-sync").await;
    assert_eq!(setting(&aurora, "wal_level").await, "logical");
    becomes("maz", "pending-reboot").await;
    client.reboot_db_cluster().db_cluster_identifier("maz").send().await.unwrap();
    becomes("maz", "in-sync").await;
    assert_eq!(setting(&multi, "wal_level").await, "logical");
}

#[tokio::test]
async fn faults_come_as_they_were_ordered() {
    let (simulator, client) = simulator().await;
    simulator.create_instance(Instance::new("shop")).await.unwrap();
    simulator.add_pending_modification("shop", "DBInstanceClass", "db.t4g.large");
    let describe = || client.describe_db_instances().send();
    for (fault, expected) in [
        (Fault::Throttle, "Throttling"),
        (Fault::Error500, "InternalFailure"),
        (Fault::ExpiredToken, "ExpiredToken"),
        (Fault::ClockSkew, "SignatureDoesNotMatch"),
        (Fault::WrongSecret, "SignatureDoesNotMatch"),
        (Fault::RequestExpired, "RequestExpired"),
        (Fault::UnknownKey, "InvalidClientTokenId"),
        (Fault::Deny, "AccessDenied"),
    ] {
        simulator.faults().next("DescribeDBInstances", 1, fault);
        assert_eq!(code(describe().await), expected);
        let found = describe().await.unwrap();
        let pending = found.db_instances()[0].pending_modified_values().unwrap();
        assert_eq!(pending.db_instance_class(), Some("db.t4g.large"));
    }
    for fault in [Fault::Truncate, Fault::HangBefore, Fault::HangAfter] {
        simulator.faults().next("DescribeDBInstances", 1, fault);
        let error = describe().await.unwrap_err();
        assert_eq!(error.code(), None, "{}", DisplayErrorContext(&error));
    }
    simulator.faults().after(1, Fault::Deny);
    describe().await.unwrap();
    assert_eq!(code(describe().await), "AccessDenied");
    simulator.faults().clear();
    simulator.faults().reboot_never_ends();
    client.reboot_db_instance().db_instance_identifier("shop").send().await.unwrap();
    until(&client, "shop", "rebooting", "in-sync").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(instance_status(&client, "shop").await.0, "rebooting");
}

#[tokio::test]
async fn what_happens_is_told_of_the_database_that_it_happened_to() {
    let (simulator, client) = simulator().await;
    simulator.create_instance(Instance::new("shop").multi_az()).await.unwrap();
    simulator.declare_instance(Instance::new("other"));
    simulator.add_event("shop", Duration::from_secs(2 * 3600), "low storage", "It was low");
    client.reboot_db_instance().db_instance_identifier("shop").force_failover(true).send().await.unwrap();
    until(&client, "shop", "rebooting", "in-sync").await;
    until(&client, "shop", "available", "in-sync").await;
    let events = async |id: &str, minutes| {
        let asked = client.describe_events().source_type(SourceType::DbInstance).source_identifier(id);
        let found = asked.duration(minutes).send().await.unwrap();
        let text = |event: &Event| format!("{}: {}", event.event_categories()[0], event.message().unwrap());
        found.events().iter().map(text).collect::<Vec<_>>()
    };
    let last_hour = [
        "failover: Multi-AZ instance failover started.",
        "availability: DB instance shutdown",
        "availability: DB instance restarted",
    ];
    assert_eq!(events("shop", 60).await, last_hour);
    assert_eq!(events("shop", 180).await.len(), 4);
    assert_eq!(events("other", 60).await, [""; 0]);
    let unclear = client.describe_events().source_identifier("shop").send().await;
    assert_eq!(code(unclear), "InvalidParameterCombination");
}
