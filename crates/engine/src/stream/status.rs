//! What a running stream can say about itself, for terminals, health checks and metrics.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use pgstream_postgres::Lsn;
use serde::Serialize;

/// Where a stream is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Connecting and checking.
    #[default]
    Starting,
    /// Following the source.
    Streaming,
    /// Waiting after a transient error.
    Reconnecting,
    /// Ended.
    Stopped,
}

/// Counters of one stream; written by its tasks, read by anyone.
#[derive(Debug, Default)]
pub struct Monitor {
    phase: Mutex<Phase>,
    last_error: Mutex<Option<String>>,
    source_end: AtomicU64,
    /// End of the source's WAL, as it said when it was asked.
    written: AtomicU64,
    /// The source has sent everything before, and nothing of it is under way.
    reached: AtomicU64,
    applied: AtomicU64,
    durable: AtomicU64,
    /// Source clock at the last applied commit, microseconds since 1970; 0 before the first.
    commit_time: AtomicU64,
    received_bytes: AtomicU64,
    transactions: AtomicU64,
    inserts: AtomicU64,
    updates: AtomicU64,
    deletes: AtomicU64,
    truncates: AtomicU64,
    batches: AtomicU64,
    apply_micros: AtomicU64,
    schema_changes: AtomicU64,
    fallbacks: AtomicU64,
    reconnects: AtomicU64,
}

/// One reading of a [`Monitor`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reading {
    /// Where the stream is.
    pub phase: Phase,
    /// End of WAL on the source, as last heard or asked.
    pub source_lsn: String,
    /// Committed on the target.
    pub applied_lsn: String,
    /// Acknowledged to the source.
    pub acknowledged_lsn: String,
    /// WAL bytes between the two servers.
    pub lag_bytes: u64,
    /// Age of the last applied commit while there is something to apply; 0 when caught up.
    pub lag_seconds: f64,
    /// Bytes received from the source.
    pub received_bytes: u64,
    /// Source transactions applied.
    pub transactions: u64,
    /// Rows inserted.
    pub inserts: u64,
    /// Rows updated.
    pub updates: u64,
    /// Rows deleted.
    pub deletes: u64,
    /// Tables truncated.
    pub truncates: u64,
    /// Target transactions.
    pub batches: u64,
    /// Seconds spent on applying.
    pub apply_seconds: f64,
    /// Schema changes applied.
    pub schema_changes: u64,
    /// Batches that had to be applied row by row.
    pub fallbacks: u64,
    /// Reconnections after transient errors.
    pub reconnects: u64,
    /// The last transient error, if any.
    pub last_error: Option<String>,
}

/// Rows of one batch by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RowCounts {
    /// Rows inserted.
    pub inserts: u64,
    /// Rows updated.
    pub updates: u64,
    /// Rows deleted.
    pub deletes: u64,
    /// Tables truncated.
    pub truncates: u64,
}

impl std::ops::AddAssign for RowCounts {
    fn add_assign(&mut self, other: Self) {
        self.inserts += other.inserts;
        self.updates += other.updates;
        self.deletes += other.deletes;
        self.truncates += other.truncates;
    }
}

impl Monitor {
    /// Moves to another phase.
    pub fn enter(&self, phase: Phase) {
        if let Ok(mut now) = self.phase.lock() {
            *now = phase;
        }
    }

    /// A stream begins: the target holds what lies before `position`.
    pub fn starts_at(&self, position: Lsn) {
        self.applied.fetch_max(position.0, Relaxed);
        self.durable.fetch_max(position.0, Relaxed);
        self.enter(Phase::Streaming);
    }

    /// Notes a transient error and the reconnection that follows.
    pub fn reconnecting(&self, error: String) {
        self.enter(Phase::Reconnecting);
        self.reconnects.fetch_add(1, Relaxed);
        if let Ok(mut last) = self.last_error.lock() {
            *last = Some(error);
        }
    }

    /// The source's end of WAL was heard.
    pub fn source_end(&self, end: Lsn) {
        self.source_end.fetch_max(end.0, Relaxed);
    }

    /// The source was asked for the end of its WAL.
    pub fn source_written(&self, end: Lsn) {
        self.written.fetch_max(end.0, Relaxed);
    }

    /// End of the source's WAL when it was asked last.
    pub fn written(&self) -> Lsn {
        Lsn(self.written.load(Relaxed))
    }

    /// The source has sent everything before `end`, and nothing of it is under way.
    pub fn reached(&self, end: Lsn) {
        self.reached.fetch_max(end.0, Relaxed);
    }

    /// A message of this many bytes came.
    pub fn received(&self, bytes: usize) {
        self.received_bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// A batch was committed.
    pub fn committed(&self, applied: Lsn, commit_micros: Option<i64>, transactions: u64, rows: RowCounts) {
        self.applied.fetch_max(applied.0, Relaxed);
        if let Some(micros) = commit_micros {
            self.commit_time.store(micros.max(0).unsigned_abs(), Relaxed);
        }
        self.batches.fetch_add(1, Relaxed);
        self.transactions.fetch_add(transactions, Relaxed);
        self.inserts.fetch_add(rows.inserts, Relaxed);
        self.updates.fetch_add(rows.updates, Relaxed);
        self.deletes.fetch_add(rows.deletes, Relaxed);
        self.truncates.fetch_add(rows.truncates, Relaxed);
    }

    /// A position became durable on the target.
    pub fn durable(&self, durable: Lsn) {
        self.durable.fetch_max(durable.0, Relaxed);
    }

    /// So long was spent on applying changes.
    pub fn applied_in(&self, time: Duration) {
        self.apply_micros.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    /// A schema change was applied.
    pub fn schema_changed(&self) {
        self.schema_changes.fetch_add(1, Relaxed);
    }

    /// A batch had to be applied row by row.
    pub fn fell_back(&self) {
        self.fallbacks.fetch_add(1, Relaxed);
    }

    /// All of it, now.
    #[must_use]
    pub fn read(&self) -> Reading {
        let lsn = |value: &AtomicU64| Lsn(value.load(Relaxed));
        let (heard, applied) = (lsn(&self.source_end), lsn(&self.applied));
        let source = heard.max(lsn(&self.written));
        let reached = applied.max(lsn(&self.reached));
        let lag_bytes = source.0.saturating_sub(reached.0);
        let commit = self.commit_time.load(Relaxed);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_micros());
        let behind = u64::try_from(now).unwrap_or(u64::MAX).saturating_sub(commit);
        let lag_seconds = if heard <= reached || commit == 0 { 0.0 } else { behind as f64 / 1e6 };
        Reading {
            phase: self.phase.lock().map(|p| *p).unwrap_or_default(),
            source_lsn: source.to_string(),
            applied_lsn: applied.to_string(),
            acknowledged_lsn: lsn(&self.durable).to_string(),
            lag_bytes,
            lag_seconds,
            received_bytes: self.received_bytes.load(Relaxed),
            transactions: self.transactions.load(Relaxed),
            inserts: self.inserts.load(Relaxed),
            updates: self.updates.load(Relaxed),
            deletes: self.deletes.load(Relaxed),
            truncates: self.truncates.load(Relaxed),
            batches: self.batches.load(Relaxed),
            apply_seconds: self.apply_micros.load(Relaxed) as f64 / 1e6,
            schema_changes: self.schema_changes.load(Relaxed),
            fallbacks: self.fallbacks.load(Relaxed),
            reconnects: self.reconnects.load(Relaxed),
            last_error: self.last_error.lock().ok().and_then(|e| e.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_has_applied_nothing_yet_lags_by_what_it_has_to_read() {
        let monitor = Monitor::default();
        monitor.starts_at(Lsn(0x100));
        monitor.source_written(Lsn(0x130));
        let reading = monitor.read();
        assert_eq!((reading.applied_lsn.as_str(), reading.acknowledged_lsn.as_str()), ("0/100", "0/100"));
        assert_eq!((reading.phase, reading.lag_bytes), (Phase::Streaming, 0x30));
    }
}
