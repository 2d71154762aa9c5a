//! Source state.
mod error;
pub mod slot;
pub use error::Error;
