//! What is wrong with a slot or a publication: `doctor` or `check` names it, the command fails and says so, the commands that
//! are printed are run as printed, and then the command succeeds.

use pgstream_testkit::Cluster;

use super::{findings, prepared};
use crate::replicator::{Done, Pipeline, SLOT};

/// The fix of the finding whose name ends so.
fn fix_of(done: &Done, name: &str) -> String {
    let found = findings(done);
    let finding = found.iter().find(|finding| finding["id"].as_str().unwrap().ends_with(name));
    let finding = finding.unwrap_or_else(|| panic!("{name} is not named: {found:#?}"));
    finding["instances"][0]["fix"].as_str().unwrap().to_owned()
}

/// Runs the commands between backticks, in their order; the last one is left to the caller when it does not end by itself.
async fn run_printed_commands(pipeline: &Pipeline, fix: &str) -> Option<Vec<String>> {
    let commands = fix.split('`').skip(1).step_by(2).filter_map(|command| command.strip_prefix("pgstream-aws "));
    for command in commands {
        let mut words: Vec<&str> = command.split(' ').collect();
        match words[0] {
            "run" => return Some(words.into_iter().map(str::to_owned).collect()),
            "destroy" => words.push("--yes"),
            _ => {}
        }
        pipeline.pgstream(&words).await.ok();
    }
    None
}

/// The pipeline is in step, and is stopped.
async fn follows(pipeline: &Pipeline, command: &[&str]) {
    let mut running = pipeline.start(command);
    // Nobody who is there may be sent away by the role that replaces the database.
    running.says("streaming").await;
    pipeline.caught_up(&mut running).await;
    running.stop().await.ok();
    pipeline.assert_same_rows().await;
}

async fn following(source: Cluster, target: Cluster) -> Pipeline {
    let pipeline = prepared(source, target).await;
    pipeline.pgstream(&["init"]).await.ok();
    follows(&pipeline, &["run"]).await;
    pipeline
}

/// What breaks a pipeline that has been running is mended by what `doctor` prints.
async fn is_mended(pipeline: &Pipeline, finding: &str, code: &str) {
    let seen = pipeline.pgstream(&["doctor", "--json"]).await.ends(1);
    let fix = fix_of(&seen, finding);
    pipeline.pgstream(&["run"]).await.ends(1).says(&[code, "docs: docs/troubleshooting.md#"]);
    let run = run_printed_commands(pipeline, &fix).await.unwrap_or_else(|| vec!["run".to_owned()]);
    let run: Vec<&str> = run.iter().map(String::as_str).collect();
    follows(pipeline, &run).await;
    let seen = pipeline.pgstream(&["doctor", "--json"]).await;
    assert!(findings(&seen).iter().all(|it| it["id"] == "doctor.not_running"), "{finding}: {seen:?}");
}

#[tokio::test]
async fn a_slot_or_publication_that_is_gone_is_named_hit_and_mended() {
    for major in [13, 18] {
        let (source, target) = pgstream_testkit::pair_of(major, major).await;
        let mut pipeline = following(source, target).await;
        let here = pipeline.here().await;
        pipeline.there().await.batch("ALTER ROLE writer CREATEDB").await;
        pipeline.set("source.postgres.snapshot.schema.pgdump_pgrestore.no_owner", true);
        here.batch(&format!("SELECT pg_drop_replication_slot('{SLOT}'); INSERT INTO t VALUES (1)")).await;
        is_mended(&pipeline, "slot_gone", "stream::slot_missing").await;
        here.batch("DROP PUBLICATION pgstream_app; INSERT INTO t VALUES (2)").await;
        is_mended(&pipeline, "publication_missing", "stream::publication_missing").await;
    }
}

#[tokio::test]
async fn a_slot_that_is_lost_is_named_hit_and_mended() {
    for major in [13, 18] {
        let source = Cluster::builder().major(major).setting("max_slot_wal_keep_size", "1MB");
        let (source, target) = pgstream_testkit::pair_with(source, Cluster::builder().major(major)).await;
        let mut pipeline = following(source, target).await;
        let here = pipeline.here().await;
        pipeline.there().await.batch("ALTER ROLE writer CREATEDB").await;
        pipeline.set("source.postgres.snapshot.schema.pgdump_pgrestore.no_owner", true);
        let state = format!("SELECT wal_status FROM pg_replication_slots WHERE slot_name = '{SLOT}'");
        for n in 0.. {
            assert!(n < 60, "the server keeps the WAL");
            here.batch(&format!("INSERT INTO t VALUES ({n}); SELECT pg_switch_wal()")).await;
            here.batch("CHECKPOINT").await;
            if here.text(&state).await.as_deref() == Some("lost") {
                break;
            }
        }
        here.batch("ALTER SYSTEM SET max_slot_wal_keep_size = -1").await;
        here.batch("SELECT pg_reload_conf()").await;
        is_mended(&pipeline, "slot_lost", "stream::slot_lost").await;
    }
}

#[tokio::test]
async fn a_slot_of_somebody_else_is_named_hit_and_left_alone() {
    for (major, finding, made_in, make) in [
        (13, "slot_physical", "app", format!("SELECT pg_create_physical_replication_slot('{SLOT}')")),
        (18, "slot_plugin", "app", format!("SELECT pg_create_logical_replication_slot('{SLOT}', 'test_decoding')")),
        (18, "slot_database", "postgres", format!("SELECT pg_create_logical_replication_slot('{SLOT}', 'pgoutput')")),
    ] {
        let (source, target) = pgstream_testkit::pair_of(major, major).await;
        let mut pipeline = prepared(source, target).await;
        pipeline.source.client(made_in).await.batch(&make).await;
        let fix = fix_of(&pipeline.pgstream(&["check", "--json"]).await.ends(1), finding);
        assert!(fix.contains("--replication-slot"), "{finding}: {fix}");
        let code = format!("source::{finding}");
        pipeline.pgstream(&["init"]).await.ends(1).says(&[
            &code,
            "--replication-slot",
            "docs: docs/troubleshooting.md#",
        ]);
        pipeline.pgstream(&["init", "--replication-slot", "another"]).await.ok();
        pipeline.set("source.postgres.replication.replication_slot", "another");
        follows(&pipeline, &["run"]).await;
    }
}

#[tokio::test]
async fn a_slot_that_another_replicator_reads_is_free_when_that_one_ends() {
    for major in [13, 18] {
        let (source, target) = pgstream_testkit::pair_of(major, major).await;
        let pipeline = following(source, target).await;
        let mut first = pipeline.run();
        pipeline.caught_up(&mut first).await;
        let refused = pipeline.pgstream(&["run"]).await.ends(1);
        refused.says(&["stream::second_replicator", "stop", "docs: docs/troubleshooting.md#"]);
        first.stop().await.ok();
        follows(&pipeline, &["run"]).await;
    }
}
