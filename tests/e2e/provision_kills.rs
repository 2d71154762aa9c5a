//! `provision` killed (SIGKILL) between any two calls: the next run comes to the same end.
//!
//! ```text
//!  n = 1, 2, 3, …   apply ──call 1──> … ──call n──> done, and never answered ──> SIGKILL
//!                   apply ──> the end that one run alone comes to, after one reboot
//!                   apply ──> changes nothing
//! ```
//! Nothing of a run is left but what its calls did: a run killed before call n + 1 is one killed after call n.

use std::time::{Duration, Instant};

use pgstream_testkit::Cluster as Server;
use rds_sim::{Fault, Instance};
use tokio::task::JoinSet;

use crate::{
    account::{Account, Topology},
    replicator::Replicator,
};

/// Runs side by side: most of a run is waiting for the next state.
const LANES: usize = 6;
/// More calls than any run makes.
const MOST_CALLS: usize = 500;

#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Killed,
    /// It came to its end before that call.
    ByItself,
}

/// Waits until a call has met its fault, and kills.
async fn kill_when_silent(account: &Account, mut running: Replicator) -> Ended {
    let deadline = Instant::now() + Duration::from_secs(120);
    while account.simulator.faults().struck() == 0 {
        if let Some(status) = running.poll() {
            assert!(status.success(), "{}\n{}", running.stdout(), running.stderr());
            account.simulator.faults().clear();
            return Ended::ByItself;
        }
        assert!(Instant::now() < deadline, "it never came to that call\n{}", running.stdout());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    running.kill9();
    account.simulator.faults().clear();
    Ended::Killed
}

async fn killed_after(topology: Topology, n: usize) -> Ended {
    let account = Account::with(topology).await;
    account.simulator.faults().after(n - 1, Fault::HangAfter);
    let ended = kill_when_silent(&account, account.start(&["apply", "shop", "--yes"])).await;
    let how = format!("{topology:?} killed after call {n}, {}", account.simulator.calls().last().unwrap().action);
    account.provision(&["apply", "shop", "--yes"]).await.ok().prints(&["Done"]);
    account.assert_ready(&how);
    let changes = account.changes();
    account.provision(&["apply", "shop", "--yes"]).await.ok().prints(&["nothing was changed"]);
    assert_eq!(account.changes(), changes, "{how}");
    ended
}

async fn rollback_killed_after(topology: Topology, n: usize) -> Ended {
    let account = Account::with(topology).await;
    account.provision(&["apply", "shop", "--yes"]).await.ok();
    account.simulator.faults().after(n - 1, Fault::HangAfter);
    let ended = kill_when_silent(&account, account.start(&["rollback", "shop", "--yes"])).await;
    let how = format!("{topology:?} killed after call {n}, {}", account.simulator.calls().last().unwrap().action);
    account.provision(&["rollback", "shop", "--yes"]).await.ok().prints(&["Done"]);
    account.assert_as_before(&how);
    assert_eq!(account.simulator.seen("shop").reboots, 2, "{how}");
    let changes = account.changes();
    account.provision(&["rollback", "shop", "--yes"]).await.ok().prints(&["nothing was changed"]);
    assert_eq!(account.changes(), changes, "{how}");
    ended
}

/// Kills at every call, until a run ends before it. Returns how many there were.
async fn at_every_call<F>(run: impl Fn(usize) -> F) -> usize
where
    F: Future<Output = Ended> + Send + 'static,
{
    let mut lanes = JoinSet::new();
    let mut next = 1;
    let mut killed = 0;
    let mut over = false;
    loop {
        while !over && lanes.len() < LANES && next < MOST_CALLS {
            lanes.spawn(run(next));
            next += 1;
        }
        match lanes.join_next().await {
            Some(Ok(Ended::Killed)) => killed += 1,
            Some(Ok(Ended::ByItself)) => over = true,
            Some(Err(failed)) => std::panic::resume_unwind(failed.into_panic()),
            None => break,
        }
    }
    assert!(over, "still calling after {MOST_CALLS} calls");
    killed
}

/// Eight calls to look, five times; four changes; and waiting in between.
const LEAST_CALLS: usize = 44;

#[tokio::test]
async fn an_instance_killed_after_any_call_is_brought_to_the_same_end() {
    assert!(at_every_call(|n| killed_after(Topology::Instance, n)).await >= LEAST_CALLS);
}

#[tokio::test]
async fn an_aurora_cluster_killed_after_any_call_is_brought_to_the_same_end() {
    assert!(at_every_call(|n| killed_after(Topology::Aurora, n)).await >= LEAST_CALLS);
}

#[tokio::test]
async fn a_multi_az_cluster_killed_after_any_call_is_brought_to_the_same_end() {
    assert!(at_every_call(|n| killed_after(Topology::MultiAzCluster, n)).await >= LEAST_CALLS);
}

#[tokio::test]
async fn a_rollback_killed_after_any_call_is_brought_to_the_same_end() {
    assert!(at_every_call(|n| rollback_killed_after(Topology::Instance, n)).await >= 30);
}

async fn started(server: &Server) -> String {
    server.client("app").await.text("SELECT pg_postmaster_start_time()::text").await.unwrap()
}

#[tokio::test]
async fn a_real_server_is_restarted_once_whatever_change_the_run_was_killed_at() {
    let account = Account::new().await;
    let actions = ["CreateDBParameterGroup", "ModifyDBParameterGroup", "ModifyDBInstance", "RebootDBInstance"];
    for (n, action) in actions.iter().enumerate() {
        let id = format!("shop{n}");
        let shop = account.simulator.create_instance(Instance::new(&id)).await.unwrap();
        let before = started(shop.cluster()).await;
        let url = shop.url("app");
        let apply = ["apply", &id, "--postgres-url", &url, "--yes"];
        let struck = account.simulator.faults().struck();
        account.simulator.faults().next(action, usize::MAX, Fault::HangAfter);
        let mut running = account.start(&apply);
        let deadline = Instant::now() + Duration::from_secs(120);
        while account.simulator.faults().struck() == struck {
            running.assert_running();
            assert!(Instant::now() < deadline, "it never came to {action}\n{}", running.stdout());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        running.kill9();
        account.simulator.faults().clear();

        account.provision(&apply).await.ok().prints(&["test slot", "created and dropped"]);
        assert_eq!(shop.cluster().client("app").await.text("SHOW wal_level").await.as_deref(), Some("logical"));
        assert_ne!(started(shop.cluster()).await, before);
        assert_eq!(account.simulator.seen(&id).reboots, 1, "{action}");
        let changes = account.changes();
        account.provision(&apply).await.ok().prints(&["nothing was changed"]);
        assert_eq!(account.changes(), changes, "{action}");
    }
}
