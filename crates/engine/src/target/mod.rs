//! What the target remembers about its source.

pub mod migrate;
