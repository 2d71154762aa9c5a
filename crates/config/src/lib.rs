//! What the user wrote, turned into typed settings.
//!
//! ```text
//!  YAML | .env file ─┐
//!  environment ──────┼─> Written (what was said) ──> Pipeline (what it means) ──> engine
//!  flags ────────────┘        keys, lines                 patterns compiled, defaults filled
//! ```
//! Every error names the file, line, key and fix, and all of them come at once. No error, notice or `Debug` holds a
//! password.

mod build;
mod defaults;
mod dotenv;
mod error;
mod keys;
mod load;
mod nearest;
mod node;
pub mod pattern;
pub mod pipeline;
mod reference;
mod secret;
pub mod secret_url;
mod support;
mod value;
mod written;
mod yaml;

pub use error::{Code, ConfigErrors, Notice, Place, Problem};
#[doc(hidden)]
pub use load::load_text;
pub use load::{Environment, Loaded, Needs, Overrides, load, presentation};
pub use reference::reference;
pub use secret::redact_url;
pub use secret_url::SecretUrl;
pub use value::parse_bytes;
