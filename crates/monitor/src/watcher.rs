//! Looks again and again, and says what has become of it.
//!
//! ```text
//!  seconds behind      confirmed position ── when had the source written as far? ──> its age    (what was seen before)
//!                      commit time on the target ──────────────────────────────────> at most    (the progress row)
//!  hours to full       free storage / the faster of: its decline, growth of the WAL that the slot keeps
//! ```
//!
//! Of a source that is idle the last commit is old though nothing is missing, which only positions tell. They need a past:
//! in its first minute the monitor leaves `seconds behind` out unless it is certain.

use std::{
    collections::HashMap,
    time::{SystemTime, UNIX_EPOCH},
};

use pgstream_engine::source::slot::SlotState;
use pgstream_postgres::Server;

use crate::{
    look::{self, Blind, Progress, Source},
    sample::{Sample, SlotSample},
    series::{Point, Reached, Series},
    valve::{Hands, Step, Valve},
};

/// Rates are of this many seconds.
const WINDOW: f64 = 600.0;

/// With a past this long, a position that was passed before it is truly behind.
const SETTLED: f64 = 55.0;

/// Free storage goes up and down with temporary files: a trend takes this many seconds.
const STORAGE_TREND: f64 = 900.0;

/// A disk that lasts longer than this many hours does not fill up.
const A_YEAR: f64 = 8766.0;

/// What to look at.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The slot that must exist.
    pub slot: String,
    /// The source database, as metrics name it.
    pub database: String,
}

/// Keeps what was seen, for rates.
#[derive(Debug)]
pub struct Watcher {
    settings: Settings,
    wal: Series,
    /// By slot.
    retained: HashMap<String, Series>,
    /// By slot: when it was first seen without a reader.
    unread: HashMap<String, f64>,
    /// Lag of our slot, for a picture of it.
    lag: Series,
    valve: Option<Valve>,
    /// How far the valve was open after the last look.
    step: Step,
}

impl Watcher {
    /// Without a past.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            valve: None,
            step: Step::Closed,
            settings,
            wal: Series::default(),
            retained: HashMap::new(),
            unread: HashMap::new(),
            lag: Series::default(),
        }
    }

    /// With a safety valve.
    #[must_use]
    pub fn with_valve(self, valve: Option<Valve>) -> Self {
        Self { valve, ..self }
    }

    /// Lets the safety valve act on what was seen.
    pub async fn let_off(&mut self, sample: &mut Sample, hands: Hands<'_>) {
        if let (Some(valve), Some(free)) = (self.valve, sample.free_storage_bytes) {
            let missing = sample.ours().is_none_or(|slot| slot.missing);
            self.step = Box::pin(valve.act(&self.settings.slot, missing, free, self.step, hands)).await;
            sample.valve = Some(self.step);
        }
    }

    /// What it looks at.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Lag in bytes of our slot, as far back as is known.
    #[must_use]
    pub fn lag(&self) -> &Series {
        &self.lag
    }

    /// One look. `free` is what is known of the source's free storage.
    ///
    /// # Errors
    /// The source did not answer; [`Watcher::blind`] makes a sample of it.
    pub async fn look(
        &mut self,
        source: &Server,
        target: Option<&Server>,
        free: impl Future<Output = Series>,
    ) -> Result<Sample, Blind> {
        let progress = async {
            let seen = look::target(target?, &self.settings.slot).await;
            seen.inspect_err(|blind| tracing::warn!(%blind, "the target does not say how far it is")).ok().flatten()
        };
        let (seen, progress, free) = tokio::join!(Box::pin(look::source(source)), Box::pin(progress), Box::pin(free));
        Ok(self.judge(&seen?, progress, &free))
    }

    /// What is said when the source did not answer.
    #[must_use]
    pub fn blind(&self, why: &impl ToString) -> Sample {
        let ours = SlotSample { name: self.settings.slot.clone(), ours: true, ..SlotSample::default() };
        Sample {
            at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()),
            database: self.settings.database.clone(),
            up: false,
            error: Some(why.to_string()),
            wal_bytes_per_second: None,
            free_storage_bytes: None,
            valve: None,
            slots: vec![ours],
        }
    }

    fn judge(&mut self, seen: &Source, progress: Option<Progress>, free: &Series) -> Sample {
        if self.wal.last().is_some_and(|last| (seen.wal.0 as f64) < last.value) {
            tracing::warn!("the end of WAL went back: this is another server, or one that was restored");
            *self = Self { step: self.step, ..Self::new(self.settings.clone()).with_valve(self.valve) };
        }
        self.wal.push_growing(Point { at: seen.at, value: seen.wal.0 as f64 });
        self.retained.retain(|name, _| seen.slots.iter().any(|slot| slot.name == *name));
        self.unread.retain(|name, _| seen.slots.iter().any(|slot| slot.name == *name && slot.active_pid.is_none()));
        let mut slots: Vec<SlotSample> = seen.slots.iter().map(|slot| self.slot(slot, seen, progress, free)).collect();
        if !slots.iter().any(|slot| slot.ours) {
            self.lag.clear();
            let name = self.settings.slot.clone();
            slots.push(SlotSample { name, ours: true, missing: true, ..SlotSample::default() });
        }
        slots.sort_by_key(|slot| !slot.ours);
        Sample {
            at: seen.at,
            database: self.settings.database.clone(),
            up: true,
            error: None,
            wal_bytes_per_second: self.wal.slope(WINDOW).map(|rate| rate.max(0.0)),
            free_storage_bytes: free.last().map(|point| point.value),
            valve: None,
            slots,
        }
    }

    fn slot(&mut self, slot: &SlotState, seen: &Source, progress: Option<Progress>, free: &Series) -> SlotSample {
        let ours = slot.name == self.settings.slot;
        let at = seen.at;
        let bytes = |bytes: Option<i64>| bytes.map(|bytes| bytes.max(0) as f64);
        let (retained, lag) = (bytes(slot.retained_bytes), bytes(slot.lag_bytes));
        let kept = self.retained.entry(slot.name.clone()).or_default();
        if let Some(value) = retained {
            kept.push(Point { at, value });
        }
        let growth = kept.slope(WINDOW);
        if let (true, Some(value)) = (ours, lag) {
            self.lag.push(Point { at, value });
        }
        SlotSample {
            name: slot.name.clone(),
            ours,
            missing: false,
            active: Some(slot.active_pid.is_some()),
            wal_status: slot.wal_status,
            retained_wal_bytes: retained,
            confirmed_flush_lag_bytes: lag,
            safe_wal_bytes: bytes(slot.safe_wal_size),
            inactive_seconds: self.inactive(slot, at),
            seconds_behind: self.behind(slot, at, progress.filter(|_| ours)),
            hours_to_full: hours_to_full(free, growth),
            catalog_xmin_age: slot.catalog_xmin_age.map(f64::from),
        }
    }

    /// The server's word (17 and later), or how long we know.
    fn inactive(&mut self, slot: &SlotState, at: f64) -> Option<f64> {
        if slot.active_pid.is_some() {
            return Some(0.0);
        }
        let known = match self.unread.get(&slot.name) {
            Some(since) => Some((at - since).max(0.0)),
            None => {
                self.unread.insert(slot.name.clone(), at);
                None
            }
        };
        slot.inactive_seconds.map(|seconds| seconds.max(0.0)).or(known)
    }

    fn behind(&self, slot: &SlotState, at: f64, progress: Option<Progress>) -> Option<f64> {
        let confirmed = slot.confirmed_flush_lsn?;
        // What is durable there and not acknowledged yet is not behind.
        let arrived = progress.map_or(confirmed, |progress| progress.commit_end.max(confirmed));
        let committed = progress.and_then(|progress| progress.commit_time).map(|time| (at - time).max(0.0));
        match self.wal.reached(arrived.0 as f64)? {
            Reached::NotYet => Some(0.0),
            Reached::At(time) if Some(time) == self.wal.last().map(|last| last.at) => Some(0.0),
            Reached::At(time) => {
                let age = (at - time).max(0.0);
                Some(committed.map_or(age, |committed| committed.min(age)))
            }
            Reached::Before(_) if self.wal.span() < SETTLED => None,
            Reached::Before(time) => committed.or(Some((at - time).max(0.0))),
        }
    }
}

/// When a disk with this much free space is full. `growth` is of the WAL that the slot keeps, bytes a second.
fn hours_to_full(free: &Series, growth: Option<f64>) -> Option<f64> {
    let left = free.last()?.value;
    let decline = free.slope(f64::MAX).filter(|_| free.span() >= STORAGE_TREND).map(|slope| -slope);
    let rate = [decline, growth].into_iter().flatten().fold(0.0, f64::max);
    let hours = left.max(0.0) / rate / 3600.0;
    (rate > 0.0 && hours < A_YEAR).then_some(hours)
}

#[cfg(test)]
mod tests {
    use pgstream_engine::source::slot::WalStatus;
    use pgstream_postgres::Lsn;
    use proptest::prelude::*;

    use super::*;

    const GB: f64 = 1e9;

    fn watcher() -> Watcher {
        Watcher::new(Settings { slot: "ours".into(), database: "app".into() })
    }

    fn slot(name: &str, wal: u64, confirmed: u64, active: bool) -> SlotState {
        SlotState {
            name: name.into(),
            plugin: Some("pgoutput".into()),
            database: Some("app".into()),
            temporary: false,
            two_phase: false,
            failover: false,
            active_pid: active.then_some(1),
            restart_lsn: Some(Lsn(confirmed)),
            confirmed_flush_lsn: Some(Lsn(confirmed)),
            wal_status: Some(WalStatus::Reserved),
            invalidation_reason: None,
            retained_bytes: Some((wal - confirmed).cast_signed()),
            lag_bytes: Some((wal - confirmed).cast_signed()),
            safe_wal_size: None,
            inactive_since: None,
            inactive_seconds: None,
            catalog_xmin_age: Some(7),
        }
    }

    fn seen(at: f64, wal: u64, slots: Vec<SlotState>) -> Source {
        Source { at, wal: Lsn(wal), major: 16, slots }
    }

    fn free(points: &[(f64, f64)]) -> Series {
        let mut series = Series::default();
        for (at, value) in points {
            series.push(Point { at: *at, value: *value });
        }
        series
    }

    fn ours(sample: &Sample) -> &SlotSample {
        sample.ours().unwrap()
    }

    #[test]
    fn an_idle_source_is_not_behind_however_old_its_last_commit() {
        let mut watcher = watcher();
        let old = Some(Progress { commit_end: Lsn(900), commit_time: Some(1000.0) });
        for minute in 0..5_u32 {
            let at = 100_000.0 + f64::from(minute) * 60.0;
            let wal = 1000 + u64::from(minute) * 100;
            let sample =
                watcher.judge(&seen(at, wal, vec![slot("ours", wal, wal - 10, true)]), old, &Series::default());
            let behind = ours(&sample).seconds_behind;
            assert!(behind.is_none_or(|seconds| seconds <= 60.0), "{behind:?} after {minute} minutes");
            assert_eq!(behind.is_none(), minute == 0, "without a past it is not known");
        }
    }

    #[test]
    fn a_stopped_stream_falls_behind_second_by_second() {
        let mut watcher = watcher();
        for minute in 0..10_u32 {
            let at = f64::from(minute) * 60.0;
            let wal = 1000 + u64::from(minute) * 600;
            let sample = watcher.judge(&seen(at, wal, vec![slot("ours", wal, 1000, false)]), None, &Series::default());
            assert_eq!(ours(&sample).seconds_behind, Some(at));
            assert_eq!(ours(&sample).confirmed_flush_lag_bytes, Some(f64::from(minute) * 600.0));
            assert_eq!(ours(&sample).inactive_seconds, (minute > 0).then_some(at), "before 17 only we know since when");
        }
    }

    #[test]
    fn what_is_applied_and_not_acknowledged_yet_is_not_behind() {
        let mut watcher = watcher();
        watcher.judge(&seen(0.0, 1000, vec![slot("ours", 1000, 1000, true)]), None, &Series::default());
        let applied = Some(Progress { commit_end: Lsn(5000), commit_time: Some(59.0) });
        let sample =
            watcher.judge(&seen(60.0, 5000, vec![slot("ours", 5000, 1000, true)]), applied, &Series::default());
        assert_eq!(ours(&sample).seconds_behind, Some(0.0));
    }

    #[test]
    fn beyond_what_was_seen_the_target_says_how_far_behind_it_is() {
        let mut watcher = watcher();
        let progress = Some(Progress { commit_end: Lsn(10), commit_time: Some(1000.0) });
        let look = |watcher: &mut Watcher, at, progress| {
            let sample =
                watcher.judge(&seen(at, 5000, vec![slot("ours", 5000, 10, true)]), progress, &Series::default());
            ours(&sample).seconds_behind
        };
        assert_eq!(look(&mut watcher, 4000.0, progress), None, "without a past it might as well be idle");
        assert_eq!(look(&mut watcher, 4060.0, progress), Some(3060.0));
        assert_eq!(look(&mut watcher, 4120.0, None), Some(120.0), "at least");
    }

    #[test]
    fn a_slot_that_is_gone_is_missing_and_others_are_seen() {
        let mut watcher = watcher();
        let sample = watcher.judge(&seen(0.0, 1000, vec![slot("another", 1000, 400, false)]), None, &Series::default());
        assert_eq!(sample.slots.iter().map(|slot| slot.name.as_str()).collect::<Vec<_>>(), ["ours", "another"]);
        assert!(ours(&sample).missing && ours(&sample).active.is_none());
        assert_eq!(sample.slots[1].retained_wal_bytes, Some(600.0));
    }

    #[test]
    fn another_server_has_another_past() {
        let mut watcher = watcher();
        for (at, wal) in [(0.0, 5000), (60.0, 6000)] {
            watcher.judge(&seen(at, wal, vec![slot("ours", wal, wal, true)]), None, &Series::default());
        }
        let sample = watcher.judge(&seen(120.0, 100, vec![slot("ours", 100, 100, true)]), None, &Series::default());
        assert_eq!(sample.wal_bytes_per_second, None);
        assert_eq!(ours(&sample).seconds_behind, Some(0.0));
    }

    #[test]
    fn the_disk_is_full_when_its_decline_says() {
        // 1 GB in 900 s: 36 GB last nine hours.
        let hours = hours_to_full(&free(&[(0.0, 37.0 * GB), (900.0, 36.0 * GB)]), None).unwrap();
        assert!((hours - 9.0).abs() < 1e-9, "{hours}");
        assert_eq!(hours_to_full(&free(&[(0.0, 36.0 * GB), (900.0, 37.0 * GB)]), None), None, "it grows");
        assert_eq!(hours_to_full(&free(&[(0.0, 37.0 * GB), (600.0, 36.0 * GB)]), None), None, "too short");
        assert_eq!(hours_to_full(&Series::default(), Some(GB)), None, "nobody knows how much is free");
    }

    #[test]
    fn wal_that_piles_up_counts_before_the_storage_shows_it() {
        let hours = hours_to_full(&free(&[(0.0, 36.0 * GB)]), Some(GB / 3600.0)).unwrap();
        assert!((hours - 36.0).abs() < 1e-9, "{hours}");
        assert_eq!(hours_to_full(&free(&[(0.0, 36.0 * GB)]), Some(1.0)), None, "not within a year");
        assert_eq!(hours_to_full(&free(&[(0.0, 0.0)]), Some(1.0)), Some(0.0));
    }

    proptest! {
        #[test]
        fn no_look_ever_says_what_cannot_be(
            looks in proptest::collection::vec((-10.0..600.0_f64, 0..1_000_000_u64, 0.0..1.0_f64, any::<bool>(), any::<bool>()), 1..60)
        ) {
            let (mut watcher, mut at, mut wal) = (watcher(), 1.8e9, 1_u64);
            for (gap, growth, share, active, known) in looks {
                at += gap;
                wal += growth;
                let confirmed = (wal as f64 * share) as u64;
                let progress = known.then_some(Progress { commit_end: Lsn(confirmed), commit_time: Some(at - gap) });
                let storage = free(&[(at - 900.0, GB), (at, GB * share)]);
                let sample = watcher.judge(&seen(at, wal, vec![slot("ours", wal, confirmed, active)]), progress, &storage);
                for value in crate::metrics::of(&sample) {
                    prop_assert!(value.value.is_finite() && value.value >= 0.0, "{value:?}");
                }
            }
        }
    }
}
