//! What is said and done when Secrets Manager does not give a login: at the beginning, and in the middle of a stream.

use std::time::Duration;

use pgstream_testkit::cluster;
use serde_json::json;

use crate::{
    credentials::{emulator, name, put},
    replicator::{Pipeline, Replicator},
    store::{Mood, Store},
};

const DENIED: Mood = Mood::Refusing(
    400,
    "AccessDeniedException",
    "User: arn:aws:sts::123456789012:assumed-role/task/1 is not authorized to perform: secretsmanager:GetSecretValue on resource: \
     arn:aws:secretsmanager:eu-west-1:123456789012:secret:shop because no identity-based policy allows it",
);
const KMS: Mood = Mood::Refusing(400, "AccessDeniedException", "Access to KMS is not allowed");
const DELETED: Mood = Mood::Refusing(
    400,
    "InvalidRequestException",
    "You can't perform this operation on the secret because it was marked for deletion.",
);
const THROTTLED: Mood = Mood::Refusing(400, "ThrottlingException", "Rate exceeded");
const BROKEN: Mood = Mood::Refusing(500, "InternalServiceError", "An error occurred on the server side.");
const EXPIRED: Mood =
    Mood::Refusing(400, "ExpiredTokenException", "The security token included in the request is expired");

#[tokio::test]
async fn each_refusal_of_secrets_manager_names_the_next_step() {
    let (store, cluster) = (Store::new(emulator().await).await, cluster().await);
    let secret = name("refused");
    let login = json!({ "username": "postgres", "password": "canary", "host": "127.0.0.1", "port": cluster.port() });
    put(store.emulator(), &secret, &login).await;
    let url = format!("secretsmanager://{secret}?dbname=app");
    let mut environment = store.environment();
    // What is tried again is not tried for long.
    environment.push(("AWS_MAX_ATTEMPTS".to_owned(), "2".to_owned()));
    for (mood, code, says) in [
        (DENIED, "aws::access_denied", r#"{"Effect": "Allow", "Action": "secretsmanager:GetSecretValue""#),
        (KMS, "aws::kms_denied", "kms:Decrypt"),
        (DELETED, "aws::secret_deleted", "restore-secret"),
        (THROTTLED, "aws::throttled", "wait a minute"),
        (BROKEN, "aws::unavailable", "InternalServiceError"),
        (EXPIRED, "aws::expired_credentials", "renew them"),
        (Mood::Gone, "aws::unreachable", "AWS_ENDPOINT_URL"),
        (Mood::Babbling, "aws::unreadable_answer", "is there a proxy between"),
    ] {
        store.be(mood);
        let done = Replicator::start_in(&["status", "--postgres-url", &url], environment.clone()).done().await;
        let done = done.ends(1).says(&[&format!("error[{code}]"), says]);
        assert!(!done.err.contains("canary"), "{}", done.err);
    }
}

/// Many attempts are not needed to see it.
#[tokio::test]
async fn a_secrets_manager_that_hangs_is_given_up() {
    let store = Store::new(emulator().await).await;
    store.be(Mood::Silent);
    let mut environment = store.environment();
    environment.push(("AWS_MAX_ATTEMPTS".to_owned(), "1".to_owned()));
    let done = Replicator::start_in(&["status", "--postgres-url", "secretsmanager://s"], environment).done().await;
    done.ends(1).says(&["error[aws::timeout]", "secretsmanager:GetSecretValue", "run the same command again"]);
}

/// A pipeline whose source logs in with what the store keeps.
async fn pipeline(store: &Store) -> (Pipeline, String) {
    let mut pipeline = Pipeline::new("CREATE TABLE t (id int PRIMARY KEY)").await;
    let secret = name("source");
    pipeline.here().await.batch("CREATE ROLE app_user SUPERUSER LOGIN PASSWORD 'canary1'").await;
    put(store.emulator(), &secret, &login(&pipeline, 1)).await;
    pipeline.set("source.postgres.url", format!("secretsmanager://{secret}"));
    let mut environment = store.environment();
    environment.push(("AWS_MAX_ATTEMPTS".to_owned(), "1".to_owned()));
    pipeline.environment(environment);
    pipeline.pgstream(&["init"]).await.ok();
    (pipeline, secret)
}

fn login(pipeline: &Pipeline, n: u32) -> serde_json::Value {
    json!({ "engine": "postgres", "host": "127.0.0.1", "port": pipeline.source.port(), "dbname": "app",
            "username": "app_user", "password": format!("canary{n}") })
}

async fn end_sessions(pipeline: &Pipeline) {
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app_user'";
    pipeline.here().await.batch(kill).await;
}

#[tokio::test]
async fn a_stream_survives_an_outage_of_secrets_manager() {
    let store = Store::new(emulator().await).await;
    let (pipeline, secret) = pipeline(&store).await;
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    for (n, mood) in (2..).zip([Mood::Gone, THROTTLED, BROKEN, Mood::Babbling]) {
        // An open session needs no secret.
        store.be(mood);
        pipeline.caught_up(&mut running).await;
        // A new one does: it waits until the outage is over, and takes the password that was set meanwhile.
        pipeline.here().await.batch(&format!("ALTER ROLE app_user PASSWORD 'canary{n}'")).await;
        put(store.emulator(), &secret, &login(&pipeline, n)).await;
        end_sessions(&pipeline).await;
        pipeline.here().await.batch(&format!("INSERT INTO t VALUES ({n})")).await;
        running.says_again("cannot obtain the password").await;
        store.be(Mood::Honest);
        pipeline.caught_up(&mut running).await;
    }
    let done = running.stop().await.ok();
    assert!(!done.err.contains("canary"), "{}", done.err);
    pipeline.assert_same_rows().await;
}

#[tokio::test]
async fn a_stream_ends_when_its_secret_may_not_be_read_any_more() {
    let store = Store::new(emulator().await).await;
    let (pipeline, _) = pipeline(&store).await;
    for (mood, says) in
        [(DENIED, "may not call secretsmanager:GetSecretValue"), (KMS, "KMS key"), (DELETED, "scheduled for deletion")]
    {
        store.be(Mood::Honest);
        let mut running = pipeline.run();
        pipeline.caught_up(&mut running).await;
        store.be(mood);
        // What was read is used for some seconds.
        let read = store.called("GetSecretValue");
        while store.called("GetSecretValue") == read && running.poll().is_none() {
            end_sessions(&pipeline).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        running.done().await.ends(1).says(&["pgstream::postgres::password", says]);
    }
    store.be(Mood::Honest);
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    running.stop().await.ok();
    pipeline.assert_same_rows().await;
}
