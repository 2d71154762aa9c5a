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

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::FutureExt;
use pgstream_config::pattern::TableFilter;
use pgstream_postgres::{
    Client, Lsn,
    pgoutput::{Message, Relation, RelationId, Timestamp, Truncate, Tuple, Xid},
    replication::{Frame, ReplicationStream},
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    Error,
    batch::{self, Kind, RelIndex},
    door,
    follow::{Follow, Followed},
    relation::{SourceRelation, TypeName},
    schema::{self, SharedLedger},
    status::Monitor,
    work::{Applied, Boundary, Chunk, Ddl, Mark, Work},
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
const REST: Duration = Duration::from_millis(20);
/// So long a batch may then grow.
const GROWTH: Duration = Duration::from_millis(100);

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
    /// Nothing is read before this piece of work, a schema change, is done.
    barrier: Option<u64>,
    /// Relations that may have been created in the very transaction that is read.
    unknown: Vec<RelationId>,
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
            unknown: Vec::new(),
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
        loop {
            match source {
                Some(source) => self.ask(source).await?,
                None => self.unknown.clear(),
            }
            let done = self.applied.borrow().done;
            if self.barrier.is_some_and(|barrier| done >= barrier) {
                self.lift_barrier();
            }
            let full = self.is_full();
            let idle = done == self.sent;
            let whole = self.at == At::Boundary && !self.chunk.is_empty();
            let grows = whole && !full && idle && self.is_far_behind() && self.last_chunk.elapsed() < GROWTH;
            let ready = (full && self.barrier.is_none()) || (idle && whole && !grows);
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
                () = sleep_until(rest_until), if resting => {}
                frame = self.stream.frame(), if !full && !resting => {
                    self.take(frame?)?;
                    self.take_what_is_there()?;
                    if !self.is_full() && self.is_far_behind() {
                        rest_until = Instant::now() + REST;
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
            return Work::Ddl(ddl);
        }
        let boundary = match self.at {
            At::Inside { .. } => Boundary::Open,
            At::Boundary | At::Known => Boundary::Commit { end: self.read_to },
        };
        self.spilled = boundary == Boundary::Open;
        Work::Chunk(Box::new(self.chunk.take(boundary)))
    }

    /// The schema change is applied: tables may have been born, or copied again.
    fn lift_barrier(&mut self) {
        self.barrier = None;
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
    /// whether new columns can be read in binary.
    async fn ask(&mut self, source: &Client) -> Result<(), Error> {
        if let (Some(publication), Some(ddl)) = (&self.binary, &mut self.ddl)
            && !std::mem::replace(&mut ddl.types_checked, true)
            && schema::brings_types(&ddl.record)
            && door::has_local_references(source, publication).await?
        {
            return Err(Error::TextNeeded);
        }
        if self.unknown.is_empty() {
            return Ok(());
        }
        let unknown = std::mem::take(&mut self.unknown);
        let At::Inside { xid, .. } = self.at else { return Ok(()) };
        let filled = schema::filled_by(source, xid).await?;
        for id in unknown {
            if let (Some(Follow::Rows(followed)), Some(version)) = (self.follow.get(&id), self.versions.get(&id))
                && filled.contains(&version.table)
            {
                let followed = followed.clone();
                self.follow.insert(id, Follow::Unborn(followed));
            }
        }
        Ok(())
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
        let chunk = &self.chunk;
        (self.spilled && self.at == At::Boundary)
            || self.ddl.is_some()
            || self.barrier.is_some()
            || !self.unknown.is_empty()
            || chunk.batch.bytes() >= self.limits.bytes
            || chunk.batch.len() >= self.limits.changes
            || chunk.marks.len() >= self.limits.changes
    }

    /// Takes what has arrived, up to a full batch.
    fn take_what_is_there(&mut self) -> Result<(), Error> {
        while !self.is_full() {
            let frame = match self.stream.buffered()? {
                Some(frame) => frame,
                None => match self.stream.frame().now_or_never() {
                    Some(frame) => frame?,
                    None => break,
                },
            };
            self.take(frame)?;
        }
        Ok(())
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

    fn message(&mut self, bytes: &Bytes) -> Result<(), Error> {
        let message = Message::parse(bytes).map_err(|e| Error::Protocol { problem: e.to_string() })?;
        match &message {
            Message::Begin { final_lsn, xid, .. } => self.begin(*final_lsn, *xid),
            Message::Commit { end_lsn, commit_time, .. } => self.commit(*end_lsn, *commit_time),
            Message::Relation(relation) => {
                self.relation(relation);
                Ok(())
            }
            Message::Type { id, namespace, name } => {
                self.types.insert(id.0, TypeName { schema: (*namespace).to_owned(), name: (*name).to_owned() });
                Ok(())
            }
            Message::Insert { relation, new } => self.row(*relation, Kind::Insert(*new)),
            Message::Update { relation, old, new } => self.row(*relation, Kind::Update { old: *old, new: *new }),
            Message::Delete { relation, old } => self.row(*relation, Kind::Delete(*old)),
            Message::Truncate(truncate) => self.truncate(truncate),
            Message::Origin { .. } | Message::Logical(_) => Ok(()),
            _ => Err(Error::Protocol { problem: "a streamed or prepared transaction, which was not asked for".into() }),
        }
    }

    fn begin(&mut self, commit: Lsn, xid: Xid) -> Result<(), Error> {
        if self.at != At::Boundary {
            return Err(Error::Protocol { problem: "BEGIN inside a transaction".into() });
        }
        // The start of a commit record before the position means that the record itself ends at or before it.
        self.at = if commit < self.start {
            At::Known
        } else {
            self.chunk.marks.push(Mark { first: self.chunk.batch.len(), commit });
            At::Inside { xid: xid.0, commit }
        };
        Ok(())
    }

    fn commit(&mut self, end: Lsn, time: Timestamp) -> Result<(), Error> {
        match std::mem::replace(&mut self.at, At::Boundary) {
            At::Boundary => return Err(Error::Protocol { problem: "COMMIT outside a transaction".into() }),
            At::Known => {}
            At::Inside { .. } => {
                if end < self.read_to {
                    return Err(Error::Protocol { problem: format!("COMMIT at {end} after {}", self.read_to) });
                }
                self.read_to = end;
                self.chunk.transactions += 1;
                self.chunk.commit_time = Some(time);
            }
        }
        Ok(())
    }

    fn relation(&mut self, message: &Relation<'_>) {
        let relation = SourceRelation::new(message, &self.types);
        let known = self.versions.get(&message.id).map(|known| **known == relation);
        if known == Some(true) {
            return;
        }
        self.adopt(message.id, Arc::new(relation));
        let follows = matches!(self.follow.get(&message.id), Some(Follow::Rows(Followed { copied: None, .. })));
        if follows && known.is_none() && matches!(self.at, At::Inside { .. }) {
            self.unknown.push(message.id);
        }
    }

    /// Rows of the relation follow in this version.
    fn adopt(&mut self, id: RelationId, relation: Arc<SourceRelation>) {
        let (schema, name) = (relation.table.schema.as_str(), relation.table.name.as_str());
        let follow = if schema == "pgstream" {
            if name == "schema_log" { Follow::SchemaLog } else { Follow::Ignored }
        } else if self.filter.wants_rows(schema, name) {
            let index = RelIndex(self.relation_count);
            self.relation_count += 1;
            self.chunk.relations.push(Arc::clone(&relation));
            let copied = schema::copied(&self.ledger, &relation.table).filter(|c| c.reaches(self.start));
            Follow::Rows(Followed { index, columns: relation.columns.len(), copied, touched: None })
        } else {
            Follow::Ignored
        };
        if let Some(Follow::Rows(_)) = self.follow.insert(id, follow) {
            // Rows of the old version must not be merged with, or moved behind, rows of the new one.
            self.chunk.batch.barrier();
        }
        self.versions.insert(id, relation);
    }

    /// A row of the log of schema changes.
    fn schema_change(&mut self, id: RelationId, row: Tuple<'_>, xid: u32, commit: Lsn) -> Result<(), Error> {
        let Some(log) = self.versions.get(&id) else { return Ok(()) };
        let mut ddl = schema::read(log, row, commit)?;
        if schema::is_copied(&mut ddl.record, &self.ledger, xid, commit) {
            return Ok(());
        }
        let renamed: Vec<_> = self
            .versions
            .iter()
            .filter_map(|(id, version)| Some((*id, Arc::new(schema::renamed(version, &ddl.record)?))))
            .collect();
        for (id, version) in renamed {
            self.adopt(id, version);
        }
        self.ddl = Some(Box::new(ddl));
        Ok(())
    }

    fn row(&mut self, id: RelationId, kind: Kind<'_>) -> Result<(), Error> {
        let (xid, commit) = match self.at {
            At::Inside { xid, commit } => (xid, commit),
            At::Known => return Ok(()),
            At::Boundary => return Err(Error::Protocol { problem: "a row outside a transaction".into() }),
        };
        match self.follow.get_mut(&id) {
            None => Err(Error::Protocol { problem: format!("a row of relation {id}, which was never described") }),
            Some(Follow::Ignored | Follow::Unborn(_)) => Ok(()),
            Some(Follow::SchemaLog) => match kind {
                Kind::Insert(row) => self.schema_change(id, row, xid, commit),
                Kind::Update { .. } | Kind::Delete(_) => Ok(()),
            },
            Some(Follow::Rows(followed)) if followed.is_copied(xid, commit) => Ok(()),
            Some(Follow::Rows(followed)) => {
                if !followed.fits(kind) {
                    return Err(Error::Protocol {
                        problem: format!("a row of relation {id} with another column count"),
                    });
                }
                followed.touch(&mut self.chunk, self.sent);
                self.chunk.batch.push(followed.index, kind);
                Ok(())
            }
        }
    }

    fn truncate(&mut self, truncate: &Truncate<'_>) -> Result<(), Error> {
        let (xid, commit) = match self.at {
            At::Inside { xid, commit } => (xid, commit),
            At::Known => return Ok(()),
            At::Boundary => return Err(Error::Protocol { problem: "TRUNCATE outside a transaction".into() }),
        };
        let mut relations = Vec::new();
        for id in truncate.relations() {
            match self.follow.get_mut(&id) {
                None => {
                    let problem = format!("TRUNCATE of relation {id}, which was never described");
                    return Err(Error::Protocol { problem });
                }
                Some(Follow::Rows(followed)) if !followed.is_copied(xid, commit) => {
                    followed.touch(&mut self.chunk, self.sent);
                    relations.push(followed.index);
                }
                Some(_) => {}
            }
        }
        if !relations.is_empty() {
            let Truncate { cascade, restart_identity, .. } = *truncate;
            self.chunk.batch.truncate(batch::Truncate { relations, cascade, restart_identity });
            self.chunk.truncates.push(commit);
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
