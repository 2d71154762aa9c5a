//! `pgstream-aws destroy`.

use std::io::IsTerminal as _;

use pgstream_config::Needs;
use pgstream_engine::source::destroy::{self, DestroySettings};
use tokio_util::sync::CancellationToken;

use crate::{
    arguments::{Common, Destroy},
    configure,
    failure::Failure,
    output,
};

/// Shows what would be removed, asks, and removes it.
pub async fn run(arguments: &Destroy, common: &Common, cancel: &CancellationToken) -> Result<(), Failure> {
    let loaded = configure::configuration(common, &arguments.source.overrides(common), Needs::Source)?;
    let settings = DestroySettings { slot: loaded.pipeline.source.slot.clone(), part: arguments.part.part() };
    let server = configure::source(&loaded).await?;
    let plan = destroy::plan(&server, &settings).await?;
    let json = arguments.json;
    if !json {
        if plan.is_empty() {
            plan.steps().for_each(|step| output::planned(&step));
            output::line(format_args!("Nothing to remove on {server}."));
            return Ok(());
        }
        output::line(format_args!("On {server} this would:"));
        plan.steps().for_each(|step| output::planned(&step));
        if !arguments.yes {
            confirm()?;
        }
        output::line("Doing it:");
    }
    let steps = destroy::destroy(&server, &settings, &plan, cancel, |step| {
        if !json {
            output::step(step);
        }
    })
    .await?;
    if json {
        return output::json(&steps);
    }
    output::line("Done.");
    Ok(())
}

/// Asks whether to go ahead.
pub fn confirm() -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::NobodyToAsk);
    }
    match dialoguer::Confirm::new().with_prompt("Go ahead?").default(false).interact() {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => Err(Failure::NotConfirmed),
    }
}
