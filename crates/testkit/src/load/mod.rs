//! Writers that try every kind of change, and remember what the server confirmed to them.
//!
//! ```text
//!  worker ── BEGIN; journal row (worker, n); random changes ── COMMIT ──> answered: n is acknowledged
//!                                                                  └────> no answer: n is a "maybe"
//! ```
//! A target is right when each acknowledged n is there exactly once, each "maybe" at most once, and no other number.

mod ledger;
mod statements;
mod worker;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rand::Rng;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use ledger::{ACCOUNTS_TOTAL, Conserved, LoadReport, assert_accounts, assert_journal};
use worker::Worker;

/// A worker whose server does not answer is given up after this.
const STOP_DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(5);

/// Each worker of a process has its own number, so that several loads can write to one journal.
static NEXT_WORKER: AtomicI32 = AtomicI32::new(1);

/// A running load. Dropping it ends it without a report.
pub struct Load {
    cancel: CancellationToken,
    workers: Vec<(JoinHandle<()>, worker::SharedLedger)>,
    acknowledged: Arc<AtomicU64>,
    seed: u64,
}

/// The seed of a run: `PGSTREAM_TEST_SEED`, else a new one. It is printed, so that a failure can be run again.
///
/// # Panics
/// When the variable is not a number.
#[must_use]
pub fn seed() -> u64 {
    let seed = match std::env::var("PGSTREAM_TEST_SEED") {
        Ok(value) => value.parse().unwrap_or_else(|_| panic!("PGSTREAM_TEST_SEED={value} is not a number")),
        Err(_) => rand::rng().random(),
    };
    eprintln!("seed: PGSTREAM_TEST_SEED={seed}");
    seed
}

impl Load {
    /// The tables that the load writes to, with some rows: schema `load`.
    #[must_use]
    pub fn schema() -> &'static str {
        include_str!("schema.sql")
    }

    /// Starts workers that write as fast as they can, and reconnect when the connection is lost.
    #[must_use]
    pub fn start(url: &str, seed: u64, workers: usize) -> Self {
        Self::start_paced(url, seed, workers, Duration::ZERO)
    }

    /// [`Load::start`] with a pause after each transaction of a worker.
    #[must_use]
    pub fn start_paced(url: &str, seed: u64, workers: usize, pause: Duration) -> Self {
        let (cancel, acknowledged) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
        let start = |index: usize| {
            let number = NEXT_WORKER.fetch_add(1, Ordering::Relaxed);
            let worker = Worker::new(url, number, seed.wrapping_add(index as u64), pause, Arc::clone(&acknowledged));
            let ledger = worker.ledger();
            (tokio::spawn(worker.run(cancel.clone())), ledger)
        };
        let workers = (0..workers).map(start).collect();
        Self { cancel, workers, acknowledged, seed }
    }

    /// Transactions that the server has confirmed so far.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until this many more transactions are confirmed.
    ///
    /// # Panics
    /// When that takes longer than a minute.
    pub async fn progress(&self, transactions: u64) {
        let goal = self.acknowledged() + transactions;
        let deadline = Instant::now() + 2 * STOP_DEADLINE;
        while self.acknowledged() < goal {
            assert!(
                Instant::now() < deadline && !self.workers.iter().any(|(task, _)| task.is_finished()),
                "the load stands still at {} of {goal} transactions (seed {})",
                self.acknowledged(),
                self.seed
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// Lets each worker finish its transaction, and returns what was confirmed.
    ///
    /// # Panics
    /// When a worker has panicked: the load is at fault then.
    pub async fn stop(mut self) -> LoadReport {
        self.cancel.cancel();
        let deadline = tokio::time::Instant::now() + STOP_DEADLINE;
        let mut report = LoadReport { seed: self.seed, ..LoadReport::default() };
        for (task, ledger) in std::mem::take(&mut self.workers) {
            let abort = task.abort_handle();
            match tokio::time::timeout_at(deadline, task).await {
                Ok(Ok(())) => {}
                Ok(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
                // The server hangs; what was under way stays a "maybe".
                Err(_) => abort.abort(),
            }
            report.add(&ledger);
        }
        report
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.workers.iter().for_each(|(task, _)| task.abort());
    }
}
