//! The table of contents of a schema dump: which objects there are, and what hangs on what.
//!
//! `pg_restore --list --verbose` writes, per entry,
//! ```text
//! 215; 1259 16387 TABLE public orders alice
//! ;       depends on: 6 214
//! ```
//! Names may contain anything, so they are never parsed: an object is known by its catalog and OID, and what has
//! none (grants, comments, attachments) by the entries it depends on.

use std::collections::{HashMap, HashSet};

/// Every kind that starts like a longer one is found by trying longer ones first.
const KINDS: &[&str] = &[
    "ACCESS METHOD",
    "ACL",
    "AGGREGATE",
    "BLOB",
    "BLOB METADATA",
    "CAST",
    "CHECK CONSTRAINT",
    "COLLATION",
    "COMMENT",
    "CONSTRAINT",
    "CONVERSION",
    "DATABASE",
    "DATABASE PROPERTIES",
    "DEFAULT",
    "DEFAULT ACL",
    "DOMAIN",
    "ENCODING",
    "EVENT TRIGGER",
    "EXTENSION",
    "FK CONSTRAINT",
    "FOREIGN DATA WRAPPER",
    "FOREIGN SERVER",
    "FOREIGN TABLE",
    "FUNCTION",
    "INDEX",
    "INDEX ATTACH",
    "MATERIALIZED VIEW",
    "MATERIALIZED VIEW DATA",
    "OPERATOR",
    "OPERATOR CLASS",
    "OPERATOR FAMILY",
    "POLICY",
    "PROCEDURAL LANGUAGE",
    "PROCEDURE",
    "PUBLICATION",
    "PUBLICATION TABLE",
    "PUBLICATION TABLES IN SCHEMA",
    "ROW SECURITY",
    "RULE",
    "SCHEMA",
    "SEARCHPATH",
    "SECURITY LABEL",
    "SEQUENCE",
    "SEQUENCE OWNED BY",
    "SEQUENCE SET",
    "SERVER",
    "SHELL TYPE",
    "STATISTICS",
    "STATISTICS DATA",
    "STDSTRINGS",
    "SUBSCRIPTION",
    "SUBSCRIPTION TABLE",
    "TABLE",
    "TABLE ATTACH",
    "TABLE DATA",
    "TEXT SEARCH CONFIGURATION",
    "TEXT SEARCH DICTIONARY",
    "TEXT SEARCH PARSER",
    "TEXT SEARCH TEMPLATE",
    "TRANSFORM",
    "TRIGGER",
    "TYPE",
    "USER MAPPING",
    "VIEW",
];

/// `pg_class`.
pub(crate) const PG_CLASS: u32 = 1259;

/// One entry of a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: u32,
    /// Catalog and OID on the source; zeros when the entry is not an object.
    pub(crate) object: (u32, u32),
    pub(crate) kind: &'static str,
    /// Schema, name and owner, run together: for people, and to tell entries of one object apart.
    pub(crate) label: String,
    pub(crate) depends_on: Vec<u32>,
}

/// A listed dump (or one section of it), in the order of restoring.
#[derive(Debug, Clone, Default)]
pub(crate) struct Toc {
    pub(crate) entries: Vec<Entry>,
}

impl Toc {
    pub(crate) fn parse(listing: &str) -> Self {
        let mut kinds: Vec<&'static str> = KINDS.to_vec();
        kinds.sort_by_key(|kind| std::cmp::Reverse(kind.len()));
        let mut entries: Vec<Entry> = Vec::new();
        for line in listing.lines() {
            if let Some(ids) = line.strip_prefix(";\tdepends on:") {
                if let Some(entry) = entries.last_mut() {
                    entry.depends_on = ids.split_whitespace().filter_map(|id| id.parse().ok()).collect();
                }
            } else if let Some(entry) = entry(line, &kinds) {
                entries.push(entry);
            }
        }
        Self { entries }
    }

    /// A name for each entry that is the same in the next dump of an unchanged object.
    pub(crate) fn keys(&self) -> HashMap<u32, String> {
        let objects: HashMap<u32, &Entry> = self.entries.iter().map(|entry| (entry.id, entry)).collect();
        let anchor = |id: &u32| match objects.get(id) {
            Some(entry) if entry.object.1 != 0 => format!("{}/{}", entry.object.0, entry.object.1),
            Some(entry) => entry.label.clone(),
            None => String::new(),
        };
        let key = |entry: &Entry| {
            if entry.object.1 != 0 {
                return format!("{} {}/{}", entry.kind, entry.object.0, entry.object.1);
            }
            let mut on: Vec<String> = entry.depends_on.iter().map(anchor).collect();
            on.sort();
            format!("{} [{}] {}", entry.kind, on.join(" "), entry.label)
        };
        self.entries.iter().map(|entry| (entry.id, key(entry))).collect()
    }

    /// Adds to `left_out` everything that depends on it, directly or not, except what `keeps` holds on to.
    pub(crate) fn cascade(&self, left_out: &mut HashSet<u32>, keeps: impl Fn(&Entry) -> bool) {
        loop {
            let before = left_out.len();
            for entry in &self.entries {
                if !left_out.contains(&entry.id)
                    && !keeps(entry)
                    && entry.depends_on.iter().any(|id| left_out.contains(id))
                {
                    left_out.insert(entry.id);
                }
            }
            if left_out.len() == before {
                return;
            }
        }
    }
}

fn entry(line: &str, kinds: &[&'static str]) -> Option<Entry> {
    let (id, rest) = line.split_once("; ")?;
    let id = id.parse().ok()?;
    let (catalog, rest) = rest.split_once(' ')?;
    let (oid, rest) = rest.split_once(' ')?;
    let kind = kinds
        .iter()
        .find(|kind| rest.strip_prefix(**kind).is_some_and(|after| after.is_empty() || after.starts_with(' ')))?;
    let label = rest.get(kind.len()..).unwrap_or_default().trim().to_owned();
    Some(Entry { id, object: (catalog.parse().ok()?, oid.parse().ok()?), kind, label, depends_on: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = ";
; Archive created at 2026-11-23 03:00:00 UTC
;     Dbname: app
;
; Selected TOC Entries:
;
215; 1259 16387 TABLE public orders alice
216; 1259 16390 TABLE public lines; x alice
;\tdepends on: 215
3300; 1259 16400 INDEX public orders_at_idx alice
;\tdepends on: 215
3301; 0 0 INDEX ATTACH public a_b alice
;\tdepends on: 3300 215
3310; 2606 16410 FK CONSTRAINT public lines lines_order_fkey alice
;\tdepends on: 216 215
3311; 0 0 COMMENT public TABLE orders alice
;\tdepends on: 215
";

    #[test]
    fn entries_are_read_without_parsing_names() {
        let toc = Toc::parse(LISTING);
        assert_eq!(toc.entries.len(), 6);
        assert_eq!(toc.entries[1].label, "public lines; x alice");
        assert_eq!(toc.entries[3].kind, "INDEX ATTACH");
        assert_eq!(toc.entries[4].depends_on, [216, 215]);
        assert_eq!(toc.keys()[&3311], "COMMENT [1259/16387] public TABLE orders alice");
        assert_eq!(toc.keys()[&215], "TABLE 1259/16387");
    }

    #[test]
    fn what_hangs_on_a_left_out_table_goes_with_it() {
        let toc = Toc::parse(LISTING);
        let mut out = HashSet::from([216]);
        toc.cascade(&mut out, |_| false);
        assert_eq!(out, HashSet::from([216, 3310]));
    }
}
