//! The careful path under active foreign keys: as few source transactions at once as it takes.
//!
//! ```text
//!  refused ─> deletes last ─> each half of the transactions ─> … ─> one transaction, run by run ─> a run, row by row
//! ```
//! What the source did in one statement, such as rows that reference each other, cannot always be done row by row; and
//! what some transactions did one after the other cannot always be done at once. So the net effect of one transaction is
//! tried before its runs are (changes of one kind to one table, in a row), and a run before its rows.

use pgstream_postgres::Client;

use super::{
    super::{
        Error,
        batch::{Rows, Step},
        net::Planner,
        status::RowCounts,
        work::{Chunk, Part},
    },
    rowwise,
    setwise::{self, Doubt, Failure, Order},
    tables::Tables,
};

/// Applies a chunk whose net effect was refused with the deletes first.
///
/// # Errors
/// The conflict that is left when nothing but single rows was tried.
pub async fn apply(
    client: &Client,
    tables: &mut Tables,
    planner: &mut Planner,
    chunk: &Chunk,
) -> Result<RowCounts, Error> {
    let mut counts = RowCounts::default();
    let mut todo = vec![chunk.whole()];
    let mut orders: &[Order] = &[Order::DeletesLast];
    while let Some(part) = todo.pop() {
        if let Some(rows) = attempt(client, tables, planner, &part, orders).await? {
            counts += rows;
        } else if let Some((first, second)) = part.halves() {
            todo.extend([second, first]);
        } else {
            counts += run_by_run(client, tables, planner, &part).await?;
        }
        orders = &[Order::DeletesFirst, Order::DeletesLast];
    }
    Ok(counts)
}

/// Applies one transaction in commit order, runs of changes at once where that can be.
async fn run_by_run(
    client: &Client,
    tables: &mut Tables,
    planner: &mut Planner,
    part: &Part<'_>,
) -> Result<RowCounts, Error> {
    let mut counts = RowCounts::default();
    for (step, lsn) in part.steps() {
        match step {
            Step::Rows(rows) => {
                for run in rows.runs() {
                    counts += apply_run(client, tables, planner, part.chunk, &run).await?;
                }
            }
            Step::Truncate(step) => {
                rowwise::truncate(client, tables, step, lsn).await?;
                counts.truncates += step.relations.len() as u64;
            }
        }
    }
    Ok(counts)
}

async fn apply_run(
    client: &Client,
    tables: &mut Tables,
    planner: &mut Planner,
    chunk: &Chunk,
    run: &Rows<'_>,
) -> Result<RowCounts, Error> {
    let failed = || client.failed("applying a batch");
    if run.numbers().len() > 1 {
        client.batch_execute("SAVEPOINT run").await.map_err(failed())?;
        match setwise::apply_rows(client, tables, planner, chunk, run, Order::DeletesFirst).await {
            Ok(rows) => {
                client.batch_execute("RELEASE SAVEPOINT run").await.map_err(failed())?;
                return Ok(rows);
            }
            Err(Failure::Stop(error)) => return Err(error),
            Err(Failure::Doubt(_)) => {
                let undo = "ROLLBACK TO SAVEPOINT run; RELEASE SAVEPOINT run";
                client.batch_execute(undo).await.map_err(failed())?;
            }
        }
    }
    rowwise::apply_rows(client, tables, chunk, run, |_| true).await
}

/// Applies the net effect of the transactions, in one of these orders of statements; `None` when each is refused.
async fn attempt(
    client: &Client,
    tables: &mut Tables,
    planner: &mut Planner,
    part: &Part<'_>,
    orders: &[Order],
) -> Result<Option<RowCounts>, Error> {
    let failed = || client.failed("applying a batch");
    for &order in orders {
        let opening = setwise::opening(client, "SAVEPOINT part");
        match setwise::apply(client, tables, planner, part, order, opening).await {
            Ok(rows) => {
                client.batch_execute("RELEASE SAVEPOINT part").await.map_err(failed())?;
                return Ok(Some(rows));
            }
            Err(Failure::Stop(error)) => return Err(error),
            Err(Failure::Doubt(doubt)) => {
                let undo = "ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part";
                client.batch_execute(undo).await.map_err(failed())?;
                if !matches!(doubt, Doubt::Refused(_)) {
                    break;
                }
            }
        }
    }
    Ok(None)
}
