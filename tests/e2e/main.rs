//! End-to-end tests: the binary between two real servers.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

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
mod epochs;
mod existing;
mod handover;
mod health;
mod init;
mod job;
mod links;
mod matrix;
mod obstacles;
mod ownership;
mod preparation;
mod provision;
mod provision_rds;
mod refusals;
mod schema_changes;
mod secrets;
mod slots;
mod snapshot;
mod status;
mod stdout;
mod stops;
mod usage;
mod users;
