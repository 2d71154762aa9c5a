//! Settings that change what a run does: rows only, rows that were there before, encrypted connections.

use pgstream_testkit::{Cluster, assert_same_schema, pair_with};

use crate::replicator::Pipeline;

const ITEMS: &str = "CREATE TABLE item (id int PRIMARY KEY, text text);
    INSERT INTO item SELECT n, 'source ' || n FROM generate_series(1, 1000) AS n;";

#[tokio::test]
async fn data_only_fills_tables_that_are_there_and_follows() {
    let pipeline = Pipeline::new(ITEMS).await;
    pipeline.pgstream(&["init"]).await.ok();
    let refused = pipeline.pgstream(&["run", "--data-only"]).await.ends(1);
    refused.says(&[r#""public"."item""#]);

    // Another schema, as a user may want it: an index that the source does not have.
    let there = pipeline.there().await;
    there.batch("CREATE TABLE marker (n bigint PRIMARY KEY); CREATE TABLE item (id int PRIMARY KEY, text text)").await;
    there.batch("CREATE INDEX mine ON item (text)").await;
    let mut running = pipeline.start(&["run", "--data-only"]);
    pipeline.caught_up(&mut running).await;
    pipeline.here().await.batch("UPDATE item SET text = 'followed' WHERE id = 7").await;
    pipeline.caught_up(&mut running).await;
    pipeline.assert_same_rows().await;
    assert_eq!(there.text("SELECT to_regclass('mine')::text").await.as_deref(), Some("mine"));
    running.stop().await.ok();
}

#[tokio::test]
async fn rows_that_were_on_the_target_before_are_kept_or_taken_over_as_configured() {
    for (action, expected) in [("nothing", "mine"), ("update", "source 5")] {
        let mut pipeline = Pipeline::new(ITEMS).await;
        pipeline.set("source.postgres.snapshot.mode", "data");
        let there = pipeline.there().await;
        there
            .batch("CREATE TABLE marker (n bigint PRIMARY KEY); CREATE TABLE item (id int PRIMARY KEY, text text)")
            .await;
        there.batch("INSERT INTO item VALUES (5, 'mine'), (5000, 'mine')").await;
        pipeline.pgstream(&["init"]).await.ok();
        pipeline.pgstream(&["run"]).await.ends(1).says(&["snapshot::target_not_empty", "1 table with rows"]);
        pipeline.set("target.postgres.on_conflict_action", action);
        let mut running = pipeline.run();
        pipeline.caught_up(&mut running).await;
        let found = |id: i32| format!("SELECT text FROM item WHERE id = {id}");
        assert_eq!(there.text(&found(5)).await.as_deref(), Some(expected), "{action}");
        assert_eq!(there.text(&found(5000)).await.as_deref(), Some("mine"), "{action}");
        assert_eq!(there.scalar::<i64>("SELECT count(*) FROM item").await, 1001);
        running.stop().await.ok();
    }
}

#[tokio::test]
async fn every_connection_of_a_run_is_encrypted_and_verified_when_asked() {
    let only_tls =
        || Cluster::builder().tls().hba("hostnossl all all all reject").hba("hostnossl replication all all reject");
    let (source, target) = pair_with(only_tls(), only_tls()).await;
    let mut pipeline = Pipeline::between(source, target, ITEMS).await;
    // The authority of one server is not that of the other.
    let verified = |cluster: &Cluster, ca: &Cluster| {
        let ca = ca.ca_file();
        format!("{}?sslmode=verify-full&sslrootcert={}", cluster.url("app"), ca.display())
    };
    pipeline.set("source.postgres.url", verified(&pipeline.source, &pipeline.target));
    pipeline.set("target.postgres.url", verified(&pipeline.target, &pipeline.target));
    pipeline.pgstream(&["init"]).await.ends(1).says(&["certificate"]);
    pipeline.set("source.postgres.url", verified(&pipeline.source, &pipeline.source));
    pipeline.pgstream(&["init"]).await.ok();
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    pipeline.assert_same_rows().await;
    assert_same_schema(&pipeline.source, &pipeline.target, "app").await;
    for server in [pipeline.here().await, pipeline.there().await] {
        let plain = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                     WHERE application_name ~ 'pgstream' AND NOT ssl";
        assert_eq!(server.scalar::<i64>(plain).await, 0);
    }
    running.stop().await.ok();
}
