//! What users write, what it means, and what they read when it is wrong.
#![allow(clippy::unwrap_used)]

mod errors;
mod meaning;
mod secrets;
mod user;
