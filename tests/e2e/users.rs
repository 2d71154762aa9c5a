//! `users plan|apply`: roles with exactly what they need, and a pipeline that runs with them.

use pgstream_testkit::{Emulator, cluster};
use serde_json::Value;

use crate::{
    credentials::{emulator, name, put},
    replicator::{Pipeline, Replicator},
    store::{Mood, Store},
};

const SCHEMA: &str = "CREATE ROLE app_owner; GRANT CREATE ON SCHEMA public TO app_owner; SET ROLE app_owner;
    CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1); CREATE SEQUENCE s; SELECT nextval('s')";

async fn steps(arguments: &[&str]) -> Vec<Value> {
    let done = Replicator::start(&[&["users", "plan", "--json"], arguments].concat()).done().await.ok();
    done.json()["steps"].as_array().unwrap().clone()
}

fn missing(steps: &[Value]) -> Vec<&str> {
    steps.iter().filter(|step| step["present"] == false).map(|step| step["sql"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_pipeline_runs_with_the_roles_that_users_apply_made() {
    let emulator = Emulator::start().await.unwrap_or_else(|error| panic!("{error}"));
    let mut pipeline = Pipeline::new(SCHEMA).await;
    let there = pipeline.there().await;
    there.batch("CREATE ROLE app_owner; GRANT CREATE ON SCHEMA public TO app_owner; GRANT CREATE ON DATABASE app TO app_owner").await;
    pipeline.pgstream(&["init"]).await.ok();
    let unique = emulator.endpoint().replace([':', '/', '.'], "-") + &pipeline.source.port().to_string();
    let (source, target) = (pipeline.source.url("app"), pipeline.target.url("app"));
    // The owners that the target will have are not owners of anything there yet.
    there.batch("CREATE TABLE seed (); ALTER TABLE seed OWNER TO app_owner").await;
    for (role, url) in [("source", &source), ("target", &target)] {
        let plan = ["--admin-url", url.as_str(), "--role", role];
        let secret = format!("{unique}-{role}");
        let mut said = String::new();
        let apply =
            [&["users", "apply", "--yes", "--secret", &secret, "--log-level", "trace"], plan.as_slice()].concat();
        for time in ["first", "second"] {
            let done = Replicator::start_in(&apply, emulator.environment()).done().await.ok();
            assert!(!done.err.contains("SCRAM-SHA-256$") && !done.out.contains("SCRAM-SHA-256$"), "{time} {done:?}");
            said += &(done.err + &done.out);
            let left = steps(&plan).await;
            assert!(!left.is_empty() && missing(&left).is_empty(), "{:#?}", missing(&left));
        }
        pipeline.set(&format!("{role}.postgres.url"), format!("secretsmanager://{secret}"));
        let text = emulator.secrets("GetSecretValue", &serde_json::json!({ "SecretId": secret }).to_string()).await.1;
        let value: Value = serde_json::from_str(&text).unwrap();
        let login: Value = serde_json::from_str(value["SecretString"].as_str().unwrap()).unwrap();
        let server = if role == "source" { &pipeline.source } else { &pipeline.target };
        let password = login["password"].as_str().unwrap();
        assert!(!server.log().contains(password) && !said.contains(password), "only the secret holds it");
        assert_eq!((login["engine"].as_str(), login["dbname"].as_str()), (Some("postgres"), Some("app")));
    }
    there.batch("DROP TABLE seed").await;
    pipeline.environment(emulator.environment());
    let schema = "source.postgres.snapshot.schema.pgdump_pgrestore";
    pipeline.set(&format!("{schema}.roles_snapshot_mode"), "disabled");
    pipeline.set(&format!("{schema}.no_privileges"), true);
    let mut running = pipeline.run();
    pipeline.here().await.batch("INSERT INTO t VALUES (2)").await;
    pipeline.caught_up(&mut running).await;
    running.stop().await.ok();
    pipeline.assert_same_rows().await;
}

#[tokio::test]
async fn a_privilege_that_is_taken_away_is_the_one_that_the_plan_misses() {
    let pipeline = Pipeline::new(SCHEMA).await;
    let (here, url) = (pipeline.here().await, pipeline.source.url("app"));
    let plan = ["--admin-url", url.as_str(), "--role", "source", "--mode", "replication", "--with-init"];
    for sql in missing(&steps(&plan).await) {
        here.batch(sql).await;
    }
    assert!(missing(&steps(&plan).await).is_empty());
    for (take, give) in [
        (
            "REVOKE CONNECT ON DATABASE app FROM pgstreamsource, PUBLIC",
            "GRANT CONNECT ON DATABASE \"app\" TO \"pgstreamsource\"",
        ),
        ("ALTER ROLE pgstreamsource NOREPLICATION", "ALTER ROLE \"pgstreamsource\" REPLICATION"),
        ("REVOKE app_owner FROM pgstreamsource", "GRANT \"app_owner\" TO \"pgstreamsource\""),
        ("REVOKE CREATE ON DATABASE app FROM pgstreamsource", "GRANT CREATE ON DATABASE \"app\" TO \"pgstreamsource\""),
    ] {
        here.batch(take).await;
        let steps = steps(&plan).await;
        let found = missing(&steps);
        assert_eq!(found, [give], "{take}");
        here.batch(found[0]).await;
    }
}

#[tokio::test]
async fn init_runs_with_its_grants_and_names_each_that_is_missing() {
    let pipeline = Pipeline::new(SCHEMA).await;
    let (here, admin) = (pipeline.here().await, pipeline.source.url("app"));
    here.batch(
        "ALTER TABLE marker OWNER TO app_owner; CREATE TABLE keyless (a int); ALTER TABLE keyless OWNER TO app_owner",
    )
    .await;
    for sql in missing(&steps(&["--admin-url", &admin, "--role", "source", "--with-init"]).await) {
        here.batch(sql).await;
    }
    here.batch("ALTER ROLE pgstreamsource PASSWORD 'pw'").await;
    let url = pipeline.source.url_as("pgstreamsource", "pw", "app");
    for (take, give, code) in [
        (
            "ALTER ROLE pgstreamsource NOREPLICATION",
            "ALTER ROLE pgstreamsource REPLICATION",
            "source::replication_privilege",
        ),
        (
            "REVOKE CREATE ON DATABASE app FROM pgstreamsource",
            "GRANT CREATE ON DATABASE app TO pgstreamsource",
            "source::create_privilege",
        ),
        ("REVOKE app_owner FROM pgstreamsource", "GRANT app_owner TO pgstreamsource", "source::replica_identity"),
    ] {
        here.batch(take).await;
        Replicator::start(&["init", "--postgres-url", &url]).done().await.ends(1).says(&[code]);
        here.batch(give).await;
    }
    Replicator::start(&["init", "--postgres-url", &url]).done().await.ok();
}

#[tokio::test]
async fn the_administrators_password_shows_nowhere() {
    let (emulator, cluster) = (emulator().await, cluster().await);
    let password = "canary-admin'@:/%";
    let admin = format!("CREATE ROLE chief SUPERUSER LOGIN PASSWORD '{}'", password.replace('\'', "''"));
    cluster.client("app").await.batch(&admin).await;
    let (secret, admin_secret) = (name("made"), name("admin"));
    let login = serde_json::json!({ "username": "chief", "password": password, "host": "127.0.0.1",
                                    "port": cluster.port(), "dbname": "app" });
    put(&emulator, &admin_secret, &login).await;
    let (right, wrong) = (cluster.url_as("chief", password, "app"), cluster.url_as("chief", "canary-wrong", "app"));
    let stored = format!("secretsmanager://{admin_secret}");
    let unreachable = "postgresql://chief:canary-away@127.0.0.1:1/app".to_owned();
    for (url, code) in [(&right, 0), (&stored, 0), (&wrong, 1), (&unreachable, 1)] {
        let mut environment = emulator.environment();
        environment.push(("PGSTREAM_ADMIN_URL".to_owned(), url.clone()));
        environment.push(("PGSTREAM_POSTGRES_LISTENER_URL".to_owned(), url.clone()));
        environment.push(("AWS_SESSION_TOKEN".to_owned(), "canary-session".to_owned()));
        for words in [&["plan"] as &[&str], &["plan", "--json"], &["apply", "--yes", "--secret", &secret]] {
            let arguments = [&["users"], words, &["--role", "target", "--log-level", "trace"]].concat();
            let done = Replicator::start_in(&arguments, environment.clone()).done().await.ends(code);
            let shown = format!("{done:?}");
            let logged = done.err.contains("TRACE") && done.err.contains("GetSecretValue");
            assert!(logged || *url != stored, "everything is logged");
            assert!(!shown.contains("canary"), "{words:?}\n{shown}");
        }
    }
    assert!(!cluster.log().contains("canary"));
}

#[tokio::test]
async fn without_a_place_for_the_password_nothing_is_changed() {
    let (store, cluster) = (Store::new(emulator().await).await, cluster().await);
    let (secret, url) = (name("made"), cluster.url("app"));
    let apply = ["users", "apply", "--yes", "--role", "monitor", "--admin-url", &url, "--secret", &secret];
    let mut environment = store.environment();
    environment.push(("AWS_MAX_ATTEMPTS".to_owned(), "1".to_owned()));
    let denied = Mood::Refusing(
        400,
        "AccessDeniedException",
        "User: me is not authorized to perform: secretsmanager:CreateSecret",
    );
    let role = "SELECT count(*) FROM pg_roles WHERE rolname = 'pgstreammonitor'";
    for (mood, says) in [
        (denied, "secretsmanager:CreateSecret"),
        (Mood::Gone, "aws::unreachable"),
        (Mood::Babbling, "aws::unreadable_answer"),
    ] {
        store.be(mood);
        Replicator::start_in(&apply, environment.clone()).done().await.ends(1).says(&[says]);
        assert_eq!(cluster.client("app").await.scalar::<i64>(role).await, 0, "{mood:?}");
    }
    store.be(Mood::Honest);
    Replicator::start_in(&apply, environment.clone()).done().await.ok();
    assert_eq!(cluster.client("app").await.scalar::<i64>(role).await, 1);
    // Somebody else's secret is not taken for the role's.
    let other = name("other");
    put(store.emulator(), &other, &serde_json::json!({ "username": "somebody", "password": "canary" })).await;
    let apply = ["users", "apply", "--yes", "--role", "monitor", "--admin-url", &url, "--secret", &other];
    let done = Replicator::start_in(&apply, environment).done().await.ends(1);
    assert!(done.says(&["the login of another user", "--secret"]).err.lines().all(|line| !line.contains("canary")));
}

#[tokio::test]
async fn a_secret_that_was_kept_before_the_server_refused_is_used_the_next_time() {
    let (emulator, cluster) = (emulator().await, cluster().await);
    let here = cluster.client("app").await;
    here.batch("CREATE ROLE weak LOGIN PASSWORD 'weak'").await;
    let secret = name("kept");
    let apply = async |url: &str| {
        let arguments = ["users", "apply", "--yes", "--role", "monitor", "--admin-url", url, "--secret", &secret];
        Replicator::start_in(&arguments, emulator.environment()).done().await
    };
    apply(&cluster.url_as("weak", "weak", "app")).await.ends(1).says(&["42501", "permission denied to create role"]);
    let kept = async || {
        let body = serde_json::json!({ "SecretId": secret }).to_string();
        let answer: Value = serde_json::from_str(&emulator.secrets("GetSecretValue", &body).await.1).unwrap();
        answer["SecretString"].as_str().unwrap().to_owned()
    };
    let before = kept().await;
    apply(&cluster.url("app")).await.ok();
    assert_eq!(kept().await, before);
    let login: Value = serde_json::from_str(&before).unwrap();
    let url = cluster.url_as("pgstreammonitor", login["password"].as_str().unwrap(), "app");
    pgstream_testkit::Client::open(&url).await.unwrap();
}
