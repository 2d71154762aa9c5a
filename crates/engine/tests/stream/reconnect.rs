//! What a new connection may assume about the one before it.

use std::time::Duration;

use pgstream_engine::stream::{Error, Limits};
use pgstream_testkit::{Cluster, Proxy, Stop, pair_with, source_major, target_major};
use tokio::time::sleep;

use crate::{
    harness::{PUBLICATION, Running, SLOT, describe, pair, pair_on, server},
    ordeal::{SlotWatch, progress, slot_position},
};

const ITEMS: &str = "CREATE TABLE item (id int PRIMARY KEY, name text);";

/// The progress that a new connection reads may not be on the target's disk yet: its commit was asynchronous.
#[tokio::test]
async fn progress_that_a_crash_would_take_back_is_not_confirmed() {
    let lazy = Cluster::builder().major(target_major()).setting("wal_writer_delay", "10s");
    let (source, target) = pair_with(Cluster::builder().major(source_major()), lazy).await;
    let pair = pair_on(source, target, ITEMS).await;
    for round in 0..4 {
        let running = pair.stream();
        pair.here.batch(&format!("INSERT INTO item VALUES ({round}, 'x')")).await;
        pair.caught_up(&running).await;
        running.kill().await;
    }
    let running = pair.stream();
    let held = progress(&pair.target).await;
    for _ in 0..40 {
        if slot_position(&pair.source).await >= held {
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    running.kill().await;
    pair.target.kill9();
    let confirmed = slot_position(&pair.source).await;
    pair.target.start().await;
    let held = progress(&pair.target).await;
    assert!(confirmed <= held, "confirmed {confirmed}, but the target holds {held}");
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_not_applied_again() {
    let pair = pair("CREATE TABLE journal (n int);").await;
    pair.there
        .batch(
            "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_catalog.pg_sleep(0.4); RETURN NULL; END';
             CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON journal DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW WHEN (NEW.n = 7) EXECUTE FUNCTION dawdle();
             ALTER TABLE journal ENABLE ALWAYS TRIGGER slow",
        )
        .await;
    let leg = Proxy::start(pair.target.port()).await.unwrap();
    let mut job = pair.job();
    let url = leg.url(&pair.target.url("app"), pair.target.port());
    job.destination = pgstream_engine::stream::Destination::Postgres(server(&url));
    let running = Running::start(job);
    pair.caught_up(&running).await;
    for _ in 0..3 {
        pair.here.batch("INSERT INTO journal VALUES (7)").await;
        let committing = "SELECT count(*) FROM pg_stat_activity WHERE query = 'COMMIT' AND state = 'active' AND application_name = 'pgstream-aws apply'";
        pair.target.client("app").await.wait_until(committing, "1").await;
        let before = pair.there.scalar::<i64>("SELECT count(*) FROM journal").await;
        leg.stall();
        // The commit happens, nobody hears of it.
        pair.there.wait_until("SELECT count(*) FROM journal", &(before + 1).to_string()).await;
        leg.cut();
        leg.resume();
        pair.caught_up(&running).await;
    }
    assert!(running.monitor.read().reconnects >= 3);
    pair.assert_same().await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn timeouts_of_the_role_do_not_end_the_stream() {
    let pair = pair(ITEMS).await;
    pair.there
        .batch("ALTER ROLE postgres SET statement_timeout = '100ms'; ALTER ROLE postgres SET lock_timeout = '100ms'")
        .await;
    pair.there.batch("ALTER ROLE postgres SET idle_in_transaction_session_timeout = '200ms'").await;
    if pair.target.major() >= 14 {
        pair.there.batch("ALTER ROLE postgres SET idle_session_timeout = '300ms'").await;
    }
    if pair.target.major() >= 17 {
        pair.there.batch("ALTER ROLE postgres SET transaction_timeout = '300ms'").await;
    }
    let running = pair.stream();
    pair.caught_up(&running).await;
    pair.there.batch("BEGIN; LOCK TABLE item").await;
    pair.here.batch("INSERT INTO item VALUES (1, 'waits')").await;
    sleep(Duration::from_millis(1200)).await;
    pair.there.batch("COMMIT").await;
    pair.caught_up(&running).await;
    assert_eq!(running.monitor.read().reconnects, 0, "{:?}", running.monitor.read().last_error);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn the_source_hears_from_a_stream_whose_target_is_locked() {
    let patient = Cluster::builder().major(source_major()).setting("wal_sender_timeout", "2s");
    let (source, target) = pair_with(patient, Cluster::builder().major(target_major())).await;
    let pair = pair_on(source, target, ITEMS).await;
    let mut job = pair.job();
    job.limits = Limits { bytes: 64 << 10, changes: 100 };
    let running = Running::start(job);
    pair.caught_up(&running).await;
    let watch = SlotWatch::start(&pair);
    pair.there.batch("BEGIN; LOCK TABLE item").await;
    for n in 0..6 {
        pair.here
            .batch(&format!(
                "INSERT INTO item SELECT {n} * 1000 + i, repeat('x', 1000) FROM generate_series(1, 900) AS i"
            ))
            .await;
        sleep(Duration::from_secs(1)).await;
    }
    pair.there.batch("COMMIT").await;
    pair.caught_up(&running).await;
    assert_eq!(running.monitor.read().reconnects, 0, "{:?}", running.monitor.read().last_error);
    watch.stop().await;
    pair.assert_same().await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn the_smallest_limits_still_move() {
    let pair = pair(ITEMS).await;
    let mut job = pair.job();
    job.limits = Limits { bytes: 0, changes: 0 };
    let running = Running::start(job);
    pair.here
        .batch("INSERT INTO item SELECT n, 'x' FROM generate_series(1, 20) AS n; UPDATE item SET name = 'y'")
        .await;
    pair.caught_up(&running).await;
    pair.assert_same().await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_stop_inside_a_huge_transaction_rolls_it_back_and_resumes() {
    let pair = pair("CREATE TABLE item (id int PRIMARY KEY, name text); CREATE TABLE journal (n int); ALTER TABLE journal REPLICA IDENTITY FULL;").await;
    let mut job = pair.job();
    job.limits = Limits { bytes: 16 << 10, changes: 50 };
    for round in 0..3 {
        let running = Running::start(job.clone());
        pair.here
            .batch(&format!(
                "BEGIN; INSERT INTO item SELECT {round} * 100000 + n, 'item' FROM generate_series(1, 20000) AS n;
                 INSERT INTO journal SELECT n % 7 FROM generate_series(1, 2000) AS n;
                 DELETE FROM journal WHERE ctid IN (SELECT ctid FROM journal WHERE n = 3 LIMIT 9); COMMIT"
            ))
            .await;
        let inside = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgstream-aws apply' AND backend_xid IS NOT NULL";
        pair.there.wait_until(inside, "1").await;
        let before = pair.there.scalar::<i64>("SELECT count(*) FROM journal").await;
        let stopping = std::time::Instant::now();
        if round % 2 == 0 {
            running.stop().await.unwrap()
        } else {
            running.kill().await
        }
        assert!(stopping.elapsed() < Duration::from_secs(10));
        let after = pair.there.scalar::<i64>("SELECT count(*) FROM journal").await;
        assert!(before == after || after % 1991 == 0, "{before} {after}");
    }
    let running = Running::start(job);
    pair.caught_up(&running).await;
    pair.assert_same().await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_restarted_sequence_is_carried_over_when_the_stream_stops() {
    let pair = pair("CREATE TABLE item (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY);").await;
    let running = pair.stream();
    pair.here.batch("INSERT INTO item SELECT FROM generate_series(1, 40)").await;
    pair.caught_up(&running).await;
    pair.there.wait_until("SELECT last_value FROM item_id_seq", "40").await;
    // Forth to the same value, after the target has restarted its own.
    pair.here.batch("TRUNCATE item RESTART IDENTITY; INSERT INTO item SELECT FROM generate_series(1, 40)").await;
    pair.caught_up(&running).await;
    running.stop().await.unwrap();
    assert_eq!(pair.there.scalar::<i64>("SELECT last_value FROM item_id_seq").await, 40);
}

#[tokio::test]
async fn a_publication_dropped_while_streaming_stops_it() {
    let pair = pair(ITEMS).await;
    let running = pair.stream();
    pair.caught_up(&running).await;
    pair.here.batch(&format!("DROP PUBLICATION {PUBLICATION}")).await;
    pair.here.batch("INSERT INTO item VALUES (1, 'unpublished')").await;
    let error = running.failure().await;
    assert!(matches!(error, Error::PublicationMissing { .. }), "{}", describe(&error));
}

#[tokio::test]
async fn a_publication_dropped_on_an_idle_source_stops_it() {
    let pair = pair(ITEMS).await;
    let running = pair.stream();
    pair.caught_up(&running).await;
    pair.here.batch(&format!("DROP PUBLICATION {PUBLICATION}")).await;
    let error = running.failure().await;
    assert!(matches!(error, Error::PublicationMissing { .. }), "{}", describe(&error));
}

/// Even when the publication is back before anybody looks: what it missed is never passed over.
#[tokio::test]
async fn a_publication_that_was_away_for_a_moment_skips_nothing() {
    let pair = pair(ITEMS).await;
    let running = pair.stream();
    pair.caught_up(&running).await;
    pair.target.pause();
    pair.here.batch(&format!("DROP PUBLICATION {PUBLICATION}")).await;
    pair.here.batch("INSERT INTO item VALUES (1, 'unpublished')").await;
    pair.here.batch(&format!("CREATE PUBLICATION {PUBLICATION} FOR ALL TABLES")).await;
    pair.here.batch("INSERT INTO item VALUES (2, 'published')").await;
    pair.target.resume();
    let error = running.failure().await;
    assert!(matches!(error, Error::Postgres(_) | Error::PublicationMissing { .. }), "{}", describe(&error));
    assert_eq!(pair.there.scalar::<i64>("SELECT count(*) FROM item").await, 0);
}

#[tokio::test]
async fn a_slot_that_was_advanced_is_ahead_of_the_target() {
    let pair = pair(ITEMS).await;
    pair.follows("INSERT INTO item VALUES (1, 'a')").await;
    pair.here.batch("INSERT INTO item VALUES (2, 'lost')").await;
    pair.here.batch(&format!("SELECT pg_replication_slot_advance('{SLOT}', pg_current_wal_lsn())")).await;
    let error = pair.refuses("INSERT INTO item VALUES (3, 'c')").await;
    assert!(matches!(error, Error::SlotAhead { .. }), "{error}");
    assert_eq!(pair.there.scalar::<i64>("SELECT count(*) FROM item").await, 1);
}

/// The source was promoted: the stream goes on where the new timeline holds what the target has, and only there.
#[tokio::test]
async fn a_new_timeline_is_followed_from_before_its_fork_only() {
    let pair = pair(ITEMS).await;
    if pair.source.major() < 16 {
        return; // A standby has no logical slots to be promoted with.
    }
    pair.follows("INSERT INTO item VALUES (1, 'before')").await;
    pair.source.stop(Stop::Fast).await;
    std::fs::write(pair.source.data_dir().join("standby.signal"), "").unwrap();
    pair.source.start().await;
    let here = pair.source.client("app").await;
    here.batch("SELECT pg_promote()").await;
    assert_eq!(here.scalar::<i32>("SELECT timeline_id FROM pg_control_checkpoint()").await, 2);
    here.batch("INSERT INTO item VALUES (2, 'after')").await;
    let running = pair.stream();
    pair.there.wait_until("SELECT count(*) FROM item", "2").await;
    running.stop().await.unwrap();
    assert_eq!(pair.there.scalar::<i64>("SELECT timeline FROM pgstream.apply_progress").await, 2);
    // A target that had followed the old primary beyond the fork.
    pair.there
        .batch("UPDATE pgstream.apply_progress SET timeline = 1, commit_end_lsn = commit_end_lsn + 1000000")
        .await;
    let error = pair.stream().failure().await;
    assert!(matches!(error, Error::OtherTimeline { expected: 1, actual: 2, .. }), "{error}");
}
