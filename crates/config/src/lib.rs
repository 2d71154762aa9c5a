//! What the user wrote, turned into typed settings.
//!
//! ```text
//!  YAML | .env file ─┐
//!  environment ──────┼─> Written (what was said)  ──> Pipeline (what it means) ──> engine
//!  flags ────────────┘        keys, lines                    patterns compiled, defaults filled
//! ```
//! Every error names the file, line, key and fix, and all of them come at once. No error, notice or `Debug` holds a
//! password.
//!
//! ```no_run
//! use pgstream_config::{Command, Overrides, Sources};
//!
//! let sources = Sources::read(Some("pg2pg.yaml".as_ref()), Overrides::default())?;
//! let loaded = sources.load(Command::Run)?;
//! loaded.notices.iter().for_each(|notice| eprintln!("{notice}"));
//! let pipeline = loaded.settings;
//! # Ok::<(), pgstream_config::ConfigErrors>(())
//! ```

mod build;
mod defaults;
mod dotenv;
mod error;
mod keys;
mod nearest;
mod node;
pub mod pattern;
pub mod pipeline;
mod reference;
mod secret;
mod sources;
mod support;
mod value;
mod written;
mod yaml;

pub use error::{Code, ConfigErrors, Notice, Place, Problem};
pub use reference::reference;
pub use secret::redact_url;
pub use sources::{Command, Loaded, Overrides, Sources};
