//! End-to-end tests: the binary between two real servers.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod replicator;

mod commands;
mod crashes;
mod matrix_;
mod refusals;
mod whole_job;
