//! The stream.

pub mod batch;
pub mod net;
