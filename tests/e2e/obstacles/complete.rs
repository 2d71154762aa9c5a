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
    ("plugin", "the pinned servers are older than output_plugin_libraries"),
    ("pg_dump_version", "there is one version of the client tools here, the newest"),
];

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
