//! What was found.

use serde::Serialize;

use crate::check::{Category, Severity, Side};

/// Everything that was found, worst first.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// How many checks were made.
    pub checked: usize,
    /// What they found; empty when nothing is in the way.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether nothing found makes the command fail.
    #[must_use]
    pub fn passes(&self, strict: bool) -> bool {
        let worst = if strict { Severity::Warning } else { Severity::Error };
        self.findings.iter().all(|finding| finding.severity > worst)
    }
}

/// One check that found something.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// Stable name of the check, a heading of docs/checks.md, or a code of docs/troubleshooting.md.
    pub id: String,
    /// What it is about.
    pub category: Category,
    /// Where.
    pub side: Side,
    /// How bad it is.
    pub severity: Severity,
    /// What would happen otherwise.
    pub why: String,
    /// What was found, each with its fix.
    pub instances: Vec<Instance>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, Serialize)]
pub struct Instance {
    /// What is there.
    pub found: String,
    /// SQL or a command, where there is one.
    pub fix: String,
}
