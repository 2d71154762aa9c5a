//! Exactly the grants that `users plan` prints: with all of them a command runs, and without any one of them it says which.
//!
//! ```text
//!  users plan ──printed──> all statements but one ──> the command: exit code 1, `fix: …;`
//!                                                        │ run as printed
//!                                                        └──────> the command: exit code 0
//! ```
//! `PUBLIC` may do nothing here, so that nothing is granted by accident.

use std::time::{Duration, Instant};

use pgstream_testkit::{Client, Cluster, pair_of};

use crate::replicator::{Done, Pipeline, Replicator};

mod source;
mod target;

/// Two owners, one of a schema; a table without a key, a view, a function, sequences.
const SHOP: &str = "CREATE ROLE app_owner; CREATE ROLE shop_owner;
    REVOKE ALL ON DATABASE app FROM PUBLIC; REVOKE ALL ON SCHEMA public FROM PUBLIC;
    GRANT CREATE ON DATABASE app TO shop_owner;
    GRANT USAGE, CREATE ON SCHEMA public TO app_owner;
    ALTER TABLE marker OWNER TO app_owner;
    SET ROLE app_owner;
    CREATE TABLE t (id int PRIMARY KEY, a text); INSERT INTO t SELECT g, 'a' || g FROM generate_series(1, 50) g;
    CREATE TABLE keyless (a int); INSERT INTO keyless VALUES (1), (1);
    CREATE VIEW v AS SELECT id FROM t;
    CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';
    SET ROLE shop_owner;
    CREATE SCHEMA \"the shop\";
    CREATE TABLE \"the shop\".orders (id serial PRIMARY KEY, n int DEFAULT 0);
    INSERT INTO \"the shop\".orders (n) SELECT g FROM generate_series(1, 50) g;
    RESET ROLE;
    REVOKE CREATE ON DATABASE app FROM shop_owner";

const PASSWORD: &str = "s3cret";

fn name(role: &str) -> &'static str {
    match role {
        "source" => "pgstreamsource",
        "target" => "pgstreamtarget",
        _ => "pgstreammonitor",
    }
}

fn login(cluster: &Cluster, role: &str) -> String {
    cluster.url_as(name(role), PASSWORD, "app")
}

/// A role as `users plan` describes it, on one server.
struct Subject<'a> {
    cluster: &'a Cluster,
    name: &'static str,
    plan: Vec<String>,
}

impl<'a> Subject<'a> {
    fn new(cluster: &'a Cluster, role: &str, more: &[&str]) -> Self {
        let name = name(role);
        let url = cluster.url("app");
        let plan = [&["users", "plan", "--admin-url", &url, "--role", role], more].concat();
        Self { cluster, name, plan: plan.into_iter().map(str::to_owned).collect() }
    }

    async fn admin(&self) -> Client {
        self.cluster.client("app").await
    }

    /// What is printed, but for what is there already.
    async fn printed(&self) -> Vec<String> {
        let plan: Vec<&str> = self.plan.iter().map(String::as_str).collect();
        let done = Replicator::start(&plan).done().await.ok();
        let lines = done.out.lines().filter(|line| !line.starts_with("-- there: "));
        lines
            .map(|line| line.split_once(";  -- ").unwrap_or_else(|| panic!("no statement: {line}")).0.to_owned())
            .collect()
    }

    /// Runs the statements, and gives the role a password.
    async fn give(&self, statements: impl Iterator<Item = &String>) {
        let admin = self.admin().await;
        for sql in statements {
            admin.batch(sql).await;
        }
        admin.batch(&format!("ALTER ROLE {} PASSWORD '{PASSWORD}'", self.name)).await;
    }

    /// As if the role had never been.
    async fn take_back(&self) {
        let name = self.name;
        let sql = format!("REASSIGN OWNED BY {name} TO postgres; DROP OWNED BY {name}; DROP ROLE {name}");
        self.admin().await.batch(&sql).await;
    }
}

/// The statements that a failure, or a warning, prints as its remedies.
fn fixes(done: &Done) -> Vec<String> {
    let printed = done.err.lines().filter_map(|line| line.split_once("fix: ").or(line.split_once("fix=")));
    let statements =
        printed.map(|(_, fix)| fix.split(" -- ").next().unwrap_or_default().trim_end_matches(';').to_owned());
    let mut found: Vec<String> = Vec::new();
    for sql in statements {
        if !found.contains(&sql) {
            found.push(sql);
        }
    }
    found
}

/// What cannot be run without this one.
fn without<'a>(all: &'a [String], left_out: &str) -> Vec<&'a String> {
    match left_out.strip_prefix("CREATE ROLE ") {
        Some(role) => all.iter().filter(|sql| sql.contains(role)).collect(),
        None => all.iter().filter(|sql| *sql == left_out).collect(),
    }
}

/// A fresh database `app` for whoever owns it.
async fn empty(target: &Cluster) {
    let admin = target.client("postgres").await;
    admin.batch("DROP DATABASE app WITH (FORCE)").await;
    admin.batch("CREATE DATABASE app").await;
    target
        .client("app")
        .await
        .batch("REVOKE ALL ON DATABASE app FROM PUBLIC; REVOKE ALL ON SCHEMA public FROM PUBLIC")
        .await;
}

async fn pipeline(source: u32, target: u32) -> Pipeline {
    let (source, target) = pair_of(source, target).await;
    let mut pipeline = Pipeline::between(source, target, SHOP).await;
    pipeline.set("source.postgres.snapshot.schema.pgdump_pgrestore.roles_snapshot_mode", "disabled");
    pipeline
}

/// What is expected when a statement is left out: a code, and the statements that are printed instead of it.
type Expected<'a> = &'a dyn Fn(&str) -> (&'static str, Option<&'static str>);

/// Gives a role all but one of its grants, for each of them in turn.
async fn each_grant_is_needed(
    subject: &Subject<'_>,
    prepare: impl AsyncFn(),
    command: impl AsyncFn() -> Done,
    expected: Expected<'_>,
) {
    prepare().await;
    let all = subject.printed().await;
    subject.give(all.iter()).await;
    command().await.ok();
    let mut wrong = Vec::new();
    // The first one makes the role.
    for sql in &all[1..] {
        subject.take_back().await;
        prepare().await;
        let left_out = without(&all, sql);
        subject.give(all.iter().filter(|sql| !left_out.contains(sql))).await;
        let refused = command().await;
        let (code, other) = expected(sql);
        let wanted: Vec<&str> = match other {
            Some(other) => vec![other],
            None => left_out.iter().map(|sql| sql.as_str()).collect(),
        };
        let fixes = fixes(&refused);
        if refused.code != Some(1) || !refused.err.contains(code) || fixes != wanted {
            wrong.push(format!("without {sql}: expected {code}, fixes {fixes:?}"));
            continue;
        }
        for fix in &fixes {
            subject.admin().await.batch(fix).await;
        }
        let done = command().await;
        if done.code != Some(0) {
            wrong.push(format!("after {fixes:?}: {done:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} {all:#?}", wrong.join("\n"));
}

/// Between two databases that are the same, without anything that was made on the way.
async fn copied(source: u32, target: u32) -> Pipeline {
    let mut pipeline = pipeline(source, target).await;
    pipeline.set("source.postgres.snapshot.schema.pgdump_pgrestore.no_owner", true);
    pipeline.set("source.postgres.snapshot.schema.pgdump_pgrestore.no_privileges", true);
    pipeline.set("source.postgres.mode", "snapshot");
    pipeline.pgstream(&["snapshot"]).await.ok();
    pipeline
        .there()
        .await
        .batch("REVOKE ALL ON DATABASE app FROM PUBLIC; REVOKE ALL ON SCHEMA public FROM PUBLIC")
        .await;
    pipeline
}

/// Follows until what was done at the beginning has arrived.
async fn follow(pipeline: &Pipeline) -> Done {
    let here = pipeline.here().await;
    let marker = "INSERT INTO marker SELECT coalesce(max(n), 0) + 1 FROM marker RETURNING n";
    let n: i64 = here.scalar(marker).await;
    let last: i64 = here.scalar("SELECT nextval('\"the shop\".orders_id_seq')").await;
    here.batch("UPDATE keyless SET a = a + 1; UPDATE \"the shop\".orders SET n = n + 1").await;
    let arrived = format!(
        "SELECT EXISTS (SELECT FROM marker WHERE n = {n}) AND last_value >= {last} FROM \"the shop\".orders_id_seq"
    );
    let mut running = pipeline.run();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if running.poll().is_some() {
            return running.done().await;
        }
        if let Ok(Some(row)) = pipeline.there().await.query_opt(&arrived, &[]).await
            && row.get(0)
        {
            return running.stop().await;
        }
        if running.stderr().contains("fix=") {
            let done = running.stop().await;
            return Done { code: Some(1), ..done };
        }
        assert!(Instant::now() < deadline, "nothing happens\n{}", running.stderr());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A stream that has not begun.
async fn begin(pipeline: &Pipeline, admin: &str) {
    pipeline.pgstream(&["destroy", "--yes", "--postgres-url", admin]).await.ok();
    pipeline.there().await.batch("DROP SCHEMA IF EXISTS pgstream CASCADE").await;
    pipeline.pgstream(&["init", "--postgres-url", admin]).await.ok();
}
