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
    let server = configure::source(&loaded)?;
    let plan = destroy::plan(&server, &settings).await?;
    if !arguments.json {
        println!("On {server}:");
        for step in plan.steps() {
            output::step(&step);
        }
        if plan.is_empty() {
            println!("Nothing to remove.");
            return Ok(());
        }
        if !arguments.yes {
            confirm()?;
        }
    }
    let steps = destroy::destroy(&server, &settings, &plan, cancel, |_| ()).await?;
    if arguments.json {
        return output::json(&steps);
    }
    println!("Done.");
    Ok(())
}

fn confirm() -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::NotConfirmed);
    }
    match dialoguer::Confirm::new().with_prompt("Remove this?").default(false).interact() {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => Err(Failure::NotConfirmed),
    }
}
