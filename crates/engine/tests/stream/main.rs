//! The stream between two real servers, driven from inside the process.

mod harness;

mod conflicts;
mod history;
mod large;
mod rows;
mod tables;
mod types;
