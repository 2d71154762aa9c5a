//! What goes wrong on request.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::{error::Refusal, iam, request::Call};

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
    /// It is done, and the answer is a document that stops in the middle, as a proxy between may make it.
    CutDocument,
    /// `ExpiredToken`.
    ExpiredToken,
    /// `SignatureDoesNotMatch` from an hour later: the clock here is off.
    ClockSkew,
    /// `RequestExpired`.
    RequestExpired,
    /// `SignatureDoesNotMatch`: the secret key is not the right one.
    WrongSecret,
    /// `InvalidClientTokenId`: nobody knows the access key.
    UnknownKey,
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
    struck: AtomicUsize,
    states: Mutex<States>,
}

/// States that do not come to their usual end.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct States {
    pub(crate) reboot_never_ends: bool,
    pub(crate) parameters_fail_to_apply: bool,
    /// How far lists of databases are behind.
    pub(crate) behind: Duration,
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

    /// Lists of databases tell what was so long before.
    pub fn describes_are_behind(&self, by: Duration) {
        lock(&self.states).behind = by;
    }

    /// How many calls met a fault, until now.
    #[must_use]
    pub fn struck(&self) -> usize {
        self.struck.load(Ordering::SeqCst)
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
        if found.is_some() {
            self.struck.fetch_add(1, Ordering::SeqCst);
        }
        found
    }

    fn add(&self, rule: Rule) {
        lock(&self.rules).push(rule);
    }
}

impl Fault {
    /// How far the clock of the answer is ahead.
    pub(crate) fn ahead(self) -> Duration {
        match self {
            Self::ClockSkew => Duration::from_secs(60 * 60),
            _ => Duration::ZERO,
        }
    }

    /// The refusal, for those that are one.
    pub(crate) fn refusal(self, call: &Call) -> Option<Refusal> {
        Some(match self {
            Self::Throttle => Refusal::new(400, "Throttling", "Rate exceeded"),
            Self::Error500 => Refusal::new(500, "InternalFailure", "An internal error occurred."),
            Self::ExpiredToken => {
                Refusal::new(403, "ExpiredToken", "The security token included in the request is expired")
            }
            Self::ClockSkew => Refusal::new(
                403,
                "SignatureDoesNotMatch",
                "Signature expired: 20260101T000000Z is now earlier than 20260101T004500Z (20260101T010000Z - 15 min.)",
            ),
            Self::RequestExpired => Refusal::new(400, "RequestExpired", "Request has expired."),
            Self::WrongSecret => Refusal::new(
                403,
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.",
            ),
            Self::UnknownKey => {
                Refusal::new(403, "InvalidClientTokenId", "The security token included in the request is invalid.")
            }
            Self::Deny => {
                let (action, resource) = iam::needed(call).into_iter().next()?;
                iam::denied(&call.access_key, &action, &resource)
            }
            Self::HangBefore | Self::HangAfter | Self::Truncate | Self::CutDocument => return None,
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
