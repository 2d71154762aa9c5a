//! Changes as newline-delimited JSON, one line a change, in commit order.
//!
//! A position is acknowledged once its lines are flushed. There is no second place to remember it, so after a crash the
//! last lines may come again: at least once, never lost. `lsn` tells repeated ones apart.

use std::sync::Arc;

use pgstream_postgres::{
    Lsn,
    pgoutput::{Cell, Old, Timestamp, Tuple},
};
use serde_json::{Map, Value};
use tokio::{
    io::{AsyncWriteExt, Stdout, stdout},
    sync::{mpsc, watch},
};

use super::{
    Error,
    batch::{Change, Kind, RelIndex, Step},
    relation::SourceRelation,
    status::{Monitor, RowCounts},
    work::{Applied, Boundary, Chunk, Ddl, Work},
};

/// Writes changes to standard output.
pub struct Printer {
    out: Stdout,
    relations: Vec<Arc<SourceRelation>>,
    report: watch::Sender<Applied>,
    monitor: Arc<Monitor>,
    line: Vec<u8>,
}

impl Printer {
    /// A printer that tells `report` what was flushed.
    pub fn new(report: watch::Sender<Applied>, monitor: Arc<Monitor>) -> Self {
        Self { out: stdout(), relations: Vec::new(), report, monitor, line: Vec::new() }
    }

    /// Prints until the reader is gone.
    ///
    /// # Errors
    /// When standard output is closed.
    pub async fn run(mut self, mut todo: mpsc::Receiver<Work>) -> Result<(), Error> {
        while let Some(work) = todo.recv().await {
            let reached = match work {
                Work::Idle(end) => Some(end),
                Work::Chunk(chunk) => self.print(*chunk).await?,
                Work::Ddl(ddl) => {
                    self.schema_change(&ddl).await?;
                    None
                }
                // There are no tables that could be.
                Work::CopyAgain => None,
            };
            self.report.send_modify(|applied| {
                applied.done += 1;
                if let Some(end) = reached {
                    (applied.applied, applied.durable) = (end, end);
                    self.monitor.durable(end);
                }
            });
        }
        Ok(())
    }

    async fn print(&mut self, mut chunk: Chunk) -> Result<Option<Lsn>, Error> {
        self.relations.append(&mut chunk.relations);
        let mut rows = RowCounts::default();
        self.line.clear();
        let mut truncates = chunk.truncates.iter();
        for step in chunk.batch.steps() {
            match step {
                Step::Rows(changes) => {
                    for (number, change) in changes.numbers().zip(changes.iter()) {
                        self.change(&change, chunk.commit_of(number), &mut rows)?;
                    }
                }
                Step::Truncate(step) => {
                    let lsn = truncates.next().copied().unwrap_or_default();
                    rows.truncates += step.relations.len() as u64;
                    for relation in &step.relations {
                        self.line("truncate", *relation, lsn, None, None)?;
                    }
                }
            }
        }
        self.out.write_all(&self.line).await.map_err(Error::Stdout)?;
        self.out.flush().await.map_err(Error::Stdout)?;
        let Some(Boundary::Commit { end }) = chunk.boundary else { return Ok(None) };
        self.monitor.committed(end, chunk.commit_time.map(Timestamp::unix_micros), chunk.transactions, rows);
        Ok(Some(end))
    }

    async fn schema_change(&mut self, ddl: &Ddl) -> Result<(), Error> {
        let objects: Value = serde_json::from_str(&ddl.objects).map_err(|e| Error::Stdout(e.into()))?;
        let line = serde_json::json!({
            "op": "ddl", "command": ddl.record.command, "lsn": ddl.commit.to_string(), "objects": objects,
        });
        self.line.clear();
        self.push(&line)?;
        self.out.write_all(&self.line).await.map_err(Error::Stdout)
    }

    fn change(&mut self, change: &Change<'_>, lsn: Lsn, rows: &mut RowCounts) -> Result<(), Error> {
        let (op, count, old, new) = match change.kind {
            Kind::Insert(new) => ("insert", &mut rows.inserts, None, Some(new)),
            Kind::Update { old, new } => ("update", &mut rows.updates, old, Some(new)),
            Kind::Delete(old) => ("delete", &mut rows.deletes, Some(old), None),
        };
        *count += 1;
        self.line(op, change.relation, lsn, old, new)
    }

    fn line(
        &mut self,
        op: &str,
        relation: RelIndex,
        lsn: Lsn,
        old: Option<Old<'_>>,
        new: Option<Tuple<'_>>,
    ) -> Result<(), Error> {
        let relation = Arc::clone(&self.relations[relation.0 as usize]);
        let mut line = Map::new();
        line.insert("op".into(), op.into());
        line.insert("schema".into(), relation.table.schema.clone().into());
        line.insert("table".into(), relation.table.name.clone().into());
        line.insert("lsn".into(), lsn.to_string().into());
        if let Some(new) = new {
            line.insert("new".into(), columns(&relation, new, false)?);
        }
        if let Some(old) = old {
            line.insert("old".into(), columns(&relation, old.tuple(), matches!(old, Old::Key(_)))?);
        }
        self.push(&Value::Object(line))
    }

    fn push(&mut self, value: &Value) -> Result<(), Error> {
        serde_json::to_writer(&mut self.line, value).map_err(|e| Error::Stdout(e.into()))?;
        self.line.push(b'\n');
        Ok(())
    }
}

/// Values in their text form; an unchanged TOASTed value, which is not sent, is left out.
fn columns(relation: &SourceRelation, tuple: Tuple<'_>, key_only: bool) -> Result<Value, Error> {
    let mut object = Map::new();
    for (column, cell) in relation.columns.iter().zip(tuple.cells()) {
        let value = match cell {
            Cell::Null if key_only && !column.key => continue,
            Cell::Null => Value::Null,
            Cell::Unchanged => continue,
            Cell::Text(text) => std::str::from_utf8(text)
                .map_err(|_| Error::Protocol { problem: format!("{} holds text that is not UTF-8", relation.table) })?
                .into(),
            Cell::Binary(_) => {
                return Err(Error::Protocol { problem: "a binary value where text was asked for".into() });
            }
        };
        object.insert(column.name.clone(), value);
    }
    Ok(Value::Object(object))
}
