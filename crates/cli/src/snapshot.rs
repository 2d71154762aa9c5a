//! `pgstream-aws snapshot`.

use indicatif::{HumanBytes, HumanCount};
use pgstream_config::{
    Needs,
    pipeline::{Mode, Pipeline},
};
use pgstream_engine::{
    replicate::{self, Milestone, Run},
    snapshot::{self, Progress, Summary},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    arguments::{self, Common},
    configure,
    failure::Failure,
    output,
    progress::Screen,
};

/// Copies once.
pub async fn run(
    arguments: &arguments::Snapshot,
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
    overrides.default_mode = Some(Mode::Snapshot);
    let loaded = configure::configuration(common, &overrides, Needs::SourceAndTarget)?;
    configure::tell_notices(&loaded);
    // Only a configuration that goes on with a stream ties the copy to the slot.
    let mode = match loaded.pipeline.mode {
        Mode::SnapshotAndReplication => Mode::SnapshotAndReplication,
        Mode::Snapshot | Mode::Replication => Mode::Snapshot,
    };
    let pipeline = Pipeline { mode, ..loaded.pipeline.clone() };
    let run = Run {
        source: configure::source(&loaded).await?,
        destination: configure::destination(&loaded).await?,
        pipeline,
        init: false,
    };
    let (progress, events) = Progress::channel();
    let shown = tokio::spawn(screen.clone().watch(events));
    let summary = std::sync::Mutex::new(None);
    let result = replicate::copy(&run, progress, cancel, &|milestone: Milestone<'_>| {
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
