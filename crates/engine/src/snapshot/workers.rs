//! Rows and what follows them, side by side.
//!
//! ```text
//!  parts, largest table first ──> copy lanes (table_workers; each a source and a target session)
//!                                      │ last part of a table committed
//!                                      v
//!                  its keys and indexes ──> schema lanes (schema_workers; each a target session)
//! ```
//! One task decides who does what and owns all state; lanes only work. The first error ends all of them.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use pgstream_postgres::{Client, TableName};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    Error,
    coordinate::{Copiers, Offer},
    copy::{Context, Copied, Unit},
    exporter::Exporter,
    foreign_keys::ForeignKey,
    lanes::{CopyLane, Lanes, SchemaLane},
    progress::{Event, Progress},
    restore::Dump,
    select::TableWork,
};

/// Tables up to this size share a piece of schema work.
const SMALL: u64 = 16 * 1024 * 1024;

/// Entries of one shared piece.
const BATCH: usize = 64;

/// A run of copies and the schema work that follows.
#[derive(Clone)]
pub(crate) struct Run {
    pub(crate) lanes: Arc<Lanes>,
    pub(crate) context: Arc<Context>,
    /// The session of the target that steers.
    pub(crate) control: Arc<Client>,
    pub(crate) copiers: Copiers,
    /// Absent when no schema is copied.
    pub(crate) dump: Option<Arc<Dump>>,
    pub(crate) progress: Progress,
    pub(crate) cancel: CancellationToken,
}

/// A piece of schema work: restored in one transaction.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) ids: Vec<u32>,
    pub(super) what: String,
    bytes: u64,
    /// Tables that no other piece may lock meanwhile.
    locks: Vec<u32>,
    /// What can start when this is done.
    then: Vec<Piece>,
    /// What it adds, when it is a foreign key.
    pub(super) key: Option<Box<ForeignKey>>,
}

enum Done {
    Part { lane: CopyLane, unit: usize, result: Result<Copied, Error> },
    Piece { lane: SchemaLane, piece: Piece, result: Result<(), Error> },
    Round { offer: Box<Offer>, result: Result<Vec<(usize, Copied)>, Error> },
}

/// Where rows come from.
enum Source {
    /// No rows are copied.
    None,
    /// Lanes of this process import the snapshot.
    Here(Arc<Exporter>),
    /// Other processes do.
    Elsewhere(Box<Offer>),
}

/// Totals of a run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Totals {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

/// State of the deciding task.
struct Board {
    units: Vec<Arc<Unit>>,
    waiting: VecDeque<(usize, usize)>,
    parts_left: Vec<usize>,
    /// Tables that must be complete before the key.
    before: HashMap<TableName, HashSet<TableName>>,
    copied: HashSet<TableName>,
    started: HashSet<usize>,
    copying: usize,
    work: HashMap<u32, (TableWork, u64)>,
    pieces: VecDeque<Piece>,
    locked: HashSet<u32>,
    pieces_done: usize,
    pieces_total: usize,
    totals: Totals,
}

impl Run {
    /// Copies all units; the schema work of each table starts when its rows are in, that of other tables at once.
    pub(crate) async fn copy(
        &self,
        exporter: Exporter,
        units: Vec<Arc<Unit>>,
        before: HashMap<TableName, HashSet<TableName>>,
        work: HashMap<u32, (TableWork, u64)>,
    ) -> Result<Totals, Error> {
        let source = match self.copiers {
            Copiers::Here => Source::Here(Arc::new(exporter)),
            Copiers::Elsewhere { .. } | Copiers::Children { .. } => {
                Offer::publish(self, exporter, units.clone(), &before)
                    .await?
                    .map_or(Source::None, |offer| Source::Elsewhere(Box::new(offer)))
            }
        };
        let waiting =
            units.iter().enumerate().flat_map(|(at, unit)| (0..unit.parts.len()).map(move |part| (at, part))).collect();
        let parts_left = units.iter().map(|unit| unit.parts.len()).collect();
        let copied_oids: HashSet<u32> = units.iter().map(|unit| unit.table.oid).collect();
        let (later, now): (HashMap<_, _>, HashMap<_, _>) =
            work.into_iter().partition(|(table, _)| copied_oids.contains(table));
        let planned: HashSet<TableName> = units.iter().map(|unit| unit.table.name.clone()).collect();
        let before = before
            .into_iter()
            .map(|(table, parents)| (table, parents.into_iter().filter(|p| planned.contains(p)).collect()))
            .collect();
        let mut board = Board {
            units,
            waiting,
            parts_left,
            before,
            copied: HashSet::new(),
            started: HashSet::new(),
            copying: 0,
            pieces_total: later.len() + now.len(),
            work: later,
            pieces: VecDeque::new(),
            locked: HashSet::new(),
            pieces_done: 0,
            totals: Totals::default(),
        };
        let mut now: Vec<_> = now.into_iter().collect();
        now.sort_by_key(|(table, (_, bytes))| (std::cmp::Reverse(*bytes), *table));
        for (_, (work, bytes)) in now {
            board.add_work(work, bytes, "indexes and keys");
        }
        self.drive(board, source).await
    }

    /// Adds foreign keys, several at a time, never two that lock the same table.
    pub(crate) async fn foreign_keys(&self, keys: &[(u32, ForeignKey)]) -> Result<(), Error> {
        let pieces: VecDeque<Piece> = keys
            .iter()
            .map(|(id, key)| Piece {
                ids: vec![*id],
                what: "a foreign key".to_owned(),
                bytes: u64::MAX,
                locks: vec![key.table, key.references],
                then: Vec::new(),
                key: Some(Box::new(key.clone())),
            })
            .collect();
        let board = Board {
            units: Vec::new(),
            waiting: VecDeque::new(),
            parts_left: Vec::new(),
            before: HashMap::new(),
            copied: HashSet::new(),
            started: HashSet::new(),
            copying: 0,
            work: HashMap::new(),
            pieces_total: pieces.len(),
            pieces,
            locked: HashSet::new(),
            pieces_done: 0,
            totals: Totals::default(),
        };
        self.drive(board, Source::None).await.map(drop)
    }

    async fn drive(&self, mut board: Board, source: Source) -> Result<Totals, Error> {
        let mut tasks: JoinSet<Done> = JoinSet::new();
        let mut exporter = match source {
            Source::None => None,
            Source::Here(exporter) => Some(exporter),
            Source::Elsewhere(offer) => {
                board.waiting.clear();
                board.copying = offer.left();
                self.watch(&mut tasks, offer);
                None
            }
        };
        let mut copy_lanes: Vec<CopyLane> = (0..self.lanes.copies).map(|_| CopyLane::default()).collect();
        let mut schema_lanes: Vec<SchemaLane> = (0..self.lanes.schemas).map(|_| SchemaLane::default()).collect();
        loop {
            while let Some(exporter) = exporter.clone().filter(|_| !copy_lanes.is_empty()) {
                let Some((unit, part)) = board.next_part() else { break };
                let lane = copy_lanes.pop().unwrap_or_default();
                self.start_part(&mut tasks, &mut board, lane, exporter, unit, part);
            }
            while !schema_lanes.is_empty() {
                let Some(piece) = board.next_piece(schema_lanes.len()) else { break };
                self.start_piece(&mut tasks, schema_lanes.pop().unwrap_or_default(), piece);
            }
            if board.waiting.is_empty() && board.copying == 0 {
                // The last row is in: nothing needs the snapshot and its locks any more.
                exporter = None;
                copy_lanes.clear();
            }
            let done = tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Err(Error::Cancelled),
                done = tasks.join_next() => done,
            };
            match done {
                None => return board.finished(),
                Some(Err(error)) => return Err(Error::Worker(error.to_string())),
                Some(Ok(Done::Part { lane, unit, result })) => {
                    let copied = result?;
                    copy_lanes.push(lane);
                    self.part_done(&mut board, unit, copied);
                }
                Some(Ok(Done::Round { offer, result })) => {
                    for (unit, copied) in result? {
                        self.part_done(&mut board, unit, copied);
                    }
                    if offer.left() > 0 {
                        self.watch(&mut tasks, offer);
                    }
                }
                Some(Ok(Done::Piece { lane, piece, result })) => {
                    result?;
                    schema_lanes.push(lane);
                    board.piece_done(piece);
                    self.progress.send(Event::Schema { done: board.pieces_done, total: board.pieces_total });
                }
            }
        }
    }

    fn start_part(
        &self,
        tasks: &mut JoinSet<Done>,
        board: &mut Board,
        mut lane: CopyLane,
        exporter: Arc<Exporter>,
        at: usize,
        part: usize,
    ) {
        let Some(unit) = board.units.get(at).cloned() else { return };
        board.copying += 1;
        if board.started.insert(at) {
            self.progress.send(Event::TableStarted(unit.progress.clone()));
        }
        let (lanes, context) = (self.lanes.clone(), self.context.clone());
        tasks.spawn(async move {
            let result = Box::pin(lane.copy(&lanes, &context, &exporter, &unit, part)).await;
            Done::Part { lane, unit: at, result }
        });
    }

    /// Waits for what others copy.
    fn watch(&self, tasks: &mut JoinSet<Done>, mut offer: Box<Offer>) {
        let run = self.clone();
        tasks.spawn(async move {
            let result = Box::pin(offer.watch(&run)).await;
            Done::Round { offer, result }
        });
    }

    fn start_piece(&self, tasks: &mut JoinSet<Done>, mut lane: SchemaLane, piece: Piece) {
        let Some(dump) = self.dump.clone() else { return };
        let lanes = self.lanes.clone();
        tasks.spawn(async move {
            let result = Box::pin(lane.restore(&lanes, &dump, &piece)).await;
            Done::Piece { lane, piece, result }
        });
    }

    fn part_done(&self, board: &mut Board, at: usize, copied: Copied) {
        board.copying -= 1;
        board.totals.rows += copied.rows;
        board.totals.bytes += copied.bytes;
        let (Some(unit), Some(left)) = (board.units.get(at).cloned(), board.parts_left.get_mut(at)) else { return };
        *left -= 1;
        if *left > 0 {
            return;
        }
        tracing::info!(
            table = %unit.table.name, rows = unit.progress.rows(), bytes = unit.progress.bytes(), "table copied"
        );
        self.progress.send(Event::TableFinished(unit.progress.clone()));
        board.copied.insert(unit.table.name.clone());
        if let Some((work, bytes)) = board.work.remove(&unit.table.oid) {
            board.add_work(work, bytes, &format!("indexes and keys of {}", unit.table.name));
        }
    }
}

impl Board {
    /// Nothing runs any more: nothing may be left either.
    fn finished(self) -> Result<Totals, Error> {
        if self.waiting.is_empty() && self.pieces.is_empty() && self.work.is_empty() {
            return Ok(self.totals);
        }
        let left = (self.waiting.len(), self.pieces.len(), self.work.len());
        Err(Error::Worker(format!("work was left over (parts, pieces, tables): {left:?}")))
    }

    fn next_part(&mut self) -> Option<(usize, usize)> {
        let ready = |(unit, _): &(usize, usize)| {
            let name = self.units.get(*unit).map(|unit| &unit.table.name);
            name.and_then(|name| self.before.get(name)).is_none_or(|parents| parents.is_subset(&self.copied))
        };
        let at = self.waiting.iter().position(ready)?;
        self.waiting.remove(at)
    }

    fn next_piece(&mut self, idle: usize) -> Option<Piece> {
        let at = self.pieces.iter().position(|piece| piece.locks.iter().all(|table| !self.locked.contains(table)))?;
        let mut piece = self.pieces.remove(at)?;
        self.locked.extend(&piece.locks);
        let share = self.pieces.len().div_ceil(idle.max(1)).min(BATCH);
        let mut shared = 0;
        // Small tables share a transaction; how many depends on how many lanes would otherwise be idle.
        while piece.bytes <= SMALL && shared < share {
            let Some(next) = self.pieces.iter().position(|p| p.bytes.saturating_add(piece.bytes) <= SMALL) else {
                break;
            };
            let Some(next) = self.pieces.remove(next) else { break };
            piece.ids.extend(next.ids);
            piece.bytes += next.bytes;
            "indexes and keys of small tables".clone_into(&mut piece.what);
            self.pieces_total = self.pieces_total.saturating_sub(1);
            shared += 1;
        }
        Some(piece)
    }

    fn piece_done(&mut self, piece: Piece) {
        for table in &piece.locks {
            self.locked.remove(table);
        }
        self.pieces_done += 1;
        self.pieces_total += piece.then.len();
        self.pieces.extend(piece.then);
    }

    fn add_work(&mut self, work: TableWork, bytes: u64, what: &str) {
        let piece = |ids, then| Piece { ids, what: what.to_owned(), bytes, locks: Vec::new(), then, key: None };
        if bytes <= SMALL {
            let mut ids = work.constraints;
            ids.extend(work.indexes);
            self.pieces.push_back(piece(ids, Vec::new()));
            return;
        }
        // A key locks the table for its own while it is built; plain indexes can be built side by side after it.
        let indexes: Vec<Piece> = work.indexes.into_iter().map(|id| piece(vec![id], Vec::new())).collect();
        if work.constraints.is_empty() {
            self.pieces_total = (self.pieces_total + indexes.len()).saturating_sub(1);
            self.pieces.extend(indexes);
        } else {
            self.pieces.push_back(piece(work.constraints, indexes));
        }
    }
}
