//! What must be true of a database after a load.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::PoisonError,
    time::Duration,
};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::worker::SharedLedger;
use crate::{Client, Cluster};

/// The sum of all balances in `load.accounts`, in every committed state.
pub const ACCOUNTS_TOTAL: i64 = 1_000_000;
const SHOWN: usize = 10;

/// What the workers of a load know.
#[derive(Debug, Default, Clone)]
pub struct LoadReport {
    /// Start of the random streams.
    pub seed: u64,
    /// Worker -> the numbers whose commit was confirmed.
    pub acknowledged: BTreeMap<i32, Vec<i64>>,
    /// `(worker, n)` whose commit was sent and not answered: there or not.
    pub maybe: BTreeSet<(i32, i64)>,
    /// Transactions that were rolled back, on purpose or by the server.
    pub rolled_back: u64,
    /// Connections that were lost.
    pub reconnects: u64,
}

impl LoadReport {
    /// Number of confirmed transactions.
    #[must_use]
    pub fn transactions(&self) -> usize {
        self.acknowledged.values().map(Vec::len).sum()
    }

    pub(crate) fn add(&mut self, ledger: &SharedLedger) {
        let ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
        self.acknowledged.insert(ledger.worker, ledger.acknowledged.clone());
        self.maybe.extend(ledger.maybe.iter().map(|&n| (ledger.worker, n)));
        self.rolled_back += ledger.rolled_back;
        self.reconnects += ledger.reconnects;
    }
}

/// Fails unless each confirmed number of the load is in the journal exactly once, each unanswered one at most once, and
/// no other.
///
/// # Panics
/// When it is not so, with the numbers.
pub async fn assert_journal(cluster: &Cluster, db: &str, report: &LoadReport) {
    let client = cluster.client(db).await;
    let workers: Vec<i32> = report.acknowledged.keys().copied().collect();
    let sql = "SELECT worker, n, count(*) FROM load.journal WHERE worker = ANY ($1) GROUP BY 1, 2";
    let rows =
        client.as_ref().query(sql, &[&workers]).await.unwrap_or_else(|error| panic!("reading the journal: {error}"));
    let found: BTreeMap<(i32, i64), i64> = rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect();
    let confirmed: BTreeSet<(i32, i64)> =
        report.acknowledged.iter().flat_map(|(&worker, numbers)| numbers.iter().map(move |&n| (worker, n))).collect();

    let lost: Vec<_> = confirmed.iter().filter(|key| !found.contains_key(key)).collect();
    let doubled: Vec<_> = found.iter().filter(|(_, count)| **count != 1).map(|(key, _)| key).collect();
    let foreign: Vec<_> = found.keys().filter(|key| !confirmed.contains(key) && !report.maybe.contains(key)).collect();
    let mut message = String::new();
    for (what, keys) in [("lost", lost), ("doubled", doubled), ("there though never committed", foreign)] {
        if !keys.is_empty() {
            let shown: Vec<String> = keys.iter().take(SHOWN).map(|(worker, n)| format!("{worker}/{n}")).collect();
            message.push_str(&format!("\n  {} {what}: {} (worker/n)", keys.len(), shown.join(" ")));
        }
    }
    assert!(message.is_empty(), "journal on {cluster:?}, seed {}, {} confirmed{message}", report.seed, confirmed.len());
}

/// Fails unless the balances add up.
///
/// # Panics
/// When they do not.
pub async fn assert_accounts(cluster: &Cluster, db: &str) {
    let sum = cluster.client(db).await.text(ACCOUNTS_SUM).await;
    assert_eq!(sum, Some(ACCOUNTS_TOTAL.to_string()), "sum of the balances on {cluster:?}");
}

const ACCOUNTS_SUM: &str = "SELECT sum(balance) FROM load.accounts";

/// Reads the sum of the balances over and over, while transactions are applied: one that is applied in part shows.
pub struct Conserved {
    cancel: CancellationToken,
    task: JoinHandle<(u64, Vec<String>)>,
}

impl Conserved {
    /// Starts to read; the accounts must be complete by now. Reconnects when the connection is lost.
    #[must_use]
    pub fn watch(url: &str) -> Self {
        let cancel = CancellationToken::new();
        Self { task: tokio::spawn(read_sums(url.to_owned(), cancel.clone())), cancel }
    }

    /// Ends it; returns how often the sum was read.
    ///
    /// # Panics
    /// When the sum was wrong once, or was never read.
    pub async fn stop(self) -> u64 {
        self.cancel.cancel();
        let (reads, wrong) = match self.task.await {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        assert!(
            wrong.is_empty(),
            "{} of {reads} sums of the balances are not {ACCOUNTS_TOTAL}: {wrong:?}",
            wrong.len()
        );
        assert!(reads > 0, "the balances were never read");
        reads
    }
}

async fn read_sums(url: String, cancel: CancellationToken) -> (u64, Vec<String>) {
    let (mut reads, mut wrong) = (0, Vec::new());
    while !cancel.is_cancelled() {
        if let Ok(client) = Client::open(&url).await {
            while let Ok(sum) = client.try_text(ACCOUNTS_SUM).await {
                reads += 1;
                if sum != Some(ACCOUNTS_TOTAL.to_string()) {
                    wrong.push(sum.unwrap_or_else(|| "nothing".to_owned()));
                }
                if cancel.is_cancelled() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (reads, wrong)
}
