//! Clusters: they start, die, come back, and leave nothing.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use pgstream_testkit::{Cluster, Stop, cluster, pair_of, pinned_majors};

/// Whether a process runs; one that is dead but not collected yet does not.
fn is_alive(pid: u32) -> bool {
    if Path::new("/proc/self").exists() {
        return std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    }
    let ps = std::process::Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output().unwrap();
    !ps.stdout.is_empty() && !ps.stdout.starts_with(b"Z")
}

#[tokio::test]
async fn committed_rows_survive_a_crash_and_the_port_stays() {
    let cluster = cluster().await;
    let port = cluster.port();
    cluster.client("app").await.batch("CREATE TABLE t (id int); INSERT INTO t VALUES (1)").await;
    for _ in 0..3 {
        cluster.kill9();
        assert!(!cluster.is_running());
        assert!(cluster.try_client("app").await.is_err());
        cluster.start().await;
    }
    assert_eq!(cluster.port(), port);
    cluster.client("app").await.wait_until("SELECT count(*) FROM t", "1").await;
    assert!(cluster.log().contains("automatic recovery in progress"), "{}", cluster.log());
    cluster.restart(Stop::Fast).await;
    cluster.client("app").await.wait_until("SELECT count(*) FROM t", "1").await;
}

#[tokio::test]
async fn nothing_is_left_after_drop() {
    let cluster = cluster().await;
    let (pid, data) = (cluster.postmaster_pid(), cluster.data_dir().to_owned());
    assert!(is_alive(pid));
    drop(cluster);
    assert!(!is_alive(pid));
    assert!(!Path::new(&data).parent().unwrap().exists());
}

#[tokio::test]
async fn a_paused_server_is_silent_then_answers() {
    let cluster = cluster().await;
    let client = cluster.client("app").await;
    cluster.pause();
    let query = client.text("SELECT 1");
    tokio::pin!(query);
    let silent = tokio::time::timeout(std::time::Duration::from_millis(200), &mut query).await;
    assert!(silent.is_err());
    cluster.resume();
    assert_eq!(query.await.as_deref(), Some("1"));
    cluster.pause();
    let pid = cluster.postmaster_pid();
    drop(cluster);
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn every_pinned_version_starts() {
    for majors in pinned_majors().chunks(2) {
        let (one, two) = pair_of(majors[0], majors[1]).await;
        assert_ne!(one.port(), two.port());
        for (cluster, major) in [(&one, majors[0]), (&two, majors[1])] {
            let version: String = cluster.client("app").await.scalar("SHOW server_version_num").await;
            assert_eq!(version.parse::<u32>().unwrap() / 10_000, major);
            assert_eq!(cluster.client("app").await.text("SHOW wal_level").await.as_deref(), Some("logical"));
        }
    }
}

#[tokio::test]
async fn settings_hba_and_tls_reach_the_server() {
    let cluster = Cluster::builder()
        .setting("wal_sender_timeout", "3s")
        .hba("hostnossl all all all reject")
        .tls()
        .start()
        .await
        .unwrap();
    let client = cluster.client("postgres").await;
    assert_eq!(client.text("SHOW ssl").await.as_deref(), Some("on"));
    assert_eq!(client.text("SHOW wal_sender_timeout").await.as_deref(), Some("3s"));
    assert!(cluster.ca_file().is_file());
    let refused = pgstream_testkit::Client::open(&cluster.url("postgres")).await.err().unwrap();
    assert!(refused.to_string().contains("28000"), "{refused}");
}

#[tokio::test]
async fn a_server_that_does_not_start_shows_its_log() {
    let error = Cluster::builder().setting("shared_buffers", "none").start().await.unwrap_err();
    assert!(error.to_string().contains("invalid value for parameter \"shared_buffers\""), "{error}");
}

/// Run by the test below in a process of its own, which is then killed.
#[tokio::test]
#[ignore = "a part of another test"]
async fn hold_a_cluster_until_killed() {
    let cluster = cluster().await;
    cluster.pause();
    println!("\ncluster {} {}", cluster.postmaster_pid(), cluster.data_dir().display());
    std::future::pending::<()>().await;
}

#[test]
fn nothing_is_left_after_the_test_process_is_killed() {
    use std::io::{BufRead, BufReader};

    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "hold_a_cluster_until_killed", "--ignored", "--nocapture"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let line = lines.into_iter().find_map(|line| line.strip_prefix("cluster ").map(str::to_owned)).unwrap();
    let (pid, data) = line.split_once(' ').unwrap();
    let pid = pid.parse().unwrap();
    assert!(is_alive(pid));
    child.kill().unwrap();
    child.wait().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while is_alive(pid) || Path::new(data).parent().unwrap().exists() {
        assert!(std::time::Instant::now() < deadline, "{pid} {data} is still there");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
