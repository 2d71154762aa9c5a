//! `pgstream-aws snapshot`, and its sides when several processes copy.

use std::{ffi::OsString, time::Duration};

use indicatif::{HumanBytes, HumanCount};
use pgstream_config::{
    Needs, Overrides,
    pipeline::{Mode, Pipeline},
};
use pgstream_engine::{
    replicate::{self, Milestone, Run},
    snapshot::{self, Copiers, Progress, Summary, WorkerCommand},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    arguments::{self, Common, CopyArgs, LogFormat, SnapshotSide, WorkerArgs},
    configure,
    failure::Failure,
    output,
    progress::Screen,
};

/// Copies once, or takes one side of a copy by several processes.
pub async fn run(
    arguments: &arguments::Snapshot,
    common: &Common,
    screen: &Screen,
    cancel: &CancellationToken,
) -> Result<(), Failure> {
    match (&arguments.side, arguments.workers) {
        (Some(SnapshotSide::Worker(worker)), _) => Box::pin(work(worker, common, cancel)).await,
        (Some(SnapshotSide::Coordinate { copy: what, wait }), _) => {
            let copiers = Copiers::Elsewhere { wait: Duration::from_secs(*wait) };
            Box::pin(copy(what, copiers, common, screen, cancel)).await
        }
        (None, Some(count)) => {
            let copiers = Copiers::Children { count, command: worker_command(&arguments.copy, common)? };
            Box::pin(copy(&arguments.copy, copiers, common, screen, cancel)).await
        }
        (None, None) => Box::pin(copy(&arguments.copy, Copiers::Here, common, screen, cancel)).await,
    }
}

async fn copy(
    arguments: &CopyArgs,
    copiers: Copiers,
    common: &Common,
    screen: &Screen,
    cancel: &CancellationToken,
) -> Result<(), Failure> {
    let mut overrides = arguments.source.overrides(common);
    overrides.target_url.clone_from(&arguments.target_url);
    overrides.snapshot_tables.clone_from(&arguments.tables);
    overrides.dump_file.clone_from(&arguments.dump_file);
    overrides.reset = arguments.reset;
    overrides.data_only = arguments.data_only;
    let run = prepare(overrides, common).await?;
    let (progress, events) = Progress::channel();
    let shown = tokio::spawn(screen.clone().watch(events));
    let summary = std::sync::Mutex::new(None);
    let result = replicate::copy(&run, copiers, progress, cancel, &|milestone: Milestone<'_>| {
        tell(&milestone);
        if let (Milestone::Copied(done), Ok(mut summary)) = (&milestone, summary.lock()) {
            *summary = Some((*done).clone());
        }
    })
    .await;
    // The bars are cleared before anything else is printed.
    drop(shown.await);
    if let Err(error) = result {
        return Err(explained(error, &run).await);
    }
    report(summary.into_inner().ok().flatten(), arguments.json)
}

async fn prepare(mut overrides: Overrides, common: &Common) -> Result<Run, Failure> {
    overrides.default_mode = Some(Mode::Snapshot);
    let loaded = configure::configuration(common, &overrides, Needs::SourceAndTarget)?;
    configure::tell_notices(&loaded);
    // Only a configuration that goes on with a stream ties the copy to the slot.
    let mode = match loaded.pipeline.mode {
        Mode::SnapshotAndReplication => Mode::SnapshotAndReplication,
        Mode::Snapshot | Mode::Replication => Mode::Snapshot,
    };
    let pipeline = Pipeline { mode, ..loaded.pipeline.clone() };
    let (source, destination) = (configure::source(&loaded).await?, configure::destination(&loaded).await?);
    Ok(Run { source, destination, pipeline, init: false })
}

/// Takes parts of what a coordinator offers.
async fn work(arguments: &WorkerArgs, common: &Common, cancel: &CancellationToken) -> Result<(), Failure> {
    let mut overrides = arguments.source.overrides(common);
    overrides.target_url.clone_from(&arguments.target_url);
    overrides.snapshot_tables.clone_from(&arguments.tables);
    let run = prepare(overrides, common).await?;
    let wait = Duration::from_secs(arguments.wait);
    let worked = match replicate::work(&run, wait, cancel, &|milestone: Milestone<'_>| tell(&milestone)).await {
        Ok(Some(worked)) => worked,
        // Whoever started it must learn that there may be something left.
        Ok(None) => return Err(replicate::Error::from(snapshot::Error::Cancelled).into()),
        Err(error) => return Err(explained(error, &run).await),
    };
    if arguments.json {
        return output::json(&json!({ "parts": worked.parts, "rows": worked.rows, "bytes": worked.bytes }));
    }
    output::line(format_args!(
        "Nothing is left to copy. This worker copied {} parts, {} rows, {}.",
        HumanCount(worked.parts),
        HumanCount(worked.rows),
        HumanBytes(worked.bytes)
    ));
    Ok(())
}

/// How a worker on this machine is started: as this process was, with what may be secret in its environment.
fn worker_command(arguments: &CopyArgs, common: &Common) -> Result<WorkerCommand, Failure> {
    let program = std::env::current_exe().map_err(|source| Failure::Local {
        doing: "finding this program, to start workers".to_owned(),
        help: "start it by its path; or copy without `--workers`",
        source,
    })?;
    let mut words: Vec<OsString> = ["snapshot", "worker", "--wait", "0"].map(OsString::from).into();
    // Its progress is shown by the coordinator.
    let level = common.log_level.as_deref().unwrap_or("warn");
    words.push(format!("--log-level={level}").into());
    match common.log_format {
        Some(LogFormat::Console) => words.push("--log-format=console".into()),
        Some(LogFormat::Json) => words.push("--log-format=json".into()),
        None => {}
    }
    if common.no_color {
        words.push("--no-color".into());
    }
    if let Some(slot) = &arguments.source.replication_slot {
        words.push(format!("--replication-slot={slot}").into());
    }
    if !arguments.tables.is_empty() {
        words.push(format!("--tables={}", arguments.tables.join(",")).into());
    }
    let environment = [
        ("PGSTREAM_CONFIG", common.config.as_ref().map(OsString::from)),
        ("PGSTREAM_POSTGRES_LISTENER_URL", arguments.source.postgres_url.as_ref().map(OsString::from)),
        ("PGSTREAM_POSTGRES_WRITER_TARGET_URL", arguments.target_url.as_ref().map(OsString::from)),
    ];
    let environment = environment.into_iter().filter_map(|(name, value)| Some((name.into(), value?))).collect();
    Ok(WorkerCommand { program, arguments: words, environment })
}

/// A failure, with the rights whose lack it may be.
pub async fn explained(error: replicate::Error, run: &Run) -> Failure {
    let roles = matches!(error, replicate::Error::Snapshot(snapshot::Error::Role { .. }));
    Failure::from(error).explained(run.missing_rights(roles)).await
}

fn report(summary: Option<Summary>, as_json: bool) -> Result<(), Failure> {
    let copied = summary.is_some();
    let summary = summary.unwrap_or_default();
    if as_json {
        return output::json(&json!({
            "complete": copied,
            "tables": summary.tables,
            "tables_before": summary.tables_before,
            "rows": summary.rows,
            "bytes": summary.bytes,
            "snapshot_lsn": summary.snapshot_lsn.map(|lsn| lsn.to_string()),
            "notices": summary.notices,
        }));
    }
    for notice in &summary.notices {
        output::warning(notice);
    }
    output::line(format_args!(
        "Copied {} tables, {} rows, {}; {} were there before.",
        summary.tables,
        HumanCount(summary.rows),
        HumanBytes(summary.bytes),
        summary.tables_before
    ));
    Ok(())
}

/// Logs what has happened.
pub fn tell(milestone: &Milestone<'_>) {
    match milestone {
        Milestone::Prepared(step) => tracing::info!("{step}"),
        Milestone::AlreadyCopied => tracing::info!("the copy is complete"),
        Milestone::Copied(summary) => {
            tracing::info!(tables = summary.tables, rows = summary.rows, bytes = summary.bytes, "copied");
        }
        Milestone::CopyRetried { error, wait } => {
            tracing::warn!(%error, wait_ms = wait.as_millis(), "the copy broke; going on with it");
        }
    }
}
