//! How far the replicator is, a line a second.

use std::time::{Duration, Instant};

use indicatif::HumanBytes;
use pgstream_testkit::Client;

use crate::{load::Load, page::say, pgstream::Replicator};

const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
const LINE: Duration = Duration::from_secs(1);

/// Both databases, and the customers of the first.
pub struct Watch<'a> {
    pub source: &'a Client,
    pub target: &'a Client,
    pub load: &'a Load,
}

impl Watch<'_> {
    /// Until the copy is complete.
    pub async fn copy(&self, replicator: &mut Replicator) -> Result<(), String> {
        self.until("copying", replicator, async || copied(self.target).await).await
    }

    /// For so long.
    pub async fn follow(&self, replicator: &mut Replicator, time: Duration) -> Result<(), String> {
        let until = Instant::now() + time;
        self.until("following", replicator, async || Instant::now() >= until).await
    }

    /// Until everything that is committed now has been applied: a row that is written after it has arrived.
    pub async fn catch_up(&self, replicator: &mut Replicator, mark: &str) -> Result<(), String> {
        self.source.batch(&format!("INSERT INTO audit.events (what) VALUES ('{mark}')")).await;
        self.until("catching up", replicator, async || arrived(self.target, mark).await).await
    }

    async fn until(&self, what: &str, replicator: &mut Replicator, done: impl AsyncFn() -> bool) -> Result<(), String> {
        let (began, mut shown) = (Instant::now(), Instant::now());
        while !done().await {
            replicator.check()?;
            if began.elapsed() > PATIENCE {
                return Err(format!("{what} took more than {PATIENCE:?}"));
            }
            tokio::time::sleep(POLL).await;
            if shown.elapsed() >= LINE {
                shown = Instant::now();
                self.show(what, began.elapsed()).await;
            }
        }
        Ok(())
    }

    async fn show(&self, what: &str, elapsed: Duration) {
        let position = match applied(self.target).await {
            Some(at) => {
                let behind = written(self.source).await.saturating_sub(at).unsigned_abs();
                format!("{} behind", HumanBytes(behind))
            }
            None => format!("{} rows copied", rows(self.target).await),
        };
        let commits = self.load.committed();
        say(&format!("{what:<12} {:>3}s   customers: {commits:>6} commits   target: {position}", elapsed.as_secs()));
    }
}

/// Where the source stands, in bytes of its WAL.
async fn written(source: &Client) -> i64 {
    source.scalar("SELECT (pg_current_wal_lsn() - '0/0')::int8").await
}

/// Where the target stands, in the same; nowhere before the stream has begun.
async fn applied(target: &Client) -> Option<i64> {
    let sql = "SELECT (commit_end_lsn - '0/0')::int8 FROM pgstream.apply_progress";
    target.query_opt(sql, &[]).await.ok().flatten().map(|row| row.get(0))
}

async fn arrived(target: &Client, mark: &str) -> bool {
    let sql = "SELECT 1 FROM audit.events WHERE what = $1";
    target.query_opt(sql, &[&mark]).await.ok().flatten().is_some()
}

async fn copied(target: &Client) -> bool {
    let sql = "SELECT 1 FROM pgstream.snapshot_steps WHERE step = 'complete'";
    target.query_opt(sql, &[]).await.ok().flatten().is_some()
}

async fn rows(target: &Client) -> i64 {
    let sql = "SELECT coalesce(sum(rows), 0)::int8 FROM pgstream.snapshot_ledger";
    target.query_opt(sql, &[]).await.ok().flatten().map_or(0, |row| row.get(0))
}
