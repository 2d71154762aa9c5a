//! Nothing is in the catalogues that is not proven: a check or diagnosis without a proof fails here by its name.
//!
//! ```text
//!  docs/checks.md, docs/troubleshooting.md ──"### id"──> named in tests/e2e/obstacles/* ?
//!  (generated from the catalogues)                       or below, with the test that proves it ?
//! ```

use std::{collections::BTreeSet, fs, path::PathBuf};

/// Proven by a test that is not of this module: identifiers, and the test.
const PROVEN_ELSEWHERE: &[(&str, &[&str])] = &[
    (
        "an_endpoint_of_rds_is_looked_at_by_its_name",
        &["aws.reader_endpoint", "aws.custom_endpoint", "aws.proxy_endpoint", "aws.rds_api", "aws.tls_not_verified"],
    ),
    (
        "a_database_on_its_default_group_is_named_provisioned_as_printed_and_fine",
        &["aws.parameters", "aws.pending_reboot", "pending_reboot"],
    ),
    ("changes_that_wait_and_groups_that_fail_are_named", &["aws.pending_changes", "aws.unfit"]),
    ("what_the_api_says_of_a_source_is_named_until_it_is_over", &["aws.status", "aws.blue_green", "aws.maintenance"]),
    ("a_source_whose_wal_would_fill_its_disk_soon_is_named_with_the_storage_that_it_needs", &["aws.wal_room"]),
    ("a_target_without_room_for_the_copy_is_named_with_the_storage_that_it_needs", &["aws.storage"]),
    (
        "what_tables_are_made_of_is_looked_at",
        &[
            "replication.unlimited_wal",
            "schema.unlogged",
            "schema.foreign_table",
            "schema.large_objects",
            "schema.no_key",
            "schema.invalid_index",
            "schema.collation_version",
            "schema.tablespace",
            "schema.always_trigger",
            "schema.extension",
            "replication.target_subscription",
        ],
    ),
    (
        "settings_and_transactions_that_get_in_the_way_are_named",
        &[
            "replication.idle_slot",
            "replication.long_transaction",
            "replication.prepared_transaction",
            "resources.source_connections",
            "resources.source_time_limits",
            "resources.target_connections",
            "resources.temp_file_limit",
        ],
    ),
    (
        "standbys_and_older_targets_and_other_encodings_are_named",
        &[
            "connectivity.version",
            "connectivity.source_standby",
            "connectivity.target_standby",
            "schema.encoding",
            "schema.locale",
        ],
    ),
    (
        "errors_that_a_server_really_says_are_explained_by_code_and_by_text",
        &[
            "rds_logical_replication",
            "permission",
            "extension_permission",
            "extension_missing",
            "slot_exists",
            "slot_missing",
            "slot_physical",
            "slot_other_database",
            "publication_missing",
            "replica_identity",
            "replication_permission",
        ],
    ),
    ("a_token_that_is_not_accepted_says_what_has_to_be_set", &["iam_token"]),
    ("a_copy_onto_a_full_disk_goes_on_when_there_is_room", &["disk_full"]),
];

/// What no server here says, and why.
const CANNOT_BE_MADE_HERE: &[(&str, &str)] = &[
    ("extension_not_allowed", "only servers of RDS have rds.allowed_extensions"),
    (
        "plugin",
        "the pinned servers are older than output_plugin_libraries; its text is explained by a test of the catalogue",
    ),
    ("replication.plugin_allowed", "likewise; the list is read by tests of its module"),
    ("pg_dump_version", "there is one version of the client tools here, the newest"),
];

/// Errors of `check` that are no row of the table, in which all is proven at once: it is named, a command fails with its
/// diagnosis, its fix is done as printed, the command succeeds. The test that proves all of it all the same, or what is missing.
/// Warnings and notices are not here: nothing fails because of them at once, so there is no failing command to prove.
const NO_ROW: &[(&str, &str)] = &[
    ("aws.parameters", "all: a_database_on_its_default_group_is_named_provisioned_as_printed_and_fine"),
    ("resources.client_tools", "all: client_tools_that_are_too_old_are_named"),
    ("access.copied_owner", "its fix is done as printed by the row of access.createrole, which hides its failure"),
    ("aws.status", "named until it is over: no command mends a full disk of the simulator"),
    ("aws.unfit", "named, and provision refuses: its fix is prose for a person"),
    ("aws.reader_endpoint", "named: no server here has such a name; what it refuses is that of target_read_only"),
    ("aws.custom_endpoint", "named, likewise"),
    ("aws.proxy_endpoint", "named, likewise; what it refuses is proven with a pooler"),
    ("connectivity.source_standby", "named: its fix is another endpoint"),
    ("connectivity.target_standby", "named, likewise; what it refuses is that of target_read_only"),
    ("connectivity.version", "named: its fix is another server"),
    ("schema.extension", "named: its fix is to install what is not part of the server"),
    ("schema.type_missing", "named until it is there: which command fails depends on the column"),
    ("replication.plugin_allowed", "the pinned servers do not have the setting"),
];

/// How rows of the table begin.
const ROWS: [&str; 4] = ["Obstacle::new(", "snapshot(", "init(", "run("];

fn repository() -> PathBuf {
    let mut directory = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    while !directory.join("docs/checks.md").is_file() {
        assert!(directory.pop(), "no docs above {}", env!("CARGO_MANIFEST_DIR"));
    }
    directory
}

/// All that the pages were generated from; a test of the catalogues keeps the pages current.
fn catalogued() -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for page in ["docs/checks.md", "docs/troubleshooting.md"] {
        let text = fs::read_to_string(repository().join(page)).unwrap();
        let (_, generated) = text.split_once("<!-- generated -->").unwrap();
        ids.extend(generated.lines().filter_map(|line| line.strip_prefix("### ")).map(str::to_owned));
    }
    ids
}

fn sources(folder: &str) -> String {
    let entries = fs::read_dir(repository().join(folder)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let rust = paths.filter(|path| path.extension().is_some_and(|it| it == "rs") && !path.ends_with("complete.rs"));
    rust.map(|path| fs::read_to_string(path).unwrap()).collect()
}

#[test]
fn every_check_and_every_diagnosis_is_proven_by_an_obstacle() {
    let ids = catalogued();
    assert!(ids.len() > 100, "{}", ids.len());
    let here = sources("tests/e2e/obstacles");
    let tests = sources("tests/e2e") + &here;
    let mut wrong = Vec::new();
    let mut elsewhere = BTreeSet::new();
    for (test, proven) in PROVEN_ELSEWHERE {
        if !tests.contains(&format!("fn {test}(")) {
            wrong.push(format!("there is no test {test}"));
        }
        elsewhere.extend(proven.iter().copied());
    }
    elsewhere.extend(CANNOT_BE_MADE_HERE.iter().map(|(id, _)| *id));
    for id in &ids {
        let by_obstacle = here.contains(&format!("\"{id}\"")) || here.contains(&format!("troubleshooting.md#{id}\\n"));
        if !by_obstacle && !elsewhere.contains(id.as_str()) {
            wrong.push(format!("{id} is not proven"));
        }
    }
    wrong.extend(elsewhere.iter().filter(|id| !ids.contains(**id)).map(|id| format!("{id} is in no catalogue")));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_error_of_check_is_proven_from_its_name_to_its_end_or_it_is_said_why_not() {
    let page = fs::read_to_string(repository().join("docs/checks.md")).unwrap();
    let (_, generated) = page.split_once("<!-- generated -->").unwrap();
    let errors = generated.split("\n### ").filter_map(|it| it.split_once("\n\nError").map(|(id, _)| id));
    let errors: BTreeSet<&str> = errors.filter(|id| !id.contains('\n')).collect();
    assert!(errors.len() > 25, "{errors:?}");
    let here: String = sources("tests/e2e/obstacles").split_whitespace().collect();
    let is_row = |id: &str| ROWS.iter().any(|begin| here.contains(&format!("{begin}\"{id}\",")));
    let excused: BTreeSet<&str> = NO_ROW.iter().map(|(id, _)| *id).collect();
    let missing: Vec<_> = errors.iter().filter(|id| !is_row(id) && !excused.contains(*id)).collect();
    let stale: Vec<_> = excused.iter().filter(|id| is_row(id) || !errors.contains(*id)).collect();
    assert!(missing.is_empty() && stale.is_empty(), "no row: {missing:?}; not needed: {stale:?}");
}
