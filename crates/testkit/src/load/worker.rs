//! One writer: a connection, a random stream of transactions, a ledger.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio_postgres::{Error as SqlError, error::SqlState};
use tokio_util::sync::CancellationToken;

use super::statements;
use crate::Client;

const RECONNECT_PAUSE: Duration = Duration::from_millis(50);
/// For settling a prepared transaction after the load was asked to stop.
const SETTLE_TRIES: usize = 100;

/// What one worker knows.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) worker: i32,
    /// In rising order.
    pub(crate) acknowledged: Vec<i64>,
    /// The commit was sent, no answer came.
    pub(crate) maybe: Vec<i64>,
    pub(crate) rolled_back: u64,
    pub(crate) reconnects: u64,
}

pub(crate) type SharedLedger = Arc<Mutex<Ledger>>;

pub(crate) struct Worker {
    url: String,
    number: i32,
    rng: SmallRng,
    pause: Duration,
    ledger: SharedLedger,
    acknowledged: Arc<AtomicU64>,
    /// The number of the next transaction; each is used once, whatever becomes of it.
    n: i64,
}

/// How a transaction ended.
enum Outcome {
    Committed,
    RolledBack,
    /// The commit was sent and the connection is gone.
    Unknown,
}

impl Worker {
    pub(crate) fn new(url: &str, number: i32, seed: u64, pause: Duration, acknowledged: Arc<AtomicU64>) -> Self {
        let ledger = Arc::new(Mutex::new(Ledger { worker: number, ..Ledger::default() }));
        Self { url: url.to_owned(), number, rng: SmallRng::seed_from_u64(seed), pause, ledger, acknowledged, n: 0 }
    }

    pub(crate) fn ledger(&self) -> SharedLedger {
        Arc::clone(&self.ledger)
    }

    pub(crate) async fn run(mut self, cancel: CancellationToken) {
        while !cancel.is_cancelled() {
            let Ok(client) = Client::open(&self.url).await else {
                tokio::time::sleep(RECONNECT_PAUSE).await;
                continue;
            };
            let two_phase = self.settle(&client).await.is_ok() && two_phase_possible(&client).await;
            while !cancel.is_cancelled() && !client.is_closed() {
                self.transaction(&client, two_phase).await;
                tokio::time::sleep(self.pause).await;
            }
            self.write(|ledger| ledger.reconnects += u64::from(!cancel.is_cancelled()));
        }
        // A transaction left prepared would hold its locks, and the slot, for ever.
        for _ in 0..SETTLE_TRIES {
            if let Ok(client) = Client::open(&self.url).await
                && self.settle(&client).await.is_ok()
            {
                break;
            }
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
    }

    /// Commits what an earlier connection of this worker left prepared.
    async fn settle(&self, client: &Client) -> Result<(), SqlError> {
        let sql = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database() AND gid ^@ $1";
        for row in client.as_ref().query(sql, &[&self.gid_prefix()]).await? {
            let gid: String = row.get(0);
            client.batch_execute(&format!("COMMIT PREPARED '{gid}'")).await?;
        }
        Ok(())
    }

    async fn transaction(&mut self, client: &Client, two_phase: bool) {
        self.n += 1;
        let n = self.n;
        // A "maybe" from here on: the task can be aborted at any point after.
        self.write(|ledger| ledger.maybe.push(n));
        let outcome = self.attempt(client, two_phase, n).await;
        self.write(|ledger| {
            if !matches!(outcome, Outcome::Unknown) {
                ledger.maybe.pop();
            }
            match outcome {
                Outcome::Committed => ledger.acknowledged.push(n),
                Outcome::RolledBack => ledger.rolled_back += 1,
                Outcome::Unknown => {}
            }
        });
        if matches!(outcome, Outcome::Committed) {
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn attempt(&mut self, client: &Client, two_phase: bool, n: i64) -> Outcome {
        let (rng, worker) = (&mut self.rng, self.number);
        let mut sql = format!("BEGIN; INSERT INTO load.journal VALUES ({worker}, {n}, 'note');");
        if rng.random_ratio(1, 50) {
            sql.push_str(statements::truncate(rng));
        } else {
            if rng.random_ratio(1, 6) {
                sql.push_str(&statements::undone(rng, worker, n));
            }
            sql.push_str(&statements::changes(rng, worker, n));
        }
        if client.batch_execute(&sql).await.is_err() {
            // Whatever the reason, COMMIT was not sent. When the connection is lost there is nothing to undo.
            let _ = client.batch_execute("ROLLBACK").await;
            return Outcome::RolledBack;
        }
        match rng.random_range(0..20) {
            0 | 1 => {
                let _ = client.batch_execute("ROLLBACK").await;
                Outcome::RolledBack
            }
            2 if two_phase => self.commit_in_two_phases(client, n).await,
            _ => outcome(&client.batch_execute("COMMIT").await),
        }
    }

    async fn commit_in_two_phases(&mut self, client: &Client, n: i64) -> Outcome {
        let gid = format!("{}{n}", self.gid_prefix());
        match outcome(&client.batch_execute(&format!("PREPARE TRANSACTION '{gid}'")).await) {
            Outcome::Committed => {}
            ended => return ended,
        }
        if self.rng.random_ratio(1, 4) {
            return match client.batch_execute(&format!("ROLLBACK PREPARED '{gid}'")).await {
                Ok(()) => Outcome::RolledBack,
                Err(_) => Outcome::Unknown,
            };
        }
        // Prepared and not answered: it is settled by the next connection, but others may be refused until then.
        match client.batch_execute(&format!("COMMIT PREPARED '{gid}'")).await {
            Ok(()) => Outcome::Committed,
            Err(_) => Outcome::Unknown,
        }
    }

    fn gid_prefix(&self) -> String {
        format!("load_{}_", self.number)
    }

    fn write(&self, change: impl FnOnce(&mut Ledger)) {
        change(&mut self.ledger.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// A commit that the server refused for its own reasons is rolled back; any other failure says nothing.
fn outcome(result: &Result<(), SqlError>) -> Outcome {
    let Err(error) = result else { return Outcome::Committed };
    let refused = [
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::OBJECT_IN_USE,
        SqlState::FEATURE_NOT_SUPPORTED,
    ];
    match error.code() {
        Some(code) if refused.contains(code) || code.code().starts_with("23") => Outcome::RolledBack,
        _ => Outcome::Unknown,
    }
}

async fn two_phase_possible(client: &Client) -> bool {
    client
        .query_one("SELECT current_setting('max_prepared_transactions')::int > 0", &[])
        .await
        .is_ok_and(|row| row.get(0))
}
