//! What a role that was refused something lacks.
//!
//! ```text
//!  42501 from either server ──> the plan of each side's role ──> Denied { error, missing }
//! ```
//! The server says which object it refused, seldom which grant would help: so the statements are those of the plan. A role
//! that was not refused anything is never asked to have them.

use std::{error, fmt};

use miette::Diagnostic;
use pgstream_postgres::{Client, Server, Session, quote_ident};

use tokio_postgres::error::SqlState;

use super::{Duties, Owners, Role, plan};

/// Where databases are created from.
const MAINTENANCE: &str = "postgres";

/// A right that a role needs and has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// `host:port/database`.
    pub server: String,
    /// Who lacks it.
    pub role: String,
    /// The statement that gives it.
    pub sql: String,
    /// What it is needed for.
    pub why: &'static str,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "role {} on {} lacks a right ({})", quote_ident(&self.role), self.server, self.why)
    }
}

impl error::Error for Missing {}

impl Diagnostic for Missing {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new("pgstream::missing_privilege"))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(format!("{};", self.sql)))
    }
}

/// A failure, and the rights that would have prevented it.
#[derive(Debug)]
pub struct Denied<E> {
    /// What failed.
    pub error: Box<E>,
    /// Not empty.
    pub missing: Vec<Missing>,
}

impl<E: fmt::Display> fmt::Display for Denied<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<E: error::Error> error::Error for Denied<E> {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.error.source()
    }
}

impl<E: Diagnostic> Diagnostic for Denied<E> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.error.code()
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.error.help()
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.missing.iter().map(|missing| missing as &dyn Diagnostic)))
    }
}

/// What the roles of both sides lack. A server that cannot be asked is left out: what is known already must be said.
pub async fn explain(source: (&Server, &Duties), target: Option<(&Server, &Duties)>) -> Vec<Missing> {
    let (server, duties) = source;
    let (mut missing, client) = of_side(server, Role::Source, duties).await;
    if let Some((server, duties)) = target {
        let mut duties = duties.clone();
        if let (None, Some(source)) = (&duties.owners, &client) {
            duties.owners = Owners::read(source).await.ok();
        }
        missing.extend(of_side(server, Role::Target, &duties).await.0);
    }
    missing
}

async fn of_side(server: &Server, role: Role, duties: &Duties) -> (Vec<Missing>, Option<Client>) {
    let missing =
        |name: &str, sql: String, why| Missing { server: server.to_string(), role: name.to_owned(), sql, why };
    let client = match server.connect(&Session::new("pgstream-aws privileges")).await {
        Ok(client) => client,
        Err(error) if error.is_permission_denied() => {
            let name = server.dsn().user();
            let (sql, why) = plan::reach(role, duties, server.dsn().dbname(), name);
            return (vec![missing(name, sql, why)], None);
        }
        // It was to be created.
        Err(error) if error.sqlstate() == Some(SqlState::INVALID_CATALOG_NAME.code()) => {
            let denied = may_not_create_databases(server).await;
            let step = |name: String| {
                let sql = format!("ALTER ROLE {} CREATEDB", quote_ident(&name));
                missing(&name, sql, "creates the database")
            };
            return (denied.map(step).into_iter().collect(), None);
        }
        Err(_) => return (Vec::new(), None),
    };
    let Ok(name) = client.query_one("SELECT current_user::text", &[]).await.map(|row| row.get::<_, String>(0)) else {
        return (Vec::new(), Some(client));
    };
    let steps = plan::make(&client, role, &name, duties).await.unwrap_or_default();
    let absent = steps.into_iter().filter(|step| !step.present);
    (absent.map(|step| missing(&name, step.sql, step.why)).collect(), Some(client))
}

/// The role, if that is so.
async fn may_not_create_databases(server: &Server) -> Option<String> {
    let client = server.with_dbname(MAINTENANCE).connect(&Session::new("pgstream-aws privileges")).await.ok()?;
    let query = "SELECT rolname::text FROM pg_roles WHERE rolname = current_user AND NOT (rolcreatedb OR rolsuper)";
    client.query_opt(query, &[]).await.ok().flatten().map(|row| row.get(0))
}
