//! The whole story on one machine: two real servers, a shop, init, a copy, a stream under load, a crash, and the proof.
//!
//! Run it with `make demo`; `make demo KEEP=1` leaves everything running.

mod load;
mod replicator;
mod story;

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    match story::tell(std::env::var_os("KEEP").is_some_and(|keep| keep == "1")).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("\nThe demo failed: {problem}");
            ExitCode::FAILURE
        }
    }
}
