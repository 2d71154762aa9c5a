//! Source state.
