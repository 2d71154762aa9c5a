//! The whole story on one machine: two databases on RDS, provisioned, copied and followed under load, through a crash at
//! which an alarm rings, to the proof that both are equal; then the state machine takes over, and the alarm goes silent.
//!
//! ```text
//!  demo ──> account: ministack (Secrets Manager), rds-sim (RDS) ──> PostgreSQL 16 `shop`, PostgreSQL 18 `shop-new`
//!   ├─────> pgstream-aws check, provision, init, run, status, monitor, as a user would type them
//!   └─────> stack: infra/stack.yaml in ministack ── Lambda, metrics, alarm, state machine ──> fargate: its tasks
//! ```
//! Whatever ends it (its end, Ctrl-C, an error, a panic) ends everything that it started.
//! Run it with `make demo`; `make demo KEEP=1` leaves everything running.

mod account;
mod fargate;
mod load;
mod page;
mod pgstream;
mod proof;
mod stack;
mod story;
mod watch;

use std::process::ExitCode;

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::LocalSet,
};

/// Of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

#[tokio::main]
async fn main() -> ExitCode {
    let keep = std::env::var_os("KEEP").is_some_and(|keep| keep == "1");
    match LocalSet::new().run_until(demo(keep)).await {
        Ok(code) => code,
        Err(problem) => {
            eprintln!("\nThe demo failed: {problem}");
            ExitCode::FAILURE
        }
    }
}

async fn demo(keep: bool) -> Result<ExitCode, String> {
    let mut signals = EndSignals::new().map_err(|e| e.to_string())?;
    // A task of its own: a panic in it, too, comes back here.
    let mut story = tokio::task::spawn_local(story::tell());
    let running = tokio::select! {
        told = &mut story => told.map_err(|e| e.to_string())??,
        () = signals.wait() => {
            story.abort();
            // What it held is dropped, and ended, when this returns.
            drop(story.await);
            eprintln!("\nInterrupted: everything that it started has ended.");
            return Ok(ExitCode::from(INTERRUPTED));
        }
    };
    let times = running.times;
    if keep {
        times.summary();
        running.explain()?;
        signals.wait().await;
        // Whoever looked around may have stopped or changed anything: there is nothing to check any more.
        drop(running);
        println!("\nEverything has ended.");
        return Ok(ExitCode::SUCCESS);
    }
    running.end().await?;
    times.summary();
    Ok(ExitCode::SUCCESS)
}

/// The signals that ask a program to end.
struct EndSignals([Signal; 3]);

impl EndSignals {
    fn new() -> std::io::Result<Self> {
        let [interrupt, terminate, hangup] = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        Ok(Self([signal(interrupt)?, signal(terminate)?, signal(hangup)?]))
    }

    async fn wait(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
