//! The stream: committed source transactions, applied exactly once, in order.
//!
//! ```text
//!  walsender ─frames─> reader ─batches─> applier ─rows + progress, one transaction─> target
//!      ^                 │                  │
//!      └── status update ┘<── durable LSN ──┘        door: checks at every connect
//! ```
//! The invariant: the slot never confirms a position whose changes are not durable on the target, together with the
//! progress row that names it.

mod apply;
mod batch;
mod door;
mod error;
mod follow;
#[doc(hidden)]
pub mod hostile;
mod net;
mod reader;
mod relation;
mod schema;
mod sequences;
pub mod status;
mod stdout;
mod work;

use std::{sync::Arc, time::Duration};

use pgstream_config::{
    pattern::TableFilter,
    pipeline::{ObjectTypes, Retry},
};
use pgstream_postgres::{
    Class, Client, Lsn, Server, Session,
    replication::{Connection, ReplicationStream, StartOptions},
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, interval, timeout},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use self::{
    apply::{Applier, Replay},
    door::{Opened, Writer},
    reader::Reader,
    schema::SharedLedger,
    sequences::Sequences,
    status::{Monitor, Phase},
    stdout::Printer,
    work::{Applied, Copying, Work},
};
pub use self::{error::Error, reader::Limits};
pub use crate::ddl::plan::Rights;
use crate::{
    mutants::{self, Failpoint},
    target::valve::{self, Mark, State},
};

/// How often the source is asked how much it has written.
const SOURCE_INTERVAL: Duration = Duration::from_secs(1);
/// How often sequence values are carried over.
const SEQUENCE_INTERVAL: Duration = Duration::from_secs(10);
/// A stop is promised within 10 s: so long may the target take to finish its transaction,
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// the last look at the sequences,
const LAST_SEQUENCES: Duration = Duration::from_secs(2);
/// and the end of the replication connection, which waits while the server decodes a huge transaction.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// Where changes go.
#[derive(Clone)]
pub enum Destination {
    /// Another server.
    Postgres(Server),
    /// Newline-delimited JSON on standard output.
    Stdout,
}

/// One stream.
#[derive(Clone)]
pub struct Job {
    /// Where changes come from.
    pub source: Server,
    /// Where they go.
    pub destination: Destination,
    /// Replication slot on the source.
    pub slot: String,
    /// Publication on the source.
    pub publication: String,
    /// Tables that are followed.
    pub filter: TableFilter,
    /// How schema changes are followed; `None` when they are not.
    pub schema: Option<SchemaChanges>,
    /// `disable_triggers`; `None` means when the role may.
    pub disable_triggers: Option<bool>,
    /// Bounds of one batch.
    pub limits: Limits,
    /// What to do after transient errors.
    pub retry: Retry,
}

/// How schema changes are followed.
#[derive(Debug, Clone)]
pub struct SchemaChanges {
    /// Kinds of objects.
    pub types: ObjectTypes,
    /// Whether owners and grants are carried over.
    pub rights: Rights,
    /// Tables of so many bytes that have to be copied again are copied in the change's own transaction, so that nobody
    /// sees them without rows; larger ones beside the stream.
    pub copy_inline: u64,
}

/// [`SchemaChanges::copy_inline`] that is worth a moment's pause.
pub const COPY_INLINE: u64 = 32 << 20;

/// Streams until cancelled, reconnecting after transient errors.
///
/// # Errors
/// The first error that time does not heal, or the last one when retries are limited.
pub async fn run(job: &Job, monitor: &Arc<Monitor>, cancel: &CancellationToken) -> Result<(), Error> {
    let mut tries = 0;
    let mut failing_since = Instant::now();
    loop {
        monitor.enter(Phase::Starting);
        let before = monitor.read();
        let result = session(job, monitor, cancel).await;
        let after = monitor.read();
        if after.batches > before.batches {
            tries = 0;
            failing_since = Instant::now();
        }
        match result {
            Ok(()) => break,
            Err(error) if cancel.is_cancelled() && error.class() == Class::Transient => break,
            Err(error) if error.class() != Class::Transient => {
                monitor.enter(Phase::Stopped);
                return Err(error);
            }
            Err(error) => {
                tries += 1;
                let spent = job.retry.max_elapsed.is_some_and(|limit| failing_since.elapsed() >= limit);
                if spent || job.retry.max_retries.is_some_and(|limit| tries > limit) {
                    monitor.enter(Phase::Stopped);
                    return Err(Error::GaveUp { tries, last: Box::new(error) });
                }
                let wait = job.retry.wait(tries);
                monitor.reconnecting(error.to_string());
                tracing::warn!(slot = job.slot, %error, tries, wait_ms = wait.as_millis(), "the stream broke; reconnecting");
                tokio::select! {
                    () = cancel.cancelled() => break,
                    () = tokio::time::sleep(wait) => {}
                }
                mutants::reached(Failpoint::Reconnecting);
            }
        }
    }
    monitor.enter(Phase::Stopped);
    Ok(())
}

/// One connection's worth of streaming.
async fn session(job: &Job, monitor: &Arc<Monitor>, cancel: &CancellationToken) -> Result<(), Error> {
    let open = async {
        match &job.destination {
            Destination::Postgres(target) => {
                let (opened, writer) = match door::open(job, target).await {
                    Err(Error::SlotMissing { slot }) => return Err(why_missing(slot, target).await),
                    opened => opened?,
                };
                let sequences = door::connect(target, &Session::new("pgstream-aws sequences")).await?;
                Ok::<_, Error>((opened, Some((target.clone(), writer, sequences))))
            }
            Destination::Stdout => Ok((door::open_without_target(job).await?, None)),
        }
    };
    let (opened, sink) = tokio::select! {
        () = cancel.cancelled() => return Ok(()),
        opened = open => opened?,
    };
    match sink {
        Some((target, writer, sequences)) => {
            match to_server(job, monitor, cancel, opened, target.clone(), writer, sequences).await {
                Err(Error::SlotMissing { slot }) => Err(why_missing(slot, &target).await),
                ended => ended,
            }
        }
        None => to_stdout(job, monitor, cancel, opened).await,
    }
}

async fn start(
    job: &Job,
    replication: Connection,
    position: Lsn,
    options: &StartOptions,
) -> Result<ReplicationStream, Error> {
    let started = async {
        replication.start(position, options).await.map_err(|error| match error.sqlstate() {
            // It was there a moment ago.
            Some("42704") => Error::SlotMissing { slot: job.slot.clone() },
            _ => error.into(),
        })
    };
    door::in_time(started).await
}

/// A slot that the safety valve dropped is on record on the target.
async fn why_missing(slot: String, target: &Server) -> Error {
    let mark = async { valve::read(&target.connect(&Session::new("pgstream-aws run")).await?, &slot).await };
    match mark.await {
        Ok(Some(Mark { state: State::SlotDropped, reason, since })) => Error::SlotDropped { slot, since, reason },
        _ => Error::SlotMissing { slot },
    }
}

async fn to_server(
    job: &Job,
    monitor: &Arc<Monitor>,
    cancel: &CancellationToken,
    opened: Opened,
    target: Server,
    writer: Writer,
    sequences_target: Client,
) -> Result<(), Error> {
    let position = opened.position;
    let (work, todo) = mpsc::channel(1);
    let (report, applied) = watch::channel(Applied { done: 0, applied: position, durable: position });
    let ledger = Arc::new(SharedLedger::new(writer.ledger.clone()));
    let (copying, copied) = watch::channel(Copying::default());
    let schema = Replay::new(job, Arc::clone(&ledger), writer.replica_role);
    let applier = Applier::new(writer, target, schema, report, copying, Arc::clone(monitor)).await?;
    let options = start_options(job, &opened);
    let stream = start(job, opened.replication, position, &options).await?;
    tracing::info!(slot = job.slot, %position, binary = options.binary, "streaming");
    monitor.starts_at(position);

    let mut applying = AbortOnDropHandle::new(tokio::spawn(applier.run(todo)));
    let binary = options.binary.then(|| job.publication.clone());
    let reader = Reader::new(stream, position, applied, Arc::clone(monitor), job.filter.clone(), ledger, job.limits)
        .in_binary(binary)
        .beside(copied);
    let source = Arc::new(opened.source);
    let mut reading = read_beside(reader, work, opened.records_ddl.then(|| Arc::clone(&source)), cancel.clone());
    let (reader, read) = tokio::select! {
        joined = &mut reading => {
            let (reader, read) = joined.map_err(|panic| Error::Protocol { problem: format!("the reader ended early: {panic}") })?;
            (Some(reader), read)
        }
        Err(error) = follow_sequences(job, &source, &sequences_target) => (None, Err(error)),
        Err(error) = watch_source(&source, monitor) => (None, Err(error)),
    };
    drop(reading);
    let read = name_cause(job, &source, read).await;
    // The sender is gone: the applier finishes the transaction it is in, makes it durable and ends.
    let Ok(joined) = timeout(STOP_PATIENCE, &mut applying).await else {
        tracing::warn!("the target is still busy with a transaction: left to roll back, it will be applied again");
        return read;
    };
    joined.map_err(|panic| Error::Protocol { problem: format!("the applier ended early: {panic}") })??;
    read?;
    if cancel.is_cancelled() {
        // All of them, whatever was seen before: a TRUNCATE may have restarted some on the target since.
        let mut sequences = Sequences::default();
        let last = sequences.carry_over(&source, &sequences_target, &job.filter);
        if let Ok(Err(error)) = timeout(LAST_SEQUENCES, last).await {
            tracing::warn!(%error, "sequences were not carried over a last time");
        }
        // What was durable is on record on the target; the source hears of it at the next start otherwise.
        if let Some(reader) = reader
            && let Ok(Err(error)) = timeout(CLOSE_PATIENCE, reader.close()).await
        {
            tracing::warn!(%error, "the replication connection did not end in order");
        }
    }
    Ok(())
}

/// Reads as a task of the runtime's threads. Whatever the main thread waits for takes another thread to wake it, which on
/// a busy machine costs a tenth of a millisecond each time; tasks that wake each other stay on one thread.
fn read_beside(
    mut reader: Reader,
    work: mpsc::Sender<Work>,
    source: Option<Arc<Client>>,
    cancel: CancellationToken,
) -> AbortOnDropHandle<(Reader, Result<(), Error>)> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let read = reader.run(work, source.as_deref(), &cancel).await;
        (reader, read)
    }))
}

async fn to_stdout(job: &Job, monitor: &Arc<Monitor>, cancel: &CancellationToken, opened: Opened) -> Result<(), Error> {
    let position = opened.position;
    let (work, todo) = mpsc::channel(1);
    let (report, applied) = watch::channel(Applied { done: 0, applied: position, durable: position });
    let options = start_options(job, &opened);
    let stream = start(job, opened.replication, position, &options).await?;
    monitor.starts_at(position);
    let printing = AbortOnDropHandle::new(tokio::spawn(Printer::new(report, Arc::clone(monitor)).run(todo)));
    let mut reader =
        Reader::new(stream, position, applied, Arc::clone(monitor), job.filter.clone(), Default::default(), job.limits);
    let read = tokio::select! {
        read = reader.run(work, None, cancel) => read,
        Err(error) = watch_source(&opened.source, monitor) => Err(error),
    };
    let read = name_cause(job, &opened.source, read).await;
    printing.await.map_err(|panic| Error::Protocol { problem: format!("the printer ended early: {panic}") })??;
    read?;
    timeout(CLOSE_PATIENCE, reader.close()).await.unwrap_or(Ok(()))
}

/// What is not in the stream is looked at beside it: the values of sequences, and whether the publication is there.
async fn follow_sequences(job: &Job, source: &Client, target: &Client) -> Result<(), Error> {
    let mut sequences = Sequences::default();
    let mut tick = interval(SEQUENCE_INTERVAL);
    loop {
        tick.tick().await;
        door::check_publication(source, &job.publication).await?;
        match sequences.carry_over(source, target, &job.filter).await {
            Err(error) if error.is_catalog_race() => tracing::debug!(%error, "sequences were dropped meanwhile"),
            carried => carried?,
        }
    }
}

/// How far ahead the source is, only the source can say: its walsender tells what it has sent.
async fn watch_source(source: &Client, monitor: &Monitor) -> Result<(), Error> {
    let mut tick = interval(SOURCE_INTERVAL);
    loop {
        tick.tick().await;
        let row = source.query_one("SELECT pg_current_wal_flush_lsn()", &[]).await;
        monitor.source_written(row.map_err(source.failed("reading the end of the source's WAL"))?.get(0));
    }
}

/// A walsender that misses its publication says so in words; the catalog says it in a way that can be told apart.
async fn name_cause(job: &Job, source: &Client, read: Result<(), Error>) -> Result<(), Error> {
    match read {
        Err(Error::Postgres(error)) if error.class() == Class::Setup => {
            match door::check_publication(source, &job.publication).await {
                Err(missing @ Error::PublicationMissing { .. }) => Err(missing),
                Ok(()) | Err(_) => Err(error.into()),
            }
        }
        read => read,
    }
}

fn start_options(job: &Job, opened: &Opened) -> StartOptions {
    StartOptions {
        slot: job.slot.clone(),
        publications: vec![job.publication.clone()],
        proto_version: opened.proto_version,
        binary: opened.binary,
        messages: false,
    }
}
