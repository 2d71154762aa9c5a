//! End-to-end tests: the binary between two real servers.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod command;
mod replicator;

mod commands;
mod crashes;
mod init;
mod matrix_;
mod refusals;
mod status;
mod usage;
mod whole_job;
