//! Foreign keys that are active on the target: their cascades run there as well, before the stream tells what they did.

use pgstream_engine::stream::Limits;

use crate::harness::{Pair, Running, pair};

/// How the changes are applied.
#[derive(Debug, Clone, Copy)]
enum Path {
    /// All of them in one chunk, which is applied set-wise if that can be.
    Set,
    /// In one transaction with the change of a key, so that sets are in doubt.
    Row,
    /// Between transactions that change a key.
    Between,
    /// In several chunks of one target transaction.
    Chunks,
}

const PATHS: [Path; 4] = [Path::Set, Path::Row, Path::Between, Path::Chunks];
/// What makes a transaction doubtful.
const DOUBT: &str = "UPDATE doubt SET id = -id";

async fn with_foreign_keys(schema: &str) -> Pair {
    pair(&format!(
        "CREATE TABLE doubt (id int PRIMARY KEY, up int REFERENCES doubt); INSERT INTO doubt VALUES (1); {schema}"
    ))
    .await
}

fn start(pair: &Pair, path: Path) -> Running {
    let mut job = pair.job();
    job.disable_triggers = Some(false);
    if matches!(path, Path::Chunks) {
        job.limits = Limits { bytes: 8 << 20, changes: 4 };
    }
    Running::start(job)
}

/// Fills both sides by `before`, then expects each transaction of `changes` to arrive on every path.
async fn arrives(schema: &str, before: &str, changes: &[&str]) {
    for path in PATHS {
        let pair = with_foreign_keys(schema).await;
        let running = start(&pair, path);
        pair.here.batch(before).await;
        pair.caught_up(&running).await;
        running.stop().await.unwrap();
        // While nobody reads, so that it arrives as one batch.
        for change in changes {
            let doubt = if matches!(path, Path::Row) { DOUBT } else { "SELECT 1" };
            pair.here.batch(&format!("BEGIN; {change}; {doubt}; COMMIT")).await;
            if matches!(path, Path::Between) {
                pair.here.batch(DOUBT).await;
            }
        }
        let running = start(&pair, path);
        eprintln!("{path:?}");
        pair.caught_up(&running).await;
        pair.assert_same().await;
        running.stop().await.unwrap();
    }
}

const FAMILY: &str =
    "INSERT INTO parent SELECT generate_series(1, 40); INSERT INTO child SELECT n, n FROM generate_series(1, 40) AS n;";

#[tokio::test]
async fn on_delete_cascade() {
    arrives(
        "CREATE TABLE parent (id int PRIMARY KEY);
         CREATE TABLE child (id int PRIMARY KEY, p int REFERENCES parent ON DELETE CASCADE);
         CREATE TABLE grandchild (id int PRIMARY KEY, c int REFERENCES child ON DELETE CASCADE);",
        &format!("{FAMILY} INSERT INTO grandchild SELECT n, n FROM generate_series(1, 40) AS n"),
        &[
            "DELETE FROM parent WHERE id <= 10",
            "UPDATE child SET p = 20 WHERE id = 21; DELETE FROM parent WHERE id = 21",
            "DELETE FROM parent WHERE id = 30; INSERT INTO parent VALUES (30); INSERT INTO child VALUES (30, 30)",
            "INSERT INTO parent VALUES (50); UPDATE child SET p = 50 WHERE p > 35; DELETE FROM parent WHERE id > 35 AND id < 50",
            "DELETE FROM grandchild WHERE id = 15; DELETE FROM parent WHERE id = 15",
        ],
    )
    .await;
}

#[tokio::test]
async fn on_delete_set_null_or_default() {
    arrives(
        "CREATE TABLE parent (id int PRIMARY KEY);
         CREATE TABLE child (id int PRIMARY KEY, p int REFERENCES parent ON DELETE SET NULL);
         CREATE TABLE ward (id int, p int DEFAULT 1 REFERENCES parent ON DELETE SET DEFAULT, v int, PRIMARY KEY (id, p));",
        &format!("{FAMILY} INSERT INTO ward SELECT n, n, 0 FROM generate_series(1, 40) AS n"),
        &[
            "DELETE FROM parent WHERE id BETWEEN 2 AND 10",
            "UPDATE child SET p = 20 WHERE id = 21; DELETE FROM parent WHERE id = 21",
            "DELETE FROM parent WHERE id = 30; INSERT INTO parent VALUES (30); UPDATE child SET p = 30 WHERE id = 30; UPDATE ward SET v = 1 WHERE id = 30",
            "DELETE FROM parent WHERE id = 25; DELETE FROM child WHERE id = 25; DELETE FROM ward WHERE id = 25",
        ],
    )
    .await;
}

#[tokio::test]
async fn on_update_cascade() {
    arrives(
        "CREATE TABLE parent (id int PRIMARY KEY);
         CREATE TABLE child (id int PRIMARY KEY, p int REFERENCES parent ON UPDATE CASCADE ON DELETE CASCADE);
         CREATE TABLE line (p int REFERENCES parent ON UPDATE CASCADE ON DELETE CASCADE, n int, v int, PRIMARY KEY (p, n));
         CREATE TABLE note (p int, n int, t text, PRIMARY KEY (p, n), FOREIGN KEY (p, n) REFERENCES line ON UPDATE CASCADE);
         CREATE TABLE aside (id int PRIMARY KEY, p int REFERENCES parent ON UPDATE SET NULL);",
        &format!(
            "{FAMILY} INSERT INTO line SELECT n, i, 0 FROM generate_series(1, 40) AS n, generate_series(1, 3) AS i;
             INSERT INTO note SELECT n, 1, 'note' FROM generate_series(1, 30) AS n;
             INSERT INTO aside SELECT n, n FROM generate_series(1, 40) AS n"
        ),
        &[
            "UPDATE parent SET id = id + 100 WHERE id <= 5",
            "UPDATE line SET v = 7 WHERE p = 103; UPDATE parent SET id = 203 WHERE id = 103; UPDATE line SET v = 8 WHERE p = 203",
            "UPDATE parent SET id = 300 WHERE id = 10; UPDATE parent SET id = 301 WHERE id = 300; DELETE FROM line WHERE p = 301 AND n = 2",
            "UPDATE parent SET id = 400 WHERE id = 35; DELETE FROM parent WHERE id = 400",
        ],
    )
    .await;
}

#[tokio::test]
async fn no_action_in_one_statement() {
    arrives(
        // Where the transaction is in doubt, no order of single rows is right for these.
        "CREATE TABLE node (id int PRIMARY KEY, up int REFERENCES node);
         CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (id int PRIMARY KEY, p int REFERENCES parent);",
        FAMILY,
        &[
            // Each row references the next one: what a single row at a time could not do.
            "INSERT INTO node SELECT n, CASE WHEN n < 3 THEN n + 1 END FROM generate_series(1, 3) AS n",
            "UPDATE child SET p = 1 WHERE id = 5; DELETE FROM parent WHERE id = 5",
            "DELETE FROM child WHERE id = 6; DELETE FROM parent WHERE id = 6",
            "DELETE FROM parent WHERE id = 7 AND false",
            "DELETE FROM node",
        ],
    )
    .await;
}

/// A transaction that is in doubt does not take the others of its batch along.
#[tokio::test]
async fn one_doubtful_transaction_leaves_the_others_whole() {
    let pair = with_foreign_keys("CREATE TABLE node (id int PRIMARY KEY, up int REFERENCES node);").await;
    let running = start(&pair, Path::Set);
    pair.caught_up(&running).await;
    running.stop().await.unwrap();
    for n in 0..20 {
        let base = n * 1000;
        // Backwards: no order of single rows is right.
        pair.here
            .batch(&format!(
                "INSERT INTO node SELECT {base} + n, {base} + 1 + n % 100 FROM generate_series(1, 100) AS n"
            ))
            .await;
        pair.here.batch(DOUBT).await;
    }
    pair.here.batch("DELETE FROM node WHERE id < 5000").await;
    let running = start(&pair, Path::Set);
    pair.caught_up(&running).await;
    pair.assert_same().await;
    assert!(running.monitor.read().fallbacks >= 1);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn partitions_cascade() {
    arrives(
        "CREATE TABLE parent (id int PRIMARY KEY) PARTITION BY RANGE (id);
         CREATE TABLE parent_low PARTITION OF parent FOR VALUES FROM (0) TO (20); CREATE TABLE parent_rest PARTITION OF parent DEFAULT;
         CREATE TABLE child (id int PRIMARY KEY, p int REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE) PARTITION BY HASH (id);
         CREATE TABLE child_0 PARTITION OF child FOR VALUES WITH (MODULUS 2, REMAINDER 0);
         CREATE TABLE child_1 PARTITION OF child FOR VALUES WITH (MODULUS 2, REMAINDER 1);",
        FAMILY,
        &["DELETE FROM parent WHERE id BETWEEN 15 AND 25", "UPDATE parent SET id = 100 WHERE id = 30", "DELETE FROM parent WHERE id = 100"],
    )
    .await;
}

/// Tables without a key beside tables with foreign keys.
#[tokio::test]
async fn tables_without_a_key_beside_foreign_keys() {
    arrives(
        "CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (id int PRIMARY KEY, p int REFERENCES parent);
         CREATE TABLE journal (a int); ALTER TABLE journal REPLICA IDENTITY FULL;
         CREATE TABLE loose (p int REFERENCES parent ON DELETE CASCADE); ALTER TABLE loose REPLICA IDENTITY FULL;",
        &format!("{FAMILY} INSERT INTO journal SELECT n % 3 FROM generate_series(1, 30) AS n; INSERT INTO loose SELECT 1 + n % 20 FROM generate_series(1, 60) AS n"),
        &[
            "DELETE FROM journal WHERE ctid = (SELECT min(ctid) FROM journal); DELETE FROM child WHERE id < 5; DELETE FROM parent WHERE id < 5",
            "UPDATE journal SET a = 9 WHERE a = 1; INSERT INTO parent VALUES (99); UPDATE loose SET p = 99 WHERE p = 20",
            "DELETE FROM loose WHERE ctid = (SELECT min(ctid) FROM loose WHERE p = 99)",
        ],
    )
    .await;
}
