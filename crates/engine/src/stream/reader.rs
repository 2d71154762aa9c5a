//! From the walsender to batches: frames are decoded, filtered and gathered until the applier is ready for more.
//!
//! ```text
//!  frame ─> decode ─┬─ Relation, Type ─> relation versions
//!                   ├─ Begin … Commit ─> batch (whole transactions; chunks of a huge one)
//!                   └─ keepalive ──────> idle position, when nothing is in flight
//!  tick ───────────────────────────────> status update: only what the target has made durable
//! ```
//! A batch leaves as soon as the applier is idle, so that it shrinks to one transaction when caught up; far behind it is
//! given a moment to grow. Nothing is read while a full batch waits: the server's socket is the buffer. Status updates go on
//! meanwhile.

mod messages;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, future::OptionFuture};
use pgstream_config::pattern::TableFilter;
use pgstream_postgres::{
    Client, Lsn,
    pgoutput::RelationId,
    replication::{Frame, ReplicationStream},
};
use tokio::{
    sync::{mpsc, watch},
    task::yield_now,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    Error, door,
    follow::{Follow, Followed},
    relation::{SourceRelation, TypeName},
    schema::{self, SharedLedger},
    status::Monitor,
    work::{Applied, Boundary, Chunk, Copying, Ddl, Work},
};
use crate::mutants::{self, Failpoint, Mutant};

/// The server drops a silent client after `wal_sender_timeout` (60 s by default).
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// An idle position is written to the target at most this often.
const IDLE_INTERVAL: Duration = Duration::from_secs(10);
/// Ask for a sign of life after this silence, and give the connection up after three times as much.
const SILENCE: Duration = Duration::from_secs(20);

/// From so many bytes of WAL behind the source on, nobody waits for a single transaction, and large batches pay.
const BACKLOG: u64 = 1 << 20;
/// Then the socket is emptied at most this often. The walsender sends each change by itself: while nobody takes them, the
/// kernel puts them together, which costs both sides less (measured on loopback: 60% of the walsender's time is `send`).
const REST: Duration = Duration::from_millis(8);
/// So long a batch may then grow.
const GROWTH: Duration = Duration::from_millis(100);

/// How often the source is asked whether it sees what it has sent,
const UNSEEN_POLL: Duration = Duration::from_millis(10);
/// and after how many transactions at the latest.
const UNSEEN: usize = 1_000;

/// Bounds of one batch.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most bytes of changes.
    pub bytes: usize,
    /// Most changes.
    pub changes: usize,
}

/// Where in the stream the reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Between transactions.
    Boundary,
    /// In one that the target already holds.
    Known,
    /// In one that is new: its id and the start of its commit record.
    Inside { xid: u32, commit: Lsn },
}

/// Reads one replication stream until it ends, fails or is cancelled.
pub struct Reader {
    stream: ReplicationStream,
    applied: watch::Receiver<Applied>,
    monitor: Arc<Monitor>,
    filter: TableFilter,
    ledger: Arc<SharedLedger>,
    limits: Limits,
    /// The publication, when values travel in their binary form.
    binary: Option<String>,

    at: At,
    /// End of the last transaction that was read whole.
    read_to: Lsn,
    /// Position up to which transactions are already on the target.
    start: Lsn,
    types: HashMap<u32, TypeName>,
    follow: HashMap<RelationId, Follow>,
    versions: HashMap<RelationId, Arc<SourceRelation>>,
    relation_count: u32,
    chunk: Chunk,
    /// A schema change that follows the chunk.
    ddl: Option<Box<Ddl>>,
    /// Nothing is read before this piece of work is done: a schema change, or the beginning of copies.
    barrier: Option<u64>,
    /// Tables may wait to be copied again.
    copy_due: bool,
    /// Who is being copied beside the stream, as the applier says,
    copies: Option<watch::Receiver<Copying>>,
    /// and as it was when that began.
    copying: Copying,
    /// A message that waits for the copy.
    held: Option<Bytes>,
    /// Relations that may have been created in the very transaction that is read.
    unknown: Vec<RelationId>,
    /// Transactions that the source must see before it is asked: those that are asked about, and those whose rows were
    /// passed over because a later snapshot will hold them.
    unseen: HashSet<u32>,
    /// When the chunk before it left.
    last_chunk: Instant,
    /// The transaction that is read began in a chunk that was sent: the target's transaction is open.
    spilled: bool,
    sent: u64,
    last_frame: Instant,
    last_idle: Instant,
    idle_at: Option<Lsn>,
    reply_now: bool,
}

impl Reader {
    /// A reader of `stream`, which starts at `start`.
    pub fn new(
        stream: ReplicationStream,
        start: Lsn,
        applied: watch::Receiver<Applied>,
        monitor: Arc<Monitor>,
        filter: TableFilter,
        ledger: Arc<SharedLedger>,
        limits: Limits,
    ) -> Self {
        let now = Instant::now();
        // A chunk that goes on with a transaction begins with its mark, and must have room for more.
        let limits = Limits { bytes: limits.bytes.max(1), changes: limits.changes.max(2) };
        Self {
            stream,
            applied,
            monitor,
            filter,
            ledger,
            limits,
            binary: None,
            at: At::Boundary,
            read_to: start,
            start,
            types: HashMap::new(),
            follow: HashMap::new(),
            versions: HashMap::new(),
            relation_count: 0,
            chunk: Chunk::default(),
            ddl: None,
            barrier: None,
            copy_due: false,
            copies: None,
            copying: Copying::default(),
            held: None,
            unknown: Vec::new(),
            unseen: HashSet::new(),
            last_chunk: now,
            spilled: false,
            sent: 0,
            last_frame: now,
            last_idle: now,
            idle_at: None,
            reply_now: false,
        }
    }

    /// Values travel in their binary form, for the tables of this publication.
    pub fn in_binary(mut self, publication: Option<String>) -> Self {
        self.binary = publication;
        self
    }

    /// Tables may be copied beside the stream; those that an earlier session left without rows are, before anything else.
    pub fn beside(mut self, copies: watch::Receiver<Copying>) -> Self {
        self.copy_due = self.has_stale();
        self.copies = Some(copies);
        self
    }

    /// Reads until cancelled, or until whoever takes the work is gone. `source` is asked what the
    /// stream does not tell of schema changes; without it there are none.
    ///
    /// # Errors
    /// When the connection fails, or something arrives that must not be applied.
    pub async fn run(
        &mut self,
        work: mpsc::Sender<Work>,
        source: Option<&Client>,
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        let mut tick = interval(STATUS_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut rest_until = Instant::now();
        let mut copies = self.copies.clone();
        loop {
            let asked = match source {
                Some(source) => self.ask(source).await?,
                None => {
                    self.unknown.clear();
                    true
                }
            };
            let done = self.applied.borrow().done;
            if self.barrier.is_some_and(|barrier| done >= barrier) {
                self.lift_barrier();
            }
            self.release_held()?;
            let full = self.is_full();
            let idle = done == self.sent;
            let whole = self.at == At::Boundary && !self.chunk.is_empty();
            let grows = whole && !full && idle && self.is_far_behind() && self.last_chunk.elapsed() < GROWTH;
            let ready = asked && ((self.is_due() && self.barrier.is_none()) || (idle && whole && !grows));
            let copied = copies.as_mut().filter(|_| !self.copying.is_empty());
            let resting = !full && Instant::now() < rest_until;
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(()),
                // Whoever takes the work has failed; its own error says why.
                () = work.closed() => return Ok(()),
                _ = tick.tick() => {
                    if full {
                        // Nothing is read, so nothing is heard.
                        self.last_frame = Instant::now();
                    }
                    self.check_silence()?;
                    self.send_status().await?;
                }
                permit = work.reserve(), if ready => {
                    let Ok(permit) = permit else { return Ok(()) };
                    permit.send(self.next());
                    self.sent += 1;
                    self.last_chunk = Instant::now();
                }
                () = sleep_until(self.last_chunk + GROWTH), if grows => {}
                Ok(()) = self.applied.changed(), if !idle => {}
                () = sleep(UNSEEN_POLL), if !asked => {}
                Some(Ok(())) = OptionFuture::from(copied.map(watch::Receiver::changed)) => {}
                () = sleep_until(rest_until), if resting => {}
                frame = self.stream.frame(), if !full && !resting => {
                    self.take(frame?)?;
                    self.take_what_is_there()?;
                    if !self.is_full() && self.is_far_behind() && self.is_drained().await? {
                        rest_until = Instant::now() + REST;
                        self.stream.sleep();
                    }
                    if self.reply_now {
                        self.send_status().await?;
                    }
                    self.record_idle(&work);
                }
            }
        }
    }

    /// The piece of work that is due.
    fn next(&mut self) -> Work {
        if let Some(ddl) = self.ddl.take_if(|_| self.chunk.is_empty()) {
            self.spilled = true;
            self.barrier = Some(self.sent + 1);
            self.copy_due = true;
            return Work::Ddl(ddl);
        }
        if self.may_copy() && self.chunk.is_empty() {
            self.barrier = Some(self.sent + 1);
            self.copy_due = false;
            return Work::CopyAgain;
        }
        let boundary = match self.at {
            At::Inside { .. } => Boundary::Open,
            At::Boundary | At::Known => Boundary::Commit { end: self.read_to },
        };
        self.spilled = boundary == Boundary::Open;
        Work::Chunk(Box::new(self.chunk.take(boundary)))
    }

    /// The schema change is applied: tables may have been born, or copied again, or wait for that.
    fn lift_barrier(&mut self) {
        self.barrier = None;
        self.copy_due = self.copy_due && self.has_stale();
        if let Some(copies) = &mut self.copies {
            self.copying = Arc::clone(&copies.borrow_and_update());
        }
        for (id, follow) in &mut self.follow {
            if let (Follow::Rows(followed) | Follow::Unborn(followed), Some(version)) =
                (&*follow, self.versions.get(id))
            {
                let copied = schema::copied(&self.ledger, &version.table).filter(|c| c.reaches(self.start));
                *follow = Follow::Rows(Followed { copied, ..followed.clone() });
            }
        }
    }

    /// What the stream does not tell: whether tables that were first seen in this transaction are also created by it, and
    /// whether new columns can be read in binary. False while the source does not see what it has sent: a transaction
    /// stands in the WAL a moment before others see it, and with synchronous replication as long as its standby takes.
    async fn ask(&mut self, source: &Client) -> Result<bool, Error> {
        let brings_types = self.ddl.as_ref().is_some_and(|ddl| !ddl.types_checked && schema::brings_types(&ddl.record));
        if let At::Inside { xid, .. } = self.at
            && (!self.unknown.is_empty() || (brings_types && self.binary.is_some()))
        {
            self.unseen.insert(xid);
        }
        let matters = !self.unknown.is_empty() || self.ddl.is_some() || self.may_copy() || self.unseen.len() > UNSEEN;
        if matters && !self.unseen.is_empty() {
            self.unseen = schema::unseen(source, &self.unseen).await?;
            if !self.unseen.is_empty() {
                return Ok(false);
            }
        }
        if let (Some(publication), Some(ddl)) = (&self.binary, &mut self.ddl)
            && !std::mem::replace(&mut ddl.types_checked, true)
            && brings_types
            && door::has_local_references(source, publication).await?
        {
            return Err(Error::TextNeeded);
        }
        if self.unknown.is_empty() {
            return Ok(true);
        }
        let unknown = std::mem::take(&mut self.unknown);
        let At::Inside { xid, .. } = self.at else { return Ok(true) };
        let filled = schema::filled_by(source, xid).await?;
        for id in unknown {
            if let (Some(Follow::Rows(followed)), Some(version)) = (self.follow.get(&id), self.versions.get(&id))
                && filled.contains(&version.table)
            {
                let followed = followed.clone();
                self.follow.insert(id, Follow::Unborn(followed));
            }
        }
        Ok(true)
    }

    /// Sends a last status update and ends the stream.
    ///
    /// # Errors
    /// When the connection ends early.
    pub async fn close(mut self) -> Result<(), Error> {
        self.send_status().await?;
        Ok(self.stream.close().await?)
    }

    /// Whether the source has written much more than was read.
    fn is_far_behind(&self) -> bool {
        self.monitor.written().0 > self.read_to.0.saturating_add(BACKLOG)
    }

    /// Whether nothing more may be added. A transaction that was spilled closes its chunk with its commit: the target's
    /// transaction must not grow with the next ones.
    fn is_full(&self) -> bool {
        self.is_due()
            || self.barrier.is_some()
            || !self.unknown.is_empty()
            || self.unseen.len() > UNSEEN
            || self.held.is_some()
    }

    /// Whether what there is must be handed over.
    fn is_due(&self) -> bool {
        let chunk = &self.chunk;
        (self.spilled && self.at == At::Boundary)
            || self.ddl.is_some()
            || self.may_copy()
            || chunk.batch.bytes() >= self.limits.bytes
            || chunk.batch.len() >= self.limits.changes
            || chunk.marks.len() >= self.limits.changes
    }

    /// Nothing is read between the transaction that left a table without rows and the snapshot that they are copied under.
    fn may_copy(&self) -> bool {
        self.copy_due && self.barrier.is_none() && self.at == At::Boundary
    }

    fn has_stale(&self) -> bool {
        !self.ledger.lock().unwrap_or_else(PoisonError::into_inner).stale().is_empty()
    }

    /// Goes on with the message that waited for a copy, once that is finished.
    fn release_held(&mut self) -> Result<(), Error> {
        if !self.copying.is_empty()
            && let Some(copies) = &mut self.copies
        {
            self.copying = Arc::clone(&copies.borrow_and_update());
        }
        match self.held.take_if(|_| self.copying.is_empty()) {
            Some(message) => self.message(&message),
            None => Ok(()),
        }
    }

    /// Whether nothing has come while the last of it was taken. A walsender that is near goes on as soon as there is room,
    /// and the runtime learns of it only when it asks the socket again.
    async fn is_drained(&mut self) -> Result<bool, Error> {
        yield_now().await;
        Ok(!self.take_what_is_there()?)
    }

    /// Takes what has arrived, up to a full batch. Returns whether there was anything.
    fn take_what_is_there(&mut self) -> Result<bool, Error> {
        let mut any = false;
        while !self.is_full() {
            let frame = match self.stream.buffered()? {
                Some(frame) => frame,
                None => match self.stream.frame().now_or_never() {
                    Some(frame) => frame?,
                    None => break,
                },
            };
            self.take(frame)?;
            any = true;
        }
        Ok(any)
    }

    fn take(&mut self, frame: Frame) -> Result<(), Error> {
        self.last_frame = Instant::now();
        match frame {
            Frame::Keepalive { end, reply_requested, .. } => {
                self.monitor.source_end(end);
                self.reply_now |= reply_requested;
                self.idle_at = Some(end);
            }
            Frame::Data { end, message, .. } => {
                self.monitor.source_end(end);
                self.monitor.received(message.len());
                self.idle_at = None;
                self.message(&message)?;
            }
        }
        Ok(())
    }

    /// With nothing in flight, the end of what the server has sent may be acknowledged once it is on record: an idle
    /// or filtered source would otherwise keep its WAL for ever.
    fn record_idle(&mut self, work: &mpsc::Sender<Work>) {
        let Some(end) = self.idle_at else { return };
        let quiet = self.at == At::Boundary && self.chunk.is_empty() && self.applied.borrow().done == self.sent;
        if quiet {
            self.monitor.reached(end);
        }
        if !quiet || end <= self.read_to || self.last_idle.elapsed() < IDLE_INTERVAL {
            return;
        }
        if let Ok(permit) = work.try_reserve() {
            permit.send(Work::Idle(end));
            self.sent += 1;
            self.read_to = end;
            self.last_idle = Instant::now();
        }
    }

    async fn send_status(&mut self) -> Result<(), Error> {
        let mut applied = *self.applied.borrow();
        if mutants::is(Mutant::AckBeforeCommit) {
            (applied.durable, applied.applied) = (self.read_to, self.read_to);
        }
        if mutants::is(Mutant::AckInFlight) {
            applied.durable = applied.durable.max(self.idle_at.unwrap_or(Lsn::ZERO));
        }
        let ask = self.last_frame.elapsed() > SILENCE;
        self.reply_now = false;
        self.stream.status(self.read_to, applied.durable, applied.applied, ask).await?;
        if applied.durable > self.start {
            mutants::reached(Failpoint::Acknowledged);
        }
        Ok(())
    }

    fn check_silence(&self) -> Result<(), Error> {
        let silent = self.last_frame.elapsed();
        if silent > SILENCE * 3 { Err(Error::Silent { seconds: silent.as_secs() }) } else { Ok(()) }
    }
}
