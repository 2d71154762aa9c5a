//! pgstream-aws beside its peers: the same servers, the same work, the same run.
//!
//! ```text
//!  make bench                     every part, three rounds of each; the results go into docs/benchmarks.md
//!  make bench PARTS="backlog"     some parts
//!  make profile                   flame graphs
//!
//!  servers.rs    two PostgreSQL servers and what is on them
//!  followers.rs  who brings the changes over: we, or the server's own subscription
//!  usage.rs      CPU time and memory, as the kernel counts them
//!  backlog.rs, copy.rs, workers.rs, steady.rs, growth.rs, schema.rs   the parts
//!  profile.rs    flame graphs of a copy and of a backlog
//!  report.rs     a table in docs/benchmarks.md, and plots beside it
//! ```
//! Times depend on the machine; what says something about another one is the ratio to a peer.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod backlog;
mod copy;
mod followers;
mod growth;
mod profile;
mod report;
mod schema;
mod servers;
mod steady;
mod usage;
mod workers;

const PARTS: [&str; 6] = ["backlog", "schema", "copy", "workers", "steady", "growth"];

/// Needs more than servers, so only when it is asked for.
const PROFILE: &str = "profile";

#[tokio::main]
async fn main() {
    let mut wanted: Vec<String> = std::env::args().skip(1).collect();
    if wanted.is_empty() {
        wanted = PARTS.map(str::to_owned).to_vec();
    }
    if let Some(unknown) = wanted.iter().find(|part| !PARTS.contains(&part.as_str()) && *part != PROFILE) {
        eprintln!("there is no part {unknown}; there are {}, {PROFILE}", PARTS.join(", "));
        std::process::exit(2);
    }
    for part in wanted {
        let section = match part.as_str() {
            "backlog" => backlog::measure().await,
            "schema" => schema::measure().await,
            "copy" => copy::measure().await,
            "workers" => workers::measure().await,
            "steady" => steady::measure().await,
            PROFILE => profile::measure().await,
            _ => growth::measure().await,
        };
        section.publish();
    }
}

/// Rounds of everything that is compared; the median counts.
const ROUNDS: usize = 3;

/// The median of what a round measured, figure by figure.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
