//! What the user wrote, turned into typed settings.
//!
//! ```text
//!  YAML | .env file ─┐
//!  environment ──────┼─> File (what was written) ──> Pipeline (what it means) ──> engine
//!  flags ────────────┘        keys, lines                 patterns compiled, defaults filled
//! ```
//! Every error names the file, line, key and fix, and all of them come at once.

pub mod pattern;
pub mod pipeline;
