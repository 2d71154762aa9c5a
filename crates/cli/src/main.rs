//! The `pgstream-aws` command: arguments, progress, reports and exit codes. No logic.
//!
//! ```text
//!  arguments ─> configure ─> engine ─┬─> reports on standard output
//!                                    └─> progress, log lines and failures on standard error
//! ```

mod arguments;
mod check;
mod configure;
mod ddl;
mod destroy;
mod doctor;
mod failure;
mod health;
mod init;
mod logs;
mod metrics;
mod monitor;
mod output;
mod probe;
mod progress;
mod provision;
mod rds;
mod run;
mod snapshot;
mod status;
mod users;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    arguments::{Cli, Command},
    failure::Failure,
    progress::Screen,
};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let presentation = configure::presentation(&cli.common);
    let screen = Screen::new(presentation.quiet);
    logs::start(presentation, &screen);
    let cancel = CancellationToken::new();
    if let Err(error) = stop_on_signals(cancel.clone()) {
        tracing::warn!(%error, "signals cannot be caught: a stop will not be orderly");
    }
    match execute(&cli, &screen, &cancel).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            failure.print(presentation.json);
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Runs the command. Returns whether nothing is wrong.
async fn execute(cli: &Cli, screen: &Screen, cancel: &CancellationToken) -> Result<bool, Failure> {
    let common = &cli.common;
    match &cli.command {
        Command::Provision(arguments) => Box::pin(provision::run(arguments, common, cancel)).await,
        Command::Init(arguments) => init::run(arguments, common, cancel).await.map(|()| true),
        Command::Destroy(arguments) => destroy::run(arguments, common, cancel).await.map(|()| true),
        Command::Status(arguments) => status::run(arguments, common, cancel).await,
        Command::Health(arguments) => probe::run(arguments, common).await,
        Command::Monitor(arguments) => Box::pin(monitor::run(arguments, common, cancel)).await,
        Command::Check(arguments) => Box::pin(check::run(arguments, common)).await,
        Command::Doctor(arguments) => Box::pin(doctor::run(arguments, common)).await,
        Command::Snapshot(arguments) => Box::pin(snapshot::run(arguments, common, screen, cancel)).await.map(|()| true),
        Command::Run(arguments) => Box::pin(run::run(arguments, common, screen, cancel)).await.map(|()| true),
        Command::Ddl(command) => Box::pin(ddl::run(command, common)).await,
        Command::Users(arguments) => Box::pin(users::run(arguments)).await.map(|()| true),
        Command::Version => {
            output::line(format_args!("pgstream-aws {}", env!("CARGO_PKG_VERSION")));
            Ok(true)
        }
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut Cli::command(), "pgstream-aws", &mut std::io::stdout());
            Ok(true)
        }
    }
}

/// The first signal asks for an orderly end, the second one ends the process.
fn stop_on_signals(cancel: CancellationToken) -> std::io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(async move {
        for asked_before in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if asked_before {
                std::process::exit(130);
            }
            tracing::info!("stopping");
            cancel.cancel();
        }
    });
    Ok(())
}
