//! `rds-sim`: a simulator with some databases, until Ctrl-C.
#![allow(clippy::print_stdout, reason = "the endpoint is for the caller")]

use clap::Parser;
use rds_sim::{Cluster, Instance, Options, Simulator};

/// The RDS API in front of real PostgreSQL servers on this machine
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Port on loopback; a free one if not given
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// A database instance, as `name` or `name:major`; may be given several times
    #[arg(long)]
    instance: Vec<String>,
    /// An Aurora cluster, likewise
    #[arg(long)]
    aurora: Vec<String>,
    /// A Multi-AZ DB cluster, likewise
    #[arg(long)]
    multi_az_cluster: Vec<String>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let simulator = Simulator::start(Options { port: arguments.port, ..Options::default() }).await?;
    println!("export AWS_ENDPOINT_URL_RDS={}", simulator.endpoint());
    let mut databases = Vec::new();
    for (name, major) in arguments.instance.iter().map(|text| named(text)) {
        databases.push((name, simulator.create_instance(Instance::new(name).major(major)).await?));
    }
    for (name, major) in arguments.aurora.iter().map(|text| named(text)) {
        databases.push((name, simulator.create_cluster(Cluster::aurora(name).major(major)).await?));
    }
    for (name, major) in arguments.multi_az_cluster.iter().map(|text| named(text)) {
        databases.push((name, simulator.create_cluster(Cluster::multi_az(name).major(major)).await?));
    }
    for (name, database) in &databases {
        println!("# {name}: {}", database.url("app"));
    }
    tokio::signal::ctrl_c().await?;
    Ok(())
}

/// `name` or `name:major`; of a newer server than there is, the client library says so.
fn named(text: &str) -> (&str, u32) {
    let (name, major) = text.split_once(':').unwrap_or((text, ""));
    (name, major.parse().unwrap_or(18))
}
