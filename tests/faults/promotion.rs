//! The primary is gone and its standby takes over: followed when it has the slot, refused when it has not. Slots reach
//! standbys from PostgreSQL 17 on.

use std::time::Duration;

use pgstream_testkit::{Cluster, Conserved, Load, assert_journal, assert_same_rows, seed, source_major, target_major};

use crate::replicator::{Pipeline, SLOT};

const FIRST_WITH_SYNCHRONISED_SLOTS: u32 = 17;

/// A followed primary whose slot is to reach standbys, and a slot for one.
async fn prepared(primary: Cluster) -> Pipeline {
    let target = Cluster::builder().major(target_major()).start().await.unwrap();
    target.create_database("app").await;
    primary.create_database("app").await;
    primary.client("app").await.batch("SELECT pg_create_physical_replication_slot('standby', true)").await;
    let pipeline = Pipeline::between(primary, target, Load::schema()).await;
    pipeline.pgstream(&["init", "--failover"]).await.ok();
    pipeline
}

fn primary() -> pgstream_testkit::Builder {
    // Nothing is sent to the stream that the standby does not have yet.
    Cluster::builder().major(source_major()).setting("synchronized_standby_slots", "standby")
}

#[tokio::test]
async fn a_promoted_standby_with_the_slot_is_followed_and_loses_nothing() {
    if source_major() < FIRST_WITH_SYNCHRONISED_SLOTS {
        return;
    }
    let mut pipeline = prepared(primary().start().await.unwrap()).await;
    let standby = pipeline.source.standby("sync_replication_slots = on").await;
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    let conserved = Conserved::watch(&pipeline.target.url("app"));
    let load = Load::start_paced(&pipeline.source.url("app"), seed(), 2, Duration::from_millis(10));
    load.progress(200).await;
    let synchronised =
        format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{SLOT}' AND NOT temporary");
    standby.client("app").await.wait_until(&synchronised, "1").await;
    load.progress(100).await;

    pipeline.source.kill9();
    drop(load);
    running.kill9();
    let there = standby.client("app").await;
    there.batch("SELECT pg_promote()").await;
    // The new primary has no standby yet; until this is taken back, its walsender waits for one.
    there.batch("ALTER SYSTEM SET synchronized_standby_slots = ''").await;
    there.batch("SELECT pg_reload_conf()").await;
    pipeline.set("source.postgres.url", standby.url("app"));
    // What was prepared survives the promotion; nobody else would end it.
    for row in there.query("SELECT gid FROM pg_prepared_xacts").await {
        there.batch(&format!("COMMIT PREPARED '{}'", row.get::<_, String>(0))).await;
    }
    let load = Load::start_paced(&standby.url("app"), seed(), 2, Duration::from_millis(10));
    let mut running = pipeline.run();
    load.progress(200).await;
    let report = load.stop().await;
    there.batch("INSERT INTO public.marker VALUES (-1)").await;
    pipeline.on_target(&mut running, "SELECT n FROM public.marker WHERE n = -1", |found| found == "-1").await;
    assert_same_rows(&standby, &pipeline.target, "app").await;
    assert_journal(&pipeline.target, "app", &report).await;
    conserved.stop().await;
    running.stop().await.ok();
}

#[tokio::test]
async fn a_promoted_standby_without_the_slot_is_refused() {
    if source_major() < FIRST_WITH_SYNCHRONISED_SLOTS {
        return;
    }
    let mut pipeline = prepared(primary().start().await.unwrap()).await;
    let standby = pipeline.source.standby("").await;
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    pipeline.source.kill9();
    running.kill9();
    let there = standby.client("app").await;
    there.batch("SELECT pg_promote()").await;
    there.batch("INSERT INTO public.marker VALUES (-1)").await;
    pipeline.set("source.postgres.url", standby.url("app"));
    pipeline.pgstream(&["run"]).await.ends(1).says(&["stream::slot_missing", SLOT, "start over"]);
    let missing = "SELECT count(*) FROM public.marker WHERE n = -1";
    assert_eq!(pipeline.there().await.scalar::<i64>(missing).await, 0, "nothing was applied");
}
