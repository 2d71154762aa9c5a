//! Targets that hold tables, or rows, before the copy; and the stream that follows such a copy.

use crate::replicator::Pipeline;

const TABLES: &str = "CREATE TABLE parents (id int PRIMARY KEY, name text, note text);
    CREATE TABLE children (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, parent int REFERENCES parents);
    CREATE TABLE loose (n int);";
const ROWS: &str = "INSERT INTO parents SELECT g, 'source ' || g FROM generate_series(1, 100) g;
    INSERT INTO children (parent) SELECT g FROM generate_series(1, 100) g; INSERT INTO loose SELECT g % 5 FROM generate_series(1, 100) g;";
const CHANGES: &str = "UPDATE parents SET name = 'later' WHERE id % 3 = 0; INSERT INTO parents VALUES (101, 'new');
    INSERT INTO children (parent) VALUES (101); DELETE FROM children WHERE id = 7; DELETE FROM loose WHERE n = 3; INSERT INTO loose VALUES (0)";

async fn between(schema: &str, there: &str) -> Pipeline {
    let pipeline = Pipeline::new(schema).await;
    // What Pipeline keeps on the source, and what the test wants on the target.
    let target = pipeline.there().await;
    target.batch(&format!("CREATE TABLE public.marker (n bigint PRIMARY KEY); {there}")).await;
    pipeline.pgstream(&["init"]).await.ok();
    pipeline
}

#[tokio::test]
async fn rows_alone_are_copied_into_tables_that_exist_and_followed() {
    let pipeline = between(&format!("{TABLES}{ROWS}"), &format!("{TABLES} CREATE INDEX own ON parents (name)")).await;
    let here = pipeline.here().await;
    here.batch("CREATE TABLE IF NOT EXISTS elsewhere (n int PRIMARY KEY)").await;
    pipeline.pgstream(&["run", "--data-only"]).await.ends(1).says(&["snapshot::table_missing", "elsewhere"]);
    here.batch("DROP TABLE elsewhere").await;
    let mut running = pipeline.start(&["run", "--data-only"]);
    pipeline.caught_up(&mut running).await;
    here.batch(CHANGES).await;
    pipeline.caught_up(&mut running).await;
    pipeline.assert_same_rows().await;
    let there = pipeline.there().await;
    assert_eq!(there.text("SELECT to_regclass('own')::text").await.as_deref(), Some("own"), "the target's own");
    running.stop().await.ok();
    // The same once more: what was copied is not copied again.
    let copied = pipeline.copied().await;
    let mut running = pipeline.start(&["run", "--data-only"]);
    pipeline.caught_up(&mut running).await;
    assert_eq!(pipeline.copied().await, copied);
    running.stop().await.ok();
}

#[tokio::test]
async fn rows_alone_are_copied_once_by_snapshot() {
    let pipeline = between(&format!("{TABLES}{ROWS}"), TABLES).await;
    let report = pipeline.pgstream(&["snapshot", "--data-only", "--json"]).await.ok().json();
    assert_eq!(report["complete"], true, "{report:#}");
    pipeline.assert_same_rows().await;
}

/// Rows of the target's own, some under keys of the source.
const OWN: &str =
    "INSERT INTO parents VALUES (1, 'target 1', 'kept'), (2, 'target 2', 'kept'), (500, 'target 500', 'kept');";

async fn parent(pipeline: &Pipeline, id: i32) -> String {
    let sql = format!("SELECT coalesce(name, '-') || '/' || coalesce(note, '-') FROM parents WHERE id = {id}");
    pipeline.there().await.text(&sql).await.unwrap_or_else(|| "nothing".to_owned())
}

#[tokio::test]
async fn rows_of_the_target_are_refused_kept_or_replaced_as_asked() {
    let mut pipeline = between(&format!("{TABLES}{ROWS}"), &format!("{TABLES}{OWN}")).await;
    pipeline.pgstream(&["run"]).await.ends(1).says(&["snapshot::target_not_empty", "on_conflict_action"]);
    assert_eq!(parent(&pipeline, 3).await, "nothing", "nothing was written");

    pipeline.set("target.postgres.on_conflict_action", "nothing");
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    let found = [1, 2, 3, 500];
    let mut kept = Vec::new();
    for id in found {
        kept.push(parent(&pipeline, id).await);
    }
    assert_eq!(kept, ["target 1/kept", "target 2/kept", "source 3/-", "target 500/kept"]);
    // The stream writes what changes on the source, whoever wrote the row.
    pipeline.here().await.batch("UPDATE parents SET name = 'changed' WHERE id = 1; DELETE FROM children WHERE id = 2; DELETE FROM parents WHERE id = 2").await;
    pipeline.caught_up(&mut running).await;
    assert_eq!([parent(&pipeline, 1).await, parent(&pipeline, 2).await], ["changed/-", "nothing"]);
    running.stop().await.ok();
}

#[tokio::test]
async fn rows_of_the_target_are_replaced_when_asked() {
    let mut pipeline = between(&format!("{TABLES}{ROWS}"), &format!("{TABLES}{OWN}")).await;
    pipeline.set("target.postgres.on_conflict_action", "update");
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    assert_eq!([parent(&pipeline, 1).await, parent(&pipeline, 500).await], ["source 1/-", "target 500/kept"]);
    pipeline.here().await.batch(CHANGES).await;
    pipeline.caught_up(&mut running).await;
    pipeline.there().await.batch("DELETE FROM parents WHERE id = 500").await;
    pipeline.assert_same_rows().await;
    running.stop().await.ok();
}
