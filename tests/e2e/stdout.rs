//! `target.stdout: {}`: changes as lines of JSON.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::replicator::{Pipeline, Replicator};

async fn printing(schema: &str) -> Pipeline {
    let mut pipeline = Pipeline::new(schema).await;
    pipeline.set("source.postgres.mode", "replication");
    pipeline.unset("target.postgres");
    pipeline.set("target.stdout", json!({}));
    pipeline.pgstream(&["init"]).await.ok();
    pipeline
}

/// Waits for the line of this marker row.
async fn printed(pipeline: &Pipeline, running: &mut Replicator, marker: i64) {
    pipeline.here().await.batch(&format!("INSERT INTO marker VALUES ({marker})")).await;
    let line = json!({"n": marker.to_string()});
    let deadline = Instant::now() + Duration::from_secs(30);
    while !lines(&running.stdout()).iter().any(|found| found["table"] == "marker" && found["new"] == line) {
        running.assert_running();
        assert!(Instant::now() < deadline, "marker {marker} is not printed\n{}", running.stderr());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Complete lines; each is JSON.
fn lines(text: &str) -> Vec<Value> {
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    complete.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

fn lsn(line: &Value) -> u64 {
    let (high, low) = line["lsn"].as_str().unwrap().split_once('/').unwrap();
    u64::from_str_radix(high, 16).unwrap() << 32 | u64::from_str_radix(low, 16).unwrap()
}

#[tokio::test]
async fn each_change_is_a_line_of_json() {
    let pipeline = printing("CREATE TABLE t (id int PRIMARY KEY, name text, at timestamptz)").await;
    let mut running = pipeline.run();
    pipeline
        .here()
        .await
        .batch(
            "INSERT INTO t VALUES (1, E'tab\\t \"quoted\" \\u00e9\\n', NULL); UPDATE t SET name = 'b'; UPDATE t SET id = 2;
             DELETE FROM t; TRUNCATE t",
        )
        .await;
    printed(&pipeline, &mut running, 1).await;
    let done = running.stop().await.ok();
    let found: Vec<Value> = lines(&done.out)
        .into_iter()
        .map(|mut line| {
            line.as_object_mut().unwrap().remove("lsn").unwrap();
            line
        })
        .collect();
    let line = |op: &str, old: Option<Value>, new: Option<Value>| {
        let mut line = json!({"op": op, "schema": "public", "table": "t"});
        let sides = [("old", old), ("new", new)];
        sides.into_iter().filter_map(|(side, row)| Some((side, row?))).for_each(|(side, row)| line[side] = row);
        line
    };
    let expected = [
        line("insert", None, Some(json!({"id": "1", "name": "tab\t \"quoted\" é\n", "at": null}))),
        line("update", None, Some(json!({"id": "1", "name": "b", "at": null}))),
        line("update", Some(json!({"id": "1"})), Some(json!({"id": "2", "name": "b", "at": null}))),
        line("delete", Some(json!({"id": "2"})), None),
        line("truncate", None, None),
    ];
    assert_eq!(found[..5], expected);
}

#[tokio::test]
async fn lines_come_in_commit_order_and_none_comes_again_after_a_stop() {
    let pipeline = printing("CREATE TABLE t (writer int, n int, PRIMARY KEY (writer, n))").await;
    const ROWS: i32 = 600;
    let writers: Vec<_> = (0..3)
        .map(|writer| {
            let url = pipeline.source.url("app");
            tokio::spawn(async move {
                let client = pgstream_testkit::Client::open(&url).await.unwrap();
                for n in 0..ROWS {
                    client.batch(&format!("INSERT INTO t VALUES ({writer}, {n})")).await;
                }
            })
        })
        .collect();
    let mut all = Vec::new();
    let mut marker = 0;
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) || marker < 3 {
        marker += 1;
        let mut running = pipeline.run();
        printed(&pipeline, &mut running, marker).await;
        all.extend(lines(&running.stop().await.ok().out));
    }
    let mut running = pipeline.run();
    printed(&pipeline, &mut running, marker + 1).await;
    all.extend(lines(&running.stop().await.ok().out));

    assert!(all.windows(2).all(|pair| lsn(&pair[0]) <= lsn(&pair[1])), "in commit order");
    let rows: Vec<String> =
        all.iter().filter(|line| line["table"] == "t").map(|line| line["new"].to_string()).collect();
    assert_eq!(rows.iter().collect::<BTreeSet<_>>().len(), 3 * ROWS as usize, "nothing is missing");
    assert_eq!(rows.len(), 3 * ROWS as usize, "nothing comes twice");
}

#[tokio::test]
async fn a_snapshot_cannot_go_to_standard_output() {
    let mut pipeline = printing("CREATE TABLE t (id int PRIMARY KEY)").await;
    pipeline.set("source.postgres.mode", "snapshot_and_replication");
    let refused = pipeline.pgstream(&["run"]).await.ends(2);
    assert!(refused.out.is_empty());
    refused.says(&["snapshot", "mode"]);
}
