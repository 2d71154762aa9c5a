//! Everything that talks to AWS: what RDS and Aurora are like and should be like, secrets, and IAM tokens.
//!
//! ```text
//!  region, profile, AWS_ENDPOINT_URL*  ──>  Aws  ──┬─> provision   parameter groups and reboots of RDS and Aurora
//!                                                  ├─> cloudwatch  free storage, and metrics
//!                                                  ├─> access      a side of a pipeline, by URL, secret or IAM token
//!                                                  └─> secrets     every SDK error becomes one of `Error`
//! ```
//!
//! No other crate names a type of an AWS SDK.

pub mod access;
pub mod client;
pub mod cloudwatch;
pub mod error;
pub mod provision;
pub mod secrets;
pub mod tokens;

pub use access::AccessError;
pub use client::{Aws, Settings};
pub use error::{Call, Error};
