//! Commands with their defaults, and what they come to.

use pgstream_config::pattern::{TableFilter, TablePattern};
use pgstream_engine::source::{
    self, Action, Error, InitReport, InitSettings, Object, Part, Status, StatusSettings, Step,
    destroy::{self, DestroySettings},
};
use pgstream_postgres::{Dsn, Server};
use pgstream_testkit::{Client, Cluster};
use tokio_util::sync::CancellationToken;

pub const SLOT: &str = "pgstream_app_slot";

pub fn server(url: &str) -> Server {
    Server::new(Dsn::parse(url).unwrap())
}

pub fn app(cluster: &Cluster) -> Server {
    server(&cluster.url("app"))
}

pub async fn try_init(server: &Server, settings: &InitSettings) -> Result<InitReport, Error> {
    source::init(server, settings, &CancellationToken::new(), |_| ()).await
}

pub async fn init(server: &Server) -> InitReport {
    init_with(server, &InitSettings::default()).await
}

pub async fn init_with(server: &Server, settings: &InitSettings) -> InitReport {
    try_init(server, settings).await.unwrap_or_else(|error| panic!("{}", explain(&error)))
}

pub async fn try_destroy(server: &Server, settings: &DestroySettings) -> Result<Vec<Step>, Error> {
    let plan = destroy::plan(server, settings).await?;
    destroy::destroy(server, settings, &plan, &CancellationToken::new(), |_| ()).await
}

pub async fn destroy(server: &Server) -> Vec<Step> {
    let destroyed = try_destroy(server, &DestroySettings::default()).await;
    destroyed.unwrap_or_else(|error| panic!("{}", explain(&error)))
}

pub async fn status(server: &Server) -> Status {
    let status = source::status(server, None, &StatusSettings::default()).await;
    status.unwrap_or_else(|error| panic!("{}", explain(&error)))
}

pub async fn assert_nothing_wrong(server: &Server) {
    let found = status(server).await.findings;
    assert!(found.is_empty(), "{found:#?}");
}

pub fn explain(error: &Error) -> String {
    match error {
        Error::Refused { problems, .. } => format!("{error}: {problems:#?}"),
        other => other.to_string(),
    }
}

/// The codes of all problems, which must be why it failed.
pub fn codes<T>(result: Result<T, Error>) -> Vec<&'static str> {
    match result {
        Ok(_) => panic!("it was not refused"),
        Err(Error::Refused { problems, .. }) => problems.iter().map(|problem| problem.code).collect(),
        Err(other) => panic!("not refused, but: {other}"),
    }
}

/// The remedy of the only problem.
pub fn only_fix<T>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::Refused { problems, .. }) if problems.len() == 1 => problems[0].fix.clone(),
        Err(other) => panic!("{}", explain(&other)),
        Ok(_) => panic!("it was not refused"),
    }
}

pub fn part(part: Part) -> InitSettings {
    InitSettings { part, ..InitSettings::default() }
}

pub fn destroy_part(part: Part) -> DestroySettings {
    DestroySettings { part, ..DestroySettings::default() }
}

pub fn including(tables: &[(&str, &str)]) -> InitSettings {
    let include = tables.iter().map(|(schema, table)| pattern(schema, table)).collect();
    InitSettings { tables: TableFilter { include, ..TableFilter::default() }, ..InitSettings::default() }
}

pub fn excluding(schema: &str, table: &str) -> InitSettings {
    let exclude = vec![pattern(schema, table)];
    InitSettings { tables: TableFilter { exclude, ..TableFilter::default() }, ..InitSettings::default() }
}

pub fn pattern(schema: &str, table: &str) -> TablePattern {
    let part = |text: &str| (text != "*").then(|| text.to_owned());
    TablePattern { schema: part(schema), table: part(table) }
}

/// `action object name` of each step, without details.
pub fn lines(steps: &[Step]) -> Vec<String> {
    steps.iter().map(|step| format!("{} {} {}", step.action, step.object, step.name)).collect()
}

pub fn has(steps: &[Step], action: Action, object: Object, name: &str) -> bool {
    steps.iter().any(|step| step.action == action && step.object == object && step.name == name)
}

/// Everything that `init` may have made, outside of `pg_dump`'s view.
pub async fn leftovers(client: &Client) -> Vec<String> {
    let sql = "SELECT 'slot ' || slot_name FROM pg_replication_slots
               UNION ALL SELECT 'publication ' || pubname FROM pg_publication
               UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname = 'pgstream' ORDER BY 1";
    client.query(sql).await.iter().map(|row| row.get(0)).collect()
}

/// A login role without superuser, and the URL with which it connects to database `app`.
pub async fn role(cluster: &Cluster, name: &str, attributes: &str) -> Server {
    let client = cluster.client("app").await;
    client.batch(&format!("CREATE ROLE {name} LOGIN PASSWORD 'secret' {attributes}")).await;
    server(&cluster.url_as(name, "secret", "app"))
}
