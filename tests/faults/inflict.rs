//! How each fault is done, and undone.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use pgstream_testkit::Edge;
use tokio::time::{sleep, timeout};

use crate::{
    fault::{Fault, Side},
    rig::Rig,
};

/// The load commits all the time; so long no COMMIT may pass.
const NEXT_COMMIT: Duration = Duration::from_secs(60);
/// A byte that is waited for comes by the keepalives at the latest.
const NEXT_BYTES: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

const OURS: &str = "application_name LIKE 'pgstream-aws%' AND pid <> pg_backend_pid()";

impl Rig {
    /// Makes it happen; when this returns, it is over.
    pub async fn inflict(&mut self, fault: Fault) {
        self.latest = Some(fault);
        match fault {
            Fault::Killed => {
                self.kill();
                self.start();
            }
            Fault::KilledAt(edge) => {
                self.hold(edge).await;
                self.kill();
                self.target_leg.cut();
                self.target_leg.resume();
                self.start();
            }
            Fault::Restarted => {
                self.stop().await;
                self.start();
            }
            Fault::Stopped(time) => {
                signal("STOP", self.pid());
                sleep(time).await;
                signal("CONT", self.pid());
            }
            Fault::Rival(time) => {
                let rival = self.pipeline.run();
                sleep(time).await;
                drop(rival);
            }
            Fault::ServerKilled(side, time) => {
                self.server(side).kill9();
                sleep(time / 4).await;
                self.server(side).start().await;
            }
            Fault::TargetKilledAt(edge) => {
                self.hold(edge).await;
                self.server(Side::Target).kill9();
                self.target_leg.cut();
                self.target_leg.resume();
                self.server(Side::Target).start().await;
            }
            Fault::ServerShut(side, how) => self.server(side).restart(how).await,
            Fault::ServerStopped(side, time) => {
                self.server(side).pause();
                sleep(time).await;
                self.server(side).resume();
            }
            Fault::BackendKilled(side) => self.kill_backend(side).await,
            Fault::PowerCut => {
                self.kill();
                for side in [Side::Source, Side::Target] {
                    self.server(side).kill9();
                }
                tokio::join!(self.server(Side::Source).start(), self.server(Side::Target).start());
                self.start();
            }
            Fault::Terminated(side) => self.end_sessions(side, "terminate").await,
            Fault::Cancelled => self.end_sessions(Side::Target, "cancel").await,
            Fault::Timeouts(side) => self.set_timeouts(side).await,
            Fault::PasswordChanged(side) => {
                self.change_password(side).await;
                self.end_sessions(side, "terminate").await;
            }
            Fault::Locked(time) => self.lock(time).await,
            Fault::Deadlock => self.deadlock().await,
            Fault::Refusing { code, at_commit, time } => self.refuse_rows(code, at_commit, time).await,
            Fault::Cut(side) => self.leg(side).cut(),
            Fault::CutAfter(side, bytes) => {
                let until = self.leg(side).passed() + bytes;
                self.leg(side).cut_after(bytes);
                self.passed(side, until).await;
            }
            Fault::CutAt(edge) => {
                self.hold(edge).await;
                self.target_leg.cut();
                self.target_leg.resume();
            }
            Fault::Unreachable(side, time) => {
                self.leg(side).refuse();
                sleep(time).await;
                self.leg(side).resume();
            }
            Fault::Silent(side, time) => {
                self.leg(side).stall();
                sleep(time).await;
                self.leg(side).resume();
            }
            Fault::Slow(side, time) => {
                self.leg(side).throttle(20_000);
                sleep(time).await;
                self.leg(side).resume();
            }
            Fault::HalfClosed(side, flow) => self.leg(side).half_close(flow),
            Fault::Corrupted(side, bytes) => {
                let until = self.leg(side).passed() + bytes;
                self.leg(side).corrupt_after(bytes);
                self.passed(side, until).await;
            }
            Fault::CorruptedHandshake(side, bytes) => {
                let until = self.leg(side).passed() + bytes;
                self.leg(side).corrupt_after(bytes);
                self.leg(side).cut();
                self.passed(side, until).await;
            }
            Fault::DiskFull(side, time) => {
                self.server(side).disk().fill();
                sleep(time).await;
                self.server(side).disk().free();
            }
        }
    }

    /// Waits until a COMMIT is held on the way to the target.
    async fn hold(&self, edge: Edge) {
        let held = timeout(NEXT_COMMIT, self.target_leg.held_at(edge)).await;
        assert!(held.is_ok(), "nothing was committed on the target in {NEXT_COMMIT:?}");
    }

    /// Waits until so many bytes have passed on this leg.
    async fn passed(&self, side: Side, until: u64) {
        let deadline = Instant::now() + NEXT_BYTES;
        while self.leg(side).passed() < until {
            assert!(Instant::now() < deadline, "no bytes pass to the {side:?}");
            sleep(POLL).await;
        }
    }

    async fn end_sessions(&self, side: Side, how: &str) {
        let sql = format!("SELECT pg_{how}_backend(pid) FROM pg_stat_activity WHERE {OURS}");
        self.settled(side, &sql).await;
    }

    async fn kill_backend(&self, side: Side) {
        let sql = format!("SELECT pid FROM pg_stat_activity WHERE {OURS} ORDER BY random() LIMIT 1");
        let Ok(client) = self.server(side).try_client("app").await else { return };
        let Ok(rows) = client.as_ref().query(&sql, &[]).await else { return };
        if let Some(row) = rows.first() {
            signal("KILL", row.get::<_, i32>(0).unsigned_abs());
        }
        drop(client);
        self.settled(side, "SELECT").await;
    }

    /// The stream goes on under timeouts that would end any other session.
    async fn set_timeouts(&mut self, side: Side) {
        let mut names = vec!["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"];
        names.extend((self.server(side).major() >= 14).then_some("idle_session_timeout"));
        names.extend((self.server(side).major() >= 17).then_some("transaction_timeout"));
        let set: String = names.iter().map(|name| format!("ALTER DATABASE app SET {name} = '300ms';")).collect();
        self.settled(side, &set).await;
        self.end_sessions(side, "terminate").await;
        self.recovered().await;
        self.settled(side, "ALTER DATABASE app RESET ALL").await;
    }

    async fn lock(&self, time: Duration) {
        let Ok(client) = self.server(Side::Target).try_client("app").await else { return };
        let lock =
            "BEGIN; SET LOCAL lock_timeout = '5s'; LOCK TABLE load.accounts, load.items IN ACCESS EXCLUSIVE MODE";
        if client.batch_execute(lock).await.is_ok() {
            sleep(time).await;
        }
    }

    /// Holds one table until the applier waits for it, then asks for what the applier has. Either may be the victim.
    async fn deadlock(&self) {
        let Ok(client) = self.server(Side::Target).try_client("app").await else { return };
        let first = "BEGIN; SET LOCAL lock_timeout = '2s'; LOCK TABLE load.accounts IN SHARE MODE";
        if client.batch_execute(first).await.is_err() {
            return;
        }
        let waits = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'load.accounts'::regclass";
        let deadline = Instant::now() + Duration::from_secs(3);
        while client.as_ref().query(waits, &[]).await.is_ok_and(|rows| rows.is_empty()) && Instant::now() < deadline {
            sleep(POLL).await;
        }
        let others =
            "LOCK TABLE load.journal, load.items, load.orders, load.twins, load.side, load.events IN SHARE MODE";
        let _ = client.batch_execute(others).await;
        let _ = client.batch_execute("ROLLBACK").await;
    }

    async fn refuse_rows(&self, code: &str, at_commit: bool, time: Duration) {
        let when = if at_commit { "DEFERRABLE INITIALLY DEFERRED" } else { "NOT DEFERRABLE" };
        let sql = format!(
            "BEGIN; CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql
                 AS $$ BEGIN RAISE EXCEPTION 'refused for a while' USING ERRCODE = '{code}'; END $$;
             CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON load.journal {when} FOR EACH ROW EXECUTE FUNCTION public.refuse();
             ALTER TABLE load.journal ENABLE ALWAYS TRIGGER refuse; COMMIT"
        );
        self.settled(Side::Target, &sql).await;
        sleep(time).await;
        self.settled(Side::Target, "DROP FUNCTION IF EXISTS public.refuse() CASCADE").await;
    }
}

fn signal(name: &str, pid: u32) {
    let sent = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().unwrap();
    assert!(sent.success(), "kill -{name} {pid}");
}
