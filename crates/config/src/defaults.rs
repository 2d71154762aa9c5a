//! What holds when nothing is written, each with its reason. The key table refers to these, and nothing else does.

/// One schema at a time: pgstream's own default, so that its users keep their load on the source.
pub(crate) const SNAPSHOT_WORKERS: u64 = 1;
/// pgstream's own default; four COPY streams saturate a small server without starving its clients.
pub(crate) const COPY_WORKERS: u64 = 4;
/// Enough that one transaction's worth of work is a few seconds, and a broken part is cheap to repeat.
pub(crate) const PART_BYTES: u64 = 80 << 20;
/// pgstream's own default, half of the default `max_connections` of a server.
pub(crate) const MAX_CONNECTIONS: u64 = 50;

/// A batch this large costs far more to apply than to commit, so larger ones win nothing and take memory.
pub(crate) const BATCH_BYTES: u64 = 8 << 20;
/// pgstream's own default; beyond it, set-wise statements no longer get cheaper by the row.
pub(crate) const BATCH_CHANGES: u64 = 20_000;
/// One batch is filled, one waits and one is applied.
pub(crate) const BATCHES_IN_MEMORY: u64 = 3;
/// pgstream's own default; with the batch being applied it keeps the process under 256 MiB.
pub(crate) const QUEUE_BYTES: u64 = 100 << 20;

/// Short enough that a dropped connection is back unnoticed.
pub(crate) const RETRY_INITIAL_MS: u64 = 500;
/// Short enough to be back within seconds of a failover; reconnecting costs the servers next to nothing.
pub(crate) const RETRY_MAX_MS: u64 = 5_000;
/// For a constant policy without an interval: as long as an RDS failover's shortest step.
pub(crate) const RETRY_CONSTANT_MS: u64 = 1_000;

/// Loopback only: the endpoints have no authentication.
pub(crate) const HEALTH_ADDRESS: &str = "localhost:9910";
/// Where every scraper looks.
pub(crate) const PROMETHEUS_PATH: &str = "/metrics";
/// pgstream's own default.
pub(crate) const COLLECTION_INTERVAL_S: u64 = 60;
/// As often as the slot monitor looks, and as alarms count.
pub(crate) const AWS_METRICS_INTERVAL_S: u64 = 60;
