//! The safety valve: before a slot that nobody reads fills the source's disk, and the source stops.
//!
//! ```text
//!  free storage   ≥ notify_below       < notify_below    < pause_below              < drop_below
//!                 ─────────────────────┬─────────────────┬──────────────────────────┬─────────────────────────
//!                 nothing              a warning         the copy is held back      the slot is dropped, and the
//!                                                        (a mark on the target)     target marked: copy it again
//! ```
//!
//! Each threshold is optional, and without one its step is never taken. What is free must be known: where it is not, nothing
//! is done. A step that was taken back needs a tenth more room than the one that was taken.

use pgstream_engine::{
    source,
    target::valve::{self, State},
};
use pgstream_postgres::{Server, Session};
use serde::Serialize;

/// A step is left when there is so much more room.
const MARGIN: f64 = 1.1;

/// Thresholds of free storage, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Valve {
    /// Below this, a warning.
    pub notify_below: Option<f64>,
    /// Below this, the copy waits.
    pub pause_below: Option<f64>,
    /// Below this, the slot is dropped.
    pub drop_below: Option<f64>,
}

/// How far the valve is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// There is room.
    Closed,
    /// Somebody should look.
    Notify,
    /// The copy is held back.
    Pause,
    /// The slot is dropped.
    Drop,
}

impl Step {
    /// As a metric.
    #[must_use]
    pub fn level(self) -> f64 {
        match self {
            Self::Closed => 0.0,
            Self::Notify => 1.0,
            Self::Pause => 2.0,
            Self::Drop => 3.0,
        }
    }
}

/// The thresholds are not those of a ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotALadder;

impl std::fmt::Display for NotALadder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the safety valve's thresholds must fall: notify below most, pause below less, drop below least")
    }
}

impl std::error::Error for NotALadder {}

/// With which logins the valve acts.
#[derive(Debug, Clone, Copy)]
pub struct Hands<'a> {
    /// May drop the slot.
    pub source: Option<&'a Server>,
    /// May write schema `pgstream` of the target.
    pub target: Option<&'a Server>,
}

impl Valve {
    /// The same, when there is any threshold.
    ///
    /// # Errors
    /// They do not fall from one step to the next.
    pub fn checked(self) -> Result<Option<Self>, NotALadder> {
        let given: Vec<f64> = [self.notify_below, self.pause_below, self.drop_below].into_iter().flatten().collect();
        match given.windows(2).all(|pair| pair[0] > pair[1]) {
            true => Ok((!given.is_empty()).then_some(self)),
            false => Err(NotALadder),
        }
    }

    /// The step for this much free storage, after the one before.
    #[must_use]
    pub fn step(&self, free: f64, before: Step) -> Step {
        let is = |step: Step, below: Option<f64>| {
            below.is_some_and(|below| free < if before >= step { below * MARGIN } else { below })
        };
        if is(Step::Drop, self.drop_below) {
            Step::Drop
        } else if is(Step::Pause, self.pause_below) {
            Step::Pause
        } else if is(Step::Notify, self.notify_below) {
            Step::Notify
        } else {
            Step::Closed
        }
    }

    /// Does what this much free storage asks for, and says so in the log. What cannot be done is tried again the next time.
    /// A slot that is `missing` is not dropped.
    pub async fn act(&self, slot: &str, missing: bool, free: f64, before: Step, hands: Hands<'_>) -> Step {
        let step = self.step(free, before);
        if step == Step::Drop && missing {
            return step;
        }
        let reason = format!("{:.1} GB are free on the source's disk", free / 1e9);
        match step {
            step if step == before => {}
            Step::Closed => tracing::info!(slot, reason, "the safety valve is closed again"),
            Step::Notify => tracing::warn!(slot, reason, "the source's disk is filling up"),
            Step::Pause => tracing::warn!(slot, reason, "the source's disk is filling up: the copy is held back"),
            Step::Drop => tracing::error!(slot, reason, "the source's disk is nearly full: the slot is dropped"),
        }
        if let Err(problem) = self.carry_out(step, slot, &reason, hands).await {
            tracing::error!(slot, step = step.level(), problem, "the safety valve could not act");
        }
        step
    }

    async fn carry_out(&self, step: Step, slot: &str, reason: &str, hands: Hands<'_>) -> Result<(), String> {
        let target = async {
            let Some(target) = hands.target else { return Ok(None) };
            target.connect(&Session::new("pgstream-aws safety valve")).await.map(Some)
        };
        let marked = async {
            let Some(target) = target.await? else { return Ok(()) };
            match step {
                Step::Closed | Step::Notify => {
                    if valve::resume(&target, slot).await? {
                        tracing::info!(slot, "the copy is no longer held back");
                    }
                }
                Step::Pause => drop(valve::mark(&target, slot, State::CopyPaused, reason).await?),
                // Before the slot goes, so that nobody misses it without being told why.
                Step::Drop => drop(valve::mark(&target, slot, State::SlotDropped, reason).await?),
            }
            Ok(())
        };
        let marked = marked.await.map_err(|error: pgstream_postgres::Error| format!("marking the target: {error}"));
        // A target that cannot be marked must not keep the disk from being saved.
        if step == Step::Drop
            && let Some(source) = hands.source
            && source::abandon(source, slot).await.map_err(|error| format!("dropping the slot: {error}"))?
        {
            tracing::error!(slot, "the slot is dropped: the target needs a new copy");
        }
        marked
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LADDER: Valve = Valve { notify_below: Some(100.0), pause_below: Some(50.0), drop_below: Some(10.0) };

    #[test]
    fn each_threshold_is_a_step_and_a_missing_one_is_none() {
        let steps = [120.0, 99.0, 49.0, 9.0].map(|free| LADDER.step(free, Step::Closed));
        assert_eq!(steps, [Step::Closed, Step::Notify, Step::Pause, Step::Drop]);
        let careful = Valve { drop_below: None, ..LADDER };
        assert_eq!(careful.step(0.0, Step::Closed), Step::Pause, "a slot is dropped only where that was asked for");
    }

    #[test]
    fn a_step_is_left_with_some_room_to_spare() {
        assert_eq!(LADDER.step(52.0, Step::Pause), Step::Pause);
        assert_eq!(LADDER.step(56.0, Step::Pause), Step::Notify);
        assert_eq!(LADDER.step(52.0, Step::Notify), Step::Notify);
    }

    #[test]
    fn thresholds_fall() {
        assert_eq!(LADDER.checked(), Ok(Some(LADDER)));
        assert_eq!(Valve::default().checked(), Ok(None));
        let upside_down = Valve { notify_below: Some(1.0), pause_below: None, drop_below: Some(2.0) };
        assert_eq!(upside_down.checked(), Err(NotALadder));
    }

    proptest! {
        #[test]
        fn less_room_never_means_a_smaller_step(free in 0.0..200.0_f64, less in 0.0..200.0_f64, before in 0..4_usize) {
            let before = [Step::Closed, Step::Notify, Step::Pause, Step::Drop][before];
            prop_assert!(LADDER.step(free.min(less), before) >= LADDER.step(free.max(less), before));
        }
    }
}
