//! The copy between two real servers.

mod copies;
mod resumes;
mod setup;
