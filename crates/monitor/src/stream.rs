//! What the stream counts, as metrics.

use pgstream_engine::stream::status::{Phase, Reading};

use crate::metrics::{Metric, Unit, metric};

static TRANSACTIONS: Metric = metric("Transactions", Unit::Count, "Source transactions applied");
static INSERTED: Metric = metric("RowsInserted", Unit::Count, "Rows inserted");
static UPDATED: Metric = metric("RowsUpdated", Unit::Count, "Rows updated");
static DELETED: Metric = metric("RowsDeleted", Unit::Count, "Rows deleted");
static TRUNCATES: Metric = metric("Truncates", Unit::Count, "Tables truncated");
static RECEIVED: Metric = metric("ReceivedBytes", Unit::Bytes, "Bytes received from the source");
static BATCH_ROWS: Metric = metric("BatchRows", Unit::Count, "Rows of a target transaction, on average");
static APPLY: Metric = metric("ApplyMilliseconds", Unit::Milliseconds, "Time that applying one took, on average");
static LAG_BYTES: Metric = metric("LagBytes", Unit::Bytes, "WAL between the two servers");
static LAG_SECONDS: Metric =
    metric("LagSeconds", Unit::Seconds, "Age of the last applied commit while there is something to apply");
static SCHEMA_CHANGES: Metric = metric("SchemaChanges", Unit::Count, "Schema changes applied");
static FALLBACKS: Metric = metric("Fallbacks", Unit::Count, "Batches that had to be applied row by row");
static RECONNECTS: Metric = metric("Reconnects", Unit::Count, "Reconnections after errors that pass");

/// Also published with the dimension `Code`.
pub static ERRORS: Metric = metric("Errors", Unit::Count, "Errors that ended the stream");

/// All of them.
pub static METRICS: [&Metric; 14] = [
    &TRANSACTIONS,
    &INSERTED,
    &UPDATED,
    &DELETED,
    &TRUNCATES,
    &RECEIVED,
    &BATCH_ROWS,
    &APPLY,
    &LAG_BYTES,
    &LAG_SECONDS,
    &SCHEMA_CHANGES,
    &FALLBACKS,
    &RECONNECTS,
    &ERRORS,
];

/// What happened between two readings.
#[derive(Debug, Clone)]
pub struct Counted {
    before: Reading,
    now: Reading,
    /// The code of the error that ended the stream.
    pub error: Option<String>,
}

impl Counted {
    /// Between these two.
    #[must_use]
    pub fn between(before: Reading, now: Reading) -> Self {
        Self { before, now, error: None }
    }

    /// The last one: an error of this code ended the stream.
    #[must_use]
    pub fn ended(mut self, code: Option<String>) -> Self {
        self.error = code;
        self
    }
}

/// Each metric that has a value. Lag is known only while the source is followed.
#[must_use]
pub fn of(counted: &Counted) -> Vec<(&'static Metric, f64)> {
    let Counted { before, now, error } = counted;
    let since = |count: fn(&Reading) -> u64| count(now).saturating_sub(count(before)) as f64;
    let mut values = vec![
        (&TRANSACTIONS, since(|reading| reading.transactions)),
        (&INSERTED, since(|reading| reading.inserts)),
        (&UPDATED, since(|reading| reading.updates)),
        (&DELETED, since(|reading| reading.deletes)),
        (&TRUNCATES, since(|reading| reading.truncates)),
        (&RECEIVED, since(|reading| reading.received_bytes)),
        (&SCHEMA_CHANGES, since(|reading| reading.schema_changes)),
        (&FALLBACKS, since(|reading| reading.fallbacks)),
        (&RECONNECTS, since(|reading| reading.reconnects)),
        (&ERRORS, f64::from(u8::from(error.is_some()))),
    ];
    let batches = since(|reading| reading.batches);
    if batches > 0.0 {
        let rows = since(|reading| reading.inserts + reading.updates + reading.deletes);
        values.push((&BATCH_ROWS, rows / batches));
        values.push((&APPLY, (now.apply_seconds - before.apply_seconds).max(0.0) * 1000.0 / batches));
    }
    if now.phase == Phase::Streaming {
        values.push((&LAG_BYTES, now.lag_bytes as f64));
        values.push((&LAG_SECONDS, now.lag_seconds));
    }
    values
}

#[cfg(test)]
pub(crate) mod tests {
    use pgstream_engine::stream::status::{Monitor, RowCounts};
    use pgstream_postgres::Lsn;

    use super::*;

    /// A stream that applied one batch.
    pub(crate) fn one_batch() -> Counted {
        let monitor = Monitor::default();
        let before = monitor.read();
        monitor.enter(Phase::Streaming);
        monitor.source_end(Lsn(100));
        monitor.reached(Lsn(100));
        monitor.received(512);
        monitor.applied_in(std::time::Duration::from_millis(20));
        monitor.committed(Lsn(100), None, 3, RowCounts { inserts: 6, updates: 3, deletes: 1, truncates: 0 });
        Counted::between(before, monitor.read())
    }

    fn value(counted: &Counted, name: &str) -> Option<f64> {
        of(counted).into_iter().find(|(metric, _)| metric.name == name).map(|(_, value)| value)
    }

    #[test]
    fn averages_are_of_what_was_done_and_lag_of_what_is_followed() {
        let counted = one_batch();
        assert_eq!(value(&counted, "Transactions"), Some(3.0));
        assert_eq!(value(&counted, "BatchRows"), Some(10.0));
        assert_eq!(value(&counted, "ApplyMilliseconds"), Some(20.0));
        assert_eq!(value(&counted, "LagSeconds"), Some(0.0));
        let nothing = Counted::between(counted.before.clone(), counted.before.clone());
        assert_eq!(value(&nothing, "Transactions"), Some(0.0));
        assert_eq!((value(&nothing, "BatchRows"), value(&nothing, "LagBytes")), (None, None));
    }

    #[test]
    fn only_an_error_that_ends_the_stream_is_an_error() {
        let counted = one_batch();
        assert_eq!(value(&counted, "Errors"), Some(0.0));
        assert_eq!(value(&counted.ended(Some("stream::conflict".into())), "Errors"), Some(1.0));
    }
}
