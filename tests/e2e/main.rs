//! End-to-end tests: the binary between two real servers.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod account;
mod recorder;
mod replicator;

mod aws;
mod check;
mod check_aws;
mod crashes;
mod credentials;
// Full disks are made by preloading a library, which is done in the way of Linux.
#[cfg(target_os = "linux")]
mod disks;
mod doctor;
mod doctor_aws;
mod epochs;
mod existing;
mod fargate;
mod gate;
mod grants;
mod handover;
mod health;
mod infra;
mod init;
mod job;
mod links;
mod managed;
mod masters;
mod matrix;
mod monitor;
mod obstacles;
mod outages;
mod ownership;
mod policies;
mod preparation;
mod provision;
mod provision_faults;
mod provision_kills;
mod provision_policies;
mod provision_refusals;
mod provision_target;
mod refusals;
mod schema_changes;
mod secrets;
mod slots;
mod snapshot;
mod status;
mod stdout;
mod stops;
mod store;
mod tokens;
mod usage;
mod users;
mod valve;
mod workers;
