//! What the user wrote, turned into typed settings.
//!
//! ```text
//!  YAML | .env file ─┐
//!  environment ──────┼─> File (what was written) ──> Pipeline (what it means) ──> engine
//!  flags ────────────┘        keys, lines                 patterns compiled, defaults filled
//! ```
//! Every error names the file, line, key and fix, and all of them come at once.

mod documentation;
pub mod error;
pub mod keys;
pub mod load;
pub mod pattern;
pub mod pipeline;
mod read;
mod tree;
mod written;

pub use documentation::documentation;
pub use error::{ConfigErrors, redact_url};
pub use load::{Loaded, Needs, Overrides, load};
pub use read::Notice;
