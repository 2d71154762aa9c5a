//! `doctor` on what the RDS API answers, as the AWS CLI prints it.

use rds_sim::{Fault, Instance, Simulator};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    account::{Account, Topology},
    replicator::pgstream,
};

/// Sends a call; the answer.
async fn call(simulator: &Simulator, action: &str, parameters: &str) -> String {
    let endpoint = simulator.endpoint();
    let address = endpoint.trim_start_matches("http://");
    let form = format!("Action={action}&Version=2014-10-31&{parameters}");
    let request = format!(
        "POST / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential=AKIATEST/20260101/eu-west-1/rds/aws4_request\r\n\
         Content-Length: {}\r\n\r\n{form}",
        form.len()
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Sends a call; what it is refused with, as the AWS CLI prints it.
async fn refusal(simulator: &Simulator, action: &str, parameters: &str) -> String {
    let answer = call(simulator, action, parameters).await;
    let of = |name: &str| {
        let (_, rest) =
            answer.split_once(&format!("<{name}>")).unwrap_or_else(|| panic!("{action} {parameters}: {answer}"));
        rest.split_once('<').unwrap().0.to_owned()
    };
    format!("An error occurred ({}) when calling the {action} operation: {}", of("Code"), of("Message"))
}

async fn is_explained(text: &str, id: &str) {
    let known = pgstream(&["doctor", "--json", text]).await.ok().json();
    assert_eq!(known[0]["id"], id, "{text}: {known:#}");
}

#[tokio::test]
async fn what_the_rds_api_answers_is_explained() {
    let account = Account::new().await;
    account.declare(Topology::Instance, Some("tuned"));
    let simulator = &account.simulator;
    simulator.declare_instance(Instance::new("old").major(14).group("older"));
    simulator.declare_instance(Instance::new("busy"));
    simulator.set_status("busy", "backing-up");
    let tuned = "DBParameterGroupName=tuned";
    let set = "Parameters.Parameter.1.ParameterValue=1&Parameters.Parameter.1.ParameterName";
    for (action, parameters, id) in [
        ("DescribeDBInstances", "DBInstanceIdentifier=nowhere".to_owned(), "aws_database_missing"),
        ("DescribeDBClusters", "DBClusterIdentifier=nowhere".to_owned(), "aws_database_missing"),
        ("DescribeDBParameters", "DBParameterGroupName=nowhere".to_owned(), "aws_group_missing"),
        ("RebootDBInstance", "DBInstanceIdentifier=busy".to_owned(), "aws_wrong_state"),
        ("ModifyDBInstance", "DBInstanceIdentifier=busy&ApplyImmediately=true".to_owned(), "aws_wrong_state"),
        ("DeleteDBParameterGroup", tuned.to_owned(), "aws_group_in_use"),
        (
            "ModifyDBParameterGroup",
            format!("DBParameterGroupName=default.postgres16&{set}=rds.logical_replication"),
            "aws_default_group",
        ),
        (
            "CopyDBParameterGroup",
            "SourceDBParameterGroupIdentifier=default.postgres16&TargetDBParameterGroupIdentifier=x".to_owned(),
            "aws_default_group",
        ),
        (
            "ModifyDBParameterGroup",
            format!("{tuned}&{set}=rds.logical_replication&Parameters.Parameter.1.ApplyMethod=immediate"),
            "aws_static_parameter",
        ),
        ("ModifyDBParameterGroup", format!("{tuned}&{set}=rds.extensions"), "aws_parameter_fixed"),
        ("ModifyDBInstance", "DBInstanceIdentifier=shop&DBParameterGroupName=older".to_owned(), "aws_group_family"),
    ] {
        is_explained(&refusal(simulator, action, &parameters).await, id).await;
    }
    for (fault, id) in [
        (Fault::Deny, "aws_access_denied"),
        (Fault::Throttle, "aws_throttled"),
        (Fault::ClockSkew, "aws_clock"),
        (Fault::RequestExpired, "aws_clock"),
        (Fault::ExpiredToken, "aws_credentials_expired"),
        (Fault::UnknownKey, "aws_credentials_invalid"),
        (Fault::WrongSecret, "aws_credentials_invalid"),
    ] {
        simulator.faults().next("RebootDBInstance", 1, fault);
        is_explained(&refusal(simulator, "RebootDBInstance", "DBInstanceIdentifier=shop").await, id).await;
    }
}

#[tokio::test]
async fn an_account_with_as_many_groups_as_it_may_have_is_told_to_delete_one() {
    for (topology, made) in [
        (Topology::Instance, "DBParameterGroupName=unused&DBParameterGroupFamily=postgres16"),
        (Topology::Aurora, "DBClusterParameterGroupName=unused&DBParameterGroupFamily=aurora-postgresql16"),
    ] {
        let account = Account::with(topology).await;
        let simulator = &account.simulator;
        let word = topology.word();
        call(simulator, &format!("Create{word}ParameterGroup"), &format!("{made}&Description=unused")).await;
        simulator.set_group_quota(1);
        let applied = account.provision(&["apply", "shop", "--yes"]).await.ends(1);
        applied.says(&[
            "exceeding the allowed number",
            "delete groups that nothing uses",
            "troubleshooting.md#aws_group_quota",
        ]);
        assert_eq!(simulator.seen("shop").reboots, 0);

        let name = format!("{word}ParameterGroupName=unused");
        let deleted = call(simulator, &format!("Delete{word}ParameterGroup"), &name).await;
        assert!(deleted.starts_with("HTTP/1.1 200"), "{deleted}");
        account.provision(&["apply", "shop", "--yes"]).await.ok();
        account.assert_ready("when there was room");
    }
}

/// Of calls that the program makes itself it knows more than their text: they end with codes of their own.
#[tokio::test]
async fn what_the_account_is_refused_is_named_and_over_with_its_cause() {
    for (fault, code) in [
        (Fault::Throttle, "aws::throttled"),
        (Fault::ClockSkew, "aws::clock_skew"),
        (Fault::RequestExpired, "aws::clock_skew"),
        (Fault::UnknownKey, "aws::invalid_credentials"),
        (Fault::WrongSecret, "aws::invalid_credentials"),
    ] {
        let account = Account::with(Topology::Instance).await;
        account.simulator.faults().next("DescribeDBInstances", usize::MAX, fault);
        let refused = account.provision(&["plan", "shop"]).await.ends(1);
        refused.says(&[&format!("error[{code}]"), "help: ", "docs: docs/troubleshooting.md#aws"]);
        account.simulator.faults().clear();
        account.provision(&["plan", "shop"]).await.ok();
    }
    let account = Account::with(Topology::Instance).await;
    let refused = account.provision(&["plan", "shopp"]).await.ends(1);
    refused.says(&["aws::provision::not_found", "shopp", "docs: docs/troubleshooting.md#"]);
    account.provision(&["plan", "shop"]).await.ok();
}
