//! Names on the source.

use super::Error;

/// Longest identifier, bytes: `NAMEDATALEN - 1` of every stock server.
const LONGEST: usize = 63;

const PREFIX: &str = "pgstream_";
const SLOT_SUFFIX: &str = "_slot";

/// What remains of [`LONGEST`] for the database in a slot's name.
const LONGEST_STEM: usize = LONGEST - PREFIX.len() - SLOT_SUFFIX.len();

/// Slot and publication of one database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// `pgstream_<db>_slot`.
    pub slot: String,
    /// `pgstream_<db>`.
    pub publication: String,
}

/// The names for a database: lower case, `.` and `-` as `_`.
///
/// A slot's name allows only `a-z`, `0-9`, `_` and 63 bytes. A database whose name has other characters or is longer
/// than 49 bytes gets them replaced by `_` or cut, and eight hexadecimal digits of a hash of the whole name appended, so
/// that two such databases never share a slot.
#[must_use]
pub fn default_names(db: &str) -> Names {
    let stem = stem(db);
    Names { slot: format!("{PREFIX}{stem}{SLOT_SUFFIX}"), publication: format!("{PREFIX}{stem}") }
}

impl Names {
    /// [`default_names`], with the slot's name as configured.
    ///
    /// # Errors
    /// When the server would not take it as the name of a slot.
    pub fn with_slot(db: &str, slot: Option<&str>) -> Result<Self, Error> {
        let mut names = default_names(db);
        if let Some(slot) = slot {
            let valid = (1..=LONGEST).contains(&slot.len())
                && slot.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            if !valid {
                return Err(Error::SlotName { slot: slot.to_owned() });
            }
            slot.clone_into(&mut names.slot);
        }
        Ok(names)
    }
}

fn stem(db: &str) -> String {
    let lower = db.to_lowercase();
    let usual = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.' | '-');
    let mut stem: String = lower.chars().map(|c| if usual(c) && !matches!(c, '.' | '-') { c } else { '_' }).collect();
    if stem.len() > LONGEST_STEM || !lower.chars().all(usual) {
        let hash = format!("_{:08x}", fnv1a(db.as_bytes()));
        stem.truncate(LONGEST_STEM - hash.len());
        stem.push_str(&hash);
    }
    stem
}

/// FNV-1a, 32 bits: the same on every machine and in every release, unlike the standard library's hasher.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_database() {
        let names = default_names("My-App.prod");
        assert_eq!(names.slot, "pgstream_my_app_prod_slot");
        assert_eq!(names.publication, "pgstream_my_app_prod");
    }

    #[test]
    fn long_and_strange_names_stay_valid_and_apart() {
        let long = "x".repeat(63);
        for db in [long.as_str(), "naïve db", "\"; drop table x; --", "日本"] {
            let names = default_names(db);
            assert!(names.slot.len() <= LONGEST, "{names:?}");
            assert!(names.publication.len() <= LONGEST, "{names:?}");
            assert!(Names::with_slot(db, Some(&names.slot)).is_ok(), "{names:?}");
        }
        assert_ne!(default_names("a b"), default_names("a+b"));
        assert_ne!(default_names(&long), default_names(&"x".repeat(62)));
        assert_eq!(default_names(&"x".repeat(49)).slot, format!("pgstream_{}_slot", "x".repeat(49)));
    }

    #[test]
    fn a_configured_slot_is_checked() {
        assert_eq!(Names::with_slot("app", Some("mine")).unwrap().slot, "mine");
        assert_eq!(Names::with_slot("app", None).unwrap().slot, "pgstream_app_slot");
        for bad in ["", "Upper", "with-dash", "a b", "\"", &"x".repeat(64)] {
            assert!(matches!(Names::with_slot("app", Some(bad)), Err(Error::SlotName { .. })), "{bad}");
        }
    }
}
