//! The fast path: the net effect of a chunk, a few statements a table.
//!
//! ```text
//!  rows of a step ─> net effect ─> deletes, children first
//!                                  updates and inserts, parents first      (a request each, all on the wire at once)
//!                                  tables without a key, by all values of their rows
//!                                  relations in doubt, row by row
//! ```
//! Every statement must change as many rows as it has keys. Whatever else happens is a doubt: the caller rolls back and
//! tries less at once, and at last row by row, which either succeeds or names the row.

use pgstream_postgres::{Class, Client, pgoutput::Cell};
use tokio_postgres::error::SqlState;

use super::{
    super::{
        Error,
        batch::{RelIndex, Rows, Step},
        net::{Columns, NetRow, NetRows, Plan, Planner, RelationPlan},
        status::RowCounts,
        work::{Chunk, Part},
    },
    images,
    pipeline::Pipeline,
    rowwise,
    statements::{Find, Sent},
    tables::{Loaded, Shape, Tables},
    values::{Column, CopyRows, Form, Value},
};
use crate::mutants::{self, Mutant};

/// From so many rows on COPY beats arrays (measured: 200 to 270 against 125 to 150 thousand rows a second).
const COPY_ROWS: usize = 1000;
/// Up to so many rows single statements beat arrays.
const FEW_ROWS: usize = 3;
/// Where arrays cannot be used at all, COPY pays earlier.
const COPY_ROWS_WITHOUT_ARRAYS: usize = 16;
/// COPY data is sent in pieces of about this size.
const COPY_PIECE: usize = 256 * 1024;
/// Single-row statements under way at the same time.
const WINDOW: usize = 512;

/// What comes first: for unique values the deletes have to, for rows that change their parent the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Deletes, then updates and inserts.
    DeletesFirst,
    /// Updates and inserts, then deletes: until then, nothing references a deleted row any more.
    DeletesLast,
}

/// Why changes were not applied set-wise.
pub enum Failure {
    /// They must not be applied row by row either.
    Stop(Error),
    /// Less at once will tell.
    Doubt(Doubt),
}

/// What kept changes from being applied set-wise.
pub enum Doubt {
    /// Each change has to be seen by itself, in commit order.
    Triggers(String),
    /// The net effect of the changes is not known.
    Unclear(String),
    /// The target answered otherwise than it should.
    Refused(String),
}

impl Doubt {
    /// The reason.
    pub fn why(&self) -> &str {
        match self {
            Self::Triggers(why) | Self::Unclear(why) | Self::Refused(why) => why,
        }
    }
}

impl From<Doubt> for Failure {
    fn from(doubt: Doubt) -> Self {
        Self::Doubt(doubt)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Stop(error)
    }
}

/// Rows that a request must change; `None` for a request that changes none.
pub type Expected = Option<u64>;

/// What precedes changes: a statement that opens something.
pub fn opening<'a>(client: &'a Client, begin: &'static str) -> Pipeline<'a, Expected> {
    let mut opening = Pipeline::new();
    opening.send(None, async move { client.batch_execute(begin).await.map(|()| 0) });
    opening
}

/// Applies changes behind an opening that is on its way.
///
/// # Errors
/// [`Failure::Doubt`] when a more careful path has to decide; nothing of the changes must then be kept.
pub async fn apply(
    client: &Client,
    tables: &mut Tables,
    planner: &mut Planner,
    part: &Part<'_>,
    order: Order,
    mut opening: Pipeline<'_, Expected>,
) -> Result<RowCounts, Failure> {
    let mut counts = RowCounts::default();
    for (step, lsn) in part.steps() {
        match step {
            Step::Rows(rows) => counts += apply_rows(client, tables, planner, part.chunk, &rows, order).await?,
            Step::Truncate(truncate) => {
                rowwise::truncate(client, tables, truncate, lsn).await?;
                counts.truncates += truncate.relations.len() as u64;
            }
        }
    }
    settle(client, &mut opening, 0).await?;
    Ok(counts)
}

/// Applies the changes between two barriers.
///
/// # Errors
/// As [`apply`].
pub async fn apply_rows(
    client: &Client,
    tables: &mut Tables,
    planner: &mut Planner,
    chunk: &Chunk,
    rows: &Rows<'_>,
    order: Order,
) -> Result<RowCounts, Failure> {
    let plan = planner.plan(rows, |relation| tables.get(relation).and_then(Loaded::merge_key));
    check_doubts(tables, &plan)?;
    let mut relations: Vec<RelationPlan<'_>> = plan.relations().collect();
    relations.sort_by_key(|relation| tables.get(relation.relation()).map_or(0, |loaded| loaded.rank));
    let mut work = Work { client, tables, pipeline: Pipeline::new(), counts: RowCounts::default() };
    if order == Order::DeletesFirst {
        work.all_deletes(&relations).await?;
    }
    for relation in &relations {
        for group in relation.updates() {
            work.updates(relation.relation(), group.columns, group.rows).await?;
        }
        work.inserts(relation.relation(), relation.inserts()).await?;
    }
    if order == Order::DeletesLast {
        work.all_deletes(&relations).await?;
    }
    work.settle(0).await?;
    let mut counts = work.counts;
    let mut one_by_one = Vec::new();
    for doubt in plan.doubts() {
        match images::apply(client, tables, rows, doubt.relation).await? {
            Some(done) => counts += done,
            None => one_by_one.push(doubt.relation),
        }
    }
    if !one_by_one.is_empty() {
        counts += rowwise::apply_rows(client, tables, chunk, rows, |relation| one_by_one.contains(&relation)).await?;
    }
    Ok(counts)
}

/// Tables in doubt are applied row by row beside the others, unless tables can see each other: by foreign keys or
/// triggers.
fn check_doubts(tables: &Tables, plan: &Plan<'_>) -> Result<(), Doubt> {
    let all = plan.relations().map(|r| r.relation()).chain(plan.doubts().iter().map(|d| d.relation));
    for loaded in all.filter_map(|relation| tables.get(relation)) {
        if loaded.table.fires_triggers {
            return Err(Doubt::Triggers(format!("{} fires triggers", loaded.table.name)));
        }
    }
    for doubt in plan.doubts() {
        if tables.get(doubt.relation).is_some_and(|loaded| loaded.foreign_keys_fire) {
            return Err(Doubt::Unclear(doubt.reason.to_string()));
        }
    }
    Ok(())
}

/// The requests of one step.
struct Work<'a, 't> {
    client: &'a Client,
    tables: &'t mut Tables,
    pipeline: Pipeline<'a, Expected>,
    counts: RowCounts,
}

impl<'a> Work<'a, '_> {
    /// Children first.
    async fn all_deletes(&mut self, relations: &[RelationPlan<'a>]) -> Result<(), Failure> {
        for relation in relations.iter().rev() {
            self.deletes(relation.relation(), relation.deletes()).await?;
        }
        Ok(())
    }

    async fn deletes(&mut self, relation: RelIndex, rows: NetRows<'a>) -> Result<(), Failure> {
        let Some(key) = self.key(relation, rows.len()) else { return Ok(()) };
        self.counts.deletes += rows.len() as u64;
        if self.are_few(relation, rows.len()) || !self.has_arrays(relation, &key) {
            let shape = Shape::DeleteRow(Find::Key(key));
            return self.each(relation, &shape, rows, |row| row.key().map(Value).collect()).await;
        }
        let mut columns = new_columns(key.len());
        for row in rows.iter() {
            push(&mut columns, row.key());
        }
        let sent = sent(&key, &columns)?;
        self.set(relation, &Shape::DeleteSet(sent), &key, columns, rows.len()).await
    }

    async fn updates(&mut self, relation: RelIndex, present: Columns<'a>, rows: NetRows<'a>) -> Result<(), Failure> {
        let Some(key) = self.key(relation, rows.len()) else { return Ok(()) };
        self.counts.updates += rows.len() as u64;
        let set = self.tables.get(relation).map_or_else(Vec::new, |loaded| loaded.set(present, &key));
        let all: Vec<usize> = key.iter().chain(&set).copied().collect();
        if self.are_few(relation, rows.len()) || set.is_empty() || !self.has_arrays(relation, &all) {
            let shape = Shape::UpdateRow(set.clone(), Find::Key(key));
            return self
                .each(relation, &shape, rows, |row| selected(row.cells(), &set).chain(row.key()).map(Value).collect())
                .await;
        }
        let mut columns = new_columns(all.len());
        for row in rows.iter() {
            push(&mut columns, row.key().chain(selected(row.cells(), &set)));
        }
        let sent = sent(&all, &columns)?;
        self.set(relation, &Shape::UpdateSet(sent, key.len()), &all, columns, rows.len()).await
    }

    async fn inserts(&mut self, relation: RelIndex, rows: NetRows<'a>) -> Result<(), Failure> {
        let Some(loaded) = self.tables.get(relation).filter(|_| !rows.is_empty()) else { return Ok(()) };
        self.counts.inserts += rows.len() as u64;
        let columns = loaded.writable.clone();
        let arrays = self.has_arrays(relation, &columns);
        let copy_from = match (arrays, loaded.foreign_keys_fire) {
            (true, _) => COPY_ROWS,
            (false, true) => 2,
            (false, false) => COPY_ROWS_WITHOUT_ARRAYS,
        };
        if rows.len() >= copy_from
            && let Some(form) = Form::of(rows.iter().flat_map(|row| selected(row.cells(), &columns)))
        {
            return self.copy(relation, columns, form, rows).await;
        }
        if self.are_few(relation, rows.len()) || columns.is_empty() || !arrays {
            let shape = Shape::InsertRow(columns.clone());
            return self.each(relation, &shape, rows, |row| selected(row.cells(), &columns).map(Value).collect()).await;
        }
        let mut values = new_columns(columns.len());
        for row in rows.iter() {
            push(&mut values, selected(row.cells(), &columns));
        }
        let sent = sent(&columns, &values)?;
        self.set(relation, &Shape::InsertSet(sent), &columns, values, rows.len()).await
    }

    /// One statement for all rows.
    async fn set(
        &mut self,
        relation: RelIndex,
        shape: &Shape,
        columns: &[usize],
        values: Vec<Column>,
        rows: usize,
    ) -> Result<(), Failure> {
        let statement = self.statement(relation, shape).await?;
        let Some(loaded) = self.tables.get(relation) else { return Ok(()) };
        let oid = |i: &usize| loaded.table.columns[*i].type_oid;
        let arrays: Vec<_> = columns.iter().zip(values).map(|(i, column)| column.finish(oid(i))).collect();
        let client = self.client;
        self.pipeline.send(Some(rows as u64), async move { client.execute_raw(&statement, arrays).await });
        Ok(())
    }

    /// One statement a row.
    async fn each(
        &mut self,
        relation: RelIndex,
        shape: &Shape,
        rows: NetRows<'a>,
        values: impl Fn(&NetRow<'a>) -> Vec<Value<'a>>,
    ) -> Result<(), Failure> {
        let statement = self.statement(relation, shape).await?;
        let client = self.client;
        for row in rows.iter() {
            if self.pipeline.len() >= WINDOW {
                self.settle(WINDOW / 2).await?;
            }
            let (statement, values) = (statement.clone(), values(&row));
            self.pipeline.send(Some(1), async move { client.execute_raw(&statement, values).await });
        }
        Ok(())
    }

    async fn copy(
        &mut self,
        relation: RelIndex,
        columns: Vec<usize>,
        form: Form,
        rows: NetRows<'a>,
    ) -> Result<(), Failure> {
        let statement = self.statement(relation, &Shape::Copy(columns.clone(), form)).await?;
        let copied = async {
            let sink = self.client.copy_in(&statement).await?;
            let mut sink = std::pin::pin!(sink);
            let mut data = CopyRows::new(form, columns.len());
            for row in rows.iter() {
                data.push(selected(row.cells(), &columns));
                if data.len() >= COPY_PIECE {
                    futures::SinkExt::send(&mut sink, data.split()).await?;
                }
            }
            futures::SinkExt::send(&mut sink, data.finish()).await?;
            sink.finish().await
        };
        match copied.await {
            Ok(count) if count == rows.len() as u64 => Ok(()),
            Ok(_) => Err(Doubt::Refused("COPY left rows out".into()).into()),
            Err(error) => {
                self.settle(0).await?;
                Err(failed(self.client, error))
            }
        }
    }

    async fn statement(&mut self, relation: RelIndex, shape: &Shape) -> Result<tokio_postgres::Statement, Failure> {
        let client = self.client;
        let Some(loaded) = self.tables.get_mut(relation) else {
            return Err(Doubt::Unclear("a table that was not loaded".into()).into());
        };
        match loaded.statement(client, shape).await {
            Ok(statement) => Ok(statement),
            Err(error) => {
                self.settle(0).await?;
                Err(failed(self.client, error))
            }
        }
    }

    async fn settle(&mut self, down_to: usize) -> Result<(), Failure> {
        settle(self.client, &mut self.pipeline, down_to).await
    }

    fn key(&self, relation: RelIndex, rows: usize) -> Option<Vec<usize>> {
        let key = self.tables.get(relation).filter(|_| rows > 0)?.key()?;
        Some(key.to_vec())
    }

    /// Whether so many rows go one by one. Under foreign keys, rows of one statement may reference each other.
    fn are_few(&self, relation: RelIndex, rows: usize) -> bool {
        let checked = self.tables.get(relation).is_some_and(|loaded| loaded.foreign_keys_fire);
        rows <= if checked { 1 } else { FEW_ROWS }
    }

    fn has_arrays(&self, relation: RelIndex, columns: &[usize]) -> bool {
        self.tables.get(relation).is_some_and(|loaded| loaded.has_arrays(columns))
    }
}

/// Waits until at most so many requests are under way.
pub(super) async fn settle(
    client: &Client,
    pipeline: &mut Pipeline<'_, Expected>,
    down_to: usize,
) -> Result<(), Failure> {
    while pipeline.len() > down_to {
        let Some((expected, answer)) = pipeline.next().await else { break };
        match answer {
            Ok(count) if expected.is_none_or(|expected| expected == count) || mutants::is(Mutant::AnyRowCount) => {}
            Ok(_) => return Err(Doubt::Refused("a statement changed another number of rows".into()).into()),
            Err(error) => return Err(failed(client, error)),
        }
    }
    Ok(())
}

pub(super) fn failed(client: &Client, error: tokio_postgres::Error) -> Failure {
    let code = error.code().map_or_else(String::new, |code: &SqlState| code.code().to_owned());
    let error = client.failed("applying a batch")(error);
    match error.class() {
        Class::Transient => Failure::Stop(error.into()),
        _ => Doubt::Refused(format!("the server refused a statement ({code})")).into(),
    }
}

pub(super) fn new_columns(count: usize) -> Vec<Column> {
    std::iter::repeat_with(Column::new).take(count).collect()
}

pub(super) fn push<'a>(columns: &mut [Column], cells: impl Iterator<Item = Cell<'a>>) {
    for (column, cell) in columns.iter_mut().zip(cells) {
        column.push(cell);
    }
}

/// The cells of these columns, which are in ascending order.
pub(super) fn selected<'a>(cells: impl Iterator<Item = Cell<'a>>, columns: &[usize]) -> impl Iterator<Item = Cell<'a>> {
    let mut wanted = columns.iter().copied().peekable();
    cells.enumerate().filter_map(move |(i, cell)| wanted.next_if_eq(&i).map(|_| cell))
}

pub(super) fn sent(columns: &[usize], values: &[Column]) -> Result<Vec<Sent>, Doubt> {
    let form = |column: &Column| column.form().ok_or_else(|| Doubt::Unclear("values of mixed form".into()));
    columns.iter().zip(values).map(|(&i, column)| Ok((i, form(column)?))).collect()
}
