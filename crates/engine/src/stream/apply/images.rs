//! Tables without a key: rows are found by all of their values, many at once.
//!
//! ```text
//!  changes ─> net effect by image ─> DELETE: so many rows of each image      one pass over the table each,
//!                                    UPDATE: so many rows of each image      or an index, where it has one
//!                                    INSERT
//! ```
//! Row by row, every change would be a search through the table by itself.

use pgstream_postgres::{Client, pgoutput::Cell};
use tokio_postgres::Statement;

use super::{
    super::{
        batch::{RelIndex, Rows},
        net::{Groups, Images},
        relation::{Key, Lookup},
        status::RowCounts,
    },
    pipeline::Pipeline,
    setwise::{Doubt, Expected, Failure, failed, new_columns, push, sent, settle},
    statements::{self, Sent},
    tables::{Loaded, Shape, Tables},
    values::{Array, Column},
};

/// Up to so many changes, single searches cost less: each ends with the first row that it finds.
const FEW: usize = 2;
/// Values that are looked at together: a null takes a byte of a batch, and a cell here.
const CELLS: usize = 1 << 20;
/// `int8`.
const NUMBER: u32 = 20;

/// Applies the changes of a relation that has no key. `None` when they have to go one by one.
///
/// # Errors
/// As [`setwise::apply`](super::setwise::apply).
pub async fn apply(
    client: &Client,
    tables: &mut Tables,
    rows: &Rows<'_>,
    relation: RelIndex,
) -> Result<Option<RowCounts>, Failure> {
    let Some(loaded) = tables.get_mut(relation).filter(|loaded| can_be_found(loaded)) else { return Ok(None) };
    if rows.iter().filter(|change| change.relation == relation).nth(FEW).is_none() {
        return Ok(None);
    }
    let mut counts = RowCounts::default();
    let changes = (CELLS / (2 * loaded.writable.len()).max(1)).max(1);
    for first in rows.numbers().step_by(changes) {
        let Some(part) = rows.within(&(first..first + changes)) else { break };
        let images = Images::fold(&part, relation, &loaded.writable)
            .ok_or_else(|| Doubt::Unclear("the stream does not tell a row whole".into()))?;
        let mut work = Work { client, loaded, images: &images, pipeline: Pipeline::new() };
        counts.deletes += work.deletes().await?;
        counts.updates += work.updates().await?;
        counts.inserts += work.inserts().await?;
        settle(client, &mut work.pipeline, 0).await?;
    }
    Ok(Some(counts))
}

/// Whether its rows can be looked up by arrays of values, and set to others.
fn can_be_found(loaded: &Loaded) -> bool {
    let columns = || loaded.writable.iter().map(|&i| &loaded.table.columns[i]);
    loaded.table.key == Key::WholeRow
        && loaded.has_arrays(&loaded.writable)
        && columns().any(|column| column.lookup != Lookup::Nothing)
        && !columns().any(|column| column.identity_always)
}

struct Work<'a, 't> {
    client: &'a Client,
    loaded: &'t mut Loaded,
    images: &'t Images<'t>,
    pipeline: Pipeline<'a, Expected>,
}

impl Work<'_, '_> {
    async fn deletes(&mut self) -> Result<u64, Failure> {
        let groups = self.images.deletes();
        let rows = groups.places.len();
        if rows > 0 {
            let (images, mut arrays) = self.sought(&groups)?;
            arrays.push(numbers(groups.sizes));
            self.send_planned(&statements::delete_images(&self.loaded.table, &images), arrays, rows).await?;
        }
        Ok(rows as u64)
    }

    async fn updates(&mut self) -> Result<u64, Failure> {
        let (groups, becomes) = self.images.updates();
        let rows = becomes.len();
        if rows > 0 {
            let (images, mut arrays) = self.sought(&groups)?;
            let (becomes, values) = self.arrays(&becomes)?;
            arrays.extend(values);
            let (image, place) = groups.places.into_iter().unzip::<_, _, Vec<_>, Vec<_>>();
            arrays.extend([numbers(image), numbers(place)]);
            let sql = statements::update_images(&self.loaded.table, &images, &becomes);
            self.send_planned(&sql, arrays, rows).await?;
        }
        Ok(rows as u64)
    }

    async fn inserts(&mut self) -> Result<u64, Failure> {
        let inserts = self.images.inserts();
        if !inserts.is_empty() {
            let (sent, arrays) = self.arrays(&inserts)?;
            let statement = self.loaded.statement(self.client, &Shape::InsertSet(sent)).await;
            self.send(statement, arrays, inserts.len()).await?;
        }
        Ok(inserts.len() as u64)
    }

    /// The images that are sought, and their numbers.
    fn sought(&self, groups: &Groups) -> Result<(statements::Images, Vec<Array>), Failure> {
        let (sent, mut arrays) = self.arrays(&groups.images)?;
        let mut nulls = vec![false; sent.len()];
        for &image in &groups.images {
            for (null, cell) in nulls.iter_mut().zip(self.images.cells(image)) {
                *null |= *cell == Cell::Null;
            }
        }
        arrays.push(numbers((0..).take(groups.images.len())));
        Ok((statements::Images { sent, nulls }, arrays))
    }

    /// The values of images, an array a column.
    fn arrays(&self, images: &[usize]) -> Result<(Vec<Sent>, Vec<Array>), Failure> {
        let writable = &self.loaded.writable;
        let mut columns = new_columns(writable.len());
        for &image in images {
            push(&mut columns, self.images.cells(image).iter().copied());
        }
        let sent = sent(writable, &columns)?;
        let oid = |i: &usize| self.loaded.table.columns[*i].type_oid;
        let arrays = writable.iter().zip(columns).map(|(i, column)| column.finish(oid(i))).collect();
        Ok((sent, arrays))
    }

    /// Prepared anew each time: a plan that is kept does not know how many values there are, nor that the table has grown.
    async fn send_planned(&mut self, sql: &str, arrays: Vec<Array>, rows: usize) -> Result<(), Failure> {
        let statement = self.client.prepare(sql).await;
        self.send(statement, arrays, rows).await
    }

    async fn send(
        &mut self,
        statement: Result<Statement, tokio_postgres::Error>,
        arrays: Vec<Array>,
        rows: usize,
    ) -> Result<(), Failure> {
        let client = self.client;
        let statement = match statement {
            Ok(statement) => statement,
            Err(error) => {
                settle(client, &mut self.pipeline, 0).await?;
                return Err(failed(client, error));
            }
        };
        self.pipeline.send(Some(rows as u64), async move { client.execute_raw(&statement, arrays).await });
        Ok(())
    }
}

fn numbers(numbers: impl IntoIterator<Item = i64>) -> Array {
    let mut column = Column::new();
    for number in numbers {
        column.push(Cell::Binary(&number.to_be_bytes()));
    }
    column.finish(NUMBER)
}
