//! From batches to the target: set-wise, exact on doubt.
//!
//! ```text
//!  chunk ─> net effect ─> few rows of a known kind: one statement, progress row and all
//!              │
//!              └────────> BEGIN; deletes, updates, inserts a table; progress row; COMMIT   one target transaction
//!              │ doubtful, refused, or a row too few
//!              ├─ foreign keys active ──> fewer transactions at once, down to one
//!              └────────────────────────> the same again, row by row, in commit order
//! ```
//! The invariant: rows and the progress row that covers them commit together, under this replicator's epoch.

mod durability;
mod images;
mod parts;
mod pipeline;
mod recopy;
mod rowwise;
mod schema;
mod setwise;
mod statements;
mod tables;
mod together;
pub(super) mod values;

use std::{
    future::pending,
    sync::Arc,
    time::{Duration, Instant},
};

use pgstream_postgres::{Class, Client, Lsn, Server, answered, pgoutput::Timestamp};
use tokio::{
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval},
};
use tokio_postgres::{Row, Statement};
use tokio_util::task::AbortOnDropHandle;

pub use self::schema::Replay;
use self::{
    durability::Durability,
    setwise::{Doubt, Failure, Order},
    tables::Tables,
    together::{Done, Progress, Together},
};
use super::{
    Error,
    door::Writer,
    net::Planner,
    status::{Monitor, RowCounts},
    work::{Applied, Boundary, Chunk, Copying, Ddl, Work},
};
use crate::{
    mutants::{self, Failpoint, Mutant},
    target::progress::{ADVANCE, Claim},
};

/// How often the target is asked what it has flushed while commits wait. Its WAL writer flushes every 200 ms.
const DURABILITY_POLL: Duration = Duration::from_millis(100);

/// The one session that writes to the target.
pub struct Applier {
    client: Client,
    claim: Claim,
    replica_role: bool,
    schema: Arc<Replay>,
    target: Server,
    /// Copies tables again.
    copier: Option<AbortOnDropHandle<Result<(), Error>>>,
    copying: watch::Sender<Copying>,
    tables: Tables,
    planner: Planner,
    together: Together,
    advance: Statement,
    positions: Statement,
    durability: Durability,
    report: watch::Sender<Applied>,
    monitor: Arc<Monitor>,
    /// A source transaction is longer than the chunks that were applied: its target transaction is open.
    open: bool,
    /// The target transaction has moved the progress already.
    advanced: bool,
    /// Rows of the open transaction.
    rows: RowCounts,
    /// Source transactions in it.
    transactions: u64,
}

impl Applier {
    /// An applier that tells `report` what it has done.
    ///
    /// # Errors
    /// When the session fails.
    pub async fn new(
        writer: Writer,
        target: Server,
        schema: Replay,
        report: watch::Sender<Applied>,
        copying: watch::Sender<Copying>,
        monitor: Arc<Monitor>,
    ) -> Result<Self, Error> {
        let Writer { client, claim, replica_role, .. } = writer;
        let asked = client.query_one(&format!("SELECT {}", durability::POSITIONS), &[]).await;
        let known = if asked.is_ok() {
            durability::POSITIONS
        } else {
            // A target that cannot tell what is flushed waits for it at each commit.
            let failed = client.failed("preparing the apply session");
            client.batch_execute("SET synchronous_commit = on").await.map_err(failed)?;
            durability::NO_POSITIONS
        };
        let positions = format!("SELECT {known}");
        let failed = client.failed("preparing the apply session");
        let (advance, positions) =
            futures::future::try_join(client.prepare(ADVANCE), client.prepare(&positions)).await.map_err(failed)?;
        let start = report.borrow().durable;
        Ok(Self {
            client,
            claim,
            replica_role,
            schema: Arc::new(schema),
            target,
            copier: None,
            copying,
            tables: Tables::default(),
            planner: Planner::default(),
            together: Together::new(known),
            advance,
            positions,
            durability: Durability::new(start),
            report,
            monitor,
            open: false,
            advanced: false,
            rows: RowCounts::default(),
            transactions: 0,
        })
    }

    /// Applies work until the reader is gone, then makes it durable.
    ///
    /// # Errors
    /// When a change cannot be applied or the target fails; nothing of its transaction is kept.
    pub async fn run(mut self, mut todo: mpsc::Receiver<Work>) -> Result<(), Error> {
        let session = [self.client.pulse()];
        // One timer for all the time: a new one for each wait would wake the runtime's threads each time.
        let mut look = interval(DURABILITY_POLL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.reset();
            tokio::select! {
                biased;
                work = todo.recv() => match work {
                    Some(Work::Chunk(chunk)) => {
                        let began = Instant::now();
                        answered(&session, self.chunk(*chunk)).await?;
                        self.monitor.applied_in(began.elapsed());
                        self.report.send_modify(|applied| applied.done += 1);
                    }
                    Some(Work::Ddl(ddl)) => {
                        answered(&session, self.schema_change(&ddl)).await?;
                        self.report.send_modify(|applied| applied.done += 1);
                    }
                    Some(Work::CopyAgain) => {
                        self.copy_again().await?;
                        self.report.send_modify(|applied| applied.done += 1);
                    }
                    Some(Work::Idle(end)) => {
                        answered(&session, self.commit(end, None, true)).await?;
                        self.report.send_modify(|applied| applied.done += 1);
                    }
                    None => break,
                },
                copied = finished(&mut self.copier) => {
                    copied?;
                    self.copier = None;
                    self.copying.send_replace(Copying::default());
                }
                _ = look.tick(), if self.durability.is_waiting() && !self.open => {
                    let row = answered(&session, self.ask_positions()).await?;
                    self.saw(row.get(0), row.get(1));
                }
            }
        }
        self.finish().await
    }

    async fn chunk(&mut self, mut chunk: Chunk) -> Result<(), Error> {
        if let Some(Boundary::Commit { end }) = chunk.boundary.filter(|_| mutants::is(Mutant::ProgressFirst)) {
            self.commit(end, None, !self.open).await?;
        }
        self.tables.announce(std::mem::take(&mut chunk.relations));
        self.load_tables(&chunk).await?;
        if let Some(Boundary::Commit { end }) = chunk.boundary
            && self.together(&chunk, end).await?
        {
            return Ok(());
        }
        let continues = chunk.boundary == Some(Boundary::Open);
        let savepoint = self.open || continues;
        let begin = match (self.open, savepoint) {
            (false, false) => "BEGIN; SET CONSTRAINTS ALL DEFERRED",
            (false, true) => "BEGIN; SET CONSTRAINTS ALL DEFERRED; SAVEPOINT chunk",
            (true, _) => "SAVEPOINT chunk",
        };
        let again =
            if savepoint { "ROLLBACK TO SAVEPOINT chunk" } else { "ROLLBACK; BEGIN; SET CONSTRAINTS ALL DEFERRED" };
        let rows = self.changes(&chunk, begin, again).await?;
        self.rows += rows;
        self.transactions += chunk.transactions;
        if savepoint {
            self.execute("RELEASE SAVEPOINT chunk").await?;
        }
        match chunk.boundary {
            Some(Boundary::Commit { end }) => self.commit(end, chunk.commit_time, false).await,
            Some(Boundary::Open) | None => {
                if mutants::is(Mutant::SplitTransaction) {
                    self.execute("COMMIT; BEGIN; SET CONSTRAINTS ALL DEFERRED").await?;
                }
                self.open = true;
                Ok(())
            }
        }
    }

    /// Applies and commits a small chunk by one statement, if it can be one.
    async fn together(&mut self, chunk: &Chunk, end: Lsn) -> Result<bool, Error> {
        if self.open || !self.replica_role {
            return Ok(false);
        }
        let progress = Progress { claim: &self.claim, end, time: chunk.commit_time };
        match self.together.apply(&self.client, &self.tables, &mut self.planner, chunk, &progress).await {
            Ok(None) => Ok(false),
            Ok(Some(Done { rows, positions: (inserted, flushed) })) => {
                mutants::reached(Failpoint::Committed);
                self.saw(inserted, flushed);
                self.rows += rows;
                self.transactions += chunk.transactions;
                self.committed(end, chunk.commit_time);
                Ok(true)
            }
            Err(Failure::Stop(error)) => Err(error),
            Err(Failure::Doubt(doubt)) => {
                tracing::debug!(why = doubt.why(), "applying a batch by several statements");
                Ok(false)
            }
        }
    }

    /// Applies a schema change in the target's transaction, which its source transaction goes on in.
    async fn schema_change(&mut self, ddl: &Ddl) -> Result<(), Error> {
        if !self.open {
            self.execute("BEGIN; SET CONSTRAINTS ALL DEFERRED").await?;
            self.open = true;
        }
        if let Err(error) = self.schema.apply(&self.client, ddl).await {
            if error.class() != Class::Transient && self.execute("ROLLBACK").await.is_ok() {
                self.schema.note_failure(&self.client, ddl, &error).await;
            }
            return Err(error);
        }
        self.tables.unload();
        self.together.forget();
        self.monitor.schema_changed();
        Ok(())
    }

    /// Begins to copy the tables that wait for it, unless that has to wait for another schema change.
    async fn copy_again(&mut self) -> Result<(), Error> {
        let Some(round) = recopy::begin(&self.schema, &self.client).await? else { return Ok(()) };
        if !self.replica_role {
            self.execute("BEGIN; SET CONSTRAINTS ALL DEFERRED").await?;
            round.copy(&self.schema, &self.client).await?;
            return self.execute("COMMIT").await;
        }
        self.copying.send_replace(round.announce(&self.schema)?);
        let work = round.copy_beside(Arc::clone(&self.schema), self.target.clone());
        self.copier = Some(AbortOnDropHandle::new(tokio::spawn(work)));
        Ok(())
    }

    /// Applies the changes of a chunk inside the target's transaction: all at once, or as carefully as it takes.
    async fn changes(&mut self, chunk: &Chunk, begin: &'static str, again: &str) -> Result<RowCounts, Error> {
        self.tables.note_parents(&chunk.batch);
        let whole = chunk.whole();
        let mut opening = setwise::opening(&self.client, begin);
        // When the chunk is the whole transaction, the progress moves with the same round trip as the rows.
        let early = chunk.boundary.filter(|_| !self.open && !mutants::is(Mutant::ProgressApart));
        if let Some(Boundary::Commit { end }) = early {
            opening.send(Some(1), advance(&self.client, &self.advance, &self.claim, end, chunk.commit_time));
        }
        let set =
            setwise::apply(&self.client, &mut self.tables, &mut self.planner, &whole, Order::DeletesFirst, opening);
        let doubt = match set.await {
            Ok(rows) => {
                self.advanced = matches!(early, Some(Boundary::Commit { .. }));
                return Ok(rows);
            }
            Err(Failure::Stop(error)) => return Err(error),
            Err(Failure::Doubt(doubt)) => doubt,
        };
        tracing::debug!(why = doubt.why(), "applying a batch with less at once");
        self.monitor.fell_back();
        self.execute(again).await?;
        match doubt {
            // Under the replica role, and where triggers look on, single rows are always right.
            Doubt::Unclear(_) | Doubt::Refused(_) if !self.replica_role => {
                parts::apply(&self.client, &mut self.tables, &mut self.planner, chunk).await
            }
            _ => rowwise::apply(&self.client, &mut self.tables, &whole).await,
        }
    }

    async fn ask_positions(&self) -> Result<Row, Error> {
        let row = self.client.query_one(&self.positions, &[]).await;
        Ok(row.map_err(self.client.failed("asking what is flushed"))?)
    }

    async fn load_tables(&mut self, chunk: &Chunk) -> Result<(), Error> {
        for &(index, first) in &chunk.touched {
            self.tables.load(&self.client, index, self.replica_role, chunk.commit_of(first)).await?;
        }
        Ok(())
    }

    /// Moves the progress and commits, with the rows that were applied since the last commit.
    async fn commit(&mut self, end: Lsn, time: Option<Timestamp>, alone: bool) -> Result<(), Error> {
        let failed = |client: &Client| client.failed("committing a batch");
        if alone {
            self.execute("BEGIN").await?;
        }
        mutants::reached(Failpoint::Applied);
        if mutants::is(Mutant::ProgressApart) {
            self.execute("COMMIT; BEGIN").await?;
        }
        if !std::mem::take(&mut self.advanced) {
            let moved = advance(&self.client, &self.advance, &self.claim, end, time).await;
            if moved.map_err(failed(&self.client))? != 1 && !mutants::is(Mutant::NoFence) {
                return Err(Error::Fenced { slot: self.claim.slot.clone() });
            }
        }
        mutants::reached(Failpoint::Advanced);
        let (committed, positions) =
            futures::future::join(self.client.batch_execute("COMMIT"), self.client.query_one(&self.positions, &[]))
                .await;
        committed.map_err(|error| self.refused_at_commit(error, end))?;
        let positions = positions.map_err(failed(&self.client))?;
        mutants::reached(Failpoint::Committed);
        self.open = false;
        self.tables.forget_parents();
        self.committed(end, time);
        self.saw(positions.get(0), positions.get(1));
        Ok(())
    }

    /// The target has committed what lies before `end`.
    fn committed(&mut self, end: Lsn, time: Option<Timestamp>) {
        self.durability.committed(end);
        let (rows, transactions) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.transactions));
        self.monitor.committed(end, time.map(Timestamp::unix_micros), transactions, rows);
        self.report.send_modify(|applied| applied.applied = end);
    }

    /// Deferred constraints speak at COMMIT.
    fn refused_at_commit(&self, error: tokio_postgres::Error, end: Lsn) -> Error {
        let error = self.client.failed("committing a batch")(error);
        match error.class() {
            Class::Data => Error::Deferred { lsn: end, source: Box::new(error) },
            _ => error.into(),
        }
    }

    /// The target's WAL is at `inserted`, and flushed up to `flushed`.
    fn saw(&mut self, inserted: Lsn, flushed: Lsn) {
        let durable = self.durability.saw(inserted, flushed);
        self.monitor.durable(durable);
        self.report.send_if_modified(|applied| {
            let moved = applied.durable != durable;
            applied.durable = durable;
            moved
        });
    }

    /// A commit that waits for the disk takes all earlier ones with it.
    async fn finish(&mut self) -> Result<(), Error> {
        if self.open {
            self.execute("ROLLBACK").await?;
        }
        if self.durability.is_waiting() {
            self.execute("SET synchronous_commit = on").await?;
            let end = self.report.borrow().applied;
            self.commit(end, None, true).await?;
        }
        Ok(())
    }

    async fn execute(&self, sql: &str) -> Result<(), Error> {
        Ok(self.client.batch_execute(sql).await.map_err(self.client.failed("applying a batch"))?)
    }
}

/// Moves the progress in the open transaction; the number of rows says whether this is still the one who may.
async fn advance(
    client: &Client,
    statement: &Statement,
    claim: &Claim,
    end: Lsn,
    time: Option<Timestamp>,
) -> Result<u64, tokio_postgres::Error> {
    client.execute(statement, &[&claim.slot, &claim.epoch, &end, &time.and_then(Timestamp::system_time)]).await
}

/// Waits for a copy to end, and for ever if there is none.
async fn finished(copier: &mut Option<AbortOnDropHandle<Result<(), Error>>>) -> Result<(), Error> {
    match copier {
        Some(copier) => {
            copier.await.map_err(|panic| Error::Protocol { problem: format!("a copy ended early: {panic}") })?
        }
        None => pending().await,
    }
}
