//! Streams from anybody: the entrance of the fuzz targets, not part of the interface.
//!
//! ```text
//!  ReplicationStream ──> Reader ──batches──> net effect, values, plans of schema changes      nothing is applied
//! ```
//! The reader is the one of production; what takes its batches does all with them that needs no target.

use std::sync::Arc;

use pgstream_config::pattern::TableFilter;
use pgstream_postgres::{
    Lsn,
    pgoutput::{Message, Relation},
    replication::ReplicationStream,
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{
    Error,
    apply::values::{Column, Form},
    batch::{Batch, Kind, RelIndex, Rows, Step},
    net::Planner,
    reader::{Limits, Reader},
    relation::SourceRelation,
    status::Monitor,
    work::{Applied, Boundary, Chunk, Work},
};
use crate::ddl::plan::{Plan, Rights};

/// What came through before the stream ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Row changes.
    pub changes: usize,
    /// Row operations that they amount to.
    pub operations: usize,
    /// Source transactions.
    pub transactions: u64,
    /// Schema changes.
    pub schema_changes: usize,
    /// End of the last transaction.
    pub end: Lsn,
}

/// Reads a stream to its end, as [`super::run`] does, in batches of at most `changes`.
pub async fn read(stream: ReplicationStream, start: Lsn, changes: usize) -> (Result<(), Error>, Seen) {
    let (work, todo) = mpsc::channel(1);
    let (report, applied) = watch::channel(Applied { done: 0, applied: start, durable: start });
    let limits = Limits { bytes: 64 << 10, changes };
    let monitor = Arc::new(Monitor::default());
    let mut reader = Reader::new(stream, start, applied, monitor, TableFilter::default(), Arc::default(), limits);
    let cancel = CancellationToken::new();
    let mut sink = Sink { seen: Seen { end: start, ..Seen::default() }, ..Sink::default() };
    let (read, ()) = tokio::join!(reader.run(work, None, &cancel), sink.take(todo, report));
    (read, sink.seen)
}

/// The net effect of these row messages, all of one table whose first column is its key; messages of other kinds are
/// passed over. `false` when the batch does not give back what was put into it.
#[must_use]
pub fn fold(messages: &[&[u8]]) -> (bool, Seen) {
    let (mut batch, mut kinds) = (Batch::default(), Vec::new());
    for message in messages {
        let kind = match Message::parse(message) {
            Ok(Message::Insert { new, .. }) => Kind::Insert(new),
            Ok(Message::Update { old, new, .. }) => Kind::Update { old, new },
            Ok(Message::Delete { old, .. }) => Kind::Delete(old),
            Ok(_) | Err(_) => continue,
        };
        batch.push(RelIndex(0), kind);
        kinds.push(kind);
    }
    let mut sink = Sink { keys: vec![vec![0]], ..Sink::default() };
    let mut faithful = true;
    for step in batch.steps() {
        if let Step::Rows(rows) = step {
            faithful &= rows.iter().map(|change| change.kind).eq(kinds.iter().copied());
            sink.rows(&rows);
        }
    }
    (faithful, sink.seen)
}

/// What a description of a table amounts to, as text.
#[must_use]
pub fn describe(relation: &Relation<'_>) -> String {
    format!("{:?}", SourceRelation::new(relation, &std::collections::HashMap::new()))
}

/// Takes the place of the applier.
#[derive(Default)]
struct Sink {
    planner: Planner,
    /// Of each relation version, the columns of its identity.
    keys: Vec<Vec<usize>>,
    seen: Seen,
}

impl Sink {
    async fn take(&mut self, mut todo: mpsc::Receiver<Work>, report: watch::Sender<Applied>) {
        while let Some(work) = todo.recv().await {
            let reached = match work {
                Work::Idle(end) => Some(end),
                Work::Chunk(chunk) => self.chunk(&chunk),
                Work::Ddl(ddl) => {
                    self.seen.schema_changes += 1;
                    let rights = Rights { owner: true, privileges: true };
                    // Whether it can be replayed is for others to say; that it can be looked at is the point.
                    let _uncovered = Plan::new(&ddl.record.changes, rights).map(|plan| plan.statements().count());
                    None
                }
                Work::CopyAgain => None,
            };
            self.seen.end = reached.unwrap_or(self.seen.end);
            report.send_modify(|applied| {
                applied.done += 1;
                if let Some(end) = reached {
                    (applied.applied, applied.durable) = (end, end);
                }
            });
        }
    }

    fn chunk(&mut self, chunk: &Chunk) -> Option<Lsn> {
        self.keys.extend(chunk.relations.iter().map(|relation| {
            let keys = relation.columns.iter().enumerate().filter(|(_, column)| column.key);
            keys.map(|(index, _)| index).collect()
        }));
        for (step, _) in chunk.whole().steps() {
            if let Step::Rows(rows) = step {
                self.rows(&rows);
            }
        }
        self.seen.transactions += chunk.transactions;
        match chunk.boundary {
            Some(Boundary::Commit { end }) => Some(end),
            Some(Boundary::Open) | None => None,
        }
    }

    /// Net effect and values, as set-wise application makes them.
    fn rows(&mut self, rows: &Rows<'_>) {
        let Self { planner, keys, seen } = self;
        seen.changes += rows.iter().len();
        let plan = planner.plan(rows, |relation| keys.get(relation.0 as usize).map(Vec::as_slice));
        for relation in plan.relations() {
            for row in relation.deletes().iter() {
                seen.operations += 1;
                arrays(row.key());
            }
            let updates = relation.updates().flat_map(|group| group.rows.iter());
            for row in updates.chain(relation.inserts().iter()) {
                seen.operations += 1;
                arrays(row.key());
                arrays(row.cells());
            }
        }
    }
}

fn arrays<'a>(cells: impl Iterator<Item = pgstream_postgres::pgoutput::Cell<'a>>) {
    for cell in cells {
        let mut column = Column::new();
        column.push(cell);
        let _form: Option<Form> = column.form();
        let _array = column.finish(0);
    }
}
