//! No password in logs, arguments or process lists.

use std::{fs, time::Duration};

use crate::replicator::Pipeline;

const CANARY: &str = "canary-5ecret";

/// Command lines of the children of a process; empty arguments end them.
pub fn children(pid: u32) -> Vec<(u32, String)> {
    let processes =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let parent = |pid: u32| -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    processes.filter(|child| parent(*child) == Some(pid)).map(|child| (child, raw(child, "cmdline"))).collect()
}

pub fn raw(pid: u32, file: &str) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default()).replace('\0', " ")
}

#[tokio::test]
async fn passwords_show_nowhere() {
    let mut pipeline = Pipeline::new("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    let role = format!("CREATE ROLE secretive SUPERUSER LOGIN PASSWORD '{CANARY}'");
    pipeline.here().await.batch(&role).await;
    pipeline.there().await.batch(&role).await;
    pipeline.set("source.postgres.url", pipeline.source.url_as("secretive", CANARY, "app"));
    pipeline.set("target.postgres.url", pipeline.target.url_as("secretive", CANARY, "app"));
    pipeline.set("source.postgres.snapshot.schema.pgdump_pgrestore.roles_snapshot_mode", "enabled");
    let init = pipeline.pgstream(&["init", "--log-level", "trace"]).await.ok();
    assert!(!init.err.contains(CANARY) && !init.out.contains(CANARY), "{}", init.err);

    // pg_dump waits for this lock, and can be looked at.
    let mut locker = pipeline.here().await;
    let lock = locker.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut running = pipeline.start(&["run", "--log-level", "trace"]);
    let mut seen = false;
    for _ in 0..500 {
        for (child, arguments) in children(running.pid()) {
            assert!(!arguments.contains(CANARY), "{arguments}");
            let environment = raw(child, "environ");
            assert!(!environment.contains(CANARY), "{environment}");
            seen |= arguments.contains("pg_dump");
        }
        if seen {
            break;
        }
        running.assert_running();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(seen, "pg_dump was never seen\n{}", running.stderr());
    assert!(!raw(running.pid(), "cmdline").contains(CANARY));
    lock.commit().await.unwrap();

    pipeline.caught_up(&mut running).await;
    let done = running.stop().await.ok();
    assert!(done.err.contains("TRACE") || done.err.contains("DEBUG"), "everything is logged\n{}", done.err);
    assert!(!done.err.contains(CANARY) && !done.out.contains(CANARY));
    let status = pipeline.pgstream(&["status", "--json", "--log-level", "trace"]).await.ok();
    assert!(!status.err.contains(CANARY) && !status.out.contains(CANARY));
}
