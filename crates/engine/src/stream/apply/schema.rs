//! Schema changes on the target, in the transaction of the rows around them.
//!
//! ```text
//!  record ─> skipped by the operator? ─> followed part ─> plan ─┬─ remove   in whatever order lets go
//!                                                               ├─ empty    tables that are copied again
//!                                                               ├─ define, attach
//!                                                               ├─ rights   a role that is missing is a note
//!                                                               └─ copy     see recopy
//! ```
//! The row in `pgstream.ddl_applied` commits with it, so a change is applied once and what happened can be looked up.

use std::sync::Arc;

use pgstream_postgres::{Client, Server, TableName};

use super::{
    super::{Error, Job, SchemaChanges, schema::SharedLedger, work::Ddl},
    recopy,
};
use crate::ddl::{Change, Plan, Scope, plan::Uncovered, record::Versions};

/// How often what is left to remove is tried again before its order is given up. Each round removes at least one.
const DEPENDENT: &str = "2BP01";
/// A role is missing, or the role of the session has no right to hand things to it.
const NOTED: [&str; 2] = ["42501", "42704"];

/// What replaying needs beside the target.
pub struct Replay {
    pub(super) source: Server,
    pub(super) slot: String,
    pub(super) ledger: Arc<SharedLedger>,
    scope: Scope,
    changes: Option<SchemaChanges>,
}

impl Replay {
    /// As the job says.
    pub fn new(job: &Job, ledger: Arc<SharedLedger>) -> Self {
        let types = job.schema.as_ref().map(|schema| schema.types.clone()).unwrap_or_default();
        Self {
            source: job.source.clone(),
            slot: job.slot.clone(),
            ledger,
            scope: Scope { tables: job.filter.clone(), types },
            changes: job.schema.clone(),
        }
    }

    /// Applies a change inside the open transaction.
    ///
    /// # Errors
    /// [`Error::Capture`], [`Error::DdlUncovered`] and [`Error::DdlRefused`]; nothing of the transaction is kept then.
    pub async fn apply(&self, client: &Client, ddl: &Ddl) -> Result<(), Error> {
        if self.is_skipped(client, ddl).await? {
            tracing::warn!(id = ddl.record.id, command = ddl.record.command, "schema change skipped, as asked for");
            return Ok(());
        }
        let Some(settings) = &self.changes else {
            tracing::warn!(id = ddl.record.id, command = ddl.record.command, "schema change ignored (ignore_ddl)");
            return self.note(client, ddl, &ddl.record.changes, "ignored", &[]).await;
        };
        if let Some(problem) = &ddl.record.failure {
            return Err(Error::Capture {
                id: ddl.record.id,
                command: ddl.record.command.clone(),
                lsn: ddl.commit,
                problem: problem.clone(),
            });
        }
        let changes: Vec<Change> = ddl.record.changes.iter().filter_map(|change| self.scope.narrow(change)).collect();
        let plan = Plan::new(&changes, settings.rights).map_err(|Uncovered { object }| Error::DdlUncovered {
            id: ddl.record.id,
            command: ddl.record.command.clone(),
            lsn: ddl.commit,
            object,
        })?;
        if changes.is_empty() {
            return self.note(client, ddl, &ddl.record.changes, "ignored", &[]).await;
        }
        tracing::debug!(id = ddl.record.id, command = ddl.record.command, "applying a schema change");
        prepare(client).await?;
        let notes = Replaying { client, ddl }.run(&plan).await?;
        for change in &changes {
            if let Change::Table(versions) = change {
                self.table(client, versions).await?;
            }
        }
        self.moved(client, &changes).await?;
        let failed = client.failed("after a schema change");
        client.batch_execute("SET LOCAL search_path TO DEFAULT; SET CONSTRAINTS ALL DEFERRED").await.map_err(failed)?;
        self.note(client, ddl, &changes, "applied", &notes).await
    }

    /// Rows that the target cannot compute are copied.
    async fn table(&self, client: &Client, versions: &Versions<crate::ddl::record::Relation>) -> Result<(), Error> {
        let Some(is) = &versions.is else { return Ok(()) };
        let followed = is.kind == 'r' && is.persistence == 'p' && self.scope.tables.wants_rows(&is.schema, &is.name);
        let was = versions.was.as_ref().map(|was| was.table());
        let stale = recopy::is_stale(&self.ledger, was.as_ref().unwrap_or(&is.table()));
        if followed && (versions.must_copy || stale || (versions.filled && was.is_none())) {
            recopy::table(self, client, versions.id, was.as_ref(), is).await?;
        }
        Ok(())
    }

    /// The ledger knows tables by their names.
    async fn moved(&self, client: &Client, changes: &[Change]) -> Result<(), Error> {
        for change in changes {
            let (sql, names): (&str, [String; 4]) = match change {
                Change::Table(Versions { was: Some(was), is: Some(is), .. }) if was.table() != is.table() => (
                    "UPDATE pgstream.snapshot_ledger SET schema_name = $4, table_name = $5
                      WHERE source = $1 AND schema_name = $2 AND table_name = $3",
                    [was.schema.clone(), was.name.clone(), is.schema.clone(), is.name.clone()],
                ),
                Change::Table(Versions { was: Some(was), is: None, .. }) => (
                    "DELETE FROM pgstream.snapshot_ledger
                      WHERE source = $1 AND schema_name = $2 AND table_name = $3 AND $4 = $5",
                    [was.schema.clone(), was.name.clone(), String::new(), String::new()],
                ),
                Change::Schema(Versions { was: Some(was), is: Some(is), .. }) if was.name != is.name => (
                    "UPDATE pgstream.snapshot_ledger SET schema_name = $4
                      WHERE source = $1 AND schema_name = $2 AND $3 = $5",
                    [was.name.clone(), String::new(), is.name.clone(), String::new()],
                ),
                _ => continue,
            };
            let [a, b, c, d] = &names;
            let failed = client.failed("renaming in pgstream.snapshot_ledger");
            client.execute(sql, &[&self.slot, a, b, c, d]).await.map_err(failed)?;
        }
        Ok(())
    }

    async fn is_skipped(&self, client: &Client, ddl: &Ddl) -> Result<bool, Error> {
        let commit = ddl.commit;
        let found = client
            .execute(
                "UPDATE pgstream.ddl_applied SET commit_lsn = $3, applied_at = now() WHERE slot_name = $1 AND id = $2",
                &[&self.slot, &ddl.record.id, &commit],
            )
            .await
            .map_err(client.failed("reading pgstream.ddl_applied"))?;
        Ok(found > 0)
    }

    async fn note(
        &self,
        client: &Client,
        ddl: &Ddl,
        changes: &[Change],
        state: &str,
        notes: &[String],
    ) -> Result<(), Error> {
        for note in notes {
            tracing::warn!(id = ddl.record.id, command = ddl.record.command, "{note}");
        }
        let objects: Vec<String> = changes.iter().map(Change::describe).collect();
        client
            .execute(
                "INSERT INTO pgstream.ddl_applied (slot_name, id, command, objects, state, notes, commit_lsn)
                 VALUES ($1, $2, $3, $4, $5, $6, $7)",
                &[&self.slot, &ddl.record.id, &ddl.record.command, &objects, &state, &notes, &ddl.commit],
            )
            .await
            .map_err(client.failed("writing pgstream.ddl_applied"))?;
        Ok(())
    }
}

/// Deferred constraints of other tables may still wait for rows of this transaction; where none do, none are pending
/// that would stand in the way of an ALTER.
async fn prepare(client: &Client) -> Result<(), Error> {
    let failed = || client.failed("before a schema change");
    client.batch_execute("SAVEPOINT pending").await.map_err(failed())?;
    let settled = client.batch_execute("SET CONSTRAINTS ALL IMMEDIATE; RELEASE SAVEPOINT pending").await;
    if settled.is_err() {
        client.batch_execute("ROLLBACK TO SAVEPOINT pending; RELEASE SAVEPOINT pending").await.map_err(failed())?;
    }
    client
        .batch_execute("SET LOCAL search_path TO pg_catalog; SET LOCAL check_function_bodies TO off")
        .await
        .map_err(failed())?;
    Ok(())
}

/// The statements of one change.
struct Replaying<'a> {
    client: &'a Client,
    ddl: &'a Ddl,
}

impl Replaying<'_> {
    async fn run(&self, plan: &Plan) -> Result<Vec<String>, Error> {
        self.remove(&plan.remove).await?;
        for table in &plan.must_copy {
            self.execute(&format!("DELETE FROM ONLY {table}")).await?;
        }
        for statement in plan.define.iter().chain(&plan.attach) {
            self.execute(statement).await?;
        }
        let mut notes = plan.notices.clone();
        for statement in &plan.rights {
            notes.extend(self.try_right(statement).await?);
        }
        for statement in &plan.comments {
            self.execute(statement).await?;
        }
        Ok(notes)
    }

    /// What depends on something else goes first, whatever that order is.
    async fn remove(&self, statements: &[String]) -> Result<(), Error> {
        let mut left: Vec<&String> = statements.iter().collect();
        while !left.is_empty() {
            let mut waiting = Vec::new();
            let mut last = None;
            for statement in &left {
                match self.attempt(statement, &[DEPENDENT]).await? {
                    None => {}
                    Some(refused) => {
                        waiting.push(*statement);
                        last = Some(refused);
                    }
                }
            }
            if waiting.len() == left.len()
                && let Some(refused) = last
            {
                return Err(refused);
            }
            left = waiting;
        }
        Ok(())
    }

    async fn try_right(&self, statement: &str) -> Result<Option<String>, Error> {
        Ok(match self.attempt(statement, &NOTED).await? {
            Some(Error::DdlRefused { source, .. }) => Some(format!("not carried over: {statement} ({source})")),
            Some(error) => return Err(error),
            None => None,
        })
    }

    /// Runs a statement; `Some` when it was refused for one of these reasons and left no trace.
    async fn attempt(&self, statement: &str, tolerated: &[&str]) -> Result<Option<Error>, Error> {
        let failed = || self.client.failed("during a schema change");
        self.client.batch_execute("SAVEPOINT attempt").await.map_err(failed())?;
        let Err(refused) = self.execute(statement).await else {
            self.client.batch_execute("RELEASE SAVEPOINT attempt").await.map_err(failed())?;
            return Ok(None);
        };
        let code = match &refused {
            Error::DdlRefused { source, .. } => source.sqlstate().map(ToOwned::to_owned),
            _ => None,
        };
        if !code.is_some_and(|code| tolerated.contains(&code.as_str())) {
            return Err(refused);
        }
        let back = "ROLLBACK TO SAVEPOINT attempt; RELEASE SAVEPOINT attempt";
        self.client.batch_execute(back).await.map_err(failed())?;
        Ok(Some(refused))
    }

    async fn execute(&self, statement: &str) -> Result<(), Error> {
        let failed = self.client.failed("applying a schema change");
        self.client.batch_execute(statement).await.map_err(|error| Error::DdlRefused {
            id: self.ddl.record.id,
            command: self.ddl.record.command.clone(),
            lsn: self.ddl.commit,
            statement: statement.to_owned(),
            source: Box::new(failed(error)),
        })
    }
}

/// The table's name before, or now.
pub(super) fn former<'a>(was: Option<&'a TableName>, is: &'a TableName) -> &'a TableName {
    was.unwrap_or(is)
}
