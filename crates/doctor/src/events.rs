//! What RDS tells of the last day, and what of it explains that something is wrong now.

use serde::Serialize;

use crate::{
    check::{Category, Severity, Side},
    report::{Finding, Instance},
};

/// What restarts a server, or moves it, explains errors for so long.
const RECENT_MINUTES: i64 = 30;

/// An event of RDS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Which end it happened to.
    pub side: Side,
    /// When, as RFC 3339 writes it.
    pub at: String,
    /// The same, seen from now.
    #[serde(skip)]
    pub minutes_ago: i64,
    /// Identifier of the instance or cluster.
    pub source: String,
    /// Categories of RDS, such as `availability`, `failover` and `low storage`.
    pub categories: Vec<String>,
    /// In words.
    pub message: String,
}

impl Event {
    /// What to do about it, if it explains what may be wrong now.
    fn fix(&self) -> Option<String> {
        let is = |names: &[&str]| self.categories.iter().any(|category| names.contains(&category.as_str()));
        let id = &self.source;
        if is(&["low storage"]) {
            return Some(format!(
                "raise its storage (of a Multi-AZ DB cluster with modify-db-cluster): aws rds modify-db-instance \
                 --db-instance-identifier {id} --allocated-storage GIB --apply-immediately"
            ));
        }
        if is(&["failure"]) {
            return Some(
                "do what the event asks for: aws rds describe-events --duration 1440 has it in full".to_owned(),
            );
        }
        let passing = is(&["availability", "failover", "maintenance", "recovery", "restoration"]);
        (passing && self.minutes_ago <= RECENT_MINUTES).then(|| {
            "nothing, if it is over: a stream reconnects by itself and a copy goes on; `pgstream-aws status` says whether it has"
                .to_owned()
        })
    }

    /// For people.
    #[must_use]
    pub fn describe(&self) -> String {
        let ago = match self.minutes_ago {
            ..1 => "just now".to_owned(),
            minutes @ 1..120 => format!("{minutes} min ago"),
            minutes => format!("{} h ago", minutes / 60),
        };
        format!("{ago}, {} ({}): {}", self.source, self.categories.join(", "), self.message)
    }
}

/// What of these explains that something is wrong now, by side; of one kind the newest only. Events are newest first.
#[must_use]
pub fn explaining(events: &[Event]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for side in [Side::Source, Side::Target] {
        let (mut seen, mut instances) = (Vec::new(), Vec::new());
        for event in events.iter().filter(|event| event.side == side) {
            let kind = (&event.source, &event.categories);
            let Some(fix) = event.fix().filter(|_| !seen.contains(&kind)) else { continue };
            seen.push(kind);
            instances.push(Instance { found: event.describe(), fix });
        }
        if !instances.is_empty() {
            findings.push(Finding {
                id: "doctor.aws_event".to_owned(),
                category: Category::Aws,
                side,
                severity: Severity::Warning,
                why: "what happens to the server shows up as errors of the pipeline".to_owned(),
                instances,
            });
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(category: &str, minutes_ago: i64) -> Event {
        Event {
            side: Side::Source,
            at: "2026-01-01T12:00:00Z".to_owned(),
            minutes_ago,
            source: "shop".to_owned(),
            categories: vec![category.to_owned()],
            message: "It happened".to_owned(),
        }
    }

    fn told(events: &[Event]) -> Vec<String> {
        explaining(events).into_iter().flat_map(|finding| finding.instances).map(|it| it.found).collect()
    }

    #[test]
    fn a_restart_explains_what_happens_soon_after_it_and_a_full_disk_all_day() {
        assert_eq!(told(&[event("availability", 3)]), ["3 min ago, shop (availability): It happened"]);
        assert_eq!(told(&[event("availability", 31)]), [""; 0]);
        assert_eq!(told(&[event("low storage", 700)]), ["11 h ago, shop (low storage): It happened"]);
    }

    #[test]
    fn what_happens_every_day_explains_nothing() {
        for category in ["backup", "creation", "notification", "configuration change", "a new one"] {
            assert_eq!(told(&[event(category, 1)]), [""; 0], "{category}");
        }
    }

    #[test]
    fn of_one_kind_the_newest_is_told() {
        let events = [event("failover", 1), event("availability", 2), event("failover", 5), event("availability", 6)];
        assert_eq!(
            told(&events),
            ["1 min ago, shop (failover): It happened", "2 min ago, shop (availability): It happened"]
        );
    }
}
