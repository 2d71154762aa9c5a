//! Logins with IAM tokens, checked by a server that computes the signature itself.

use std::time::Duration;

use pgstream_testkit::{Cluster, assert_same_rows, cluster};

use crate::{
    gate::Gate,
    replicator::{Done, Replicator},
    secrets::{children, raw},
};

/// A source behind a gate, a target, and a configuration.
struct World {
    source: Cluster,
    target: Cluster,
    gate: Gate,
    directory: tempfile::TempDir,
}

/// A name that means something in URLs.
const USER: &str = "app user";

impl World {
    async fn new() -> Self {
        let trusting = Cluster::builder().hba("host all all 127.0.0.1/32 trust");
        let (source, target) = tokio::join!(trusting.start(), cluster());
        let source = source.unwrap();
        source.create_database("app").await;
        let here = source.client("app").await;
        here.batch(&format!("CREATE ROLE \"{USER}\" SUPERUSER LOGIN; CREATE TABLE t (id int PRIMARY KEY)")).await;
        here.batch("INSERT INTO t SELECT n FROM generate_series(1, 100) n").await;
        let gate = Gate::start(source.port()).await;
        Self { source, target, gate, directory: tempfile::tempdir().unwrap() }
    }

    fn start(&self, arguments: &[&str], environment: Vec<(String, String)>) -> Replicator {
        let path = self.directory.path().join("pipeline.yaml");
        let (source, target) = (self.gate.url(&USER.replace(' ', "%20")), self.target.url("app"));
        let retry = "retry_policy: {exponential: {initial_interval: 100, max_interval: 1000}}";
        let text = format!(
            "source: {{postgres: {{url: '{source}', mode: snapshot_and_replication, {retry}}}}}\n\
             target: {{postgres: {{url: '{target}'}}}}\naws: {{source: {{iam_auth: true}}}}\n"
        );
        std::fs::write(&path, text).unwrap();
        Replicator::start_in(&[arguments, &["-c", path.to_str().unwrap()]].concat(), environment)
    }

    async fn pgstream(&self, arguments: &[&str]) -> Done {
        self.start(arguments, Gate::environment()).done().await
    }

    /// Waits until the target has so many rows.
    async fn arrive(&self, running: &mut Replicator, rows: i64) {
        loop {
            if let Ok(row) = self.target.client("app").await.query_one("SELECT count(*) FROM t", &[]).await
                && row.get::<_, i64>(0) == rows
            {
                return;
            }
            running.assert_running();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test]
async fn every_login_has_a_token_that_the_server_accepts_and_nobody_else_sees() {
    let world = World::new().await;
    world.pgstream(&["init"]).await.ok();

    // pg_dump waits for this lock, and can be looked at.
    let mut locker = world.source.client("app").await;
    let lock = locker.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut running = world.start(&["run", "--log-level", "trace"], Gate::environment());
    let mut seen = false;
    while !seen {
        for (child, arguments) in children(running.pid()) {
            let shown = arguments + &raw(child, "environ");
            assert!(!shown.contains("X-Amz-Signature") && !shown.contains("canary"), "{shown}");
            seen |= shown.contains("pg_dump");
        }
        running.assert_running();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    lock.commit().await.unwrap();
    world.arrive(&mut running, 100).await;

    let here = world.source.client("app").await;
    here.batch("INSERT INTO t VALUES (101)").await;
    world.arrive(&mut running, 101).await;
    // A new session needs a new token.
    here.batch(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{USER}'")).await;
    here.batch("INSERT INTO t VALUES (102)").await;
    world.arrive(&mut running, 102).await;
    let done = running.stop().await.ok();
    for secret in ["X-Amz-Signature=", "canary"] {
        assert!(!done.err.contains(secret) && !done.out.contains(secret), "{secret}\n{}", done.err);
    }
    assert_same_rows(&world.source, &world.target, "app").await;

    let attempts = world.gate.attempts();
    assert!(attempts.iter().all(|attempt| attempt.problem.is_none() && attempt.user == USER), "{attempts:#?}");
    let streams: Vec<_> = attempts.iter().filter(|attempt| attempt.replication).collect();
    assert!(streams.len() >= 3, "init, and two streams: {attempts:#?}");
    assert!(attempts.iter().any(|attempt| attempt.application == "pgstream-aws snapshot"), "{attempts:#?}");
    let first = streams.first().unwrap();
    assert!(streams.last().unwrap().signature != first.signature, "each login has its own token");
}

#[tokio::test]
async fn tokens_that_are_not_accepted_for_replication_name_the_parameter() {
    let world = World::new().await;
    world.gate.allow_replication(false);
    world.pgstream(&["init"]).await.ends(1).says(&[
        "source::replication_privilege",
        "the server refuses an IAM token for a replication connection",
        "rds.iam_auth_for_replication = 1",
    ]);
    world.pgstream(&["init", "--migrations-only"]).await.ok();
    world.gate.allow_replication(true);
    world.pgstream(&["init"]).await.ok();
    world.gate.allow_replication(false);
    let done = world.pgstream(&["run"]).await.ends(1);
    done.says(&["pgstream::postgres::password", "rds.iam_auth_for_replication = 1", "aws.source.secret"]);
    world.gate.allow_replication(true);
    let mut running = world.start(&["run"], Gate::environment());
    world.source.client("app").await.batch("INSERT INTO t VALUES (101)").await;
    world.arrive(&mut running, 101).await;
    running.stop().await.ok();
}

#[tokio::test]
async fn a_token_that_is_not_accepted_says_what_has_to_be_set() {
    let world = World::new().await;
    let mut environment = Gate::environment();
    for (name, value) in &mut environment {
        if name == "AWS_SECRET_ACCESS_KEY" {
            "another".clone_into(value);
        }
    }
    let done = world.start(&["status"], environment).done().await.ends(1);
    let done =
        done.says(&["pgstream::postgres::password", "the server refuses an IAM token", "rds-db:connect", "rds_iam"]);
    assert!(!done.err.contains("X-Amz-Signature"), "{}", done.err);
    let problems: Vec<_> = world.gate.attempts().into_iter().filter_map(|attempt| attempt.problem).collect();
    assert_eq!(problems, ["the signature is wrong"; 2], "once more, for a clock that was behind");
    let environment: Vec<_> = Gate::environment().into_iter().filter(|entry| entry.0 != "AWS_ACCESS_KEY_ID").collect();
    world.start(&["status"], environment).done().await.ends(1).says(&["aws::no_credentials"]);
}
