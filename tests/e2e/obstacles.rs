//! One row for each obstacle: it is made on real servers, `check` names it, the command that hits it fails with its diagnosis,
//! what was printed as its fix is done as printed, and then the command succeeds.

mod clock;
mod complete;
mod mending;
mod rights;
mod said;
mod settings;
mod slots;
mod ways;

use pgstream_testkit::{Client, Cluster, Stop};
use serde_json::Value;

use crate::replicator::{Done, Pipeline};

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

/// Writes WAL until it is aborted: about 10 MiB a second, far from what a disk can do and far from nothing.
pub fn busy(client: Client) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            client.batch("SELECT pg_logical_emit_message(false, 'busy', repeat('x', 1048576))").await;
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    })
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
    let all: String = printed(done, id).into_iter().map(|(side, fix)| format!("{side}: {fix}\n")).collect();
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
