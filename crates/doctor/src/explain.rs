//! From the text of an error to its cause and fix.
//!
//! ```text
//!  text, or a log ──lines──> first diagnosis of the catalogue whose marks are all in one line ──> cause, fix
//! ```
//!
//! Texts are matched only here, where nothing but text is given; the program itself decides by SQLSTATE. More particular
//! diagnoses stand before more general ones.

mod catalogue;

use std::collections::HashSet;

use serde::Serialize;

/// What an error means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// Stable name.
    pub id: &'static str,
    /// Why it happens.
    pub cause: &'static str,
    /// What to do.
    pub fix: &'static str,
    /// All of one of these are in the text, in lower case.
    #[serde(skip)]
    marks: &'static [&'static [&'static str]],
}

impl Diagnosis {
    fn fits(&self, lower: &str) -> bool {
        self.marks.iter().any(|marks| marks.iter().all(|mark| lower.contains(mark)))
    }
}

/// All that is known.
#[must_use]
pub fn diagnoses() -> &'static [Diagnosis] {
    catalogue::DIAGNOSES
}

/// What is known of the errors in a text, in the order in which they come, each once.
#[must_use]
pub fn explain(text: &str) -> Vec<&'static Diagnosis> {
    let mut seen = HashSet::new();
    let known = text.lines().filter_map(|line| {
        let lower = line.to_lowercase();
        catalogue::DIAGNOSES.iter().find(|diagnosis| diagnosis.fits(&lower))
    });
    known.filter(|diagnosis| seen.insert(diagnosis.id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> Option<&'static str> {
        explain(text).first().map(|diagnosis| diagnosis.id)
    }

    #[test]
    fn marks_are_lower_case_and_names_unique() {
        let mut seen = HashSet::new();
        for diagnosis in diagnoses() {
            assert!(seen.insert(diagnosis.id), "{}", diagnosis.id);
            for mark in diagnosis.marks.iter().copied().flatten() {
                assert_eq!(*mark, mark.to_lowercase(), "{}", diagnosis.id);
            }
        }
    }

    #[test]
    fn texts_as_servers_say_them_are_known() {
        for (text, expected) in [
            ("pg_dumpall: error: query failed: ERROR:  permission denied for table pg_authid", "pg_authid"),
            ("ERROR:  permission denied to set parameter \"session_replication_role\"", "session_replication_role"),
            ("ERROR:  permission denied for schema public", "schema_public"),
            ("ERROR:  must be superuser to create replication users", "create_role"),
            ("ERROR:  permission denied to create role", "create_role"),
            ("ERROR:  permission denied to create event trigger \"x\"", "event_trigger"),
            ("HINT:  Must be superuser to create an event trigger.", "event_trigger"),
            ("ERROR:  unrecognized configuration parameter \"rds.logical_replication\"", "rds_logical_replication"),
            ("ERROR:  all replication slots are in use", "no_free_slot"),
            ("ERROR:  replication slot \"pgstream_app_slot\" is active for PID 4711", "slot_active"),
            ("ERROR:  can no longer get changes from replication slot \"s\"", "slot_lost"),
            ("ERROR:  replication slot \"s\" does not exist", "slot_missing"),
            ("ERROR:  publication \"p\" does not exist", "publication_missing"),
            ("WARNING:  skipped loading publication \"p\"", "publication_missing"),
            (
                "FATAL:  no pg_hba.conf entry for host \"10.0.0.1\", user \"u\", database \"d\", no encryption",
                "tls_required",
            ),
            (
                "FATAL:  no pg_hba.conf entry for host \"10.0.0.1\", user \"u\", database \"d\", SSL encryption",
                "no_hba_entry",
            ),
            ("ERROR:  library \"wal2json\" may not be used as an output plugin", "plugin"),
            ("FATAL:  PAM authentication failed for user \"u\"", "iam_token"),
            ("FATAL:  password authentication failed for user \"u\"", "password"),
            ("pg_dump: error: aborting because of server version mismatch", "pg_dump_version"),
            ("could not write to file \"pg_wal/x\": No space left on device", "disk_full"),
            ("LOG:  terminating walsender process due to replication timeout", "wal_sender_timeout"),
            ("ERROR:  must be owner of schema public", "not_owner"),
            ("ERROR:  logical decoding requires wal_level >= logical", "wal_level"),
            ("ERROR:  logical decoding requires \"wal_level\" >= \"logical\"", "wal_level"),
        ] {
            assert_eq!(id(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_known_is_not_guessed() {
        assert_eq!(id("LOG:  checkpoint starting: time"), None);
        assert_eq!(id(""), None);
    }

    #[test]
    fn a_log_gives_each_diagnosis_once_in_its_order() {
        let log = "ERROR: publication \"p\" does not exist\nLOG: x\nERROR: all replication slots are in use\nERROR: publication \"p\" does not exist";
        let ids: Vec<&str> = explain(log).iter().map(|diagnosis| diagnosis.id).collect();
        assert_eq!(ids, ["publication_missing", "no_free_slot"]);
    }
}
