//! Real PostgreSQL servers on loopback, digests of what they hold, load and faults: for tests and the demo.
//!
//! ```text
//!  scripts/fetch-postgres ──> cache ──Binaries──> Cluster (initdb once, copied, watched by a shell)
//!                                                    │
//!       Load ──writes──> source cluster ──Proxy──> what is tested ──> target cluster
//!         └─ ledger ───────────────────── assert_journal ────────────────┘
//!                               assert_same_rows / _schema / _sequences
//! ```
//!
//! ```no_run
//! # async fn test() {
//! let (source, target) = pgstream_testkit::pair().await;
//! source.client("app").await.batch("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
//! target.client("app").await.wait_until("SELECT count(*) FROM pg_class WHERE relname = 't'", "1").await;
//! # }
//! ```
//! Nothing of it outlives the test: a server is ended when its [`Cluster`] is dropped, and by a watchdog when the test
//! process dies.

mod binaries;
mod builder;
mod client;
mod cluster;
mod digest;
mod disk;
mod emulator;
mod error;
mod liar;
mod load;
mod port;
mod processes;
mod proxy;
mod schema;
mod standby;
mod template;
mod tls;
mod watchdog;
mod xids;

pub use binaries::{Binaries, pinned_majors, source_major, target_major, tools_path};
pub use builder::Builder;
pub use client::{Client, WAIT_DEADLINE};
pub use cluster::{Cluster, Stop};
pub use digest::{TableDigest, assert_same_rows, assert_same_rows_in, digest};
pub use disk::Disk;
pub use emulator::{Emulator, REGION, function_zip};
pub use error::Error;
pub use liar::{Liar, Lie, Lies};
pub use load::{ACCOUNTS_TOTAL, Conserved, Load, LoadReport, assert_accounts, assert_journal, seed};
pub use proxy::{Edge, Flow, Proxy};
pub use schema::{assert_same_schema, assert_schema_restores_to, assert_sequences_not_behind, dump_schema};
pub use template::{PASSWORD, USER};

/// One cluster with the database `app`.
///
/// # Panics
/// When it does not start.
pub async fn cluster() -> Cluster {
    start_with_app(Cluster::builder()).await
}

/// A source and a target, each with the database `app`. The versions come from `PGSTREAM_TEST_SOURCE_MAJOR` and
/// `PGSTREAM_TEST_TARGET_MAJOR`, so that one suite runs on every pair.
///
/// # Panics
/// When one does not start.
pub async fn pair() -> (Cluster, Cluster) {
    pair_of(source_major(), target_major()).await
}

/// [`pair`] of given major versions.
///
/// # Panics
/// When one does not start.
pub async fn pair_of(source_major: u32, target_major: u32) -> (Cluster, Cluster) {
    let builder = |major| Cluster::builder().major(major);
    pair_with(builder(source_major), builder(target_major)).await
}

/// [`pair`] with settings.
///
/// # Panics
/// When one does not start.
pub async fn pair_with(source: Builder, target: Builder) -> (Cluster, Cluster) {
    tokio::join!(start_with_app(source), start_with_app(target))
}

async fn start_with_app(builder: Builder) -> Cluster {
    let cluster = builder.start().await.unwrap_or_else(|error| panic!("{error}"));
    cluster.create_database("app").await;
    cluster
}
