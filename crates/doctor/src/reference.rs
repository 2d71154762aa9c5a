//! docs/checks.md and a part of docs/troubleshooting.md, from the catalogues.

use crate::{Rds, Severity, catalogue, endpoint, machine, plugin, wal};

/// One paragraph per check, in the order of the catalogue.
#[must_use]
pub fn reference() -> String {
    let mut text = String::new();
    let mut paragraph = |id: &str, kind: &str, why: &str| {
        text.push_str(&format!("### {id}\n\n{kind}. Why: {why}.\n\n"));
    };
    for check in endpoint::ENDPOINTS {
        paragraph(
            check.id,
            &format!("{}, by the name of the host. Fix: {}", word(check.severity()), check.fix),
            check.why,
        );
    }
    for check in Rds::ALL {
        paragraph(check.id(), &format!("{}, by the RDS API", word(check.severity())), check.why());
    }
    for check in &machine::CHECKS {
        paragraph(check.id, &format!("{}, from this machine", word(check.severity)), check.why);
    }
    for check in [&plugin::PLUGIN_ALLOWED, &wal::WAL_RATE] {
        paragraph(check.id, &format!("{}, source", word(check.severity)), check.why);
    }
    for check in catalogue::all() {
        paragraph(check.id, &format!("{}, {}", word(check.severity), check.side.name()), check.why);
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "Error",
        Severity::Warning => "Warning",
        Severity::Notice => "Notice",
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, fs, path::Path};

    use super::*;

    const BEGIN: &str = "<!-- generated -->\n";

    #[test]
    fn identifiers_are_unique_and_begin_with_their_category() {
        let mut seen = HashSet::new();
        for check in catalogue::all() {
            assert!(check.id.starts_with(&format!("{}.", check.category.name())), "{}", check.id);
            assert!(seen.insert(check.id), "{} is there twice", check.id);
        }
    }

    /// The page is what stands before the mark, and what is generated.
    fn assert_current(name: &str, generated: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
        let page = fs::read_to_string(&path).unwrap();
        let (head, _) = page.split_once(BEGIN).unwrap();
        let right = format!("{head}{BEGIN}\n{generated}");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::write(&path, right).unwrap();
        } else {
            assert_eq!(page, right, "UPDATE_DOCS=1 cargo nextest run -p pgstream-doctor reference");
        }
    }

    #[test]
    fn the_reference_of_checks_is_current() {
        assert_current("checks.md", &reference());
    }

    #[test]
    fn the_reference_of_diagnoses_is_current() {
        assert_current("troubleshooting.md", &crate::diagnoses());
    }
}
