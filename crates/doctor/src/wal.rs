//! How fast the source writes WAL, and how long a slot that nobody reads may keep it.
//!
//! ```text
//!  pg_current_wal_lsn() ── other checks meanwhile, 1 s or more ── pg_current_wal_lsn()
//!        └────────────────────────── rate ──────────────────────────┘
//!  rate, max_slot_wal_keep_size ─> the slot is lost in N hours
//!  rate, free storage (RDS API) ─> the disk is full in N hours
//! ```
//!
//! It is the present rate: a check in a quiet hour says nothing of a busy one, and is silent rather than wrong.

use std::time::Duration;

use pgstream_postgres::{Client, Error};

use crate::{
    check::{Category, Severity, Side},
    machine::MachineCheck,
    report::Finding,
};

/// Between the two readings, at least. The other checks are made meanwhile.
const WINDOW: Duration = Duration::from_secs(1);

/// A night and a day: sooner than that nobody may have looked.
const SOON_HOURS: f64 = 24.0;

/// What is advised lasts over a weekend.
const ENOUGH_HOURS: f64 = 72.0;

/// A server writes so much by itself (checkpoints, vacuum, what is tried and rolled back): no rate that lasts.
const IDLE_BYTES_PER_SECOND: f64 = 65_536.0;

const MIB: f64 = 1_048_576.0;

/// How far a slot lasts within `max_slot_wal_keep_size`.
pub(crate) const WAL_RATE: MachineCheck = MachineCheck {
    id: "replication.wal_rate",
    category: Category::Replication,
    severity: Severity::Warning,
    why: "a stream that stands still for longer loses its slot, and everything has to be copied again",
};

/// How fast WAL is written, as it was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WalRate {
    bytes_per_second: f64,
    /// What a slot may keep, in bytes; none when only the disk is a limit.
    kept: Option<f64>,
}

impl WalRate {
    /// Hours until a slot that nobody reads has filled so much free storage; nothing when that is far off, or is not reached
    /// because the slot is lost before.
    #[must_use]
    pub fn fills_soon(self, free: f64) -> Option<f64> {
        match self.kept {
            Some(kept) if kept < free => None,
            _ => self.soon(free),
        }
    }

    /// Hours until so much is written, unless that is far off. An idle server has no rate.
    fn soon(self, bytes: f64) -> Option<f64> {
        let hours = bytes / self.bytes_per_second / 3600.0;
        (self.bytes_per_second > IDLE_BYTES_PER_SECOND && hours < SOON_HOURS).then_some(hours)
    }

    /// Bytes that are written over a weekend.
    #[must_use]
    pub fn enough(self) -> f64 {
        self.bytes_per_second * ENOUGH_HOURS * 3600.0
    }

    /// How long a slot lasts within what it may keep.
    pub(crate) fn finding(self) -> Option<Finding> {
        let kept = self.kept?;
        let hours = for_people(self.soon(kept)?);
        let found =
            format!("{self}: max_slot_wal_keep_size, {:.0} MiB, lasts {hours} when nobody reads the slot", kept / MIB);
        let fix = format!(
            "ALTER SYSTEM SET max_slot_wal_keep_size = '{:.0}MB'; SELECT pg_reload_conf(); (RDS: in the parameter group)",
            (self.enough() / MIB).ceil()
        );
        Some(WAL_RATE.finding(Side::Source, found, fix))
    }
}

impl std::fmt::Display for WalRate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1} MiB of WAL are written a second", self.bytes_per_second / MIB)
    }
}

/// Two readings; nothing of a server that has no WAL to decode: a standby, or one without `wal_level` logical.
pub(crate) async fn measure(client: &Client) -> Result<Option<WalRate>, Error> {
    let Some(before) = reading(client).await? else { return Ok(None) };
    tokio::time::sleep(WINDOW).await;
    let Some(after) = reading(client).await? else { return Ok(None) };
    Ok(rate(after.position - before.position, after.seconds - before.seconds, after.kept))
}

/// One reading, by the clock of the server.
struct Reading {
    position: f64,
    seconds: f64,
    kept: Option<f64>,
}

async fn reading(client: &Client) -> Result<Option<Reading>, Error> {
    let sql = "
        SELECT CASE WHEN NOT pg_is_in_recovery() AND current_setting('wal_level') = 'logical'
                    THEN pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8 END,
               extract(epoch FROM clock_timestamp())::float8,
               (SELECT setting::float8 * 1048576 FROM pg_settings
                WHERE name = 'max_slot_wal_keep_size' AND setting::int8 >= 0)";
    let row = client.query_one(sql, &[]).await.map_err(client.failed("measuring how much WAL is written"))?;
    let position: Option<f64> = row.get(0);
    Ok(position.map(|position| Reading { position, seconds: row.get(1), kept: row.get(2) }))
}

/// A clock that was set meanwhile measures nothing.
fn rate(bytes: f64, seconds: f64, kept: Option<f64>) -> Option<WalRate> {
    let long_enough = seconds >= WINDOW.as_secs_f64() / 2.0;
    (long_enough && bytes >= 0.0).then(|| WalRate { bytes_per_second: bytes / seconds, kept })
}

/// Minutes where hours are too coarse.
#[must_use]
pub fn for_people(hours: f64) -> String {
    match hours >= 1.0 {
        true => format!("{hours:.1} hours"),
        false => format!("{:.0} minutes", (hours * 60.0).ceil()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_what_was_written_in_the_time_between() {
        let rate = rate(10.0 * MIB, 2.0, None).unwrap();
        assert_eq!(rate.to_string(), "5.0 MiB of WAL are written a second");
        let lasts = |seconds: f64| rate.fills_soon(5.0 * MIB * seconds).map(for_people);
        assert_eq!(lasts(3600.0).as_deref(), Some("1.0 hours"));
        assert_eq!(lasts(600.0).as_deref(), Some("10 minutes"));
        assert_eq!(lasts(25.0 * 3600.0), None);
        assert_eq!(rate.fills_soon(rate.enough()), None);
        assert!(rate.finding().is_none());
    }

    #[test]
    fn what_a_slot_may_keep_is_reached_before_the_disk_is_full_or_after() {
        let limited = rate(MIB, 1.0, Some(3600.0 * MIB)).unwrap();
        assert!(limited.finding().unwrap().instances[0].found.contains("3600 MiB, lasts 1.0 hours"));
        assert_eq!(limited.fills_soon(7200.0 * MIB), None);
        assert_eq!(limited.fills_soon(60.0 * MIB).map(for_people).as_deref(), Some("1 minutes"));
        let mended = rate(MIB, 1.0, Some(limited.enough())).unwrap();
        assert!(mended.finding().is_none());
    }

    #[test]
    fn an_idle_server_and_a_clock_that_was_set_say_nothing() {
        assert_eq!(rate(50_000.0, 1.0, None).unwrap().fills_soon(1.0), None);
        assert_eq!(rate(50_000.0, -3600.0, None), None);
        assert_eq!(rate(-1.0, 1.0, None), None);
    }
}
