//! The way to the servers: TLS that is checked, and connections that break at any byte.

use std::time::Duration;

use pgstream_testkit::{
    Cluster, Conserved, Flow, Load, LoadReport, Proxy, assert_journal, pair_with, seed, source_major, target_major,
};

use crate::replicator::{Done, Pipeline, Replicator};

/// Servers that accept nothing unencrypted.
async fn tls_pair() -> (Cluster, Cluster) {
    let strict = |major| {
        let only_tls = "hostnossl all all all reject\nhostnossl replication all all reject";
        Cluster::builder().major(major).tls().hba(only_tls)
    };
    pair_with(strict(source_major()), strict(target_major())).await
}

fn verified(url: &str, authority: &Cluster) -> String {
    format!("{url}?sslmode=verify-full&sslrootcert={}", authority.ca_file().display())
}

/// What a pipeline that is not let in says.
async fn refused(pipeline: &mut Pipeline) -> Done {
    pipeline.set("source.postgres.retry_policy.disable_retries", true);
    pipeline.set("target.postgres.retry_policy.disable_retries", true);
    pipeline.pgstream(&["run"]).await.ends(1)
}

#[tokio::test]
async fn both_servers_are_verified_by_a_private_authority_and_nothing_goes_unencrypted() {
    let (source, target) = tls_pair().await;
    let schema = "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 1000)";
    let mut pipeline = Pipeline::between(source, target, schema).await;
    let right = [&pipeline.source, &pipeline.target].map(|server| verified(&server.url("app"), server));
    // Each server's certificate is by its own authority.
    let swapped = [
        verified(&pipeline.source.url("app"), &pipeline.target),
        verified(&pipeline.target.url("app"), &pipeline.source),
    ];
    let plain = [&pipeline.source, &pipeline.target].map(|server| format!("{}?sslmode=disable", server.url("app")));
    pipeline.set("source.postgres.url", right[0].as_str());
    pipeline.set("target.postgres.url", right[1].as_str());
    pipeline.pgstream(&["init"]).await.ok();
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    pipeline.here().await.batch("UPDATE t SET id = -id WHERE id % 2 = 0").await;
    pipeline.caught_up(&mut running).await;
    pipeline.assert_same_rows().await;
    for server in [&pipeline.source, &pipeline.target] {
        let sessions = "SELECT count(*) FILTER (WHERE s.ssl), count(*) FILTER (WHERE NOT s.ssl)
            FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE a.client_addr IS NOT NULL";
        let row = &server.client("app").await.query(sessions).await[0];
        assert!(row.get::<_, i64>(0) > 0 && row.get::<_, i64>(1) == 0, "{row:?}");
    }
    running.stop().await.ok();
    pipeline.pgstream(&["status"]).await.ok();

    for (side, key) in ["source.postgres.url", "target.postgres.url"].into_iter().enumerate() {
        pipeline.set(key, swapped[side].as_str());
        refused(&mut pipeline).await.says(&["error[", "certificate"]);
        pipeline.set(key, plain[side].as_str());
        refused(&mut pipeline).await.says(&["error[", "no encryption"]);
        pipeline.set(key, right[side].as_str());
    }
}

/// Bytes after which a connection breaks, which a seed replays.
struct Bytes(u64);

impl Bytes {
    fn next(&mut self, range: std::ops::Range<u64>) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        range.start + (self.0 >> 33) % (range.end - range.start)
    }
}

/// A pipeline of which both legs go through a proxy.
struct Legs {
    pipeline: Pipeline,
    source: Proxy,
    target: Proxy,
    bytes: Bytes,
}

impl Legs {
    async fn new(servers: (Cluster, Cluster), schema: &str, options: &str) -> Self {
        let mut pipeline = Pipeline::between(servers.0, servers.1, schema).await;
        let source = Proxy::start(pipeline.source.port()).await.unwrap();
        let target = Proxy::start(pipeline.target.port()).await.unwrap();
        let through = |proxy: &Proxy, server: &Cluster| proxy.url(&server.url("app"), server.port()) + options;
        pipeline.set("source.postgres.url", through(&source, &pipeline.source));
        pipeline.set("target.postgres.url", through(&target, &pipeline.target));
        Self { pipeline, source, target, bytes: Bytes(seed()) }
    }

    /// Breaks one leg's connections after up to 2^`largest` bytes, mostly fewer, and waits until it has happened.
    async fn cut(&mut self, running: &mut Replicator, largest: u64) {
        let leg = if self.bytes.next(0..2) == 0 { &self.source } else { &self.target };
        let magnitude = self.bytes.next(3..largest + 1);
        let after = self.bytes.next(1..1 << magnitude);
        let until = leg.passed() + after;
        leg.cut_after(after);
        while leg.passed() < until {
            running.assert_running();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn assert_exact(&self, running: &mut Replicator, report: &LoadReport) {
        self.pipeline.caught_up(running).await;
        self.pipeline.assert_same_rows().await;
        assert_journal(&self.pipeline.target, "app", report).await;
    }
}

const BULK: &str = "CREATE TABLE bulk1 AS SELECT g AS id, repeat('x', 300) AS filler FROM generate_series(1, 60000) g;
    CREATE TABLE bulk2 AS SELECT * FROM bulk1; ALTER TABLE bulk1 ADD PRIMARY KEY (id);";

async fn connections_break(servers: (Cluster, Cluster), options: &str) {
    let mut legs = Legs::new(servers, &format!("{}{BULK}", Load::schema()), options).await;
    legs.pipeline.pgstream(&["init"]).await.ok();
    let load = Load::start_paced(&legs.pipeline.source.url("app"), seed(), 2, Duration::from_millis(2));
    let mut running = legs.pipeline.run();
    // While copying: some after the copy has begun, some before.
    for _ in 0..8 {
        legs.cut(&mut running, 20).await;
    }
    legs.pipeline.caught_up(&mut running).await;
    let conserved = Conserved::watch(&legs.pipeline.target.url("app"));
    // While following: the load and the keepalives carry the bytes.
    for _ in 0..20 {
        legs.cut(&mut running, 15).await;
    }
    let report = load.stop().await;
    legs.assert_exact(&mut running, &report).await;
    conserved.stop().await;
    running.stop().await.ok();
}

#[tokio::test]
async fn connections_that_break_at_any_byte_lose_nothing() {
    connections_break(pgstream_testkit::pair().await, "").await;
}

#[tokio::test]
async fn encrypted_connections_that_break_at_any_byte_lose_nothing() {
    let tls = |major| Cluster::builder().major(major).tls();
    let servers = pair_with(tls(source_major()), tls(target_major())).await;
    connections_break(servers, "?sslmode=require").await;
}

#[tokio::test]
async fn a_copy_whose_answer_was_lost_says_so_and_goes_on() {
    let mut pipeline = Pipeline::new("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n").await;
    let leg = Proxy::start(pipeline.target.port()).await.unwrap();
    pipeline.set("source.postgres.mode", "snapshot");
    pipeline.set("target.postgres.url", leg.url(&pipeline.target.url("app"), pipeline.target.port()));
    pipeline.pgstream(&["snapshot"]).await.ok();
    let (there, observer) = (pipeline.there().await, pipeline.there().await);
    there.batch("BEGIN; LOCK TABLE pgstream.snapshot_ledger").await;
    let mut copying = pipeline.start(&["snapshot"]);
    while !observer.scalar::<bool>("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)").await {
        copying.assert_running();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    leg.lose(Flow::Down);
    there.batch("COMMIT").await;
    copying.done().await.ok().says(&["the copy broke; going on with it", "an answer of", "was lost on the way"]);
    pipeline.assert_same_rows().await;
}
