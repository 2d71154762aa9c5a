//! `pgstream-aws init`.

use pgstream_config::Needs;
use pgstream_engine::{
    source::{self, InitSettings},
    users::{self, Duties},
};
use tokio_util::sync::CancellationToken;

use crate::{
    arguments::{Common, Prepare},
    configure,
    failure::Failure,
    output,
};

/// Prepares the source.
pub async fn run(arguments: &Prepare, common: &Common, cancel: &CancellationToken) -> Result<(), Failure> {
    let loaded = configure::configuration(common, &arguments.source.overrides(common), Needs::Source)?;
    configure::tell_notices(&loaded);
    let settings = InitSettings {
        slot: loaded.pipeline.source.slot.clone(),
        tables: loaded.pipeline.stream.tables.clone(),
        part: arguments.part.part(),
        failover: arguments.failover,
    };
    let server = configure::source(&loaded).await?;
    let json = arguments.json;
    let result = source::init(&server, &settings, cancel, |step| {
        if !json {
            output::step(step);
        }
    })
    .await;
    let report = match result {
        Ok(report) => report,
        Err(error) => {
            let duties = Duties { init: true, ..Duties::default() };
            return Err(Failure::from(error).explained(users::explain((&server, &duties), None)).await);
        }
    };
    if json {
        return output::json(&report);
    }
    for warning in &report.warnings {
        output::warning(warning);
    }
    match &report.consistent_point {
        Some(point) => output::line(format_args!(
            "Ready: slot {} on {} keeps every change from {point} on.",
            report.slot, report.server
        )),
        None => output::line(format_args!("Ready: publication {} on {}.", report.publication, report.server)),
    }
    Ok(())
}
