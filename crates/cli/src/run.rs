//! `pgstream-aws run`.

use std::{sync::Arc, time::Duration};

use indicatif::HumanBytes;
use pgstream_config::{Needs, Overrides};
use pgstream_engine::{
    replicate::{self, Observers, Run},
    snapshot::Progress,
    source::Names,
    stream::status::{Monitor, Phase, Reading},
};
use pgstream_postgres::Lsn;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::{
    arguments::{self, Common},
    configure,
    failure::Failure,
    health,
    metrics::Metrics,
    progress::Screen,
    snapshot,
};

/// How often a running stream says how it is.
const LINE: Duration = Duration::from_secs(10);

/// Copies when the mode says so, then follows until stopped.
pub async fn run(
    arguments: &arguments::Run,
    common: &Common,
    screen: &Screen,
    cancel: &CancellationToken,
) -> Result<(), Failure> {
    let overrides = Overrides {
        source_url: arguments.source_url.clone(),
        target_url: arguments.target_url.clone(),
        replication_slot: arguments.replication_slot.clone(),
        snapshot_tables: arguments.snapshot_tables.clone(),
        dump_file: arguments.dump_file.clone(),
        reset: arguments.reset,
        data_only: arguments.data_only,
        ..common.overrides()
    };
    let loaded = configure::configuration(common, &overrides, Needs::SourceAndTarget)?;
    configure::tell_notices(&loaded);
    let run = Run {
        source: configure::source(&loaded).await?,
        destination: configure::destination(&loaded).await?,
        pipeline: loaded.pipeline.clone(),
        init: arguments.init,
    };
    let monitor = Arc::new(Monitor::default());
    let server = health::serve(&loaded.pipeline.instrumentation, Arc::clone(&monitor), cancel).await?;
    let (progress, events) = Progress::channel();
    let shown = tokio::spawn(screen.clone().watch(events));
    let observers = Observers { progress, monitor: Arc::clone(&monitor) };
    let mut metrics = metrics(&run, &monitor).await?;
    let result = tokio::select! {
        result = replicate::run(&run, observers, cancel, |milestone| snapshot::tell(&milestone)) => result,
        never = follow(&monitor) => match never {},
        never = Metrics::follow_if(metrics.as_mut()) => match never {},
    };
    // The bars are cleared before anything else is printed.
    drop(shown.await);
    cancel.cancel();
    if let Some(server) = server {
        drop(server.await);
    }
    match monitor.read() {
        // Stopped before it followed anything.
        reading if reading.applied_lsn == Lsn::ZERO.to_string() => tracing::info!("stopped"),
        reading => tracing::info!(transactions = reading.transactions, applied = reading.applied_lsn, "stopped"),
    }
    let result = match result {
        Ok(()) => Ok(()),
        Err(error) => Err(snapshot::explained(error, &run).await),
    };
    if let Some(metrics) = metrics {
        metrics.end(result.as_ref().err()).await;
    }
    result
}

/// The stream's metrics for CloudWatch, when they are wanted.
async fn metrics(run: &Run, monitor: &Arc<Monitor>) -> Result<Option<Metrics>, Failure> {
    let Some(settings) = run.pipeline.instrumentation.cloudwatch else { return Ok(None) };
    let database = run.source.dsn().dbname().to_owned();
    let slot = Names::with_slot(&database, run.pipeline.source.slot.as_deref())?.slot;
    Box::pin(Metrics::new(settings, (slot, database), Arc::clone(monitor))).await.map(Some)
}

/// Logs how a running stream does, every few seconds.
async fn follow(monitor: &Monitor) -> std::convert::Infallible {
    let mut tick = interval(LINE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = (Instant::now(), monitor.read());
    loop {
        tick.tick().await;
        let now = (Instant::now(), monitor.read());
        if now.1.phase == Phase::Streaming && now.0 > before.0 {
            line(&now.1, &before.1, now.0 - before.0);
        }
        before = now;
    }
}

fn line(now: &Reading, before: &Reading, elapsed: Duration) {
    let rows = |reading: &Reading| reading.inserts + reading.updates + reading.deletes;
    let rate = |now: u64, before: u64| (now.saturating_sub(before) as f64 / elapsed.as_secs_f64()).round();
    tracing::info!(
        applied = now.applied_lsn,
        lag = %HumanBytes(now.lag_bytes),
        lag_seconds = (now.lag_seconds * 10.0).round() / 10.0,
        transactions_per_second = rate(now.transactions, before.transactions),
        rows_per_second = rate(rows(now), rows(before)),
        "following"
    );
}
