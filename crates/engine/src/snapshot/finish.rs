//! What is left when all rows and keys are in: sequences, labels, materialized views, statistics.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use pgstream_postgres::{Client, Server, Session, TableName, quote_ident, quote_literal};

use super::Error;

/// Sequences that one statement reads.
const SEQUENCES_AT_ONCE: usize = 200;

/// Where a sequence stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Value {
    last: i64,
    called: bool,
}

impl Value {
    /// What `nextval` would give, wide enough for the step beyond the last value.
    fn next(self, increment: i64) -> i128 {
        i128::from(self.last) + if self.called { i128::from(increment) } else { 0 }
    }

    fn is_ahead_of(self, other: Self, increment: i64) -> bool {
        let (here, there) = (self.next(increment), other.next(increment));
        if increment > 0 { here > there } else { here < there }
    }
}

/// Moves the target's sequences to the source's values, never backwards. Returns how many were moved.
///
/// Values are read now, not under the snapshot: a sequence is outside transactions, and later is safer.
pub(crate) async fn sequences(source: &Client, target: &Client) -> Result<usize, Error> {
    let list = "SELECT n.nspname::text, c.relname::text, s.seqincrement
                FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE c.relpersistence <> 't' AND n.nspname <> 'pgstream' ORDER BY 1, 2";
    let name = |row: &tokio_postgres::Row| TableName::new(row.get::<_, String>(0), row.get::<_, String>(1));
    let there = target.query(list, &[]).await.map_err(target.failed("listing sequences"))?;
    let there: BTreeSet<TableName> = there.iter().map(name).collect();
    let rows = source.query(list, &[]).await.map_err(source.failed("listing sequences"))?;
    let both: Vec<(TableName, i64)> =
        rows.iter().map(|row| (name(row), row.get(2))).filter(|(name, _)| there.contains(name)).collect();
    let mut moved = 0;
    for chunk in both.chunks(SEQUENCES_AT_ONCE) {
        let (from, to) = (values(source, chunk).await?, values(target, chunk).await?);
        let behind: Vec<String> = chunk
            .iter()
            .zip(from.into_iter().zip(to))
            .filter(|((_, increment), (from, to))| from.is_ahead_of(*to, *increment))
            .map(|((name, _), (from, _))| {
                let name = quote_literal(&name.to_string());
                format!("setval({name}::regclass, {}, {})", from.last, from.called)
            })
            .collect();
        if !behind.is_empty() {
            let sql = format!("SELECT {}", behind.join(", "));
            target.batch_execute(&sql).await.map_err(target.failed("moving sequences forward"))?;
        }
        moved += behind.len();
    }
    Ok(moved)
}

async fn values(server: &Client, sequences: &[(TableName, i64)]) -> Result<Vec<Value>, Error> {
    let asks: Vec<String> = sequences
        .iter()
        .enumerate()
        .map(|(at, (name, _))| format!("SELECT {at} AS at, last_value, is_called FROM {name}"))
        .collect();
    let sql = format!("{} ORDER BY at", asks.join(" UNION ALL "));
    let rows = server.query(&sql, &[]).await.map_err(server.failed("reading sequences"))?;
    Ok(rows.iter().map(|row| Value { last: row.get(1), called: row.get(2) }).collect())
}

/// Copies the security labels of all providers but the excluded ones.
pub(crate) async fn labels(source: &Client, target: &Client, excluded: &[String]) -> Result<(), Error> {
    if excluded.is_empty() || excluded.iter().any(|provider| provider == "*") {
        return Ok(());
    }
    let rows = source
        .query(
            "SELECT objtype, objname, provider, label FROM pg_seclabels
             WHERE provider <> ALL ($1) AND objtype NOT IN ('role', 'database', 'tablespace') ORDER BY 1, 2, 3",
            &[&excluded],
        )
        .await
        .map_err(source.failed("reading security labels"))?;
    for row in &rows {
        let (kind, name): (&str, &str) = (row.get(0), row.get(1));
        let sql = format!(
            "SECURITY LABEL FOR {} ON {} {name} IS {}",
            quote_ident(row.get(2)),
            kind.to_uppercase(),
            quote_literal(row.get(3))
        );
        target
            .batch_execute(&sql)
            .await
            .map_err(target.failed(&format!("setting the security label of {kind} {name}")))?;
    }
    Ok(())
}

/// Fills materialized views, in the given order.
pub(crate) async fn refresh(target: &Client, views: &[String]) -> Result<(), Error> {
    for view in views {
        target
            .batch_execute(&format!("REFRESH MATERIALIZED VIEW {view}"))
            .await
            .map_err(target.failed(&format!("refreshing materialized view {view}")))?;
    }
    Ok(())
}

/// Gathers statistics of tables over several sessions. Where that is not allowed, the server only warns: autovacuum
/// comes by.
pub(crate) async fn analyze(
    server: &Server,
    session: &Session,
    role: Option<&str>,
    tables: Vec<TableName>,
    sessions: usize,
) -> Result<(), Error> {
    // Each session takes the next table when it is done with one.
    let queue = Mutex::new(tables.into_iter());
    let work = (0..sessions).map(|_| async {
        let mut target = None;
        loop {
            let Some(table) = queue.lock().unwrap_or_else(PoisonError::into_inner).next() else { return Ok(()) };
            let target: &Client = match &mut target {
                Some(target) => target,
                none => {
                    let target = none.insert(server.connect(session).await?);
                    if let Some(role) = role {
                        let sql = format!("SET ROLE {}", quote_ident(role));
                        target.batch_execute(&sql).await.map_err(target.failed("acting as the configured role"))?;
                    }
                    target
                }
            };
            target
                .batch_execute(&format!("ANALYZE {table}"))
                .await
                .map_err(target.failed(&format!("gathering statistics of {table}")))?;
        }
    });
    futures::future::try_join_all(work).await.map(drop)
}

/// What the source has that a copy does not take along: for people.
pub(crate) async fn not_copied(source: &Client) -> Result<Vec<String>, Error> {
    let mut notices = Vec::new();
    let large: i64 = source
        .query_one("SELECT count(*) FROM (SELECT FROM pg_largeobject_metadata LIMIT 100000) l", &[])
        .await
        .map_err(source.failed("looking for large objects"))?
        .get(0);
    if large > 0 {
        notices.push(format!(
            "{large}{} large objects (pg_largeobject) are NOT copied and cannot be replicated: move them by \
             pg_dump --large-objects, or into bytea columns",
            if large == 100_000 { " or more" } else { "" }
        ));
    }
    Ok(notices)
}

/// Names in a stable order, for messages.
pub(crate) fn sorted(names: impl IntoIterator<Item = TableName>) -> String {
    let names: BTreeSet<String> = names.into_iter().map(|name| name.to_string()).collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_only_moves_forward() {
        let value = |last, called| Value { last, called };
        assert!(value(5, true).is_ahead_of(value(5, false), 1));
        assert!(!value(5, true).is_ahead_of(value(6, false), 1));
        assert!(value(-5, true).is_ahead_of(value(-4, true), -1));
        assert!(!value(i64::MAX, true).is_ahead_of(value(i64::MAX, true), 1));
    }
}
