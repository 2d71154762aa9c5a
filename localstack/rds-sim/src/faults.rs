//! What goes wrong on request.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{error::Refusal, request::Call};

/// What happens to a call instead of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `Throttling`, and nothing is done.
    Throttle,
    /// Status 500, and nothing is done.
    Error500,
    /// No answer, and nothing is done.
    HangBefore,
    /// It is done, and no answer comes.
    HangAfter,
    /// It is done, and the connection ends in the middle of the answer.
    Truncate,
    /// `ExpiredToken`.
    ExpiredToken,
    /// `SignatureDoesNotMatch`, as for a clock that is off.
    ClockSkew,
    /// `AccessDenied`.
    Deny,
}

/// From which call on, and for how many.
#[derive(Debug, Clone)]
struct Rule {
    action: Option<String>,
    skip: usize,
    times: usize,
    fault: Fault,
}

/// The faults of a simulator.
#[derive(Debug, Default)]
pub struct Faults {
    rules: Mutex<Vec<Rule>>,
    states: Mutex<States>,
}

/// States that do not come to their usual end.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct States {
    pub(crate) reboot_never_ends: bool,
    pub(crate) parameters_fail_to_apply: bool,
}

impl Faults {
    /// The next `times` calls of an action.
    pub fn next(&self, action: &str, times: usize, fault: Fault) {
        self.add(Rule { action: Some(action.to_owned()), skip: 0, times, fault });
    }

    /// The call of any action after the next `calls`, and all that follow.
    pub fn after(&self, calls: usize, fault: Fault) {
        self.add(Rule { action: None, skip: calls, times: usize::MAX, fault });
    }

    /// Reboots stay in `rebooting`.
    pub fn reboot_never_ends(&self) {
        lock(&self.states).reboot_never_ends = true;
    }

    /// Attached groups end in `failed-to-apply`.
    pub fn parameters_fail_to_apply(&self) {
        lock(&self.states).parameters_fail_to_apply = true;
    }

    /// Everything is well again.
    pub fn clear(&self) {
        lock(&self.rules).clear();
        *lock(&self.states) = States::default();
    }

    pub(crate) fn states(&self) -> States {
        *lock(&self.states)
    }

    /// What happens to this call.
    pub(crate) fn of(&self, call: &Call) -> Option<Fault> {
        let mut rules = lock(&self.rules);
        let mut found = None;
        for rule in rules.iter_mut().filter(|rule| rule.action.as_ref().is_none_or(|action| *action == call.action)) {
            if rule.skip > 0 {
                rule.skip -= 1;
            } else if rule.times > 0 && found.is_none() {
                rule.times -= 1;
                found = Some(rule.fault);
            }
        }
        found
    }

    fn add(&self, rule: Rule) {
        lock(&self.rules).push(rule);
    }
}

impl Fault {
    /// The refusal, for those that are one.
    pub(crate) fn refusal(self, call: &Call) -> Option<Refusal> {
        let Call { action, access_key, .. } = call;
        Some(match self {
            Self::Throttle => Refusal::new(400, "Throttling", "Rate exceeded"),
            Self::Error500 => Refusal::new(500, "InternalFailure", "An internal error occurred."),
            Self::ExpiredToken => {
                Refusal::new(403, "ExpiredToken", "The security token included in the request is expired")
            }
            Self::ClockSkew => Refusal::new(
                403,
                "SignatureDoesNotMatch",
                "Signature expired: 20260101T000000Z is now earlier than 20260101T001000Z (20260101T001500Z - 5 min.)",
            ),
            Self::Deny => Refusal::new(
                403,
                "AccessDenied",
                format!(
                    "User: arn:aws:iam::123456789012:user/{access_key} is not authorized to perform: rds:{action} because no identity-based policy allows the rds:{action} action"
                ),
            ),
            Self::HangBefore | Self::HangAfter | Self::Truncate => return None,
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
