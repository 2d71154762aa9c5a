//! What one run of the monitor found.

use pgstream_engine::source::slot::WalStatus;
use serde::Serialize;

use crate::valve::Step;

/// Everything that is known after one look. Nothing in it is made up: what could not be read is `None`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sample {
    /// Seconds since 1970: the source's clock, or ours when it did not answer.
    pub at: f64,
    /// The source database.
    pub database: String,
    /// Whether the source answered.
    pub up: bool,
    /// Why it did not.
    pub error: Option<String>,
    /// WAL that all of the source writes, bytes a second.
    pub wal_bytes_per_second: Option<f64>,
    /// Free bytes on the source's disk.
    pub free_storage_bytes: Option<f64>,
    /// What the safety valve does, where there is one and free storage is known.
    pub valve: Option<Step>,
    /// Ours first, then the other logical slots of the database.
    pub slots: Vec<SlotSample>,
}

impl Sample {
    /// The slot that this is about.
    #[must_use]
    pub fn ours(&self) -> Option<&SlotSample> {
        self.slots.iter().find(|slot| slot.ours)
    }
}

/// One slot.
#[derive(Debug, Clone, PartialEq, Serialize, Default)]
pub struct SlotSample {
    /// Its name.
    pub name: String,
    /// Whether it is the pipeline's own.
    pub ours: bool,
    /// Whether it does not exist.
    pub missing: bool,
    /// Whether somebody reads it.
    pub active: Option<bool>,
    /// Whether the WAL that it needs is there.
    pub wal_status: Option<WalStatus>,
    /// WAL kept for it, bytes.
    pub retained_wal_bytes: Option<f64>,
    /// WAL not acknowledged, bytes.
    pub confirmed_flush_lag_bytes: Option<f64>,
    /// WAL that may still be written before it is lost, bytes.
    pub safe_wal_bytes: Option<f64>,
    /// How long nobody has read it; before 17, since this was first seen.
    pub inactive_seconds: Option<f64>,
    /// Age of what has not arrived yet.
    pub seconds_behind: Option<f64>,
    /// When the disk is full, at the present rate.
    pub hours_to_full: Option<f64>,
    /// Transactions since the oldest one whose catalog rows are kept for it.
    pub catalog_xmin_age: Option<f64>,
}
