//! One part of one table: COPY out of the snapshot, COPY into the target, ledger row, commit.
//!
//! ```text
//!  source: COPY … TO STDOUT ──frames──> chunk (64 KiB) ──> COPY … FROM STDIN :target
//!                       ^                                        │
//!                       └───── read only when the target took the last chunk
//! ```
//! Rows are not looked at. A frame is copied once, into a chunk; a frame as big as a chunk is passed on as it is.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use pgstream_config::pipeline::OnConflict;
use pgstream_postgres::{Client, answered, quote_ident};
use tokio::sync::OnceCell;
use tokio_postgres::{SimpleQueryMessage, Transaction};

use super::{
    Error,
    catalog::{Format, Kind, Table},
    exporter::Snapshot,
    ledger::{self, Entry, Origin, State},
    progress::TableProgress,
};
use crate::{
    mutants::{self, Failpoint, Mutant},
    target::valve,
};

/// How often a COPY is looked after.
const WATCH: Duration = Duration::from_secs(2);

/// Bytes that are collected before they are handed to the target's socket.
const CHUNK: usize = 64 * 1024;

/// Up to this size it costs more to give a table new files, as freezing needs, than its rows cost unfrozen.
const SMALL: u64 = 256 * 1024;

/// A table to copy, and how.
#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) table: Table,
    pub(crate) format: Format,
    pub(crate) write: Write,
    /// What the ledger said before this run.
    pub(crate) state: State,
    /// Page ranges; one range that holds everything when the table is not split.
    pub(crate) parts: Vec<Pages>,
    pub(crate) progress: Arc<TableProgress>,
    /// The table was emptied for its parts.
    pub(crate) cleared: OnceCell<()>,
}

/// One range of a table's pages, and how many there are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    pub(crate) number: usize,
    pub(crate) of: usize,
    pub(crate) pages: Pages,
}

/// Pages `from..to` of a heap; `to: None` has no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pages {
    pub(crate) from: u64,
    pub(crate) to: Option<u64>,
}

/// How rows enter the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Write {
    /// Into an empty table that can be truncated.
    Fresh,
    /// Into an empty table that cannot: it is referenced, or rows of an extension are in it.
    Append,
    /// Into a table with rows of its own, by a staging table.
    Merge(Merge),
}

/// How a row of the source meets one of the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Merge {
    /// The target's row stays.
    Keep,
    /// The source's row wins.
    Replace {
        /// Key columns on the target.
        key: Vec<String>,
        /// Columns to overwrite.
        set: Vec<String>,
    },
}

impl Merge {
    pub(crate) fn new(action: OnConflict, key: Vec<String>, set: Vec<String>) -> Self {
        match action {
            OnConflict::Update if !set.is_empty() => Self::Replace { key, set },
            OnConflict::Update | OnConflict::Nothing | OnConflict::Error => Self::Keep,
        }
    }

    fn clause(&self) -> String {
        match self {
            Self::Keep => "ON CONFLICT DO NOTHING".to_owned(),
            Self::Replace { key, set } => {
                let key = key.iter().map(|c| quote_ident(c)).collect::<Vec<_>>().join(", ");
                let set =
                    set.iter().map(|c| format!("{0} = EXCLUDED.{0}", quote_ident(c))).collect::<Vec<_>>().join(", ");
                format!("ON CONFLICT ({key}) DO UPDATE SET {set}")
            }
        }
    }
}

/// What one part brought.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Copied {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

/// What all parts of a run share.
pub(crate) struct Context {
    pub(crate) origin: Origin,
    pub(crate) snapshot: Snapshot,
    /// Role that owns what is restored.
    pub(crate) role: Option<String>,
    pub(crate) watch: Watch,
}

impl Context {
    fn entry<'a>(&'a self, unit: &'a Unit, part: Part, copied: Copied) -> Entry<'a> {
        let number = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        Entry {
            table: &unit.table.name,
            part: number(part.number),
            parts: number(part.of),
            snapshot: &self.snapshot,
            rows: copied.rows,
            bytes: copied.bytes,
        }
    }
}

/// Looks after transactions from another session.
///
/// A server that fails a COPY goes on swallowing its data until the end, and the driver does not say so before; without
/// this, the rest of a huge table would be read for nothing.
pub(crate) struct Watch(Arc<Client>);

impl Watch {
    pub(crate) fn new(client: Arc<Client>) -> Self {
        Self(client)
    }

    /// Whether the transaction of that backend is gone. Not knowing means no.
    async fn has_ended(&self, pid: &str) -> bool {
        let sql = "SELECT backend_xid IS NULL FROM pg_stat_activity WHERE pid = $1::text::int4";
        matches!(self.0.query_opt(sql, &[&pid]).await, Ok(Some(row)) if row.get::<_, Option<bool>>(0) == Some(true))
    }
}

impl Unit {
    fn part(&self, number: usize) -> Part {
        let pages = self.parts.get(number).copied().unwrap_or(Pages { from: 0, to: None });
        Part { number, of: self.parts.len(), pages }
    }

    fn read_sql(&self, pages: Pages) -> String {
        let format = self.format.keyword();
        let mut conditions: Vec<String> = self.table.condition.iter().cloned().collect();
        if pages.from > 0 {
            conditions.push(format!("ctid >= '({},0)'::tid", pages.from));
        }
        if let Some(to) = pages.to {
            conditions.push(format!("ctid < '({to},0)'::tid"));
        }
        if conditions.is_empty() && self.table.kind == Kind::Plain {
            return format!("COPY {}{} TO STDOUT (FORMAT {format})", self.table.name, self.table.column_list());
        }
        let filter = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
        let columns = self.table.columns_joined();
        format!("COPY (SELECT {columns} FROM {}{filter}) TO STDOUT (FORMAT {format})", self.table.only())
    }

    fn write_sql(&self, whole: bool) -> String {
        let (format, columns) = (self.format.keyword(), self.table.column_list());
        match &self.write {
            Write::Merge(_) => format!("COPY pg_temp.pgstream_stage{columns} FROM STDIN (FORMAT {format})"),
            Write::Fresh | Write::Append => {
                let freeze = if whole && self.is_frozen() { ", FREEZE" } else { "" };
                format!("COPY {}{columns} FROM STDIN (FORMAT {format}{freeze})", self.table.name)
            }
        }
    }

    /// Whether the rows are frozen when the table is copied as a whole: only a transaction that has emptied the table
    /// may do that.
    fn is_frozen(&self) -> bool {
        self.write == Write::Fresh
            && self.table.kind == Kind::Plain
            && (self.state != State::Absent || self.table.bytes > SMALL)
    }

    /// For messages of the target's session.
    pub(crate) fn doing(&self) -> String {
        format!("copying rows into {}", self.table.name)
    }

    /// Empties what an earlier run left. Only ever touches rows that the ledger calls ours.
    fn clear_sql(&self) -> String {
        match (&self.write, &self.table.condition) {
            (Write::Fresh, _) => format!("TRUNCATE {}", self.table.only()),
            (_, Some(condition)) if self.table.extension_config => {
                format!("DELETE FROM {} WHERE {condition}", self.table.only())
            }
            _ => format!("DELETE FROM {}", self.table.only()),
        }
    }
}

/// Copies one part in one transaction of the target. Not cancel-safe: after dropping it, drop both sessions.
pub(crate) async fn part(
    context: &Context,
    source: &Client,
    target: &mut Client,
    unit: &Unit,
    number: usize,
) -> Result<Copied, Error> {
    valve::wait_while_paused(target, &context.origin.source).await?;
    let part = unit.part(number);
    if part.of > 1 {
        unit.cleared.get_or_try_init(|| clear(context, &*target, unit)).await?;
    }
    let failed = target.failed(&unit.doing());
    let sessions = [source.pulse(), target.pulse()];
    let run = async {
        if mutants::is(Mutant::LedgerFirst) {
            ledger::record(&**target, &context.origin, &context.entry(unit, part, Copied::default())).await?;
        }
        let tx = target.build_transaction().start().await?;
        fill(context, source, tx, unit, part).await
    };
    answered(&sessions, run).await.map_err(|failure| failure.told(source, unit, failed))
}

/// What a part has brought whose COMMIT was sent and not answered, if it has. Waits for the transaction to end that may
/// still be bringing it.
pub(crate) async fn already(
    context: &Context,
    target: &Client,
    unit: &Unit,
    number: usize,
) -> Result<Option<Copied>, Error> {
    let entry = context.entry(unit, unit.part(number), Copied::default());
    let wrap = target.failed("asking whether rows have arrived after all");
    let counts = ledger::settled(target, &context.origin, &entry).await.map_err(wrap)?;
    let Some((rows, bytes)) = counts else { return Ok(None) };
    unit.progress.add_rows(rows);
    Ok(Some(Copied { rows, bytes }))
}

/// Why a part was not copied; only the caller has the session of the target to ask for more.
pub(crate) enum Failure {
    Source(tokio_postgres::Error),
    Target(tokio_postgres::Error),
    Other(Error),
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Target(error)
    }
}

impl From<pgstream_postgres::Error> for Failure {
    fn from(error: pgstream_postgres::Error) -> Self {
        Self::Other(error.into())
    }
}

impl Failure {
    /// Says whose it is. `failed`: of the target's session, [`Unit::doing`].
    pub(crate) fn told(
        self,
        source: &Client,
        unit: &Unit,
        failed: impl FnOnce(tokio_postgres::Error) -> pgstream_postgres::Error,
    ) -> Error {
        match self {
            Self::Target(error) => failed(error).into(),
            Self::Source(error) => source.failed(&format!("copying rows out of {}", unit.table.name))(error).into(),
            Self::Other(error) => error,
        }
    }
}

/// Empties a table of many parts before the first of them is copied, if an earlier run has left some.
pub(crate) async fn clear(context: &Context, target: &Client, unit: &Unit) -> Result<(), Error> {
    if unit.state == State::Absent {
        return Ok(());
    }
    let run = async {
        target.batch_execute("BEGIN").await?;
        act_as(target, context).await?;
        target.batch_execute(&unit.clear_sql()).await?;
        target.batch_execute("RESET ROLE").await?;
        ledger::forget(&**target, &context.origin, &unit.table.name).await?;
        target.batch_execute("COMMIT").await
    };
    let outcome = run.await;
    if outcome.is_err() {
        target.batch_execute("ROLLBACK").await.ok();
    }
    outcome.map_err(target.failed(&format!("emptying {} before it is copied again", unit.table.name)))?;
    Ok(())
}

async fn act_as(target: &tokio_postgres::Client, context: &Context) -> Result<(), tokio_postgres::Error> {
    match &context.role {
        Some(role) => target.batch_execute(&format!("SET LOCAL ROLE {}", quote_ident(role))).await,
        None => Ok(()),
    }
}

/// The first value that these statements bring, as text. In one round trip: many a table is smaller than a few of them.
async fn ask(tx: &Transaction<'_>, statements: &str) -> Result<String, tokio_postgres::Error> {
    let messages = tx.simple_query(statements).await?;
    let value = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    Ok(value.unwrap_or_default().to_owned())
}

/// Makes sure that a table that is copied as a whole is empty.
async fn empty(tx: &Transaction<'_>, unit: &Unit) -> Result<(), Failure> {
    let only = unit.table.only();
    let lock = format!("LOCK TABLE {only} IN ACCESS EXCLUSIVE MODE");
    match (&unit.write, unit.state) {
        (Write::Fresh, State::Absent) => {
            // Somebody may have written here since the check at the start.
            if ask(tx, &format!("{lock}; SELECT EXISTS (SELECT FROM {only})")).await? != "f" {
                return Err(Failure::Other(Error::TargetNotEmpty { tables: vec![unit.table.name.to_string()] }));
            }
            if unit.is_frozen() {
                tx.batch_execute(&unit.clear_sql()).await?;
            }
        }
        (Write::Fresh, _) => tx.batch_execute(&format!("{lock}; {}", unit.clear_sql())).await?,
        (Write::Append, State::Absent) | (Write::Merge(_), _) => {}
        (Write::Append, State::Partial | State::Complete) => tx.batch_execute(&unit.clear_sql()).await?,
    }
    Ok(())
}

/// Copies one part, records it in the ledger and commits.
pub(crate) async fn fill(
    context: &Context,
    source: &Client,
    tx: Transaction<'_>,
    unit: &Unit,
    part: Part,
) -> Result<Copied, Failure> {
    act_as(tx.client(), context).await?;
    let name = &unit.table.name;
    if part.of == 1 {
        empty(&tx, unit).await?;
    }
    if let Write::Merge(_) = unit.write {
        tx.batch_execute(&format!(
            "CREATE TEMP TABLE pgstream_stage ON COMMIT DROP AS SELECT {} FROM ONLY {name} WITH NO DATA",
            unit.table.columns_joined()
        ))
        .await?;
    }
    // A transaction with an id can be seen to end.
    let pid = ask(&tx, "SELECT pg_backend_pid(), pg_current_xact_id()").await?;
    let mut copied = transfer(&context.watch, &pid, source, tx.client(), unit, part).await?;
    if let Write::Merge(merge) = &unit.write {
        let columns = unit.table.columns_joined();
        copied.rows = tx
            .execute(
                &format!(
                    "INSERT INTO {name} ({columns}) OVERRIDING SYSTEM VALUE \
                     SELECT {columns} FROM pg_temp.pgstream_stage {}",
                    merge.clause()
                ),
                &[],
            )
            .await?;
    }
    if context.role.is_some() {
        tx.batch_execute("RESET ROLE").await?;
    }
    if part.of == 1 && unit.state != State::Absent {
        ledger::forget(&tx, &context.origin, name).await?;
    }
    mutants::reached(Failpoint::BeforeLedger);
    if !mutants::is(Mutant::LedgerFirst) {
        ledger::record(&tx, &context.origin, &context.entry(unit, part, copied)).await?;
    }
    mutants::reached(Failpoint::AfterLedger);
    tx.commit().await?;
    mutants::reached(Failpoint::Copied);
    unit.progress.add_rows(copied.rows);
    Ok(copied)
}

/// Takes back what was counted unless the part is finished.
struct Counted<'a> {
    progress: &'a TableProgress,
    bytes: u64,
    kept: bool,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.progress.take_back(self.bytes);
        }
    }
}

async fn transfer(
    watch: &Watch,
    pid: &str,
    source: &Client,
    target: &tokio_postgres::Client,
    unit: &Unit,
    part: Part,
) -> Result<Copied, Failure> {
    let sink = target.copy_in::<_, Bytes>(&unit.write_sql(part.of == 1)).await?;
    let frames = source.copy_out(&unit.read_sql(part.pages)).await.map_err(Failure::Source)?;
    let (mut sink, mut frames) = (pin!(sink), pin!(frames));
    let mut counted = Counted { progress: &unit.progress, bytes: 0, kept: false };
    let mut chunk = BytesMut::with_capacity(CHUNK);
    let mut watched = Instant::now();
    while let Some(frame) = frames.next().await {
        let frame = frame.map_err(Failure::Source)?;
        if chunk.len() + frame.len() <= CHUNK {
            chunk.extend_from_slice(&frame);
            continue;
        }
        let sent = (chunk.len() + frame.len()) as u64;
        if !chunk.is_empty() {
            sink.feed(chunk.split().freeze()).await?;
        }
        if frame.len() >= CHUNK {
            sink.feed(frame).await?;
        } else {
            chunk.reserve(CHUNK);
            chunk.extend_from_slice(&frame);
        }
        mutants::reached(Failpoint::MidCopy);
        let sent = sent - chunk.len() as u64;
        counted.bytes += sent;
        unit.progress.add_bytes(sent);
        if watched.elapsed() >= WATCH {
            if watch.has_ended(pid).await {
                // Ending the COPY brings the server's reason; nothing of it can be committed.
                sink.as_mut().finish().await?;
                let reason = format!("the transaction that fills {} ended by itself", unit.table.name);
                return Err(Failure::Other(Error::Worker(reason)));
            }
            watched = Instant::now();
        }
    }
    let rest = chunk.len() as u64;
    if !chunk.is_empty() {
        sink.feed(chunk.freeze()).await?;
    }
    counted.bytes += rest;
    unit.progress.add_bytes(rest);
    let rows = sink.as_mut().finish().await?;
    counted.kept = true;
    Ok(Copied { rows, bytes: counted.bytes })
}
