//! A source with a slot, a target, and a stream between them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use pgstream_config::{pattern::TableFilter, pipeline::Retry};
use pgstream_engine::stream::{self, Destination, Error, Job, Limits, status::Monitor};
use pgstream_postgres::{Dsn, Server};
use pgstream_testkit::{Client, Cluster, assert_same_rows};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const SLOT: &str = "pgstream_app_slot";
pub const PUBLICATION: &str = "pgstream_app";

/// Two servers with the same tables.
pub struct Pair {
    pub source: Cluster,
    pub target: Cluster,
    /// A session on the source's database.
    pub here: Client,
    /// A session on the target's database.
    pub there: Client,
    markers: AtomicU64,
}

/// Two servers with `schema` on both sides, and publication and slot on the source.
pub async fn pair(schema: &str) -> Pair {
    let (source, target) = pgstream_testkit::pair().await;
    pair_on(source, target, schema).await
}

pub async fn pair_on(source: Cluster, target: Cluster, schema: &str) -> Pair {
    let (here, there) = (source.client("app").await, target.client("app").await);
    let marker = "CREATE TABLE public.marker (n bigint PRIMARY KEY);";
    here.batch(&format!("{marker}{schema}")).await;
    there.batch(&format!("{marker}{schema}")).await;
    here.batch(&format!("CREATE PUBLICATION {PUBLICATION} FOR ALL TABLES")).await;
    here.batch(&format!("SELECT pg_create_logical_replication_slot('{SLOT}', 'pgoutput')")).await;
    Pair::of(source, target, here, there)
}

impl Pair {
    /// Two servers that are prepared.
    pub fn of(source: Cluster, target: Cluster, here: Client, there: Client) -> Self {
        Self { source, target, here, there, markers: AtomicU64::new(0) }
    }
}

pub fn server(url: &str) -> Server {
    Server::new(Dsn::parse(url).expect("a test URL parses"))
}

impl Pair {
    pub fn job(&self) -> Job {
        Job {
            source: server(&self.source.url("app")),
            destination: Destination::Postgres(server(&self.target.url("app"))),
            slot: SLOT.into(),
            publication: PUBLICATION.into(),
            filter: TableFilter::default(),
            schema: None,
            disable_triggers: None,
            limits: Limits { bytes: 8 << 20, changes: 20_000 },
            retry: Retry {
                initial: Duration::from_millis(100),
                max: Duration::from_secs(1),
                max_retries: None,
                max_elapsed: None,
            },
        }
    }

    /// A stream that runs until it is stopped.
    pub fn stream(&self) -> Running {
        Running::start(self.job())
    }

    /// Waits until everything that is committed on the source now is on the target.
    pub async fn caught_up(&self, running: &Running) {
        let n = self.markers.fetch_add(1, Ordering::Relaxed);
        self.here.batch(&format!("INSERT INTO public.marker VALUES ({n})")).await;
        let arrived = format!("SELECT count(*) FROM public.marker WHERE n = {n}");
        let arrived = self.there.wait_until(&arrived, "1");
        tokio::select! {
            () = arrived => {}
            () = running.ended() => panic!("the stream ended: {:?}", running.error()),
        }
    }

    pub async fn assert_same(&self) {
        assert_same_rows(&self.source, &self.target, "app").await;
    }

    /// Runs `sql` on the source and expects both sides equal afterwards.
    pub async fn follows(&self, sql: &str) {
        let running = self.stream();
        self.here.batch(sql).await;
        self.caught_up(&running).await;
        self.assert_same().await;
        running.stop().await.expect("the stream stops cleanly");
    }

    /// Runs `sql` on the source and expects the stream to stop.
    pub async fn refuses(&self, sql: &str) -> Error {
        let running = self.stream();
        self.here.batch(sql).await;
        running.failure().await
    }
}

/// A stream in the background.
pub struct Running {
    pub monitor: Arc<Monitor>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
    result: Arc<std::sync::Mutex<Option<Result<(), Error>>>>,
}

impl Running {
    pub fn start(job: Job) -> Self {
        let monitor = Arc::new(Monitor::default());
        let cancel = CancellationToken::new();
        let result = Arc::new(std::sync::Mutex::new(None));
        let task = tokio::spawn({
            let (monitor, cancel, result) = (Arc::clone(&monitor), cancel.clone(), Arc::clone(&result));
            async move {
                let ended = stream::run(&job, &monitor, &cancel).await;
                *result.lock().unwrap() = Some(ended);
            }
        });
        Self { monitor, cancel, task, result }
    }

    async fn ended(&self) {
        while !self.task.is_finished() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    pub fn error(&self) -> Option<String> {
        self.result.lock().unwrap().as_ref().and_then(|r| r.as_ref().err()).map(describe)
    }

    /// Stops it as SIGTERM would.
    pub async fn stop(self) -> Result<(), Error> {
        self.cancel.cancel();
        self.task.await.expect("the stream does not panic");
        self.result.lock().unwrap().take().expect("it has ended")
    }

    /// Drops it as kill -9 would: connections end without a word.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// Waits for it to fail.
    pub async fn failure(self) -> Error {
        tokio::time::timeout(Duration::from_secs(60), self.task).await.expect("it ends").expect("it does not panic");
        self.result.lock().unwrap().take().expect("it has ended").expect_err("it fails")
    }
}

/// An error with its causes.
pub fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}
