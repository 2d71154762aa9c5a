//! The copy between two real servers.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod copies;
mod databases;
mod existing;
mod filters;
mod privileges;
mod resumes;
mod scale;
mod setup;
mod slots;
mod versions;
