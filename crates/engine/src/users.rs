//! Database roles with exactly the privileges that a side needs.
//!
//! ```text
//!  wanted duties ─┐
//!  the catalogs  ─┴─> plan: Step { sql, why, present } ─┬─> apply: what is not present, in one transaction
//!                                                       └─> missing: the same for a role that was just refused something
//! ```
//!
//! A plan reads only, and every step is a statement that an administrator can run by hand. Nothing is ever revoked. No step
//! is superfluous: without any one of them a command of the duty fails, and says which.

mod facts;
mod missing;
mod plan;

use pgstream_postgres::{Client, Error, quote_ident, quote_literal};
use serde::Serialize;

pub use facts::Owners;
pub use missing::{Denied, Missing, explain};

/// A role that pgstream-aws logs in as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads and follows the source.
    Source,
    /// Fills the target and follows on it.
    Target,
    /// Watches the slot.
    Monitor,
}

impl Role {
    /// Its name on the server.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "pgstreamsource",
            Self::Target => "pgstreamtarget",
            Self::Monitor => "pgstreammonitor",
        }
    }
}

/// What a role is for.
#[derive(Debug, Clone, Default)]
pub struct Duties {
    /// Copies schema and rows.
    pub copy: bool,
    /// Follows changes.
    pub follow: bool,
    /// Runs `init` and `destroy` itself, instead of an administrator.
    pub init: bool,
    /// Becomes the owner of what `init` made.
    pub hand_over: bool,
    /// Builds databases and puts them in the place of others (`clean_target_db`).
    pub create_databases: bool,
    /// Creates the roles of the source.
    pub create_roles: bool,
    /// Owners that are missing will come with the copy.
    pub roles_come: bool,
    /// Copies no grants.
    pub no_privileges: bool,
    /// Whom things will belong to that a target is given; those of its own when this is not known.
    pub owners: Option<Owners>,
}

/// One statement of a plan.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// To be run by an administrator, in the database.
    pub sql: String,
    /// What it is needed for.
    pub why: &'static str,
    /// It holds already.
    pub present: bool,
}

/// What a role lacks for its duties, and what it has.
///
/// # Errors
/// The server fails.
pub async fn plan(client: &Client, role: Role, duties: &Duties) -> Result<Vec<Step>, Error> {
    plan::make(client, role, role.name(), duties).await
}

/// Carries out what is not present, and sets the password by its verifier, in one transaction.
///
/// # Errors
/// The server refuses; then nothing is changed.
pub async fn apply(client: &mut Client, role: Role, steps: &[Step], password: &str) -> Result<(), Error> {
    // The text of statements ends up in logs: the password itself never leaves this process.
    let verifier = postgres_protocol::password::scram_sha_256(password.as_bytes());
    let password = format!("ALTER ROLE {} PASSWORD {}", quote_ident(role.name()), quote_literal(&verifier));
    let failed = client.failed("giving a role its privileges");
    let work = async {
        let transaction = client.transaction().await?;
        for step in steps.iter().filter(|step| !step.present) {
            transaction.batch_execute(&step.sql).await?;
        }
        transaction.batch_execute(&password).await?;
        transaction.commit().await
    };
    work.await.map_err(failed)
}
