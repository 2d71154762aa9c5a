//! Customers: a few connections that order, pay, return and move money between accounts.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use pgstream_testkit::Client;
use tokio::task::JoinSet;

/// Running customers.
pub struct Load {
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicU64>,
    customers: JoinSet<()>,
}

impl Load {
    /// Starts so many customers.
    pub async fn start(url: &str, customers: u64) -> Result<Self, pgstream_testkit::Error> {
        let stop = Arc::new(AtomicBool::new(false));
        let committed = Arc::new(AtomicU64::new(0));
        let mut running = JoinSet::new();
        for number in 0..customers {
            let client = Client::open(url).await?;
            running.spawn(shop(client, number, Arc::clone(&stop), Arc::clone(&committed)));
        }
        Ok(Self { stop, committed, customers: running })
    }

    /// Transactions committed so far.
    pub fn committed(&self) -> u64 {
        self.committed.load(Relaxed)
    }

    /// Lets everybody finish; returns how many transactions they committed.
    pub async fn stop(&mut self) -> Result<u64, String> {
        self.stop.store(true, Relaxed);
        while let Some(left) = self.customers.join_next().await {
            left.map_err(|e| format!("a customer was turned away: {e}"))?;
        }
        Ok(self.committed())
    }
}

async fn shop(client: Client, number: u64, stop: Arc<AtomicBool>, committed: Arc<AtomicU64>) {
    let mut round = number;
    while !stop.load(Relaxed) {
        round = round.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let pick = (round >> 33) % 50_000 + 1;
        client.batch(&visit(round >> 60, pick, (round >> 20) % 2000 + 1)).await;
        committed.fetch_add(1, Relaxed);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn visit(kind: u64, account: u64, product: u64) -> String {
    match kind {
        // Credit moves between accounts: the sum never changes.
        0..=4 => {
            let (low, high) = if account < 25_000 { (account, account + 20_000) } else { (account - 20_000, account) };
            format!(
                "BEGIN;
                 UPDATE customers.accounts SET credit = credit - 1 WHERE id = {low} AND credit >= 1;
                 UPDATE customers.accounts SET credit = credit + 1 WHERE id = {high}
                    AND EXISTS (SELECT 1 FROM customers.accounts WHERE id = {low});
                 COMMIT"
            )
        }
        5..=9 => format!(
            "BEGIN;
             WITH placed AS (
                 INSERT INTO sales.orders (placed_at, account_id, total, note)
                 VALUES (now(), {account}, 42, 'from the load') RETURNING id, placed_at)
             INSERT INTO sales.order_lines SELECT id, placed_at, 1, {product}, 2, 21 FROM placed;
             INSERT INTO audit.events (what, detail) VALUES ('order', '{{\"account\": {account}}}');
             COMMIT"
        ),
        10 | 11 => {
            format!("UPDATE sales.orders SET status = 'shipped' WHERE account_id = {account} AND status = 'paid'")
        }
        // The long description stays as it is: it is not in the stream at all.
        12 | 13 => format!("UPDATE catalog.products SET price = price + 0.01 WHERE id = {product}"),
        14 => format!(
            "UPDATE customers.accounts SET email = 'moved{product}-' || id || '@example.com' WHERE id = {account}"
        ),
        _ => format!(
            "BEGIN; DELETE FROM sales.order_lines WHERE order_id = {account};
             SAVEPOINT s; INSERT INTO audit.events (what) SELECT 'never happened' FROM generate_series(1, 5); ROLLBACK TO SAVEPOINT s;
             INSERT INTO audit.events (what) VALUES ('return'); COMMIT"
        ),
    }
}
