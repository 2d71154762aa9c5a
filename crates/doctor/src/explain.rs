//! From an error to its cause and fix.
//!
//! ```text
//!  text, or a log ──events──> SQLSTATE, message, detail, hint ──> first diagnosis of the catalogue that fits ─┐
//!  Failure of a command ──────> the same                              or the code's row in the documentation ─┴─> cause, fix
//! ```
//!
//! The SQLSTATE decides first: a text that looks right with a code that the diagnosis is not raised under is something else.
//! What servers translate is matched by names and codes where there are any. More particular diagnoses stand before more
//! general ones.

mod catalogue;
mod codes;
mod events;

use std::collections::HashSet;

use serde::Serialize;

use events::Event;

/// What an error means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// Stable name: of the catalogue of errors of servers, or a code of this program.
    pub id: &'static str,
    /// Why it happens.
    pub cause: &'static str,
    /// What to do.
    pub fix: &'static str,
    /// Where the documentation says more.
    pub docs: String,
}

/// An error of servers and tools that is known.
struct Known {
    id: &'static str,
    /// SQLSTATEs under which it is raised; empty where it is not an error of a server, or under any.
    states: &'static [&'static str],
    /// All of one of these are in the text, in lower case. An empty one fits every text with one of the states.
    marks: &'static [&'static [&'static str]],
    cause: &'static str,
    fix: &'static str,
}

impl Known {
    fn fits(&self, event: &Event) -> bool {
        let by_state = match &event.state {
            Some(state) if !self.states.is_empty() => match self.states.contains(&state.as_str()) {
                true => true,
                false => return false,
            },
            _ => false,
        };
        self.marks.iter().any(|marks| match marks.is_empty() {
            true => by_state,
            false => marks.iter().all(|mark| event.text.contains(mark)),
        })
    }

    fn diagnosis(&self) -> Diagnosis {
        let docs = format!("docs/troubleshooting.md#{}", self.id);
        Diagnosis { id: self.id, cause: self.cause, fix: self.fix, docs }
    }
}

fn known(event: &Event) -> Option<Diagnosis> {
    catalogue::DIAGNOSES.iter().find(|known| known.fits(event)).map(Known::diagnosis)
}

/// What is known of the errors in a text or log, in the order in which they come, each once.
#[must_use]
pub fn explain(text: &str) -> Vec<Diagnosis> {
    let mut seen = HashSet::new();
    let found = events::events(text).into_iter().flat_map(|event| match known(&event) {
        Some(diagnosis) => vec![diagnosis],
        None => codes::written_in(&event.text).collect(),
    });
    found.filter(|diagnosis| seen.insert(diagnosis.id)).collect()
}

/// What is known of one failure, with its code, where it has one.
#[must_use]
pub fn diagnose(text: &str, code: Option<&str>) -> Option<Diagnosis> {
    known(&Event::one(text)).or_else(|| codes::lookup(code?))
}

/// The catalogue as a part of docs/troubleshooting.md.
#[must_use]
pub fn diagnoses() -> String {
    let mut text = String::new();
    for known in catalogue::DIAGNOSES {
        let states: Vec<String> = known.states.iter().map(|state| format!("`{state}`")).collect();
        let states = if states.is_empty() { String::new() } else { format!(" ({})", states.join(", ")) };
        text.push_str(&format!("### {}\n\nCause: {}{states}.\n\nFix: {}.\n\n", known.id, known.cause, known.fix));
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
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
        for diagnosis in catalogue::DIAGNOSES {
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
            (
                "ERROR:  library \"pgoutput\" may not be used as an output plugin\nDETAIL:  The configuration parameter \
                 \"output_plugin_libraries\" (currently 'test_decoding') does not name this library as a trusted output plugin.",
                "plugin",
            ),
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
    fn the_sqlstate_decides_before_the_text() {
        for (text, expected) in [
            ("FATAL:  53300: désolé, trop de clients sont déjà connectés", Some("too_many_connections")),
            ("ERROR:  42501: droit refusé pour la table pg_authid (permission denied)", Some("pg_authid")),
            ("ERROR:  42501: droit refusé", Some("permission")),
            ("ERROR:  42P01: relation \"no space left on device\" does not exist", None),
            ("ERROR:  53100: n'a pas pu étendre le fichier", Some("disk_full")),
            (
                "FATAL:  53300: number of requested standby connections exceeds max_wal_senders (currently 1)",
                Some("no_free_sender"),
            ),
        ] {
            assert_eq!(id(text), expected, "{text}");
        }
    }

    #[test]
    fn codes_of_this_program_are_explained_by_the_page() {
        assert_eq!(id("error[stream::conflict]: a row is in the way"), Some("stream::conflict"));
        assert_eq!(diagnose("a row", Some("stream::conflict")).map(|it| it.id), Some("stream::conflict"));
        assert_eq!(
            diagnose("x (SQLSTATE 53100)", Some("pgstream::postgres::sql(53100)")).map(|it| it.id),
            Some("disk_full")
        );
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
