//! What a database holds, in a few numbers per table, and what differs when they are not the same.
//!
//! The digest of a table is order-free: `(count, sum of row hashes)`. Equal digests mean equal multisets of rows, so a
//! row that was applied twice shows as well as one that is missing.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
};

use crate::{Client, Cluster};

/// `(count(*), sum of 60-bit row hashes)`; the sum is a numeric in text form.
pub type TableDigest = (i64, String);

/// Values must not look different because a session or a server has other settings.
const PINNED: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
    SET LOCAL extra_float_digits = 1; SET LOCAL DateStyle = 'ISO, YMD'; SET LOCAL IntervalStyle = postgres;
    SET LOCAL TimeZone = 'UTC'; SET LOCAL bytea_output = hex; SET LOCAL search_path = pg_catalog;
    SET LOCAL row_security = off; SET LOCAL statement_timeout = 0;";

/// Every table that holds rows itself: partitions and inheritance children one by one, partitioned parents not.
/// Temporary and unlogged tables have no place in the stream.
const TABLES: &str = "SELECT format('%I.%I', n.nspname, c.relname),
        (SELECT 'ROW(' || string_agg(format('row_of_table.%I', a.attname), ', ' ORDER BY k.nr) || ')::text'
         FROM pg_index i, unnest(i.indkey) WITH ORDINALITY k (attnum, nr)
         JOIN pg_attribute a ON a.attnum = k.attnum
         WHERE i.indrelid = c.oid AND i.indisprimary AND a.attrelid = c.oid)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname <> 'pgstream'
      AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
    ORDER BY 1";

/// A table with more rows than this is not compared row by row for the message.
const MAX_ROWS_COMPARED: i64 = 200_000;
const MAX_ROWS_SHOWN: usize = 5;

/// The digest of every user table (quoted `schema.table`) that the filter lets through, in one snapshot.
///
/// # Panics
/// When a statement fails.
pub async fn digest(client: &Client, filter: impl Fn(&str) -> bool) -> BTreeMap<String, TableDigest> {
    client.batch(PINNED).await;
    let mut digests = BTreeMap::new();
    for row in client.query(TABLES).await {
        let table: String = row.get(0);
        if filter(&table) {
            let sql = format!(
                "SELECT count(*), coalesce(sum(('x' || substr(md5((row_of_table.*)::text), 1, 15))::bit(60)::bigint), \
                 0)::text FROM ONLY {table} AS row_of_table"
            );
            let found = &client.query(&sql).await[0];
            digests.insert(table, (found.get(0), found.get(1)));
        }
    }
    client.batch("COMMIT").await;
    digests
}

/// Fails unless both servers hold the same rows in the database.
///
/// # Panics
/// When they differ; the message has tables, counts, sums and the first keys that differ.
pub async fn assert_same_rows(source: &Cluster, target: &Cluster, db: &str) {
    assert_same_rows_in(source, target, db, |_| true).await;
}

/// [`assert_same_rows`] for some tables (quoted `schema.table`).
///
/// # Panics
/// As there.
pub async fn assert_same_rows_in(source: &Cluster, target: &Cluster, db: &str, filter: impl Fn(&str) -> bool) {
    let (source, target) = tokio::join!(source.client(db), target.client(db));
    let (expected, found) = tokio::join!(digest(&source, &filter), digest(&target, &filter));
    assert!(!expected.is_empty(), "the source has no table to compare");
    let report = difference(&source, &target, &expected, &found).await;
    assert!(report.is_empty(), "source and target differ\n{report}");
}

async fn difference(
    source: &Client,
    target: &Client,
    expected: &BTreeMap<String, TableDigest>,
    found: &BTreeMap<String, TableDigest>,
) -> String {
    let mut report = String::new();
    let only_target = found.keys().filter(|table| !expected.contains_key(*table));
    for table in only_target {
        let _ = writeln!(report, "  {table}: only on the target");
    }
    for (table, (rows, sum)) in expected {
        let Some((target_rows, target_sum)) = found.get(table) else {
            let _ = writeln!(report, "  {table}: not on the target ({rows} rows on the source)");
            continue;
        };
        if (rows, sum) == (target_rows, target_sum) {
            continue;
        }
        let _ =
            writeln!(report, "  {table}: source {rows} rows, sum {sum}; target {target_rows} rows, sum {target_sum}");
        if (*rows).max(*target_rows) <= MAX_ROWS_COMPARED {
            let (here, there) = tokio::join!(row_hashes(source, table), row_hashes(target, table));
            report.push_str(&only_in("source", &here, &there));
            report.push_str(&only_in("target", &there, &here));
        }
    }
    report
}

/// Occurrences of each `(key, hash)`; without a primary key the start of the row stands for the key.
async fn row_hashes(client: &Client, table: &str) -> HashMap<(String, String), i64> {
    client.batch(PINNED).await;
    let key = client.query(TABLES).await.into_iter().find(|row| row.get::<_, String>(0) == table);
    let key = key.and_then(|row| row.get::<_, Option<String>>(1));
    let key = key.unwrap_or_else(|| "left((row_of_table.*)::text, 100)".to_owned());
    let sql =
        format!("SELECT {key}, md5((row_of_table.*)::text), count(*) FROM ONLY {table} AS row_of_table GROUP BY 1, 2");
    let rows = client.query(&sql).await;
    client.batch("COMMIT").await;
    rows.into_iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect()
}

fn only_in(side: &str, here: &HashMap<(String, String), i64>, there: &HashMap<(String, String), i64>) -> String {
    let mut more: Vec<_> = here
        .iter()
        .map(|(row, count)| (row, count - there.get(row).unwrap_or(&0)))
        .filter(|(_, surplus)| *surplus > 0)
        .collect();
    more.sort_unstable();
    let mut report = String::new();
    for ((key, hash), surplus) in more.iter().take(MAX_ROWS_SHOWN) {
        let _ = writeln!(report, "    only on the {side}: {key} x{surplus} (row {})", &hash[..8]);
    }
    if more.len() > MAX_ROWS_SHOWN {
        let _ = writeln!(report, "    only on the {side}: {} more", more.len() - MAX_ROWS_SHOWN);
    }
    report
}
