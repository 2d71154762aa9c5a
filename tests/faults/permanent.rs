//! Faults that do not pass: named within a minute, nothing applied after them, and mended as the message says.

use std::time::Duration;

use pgstream_testkit::{Cluster, pair_with, source_major, target_major};

use crate::replicator::{Done, Pipeline, Replicator, SLOT};

const TABLES: &str = "CREATE TABLE t (id int PRIMARY KEY, note text); CREATE TABLE loose (n int);
    INSERT INTO t SELECT g, 'note ' || g FROM generate_series(1, 100) g; INSERT INTO loose SELECT g % 10 FROM generate_series(1, 100) g;";

/// What a supervisor waits for.
const NAMED_WITHIN: Duration = Duration::from_secs(60);

async fn follow(pipeline: &Pipeline) -> Replicator {
    let mut running = pipeline.run();
    pipeline.caught_up(&mut running).await;
    running
}

/// The next run ends with this error.
async fn refused(pipeline: &Pipeline, says: &[&str]) -> Done {
    let done = pipeline.pgstream(&["run"]).await.ends(1).says(says);
    assert!(done.took < NAMED_WITHIN, "{done:?}");
    done
}

async fn rows(pipeline: &Pipeline) -> (i64, i64) {
    let there = pipeline.there().await;
    (there.scalar("SELECT count(*) FROM t").await, there.scalar("SELECT count(*) FROM loose").await)
}

/// What happened to a row or table of the target, the transaction that meets it, the error, and what mends it.
struct Difference {
    there: &'static str,
    here: &'static str,
    says: &'static [&'static str],
    mend: &'static str,
}

const DIFFERENCES: [Difference; 7] = [
    Difference {
        there: "INSERT INTO t VALUES (1000, 'rogue')",
        here: "INSERT INTO t VALUES (1000, 'right')",
        says: &["stream::conflict", "INSERT", r#""public"."t""#],
        mend: "DELETE FROM t WHERE id = 1000",
    },
    Difference {
        there: "DELETE FROM t WHERE id = 1",
        here: "UPDATE t SET note = 'new' WHERE id = 1",
        says: &["stream::conflict", "UPDATE", r#""public"."t""#, "not on the target"],
        mend: "INSERT INTO t VALUES (1, 'note 1')",
    },
    Difference {
        there: "DELETE FROM t WHERE id BETWEEN 2 AND 50",
        here: "DELETE FROM t WHERE id BETWEEN 40 AND 60",
        says: &["stream::conflict", "DELETE", r#""public"."t""#, "not on the target"],
        mend: "INSERT INTO t SELECT g, 'note ' || g FROM generate_series(2, 50) g",
    },
    Difference {
        there: "DELETE FROM loose WHERE n = 3",
        here: "DELETE FROM loose WHERE n = 3",
        says: &["stream::conflict", "DELETE", r#""public"."loose""#, "not on the target"],
        mend: "INSERT INTO loose SELECT 3 FROM generate_series(1, 10)",
    },
    Difference {
        there: "ALTER TABLE t ADD CONSTRAINT own CHECK (note <> 'refused')",
        here: "UPDATE t SET note = 'refused' WHERE id = 99",
        says: &["stream::conflict", "UPDATE", r#""public"."t""#, "23514"],
        mend: "ALTER TABLE t DROP CONSTRAINT own",
    },
    Difference {
        there: "ALTER TABLE t RENAME note TO remark",
        here: "UPDATE t SET note = 'renamed' WHERE id = 98",
        says: &["stream::shape", r#""public"."t""#, "note"],
        mend: "ALTER TABLE t RENAME remark TO note",
    },
    Difference {
        there: "ALTER TABLE t RENAME TO elsewhere",
        here: "UPDATE t SET note = 'moved' WHERE id = 97",
        says: &["stream::table_missing", r#""public"."t""#],
        mend: "ALTER TABLE elsewhere RENAME TO t",
    },
];

#[tokio::test]
async fn a_target_that_differs_stops_the_stream_at_the_row_until_it_is_mended() {
    let pipeline = Pipeline::new(TABLES).await;
    pipeline.pgstream(&["init"]).await.ok();
    follow(&pipeline).await.stop().await.ok();
    for (n, difference) in (1000..).zip(DIFFERENCES) {
        pipeline.there().await.batch(difference.there).await;
        // The transaction is refused as a whole, the ones after it with it.
        let here = pipeline.here().await;
        here.batch(&format!("BEGIN; INSERT INTO loose VALUES ({n}); {}; COMMIT", difference.here)).await;
        here.batch(&format!("INSERT INTO loose VALUES (-{n})")).await;
        let after = format!("SELECT count(*) FROM loose WHERE n IN ({n}, -{n})");
        refused(&pipeline, difference.says).await;
        refused(&pipeline, difference.says).await;
        assert_eq!(pipeline.there().await.scalar::<i64>(&after).await, 0, "applied after: {}", difference.there);
        pipeline.there().await.batch(difference.mend).await;
        follow(&pipeline).await.stop().await.ok();
        pipeline.assert_same_rows().await;
    }
}

/// What became of a slot, and the error.
const SLOTS: [(&str, &str, &str); 4] = [
    ("dropped", "SELECT pg_drop_replication_slot('{SLOT}')", "stream::slot_missing"),
    (
        "recreated",
        "SELECT pg_drop_replication_slot('{SLOT}'); SELECT pg_create_logical_replication_slot('{SLOT}', 'pgoutput')",
        "stream::slot_ahead",
    ),
    ("advanced", "SELECT pg_replication_slot_advance('{SLOT}', pg_current_wal_lsn())", "stream::slot_ahead"),
    ("lost", "SELECT", "stream::slot_lost"),
];

/// Writes WAL until the server gives the slot up.
async fn outgrow(pipeline: &Pipeline) {
    let here = pipeline.here().await;
    let state = format!("SELECT wal_status FROM pg_replication_slots WHERE slot_name = '{SLOT}'");
    for _ in 0..60 {
        here.batch("INSERT INTO loose SELECT g FROM generate_series(1, 30000) g; SELECT pg_switch_wal(); CHECKPOINT")
            .await;
        if here.text(&state).await.as_deref() == Some("lost") {
            return;
        }
    }
    panic!("the server keeps the WAL");
}

/// A new, empty database, and a new slot: what the messages ask for.
async fn start_over(pipeline: &Pipeline) -> Replicator {
    pipeline.pgstream(&["destroy", "--slot-only", "--yes"]).await.ok();
    pipeline.pgstream(&["init"]).await.ok();
    pipeline.target.client("postgres").await.batch("DROP DATABASE app WITH (FORCE)").await;
    pipeline.target.create_database("app").await;
    follow(pipeline).await
}

#[tokio::test]
async fn a_slot_that_is_gone_or_moved_is_never_followed_until_it_is_started_over() {
    let limited = Cluster::builder().major(source_major()).setting("max_slot_wal_keep_size", "16MB");
    let (source, target) = pair_with(limited, Cluster::builder().major(target_major())).await;
    let pipeline = Pipeline::between(source, target, TABLES).await;
    pipeline.pgstream(&["init"]).await.ok();
    let mut running = follow(&pipeline).await;
    for (what, how, code) in SLOTS {
        running.stop().await.ok();
        let before = rows(&pipeline).await;
        let here = pipeline.here().await;
        here.batch("INSERT INTO loose VALUES (1)").await;
        for statement in how.replace("{SLOT}", SLOT).split("; ") {
            here.batch(statement).await;
        }
        if what == "lost" {
            outgrow(&pipeline).await;
        }
        here.batch("INSERT INTO loose VALUES (2)").await;
        refused(&pipeline, &[code, SLOT]).await;
        assert_eq!(rows(&pipeline).await, before, "something was applied after the slot was {what}");
        running = start_over(&pipeline).await;
        here.batch("INSERT INTO loose VALUES (3); DELETE FROM t WHERE id % 10 = 0").await;
        pipeline.caught_up(&mut running).await;
        pipeline.assert_same_rows().await;
        here.batch("INSERT INTO t SELECT g, 'back' FROM generate_series(10, 100, 10) g").await;
        pipeline.caught_up(&mut running).await;
    }
    running.stop().await.ok();
}

#[tokio::test]
async fn a_publication_that_is_gone_ends_the_run_until_it_is_started_over() {
    let pipeline = Pipeline::new(TABLES).await;
    pipeline.pgstream(&["init"]).await.ok();
    let running = follow(&pipeline).await;
    let before = rows(&pipeline).await;
    let here = pipeline.here().await;
    here.batch("DROP PUBLICATION pgstream_app").await;
    here.batch("INSERT INTO loose VALUES (1)").await;
    running.done().await.ends(1).says(&["stream::publication_missing", "pgstream_app", "init"]);
    refused(&pipeline, &["stream::publication_missing", "pgstream_app", "init"]).await;
    assert_eq!(rows(&pipeline).await, before, "nothing was applied");
    let mut running = start_over(&pipeline).await;
    here.batch("INSERT INTO loose VALUES (2)").await;
    pipeline.caught_up(&mut running).await;
    pipeline.assert_same_rows().await;
    running.stop().await.ok();
}
