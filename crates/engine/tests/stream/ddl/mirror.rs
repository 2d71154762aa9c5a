//! A database and its copy, empty at first, with the stream between them running.

use std::sync::atomic::{AtomicU64, Ordering};

use pgstream_config::{pattern::TableFilter, pipeline::ObjectTypes};
use pgstream_engine::{
    source::{self, InitSettings},
    stream::{COPY_INLINE, Destination, Error, Job, Rights, SchemaChanges},
};
use pgstream_postgres::Session;
use pgstream_testkit::{Client, Cluster, assert_same_rows, assert_same_schema, assert_schema_restores_to};
use tokio_util::sync::CancellationToken;

use crate::harness::{Pair, Running, server};

pub struct Mirror {
    pair: Pair,
    tables: TableFilter,
    copy_inline: u64,
    running: Option<Running>,
    statements: AtomicU64,
}

impl Mirror {
    /// Two servers of the default versions.
    pub async fn new() -> Self {
        let (source, target) = pgstream_testkit::pair().await;
        Self::on(source, target).await
    }

    /// Only some tables.
    pub async fn of(tables: TableFilter) -> Self {
        let (source, target) = pgstream_testkit::pair().await;
        Self::filtered(source, target, tables).await
    }

    pub async fn on(source: Cluster, target: Cluster) -> Self {
        Self::filtered(source, target, TableFilter::default()).await
    }

    async fn filtered(source: Cluster, target: Cluster, tables: TableFilter) -> Self {
        let (here, there) = (source.client("app").await, target.client("app").await);
        for side in [&here, &there] {
            side.batch("CREATE TABLE public.marker (n bigint PRIMARY KEY)").await;
        }
        for role in ["alice", "bob"] {
            here.batch(&format!("CREATE ROLE {role}")).await;
            there.batch(&format!("CREATE ROLE {role}")).await;
        }
        let settings = InitSettings { tables: tables.clone(), ..InitSettings::default() };
        source::init(&server(&source.url("app")), &settings, &CancellationToken::new(), |_| {}).await.expect("init");
        let pair = Pair::of(source, target, here, there);
        let mut mirror = Self { pair, tables, copy_inline: COPY_INLINE, running: None, statements: AtomicU64::new(0) };
        mirror.start();
        mirror
    }

    /// Whatever is copied again is copied beside the stream, however small.
    pub async fn copying_beside(mut self) -> Self {
        self.copy_beside(true);
        self.restart().await;
        self
    }

    /// The same from the next start on, or no longer.
    pub fn copy_beside(&mut self, beside: bool) {
        self.copy_inline = if beside { 0 } else { COPY_INLINE };
    }

    fn start(&mut self) {
        self.running = Some(Running::start(self.job()));
    }

    async fn restart(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop().await.expect("the stream stops cleanly");
        }
        self.start();
    }

    pub fn source(&self) -> &Client {
        &self.pair.here
    }

    pub fn target(&self) -> &Client {
        &self.pair.there
    }

    pub fn pair(&self) -> &Pair {
        &self.pair
    }

    pub fn job(&self) -> Job {
        let rights = Rights { owner: true, privileges: true };
        let schema = SchemaChanges { types: ObjectTypes::All, rights, copy_inline: self.copy_inline };
        Job { schema: Some(schema), filter: self.tables.clone(), ..self.pair.job() }
    }

    /// Runs each statement on the source, in order.
    pub async fn run(&self, statements: &[&str]) {
        for statement in statements {
            self.statements.fetch_add(1, Ordering::Relaxed);
            self.pair.here.batch(statement).await;
        }
    }

    /// Runs each statement on the source and expects both sides equal afterwards.
    pub async fn follows(&self, statements: &[&str]) {
        self.run(statements).await;
        self.is_equal().await;
    }

    pub async fn caught_up(&self) {
        self.pair.caught_up(self.running.as_ref().expect("the stream runs")).await;
    }

    pub async fn is_equal(&self) {
        self.caught_up().await;
        // The stream does not wait for a copy beside it that nothing in the stream needs.
        self.target().wait_until("SELECT count(*) FROM pgstream.snapshot_ledger WHERE snapshot = 'stale'", "0").await;
        self.same_schema().await;
        assert_same_rows(&self.pair.source, &self.pair.target, "app").await;
    }

    /// Servers of one version print the same; for others, a dump of the source is restored on the target and compared.
    async fn same_schema(&self) {
        let (source, target) = (&self.pair.source, &self.pair.target);
        if source.major() == target.major() {
            return assert_same_schema(source, target, "app").await;
        }
        assert_schema_restores_to(source, target, "app").await;
    }

    /// Stops the stream as `kill -9` would, and starts another.
    pub async fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.kill().await;
        }
        self.start();
    }

    /// The stream writes to the target as this role from now on, with foreign keys and triggers on.
    pub async fn restart_as(&mut self, role: &str, password: &str) {
        if let Some(running) = self.running.take() {
            running.stop().await.expect("the stream stops cleanly");
        }
        let url = self.pair.target.url_as(role, password, "app");
        self.running = Some(Running::start(Job { destination: Destination::Postgres(server(&url)), ..self.job() }));
    }

    /// A session on the source with the rights of another role.
    pub async fn as_role(&self, role: &str) -> pgstream_postgres::Client {
        let session = server(&self.pair.source.url("app")).connect(&Session::new("test")).await.unwrap();
        session.batch_execute(&format!("SET SESSION AUTHORIZATION {role}")).await.unwrap();
        session
    }

    /// Waits for the stream to fail.
    pub async fn failure(&mut self) -> Error {
        self.running.take().expect("the stream runs").failure().await
    }

    pub async fn stop(mut self) {
        if let Some(running) = self.running.take() {
            running.stop().await.expect("the stream stops cleanly");
        }
    }
}
