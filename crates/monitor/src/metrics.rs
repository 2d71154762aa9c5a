//! The metrics of a sample: names, units, dimensions.

use pgstream_engine::source::slot::WalStatus;

use crate::{sample::Sample, valve::Step};

/// Of every metric of this program in CloudWatch.
pub const NAMESPACE: &str = "pgstream-aws";

/// Units as CloudWatch knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Unit {
    None,
    Count,
    Bytes,
    Seconds,
    BytesPerSecond,
    Milliseconds,
}

impl Unit {
    /// As CloudWatch writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Count => "Count",
            Self::Bytes => "Bytes",
            Self::Seconds => "Seconds",
            Self::BytesPerSecond => "Bytes/Second",
            Self::Milliseconds => "Milliseconds",
        }
    }
}

/// A quantity that is published.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name in CloudWatch.
    pub name: &'static str,
    /// Its unit.
    pub unit: Unit,
    /// What it is, in a sentence without its full stop.
    pub help: &'static str,
}

pub(crate) const fn metric(name: &'static str, unit: Unit, help: &'static str) -> Metric {
    Metric { name, unit, help }
}

static UP: Metric = metric("Up", Unit::None, "1 when the source answered the monitor");
static SLOT_MISSING: Metric = metric("SlotMissing", Unit::None, "1 when the slot does not exist");
static SLOT_ACTIVE: Metric = metric("SlotActive", Unit::None, "1 while somebody reads the slot");
static WAL_STATUS: Metric = metric("WalStatus", Unit::None, "wal_status: 0 reserved, 1 extended, 2 unreserved, 3 lost");
static RETAINED: Metric = metric("RetainedWalBytes", Unit::Bytes, "WAL that is kept for the slot");
static LAG: Metric = metric("ConfirmedFlushLagBytes", Unit::Bytes, "WAL that was not acknowledged");
static SAFE: Metric = metric("SafeWalBytes", Unit::Bytes, "WAL that may still be written before the slot is lost");
static INACTIVE: Metric = metric("InactiveSeconds", Unit::Seconds, "How long nobody has read the slot");
static BEHIND: Metric = metric("SecondsBehind", Unit::Seconds, "Age of the oldest change that has not arrived");
static WAL_RATE: Metric = metric("WalBytesPerSecond", Unit::BytesPerSecond, "WAL that the source writes");
static FREE: Metric = metric("FreeStorageBytes", Unit::Bytes, "Free space on the source's disk");
static HOURS: Metric = metric("HoursToFull", Unit::None, "Hours until the source's disk is full at the present rate");
static XMIN_AGE: Metric =
    metric("CatalogXminAge", Unit::Count, "Transactions since the oldest one whose catalog rows are kept for the slot");
static VALVE: Metric = metric(
    "ValveStep",
    Unit::None,
    "What the safety valve does: 0 nothing, 1 warns, 2 holds the copy back, 3 dropped the slot",
);

/// All of them.
pub static METRICS: [&Metric; 14] = [
    &UP,
    &SLOT_MISSING,
    &SLOT_ACTIVE,
    &WAL_STATUS,
    &RETAINED,
    &LAG,
    &SAFE,
    &INACTIVE,
    &BEHIND,
    &WAL_RATE,
    &FREE,
    &HOURS,
    &XMIN_AGE,
    &VALVE,
];

/// A value of a metric, of one slot.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// Which quantity.
    pub metric: &'static Metric,
    /// Dimension `Slot`.
    pub slot: String,
    /// How much.
    pub value: f64,
}

/// What a sample says. What it does not know is not among it.
#[must_use]
pub fn of(sample: &Sample) -> Vec<Value> {
    let mut values = Vec::new();
    let mut say = |metric: &'static Metric, slot: &str, value: Option<f64>| {
        if let Some(value) = value.filter(|value| value.is_finite()) {
            values.push(Value { metric, slot: slot.to_owned(), value });
        }
    };
    let flag = |flag: bool| Some(f64::from(u8::from(flag)));
    for slot in &sample.slots {
        let name = &slot.name;
        if slot.ours {
            say(&UP, name, flag(sample.up));
            say(&SLOT_MISSING, name, flag(slot.missing).filter(|_| sample.up));
            say(&WAL_RATE, name, sample.wal_bytes_per_second);
            say(&FREE, name, sample.free_storage_bytes);
            say(&VALVE, name, sample.valve.map(Step::level));
        }
        // A slot that is gone is read by nobody.
        say(&SLOT_ACTIVE, name, slot.active.or(slot.missing.then_some(false)).and_then(flag));
        say(&WAL_STATUS, name, slot.wal_status.map(level));
        say(&RETAINED, name, slot.retained_wal_bytes);
        say(&LAG, name, slot.confirmed_flush_lag_bytes);
        say(&SAFE, name, slot.safe_wal_bytes);
        say(&INACTIVE, name, slot.inactive_seconds);
        say(&BEHIND, name, slot.seconds_behind);
        say(&HOURS, name, slot.hours_to_full);
        say(&XMIN_AGE, name, slot.catalog_xmin_age);
    }
    values
}

fn level(status: WalStatus) -> f64 {
    match status {
        WalStatus::Reserved => 0.0,
        WalStatus::Extended => 1.0,
        WalStatus::Unreserved => 2.0,
        WalStatus::Lost => 3.0,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{Settings, Watcher};

    #[test]
    fn a_source_that_does_not_answer_gives_one_metric() {
        let watcher = Watcher::new(Settings { slot: "ours".into(), database: "app".into() });
        let values = of(&watcher.blind(&"connection refused"));
        assert_eq!(values, [Value { metric: &UP, slot: "ours".into(), value: 0.0 }]);
    }

    #[test]
    fn every_metric_is_explained_in_the_manual() {
        let manual = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operations.md")).unwrap();
        for metric in METRICS.into_iter().chain(crate::stream::METRICS) {
            assert!(manual.contains(&format!("| `{}` |", metric.name)), "{} is not in docs/operations.md", metric.name);
        }
    }
}
