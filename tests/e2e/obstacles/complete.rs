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
    ("older_targets_and_other_encodings_are_named", &["connectivity.version", "schema.encoding", "schema.locale"]),
    (STANDBYS, &["connectivity.source_standby", "connectivity.target_standby"]),
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
    (
        ANSWERS,
        &[
            "aws_access_denied",
            "aws_throttled",
            "aws_clock",
            "aws_credentials_expired",
            "aws_credentials_invalid",
            "aws_database_missing",
            "aws_group_missing",
            "aws_wrong_state",
            "aws_group_in_use",
            "aws_default_group",
            "aws_static_parameter",
            "aws_parameter_fixed",
            "aws_group_family",
            "aws_group_quota",
        ],
    ),
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
    (
        "replication.standby_slots",
        "all: a_standby_that_the_stream_waits_for_and_that_is_gone_is_named_and_mended; the stream stands still, it does not fail",
    ),
    ("access.copied_owner", "its fix is done as printed by the row of access.createrole, which hides its failure"),
    ("aws.status", "named until it is over: no command mends a full disk of the simulator"),
    ("aws.unfit", "named, and provision refuses: its fix is prose for a person"),
    ("aws.reader_endpoint", "named: no server here has such a name; what it refuses is that of target_read_only"),
    ("aws.custom_endpoint", "named, likewise"),
    ("aws.proxy_endpoint", "named, likewise; what it refuses is proven with a pooler"),
    ("connectivity.source_standby", "all: standbys_are_named_and_refused_until_the_primary_is_used"),
    ("connectivity.target_standby", "all, likewise"),
    ("connectivity.version", "named: its fix is another server"),
    ("schema.extension", "named: its fix is to install what is not part of the server"),
    ("schema.type_missing", "all: types_that_are_missing_are_named_and_come_with_the_schema"),
    ("replication.plugin_allowed", "the pinned servers do not have the setting"),
];

/// How a diagnosis is proven from the obstacle to the command that succeeds after the fix.
enum Proof {
    /// By the row of the table that has this check, whose command ends with this diagnosis.
    Row(&'static str),
    /// By the row of this check: the command finds it before the server says it, and ends with a code of its own.
    Before(&'static str),
    /// By this test.
    Test(&'static str),
    /// Only a part is: the test that has it, and what is missing.
    Part(&'static str, &'static str),
    /// Why none of it is.
    No(&'static str),
}

use Proof::{Before, No, Part, Row, Test};

/// All diagnoses, in the order of their catalogue.
const DIAGNOSES: &[(&str, Proof)] = &[
    ("pg_authid", Row("access.pg_authid")),
    ("session_replication_role", Row("access.session_replication_role")),
    ("rds_logical_replication", Part(SAID, "no command of this program sets it by SQL")),
    ("wal_level", Before("source::wal_level")),
    ("event_trigger", Row("access.copied_event_trigger")),
    ("create_role", Row("access.createrole")),
    ("create_database", Row("access.createdb")),
    ("schema_public", Row("access.owner_create")),
    ("permission_schema", Row("access.usage")),
    ("permission_database", Row("access.create_on_database")),
    ("permission_relation", Row("access.select")),
    ("row_security", Row("access.row_security")),
    ("not_owner", Row("access.database_owner")),
    ("member_of_role", Row("access.owner_membership")),
    ("extension_not_allowed", No("only servers of RDS have rds.allowed_extensions")),
    ("extension_permission", Row("access.create_extension")),
    ("extension_missing", Part(SAID, "installing it is not SQL")),
    ("no_free_slot", Before("source::no_free_slot")),
    ("no_free_sender", Row("replication.free_sender")),
    ("slot_active", Test("a_slot_that_another_replicator_reads_is_free_when_that_one_ends")),
    ("slot_lost", Test("a_slot_whose_wal_was_removed_while_the_target_was_locked_is_lost_and_said_so")),
    ("slot_missing", Test("a_slot_that_is_dropped_while_it_is_read_ends_the_run")),
    ("slot_exists", Part(SAID, "init takes a slot that is there, or refuses it by its own name first")),
    ("slot_other_database", Test("a_slot_of_another_plugin_or_database_is_not_followed")),
    ("slot_physical", Part(SAID, "init and run refuse it by its own name first")),
    ("publication_missing", Test("a_slot_or_publication_that_is_gone_is_named_hit_and_mended")),
    ("replica_identity", Before("source::replica_identity")),
    ("plugin", No("the pinned servers are older than output_plugin_libraries")),
    ("replication_permission", Row("source::replication_privilege")),
    ("tls_required", Test(WAYS)),
    ("no_hba_entry", Test(WAYS)),
    ("iam_token", Test("a_token_that_is_not_accepted_says_what_has_to_be_set")),
    ("password", Test(WAYS)),
    ("too_many_connections", Test(WAYS)),
    ("certificate", Test(WAYS)),
    ("read_only_node", Row("connectivity.target_read_only")),
    ("proxy", Test("a_pooler_is_named_by_its_port_and_by_what_it_refuses")),
    ("pg_dump_version", No("there is one version of the client tools here, the newest")),
    ("wal_sender_timeout", Test("slots_of_new_servers_are_explained")),
    ("disk_full", Test("a_copy_onto_a_full_disk_goes_on_when_there_is_room")),
    ("pending_reboot", Test("a_database_on_its_default_group_is_named_provisioned_as_printed_and_fine")),
    ("aws_access_denied", Test("a_denied_call_names_who_what_and_the_policy_line")),
    ("aws_throttled", Test(OVER)),
    ("aws_clock", Test(OVER)),
    ("aws_credentials_expired", Test("credentials_that_expire_on_the_way_leave_the_rest_for_the_next_run")),
    ("aws_credentials_invalid", Test(OVER)),
    ("aws_database_missing", Test(OVER)),
    ("aws_group_missing", Part(ANSWERS, "provision looks for the group before it uses it")),
    ("aws_wrong_state", Test("a_database_that_does_not_become_available_by_itself_is_not_waited_for")),
    ("aws_group_in_use", Part(ANSWERS, "provision detaches a group before it deletes it")),
    ("aws_group_quota", Test("an_account_with_as_many_groups_as_it_may_have_is_told_to_delete_one")),
    ("aws_default_group", Part(ANSWERS, "provision copies what it may not change")),
    ("aws_static_parameter", Part(ANSWERS, "provision asks for pending-reboot")),
    ("aws_parameter_fixed", Part(ANSWERS, "provision asks what may be set first")),
    ("aws_group_family", Part(ANSWERS, "provision makes groups of the right family")),
    ("starting", Test(WAYS)),
    ("database_missing", Test(WAYS)),
    ("role_missing", Row("access.owner_missing")),
    ("host_unknown", Test(WAYS)),
    ("unreachable", Test(WAYS)),
    ("permission", Part(SAID, "what is particular has a diagnosis of its own")),
];

/// What servers really say is explained; no command fails with it.
const SAID: &str = "errors_that_a_server_really_says_are_explained_by_code_and_by_text";

/// What the API really answers is explained; no command fails with it.
const ANSWERS: &str = "what_the_rds_api_answers_is_explained";

/// The command fails, and succeeds when the cause is gone.
const OVER: &str = "what_the_account_is_refused_is_named_and_over_with_its_cause";

/// All steps: what is refused, and what the primary does.
const STANDBYS: &str = "standbys_are_named_and_refused_until_the_primary_is_used";

/// All steps, one way after the other.
const WAYS: &str = "ways_to_new_servers_are_named_and_mended";

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
fn every_diagnosis_is_proven_from_the_obstacle_to_the_success_or_it_is_said_what_is_missing() {
    let page = fs::read_to_string(repository().join("docs/troubleshooting.md")).unwrap();
    let (_, generated) = page.split_once("<!-- generated -->").unwrap();
    let catalogue: Vec<&str> = generated.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let listed: Vec<&str> = DIAGNOSES.iter().map(|(id, _)| *id).collect();
    assert_eq!(listed, catalogue);

    let tests = sources("tests/e2e") + &sources("tests/e2e/obstacles");
    let rows: String = sources("tests/e2e/obstacles").split_whitespace().collect();
    let mut wrong = Vec::new();
    for (id, proof) in DIAGNOSES {
        let holds = match proof {
            // Whatever stands between is the command.
            Row(check) => ROWS.iter().any(|begin| {
                let row = rows.split(&format!("{begin}\"{check}\",")).nth(1);
                row.and_then(|row| row.split("Mend::").next()).is_some_and(|row| row.contains(&format!("\"{id}\",")))
            }),
            Before(check) => ROWS.iter().any(|begin| rows.contains(&format!("{begin}\"{check}\","))),
            Test(test) => tests.contains(&format!("fn {test}(")),
            Part(test, missing) => !missing.is_empty() && tests.contains(&format!("fn {test}(")),
            No(why) => !why.is_empty(),
        };
        if !holds {
            wrong.push(*id);
        }
    }
    assert!(wrong.is_empty(), "no proof: {wrong:?}");
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
