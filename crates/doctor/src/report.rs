//! What was found.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    check::{Category, Severity, Side},
    wal::WalRate,
};

/// Everything that was found, worst first.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// How many checks were made.
    pub checked: usize,
    /// The same by category.
    pub categories: BTreeMap<Category, usize>,
    /// What they found; empty when nothing is in the way.
    pub findings: Vec<Finding>,
    /// How fast the source writes WAL, where it was measured: what that means for its disk is judged by who knows the disk.
    #[serde(skip)]
    pub wal_rate: Option<WalRate>,
}

impl Report {
    /// Adds what was made elsewhere.
    pub fn add(&mut self, category: Category, checked: usize, findings: Vec<Finding>) {
        self.made(category, checked);
        self.findings.extend(findings);
        self.sort();
    }

    /// So many checks of a category were made.
    pub(crate) fn made(&mut self, category: Category, checked: usize) {
        if checked == 0 {
            return;
        }
        self.checked += checked;
        *self.categories.entry(category).or_default() += checked;
    }

    /// Worst first, then by category.
    pub(crate) fn sort(&mut self) {
        self.findings.sort_by_key(|finding| (finding.severity, finding.category));
    }

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
