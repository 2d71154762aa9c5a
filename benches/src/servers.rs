//! Two servers, set up alike, with a database for each follower.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use pgstream_testkit::{Binaries, Builder, Client, Cluster, digest};

/// The database on the source.
pub const SOURCE: &str = "app";
/// Longest that anything may take.
pub const LONGEST: Duration = Duration::from_secs(900);

/// Both servers have room for what is written, so that checkpoints do not fall into one of the measurements only.
pub async fn pair() -> (Cluster, Cluster) {
    pair_of(Cluster::builder).await
}

/// The same with commits that wait for the disk, as they do unless somebody turns that off.
pub async fn durable_pair() -> (Cluster, Cluster) {
    pair_of(|| Cluster::builder().durable()).await
}

async fn pair_of(builder: fn() -> Builder) -> (Cluster, Cluster) {
    let server = || {
        builder()
            .setting("shared_buffers", "512MB")
            .setting("max_wal_size", "8GB")
            .setting("checkpoint_timeout", "1h")
            // On, as everywhere, or index builds do not count what the planner goes by; but never coming by.
            .setting("autovacuum_naptime", "1h")
            .setting("maintenance_work_mem", "256MB")
            .setting("max_locks_per_transaction", "1024")
            .start()
    };
    let (source, target) = tokio::try_join!(server(), server()).unwrap();
    source.create_database(SOURCE).await;
    (source, target)
}

/// Runs `pgbench`.
pub fn pgbench(server: &Cluster, database: &str, arguments: &[&str]) {
    tool("pgbench", &[arguments, &[&server.url(database)]].concat());
}

/// Runs one of PostgreSQL's programs to its end.
pub fn tool(name: &str, arguments: &[&str]) {
    let output = Command::new(Binaries::tool(name).unwrap()).args(arguments).output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Waits until the answer is `expected`, and looks often: what is measured takes seconds.
pub async fn wait(client: &Client, sql: &str, expected: &str) {
    let began = Instant::now();
    while client.text(sql).await.as_deref() != Some(expected) {
        assert!(began.elapsed() < LONGEST, "not in {LONGEST:?}: {sql}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The target's database holds what the source holds.
pub async fn assert_equal(source: &Cluster, target: &Cluster, database: &str) {
    let ours = |table: &str| !table.starts_with("pgstream.");
    let expected = digest(&source.client(SOURCE).await, ours).await;
    assert_eq!(digest(&target.client(database).await, ours).await, expected, "{database} holds what the source holds");
}
