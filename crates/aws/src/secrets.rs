//! Secrets that hold the login of a database, in the form that RDS writes.
//!
//! ```text
//!  secretsmanager://name ─> Store ─ text ─> Login { user, password, host?, port?, dbname? }
//!                             │                 └─ no host: the endpoint of the instance or cluster (Describe)
//!                             └─> provider: asked at every connect, AWSCURRENT, then AWSPENDING
//! ```
//!
//! No error and no `Debug` here holds a password, nor any other part of a secret's value.

pub mod endpoint;
pub mod login;
pub mod made;
pub mod provider;
pub mod store;

pub use login::Login;
pub use store::{Stage, Store};

use pgstream_postgres::Class;

use crate::Error;

/// A secret cannot be used.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum SecretError {
    /// AWS did not give it.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Aws(#[from] Error),
    /// There is none of this name.
    #[error("there is no secret `{secret}` in region {region}")]
    #[diagnostic(
        code(aws::secret_not_found),
        help("check name and region (AWS_REGION); a secret of another account or region needs its full ARN")
    )]
    NotFound {
        /// Its name or ARN.
        secret: String,
        /// Where it was looked for.
        region: String,
    },
    /// It is there and has no value of this stage.
    #[error("secret `{secret}` has no version with the stage {stage}")]
    #[diagnostic(
        code(aws::secret_without_value),
        help("write its value: aws secretsmanager put-secret-value, or let its rotation finish")
    )]
    NoVersion {
        /// Its name or ARN.
        secret: String,
        /// `AWSCURRENT` or `AWSPENDING`.
        stage: Stage,
    },
    /// It is about to be deleted.
    #[error("secret `{secret}` is scheduled for deletion")]
    #[diagnostic(code(aws::secret_deleted), help("restore it: aws secretsmanager restore-secret --secret-id {secret}"))]
    Deleted {
        /// Its name or ARN.
        secret: String,
    },
    /// The identity may read the secret, but not use its key.
    #[error("secret `{secret}` cannot be decrypted: its KMS key is not to be used by this identity, or not at all")]
    #[diagnostic(
        code(aws::kms_denied),
        help(
            "add to its policy: {}; the key's own policy must allow it, too, and the key must be enabled",
            KMS_STATEMENT
        )
    )]
    Kms {
        /// Its name or ARN.
        secret: String,
    },
    /// The value is no text.
    #[error("secret `{secret}` is binary")]
    #[diagnostic(code(aws::secret_binary), help("store it as text: {}", SHAPE))]
    Binary {
        /// Its name or ARN.
        secret: String,
    },
    /// The text is not what RDS writes.
    #[error("secret `{secret}`: {problem} (its value is not shown)")]
    #[diagnostic(code(aws::secret_malformed), help("store it in the form that RDS writes: {}", SHAPE))]
    Malformed {
        /// Its name or ARN.
        secret: String,
        /// What is wrong with it, without its value.
        problem: String,
    },
    /// Nothing says where the server is.
    #[error("secret `{secret}` does not say where its server is: it has no host")]
    #[diagnostic(
        code(aws::secret_without_host),
        help(
            "name the instance or cluster in aws.source.identifier (aws.target.identifier), write ?host= in the secretsmanager:// \
             URL, or keep a postgresql:// URL with the endpoint and name the secret in aws.source.secret"
        )
    )]
    NoHost {
        /// Its name or ARN.
        secret: String,
    },
    /// The instance or cluster that completes the secret is not there, or not yet reachable.
    #[error("`{identifier}` has no endpoint: {problem}")]
    #[diagnostic(
        code(aws::no_endpoint),
        help("check the identifier and the region, and wait until the database is available")
    )]
    NoEndpoint {
        /// Identifier or ARN of an instance or cluster.
        identifier: String,
        /// Why.
        problem: String,
    },
    /// What the secret and the URL say together is no connection URL.
    #[error("secret `{secret}`: {problem}")]
    #[diagnostic(code(aws::secret_url), help("check the parameters of the secretsmanager:// URL"))]
    Url {
        /// Its name or ARN.
        secret: String,
        /// Why.
        problem: String,
    },
}

const KMS_STATEMENT: &str = r#"{"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "<ARN of the key>", "Condition": {"StringEquals": {"kms:ViaService": "secretsmanager.<region>.amazonaws.com"}}}"#;

/// What a secret looks like.
const SHAPE: &str =
    r#"{"engine": "postgres", "host": "…", "port": 5432, "dbname": "…", "username": "…", "password": "…"}"#;

impl SecretError {
    /// Whether to try again.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Aws(source) if source.is_transient() => Class::Transient,
            Self::Url { .. } => Class::Config,
            _ => Class::Setup,
        }
    }
}
