//! What can be mended by itself: privileges and settings that the catalogue prints as one statement.
//!
//! Never data, never a reboot, never anything that is dropped, and never membership in a role: that would hand over all of its
//! rights. Statements are run exactly as they were printed, each by itself;
//! one that fails leaves nothing behind and does not keep the others from being run.

use pgstream_postgres::{Error, Server, Session};
use serde::Serialize;

use crate::{check::Side, report::Report};

/// Checks whose fix may be applied unseen by an administrator who agreed to it.
const SAFE: [&str; 13] = [
    "access.usage",
    "access.select",
    "access.select_sequence",
    "access.create_on_database",
    "access.create_in_public",
    "access.write",
    "access.owner_create",
    "schema.always_trigger",
    "resources.source_time_limits",
    "resources.target_time_limits",
    "resources.temp_file_limit",
    "source::create_privilege",
    "source::replica_identity",
];

/// What a statement that is run unseen may begin with.
const BEGINNINGS: [&str; 4] = ["GRANT ", "ALTER TABLE ", "ALTER ROLE ", "ALTER SCHEMA "];

/// One statement that mends something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fix {
    /// The check.
    pub id: String,
    /// Where it is run.
    pub side: Side,
    /// The statement, as printed.
    pub statement: String,
}

/// A fix that was tried.
#[derive(Debug, Serialize)]
pub struct Applied {
    /// Which one.
    #[serde(flatten)]
    pub fix: Fix,
    /// Why it could not be done.
    pub problem: Option<String>,
}

/// What can be applied of the fixes that a report prints.
#[must_use]
pub fn fixes(report: &Report) -> Vec<Fix> {
    let mut fixes: Vec<Fix> = Vec::new();
    for finding in report.findings.iter().filter(|finding| SAFE.contains(&finding.id.as_str())) {
        let statements = finding.instances.iter().filter_map(|instance| statement(&instance.fix));
        for statement in statements {
            let fix = Fix { id: finding.id.clone(), side: finding.side, statement: statement.to_owned() };
            if !fixes.iter().any(|known| known.side == fix.side && known.statement == fix.statement) {
                fixes.push(fix);
            }
        }
    }
    fixes
}

/// The part of a fix that is SQL: `as the owner: ALTER …; or leave it out` has words on both sides.
fn statement(fix: &str) -> Option<&str> {
    let sql = &fix[..=fix.rfind(';')?];
    let sql = match sql.starts_with("as ") {
        true => sql.split_once(": ")?.1,
        false => sql,
    };
    BEGINNINGS.iter().any(|beginning| sql.starts_with(beginning)).then_some(sql)
}

/// Runs the statements of one side there.
///
/// # Errors
/// When the server cannot be reached; what a statement fails with is told with it.
pub async fn apply(server: &Server, side: Side, fixes: &[Fix]) -> Result<Vec<Applied>, Error> {
    let mine: Vec<&Fix> = fixes.iter().filter(|fix| fix.side == side).collect();
    if mine.is_empty() {
        return Ok(Vec::new());
    }
    let client = server.connect(&Session::new("pgstream-aws check --fix")).await?;
    let mut applied = Vec::new();
    for fix in mine {
        let run = client.batch_execute(&fix.statement).await.map_err(client.failed("applying a fix"));
        applied.push(Applied { fix: fix.clone(), problem: run.err().map(|error| error.to_string()) });
    }
    Ok(applied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_statements_that_take_nothing_away_are_applied() {
        let grant = "GRANT SELECT ON TABLE public.t TO reader;";
        assert_eq!(statement(grant), Some(grant));
        assert_eq!(
            statement("as its owner: ALTER TABLE t REPLICA IDENTITY FULL; Or leave"),
            Some("ALTER TABLE t REPLICA IDENTITY FULL;")
        );
        for fix in ["DROP TABLE t;", "let it end, or end it: SELECT pg_terminate_backend(1);", "GRANT rds_replication"]
        {
            assert_eq!(statement(fix), None, "{fix}");
        }
    }

    #[test]
    fn what_is_safe_is_a_check() {
        for id in SAFE.iter().filter(|id| !id.contains("::")) {
            assert!(crate::catalogue::all().any(|check| check.id == *id), "{id}");
        }
    }
}
