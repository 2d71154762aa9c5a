//! The stream between two real servers, driven from inside the process.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;
mod ordeal;

mod cascade;
mod conflicts;
mod ddl;
mod faults;
mod history;
mod hostile;
mod lag;
mod large;
mod reconnect;
mod round_trip;
mod rows;
mod small;
mod tables;
mod triggers;
mod types;
