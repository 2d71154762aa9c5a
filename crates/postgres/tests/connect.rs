//! Connections to real servers: TLS, authentication, several hosts, what is left behind.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    path::PathBuf,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{SinkExt as _, TryStreamExt as _};
use pgstream_postgres::{
    Class, Credentials, CredentialsError, CredentialsFuture, CredentialsRequest, Dsn, Error, MAX_REFUSALS, Password,
    PasswordProvider, Server, Session, answered,
};
use pgstream_testkit::{Cluster, Flow, Proxy, tools_path};

fn server(url: &str) -> Server {
    Server::new(Dsn::parse(url).unwrap())
}

async fn connect(url: &str) -> Result<pgstream_postgres::Client, Error> {
    server(url).connect(&Session::new("pgstream-aws test")).await
}

/// Fails, as SQL and as a replication connection, with the same class and SQLSTATE.
async fn refused(url: &str) -> Error {
    let error = connect(url).await.err().unwrap_or_else(|| panic!("{url} connects"));
    let other = server(url).replicate().await.err().unwrap_or_else(|| panic!("{url} replicates"));
    assert_eq!((error.class(), error.sqlstate()), (other.class(), other.sqlstate()), "{url}\n{error}\n{other}");
    for text in [format!("{error} {error:?}"), format!("{other} {other:?}")] {
        assert!(!text.contains("CANARY"), "{text}");
    }
    error
}

/// Works, as SQL and as a replication connection; whether TLS was used.
async fn encrypted(url: &str) -> bool {
    let client = connect(url).await.unwrap_or_else(|error| panic!("{url}: {error}"));
    server(url).replicate().await.unwrap_or_else(|error| panic!("{url}: {error}"));
    let row = client.query_one("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[]).await.unwrap();
    row.get(0)
}

/// `localhost` may resolve to `::1`, where the server does not listen.
fn by_name(cluster: &Cluster, name: &str, parameters: &str) -> String {
    cluster.url("postgres").replace("@127.0.0.1:", &format!("@{name}:")) + "?hostaddr=127.0.0.1&" + parameters
}

#[tokio::test]
async fn every_sslmode_means_what_libpq_says() {
    let cluster = Cluster::builder().tls().start().await.unwrap();
    let ca = cluster.ca_file().display().to_string();
    let url = |name: &str, parameters: &str| by_name(&cluster, name, parameters);

    assert!(!encrypted(&url("localhost", "sslmode=disable")).await);
    assert!(!encrypted(&url("localhost", "sslmode=allow")).await);
    assert!(encrypted(&url("localhost", "sslmode=prefer")).await);
    assert!(encrypted(&url("localhost", "")).await);
    assert!(encrypted(&url("wrong.example", "sslmode=require")).await);
    assert!(encrypted(&url("wrong.example", &format!("sslmode=verify-ca&sslrootcert={ca}"))).await);
    assert!(encrypted(&url("localhost", &format!("sslmode=verify-full&sslrootcert={ca}"))).await);
    assert!(encrypted(&url("127.0.0.1", &format!("sslmode=verify-full&sslrootcert={ca}"))).await);

    for (name, parameters) in [
        ("wrong.example", format!("sslmode=verify-full&sslrootcert={ca}")),
        ("localhost", "sslmode=verify-full&sslrootcert=system".to_owned()),
        ("localhost", "sslmode=verify-ca".to_owned()),
        // An RDS endpoint is verified without being asked to.
        ("db.abc.eu-west-1.rds.amazonaws.com", String::new()),
    ] {
        let error = refused(&url(name, &parameters)).await;
        assert!(matches!(error, Error::Tls { .. }), "{parameters}: {error}");
        assert_eq!(error.class(), Class::Setup, "{parameters}");
    }
    let missing = refused(&url("localhost", "sslmode=verify-ca&sslrootcert=/does/not/exist")).await;
    assert_eq!(missing.class(), Class::Config);
}

#[tokio::test]
async fn roots_of_another_authority_are_no_reason_to_trust() {
    let cluster = Cluster::builder().tls().start().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("other.pem");
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    std::fs::write(&path, params.self_signed(&key).unwrap().pem()).unwrap();
    for mode in ["require", "verify-ca", "verify-full"] {
        let url = by_name(&cluster, "localhost", &format!("sslmode={mode}&sslrootcert={}", path.display()));
        assert!(matches!(refused(&url).await, Error::Tls { .. }), "{mode}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_is_asked_for() {
    let cluster = Cluster::builder().start().await.unwrap();
    assert!(!encrypted(&by_name(&cluster, "localhost", "sslmode=prefer")).await);
    for mode in ["require", "verify-ca", "verify-full"] {
        let error = refused(&by_name(&cluster, "localhost", &format!("sslmode={mode}"))).await;
        assert!(error.to_string().contains("does not offer TLS"), "{error}");
        assert_eq!(error.class(), Class::Setup);
    }
    let error = refused(&by_name(&cluster, "localhost", "channel_binding=require")).await;
    assert_eq!(error.class(), Class::Setup, "{error}");
}

#[tokio::test]
async fn pg_hba_decides_between_tls_and_plain() {
    let only_tls = Cluster::builder().tls().hba("hostnossl all all 127.0.0.1/32 reject").start().await.unwrap();
    assert!(encrypted(&by_name(&only_tls, "localhost", "sslmode=allow")).await);
    let error = refused(&by_name(&only_tls, "localhost", "sslmode=disable")).await;
    assert_eq!((error.sqlstate(), error.class()), (Some("28000"), Class::Setup));
    assert!(error.remedy().is_some_and(|help| help.contains("sslmode=require")));

    let only_plain = Cluster::builder().tls().hba("hostssl all all 127.0.0.1/32 reject").start().await.unwrap();
    assert!(!encrypted(&by_name(&only_plain, "localhost", "sslmode=prefer")).await);
}

#[tokio::test]
async fn passwords_are_proven_in_every_way_that_servers_ask_for() {
    let cluster = Cluster::builder()
        .tls()
        .hba("host all md5_user 127.0.0.1/32 md5")
        .hba("host all clear_user 127.0.0.1/32 password")
        .hba("host all trusted 127.0.0.1/32 trust")
        .start()
        .await
        .unwrap();
    let admin = cluster.client("postgres").await;
    admin
        .batch(
            "SET password_encryption = 'md5'; CREATE ROLE md5_user LOGIN REPLICATION PASSWORD 'pä:@/% s';
             SET password_encryption = 'scram-sha-256';
             CREATE ROLE clear_user LOGIN REPLICATION PASSWORD 'pä:@/% s';
             CREATE ROLE scram_user LOGIN REPLICATION PASSWORD 'pä:@/% s';
             CREATE ROLE trusted LOGIN REPLICATION",
        )
        .await;
    let url = |user, password, parameters: &str| cluster.url_as(user, password, "postgres") + "?" + parameters;
    for user in ["md5_user", "clear_user", "scram_user"] {
        encrypted(&url(user, "pä:@/% s", "")).await;
        let error = refused(&url(user, "CANARY", "")).await;
        assert_eq!((error.sqlstate(), error.class()), (Some("28P01"), Class::Setup), "{user}");
    }
    let no_password = cluster.url_as("scram_user", "", "postgres");
    assert_eq!(refused(&no_password).await.class(), Class::Setup);

    // SCRAM-SHA-256-PLUS, and what channel_binding=require must not accept in its place.
    assert!(encrypted(&url("scram_user", "pä:@/% s", "channel_binding=require")).await);
    assert!(encrypted(&url("scram_user", "pä:@/% s", "channel_binding=disable")).await);
    for user in ["md5_user", "clear_user", "trusted"] {
        let error = refused(&url(user, "pä:@/% s", "channel_binding=require")).await;
        assert_eq!(error.class(), Class::Setup, "{user}: {error}");
    }
    refused(&url("scram_user", "pä:@/% s", "channel_binding=require&sslmode=disable")).await;
}

#[tokio::test]
async fn what_the_url_names_wrongly_is_a_matter_of_configuration() {
    let cluster = Cluster::builder().start().await.unwrap();
    let error = refused(&cluster.url("nowhere")).await;
    assert_eq!((error.sqlstate(), error.class()), (Some("3D000"), Class::Config));
    let error = refused(&(cluster.url("postgres") + "?options=-c%20work_mem%3Dmuch")).await;
    assert_eq!((error.sqlstate(), error.class()), (Some("22023"), Class::Config));
    let error = refused("postgresql://u@127.0.0.1:1/d").await;
    assert_eq!(error.class(), Class::Transient);
    let error = refused("postgresql://u@no-such-host.invalid/d").await;
    assert_eq!(error.class(), Class::Transient);
}

#[tokio::test]
async fn settings_arrive_verbatim_and_the_session_wins_over_the_url() {
    let cluster = Cluster::builder().start().await.unwrap();
    let url =
        cluster.url("postgres") + "?options=-c%20work_mem%3D5MB%20-c%20TimeZone%3DAsia%2FTokyo&application_name=mine";
    let hostile = "a b\\c'\"d\te\nf";
    let session = Session::new("ours").with("pgstream.probe", hostile).with("pgstream.empty", "");
    let client = server(&url).connect(&session).await.unwrap();
    for (setting, value) in [
        ("pgstream.probe", hostile),
        ("pgstream.empty", ""),
        ("work_mem", "5MB"),
        ("TimeZone", "UTC"),
        ("application_name", "mine"),
        ("search_path", "pg_catalog"),
    ] {
        let row = client.query_one("SELECT current_setting($1)", &[&setting]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), value, "{setting}");
    }
}

#[tokio::test]
async fn the_first_host_that_fits_is_taken() {
    let cluster = Cluster::builder().tls().start().await.unwrap();
    let hosts = |list: &str| cluster.url("postgres").replace(&format!("127.0.0.1:{}", cluster.port()), list);
    let here = format!("127.0.0.1:{}", cluster.port());
    let several = hosts(&format!("127.0.0.1:1,{here}"));
    encrypted(&several).await;
    encrypted(&(several.clone() + "?target_session_attrs=read-write")).await;
    encrypted(&(several.clone() + "?target_session_attrs=prefer-standby")).await;
    let error = refused(&(several + "?target_session_attrs=standby")).await;
    assert!(matches!(error, Error::WrongRole { .. }), "{error}");
    assert_eq!(error.class(), Class::Transient);

    let socket = cluster.socket_dir().display().to_string().replace('/', "%2F");
    assert!(!encrypted(&hosts(&format!("{socket}:{}", cluster.port()))).await);
}

#[derive(Debug)]
struct Rotated {
    asked: AtomicUsize,
    then: &'static str,
}

impl PasswordProvider for Rotated {
    fn credentials<'a>(&'a self, request: CredentialsRequest<'a>) -> CredentialsFuture<'a> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            match self.then {
                "" => Err(CredentialsError { problem: "throttled".to_owned(), class: Class::Transient, help: None }),
                then if request.refusal.is_some() => {
                    Ok(Credentials { user: Some("second".to_owned()), password: then.into() })
                }
                _ => Ok(Credentials { user: None, password: "outdated CANARY".into() }),
            }
        })
    }
}

#[tokio::test]
async fn a_refused_password_is_asked_for_again_and_not_for_ever() {
    let cluster = Cluster::builder().start().await.unwrap();
    cluster.client("postgres").await.batch("CREATE ROLE second LOGIN REPLICATION PASSWORD 'new'").await;
    let with = |then| {
        let provider = Arc::new(Rotated { asked: AtomicUsize::new(0), then });
        let server = server(&cluster.url("postgres")).with_password(Password::Provider(provider.clone()));
        (server, provider)
    };
    let session = Session::new("test");

    let (server, provider) = with("new");
    let client = server.connect(&session).await.unwrap();
    let row = client.query_one("SELECT current_user::text", &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "second");
    assert_eq!(provider.asked.load(Ordering::SeqCst), 2);
    server.replicate().await.unwrap();

    let (server, provider) = with("wrong");
    assert_eq!(server.connect(&session).await.err().unwrap().sqlstate(), Some("28P01"));
    assert_eq!(provider.asked.load(Ordering::SeqCst), 1 + MAX_REFUSALS as usize);

    let (server, _) = with("");
    assert_eq!(server.connect(&session).await.err().unwrap().class(), Class::Transient);
}

#[tokio::test]
async fn a_statement_ends_with_the_client_that_ran_it() {
    let cluster = Cluster::builder().tls().start().await.unwrap();
    let admin = cluster.client("postgres").await;
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgstream-aws test'";
    for mode in ["disable", "require"] {
        let client = connect(&by_name(&cluster, "localhost", &format!("sslmode={mode}"))).await.unwrap();
        // The statement is sent, and then nobody waits for it any more.
        let sleep = client.batch_execute("SELECT pg_sleep(600)");
        let waited = tokio::time::timeout(std::time::Duration::from_millis(100), sleep).await;
        assert!(waited.is_err(), "still asleep");
        admin.wait_until(&format!("{sessions} AND state = 'active'"), "1").await;
        drop(client);
        admin.wait_until(sessions, "0").await;
    }
}

#[tokio::test]
async fn a_statement_can_be_cancelled() {
    let cluster = Cluster::builder().start().await.unwrap();
    let client = connect(&cluster.url("postgres")).await.unwrap();
    let canceller = client.canceller();
    let admin = cluster.client("postgres").await;
    let (result, ()) = tokio::join!(client.batch_execute("SELECT pg_sleep(600)"), async {
        admin.wait_until("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'", "1").await;
        canceller.cancel().await.unwrap();
    });
    assert_eq!(client.failed("sleeping")(result.unwrap_err()).sqlstate(), Some("57014"));
}

#[tokio::test]
async fn the_reason_of_an_ended_session_reaches_the_next_statement() {
    let cluster = Cluster::builder().start().await.unwrap();
    let client = connect(&cluster.url("postgres")).await.unwrap();
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let admin = cluster.client("postgres").await;
    admin.batch(&format!("SELECT pg_terminate_backend({pid})")).await;
    admin.wait_until(&format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}"), "0").await;
    while !client.is_closed() {
        tokio::task::yield_now().await;
    }
    let error = client.query("SELECT 1", &[]).await.map_err(client.failed("asking")).unwrap_err();
    assert_eq!((error.sqlstate(), error.class()), (Some("57P01"), Class::Transient), "{error}");
}

#[tokio::test]
async fn row_values_stay_out_of_errors() {
    let cluster = Cluster::builder().start().await.unwrap();
    let client = connect(&cluster.url("postgres")).await.unwrap();
    client.batch_execute("CREATE TEMP TABLE t (a text PRIMARY KEY, n int)").await.unwrap();
    for statement in [
        "INSERT INTO t VALUES ('CANARY', 1), ('CANARY', 2)",
        "INSERT INTO t VALUES ('a', 'CANARY')",
        "SELECT 'CANARY'::timestamptz",
    ] {
        let error = client.batch_execute(statement).await.map_err(client.failed("writing")).unwrap_err();
        assert_eq!(error.class(), Class::Data);
        assert!(!format!("{error} {error:?}").contains("CANARY"), "{error}");
    }
    let detail = client.batch_execute("DROP SCHEMA pg_catalog").await.map_err(client.failed("dropping")).unwrap_err();
    assert!(detail.to_string().contains("SQLSTATE"), "{detail}");
}

#[tokio::test]
async fn the_tools_reach_the_same_server_in_the_same_way() {
    let cluster = Cluster::builder().tls().start().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let ca = cluster.ca_file().display().to_string();
    cluster.client("postgres").await.batch("CREATE ROLE odd LOGIN PASSWORD 'CANARY:\\ x'").await;
    let here = format!("127.0.0.1:{}", cluster.port());
    let url = cluster.url_as("odd", "CANARY:\\ x", "postgres").replace(&here, &format!("127.0.0.1:1,{here}"))
        + &format!("?sslmode=verify-full&sslrootcert={ca}&channel_binding=require&options=-c%20work_mem%3D5MB");
    let environment = server(&url).tool_environment(directory.path()).await.unwrap();
    assert!(environment.iter().all(|(_, value)| !value.contains("CANARY")));
    let output = tokio::process::Command::new("psql")
        .args([
            "-XAtc",
            "SELECT current_user, ssl, current_setting('work_mem') FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
        ])
        .env("PATH", tools_path().unwrap())
        .env("PGPASSWORD", "wrong")
        .envs(environment)
        .output()
        .await
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "odd|t|5MB\n", "{}", String::from_utf8_lossy(&output.stderr));

    let rds = server("postgresql://u:p@db.abc.eu-west-1.rds.amazonaws.com/d");
    let environment = rds.tool_environment(directory.path()).await.unwrap();
    let roots = environment.iter().find(|(name, _)| name == "PGSSLROOTCERT").map(|(_, path)| PathBuf::from(path));
    assert!(std::fs::read_to_string(roots.unwrap()).unwrap().contains("Amazon RDS"));
}

#[tokio::test]
async fn a_client_certificate_logs_in() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    // The server runs as another user and reads the authority.
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "robot");
    let certificate = params.signed_by(&key, &authority).unwrap();
    std::fs::write(path("ca.pem"), authority.as_ref().pem()).unwrap();
    std::fs::write(path("robot.pem"), certificate.pem()).unwrap();
    std::fs::write(path("robot.key"), key.serialize_pem()).unwrap();

    let cluster = Cluster::builder()
        .tls()
        .setting("ssl_ca_file", &path("ca.pem"))
        .hba("hostssl all robot 127.0.0.1/32 cert")
        .start()
        .await
        .unwrap();
    cluster.client("postgres").await.batch("CREATE ROLE robot LOGIN REPLICATION").await;
    let url = cluster.url_as("robot", "", "postgres") + "?sslmode=require";
    assert!(encrypted(&format!("{url}&sslcert={}&sslkey={}", path("robot.pem"), path("robot.key"))).await);
    assert_eq!(refused(&url).await.class(), Class::Setup);
    let error = refused(&format!("{url}&sslcert={}&sslkey={}", path("robot.pem"), path("robot.pem"))).await;
    assert_eq!(error.class(), Class::Config, "{error}");
}

#[tokio::test]
async fn an_answer_that_was_lost_is_not_waited_for() {
    let cluster = Cluster::builder().start().await.unwrap();
    let connected = async || {
        let proxy = Proxy::start(cluster.port()).await.unwrap();
        let client = connect(&proxy.url(&cluster.url("postgres"), cluster.port())).await.unwrap();
        (proxy, client)
    };
    let given_up = |error: Error| {
        assert!(matches!(error, Error::Unanswered { .. }), "{error}");
        assert_eq!(error.class(), Class::Transient);
        assert!(error.to_string().starts_with("an answer of 127.0.0.1:"), "{error}");
    };
    let lost = async |flow| {
        let (proxy, client) = connected().await;
        client.batch_execute("BEGIN").await.unwrap();
        proxy.lose(flow);
        for _ in 0..2 {
            given_up(client.query_one("SELECT 1", &[]).await.map_err(client.failed("asking")).unwrap_err());
        }
    };
    // Of rows that are on their way, only whoever waits knows that none are to come.
    let lost_rows = async {
        let (proxy, client) = connected().await;
        client.batch_execute("CREATE TABLE public.few (n int)").await.unwrap();
        let copy = async {
            let mut sink = pin!(client.copy_in::<_, &[u8]>("COPY public.few FROM STDIN").await?);
            proxy.lose(Flow::Up);
            sink.send(b"1\n").await?;
            sink.finish().await
        };
        let copy = async { copy.await.map_err(client.failed("copying")) };
        given_up(answered(&[client.pulse()], copy).await.unwrap_err());
    };
    tokio::join!(lost(Flow::Up), lost(Flow::Down), lost_rows);
}

#[tokio::test]
async fn an_answer_that_takes_long_is_waited_for() {
    const LONG: Duration = Duration::from_secs(45);
    let cluster = Cluster::builder().start().await.unwrap();
    let url = cluster.url("postgres");
    let (working, waiting, holder) = tokio::try_join!(connect(&url), connect(&url), connect(&url)).unwrap();
    holder.batch_execute("BEGIN; SELECT pg_advisory_xact_lock(1)").await.unwrap();
    let works = async {
        let sleeps = async { working.batch_execute("SELECT pg_sleep(50)").await.map_err(working.failed("sleeping")) };
        answered(&[working.pulse()], sleeps).await
    };
    let waits = async {
        let locks = "SELECT pg_advisory_lock(1)";
        let locks = async { waiting.batch_execute(locks).await.map_err(waiting.failed("locking")) };
        answered(&[waiting.pulse()], locks).await
    };
    // The one session idles while the other works: rows are read slowly and written at once.
    let reading = async {
        let commits = async {
            tokio::time::sleep(LONG).await;
            holder.batch_execute("COMMIT").await.map_err(holder.failed("committing"))
        };
        answered(&[working.pulse(), holder.pulse()], commits).await
    };
    let writes_slowly = async {
        let client = connect(&url).await?;
        client.batch_execute("CREATE TABLE public.few (n int)").await.unwrap();
        let mut sink = pin!(client.copy_in("COPY public.few FROM STDIN").await.unwrap());
        tokio::time::sleep(LONG).await;
        sink.send(&b"1\n"[..]).await.unwrap();
        assert_eq!(sink.finish().await.map_err(client.failed("copying"))?, 1);
        Ok(())
    };
    let reads_slowly = async {
        let client = connect(&url).await?;
        let rows = "SELECT n, repeat('x', 1000) FROM generate_series(1, 500) AS n";
        let mut rows = pin!(client.query_raw(rows, std::iter::empty::<i32>()).await.unwrap());
        assert!(rows.try_next().await.unwrap().is_some());
        tokio::time::sleep(LONG).await;
        assert_eq!(rows.try_collect::<Vec<_>>().await.map_err(client.failed("reading"))?.len(), 499);
        Ok(())
    };
    // What it was asked is answered, also by a COPY that failed.
    let idles = async {
        let client = connect(&url).await?;
        client.batch_execute("CREATE TABLE public.whole (n int)").await.unwrap();
        for (row, copied) in [(&b"1\n"[..], true), (b"one\n", false)] {
            let mut sink = pin!(client.copy_in("COPY public.whole FROM STDIN").await.unwrap());
            sink.send(row).await.unwrap();
            assert_eq!(sink.finish().await.is_ok(), copied);
        }
        tokio::time::sleep(LONG).await;
        client.batch_execute("SELECT 1").await.map_err(client.failed("asking"))
    };
    tokio::try_join!(works, waits, reading, writes_slowly, reads_slowly, idles).unwrap();
}
