//! Schema changes on the target, in the transaction of the rows around them.
//!
//! ```text
//!  record ─> skipped by the operator? ─> followed part ─> plan ─┬─ remove   in whatever order lets go
//!                                                               ├─ empty    tables that are copied again
//!                                                               ├─ define, attach
//!                                                               ├─ rights   a role that is missing is a note
//!                                                               └─ copy     once no change is outstanding, see recopy
//! ```
//! The row in `pgstream.ddl_applied` commits with it, so a change is applied once and what happened can be looked up.

use std::sync::{Arc, PoisonError};

use pgstream_postgres::{Client, Server, TableName};

use super::{
    super::{Error, Job, SchemaChanges, schema::SharedLedger, work::Ddl},
    recopy,
};
use crate::ddl::{Change, Plan, Scope, plan::Uncovered, record::Versions};

/// Something else depends on it.
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
    /// Whether a second session can copy: with foreign keys at work it would wait for the transaction that waits for it.
    beside: bool,
}

impl Replay {
    /// As the job says.
    pub fn new(job: &Job, ledger: Arc<SharedLedger>, replica_role: bool) -> Self {
        let types = job.schema.as_ref().map(|schema| schema.types.clone()).unwrap_or_default();
        Self {
            source: job.source.clone(),
            slot: job.slot.clone(),
            ledger,
            scope: Scope { tables: job.filter.clone(), types },
            changes: job.schema.clone(),
            beside: replica_role,
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
        let replaying = Replaying { client, ddl };
        replaying.remove(&plan).await?;
        let notes = replaying.define(&plan).await?;
        for change in &changes {
            self.follow_name(client, change).await?;
        }
        for table in changes.iter().filter_map(|change| self.to_copy(change)) {
            recopy::mark(self, client, &table).await?;
        }
        self.note(client, ddl, &changes, "applied", &notes).await?;
        self.copy_small(client, settings).await?;
        let failed = client.failed("after a schema change");
        client.batch_execute("SET LOCAL search_path TO DEFAULT; SET CONSTRAINTS ALL DEFERRED").await.map_err(failed)?;
        Ok(())
    }

    /// Copies what waits for it at once, when there is little of it or nobody else could.
    async fn copy_small(&self, client: &Client, settings: &SchemaChanges) -> Result<(), Error> {
        match recopy::begin(self, client).await? {
            Some(round) if !self.beside || round.is_small(settings.copy_inline) => round.copy(self, client).await,
            // The reader asks for it after the transaction.
            Some(_) | None => Ok(()),
        }
    }

    /// Leaves a note of why the stream stops here, after the transaction was rolled back. The error itself is what counts.
    pub async fn note_failure(&self, client: &Client, ddl: &Ddl, error: &Error) {
        let objects: Vec<String> = ddl.record.changes.iter().map(Change::describe).collect();
        let noted = client
            .execute(
                "INSERT INTO pgstream.ddl_applied (slot_name, id, command, objects, state, notes)
                 VALUES ($1, $2, $3, $4, 'failed', ARRAY[$5])
                 ON CONFLICT (slot_name, id) DO UPDATE SET state = 'failed', notes = ARRAY[$5], applied_at = now()",
                &[&self.slot, &ddl.record.id, &ddl.record.command, &objects, &error.to_string()],
            )
            .await;
        if let Err(error) = noted {
            tracing::debug!(%error, "the failure was not noted");
        }
    }

    /// A followed table whose rows the target cannot compute.
    fn to_copy(&self, change: &Change) -> Option<TableName> {
        let Change::Table(Versions { was, is: Some(is), must_copy, filled, .. }) = change else { return None };
        let followed = is.kind == 'r' && is.persistence == 'p' && self.scope.tables.wants_rows(&is.schema, &is.name);
        (followed && (*must_copy || (*filled && was.is_none()))).then(|| is.table())
    }

    /// The ledger knows tables by their names.
    async fn follow_name(&self, client: &Client, change: &Change) -> Result<(), Error> {
        let moves: Vec<(TableName, Option<TableName>)> = {
            let ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
            match change {
                Change::Table(Versions { was: Some(was), is, .. }) => {
                    vec![(was.table(), is.as_ref().map(|is| is.table()))]
                }
                Change::Schema(Versions { was: Some(was), is: Some(is), .. }) if was.name != is.name => ledger
                    .of_schema(&was.name)
                    .into_iter()
                    .map(|table| (table.clone(), Some(TableName::new(&is.name, &table.name))))
                    .collect(),
                _ => Vec::new(),
            }
        };
        for (was, is) in moves.into_iter().filter(|(was, is)| is.as_ref() != Some(was)) {
            let (schema, name) = is.as_ref().map(|is| (&is.schema, &is.name)).unzip();
            client
                .execute(
                    "WITH gone AS (DELETE FROM pgstream.snapshot_ledger
                                    WHERE source = $1 AND schema_name = $2 AND table_name = $3 RETURNING *)
                     INSERT INTO pgstream.snapshot_ledger
                     SELECT source, system_identifier, $4, $5, part, parts, snapshot, snapshot_lsn, row_count, byte_count,
                            finished_at, with_schema
                       FROM gone WHERE $4::text IS NOT NULL",
                    &[&self.slot, &was.schema, &was.name, &schema, &name],
                )
                .await
                .map_err(client.failed("renaming in pgstream.snapshot_ledger"))?;
            self.ledger.lock().unwrap_or_else(PoisonError::into_inner).rename(&was, is);
        }
        Ok(())
    }

    async fn is_skipped(&self, client: &Client, ddl: &Ddl) -> Result<bool, Error> {
        let commit = ddl.commit;
        let found = client
            .execute(
                "UPDATE pgstream.ddl_applied SET commit_lsn = $3, applied_at = now()
                  WHERE slot_name = $1 AND id = $2 AND state = 'skipped'",
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
                 VALUES ($1, $2, $3, $4, $5, $6, $7)
                 ON CONFLICT (slot_name, id) DO UPDATE
                    SET objects = $4, state = $5, notes = $6, commit_lsn = $7, applied_at = now()",
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
    /// What is gone, and the rows of tables that are copied again.
    async fn remove(&self, plan: &Plan) -> Result<(), Error> {
        self.let_go(&plan.remove).await?;
        for table in &plan.must_copy {
            self.execute(&format!("DELETE FROM ONLY {table}")).await?;
        }
        Ok(())
    }

    /// What is new or altered; what was not carried over.
    async fn define(&self, plan: &Plan) -> Result<Vec<String>, Error> {
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
    async fn let_go(&self, statements: &[String]) -> Result<(), Error> {
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
