//! The one table that decides what a SQLSTATE means and what to do about it.

use super::Class::{self, Bug, Config, Data, Lost, Setup, Transient};

/// What a code means.
#[derive(Clone, Copy)]
pub(super) struct Meaning {
    pub class: Class,
    pub help: Option<&'static str>,
}

const NO_HELP: Option<&str> = None;

const RETRY_LOGIN: &str = "the password may have been rotated or the IAM token may have expired (15 minutes): check the secret; a user \
                           with `rds_iam` cannot log in with a password";

/// Prefixes of SQLSTATE codes; the longest that fits decides.
const TABLE: &[(&str, Class, Option<&str>)] = &[
    // No code at all: not a server that we know.
    ("", Setup, NO_HELP),
    ("00", Bug, NO_HELP),
    ("08", Transient, NO_HELP),
    (
        "08P01",
        Setup,
        Some(
            "the two sides do not speak the same protocol: is there a proxy between them? RDS Proxy has no replication mode",
        ),
    ),
    ("0A", Setup, NO_HELP),
    ("0B", Bug, NO_HELP),
    ("0L", Setup, NO_HELP),
    ("0LP01", Setup, NO_HELP),
    (
        "0P",
        Setup,
        Some("a role that is named does not exist: take roles into the snapshot (`roles_snapshot_mode`) or create it"),
    ),
    ("21", Bug, NO_HELP),
    ("22", Data, NO_HELP),
    ("23", Data, NO_HELP),
    ("25", Bug, NO_HELP),
    (
        "25006",
        Transient,
        Some(
            "the server is read-only: a failover may be under way, or the URL names a reader; use the writer endpoint",
        ),
    ),
    ("25P03", Transient, NO_HELP),
    ("25P04", Transient, NO_HELP),
    ("27", Data, NO_HELP),
    ("28", Setup, Some(RETRY_LOGIN)),
    (
        "28000",
        Setup,
        Some(
            "the server refused the login before checking the password: with `no encryption` in the text it wants TLS (`sslmode=require` \
         or better; `rds.force_ssl`), otherwise the user lacks LOGIN, REPLICATION (`GRANT rds_replication`) or a pg_hba entry",
        ),
    ),
    ("2B", Setup, NO_HELP),
    ("38", Data, NO_HELP),
    ("39", Data, NO_HELP),
    ("3D", Config, Some("the database does not exist: check the database in the URL, or set `create_target_db`")),
    ("3F", Setup, Some("a schema is missing: run `pgstream-aws init`, and take a schema snapshot of the target first")),
    ("40", Transient, NO_HELP),
    ("42", Setup, NO_HELP),
    ("42501", Setup, Some("the role lacks a privilege: docs/privileges.md lists what each role needs")),
    ("42601", Bug, NO_HELP),
    ("42602", Config, NO_HELP),
    ("42622", Config, NO_HELP),
    (
        "42704",
        Setup,
        Some("the slot, publication or object does not exist: run `pgstream-aws init`, then `pgstream-aws status`"),
    ),
    ("42710", Setup, Some("it exists already: `pgstream-aws status` shows by whom it is used")),
    ("42883", Setup, Some("a function or operator is missing: is the extension installed on this server?")),
    (
        "42P01",
        Setup,
        Some("a table is missing: run `pgstream-aws init` on the source, or take a schema snapshot of the target"),
    ),
    ("42P02", Bug, NO_HELP),
    ("42P08", Bug, NO_HELP),
    ("42P18", Bug, NO_HELP),
    ("44", Data, NO_HELP),
    ("53", Transient, NO_HELP),
    (
        "53100",
        Transient,
        Some(
            "the disk of the server is full: enlarge the storage; a stalled replication slot keeps WAL (`pgstream-aws status`)",
        ),
    ),
    (
        "53300",
        Transient,
        Some(
            "the server has no connection left: raise `max_connections` (for replication `max_wal_senders`) or lower the workers",
        ),
    ),
    (
        "53400",
        Setup,
        Some(
            "no replication slot or WAL sender is left: raise `max_replication_slots` and `max_wal_senders`, or drop unused slots",
        ),
    ),
    ("54", Data, NO_HELP),
    ("55", Setup, NO_HELP),
    (
        "55000",
        Setup,
        Some(
            "the server is not prepared for this: logical replication needs `wal_level=logical` (`rds.logical_replication = 1`, then a reboot)",
        ),
    ),
    (
        "55006",
        Transient,
        Some(
            "it is in use: another replicator, or an earlier connection that the server has not noticed ending (`wal_sender_timeout`)",
        ),
    ),
    ("55P02", Setup, NO_HELP),
    ("55P03", Transient, NO_HELP),
    ("57", Transient, NO_HELP),
    ("57P04", Setup, Some("the database was dropped")),
    ("58", Setup, NO_HELP),
    ("58030", Transient, NO_HELP),
    (
        "58P01",
        Setup,
        Some("a file is missing on the server: is the extension's library or the output plugin installed?"),
    ),
    ("72", Transient, NO_HELP),
    ("F0", Setup, NO_HELP),
    ("HV", Setup, NO_HELP),
    ("P0", Data, NO_HELP),
    ("XX", Setup, NO_HELP),
    ("XX001", Lost, Some("the server reports corrupted data: restore it before going on")),
    ("XX002", Setup, Some("the server reports a corrupted index: REINDEX it")),
];

/// What `code` means. A code that the table does not have was made up by a function or trigger (`RAISE … USING ERRCODE`).
pub(super) fn lookup(code: &str) -> Meaning {
    TABLE
        .iter()
        .filter(|(prefix, ..)| if prefix.is_empty() { code.is_empty() } else { code.starts_with(prefix) })
        .max_by_key(|(prefix, ..)| prefix.len())
        .map_or(Meaning { class: Data, help: None }, |&(_, class, help)| Meaning { class, help })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_decides() {
        for (code, class) in [
            ("08006", Transient),
            ("57P01", Transient),
            ("57P03", Transient),
            ("57014", Transient),
            ("53300", Transient),
            ("53400", Setup),
            ("40001", Transient),
            ("40P01", Transient),
            ("55P03", Transient),
            ("55006", Transient),
            ("55000", Setup),
            ("25006", Transient),
            ("25P02", Bug),
            ("28P01", Setup),
            ("28000", Setup),
            ("42501", Setup),
            ("42704", Setup),
            ("42601", Bug),
            ("3D000", Config),
            ("22P02", Data),
            ("23505", Data),
            ("P0001", Data),
            ("ZZ001", Data),
            ("", Setup),
        ] {
            assert_eq!(lookup(code).class, class, "{code}");
        }
    }

    #[test]
    fn no_prefix_is_listed_twice() {
        let mut prefixes: Vec<_> = TABLE.iter().map(|(prefix, ..)| prefix).collect();
        prefixes.dedup();
        assert_eq!(prefixes.len(), TABLE.len());
        assert!(prefixes.is_sorted(), "keep the table sorted");
    }
}
