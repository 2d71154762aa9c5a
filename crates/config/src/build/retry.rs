//! Retry policies: `disable_retries` beats `exponential` beats `constant`.

use std::time::Duration;

use super::some_time;
use crate::{
    defaults,
    error::{Code, Place},
    pipeline::Retry,
    written::Written,
};

const SOURCE: &str = "source.postgres.retry_policy";
const TARGET: &str = "target.postgres.retry_policy";

/// A pipeline that broke starts again on both sides, so one policy governs both: the source's, unless only the target
/// has one.
pub(super) fn of_the_pipeline(w: &mut Written) -> Retry {
    let target = policy(w, TARGET);
    if w.has_under(TARGET) && !w.has_under(SOURCE) {
        return target;
    }
    if w.has_under(TARGET) {
        let place = w.place_under(TARGET).cloned().unwrap_or(Place::Nowhere);
        w.notice_at(&place, TARGET, "not used: source.postgres.retry_policy is written, and one policy governs both");
    }
    policy(w, SOURCE)
}

fn policy(w: &mut Written, section: &'static str) -> Retry {
    let key = |name: &str| format!("{section}.{name}");
    let longest = Duration::from_millis(defaults::RETRY_MAX_MS);
    if w.flag(&key("disable_retries")) {
        let initial = Duration::from_millis(defaults::RETRY_INITIAL_MS);
        return Retry { initial, max: longest, max_retries: Some(0), max_elapsed: None };
    }
    // A section without a value is what a template leaves behind.
    let written = |name: &str| w.has_under(&key(name));
    if written("constant") && !written("exponential") {
        let interval = some_time(w.time(&key("constant.interval")));
        let interval = interval.unwrap_or(Duration::from_millis(defaults::RETRY_CONSTANT_MS));
        let max_retries = limit(w.number(&key("constant.max_retries")));
        return Retry { initial: interval, max: interval, max_retries, max_elapsed: None };
    }
    if written("constant") {
        let place = w.place_under(&key("constant")).cloned().unwrap_or(Place::Nowhere);
        w.notice_at(&place, &key("constant"), "not used: `exponential` is written, too");
    }
    let initial = some_time(w.time(&key("exponential.initial_interval")));
    let initial = initial.unwrap_or(Duration::from_millis(defaults::RETRY_INITIAL_MS));
    let max_key = key("exponential.max_interval");
    let max = some_time(w.time(&max_key)).unwrap_or(longest);
    if let Some(place) = w.place(&max_key).filter(|_| max < initial).cloned() {
        let what = format!("{max_key} is less than initial_interval");
        w.problem(&place, Code::Conflict, what, "write the longer wait in max_interval");
    }
    Retry {
        initial,
        max: max.max(initial),
        max_retries: limit(w.number(&key("exponential.max_retries"))),
        max_elapsed: some_time(w.time(&key("exponential.max_elapsed_time"))),
    }
}

fn limit(retries: u64) -> Option<usize> {
    (retries > 0).then(|| usize::try_from(retries).unwrap_or(usize::MAX))
}
