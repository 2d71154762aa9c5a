//! One row for each obstacle: it is made on real servers, `check` names it, the command that hits it fails with its diagnosis,
//! what was printed as its fix is done as printed, and then the command succeeds.

use pgstream_testkit::{Builder, Cluster, Stop};
use serde_json::Value;

use crate::replicator::{Done, Pipeline, Replicator};

/// What is done about it.
enum Mend {
    /// The statements that `check` prints, run by a superuser of the side that it names.
    Printed,
    /// Those of this check, too: one cause, several things in the way.
    PrintedWith(&'static str),
    /// The same, and the server is restarted.
    PrintedAndRestart,
    /// The key that the fix names, in the configuration.
    Configure(&'static str, Value),
    /// `snapshot` of the schema.
    CopySchema,
    /// The flags that the fix names.
    Flags(&'static [&'static str]),
}

/// A row of the table.
struct Obstacle {
    /// The check that names it.
    id: &'static str,
    /// SQL on the source and on the target, run by superusers.
    source: &'static str,
    target: &'static str,
    /// What else is configured.
    settings: Vec<(&'static str, Value)>,
    /// The command that hits it; `run` succeeds by being in step.
    command: &'static str,
    /// What the command says at its end.
    diagnosis: &'static str,
    mend: Mend,
}

impl Obstacle {
    fn new(id: &'static str, command: &'static str, diagnosis: &'static str, mend: Mend) -> Self {
        Self { id, source: "SELECT", target: "SELECT", settings: Vec::new(), command, diagnosis, mend }
    }

    fn source(self, source: &'static str) -> Self {
        Self { source, ..self }
    }

    fn target(self, target: &'static str) -> Self {
        Self { target, ..self }
    }

    fn set(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.settings.push((key, value.into()));
        self
    }

    async fn proves(self, pipeline: &mut Pipeline) {
        let about = format!("{} on {}", self.id, pipeline.source.major());
        pipeline.here().await.batch(self.source).await;
        pipeline.there().await.batch(self.target).await;
        for (key, value) in self.settings {
            pipeline.set(key, value);
        }
        let before = pipeline.pgstream(&["check", "--json"]).await;
        assert!(found(&before).contains(&self.id.to_owned()), "{about} is not named: {before:?}");

        let failed = pipeline.pgstream(&[self.command]).await;
        assert_eq!(failed.code, Some(1), "{about}: {} does not fail: {failed:?}", self.command);
        let docs = format!("docs: docs/troubleshooting.md#{}\n", self.diagnosis);
        assert!(failed.err.contains(&docs), "{about} is not diagnosed as {}: {failed:?}", self.diagnosis);

        let mut flags: &[&str] = &[];
        match self.mend {
            Mend::Printed => run_printed(pipeline, &before, self.id).await,
            Mend::PrintedWith(other) => {
                run_printed(pipeline, &before, self.id).await;
                run_printed(pipeline, &before, other).await;
            }
            Mend::PrintedAndRestart => {
                run_printed(pipeline, &before, self.id).await;
                pipeline.source.restart(Stop::Fast).await;
            }
            Mend::Configure(key, value) => {
                assert_prints(
                    &before,
                    self.id,
                    &[
                        key.rsplit('.').next().unwrap(),
                        &value.as_str().map_or_else(|| value.to_string(), str::to_owned),
                    ],
                );
                pipeline.set(key, value);
            }
            Mend::CopySchema => {
                assert_prints(&before, self.id, &["pgstream-aws snapshot", "snapshot.mode: schema"]);
                pipeline.set("source.postgres.mode", "snapshot");
                pipeline.set("source.postgres.snapshot.mode", "schema");
                pipeline.pgstream(&["snapshot"]).await.ok();
                pipeline.set("source.postgres.mode", "replication");
            }
            Mend::Flags(names) => {
                assert_prints(&before, self.id, names);
                flags = names;
            }
        }
        if flags.is_empty() {
            let after = pipeline.pgstream(&["check", "--json"]).await;
            assert!(!found(&after).contains(&self.id.to_owned()), "{about} is still named: {after:?}");
        }
        if self.command == "run" {
            let mut run = pipeline.run();
            pipeline.caught_up(&mut run).await;
            run.stop().await.ok();
        } else {
            let done = pipeline.pgstream(&[&[self.command], flags].concat()).await;
            assert_eq!(done.code, Some(0), "{about}: {} still fails: {done:?}", self.command);
        }
    }
}

fn findings(done: &Done) -> Vec<Value> {
    done.json()["findings"].as_array().unwrap().clone()
}

fn found(done: &Done) -> Vec<String> {
    findings(done).iter().map(|finding| finding["id"].as_str().unwrap().to_owned()).collect()
}

fn printed(done: &Done, id: &str) -> Vec<(String, String)> {
    let mine = findings(done).into_iter().filter(|finding| finding["id"] == id);
    mine.flat_map(|finding| {
        let side = finding["side"].as_str().unwrap().to_owned();
        let instances = finding["instances"].as_array().unwrap().clone();
        instances.into_iter().map(move |it| (side.clone(), it["fix"].as_str().unwrap().to_owned()))
    })
    .collect()
}

#[track_caller]
fn assert_prints(done: &Done, id: &str, words: &[&str]) {
    let all = format!("{:?}", printed(done, id));
    for word in words {
        assert!(all.contains(word), "{id} does not print {word}: {all}");
    }
}

/// A person reads what stands before a colon and behind the last semicolon, and runs the rest, statement by statement.
async fn run_printed(pipeline: &Pipeline, done: &Done, id: &str) {
    for (side, fix) in printed(done, id) {
        let client = if side == "source" { pipeline.here().await } else { pipeline.there().await };
        let (statements, _) = fix.rsplit_once(';').unwrap_or_else(|| panic!("{id} prints no statement: {fix}"));
        let statements = statements.split_once(": ").map_or(statements, |(_, statements)| statements);
        for statement in statements.split(';') {
            client.batch(statement).await;
        }
    }
}

/// Two servers that are prepared as docs/privileges.md says, and roles with exactly the rights that it lists.
async fn prepared(source: Cluster, target: Cluster) -> Pipeline {
    let mut pipeline = Pipeline::between(
        source,
        target,
        "CREATE ROLE reader LOGIN REPLICATION PASSWORD 'secret'; GRANT CREATE ON DATABASE app TO reader;
         CREATE ROLE owner_of_all; GRANT owner_of_all TO reader;
         GRANT CREATE ON SCHEMA public TO owner_of_all;
         CREATE TABLE t (a int PRIMARY KEY, b serial); ALTER TABLE t OWNER TO owner_of_all;
         ALTER TABLE marker OWNER TO owner_of_all",
    )
    .await;
    let there = pipeline.there().await;
    there
        .batch(
            "CREATE ROLE owner_of_all; CREATE ROLE writer LOGIN PASSWORD 'secret'; GRANT owner_of_all TO writer;
             GRANT CREATE ON SCHEMA public TO owner_of_all, writer; GRANT CREATE ON DATABASE app TO owner_of_all",
        )
        .await;
    there.batch("ALTER DATABASE app OWNER TO writer").await;
    pipeline.set("source.postgres.url", pipeline.source.url_as("reader", "secret", "app"));
    pipeline.set("target.postgres.url", pipeline.target.url_as("writer", "secret", "app"));
    pipeline.set(&format!("{SCHEMA}.roles_snapshot_mode"), "disabled");
    pipeline.set(&format!("{SCHEMA}.no_privileges"), true);
    pipeline
}

/// Somebody else who owns a table of the source.
const BOSS: &str = "CREATE ROLE boss; GRANT CREATE ON SCHEMA public TO boss; CREATE TABLE bosses (a int PRIMARY KEY);
                    ALTER TABLE bosses OWNER TO boss; GRANT SELECT ON bosses TO reader";

const SCHEMA: &str = "source.postgres.snapshot.schema.pgdump_pgrestore";

/// Every row, each on servers of its own; all that fail are told.
async fn all_of(major: u32, obstacles: Vec<Obstacle>) {
    let mut failed = Vec::new();
    for obstacle in obstacles {
        let id = obstacle.id;
        let (source, target) = pgstream_testkit::pair_of(major, major).await;
        let proof = tokio::spawn(async move { obstacle.proves(&mut prepared(source, target).await).await });
        if proof.await.is_err() {
            failed.push(id);
        }
    }
    assert!(failed.is_empty(), "{failed:?} on {major}: see above");
}

#[tokio::test]
async fn what_is_prepared_as_the_guide_says_has_nothing_in_the_way() {
    for major in 13..=18 {
        let (source, target) = pgstream_testkit::pair_of(major, major).await;
        let pipeline = prepared(source, target).await;
        for step in ["init", "snapshot", "status"] {
            let done = pipeline.pgstream(&["check", "--strict", "--json"]).await.ok();
            let mut alarms = findings(&done);
            alarms.retain(|finding| finding["severity"] != "notice");
            assert!(alarms.is_empty(), "{major}, before {step}: {alarms:#?}");
            pipeline.pgstream(&[step]).await.ok();
        }
    }
}

fn of_reading() -> Vec<Obstacle> {
    let snapshot =
        |id, diagnosis, mend| Obstacle::new(id, "snapshot", diagnosis, mend).set("source.postgres.mode", "snapshot");
    vec![
        snapshot("access.usage", "permission_schema", Mend::Printed)
            .source("CREATE SCHEMA closed; CREATE TABLE closed.c (a int PRIMARY KEY); GRANT SELECT ON closed.c TO reader"),
        snapshot("access.select", "permission_relation", Mend::Printed).source("CREATE TABLE secret (a int PRIMARY KEY)"),
        snapshot("access.row_security", "row_security", Mend::Printed).source(
            "CREATE TABLE hidden (a int PRIMARY KEY); ALTER TABLE hidden ENABLE ROW LEVEL SECURITY; GRANT SELECT ON hidden TO reader",
        ),
    ]
}

#[tokio::test]
async fn rights_to_read_are_named_and_mended_on_old_servers() {
    all_of(13, of_reading()).await;
}

#[tokio::test]
async fn rights_to_read_are_named_and_mended_on_new_servers() {
    all_of(18, of_reading()).await;
}

fn of_preparing() -> Vec<Obstacle> {
    let init = |id, mend| Obstacle::new(id, "init", "preparing-the-source-init-and-destroy", mend);
    vec![
        init("source::create_privilege", Mend::Printed).source("REVOKE CREATE ON DATABASE app FROM reader"),
        init("source::replication_privilege", Mend::Printed).source("ALTER ROLE reader NOREPLICATION"),
        init("source::replica_identity", Mend::PrintedWith("source::publish_privilege")).source(
            "CREATE ROLE another; CREATE TABLE keyless (a int); ALTER TABLE keyless OWNER TO another; GRANT SELECT ON keyless TO reader",
        ),
        init("source::publish_privilege", Mend::Printed).source(
            "CREATE ROLE another; CREATE TABLE theirs (a int PRIMARY KEY); ALTER TABLE theirs OWNER TO another",
        ),
    ]
}

#[tokio::test]
async fn what_init_needs_is_named_and_mended_on_old_servers() {
    all_of(13, of_preparing()).await;
}

#[tokio::test]
async fn what_init_needs_is_named_and_mended_on_new_servers() {
    all_of(18, of_preparing()).await;
}

fn of_writing() -> Vec<Obstacle> {
    let snapshot =
        |id, diagnosis, mend| Obstacle::new(id, "snapshot", diagnosis, mend).set("source.postgres.mode", "snapshot");
    vec![
        snapshot("access.create_on_database", "permission_database", Mend::Printed)
            .target("ALTER DATABASE app OWNER TO postgres; REVOKE CREATE ON DATABASE app FROM owner_of_all"),
        snapshot("access.create_in_public", "schema_public", Mend::PrintedWith("access.owner_create")).target(
            "ALTER DATABASE app OWNER TO postgres; GRANT CREATE ON DATABASE app TO writer;
             REVOKE CREATE ON SCHEMA public FROM public, writer, owner_of_all",
        ),
        snapshot("access.owner_missing", "role_missing", Mend::Printed)
            .source(BOSS)
            .target("GRANT CREATE ON SCHEMA public TO public"),
        snapshot("access.owner_membership", "member_of_role", Mend::Printed)
            .source(BOSS)
            .target("CREATE ROLE boss; GRANT CREATE ON SCHEMA public TO boss"),
        snapshot("access.owner_create", "schema_public", Mend::Printed)
            .source(BOSS)
            .target("REVOKE CREATE ON SCHEMA public FROM public; CREATE ROLE boss; GRANT boss TO writer"),
    ]
}

/// Rights on the whole server or database, and what is there.
fn of_creating() -> Vec<Obstacle> {
    let snapshot =
        |id, diagnosis, mend| Obstacle::new(id, "snapshot", diagnosis, mend).set("source.postgres.mode", "snapshot");
    let clean = "source.postgres.snapshot.schema.pgdump_pgrestore.clean_target_db";
    let no_owner = "source.postgres.snapshot.schema.pgdump_pgrestore.no_owner";
    let roles = "source.postgres.snapshot.schema.pgdump_pgrestore.roles_snapshot_mode";
    vec![
        snapshot("access.createrole", "create_role", Mend::PrintedWith("access.copied_owner"))
            .source(BOSS)
            .target("GRANT CREATE ON SCHEMA public TO public")
            .set(roles, "no_passwords")
            .set("source.postgres.snapshot.schema.pgdump_pgrestore.no_privileges", true),
        snapshot("access.createdb", "create_database", Mend::Printed).set(clean, true).set(no_owner, true),
        snapshot("access.database_owner", "not_owner", Mend::Printed)
            .target("ALTER DATABASE app OWNER TO postgres; GRANT CREATE ON DATABASE app TO writer; ALTER ROLE writer CREATEDB")
            .set(clean, true)
            .set(no_owner, true),
        snapshot("access.target_schema", "permission_schema", Mend::Printed)
            .target("CREATE ROLE before; CREATE SCHEMA pgstream AUTHORIZATION before"),
        snapshot("connectivity.target_read_only", "read_only_node", Mend::Printed)
            .target("ALTER ROLE writer SET default_transaction_read_only = on")
            .set("source.postgres.retry_policy", serde_json::json!({ "disable_retries": true }))
            .set("target.postgres.retry_policy", serde_json::json!({ "disable_retries": true })),
        snapshot("access.pg_authid", "pg_authid", Mend::Configure(roles, "no_passwords".into()))
            .target("ALTER ROLE writer CREATEROLE")
            .set(roles, "enabled"),
        snapshot("schema.target_not_empty", "the-copy", Mend::Flags(&["--reset"]))
            .target("CREATE TABLE t (a int PRIMARY KEY); ALTER TABLE t OWNER TO owner_of_all; ALTER ROLE writer CREATEDB")
            .set(no_owner, true),
    ]
}

#[tokio::test]
async fn rights_to_write_are_named_and_mended_on_old_servers() {
    all_of(14, of_writing()).await;
}

#[tokio::test]
async fn rights_to_write_are_named_and_mended_on_new_servers() {
    all_of(18, of_writing()).await;
}

#[tokio::test]
async fn rights_to_create_are_named_and_mended_on_old_servers() {
    all_of(14, of_creating()).await;
}

#[tokio::test]
async fn rights_to_create_are_named_and_mended_on_new_servers() {
    let no_owner = Mend::Configure("source.postgres.snapshot.schema.pgdump_pgrestore.no_owner", true.into());
    let anew = Obstacle::new("access.owner_in_new_database", "snapshot", "schema_public", no_owner)
        .target("ALTER ROLE writer CREATEDB")
        .set("source.postgres.mode", "snapshot")
        .set("source.postgres.snapshot.schema.pgdump_pgrestore.clean_target_db", true);
    all_of(18, of_creating().into_iter().chain([anew]).collect()).await;
}

#[tokio::test]
async fn what_following_needs_is_named_and_mended() {
    let tables = "CREATE TABLE t (a int PRIMARY KEY, b int); CREATE TABLE marker (n bigint PRIMARY KEY)";
    let owned = "CREATE TABLE t (a int PRIMARY KEY, b int); CREATE TABLE marker (n bigint PRIMARY KEY);
                 ALTER TABLE t OWNER TO writer; ALTER TABLE marker OWNER TO writer";
    let run = |id, diagnosis, mend| Obstacle::new(id, "run", diagnosis, mend).source("INSERT INTO t VALUES (1)");
    let configure = Mend::Configure("target.postgres.disable_triggers", false.into());
    for obstacle in [
        run("access.write", "permission_relation", Mend::Printed).target(tables),
        run("access.session_replication_role", "session_replication_role", configure)
            .target(owned)
            .set("target.postgres.disable_triggers", true),
        run("schema.target_table_missing", "the-stream", Mend::CopySchema),
    ] {
        let (source, target) = pgstream_testkit::pair().await;
        let mut pipeline = prepared(source, target).await;
        pipeline.set("source.postgres.mode", "replication");
        pipeline.pgstream(&["init"]).await.ok();
        obstacle.proves(&mut pipeline).await;
    }
}

#[tokio::test]
async fn settings_of_the_source_are_named_and_mended() {
    let with = |settings: &[(&str, &str)]| {
        settings.iter().fold(Cluster::builder(), |builder: Builder, (name, value)| builder.setting(name, value))
    };
    for (settings, obstacle) in [
        (
            with(&[("wal_level", "replica")]),
            Obstacle::new(
                "source::wal_level",
                "init",
                "preparing-the-source-init-and-destroy",
                Mend::PrintedAndRestart,
            ),
        ),
        (
            with(&[("max_replication_slots", "1")]),
            Obstacle::new(
                "source::no_free_slot",
                "init",
                "preparing-the-source-init-and-destroy",
                Mend::PrintedAndRestart,
            )
            .source("SELECT pg_create_physical_replication_slot('taken', true)"),
        ),
        (
            with(&[("max_wal_senders", "0")]),
            Obstacle::new(
                "replication.free_sender",
                "init",
                "preparing-the-source-init-and-destroy",
                Mend::PrintedAndRestart,
            ),
        ),
    ] {
        let (source, target) = pgstream_testkit::pair_with(settings, Cluster::builder()).await;
        obstacle.proves(&mut prepared(source, target).await).await;
    }
}

/// These are in the way of nothing at once: what they bring comes later.
#[tokio::test]
async fn settings_that_bite_later_are_named_and_mended() {
    let source = Cluster::builder().setting("max_slot_wal_keep_size", "64MB").setting("wal_sender_timeout", "5s");
    let (source, target) = pgstream_testkit::pair_with(source, Cluster::builder()).await;
    let pipeline = prepared(source, target).await;
    pipeline.here().await.batch("CREATE SEQUENCE numbers").await;
    pipeline.there().await.batch("ALTER ROLE writer SET idle_session_timeout = '1h'").await;
    let ids = [
        "replication.wal_limit",
        "replication.wal_sender_timeout",
        "access.select_sequence",
        "resources.target_time_limits",
    ];
    let before = pipeline.pgstream(&["check", "--strict", "--json"]).await.ends(1);
    for id in ids {
        assert!(found(&before).contains(&id.to_owned()), "{id}: {before:?}");
        run_printed(&pipeline, &before, id).await;
    }
    pipeline.pgstream(&["check", "--strict", "--json"]).await.ok();
    // What was set by ALTER SYSTEM is not what it was.
    assert_eq!(pipeline.here().await.text("SHOW wal_sender_timeout").await.as_deref(), Some("1min"));
}

#[tokio::test]
async fn types_and_plugins_that_are_missing_are_named() {
    let (source, target) = pgstream_testkit::pair().await;
    let mut pipeline = prepared(source, target).await;
    pipeline.set("source.postgres.mode", "replication");
    let here = pipeline.here().await;
    here.batch("CREATE TYPE mood AS ENUM ('good'); CREATE TABLE felt (a int PRIMARY KEY, mood mood)").await;
    let done = pipeline.pgstream(&["check", "--json", "--schema"]).await.ends(1);
    assert!(found(&done).contains(&"schema.type_missing".to_owned()), "{done:?}");
    pipeline.there().await.batch("CREATE TYPE mood AS ENUM ('good')").await;
    let done = pipeline.pgstream(&["check", "--json", "--schema"]).await.ends(1);
    assert!(!found(&done).contains(&"schema.type_missing".to_owned()), "{done:?}");

    // Not every release of 18 has the setting.
    let listed = "SELECT count(*)::int FROM pg_settings WHERE name = 'output_plugin_libraries'";
    if here.scalar::<i32>(listed).await == 1 {
        here.batch("ALTER SYSTEM SET output_plugin_libraries = 'test_decoding'").await;
        here.batch("SELECT pg_reload_conf()").await;
        here.wait_until("SHOW output_plugin_libraries", "test_decoding").await;
        let done = pipeline.pgstream(&["check", "--json", "--replication"]).await.ends(1);
        assert!(found(&done).contains(&"replication.plugin".to_owned()), "{done:?}");
    }
}

#[tokio::test]
async fn the_right_to_record_schema_changes_is_found_by_trying() {
    let (source, target) = pgstream_testkit::pair().await;
    let mut pipeline = prepared(source, target).await;
    let done = pipeline.pgstream(&["check", "--json"]).await.ok();
    assert!(found(&done).contains(&"access.event_trigger".to_owned()), "{done:?}");
    let left = "SELECT count(*)::text FROM pg_event_trigger";
    pipeline.set("source.postgres.url", pipeline.source.url("app"));
    let done = pipeline.pgstream(&["check", "--json"]).await.ok();
    assert!(!found(&done).contains(&"access.event_trigger".to_owned()), "{done:?}");
    assert_eq!(pipeline.here().await.text(left).await.as_deref(), Some("0"), "nothing is left of the attempt");
    pipeline.set("source.postgres.url", pipeline.source.url_as("reader", "secret", "app"));
    pipeline.set("target.postgres.ignore_ddl", true);
    let done = pipeline.pgstream(&["check", "--json"]).await.ok();
    assert!(!found(&done).contains(&"access.event_trigger".to_owned()), "{done:?}");
}

#[tokio::test]
async fn client_tools_that_are_too_old_are_named() {
    let (source, target) = pgstream_testkit::pair().await;
    let mut pipeline = prepared(source, target).await;
    let tools = pgstream_testkit::tools_path().unwrap();
    // What the distribution has is older than 18, or nothing.
    pipeline.environment(vec![("PATH".to_owned(), "/nonexistent".to_owned())]);
    let done = pipeline.pgstream(&["check", "--json", "--resources"]).await.ends(1);
    assert_eq!(found(&done), ["resources.client_tools"]);
    assert_prints(&done, "resources.client_tools", &["PGSTREAM_PG_BIN"]);
    pipeline.set("source.postgres.mode", "snapshot");
    pipeline.pgstream(&["snapshot"]).await.ends(1).says(&["snapshot::tool_missing", "#the-copy"]);
    pipeline.environment(vec![
        ("PATH".to_owned(), "/nonexistent".to_owned()),
        ("PGSTREAM_PG_BIN".to_owned(), tools.to_str().unwrap().split(':').next().unwrap().to_owned()),
    ]);
    pipeline.pgstream(&["snapshot"]).await.ok();
}

#[tokio::test]
async fn fixes_are_shown_and_applied_by_an_administrator_who_agreed() {
    let (source, target) = pgstream_testkit::pair().await;
    let pipeline = prepared(source, target).await;
    pipeline.here().await.batch("CREATE TABLE secret (a int PRIMARY KEY); CREATE SEQUENCE numbers").await;
    pipeline
        .here()
        .await
        .batch("ALTER TABLE secret OWNER TO owner_of_all; REVOKE SELECT ON secret FROM owner_of_all")
        .await;
    pipeline
        .there()
        .await
        .batch("ALTER DATABASE app OWNER TO postgres; REVOKE CREATE ON DATABASE app FROM owner_of_all")
        .await;
    let (here, there) = (pipeline.source.url("app"), pipeline.target.url("app"));
    let granted = "GRANT SELECT ON SEQUENCE public.numbers TO reader;";

    // Nobody to ask: nothing is done.
    pipeline
        .pgstream(&["check", "--fix"])
        .await
        .ends(2)
        .prints(&["this would run:", granted])
        .says(&["usage::nobody_to_ask"]);
    pipeline.pgstream(&["check", "--fix", "--json"]).await.ends(2);
    pipeline.pgstream(&["check"]).await.ends(1).prints(&["access.select_sequence", "access.create_on_database"]);

    // The connecting roles may not grant themselves anything.
    pipeline.pgstream(&["check", "--fix", "--yes"]).await.ends(1).prints(&["failed", granted, "--source-admin-url"]);

    let arguments =
        ["check", "--fix", "--yes", "--strict", "--json", "--source-admin-url", &here, "--target-admin-url", &there];
    let done = pipeline.pgstream(&arguments).await.ok();
    let fixed = done.json()["fixed"].as_array().unwrap().clone();
    assert!(fixed.iter().any(|it| it["statement"] == granted && it["problem"].is_null()), "{fixed:#?}");
    pipeline.pgstream(&["check", "--fix"]).await.ok().prints(&["Nothing that could be mended"]);
    pipeline.pgstream(&["init"]).await.ok();
}

#[tokio::test]
async fn reports_fit_eighty_columns_but_for_statements() {
    let (source, target) = pgstream_testkit::pair().await;
    let pipeline = prepared(source, target).await;
    pipeline.here().await.batch("CREATE TABLE secret (a int PRIMARY KEY); CREATE UNLOGGED TABLE u (a int)").await;
    let done = pipeline.pgstream(&["check"]).await.ends(1);
    for line in done.out.lines().filter(|line| !line.trim_start().starts_with("fix:")) {
        assert!(line.chars().count() <= 80, "{line}");
    }
    assert!(!done.out.contains('\u{1b}'), "no colours without a terminal");
    let bad = Replicator::start(&["check", "--yes"]).done().await;
    bad.ends(2);
}
