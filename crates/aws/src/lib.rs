//! Everything that talks to AWS: what RDS and Aurora are like and should be like, secrets, and IAM tokens.
//!
//! ```text
//!  region, profile, AWS_ENDPOINT_URL*  ──>  Aws  ──┬─> provision   parameter groups and reboots of RDS and Aurora
//!                                                  └─> …           every SDK error becomes one of `Error`
//! ```
//!
//! No other crate names a type of an AWS SDK.

pub mod client;
pub mod error;
pub mod provision;

pub use client::{Aws, Settings};
pub use error::{Call, Error};
