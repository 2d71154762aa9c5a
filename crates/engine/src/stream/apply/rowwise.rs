//! The exact path: one statement a change, in commit order.
//!
//! Requests are pipelined, so that a change costs the server's work and not a round trip. The first change that fails
//! or does not hit exactly one row is named.

use pgstream_postgres::{
    Class, Client, Lsn,
    pgoutput::{Cell, Old, Tuple},
};

use super::{
    super::{
        Error,
        batch::{Change, Kind, RelIndex, Rows, Step, Truncate},
        relation::Lookup,
        status::RowCounts,
        work::{Chunk, Part},
    },
    pipeline::Pipeline,
    statements::{Find, LOOKUPS},
    tables::{Loaded, Shape, Tables},
    values::Value,
};
use crate::mutants::{self, Mutant};

/// Statements under way at the same time.
const WINDOW: usize = 512;

/// A change that was sent.
struct Sent {
    what: &'static str,
    relation: RelIndex,
    lsn: Lsn,
    /// Nothing is left to do when the row is gone already: a foreign key's cascade took it.
    may_be_gone: bool,
}

/// Applies every change in commit order.
///
/// # Errors
/// [`Error::Conflict`] for the first change that does not fit.
pub async fn apply(client: &Client, tables: &mut Tables, part: &Part<'_>) -> Result<RowCounts, Error> {
    let mut counts = RowCounts::default();
    for (step, lsn) in part.steps() {
        match step {
            Step::Rows(rows) => counts += apply_rows(client, tables, part.chunk, &rows, |_| true).await?,
            Step::Truncate(step) => {
                truncate(client, tables, step, lsn).await?;
                counts.truncates += step.relations.len() as u64;
            }
        }
    }
    Ok(counts)
}

/// Applies the changes of some relations in commit order.
///
/// # Errors
/// [`Error::Conflict`] for the first change that does not fit.
pub async fn apply_rows(
    client: &Client,
    tables: &mut Tables,
    chunk: &Chunk,
    rows: &Rows<'_>,
    wanted: impl Fn(RelIndex) -> bool,
) -> Result<RowCounts, Error> {
    let mut pending = Pipeline::new();
    let mut counts = RowCounts::default();
    for (number, change) in rows.numbers().zip(rows.iter()).filter(|(_, change)| wanted(change.relation)) {
        if pending.len() >= WINDOW {
            settle(client, tables, &mut pending, WINDOW / 2).await?;
        }
        match change.kind {
            Kind::Insert(_) => counts.inserts += 1,
            Kind::Update { .. } => counts.updates += 1,
            Kind::Delete(_) => counts.deletes += 1,
        }
        send(client, tables, &change, chunk.commit_of(number), &mut pending).await?;
    }
    settle(client, tables, &mut pending, 0).await?;
    Ok(counts)
}

/// TRUNCATE of several tables is one statement; what the source's CASCADE reached is in the list.
pub async fn truncate(client: &Client, tables: &Tables, step: &Truncate, lsn: Lsn) -> Result<(), Error> {
    let loaded: Vec<&Loaded> = step.relations.iter().filter_map(|&index| tables.get(index)).collect();
    let Some(first) = loaded.first() else { return Ok(()) };
    let names: Vec<String> = loaded.iter().map(|l| format!("{}{}", l.table.only, l.table.name)).collect();
    let restart = if step.restart_identity { " RESTART IDENTITY" } else { "" };
    client.batch_execute(&format!("TRUNCATE {}{restart}", names.join(", "))).await.map_err(|error| {
        let source = client.failed("TRUNCATE")(error);
        if is_not_about_rows(&source) {
            return source.into();
        }
        conflict("TRUNCATE", first, lsn, "the server refused it".into(), Some(source))
    })
}

async fn send<'a>(
    client: &'a Client,
    tables: &mut Tables,
    change: &Change<'a>,
    lsn: Lsn,
    pending: &mut Pipeline<'a, Sent>,
) -> Result<(), Error> {
    let relation = change.relation;
    let Some(loaded) = tables.get(relation) else {
        return Err(Error::Protocol { problem: "a change of a table that was not loaded".into() });
    };
    let cascaded = tables.may_have_cascaded(loaded);
    let Statement { what, shape, values, moved } = statement(loaded, change, lsn)?;
    let prepared = match tables.get_mut(relation) {
        Some(loaded) => loaded.statement(client, &shape).await,
        None => return Ok(()),
    };
    let statement = match prepared {
        Ok(statement) => statement,
        Err(error) => {
            // The failure may be an earlier change's: that one is to be named.
            settle(client, tables, pending, 0).await?;
            return Err(client.failed("preparing a statement")(error).into());
        }
    };
    let mut sent = Sent { what, relation, lsn, may_be_gone: cascaded && what == "DELETE" };
    if let Some(moved) = moved.filter(|_| cascaded) {
        // A cascade may have given the row its new key before this change came to do so.
        settle(client, tables, pending, 0).await?;
        sent.may_be_gone = true;
        let found = client.execute_raw(&statement, values).await;
        let gone = matches!(found, Ok(0));
        pending.send(sent, std::future::ready(found));
        if !gone {
            return Ok(());
        }
        let sent = Sent { what, relation, lsn, may_be_gone: false };
        pending.send(sent, async move { client.execute_raw(&statement, moved).await });
        return Ok(());
    }
    pending.send(sent, async move { client.execute_raw(&statement, values).await });
    Ok(())
}

async fn settle(
    client: &Client,
    tables: &Tables,
    pending: &mut Pipeline<'_, Sent>,
    down_to: usize,
) -> Result<(), Error> {
    while pending.len() > down_to {
        let Some((sent, answer)) = pending.next().await else { break };
        let problem = match answer {
            Ok(1) => continue,
            Ok(_) if mutants::is(Mutant::AnyRowCount) => continue,
            Ok(0) if sent.may_be_gone => continue,
            Ok(0) => ("the row is not on the target".to_owned(), None),
            Ok(many) => (format!("{many} rows of the target match"), None),
            Err(error) => {
                let error = client.failed(sent.what)(error);
                if is_not_about_rows(&error) {
                    return Err(error.into());
                }
                ("the server refused it".to_owned(), Some(error))
            }
        };
        let Some(loaded) = tables.get(sent.relation) else { continue };
        return Err(conflict(sent.what, loaded, sent.lsn, problem.0, problem.1));
    }
    Ok(())
}

/// Nothing is wrong with the rows of the target: it passes, or somebody grants what is missing.
fn is_not_about_rows(error: &pgstream_postgres::Error) -> bool {
    error.class() == Class::Transient || error.is_permission_denied()
}

fn conflict(
    what: &'static str,
    loaded: &Loaded,
    lsn: Lsn,
    problem: String,
    source: Option<pgstream_postgres::Error>,
) -> Error {
    Error::Conflict { what, table: loaded.table.name.clone(), lsn, problem, source: source.map(Box::new) }
}

/// The statement for one change.
struct Statement<'a> {
    what: &'static str,
    shape: Shape,
    values: Vec<Value<'a>>,
    /// The parameters that find the row by what it becomes, where that is something else.
    moved: Option<Vec<Value<'a>>>,
}

fn statement<'a>(loaded: &Loaded, change: &Change<'a>, lsn: Lsn) -> Result<Statement<'a>, Error> {
    match change.kind {
        Kind::Insert(new) => {
            let (shape, values) = (Shape::InsertRow(loaded.writable.clone()), pick(new, &loaded.writable));
            Ok(Statement { what: "INSERT", shape, values, moved: None })
        }
        Kind::Update { old, new } => update(loaded, old, new, lsn),
        Kind::Delete(old) => {
            let mut find = loaded.find().ok_or_else(|| no_key("DELETE", loaded, lsn))?;
            let cells: Vec<Cell<'a>> = old.tuple().cells().collect();
            look_up(loaded, &mut find, |i| cells[i] != Cell::Null);
            let values = find.columns().iter().map(|&i| Value(cells[i])).collect();
            Ok(Statement { what: "DELETE", shape: Shape::DeleteRow(find), values, moved: None })
        }
    }
}

fn update<'a>(loaded: &Loaded, old: Option<Old<'a>>, new: Tuple<'a>, lsn: Lsn) -> Result<Statement<'a>, Error> {
    let mut find = loaded.find().ok_or_else(|| no_key("UPDATE", loaded, lsn))?;
    let columns = &loaded.table.columns;
    let after: Vec<Cell<'a>> = new.cells().collect();
    let before: Vec<Cell<'a>> = old.map_or(new, |old| old.tuple()).cells().collect();
    let is_key = |i: usize| matches!(&find, Find::Key(key) if key.contains(&i));
    // An identity column that is always generated cannot be set: when its value moved, the row is replaced; when the
    // source did not say whether it moved, the row must be found with the value it has now.
    let known = |i: usize| is_key(i) || matches!(old, Some(Old::Full(_)));
    let moved = |i: usize| known(i) && before[i] != after[i];
    let replaced = loaded.writable.iter().any(|&i| columns[i].identity_always && moved(i));
    if replaced && loaded.foreign_keys_fire {
        let problem = "an identity column that is GENERATED ALWAYS changed, which needs disable_triggers: true";
        return Err(conflict("UPDATE", loaded, lsn, problem.into(), None));
    }
    let set: Vec<usize> = loaded
        .writable
        .iter()
        .copied()
        .filter(|&i| after[i] != Cell::Unchanged && (!is_key(i) || before[i] != after[i]))
        .filter(|&i| !columns[i].identity_always || moved(i))
        .collect();
    let keys = find.columns().to_vec();
    if let Find::Key(key) = &mut find {
        let guards = loaded.writable.iter().filter(|&&i| columns[i].identity_always && !key.contains(&i));
        let guards: Vec<usize> = guards.copied().filter(|_| !matches!(old, Some(Old::Full(_)))).collect();
        key.extend(guards);
    }
    let mut values: Vec<Value<'a>> = set.iter().map(|&i| Value(after[i])).collect();
    let full = matches!(old, Some(Old::Full(_)));
    let was = |i: usize| if full || keys.contains(&i) { before[i] } else { after[i] };
    let becomes = |i: usize| if after[i] == Cell::Unchanged { was(i) } else { after[i] };
    look_up(loaded, &mut find, |i| was(i) != Cell::Null && becomes(i) != Cell::Null);
    let moved = find.columns().iter().any(|&i| was(i) != becomes(i)).then(|| {
        let found = find.columns().iter().map(|&i| Value(becomes(i)));
        values.iter().copied().chain(found).collect()
    });
    values.extend(find.columns().iter().map(|&i| Value(was(i))));
    let shape = if replaced { Shape::ReplaceRow(set, find) } else { Shape::UpdateRow(set, find) };
    Ok(Statement { what: "UPDATE", shape, values, moved })
}

/// Lets an index find the row whose image is sought, by the columns that are not null in it.
fn look_up(loaded: &Loaded, find: &mut Find, is_there: impl Fn(usize) -> bool) {
    if let Find::Image { columns, known } = find {
        let columns = columns.iter().copied();
        let columns = columns.filter(|&i| loaded.table.columns[i].lookup != Lookup::Nothing && is_there(i));
        known.extend(columns.take(LOOKUPS));
    }
}

fn no_key(what: &'static str, loaded: &Loaded, lsn: Lsn) -> Error {
    conflict(what, loaded, lsn, "the table has no replica identity, so the row cannot be found".into(), None)
}

fn pick<'a>(tuple: Tuple<'a>, columns: &[usize]) -> Vec<Value<'a>> {
    let cells: Vec<Cell<'a>> = tuple.cells().collect();
    columns.iter().map(|&i| Value(cells[i])).collect()
}
