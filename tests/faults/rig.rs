//! A pipeline under load of which every part can be broken.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use pgstream_testkit::{
    Builder, Cluster, Conserved, Load, Proxy, assert_accounts, assert_journal, pair_with, source_major, target_major,
};
use rand::{Rng, SeedableRng, rngs::SmallRng};

use crate::{
    fault::{Fault, SENDER_PATIENCE, Side},
    record::Record,
    replicator::{Pipeline, Replicator},
};

/// What differs between pipelines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As configured by default.
    Plain,
    /// Foreign keys of the target stay active, and nearly every transaction is larger than a batch.
    Checked,
    /// Both legs are encrypted.
    Encrypted,
}

/// A fault must be over by itself after this, on a machine that does other things.
const PATIENCE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(10);
const WORKERS: usize = 2;
/// The load leaves most of the machine to what is tested.
const PAUSE: Duration = Duration::from_millis(25);

/// Enough rows for a copy that takes a while, and tables for transactions that are large.
const WIDE: &str =
    "CREATE TABLE public.bulk AS SELECT g AS id, repeat('x', 300) AS filler FROM generate_series(1, 60000) g;
    CREATE TABLE public.more AS SELECT * FROM public.bulk;
    ALTER TABLE public.more ADD PRIMARY KEY (id);
    CREATE TABLE public.wide (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n int, filler text);
    CREATE TABLE public.loose (n int, filler text);";

/// The replicator's role, whose password changes.
const ROLE: &str = "follower";

pub struct Rig {
    pub kind: Kind,
    pub pipeline: Pipeline,
    pub source_leg: Proxy,
    pub target_leg: Proxy,
    pub rng: SmallRng,
    pub record: Record,
    running: Option<Replicator>,
    /// Whether the copy is still under way. Its first steps end at once when a server cannot be reached, and whoever
    /// started the process starts it again.
    copying: bool,
    load: Load,
    seed: u64,
    markers: i64,
    passwords: [u32; 2],
    pub latest: Option<Fault>,
}

impl Rig {
    /// A prepared source with a load; the copy has begun.
    pub async fn new(kind: Kind, seed: u64) -> Self {
        let encrypted = |builder: Builder| if kind == Kind::Encrypted { builder.tls() } else { builder };
        let patience = format!("{}ms", SENDER_PATIENCE.as_millis());
        let source = Cluster::builder().major(source_major()).setting("wal_sender_timeout", &patience);
        let target = Cluster::builder().major(target_major()).setting("deadlock_timeout", "200ms");
        let (source, target) =
            pair_with(encrypted(source.fillable_disk("base")), encrypted(target.fillable_disk("base"))).await;
        let pipeline = Pipeline::between(source, target, &format!("{}{WIDE}", Load::schema())).await;
        let source_leg = Proxy::start(pipeline.source.port()).await.unwrap();
        let target_leg = Proxy::start(pipeline.target.port()).await.unwrap();
        let load = Load::start_paced(&pipeline.source.url("app"), seed, WORKERS, PAUSE);
        let mut rig = Self {
            kind,
            pipeline,
            source_leg,
            target_leg,
            rng: SmallRng::seed_from_u64(seed ^ kind as u64),
            record: Record::default(),
            running: None,
            copying: true,
            load,
            seed,
            markers: 0,
            passwords: [0; 2],
            latest: None,
        };
        rig.configure().await;
        rig.pipeline.pgstream(&["init"]).await.ok();
        rig.start();
        rig
    }

    async fn configure(&mut self) {
        for side in [Side::Source, Side::Target] {
            let create = format!("CREATE ROLE {ROLE} SUPERUSER LOGIN");
            self.server(side).client("postgres").await.batch(&create).await;
            self.change_password(side).await;
        }
        let passfile = self.pipeline.file("passfile").display().to_string();
        let mode = if self.kind == Kind::Encrypted { "require" } else { "disable" };
        for (key, leg) in [("source", &self.source_leg), ("target", &self.target_leg)] {
            let url = format!(
                "postgresql://{ROLE}@127.0.0.1:{}/app?sslmode={mode}&passfile={}",
                leg.port(),
                passfile.replace('/', "%2F")
            );
            self.pipeline.set(&format!("{key}.postgres.url"), url);
        }
        if self.kind == Kind::Checked {
            self.pipeline.set("target.postgres.disable_triggers", false);
            self.pipeline.set("target.postgres.batch.size", 50);
        }
    }

    pub fn server(&self, side: Side) -> &Cluster {
        match side {
            Side::Source => &self.pipeline.source,
            Side::Target => &self.pipeline.target,
        }
    }

    pub fn leg(&self, side: Side) -> &Proxy {
        match side {
            Side::Source => &self.source_leg,
            Side::Target => &self.target_leg,
        }
    }

    /// Gives the replicator's role another password, and the passfile with it.
    pub async fn change_password(&mut self, side: Side) {
        self.passwords[side as usize] += 1;
        let line = |side: Side| {
            format!("127.0.0.1:{}:*:{ROLE}:secret{}\n", self.leg(side).port(), self.passwords[side as usize])
        };
        let (path, new) = (self.pipeline.file("passfile"), self.pipeline.file("passfile.new"));
        fs::write(&new, line(Side::Source) + &line(Side::Target)).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(new, path).unwrap();
        let alter = format!("ALTER ROLE {ROLE} PASSWORD 'secret{}'", self.passwords[side as usize]);
        self.settled(side, &alter).await;
    }

    /// Runs a statement until the server has done it.
    pub async fn settled(&self, side: Side, sql: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(client) = self.server(side).try_client("app").await {
                match client.batch_execute(sql).await {
                    Ok(()) => return,
                    Err(error) => assert!(Instant::now() < deadline, "{sql}: {error:?}"),
                }
            }
            assert!(Instant::now() < deadline, "the {side:?} is not back\n{}", self.server(side).log_tail());
            tokio::time::sleep(POLL).await;
        }
    }

    pub fn start(&mut self) {
        self.running = Some(self.pipeline.run());
    }

    pub fn kill(&mut self) {
        self.supervise();
        self.running.take().unwrap().kill9();
    }

    pub async fn stop(&mut self) {
        self.supervise();
        self.running.take().unwrap().stop().await.ok();
    }

    pub fn pid(&self) -> u32 {
        self.running.as_ref().unwrap().pid()
    }

    /// A large transaction now and then: rows with and without a key come, change and go.
    pub async fn large_transaction(&mut self) {
        let rows = self.rng.random_range(200..2000);
        let changes = format!(
            "BEGIN; INSERT INTO public.wide (n, filler) SELECT g, repeat('y', 100) FROM generate_series(1, {rows}) g;
             SAVEPOINT s; INSERT INTO public.loose SELECT g, 'undone' FROM generate_series(1, 50) g; ROLLBACK TO s;
             UPDATE public.wide SET n = -n WHERE id % 7 = 0; DELETE FROM public.wide WHERE n % 3 = 0;
             INSERT INTO public.loose SELECT g % 10, repeat('z', 60) FROM generate_series(1, {rows} / 2) g; COMMIT"
        );
        let all = if self.rng.random_ratio(1, 3) { "TRUNCATE public.loose; DELETE FROM public.wide;" } else { "" };
        // Whether it was done when the answer is lost does not matter: both sides are compared.
        if let Ok(here) = self.pipeline.source.try_client("app").await {
            let _ = here.batch_execute(all).await;
            let _ = here.batch_execute(&changes).await;
        }
    }

    /// Waits until a change that is made now is on the target; returns how long that took.
    pub async fn recovered(&mut self) -> Duration {
        let since = Instant::now();
        self.markers -= 1;
        let n = self.markers;
        let insert = format!("INSERT INTO public.marker VALUES ({n}) ON CONFLICT DO NOTHING");
        self.settled(Side::Source, &insert).await;
        let arrived = format!("SELECT n FROM public.marker WHERE n = {n}");
        loop {
            if let Ok(there) = self.pipeline.target.try_client("app").await {
                while let Ok(rows) = there.as_ref().query(&arrived, &[]).await {
                    if !rows.is_empty() {
                        return since.elapsed();
                    }
                    self.look_after(since).await;
                }
            }
            self.look_after(since).await;
        }
    }

    /// A moment later it must still run.
    async fn look_after(&mut self, since: Instant) {
        tokio::time::sleep(POLL).await;
        self.supervise();
        self.running.as_mut().unwrap().assert_running();
        if since.elapsed() > PATIENCE {
            let sessions = self.sessions(Side::Source).await + &self.sessions(Side::Target).await;
            let log = self.running.as_mut().unwrap().stderr();
            panic!("no change arrives after {:?} (seed {})\n{sessions}{log}", self.latest, self.seed);
        }
    }

    /// What the server's sessions do, and what they wait for.
    async fn sessions(&self, side: Side) -> String {
        let asked = "SELECT concat_ws(' ', pid, application_name, state, wait_event_type, wait_event,
                pg_blocking_pids(pid), now() - state_change, left(query, 300))
            FROM pg_stat_activity WHERE backend_type IN ('client backend', 'walsender') AND pid <> pg_backend_pid()";
        let lines = self.server(side).client("app").await.query(asked).await;
        lines.iter().map(|line| format!("{side:?}: {}\n", line.get::<_, String>(0))).collect()
    }

    /// Starts a copy again that could not begin.
    pub fn supervise(&mut self) {
        let running = self.running.as_mut().unwrap();
        if let Some(status) = running.poll().filter(|_| self.copying) {
            assert_eq!(status.code(), Some(1), "{}", running.stderr());
            self.record.started_again();
            self.start();
        }
    }

    /// The copy is complete and the stream has begun.
    pub async fn copied(&mut self) {
        self.recovered().await;
        self.recovered().await;
        self.copying = false;
    }

    pub async fn progress(&self, transactions: u64) {
        self.load.progress(transactions).await;
    }

    /// Ends the load; both sides must be equal, and the target must hold what clients were told is committed.
    pub async fn assert_exact(mut self, conserved: Conserved) {
        let Self { kind, seed, .. } = self;
        let report =
            std::mem::replace(&mut self.load, Load::start(&self.pipeline.source.url("app"), 0, 0)).stop().await;
        self.recovered().await;
        self.pipeline.assert_same_rows().await;
        assert_journal(&self.pipeline.target, "app", &report).await;
        assert_accounts(&self.pipeline.target, "app").await;
        let sums = conserved.stop().await;
        self.stop().await;
        let (source, target) = (self.pipeline.source.major(), self.pipeline.target.major());
        let transactions = report.transactions();
        println!(
            "FAULTS kind={kind:?} pair={source}>{target} seed={seed} transactions={transactions} sums={sums} {}",
            self.record
        );
    }
}
