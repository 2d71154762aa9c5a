//! Lanes: sessions that copy parts of tables, and sessions that restore what surrounds rows, each task by task.
//!
//! A lane that fails starts over with new sessions. What it did may have arrived all the same, when only the answer to its
//! COMMIT was lost: that is asked before anything is done again.

use std::time::Duration;

use pgstream_config::pipeline::Retry;
use pgstream_postgres::{Client, Server, Session};

use super::{
    Error,
    copy::{self, Context, Copied, Unit},
    exporter::{self, Exporter},
    ledger::Origin,
    marks,
    restore::Dump,
    workers::Piece,
};

/// Tries of one part or piece before the run gives up; the caller's retry starts a new run, which goes on.
const TRIES: usize = 4;

/// Where and how lanes connect.
pub(crate) struct Lanes {
    pub(crate) source: Server,
    pub(crate) source_session: Session,
    pub(crate) target: Server,
    pub(crate) copy_session: Session,
    pub(crate) schema_session: Session,
    pub(crate) target_major: u32,
    /// Sessions that fill run with `session_replication_role = replica`.
    pub(crate) ignore_triggers: bool,
    pub(crate) copies: usize,
    pub(crate) schemas: usize,
    pub(crate) retry: Retry,
    pub(crate) origin: Origin,
}

impl Lanes {
    /// A session of the target that fills tables.
    pub(crate) async fn copier(&self) -> Result<Client, Error> {
        let session = self.target.connect(&self.copy_session).await?;
        marks::own(&session, &self.origin).await?;
        Ok(session)
    }

    /// A session of the target that restores what surrounds the rows.
    pub(crate) async fn restorer(&self) -> Result<Client, Error> {
        let session = self.target.connect(&self.schema_session).await?;
        marks::own(&session, &self.origin).await?;
        Ok(session)
    }
}

/// Copies one part after the other.
#[derive(Default)]
pub(super) struct CopyLane {
    source: Option<Box<Client>>,
    target: Option<Box<Client>>,
}

/// Restores one piece after the other.
#[derive(Default)]
pub(super) struct SchemaLane {
    target: Option<Box<Client>>,
}

/// Waits between tries: the configured policy, bounded here.
pub(crate) fn pause(retry: &Retry, attempt: usize) -> Duration {
    let factor = u32::try_from(1_usize << attempt.min(8)).unwrap_or(1);
    retry.initial.saturating_mul(factor).min(retry.max)
}

pub(crate) fn tries(retry: &Retry) -> usize {
    retry.max_retries.map_or(TRIES, |retries| retries.saturating_add(1).min(TRIES))
}

impl CopyLane {
    /// Copies a part, again after transient failures.
    pub(super) async fn copy(
        &mut self,
        lanes: &Lanes,
        context: &Context,
        exporter: &Exporter,
        unit: &Unit,
        part: usize,
    ) -> Result<Copied, Error> {
        let mut attempt = 0;
        loop {
            let once = async {
                if attempt > 0 {
                    let target = self.target.insert(Box::new(lanes.copier().await?));
                    if let Some(copied) = copy::already(context, target, unit, part).await? {
                        return Ok(copied);
                    }
                }
                self.copy_once(lanes, context, exporter, unit, part).await
            };
            let error = match once.await {
                Ok(copied) => return Ok(copied),
                Err(error) => error,
            };
            attempt += 1;
            // Whatever happened, these sessions may be in the middle of something.
            *self = Self::default();
            if !error.is_transient() || attempt >= tries(&lanes.retry) || !exporter.is_alive().await {
                return Err(error);
            }
            tracing::warn!(table = %unit.table.name, part, attempt, %error, "copying again after a transient failure");
            tokio::time::sleep(pause(&lanes.retry, attempt)).await;
        }
    }

    async fn copy_once(
        &mut self,
        lanes: &Lanes,
        context: &Context,
        exporter: &Exporter,
        unit: &Unit,
        part: usize,
    ) -> Result<Copied, Error> {
        let source = match self.source.take() {
            Some(session) => session,
            None => Box::new(exporter::import(&lanes.source, &lanes.source_session, &context.snapshot).await?),
        };
        let mut target = match self.target.take() {
            Some(session) => session,
            None => Box::new(lanes.copier().await?),
        };
        let copied = if exporter::can_read(&source, &unit.table.name, unit.table.kind).await? {
            exporter::still_held(&source, &lanes.source, &context.snapshot).await?;
            copy::part(context, &source, &mut target, unit, part).await?
        } else {
            tracing::info!(table = %unit.table.name, "a statement on the source waits to change this table until it is copied");
            let (_one_at_a_time, reader) = exporter.reader().await;
            copy::part(context, reader, &mut target, unit, part).await?
        };
        *self = Self { source: Some(source), target: Some(target) };
        Ok(copied)
    }
}

impl SchemaLane {
    /// Restores a piece, again after transient failures.
    pub(super) async fn restore(&mut self, lanes: &Lanes, dump: &Dump, piece: &Piece) -> Result<(), Error> {
        let mut attempt = 0;
        loop {
            let once = async {
                let target = match self.target.take() {
                    Some(session) => session,
                    None => Box::new(lanes.restorer().await?),
                };
                if attempt > 0 && dump.is_restored(&target, &piece.ids).await? {
                    self.target = Some(target);
                    return Ok(());
                }
                if let Some(key) = &piece.key {
                    key.plan(&target).await?;
                }
                dump.restore(&target, lanes.target_major, &piece.ids, &piece.what).await?;
                self.target = Some(target);
                Ok::<(), Error>(())
            };
            let Err(error) = once.await else { return Ok(()) };
            attempt += 1;
            if !error.is_transient() || attempt >= tries(&lanes.retry) {
                return Err(error);
            }
            tracing::warn!(what = piece.what, attempt, %error, "restoring again after a transient failure");
            tokio::time::sleep(pause(&lanes.retry, attempt)).await;
        }
    }
}
