//! Everything that talks to AWS: what RDS and Aurora are like and should be like, secrets, and IAM tokens.
//!
//! No other crate names a type of an AWS SDK.
