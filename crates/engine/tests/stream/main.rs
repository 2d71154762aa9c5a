//! The stream between two real servers, driven from inside the process.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;
mod ordeal;

mod cascade;
mod conflicts;
mod ddl;
mod faults;
mod history;
mod lag;
mod large;
mod reconnect;
mod rows;
mod tables;
mod triggers;
mod types;
