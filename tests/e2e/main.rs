//! End-to-end tests: the binary between two real servers.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod command;
mod init;
mod status;
mod usage;
