//! In which pieces and in which order tables are copied. Pure.

use std::collections::{HashMap, HashSet};

use pgstream_postgres::TableName;

use super::{Error, catalog::Table, copy::Pages};

/// More parts than this bring nothing but bookkeeping.
const MAX_PARTS: u64 = 1024;

/// What may be lost to one broken connection.
const MAX_WHOLE: u64 = 4 << 30;

/// Up to which size a table is copied in one piece: only then are its rows frozen, which spares the target's index
/// builds and scans a look at each row's transaction. A table splits when a lane would still be busy with it when the
/// others have nothing left.
pub(crate) fn whole(part_bytes: u64, total_bytes: u64, lanes: usize) -> u64 {
    let share = total_bytes / (lanes.max(1) as u64);
    // A little over one part is not worth splitting for.
    share.min(MAX_WHOLE).max(part_bytes.saturating_mul(2))
}

/// Page ranges of about `part_bytes` each. TID ranges are scanned, not filtered, from server 14 on.
pub(crate) fn split(table: &Table, part_bytes: u64, whole_bytes: u64, major: u32) -> Vec<Pages> {
    let whole = vec![Pages { from: 0, to: None }];
    if major < 14 || table.pages == 0 || table.columns.is_empty() || table.extension_config {
        return whole;
    }
    let parts = table.bytes.div_ceil(part_bytes.max(1)).min(MAX_PARTS).min(table.pages);
    if parts < 2 || table.bytes < whole_bytes {
        return whole;
    }
    let bound = |part: u64| table.pages * part / parts;
    (0..parts).map(|part| Pages { from: bound(part), to: (part + 1 < parts).then(|| bound(part + 1)) }).collect()
}

/// For each table, the tables that must be complete before it: what it references. Errors on a circle.
///
/// `references`: (referencing, referenced), as on the target.
pub(crate) fn parents_first(
    tables: &HashSet<TableName>,
    references: &[(TableName, TableName)],
) -> Result<HashMap<TableName, HashSet<TableName>>, Error> {
    let mut before: HashMap<TableName, HashSet<TableName>> = HashMap::new();
    for (child, parent) in references {
        if child != parent && tables.contains(child) && tables.contains(parent) {
            before.entry(child.clone()).or_default().insert(parent.clone());
        }
    }
    let mut open = before.clone();
    loop {
        let ready: Vec<TableName> = open
            .values()
            .flatten()
            .filter(|parent| !open.contains_key(*parent))
            .cloned()
            .collect::<HashSet<_>>()
            .into_iter()
            .collect();
        for parents in open.values_mut() {
            for table in &ready {
                parents.remove(table);
            }
        }
        let left = open.len();
        open.retain(|_, parents| !parents.is_empty());
        if open.is_empty() {
            return Ok(before);
        }
        if ready.is_empty() && open.len() == left {
            let mut tables: Vec<String> = open.keys().map(ToString::to_string).collect();
            tables.sort();
            return Err(Error::ForeignKeyCircle { tables });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::catalog::{Binary, Column, Kind};

    fn table(bytes: u64, pages: u64) -> Table {
        let binary = Binary { never: false, carries_oids: false, foreign_format: false };
        Table {
            oid: 1,
            name: TableName::new("public", "t"),
            kind: Kind::Plain,
            bytes,
            pages,
            columns: vec![Column { name: "a".into(), data_type: "integer".into(), binary }],
            condition: None,
            extension_config: false,
        }
    }

    #[test]
    fn parts_cover_every_page_once() {
        for (bytes, pages) in [(1_000_000, 123), (8192 * 1000, 1000), (u64::MAX / 2, 7)] {
            let parts = split(&table(bytes, pages), 10_000, 20_000, 15);
            assert!(parts.len() > 1);
            assert_eq!(parts[0].from, 0);
            assert_eq!(parts.last().unwrap().to, None);
            for pair in parts.windows(2) {
                assert_eq!(pair[0].to, Some(pair[1].from));
                assert!(pair[0].from < pair[1].from);
            }
        }
        assert_eq!(split(&table(1_000_000, 123), 10_000, 20_000, 13).len(), 1);
        assert_eq!(split(&table(15_000, 2), 10_000, 20_000, 15).len(), 1);
    }

    #[test]
    fn a_table_is_split_when_it_would_outlast_the_others() {
        let (part, gib) = (80 << 20, 1 << 30);
        assert_eq!(whole(part, 2 * gib, 2), gib);
        assert_eq!(whole(part, gib / 10, 4), 2 * part);
        assert_eq!(whole(part, 100 * gib, 4), MAX_WHOLE);
        assert_eq!(whole(part, gib, usize::MAX), 2 * part);
        assert_eq!(whole(u64::MAX, gib, 0), u64::MAX);
    }

    #[test]
    fn parents_come_first_and_circles_are_named() {
        let name = |n: &str| TableName::new("public", n);
        let tables: HashSet<_> = ["a", "b", "c"].map(name).into();
        let order = parents_first(&tables, &[(name("b"), name("a")), (name("c"), name("b")), (name("a"), name("a"))]);
        let order = order.unwrap();
        assert_eq!(order[&name("b")], HashSet::from([name("a")]));
        assert!(!order.contains_key(&name("a")));
        let circle = parents_first(&tables, &[(name("b"), name("a")), (name("a"), name("b"))]).unwrap_err();
        assert!(circle.to_string().contains("\"public\".\"a\", \"public\".\"b\""), "{circle}");
    }
}
