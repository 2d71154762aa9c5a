//! What does not fit stops the stream, named, with nothing of its transaction applied.

use pgstream_engine::stream::Error;

use crate::harness::{describe, pair};

const ITEMS: &str = "CREATE TABLE item (id int PRIMARY KEY, name text, qty int);";

#[tokio::test]
async fn a_missing_row_stops_the_stream_and_is_named() {
    let pair = pair(ITEMS).await;
    pair.follows("INSERT INTO item VALUES (1, 'a', 1), (2, 'b', 2)").await;
    pair.there.batch("DELETE FROM item WHERE id = 2").await;
    let error =
        pair.refuses("BEGIN; UPDATE item SET qty = 9 WHERE id = 1; UPDATE item SET qty = 9 WHERE id = 2; COMMIT").await;
    let text = describe(&error);
    assert!(matches!(error, Error::Conflict { what: "UPDATE", .. }), "{text}");
    assert!(text.contains("\"public\".\"item\"") && text.contains("the row is not on the target"), "{text}");
    assert_eq!(pair.there.scalar::<i32>("SELECT qty FROM item WHERE id = 1").await, 1, "the transaction is whole");
}

#[tokio::test]
async fn among_many_rows_without_a_key_the_missing_one_is_named() {
    let pair = pair("CREATE TABLE log (a int, b text); ALTER TABLE log REPLICA IDENTITY FULL;").await;
    pair.follows("INSERT INTO log SELECT n % 100, 'x' FROM generate_series(1, 300) AS n").await;
    pair.there.batch("DELETE FROM log WHERE ctid = (SELECT min(ctid) FROM log WHERE a = 50)").await;
    let error = pair.refuses("BEGIN; INSERT INTO log VALUES (1, 'y'); DELETE FROM log WHERE a >= 50; COMMIT").await;
    let text = describe(&error);
    assert!(matches!(error, Error::Conflict { what: "DELETE", .. }), "{text}");
    assert!(text.contains("\"public\".\"log\"") && text.contains("the row is not on the target"), "{text}");
    assert_eq!(pair.there.scalar::<i64>("SELECT count(*) FROM log").await, 299, "the transaction is whole");
    // What was missing comes back, and the stream goes on where it was.
    pair.there.batch("INSERT INTO log VALUES (50, 'x')").await;
    pair.follows("UPDATE log SET b = 'z' WHERE a < 10").await;
}

#[tokio::test]
async fn a_rogue_row_stops_the_stream_until_it_is_gone() {
    let pair = pair(ITEMS).await;
    pair.there.batch("INSERT INTO item VALUES (5, 'secret-value', 0)").await;
    let error = pair.refuses("INSERT INTO item SELECT n, 'n', n FROM generate_series(1, 10) AS n").await;
    let text = describe(&error);
    assert!(matches!(error, Error::Conflict { what: "INSERT", .. }), "{text}");
    assert!(!text.contains("secret-value") && !text.contains("(id)=(5)"), "no row values: {text}");
    pair.there.batch("DELETE FROM item WHERE id = 5").await;
    pair.follows("INSERT INTO item VALUES (11, 'after', 1)").await;
}

#[tokio::test]
async fn a_table_that_is_not_on_the_target_stops_the_stream() {
    let pair = pair(ITEMS).await;
    let error = pair.refuses("CREATE TABLE fresh (id int PRIMARY KEY); INSERT INTO fresh VALUES (1)").await;
    assert!(matches!(&error, Error::TableMissing { table, .. } if table.name == "fresh"), "{error}");
    pair.there.batch("CREATE TABLE fresh (id int PRIMARY KEY)").await;
    pair.follows("INSERT INTO fresh VALUES (2)").await;
}

#[tokio::test]
async fn another_shape_stops_the_stream_with_every_difference() {
    let pair = pair("CREATE TABLE item (id int PRIMARY KEY, a int, b numeric(10, 2), c text);").await;
    pair.there
        .batch(
            "ALTER TABLE item ALTER a TYPE bigint, ALTER b TYPE numeric(10, 1), DROP c, ADD must text NOT NULL, ADD may text",
        )
        .await;
    let error = pair.refuses("INSERT INTO item VALUES (1, 1, 1.25, 'x')").await;
    let Error::Shape { differences, repair, .. } = &error else { panic!("{error}") };
    assert_eq!(differences.len(), 4, "{error}");
    for part in ["\"a\"", "\"b\"", "\"c\" is missing", "\"must\""] {
        assert!(error.to_string().contains(part), "{part} in {error}");
    }
    // What is printed is what mends it.
    pair.there.batch(&repair.join("\n")).await;
    let running = pair.stream();
    pair.here.batch("UPDATE item SET c = 'y'").await;
    pair.caught_up(&running).await;
    assert_eq!(pair.there.scalar::<String>("SELECT concat(a, b, c) FROM item").await, "11.25y");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_column_added_on_the_source_only_stops_the_stream() {
    let pair = pair(ITEMS).await;
    pair.follows("INSERT INTO item VALUES (1, 'a', 1)").await;
    let error = pair.refuses("ALTER TABLE item ADD colour text; INSERT INTO item VALUES (2, 'b', 2, 'red')").await;
    assert!(error.to_string().contains("column \"colour\" is missing"), "{error}");
    pair.there.batch("ALTER TABLE item ADD colour text").await;
    pair.follows("UPDATE item SET colour = 'blue'").await;
}

#[tokio::test]
async fn foreign_keys_hold_while_they_are_checked() {
    let pair = pair(
        "CREATE TABLE parent (id int PRIMARY KEY);
         CREATE TABLE child (id int PRIMARY KEY, parent_id int REFERENCES parent ON DELETE CASCADE);
         CREATE TABLE grandchild (id int PRIMARY KEY, child_id int REFERENCES child ON DELETE CASCADE);
         CREATE TABLE loose (id int PRIMARY KEY, parent_id int REFERENCES parent ON DELETE SET NULL);
         CREATE TABLE node (id int PRIMARY KEY, up int REFERENCES node);
         CREATE TABLE egg (id int PRIMARY KEY, hen int);
         CREATE TABLE hen (id int PRIMARY KEY, egg int REFERENCES egg DEFERRABLE INITIALLY DEFERRED);
         ALTER TABLE egg ADD FOREIGN KEY (hen) REFERENCES hen DEFERRABLE INITIALLY DEFERRED;",
    )
    .await;
    let mut job = pair.job();
    job.disable_triggers = Some(false);
    let running = crate::harness::Running::start(job);
    pair.here
        .batch(
            "BEGIN; INSERT INTO parent SELECT generate_series(1, 100); INSERT INTO child SELECT n, n FROM generate_series(1, 100) AS n;
             INSERT INTO grandchild SELECT n, n FROM generate_series(1, 100) AS n; INSERT INTO loose SELECT n, n FROM generate_series(1, 100) AS n; COMMIT;
             INSERT INTO node VALUES (1, 2), (2, NULL), (3, 1);
             BEGIN; INSERT INTO egg VALUES (1, 1); INSERT INTO hen VALUES (1, 1); COMMIT;
             DELETE FROM parent WHERE id <= 30;
             BEGIN; UPDATE child SET parent_id = 99 WHERE parent_id = 98; DELETE FROM parent WHERE id = 98; COMMIT;
             BEGIN; INSERT INTO parent VALUES (200); UPDATE child SET parent_id = 200 WHERE id = 50; COMMIT",
        )
        .await;
    pair.caught_up(&running).await;
    pair.assert_same().await;
    // Row by row, because a key changes: the cascades of the target run before the deletes of the source arrive.
    pair.here
        .batch("BEGIN; UPDATE node SET id = 30 WHERE id = 3; DELETE FROM parent WHERE id = 60; COMMIT; DELETE FROM node WHERE id = 30")
        .await;
    pair.caught_up(&running).await;
    pair.assert_same().await;
    running.stop().await.unwrap();
}
