//! Which tables were copied, and which source transactions each copy already holds.
//!
//! A transaction is *in* a copy exactly when it is visible in the snapshot that the copy was read under. Whatever
//! committed at or after `snapshot_lsn`, which is read after the snapshot was taken, cannot be: from there on no
//! transaction id is looked at any more.

use std::collections::HashMap;

use pgstream_postgres::{Client, Error, Lsn, TableName};

use crate::mutants::{self, Mutant};

/// The steps-table name of a snapshot whose every table, index and constraint is in place.
pub const COMPLETE: &str = "complete";

/// A `pg_snapshot` as the server prints it, `xmin:xmax:xip,…`, of full 64-bit transaction ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    xmin: u64,
    xmax: u64,
    /// Sorted.
    in_progress: Vec<u64>,
}

/// The text is not a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a transaction snapshot such as 100:104:100,102")]
pub struct ParseSnapshotError(String);

impl std::str::FromStr for Snapshot {
    type Err = ParseSnapshotError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseSnapshotError(text.chars().take(64).collect());
        let mut parts = text.splitn(3, ':');
        let mut number = || parts.next().and_then(|part| part.parse::<u64>().ok()).ok_or_else(bad);
        let (xmin, xmax) = (number()?, number()?);
        let list = parts.next().ok_or_else(bad)?;
        let mut in_progress = match list {
            "" => Vec::new(),
            list => list.split(',').map(str::parse).collect::<Result<Vec<u64>, _>>().map_err(|_| bad())?,
        };
        in_progress.sort_unstable();
        if xmin > xmax { Err(bad()) } else { Ok(Self { xmin, xmax, in_progress }) }
    }
}

impl Snapshot {
    /// Whether the committed transaction `xid` is visible, as `pg_visible_in_snapshot` has it.
    ///
    /// The stream tells the low 32 bits only. Transactions alive at about the same time are less than 2^31 apart, so
    /// the full id is the one nearest to `xmax`.
    #[must_use]
    pub fn sees(&self, xid: u32) -> bool {
        let distance = xid.wrapping_sub(self.xmax as u32).cast_signed();
        let Some(full) = self.xmax.checked_add_signed(i64::from(distance)) else { return true };
        if mutants::is(Mutant::SnapshotOffByOne) {
            return full + 1 < self.xmax;
        }
        if mutants::is(Mutant::RunningSeen) {
            return full < self.xmax;
        }
        full < self.xmin || (full < self.xmax && self.in_progress.binary_search(&full).is_err())
    }
}

/// Stands in the ledger instead of a snapshot while a table waits to be copied again.
pub const STALE: &str = "stale";

/// The copy of one table, or of the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Copied {
    /// It was read under a snapshot.
    Under {
        /// The snapshot.
        snapshot: Snapshot,
        /// Nothing that committed at or after this position is in the copy.
        snapshot_lsn: Lsn,
        /// Whether the definition was copied with the rows.
        with_schema: bool,
    },
    /// It is still to be copied again, after a schema change: until then no row of it is applied.
    Stale,
}

impl Copied {
    /// Whether the rows of the source transaction `xid`, whose commit record starts at `commit`, are in the copy.
    #[must_use]
    pub fn holds(&self, xid: u32, commit: Lsn) -> bool {
        match self {
            Self::Under { snapshot, snapshot_lsn, .. } => commit < *snapshot_lsn && snapshot.sees(xid),
            Self::Stale => true,
        }
    }

    /// Whether schema changes of the source transaction are in the copy.
    #[must_use]
    pub fn holds_schema(&self, xid: u32, commit: Lsn) -> bool {
        matches!(self, Self::Under { with_schema: true, .. }) && self.holds(xid, commit)
    }

    /// Whether it can hold a transaction that commits at or after `position`.
    #[must_use]
    pub fn reaches(&self, position: Lsn) -> bool {
        match self {
            Self::Under { snapshot_lsn, .. } => position < *snapshot_lsn,
            Self::Stale => true,
        }
    }

    /// Reads what the ledger says.
    ///
    /// # Errors
    /// When it is no snapshot.
    pub fn parse(snapshot: &str, snapshot_lsn: Lsn, with_schema: bool) -> Result<Self, ParseSnapshotError> {
        if snapshot == STALE {
            return Ok(Self::Stale);
        }
        Ok(Self::Under { snapshot: snapshot.parse()?, snapshot_lsn, with_schema })
    }
}

/// The copies of one source on this target.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    tables: HashMap<TableName, Copied>,
    schema: Option<Copied>,
}

impl Ledger {
    /// Reads the ledger of `slot`.
    ///
    /// # Errors
    /// When the session fails or a recorded snapshot is not one.
    pub async fn read(client: &Client, slot: &str) -> Result<Self, LedgerError> {
        let rows = client
            .query(
                "SELECT DISTINCT schema_name, table_name, snapshot, snapshot_lsn, with_schema
                   FROM pgstream.snapshot_ledger WHERE source = $1",
                &[&slot],
            )
            .await
            .map_err(client.failed("reading pgstream.snapshot_ledger"))?;
        let mut tables = HashMap::with_capacity(rows.len());
        for row in rows {
            let table = TableName::new(row.get::<_, String>(0), row.get::<_, String>(1));
            let copied = Copied::parse(row.get(2), row.get(3), row.get(4))?;
            if tables.insert(table.clone(), copied).is_some() {
                return Err(LedgerError::HalfCopied { table });
            }
        }
        let row = client
            .query_opt("SELECT snapshot, snapshot_lsn FROM pgstream.schema_snapshot WHERE source = $1", &[&slot])
            .await
            .map_err(client.failed("reading pgstream.schema_snapshot"))?;
        let schema = row.map(|row| Copied::parse(row.get(0), row.get(1), true)).transpose()?;
        Ok(Self { tables, schema })
    }

    /// The copy of the schema, if it was copied.
    #[must_use]
    pub fn schema(&self) -> Option<&Copied> {
        self.schema.as_ref()
    }

    /// Takes note of a table that was copied again.
    pub fn renew(&mut self, table: TableName, copied: Copied) {
        self.tables.insert(table, copied);
    }

    /// A table that is gone, or has another name.
    pub fn rename(&mut self, was: &TableName, is: Option<TableName>) {
        if let (Some(copied), Some(is)) = (self.tables.remove(was), is) {
            self.tables.insert(is, copied);
        }
    }

    /// Tables that wait to be copied again.
    #[must_use]
    pub fn stale(&self) -> Vec<TableName> {
        let mut stale: Vec<TableName> = self
            .tables
            .iter()
            .filter(|(_, copied)| **copied == Copied::Stale)
            .map(|(table, _)| table.clone())
            .collect();
        stale.sort();
        stale
    }

    /// All tables of a schema.
    #[must_use]
    pub fn of_schema(&self, schema: &str) -> Vec<TableName> {
        self.tables.keys().filter(|table| table.schema == schema).cloned().collect()
    }

    /// The copy of a table, if it was copied.
    #[must_use]
    pub fn copied(&self, table: &TableName) -> Option<&Copied> {
        self.tables.get(table)
    }

    /// Whether a snapshot filled this target: tables that were copied again one by one do not count.
    #[must_use]
    pub fn has_snapshot(&self) -> bool {
        self.tables.values().any(|copied| matches!(copied, Copied::Under { with_schema: true, .. }))
    }
}

/// Whether everything that the copy for `slot` consists of is in place.
///
/// # Errors
/// When the session fails.
pub async fn is_complete(client: &Client, slot: &str) -> Result<bool, Error> {
    let failed = || client.failed("reading pgstream.snapshot_steps");
    let there: bool = client
        .query_one("SELECT to_regclass('pgstream.snapshot_steps') IS NOT NULL", &[])
        .await
        .map_err(failed())?
        .get(0);
    if !there {
        return Ok(false);
    }
    let row = client
        .query_opt("SELECT 1 FROM pgstream.snapshot_steps WHERE source = $1 AND step = $2", &[&slot, &COMPLETE])
        .await
        .map_err(failed())?;
    Ok(row.is_some())
}

/// The ledger cannot be used.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum LedgerError {
    /// A recorded snapshot cannot be read.
    #[error("pgstream.snapshot_ledger holds {0}")]
    #[diagnostic(
        code(ledger::snapshot),
        help("the ledger was edited; copy the table again with `pgstream-aws snapshot --tables`")
    )]
    Snapshot(#[from] ParseSnapshotError),
    /// The parts of a table were read under different snapshots.
    #[error("the parts of {table} were copied under different snapshots")]
    #[diagnostic(
        code(ledger::half_copied),
        help("the copy of this table is not finished: run `pgstream-aws snapshot` with the same configuration")
    )]
    HalfCopied {
        /// The table.
        table: TableName,
    },
    /// The session failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Postgres(#[from] Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_sees_what_committed_before_it() {
        let snapshot: Snapshot = "100:105:100,103".parse().unwrap();
        let seen: Vec<u32> = (95..110).filter(|&xid| snapshot.sees(xid)).collect();
        assert_eq!(seen, [95, 96, 97, 98, 99, 101, 102, 104]);
    }

    #[test]
    fn the_epoch_of_a_transaction_is_the_one_nearest_to_the_snapshot() {
        let wrap = 1_u64 << 32;
        let snapshot: Snapshot = format!("{}:{}:", wrap + 5, wrap + 5).parse().unwrap();
        assert!(snapshot.sees(4));
        assert!(snapshot.sees(u32::MAX), "from the epoch before");
        assert!(!snapshot.sees(5));
        let before: Snapshot = format!("{}:{}:", wrap - 5, wrap - 5).parse().unwrap();
        assert!(before.sees(u32::MAX - 5));
        assert!(!before.sees(u32::MAX));
        assert!(!before.sees(3), "already in the next epoch");
    }

    #[test]
    fn a_commit_after_the_snapshot_position_is_never_in_the_copy() {
        let copied = Copied::parse("10:10:", Lsn(1000), true).unwrap();
        assert!(copied.holds(9, Lsn(999)));
        assert!(!copied.holds(9, Lsn(1000)));
        assert!(!copied.holds(10, Lsn(999)));
    }

    #[test]
    fn a_text_that_is_no_snapshot_is_refused() {
        for bad in ["", "1", "1:2", "2:1:", "a:2:", "1:2:x", "1:2:1,"] {
            assert!(bad.parse::<Snapshot>().is_err(), "{bad}");
        }
    }
}
