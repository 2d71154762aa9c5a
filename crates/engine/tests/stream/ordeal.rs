//! A stream under load, with proxies on both of its legs, and what can go wrong between them.
//!
//! ```text
//!  Load ─> source ─ proxy ─> stream ─ proxy ─> target <─ Conserved (the sum is read all the time)
//!            └────────── Slot::watch: confirmed_flush_lsn <= progress ──────────┘
//! ```

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use pgstream_engine::stream::{Job, Limits};
use pgstream_postgres::Lsn;
use pgstream_testkit::{
    Builder, Client, Cluster, Conserved, Load, Proxy, Stop, assert_accounts, assert_journal, pair_with, seed,
};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_postgres::error::SqlState;
use tokio_util::sync::CancellationToken;

use crate::harness::{Pair, Running, SLOT, pair_on, server};

/// What happens to the stream or to its servers.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// The stream is dropped in the middle of whatever it does, and started again.
    Kill,
    /// It is stopped as by SIGTERM, and started again.
    Stop,
    CutSource,
    CutTarget,
    /// The connections end after so many more bytes: inside a frame, a statement, an answer.
    CutSourceAfter(u64),
    CutTargetAfter(u64),
    StallSource,
    StallTarget,
    RefuseTarget,
    ThrottleTarget,
    PauseSource,
    PauseTarget,
    CrashSource,
    CrashTarget,
    RestartSource,
    RestartTarget,
    TerminateWalsender,
    TerminateApplier,
    TerminateSequences,
    CancelApplier,
    /// Somebody locks rows of the target in the opposite order.
    Deadlock,
    LockTable,
}

impl Fault {
    /// The fault that belongs to a random number.
    pub fn random(rng: &mut Random) -> Self {
        match rng.below(22) {
            0..=1 => Self::Kill,
            2 => Self::Stop,
            3 => Self::CutSource,
            4 => Self::CutTarget,
            5 => Self::CutSourceAfter(rng.below(20_000)),
            6..=7 => Self::CutTargetAfter(rng.below(30_000)),
            8 => Self::StallSource,
            9 => Self::StallTarget,
            10 => Self::RefuseTarget,
            11 => Self::ThrottleTarget,
            12 => Self::PauseSource,
            13 => Self::PauseTarget,
            14 => Self::CrashSource,
            15 => Self::CrashTarget,
            16 => {
                if rng.below(2) == 0 {
                    Self::RestartSource
                } else {
                    Self::RestartTarget
                }
            }
            17 => Self::TerminateWalsender,
            18 => Self::TerminateApplier,
            19 => {
                if rng.below(2) == 0 {
                    Self::TerminateSequences
                } else {
                    Self::CancelApplier
                }
            }
            20 => Self::Deadlock,
            _ => Self::LockTable,
        }
    }
}

/// Small numbers from a seed (xorshift).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Two servers under load, a stream between them.
pub struct Ordeal {
    pub pair: Pair,
    load: Option<Load>,
    pub rng: Random,
    pub faults: u64,
    source_leg: Proxy,
    target_leg: Proxy,
    job: Job,
    running: Option<Running>,
    sums: Conserved,
    slot: SlotWatch,
    markers: AtomicU64,
}

impl Ordeal {
    /// Starts everything; `change` may adjust the job.
    pub async fn begin(limits: Limits, change: impl FnOnce(&mut Job)) -> Self {
        let builder = |major| Cluster::builder().major(major);
        Self::begin_on(
            builder(pgstream_testkit::source_major()),
            builder(pgstream_testkit::target_major()),
            limits,
            change,
        )
        .await
    }

    /// The same on servers with settings.
    pub async fn begin_on(source: Builder, target: Builder, limits: Limits, change: impl FnOnce(&mut Job)) -> Self {
        let seed = seed();
        let (source, target) = pair_with(source, target).await;
        let pair = pair_on(source, target, Load::schema()).await;
        let (source_leg, target_leg) =
            (Proxy::start(pair.source.port()).await.unwrap(), Proxy::start(pair.target.port()).await.unwrap());
        let mut job = pair.job();
        job.source = server(&source_leg.url(&pair.source.url("app"), pair.source.port()));
        let target_url = target_leg.url(&pair.target.url("app"), pair.target.port());
        job.destination = pgstream_engine::stream::Destination::Postgres(server(&target_url));
        job.limits = limits;
        change(&mut job);
        let running = Some(Running::start(job.clone()));
        let load = Some(Load::start_paced(&pair.source.url("app"), seed, 3, Duration::from_millis(15)));
        let sums = Conserved::watch(&pair.target.url("app"));
        let slot = SlotWatch::start(&pair);
        let markers = AtomicU64::new(1_000_000);
        let ordeal = Self {
            pair,
            load,
            rng: Random::new(seed),
            faults: 0,
            source_leg,
            target_leg,
            job,
            running,
            sums,
            slot,
            markers,
        };
        // From here on the target has a position.
        ordeal.caught_up().await;
        ordeal
    }

    /// The stream, taken out; [`Self::restart`] puts a new one in its place.
    pub fn take_running(&mut self) -> Running {
        self.running.take().unwrap()
    }

    pub fn restart(&mut self) {
        self.running = Some(Running::start(self.job.clone()));
    }

    /// Another stream of the same job.
    pub fn second(&self) -> Running {
        Running::start(self.job.clone())
    }

    /// One more transaction on the source, beside the load: again when the two were in each other's way.
    pub async fn also(&self, sql: &str) {
        let client = self.pair.source.try_client("app").await.unwrap();
        while let Err(error) = client.batch_execute(sql).await {
            assert_eq!(error.code(), Some(&SqlState::T_R_DEADLOCK_DETECTED), "{error:?}");
            client.batch_execute("ROLLBACK").await.unwrap();
        }
    }

    pub fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    /// Lets the load go on, then makes something go wrong, and lets it get well again.
    pub async fn suffer(&mut self, fault: Fault) {
        let pause = Duration::from_millis(50 + self.rng.below(300));
        eprintln!("{:>3} {fault:?} ({pause:?})", self.faults);
        let more = 5 + self.rng.below(15);
        self.load.as_ref().unwrap().progress(more).await;
        self.faults += 1;
        let Self { pair, source_leg, target_leg, .. } = self;
        match fault {
            Fault::Kill => {
                self.running.take().unwrap().kill().await;
                self.running = Some(Running::start(self.job.clone()));
            }
            Fault::Stop => {
                self.running.take().unwrap().stop().await.expect("a stop is no failure");
                self.running = Some(Running::start(self.job.clone()));
            }
            Fault::CutSource => source_leg.cut(),
            Fault::CutTarget => target_leg.cut(),
            Fault::CutSourceAfter(bytes) => source_leg.cut_after(bytes),
            Fault::CutTargetAfter(bytes) => target_leg.cut_after(bytes),
            Fault::StallSource => {
                source_leg.stall();
                sleep(pause).await;
                source_leg.resume();
            }
            Fault::StallTarget => {
                target_leg.stall();
                sleep(pause).await;
                target_leg.resume();
            }
            Fault::RefuseTarget => {
                target_leg.refuse();
                sleep(pause).await;
                target_leg.resume();
            }
            Fault::ThrottleTarget => {
                target_leg.throttle(50_000);
                sleep(pause).await;
                target_leg.resume();
            }
            Fault::PauseSource => {
                pair.source.pause();
                sleep(pause).await;
                pair.source.resume();
            }
            Fault::PauseTarget => {
                pair.target.pause();
                sleep(pause).await;
                pair.target.resume();
            }
            Fault::CrashSource => {
                pair.source.kill9();
                pair.source.start().await;
            }
            Fault::CrashTarget => {
                pair.target.kill9();
                let confirmed = slot_position(&pair.source).await;
                pair.target.start().await;
                let progress = progress(&pair.target).await;
                assert!(confirmed <= progress, "confirmed {confirmed}, after the crash the target holds {progress}");
            }
            Fault::RestartSource => pair.source.restart(Stop::Immediate).await,
            Fault::RestartTarget => pair.target.restart(Stop::Fast).await,
            Fault::TerminateWalsender => signal(&pair.source, "terminate", "pgstream-aws replication").await,
            Fault::TerminateApplier => signal(&pair.target, "terminate", "pgstream-aws apply").await,
            Fault::TerminateSequences => signal(&pair.target, "terminate", "pgstream-aws sequences").await,
            Fault::CancelApplier => signal(&pair.target, "cancel", "pgstream-aws apply").await,
            Fault::Deadlock => deadlock(&pair.target, pause).await,
            Fault::LockTable => {
                let client = pair.target.client("app").await;
                client.batch("BEGIN; LOCK TABLE load.accounts IN EXCLUSIVE MODE").await;
                sleep(pause).await;
                client.batch("COMMIT").await;
            }
        }
    }

    /// Waits until the target has everything that the source has now.
    pub async fn caught_up(&self) {
        let n = self.markers.fetch_add(1, Ordering::Relaxed);
        let (source, target) = (self.pair.source.client("app").await, self.pair.target.client("app").await);
        source.batch(&format!("INSERT INTO public.marker VALUES ({n})")).await;
        let arrived = format!("SELECT count(*) FROM public.marker WHERE n = {n}");
        let (mut applied, mut since) = (String::new(), Instant::now());
        while target.text(&arrived).await.as_deref() != Some("1") {
            assert!(!self.running().is_finished(), "the stream ended: {:?}", self.running().error());
            let reading = self.running().monitor.read();
            if applied != reading.applied_lsn {
                (applied, since) = (reading.applied_lsn.clone(), Instant::now());
            }
            assert!(since.elapsed() < Duration::from_secs(30), "the stream stands still: {reading:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends the load and the stream, and checks everything that must be true.
    pub async fn end(mut self) {
        let report = self.load.take().unwrap().stop().await;
        self.caught_up().await;
        let reading = self.running().monitor.read();
        self.pair.assert_same().await;
        assert_journal(&self.pair.target, "app", &report).await;
        assert_accounts(&self.pair.target, "app").await;
        let reads = self.sums.stop().await;
        let samples = self.slot.stop().await;
        self.running.take().unwrap().stop().await.expect("a clean end");
        eprintln!(
            "{} faults, {} transactions, {} reconnects, {} fallbacks, {reads} sums, {samples} positions",
            self.faults,
            report.transactions(),
            reading.reconnects,
            reading.fallbacks
        );
    }
}

async fn signal(cluster: &Cluster, how: &str, application: &str) {
    cluster
        .client("app")
        .await
        .batch(&format!("SELECT pg_{how}_backend(pid) FROM pg_stat_activity WHERE application_name = '{application}'"))
        .await;
}

/// Locks a high account, then the lower ones; the applier goes upwards. Either may be the victim.
async fn deadlock(target: &Cluster, pause: Duration) {
    let client = target.client("app").await;
    let _ = client.as_ref().batch_execute("BEGIN; SELECT FROM load.accounts WHERE id > 500 FOR UPDATE").await;
    sleep(pause).await;
    let _ = client.as_ref().batch_execute("SELECT FROM load.accounts WHERE id <= 500 FOR UPDATE").await;
    let _ = client.as_ref().batch_execute("ROLLBACK").await;
}

pub async fn slot_position(source: &Cluster) -> Lsn {
    read_lsn(&source.client("app").await, SLOT_POSITION).await.unwrap()
}

pub async fn progress(target: &Cluster) -> Lsn {
    read_lsn(&target.client("app").await, PROGRESS).await.unwrap()
}

const PROGRESS: &str = "SELECT commit_end_lsn::text FROM pgstream.apply_progress";
const SLOT_POSITION: &str =
    "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = 'pgstream_app_slot'";

async fn read_lsn(client: &Client, sql: &str) -> Option<Lsn> {
    let row = client.as_ref().query_one(sql, &[]).await.ok()?;
    row.try_get::<_, Option<String>>(0).ok()??.parse().ok()
}

/// Compares what the slot has confirmed with what the target holds, all the time.
pub struct SlotWatch {
    cancel: CancellationToken,
    task: JoinHandle<(u64, Vec<String>)>,
}

impl SlotWatch {
    pub fn start(pair: &Pair) -> Self {
        assert_eq!(SLOT, "pgstream_app_slot");
        let cancel = CancellationToken::new();
        let (source, target) = (pair.source.url("app"), pair.target.url("app"));
        let task = tokio::spawn({
            let cancel = cancel.clone();
            async move {
                let (mut samples, mut wrong) = (0, Vec::new());
                while !cancel.is_cancelled() {
                    if let (Ok(source), Ok(target)) = (Client::open(&source).await, Client::open(&target).await) {
                        // The slot first: it may only follow.
                        while let (Some(confirmed), Some(progress), false) = (
                            read_lsn(&source, SLOT_POSITION).await,
                            read_lsn(&target, PROGRESS).await,
                            cancel.is_cancelled(),
                        ) {
                            samples += 1;
                            if confirmed > progress {
                                wrong.push(format!("{confirmed} > {progress}"));
                            }
                            sleep(Duration::from_millis(3)).await;
                        }
                    }
                    sleep(Duration::from_millis(30)).await;
                }
                (samples, wrong)
            }
        });
        Self { cancel, task }
    }

    pub async fn stop(self) -> u64 {
        self.cancel.cancel();
        let (samples, wrong) = timeout(Duration::from_secs(20), self.task).await.unwrap().unwrap();
        assert!(wrong.is_empty(), "confirmed ahead of the target: {wrong:?}");
        assert!(samples > 0, "never sampled");
        samples
    }
}
