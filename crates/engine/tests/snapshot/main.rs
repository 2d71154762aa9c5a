//! The copy between two real servers.

#![allow(clippy::unwrap_used)]

mod copies;
mod databases;
mod existing;
mod filters;
mod hostile;
mod keys;
mod objects;
mod privileges;
mod resumes;
mod rounds;
mod setup;
mod slots;
mod versions;
