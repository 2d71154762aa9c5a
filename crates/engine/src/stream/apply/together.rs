//! Small transactions: rows and progress in one statement, which is its own transaction.
//!
//! ```text
//!  WITH moved AS (UPDATE progress …), c0 AS (UPDATE …), c1 AS (INSERT …)
//!  SELECT positions of the WAL, 1 / (whether each changed as many rows as it should)
//! ```
//! One request and one answer, where BEGIN, rows, progress and COMMIT take two round trips and a wake-up a statement: the
//! latency of a stream that is caught up. A row too few, or a progress that is another replicator's, divides by zero, which
//! undoes all of it; the caller then goes the long way, which says what is wrong.
//!
//! The changes of one statement see the same snapshot and come in no order, so each table may have only one of them.

use std::collections::HashMap;

use bytes::BytesMut;
use pgstream_postgres::{
    Client, Lsn,
    pgoutput::{Cell, Timestamp},
};
use tokio_postgres::{
    Statement,
    types::{Format, ToSql, Type},
};

use super::{
    super::{
        batch::{RelIndex, Step},
        net::{NetRow, NetRows, Plan, Planner, RelationPlan, UpdateGroup},
        status::RowCounts,
        work::Chunk,
    },
    setwise::{Failure, failed, new_columns, push, selected, sent},
    statements::{Find, Sent},
    tables::{Loaded, Shape, Tables},
    values::{Array, Encoded, Value},
};
use crate::{
    mutants::{self, Failpoint, Mutant},
    target::progress::{ADVANCE, Claim},
};

/// With more changes than these, a round trip is not what costs.
const MOST_CHANGES: usize = 64;
/// Tables of one statement.
const MOST_TABLES: usize = 8;
/// A statement is prepared when its like was needed so often.
const WORTH_PREPARING: u32 = 3;
/// Kinds of transactions that are remembered.
const REMEMBERED: usize = 64;

/// Slot, epoch, position and time.
const PARAMETERS_OF_PROGRESS: usize = 4;

/// What is known of the kinds of small transactions.
pub struct Together {
    positions: &'static str,
    kinds: HashMap<Kind, Known>,
}

/// The tables of a transaction, and what it does to each.
type Kind = Vec<(RelIndex, Shape)>;

enum Known {
    /// Was there so often.
    Seen(u32),
    Prepared(Statement),
    /// Did not go this way.
    Refused,
}

/// What was done.
pub struct Done {
    /// Changed rows.
    pub rows: RowCounts,
    /// WAL insert and flush position of the target before the commit.
    pub positions: (Lsn, Lsn),
}

/// Where the progress moves to.
pub struct Progress<'a> {
    /// Whose it is.
    pub claim: &'a Claim,
    /// Commit end of the last transaction.
    pub end: Lsn,
    /// Its time.
    pub time: Option<Timestamp>,
}

impl Together {
    /// On a target where this expression gives the positions of the WAL.
    pub fn new(positions: &'static str) -> Self {
        Self { positions, kinds: HashMap::new() }
    }

    /// Forgets what was prepared.
    pub fn forget(&mut self) {
        self.kinds.clear();
    }

    /// Applies and commits a chunk of whole transactions. `None` when it is not of a kind for one statement.
    ///
    /// # Errors
    /// As [`setwise::apply`](super::setwise::apply); nothing is kept then.
    pub async fn apply(
        &mut self,
        client: &Client,
        tables: &Tables,
        planner: &mut Planner,
        chunk: &Chunk,
        progress: &Progress<'_>,
    ) -> Result<Option<Done>, Failure> {
        if chunk.batch.len() > MOST_CHANGES || [Mutant::ProgressApart, Mutant::NoFence].into_iter().any(mutants::is) {
            return Ok(None);
        }
        let mut steps = chunk.whole().steps();
        let (Some((Step::Rows(rows), _)), None) = (steps.next(), steps.next()) else { return Ok(None) };
        let plan = planner.plan(&rows, |relation| tables.get(relation).and_then(Loaded::merge_key));
        let Some(changes) = changes(tables, &plan) else { return Ok(None) };
        let kind: Kind = changes.iter().map(|change| (change.relation, change.shape.clone())).collect();
        let Some(statement) = self.statement(client, tables, &kind, &changes).await? else { return Ok(None) };

        let time = progress.time.and_then(Timestamp::system_time);
        let mut parameters: Vec<&(dyn ToSql + Sync)> =
            vec![&progress.claim.slot, &progress.claim.epoch, &progress.end, &time];
        parameters.extend(changes.iter().flat_map(|change| &change.parameters).map(|p| p as &(dyn ToSql + Sync)));
        mutants::reached(Failpoint::Applied);
        mutants::reached(Failpoint::Advanced);
        match client.query_one(&statement, &parameters).await {
            Ok(row) => Ok(Some(Done { rows: counts(&changes), positions: (row.get(0), row.get(1)) })),
            Err(error) => {
                self.kinds.insert(kind, Known::Refused);
                Err(failed(client, error))
            }
        }
    }

    /// The statement for a kind of transaction that comes often enough.
    async fn statement(
        &mut self,
        client: &Client,
        tables: &Tables,
        kind: &Kind,
        changes: &[Change<'_>],
    ) -> Result<Option<Statement>, Failure> {
        if self.kinds.len() >= REMEMBERED && !self.kinds.contains_key(kind) {
            self.kinds.clear();
        }
        let known = self.kinds.entry(kind.clone()).or_insert(Known::Seen(0));
        match known {
            Known::Prepared(statement) => return Ok(Some(statement.clone())),
            Known::Refused => return Ok(None),
            Known::Seen(times) if *times < WORTH_PREPARING => {
                *times += 1;
                return Ok(None);
            }
            Known::Seen(_) => {}
        }
        match client.prepare(&sql(tables, changes, self.positions)).await {
            Ok(statement) => {
                *known = Known::Prepared(statement.clone());
                Ok(Some(statement))
            }
            Err(error) => {
                *known = Known::Refused;
                Err(failed(client, error))
            }
        }
    }
}

/// What is done to one table.
struct Change<'a> {
    relation: RelIndex,
    shape: Shape,
    rows: usize,
    parameters: Vec<Parameter<'a>>,
}

/// All of it; `None` when it cannot be one statement.
fn changes<'a>(tables: &Tables, plan: &Plan<'a>) -> Option<Vec<Change<'a>>> {
    let mut changes = Vec::with_capacity(MOST_TABLES);
    for relation in plan.relations() {
        let loaded = tables.get(relation.relation()).filter(|loaded| !loaded.table.fires_triggers)?;
        changes.push(change(loaded, relation)?);
    }
    (plan.doubts().is_empty() && (1..=MOST_TABLES).contains(&changes.len())).then_some(changes)
}

/// What is done to a table, if it is but one thing.
fn change<'a>(loaded: &Loaded, plan: RelationPlan<'a>) -> Option<Change<'a>> {
    let (deletes, inserts) = (plan.deletes(), plan.inserts());
    let mut groups = plan.updates();
    let (rows, (shape, parameters)) = match (deletes.len(), inserts.len(), groups.next(), groups.next()) {
        (rows, 0, None, None) => (rows, delete(loaded, deletes)?),
        (0, rows, None, None) => (rows, insert(loaded, inserts)?),
        (0, 0, Some(group), None) => (group.rows.len(), update(loaded, group)?),
        _ => return None,
    };
    Some(Change { relation: plan.relation(), shape, rows, parameters })
}

/// A statement and its parameters.
type Request<'a> = (Shape, Vec<Parameter<'a>>);

fn delete<'a>(loaded: &Loaded, rows: NetRows<'a>) -> Option<Request<'a>> {
    let key = loaded.key()?;
    if rows.len() == 1 {
        return Some((Shape::DeleteRow(Find::Key(key.to_vec())), single(rows.iter().flat_map(|row| row.key()))));
    }
    let (sent, arrays) = many(loaded, key, rows.iter().map(|row| row.key()))?;
    Some((Shape::DeleteSet(sent), arrays))
}

fn insert<'a>(loaded: &Loaded, rows: NetRows<'a>) -> Option<Request<'a>> {
    let columns = &loaded.writable;
    let cells = |row: NetRow<'a>| selected(row.cells(), columns);
    if rows.len() == 1 {
        return Some((Shape::InsertRow(columns.clone()), single(rows.iter().flat_map(cells))));
    }
    let (sent, arrays) = many(loaded, columns, rows.iter().map(cells))?;
    Some((Shape::InsertSet(sent), arrays))
}

fn update<'a>(loaded: &Loaded, group: UpdateGroup<'a>) -> Option<Request<'a>> {
    let key = loaded.key()?;
    let set = Some(loaded.set(group.columns, key)).filter(|set| !set.is_empty())?;
    if group.rows.len() == 1 {
        let cells = |row: NetRow<'a>| selected(row.cells(), &set).chain(row.key());
        let parameters = single(group.rows.iter().flat_map(cells));
        return Some((Shape::UpdateRow(set, Find::Key(key.to_vec())), parameters));
    }
    let columns: Vec<usize> = key.iter().chain(&set).copied().collect();
    let cells = |row: NetRow<'a>| row.key().chain(selected(row.cells(), &set));
    let (sent, arrays) = many(loaded, &columns, group.rows.iter().map(cells))?;
    Some((Shape::UpdateSet(sent, key.len()), arrays))
}

/// The values of one row.
fn single<'a>(cells: impl Iterator<Item = Cell<'a>>) -> Vec<Parameter<'a>> {
    cells.map(|cell| Parameter::Value(Value(cell))).collect()
}

/// The values of many rows, an array a column, and in which form they are.
fn many<'a, C: Iterator<Item = Cell<'a>>>(
    loaded: &Loaded,
    columns: &[usize],
    rows: impl Iterator<Item = C>,
) -> Option<(Vec<Sent>, Vec<Parameter<'a>>)> {
    if columns.is_empty() || !loaded.has_arrays(columns) {
        return None;
    }
    let mut values = new_columns(columns.len());
    for row in rows {
        push(&mut values, row);
    }
    let sent = sent(columns, &values).ok()?;
    let oid = |i: &usize| loaded.table.columns[*i].type_oid;
    let arrays = columns.iter().zip(values).map(|(i, column)| Parameter::Array(column.finish(oid(i))));
    Some((sent, arrays.collect()))
}

/// The statement: its first parameters are the progress's, then come those of each change.
fn sql(tables: &Tables, changes: &[Change<'_>], positions: &str) -> String {
    let mut with = vec![format!("moved AS ({ADVANCE} RETURNING 1)")];
    // Of more rows than one, a subquery is an error; to count a single one would take the target some 7 % longer.
    let mut checks = vec!["(SELECT 1 FROM moved) = 1".to_owned()];
    let mut before = PARAMETERS_OF_PROGRESS;
    for (n, change) in changes.iter().enumerate() {
        let Some(loaded) = tables.get(change.relation) else { continue };
        with.push(format!("c{n} AS ({} RETURNING 1)", change.shape.sql(&loaded.table, before)));
        checks.push(match change.rows {
            1 => format!("(SELECT 1 FROM c{n}) = 1"),
            // Each array has a value a row.
            _ => format!("(SELECT count(*) FROM c{n}) = pg_catalog.cardinality(${})", before + 1),
        });
        before += change.parameters.len();
    }
    let with = with.join(", ");
    if mutants::is(Mutant::AnyRowCount) {
        return format!("WITH {with} SELECT {positions}");
    }
    format!("WITH {with} SELECT {positions}, 1 / CASE WHEN {} THEN 1 ELSE 0 END", checks.join(" AND "))
}

fn counts(changes: &[Change<'_>]) -> RowCounts {
    let mut counts = RowCounts::default();
    for change in changes {
        let rows = change.rows as u64;
        match change.shape {
            Shape::DeleteRow(_) | Shape::DeleteSet(_) => counts.deletes += rows,
            Shape::UpdateRow(..) | Shape::UpdateSet(..) | Shape::ReplaceRow(..) => {
                counts.updates += rows;
            }
            Shape::InsertRow(_) | Shape::InsertSet(_) | Shape::Copy(..) => counts.inserts += rows,
        }
    }
    counts
}

/// A value, or those of a column.
#[derive(Debug)]
enum Parameter<'a> {
    Value(Value<'a>),
    Array(Array),
}

impl ToSql for Parameter<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Encoded {
        match self {
            Self::Value(value) => value.to_sql(ty, out),
            Self::Array(array) => array.to_sql(ty, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn to_sql_checked(&self, ty: &Type, out: &mut BytesMut) -> Encoded {
        self.to_sql(ty, out)
    }

    fn encode_format(&self, ty: &Type) -> Format {
        match self {
            Self::Value(value) => value.encode_format(ty),
            Self::Array(array) => array.encode_format(ty),
        }
    }
}
