//! Which tables are copied and which are followed.
//!
//! ```text
//!                      include                                exclude                  schema only
//!  copy       snapshot.tables and filter.include     either list of exclusions     either list
//!  stream     plugin.add_tables and filter.include   filter and plugin.filter      filter
//! ```
//! Inclusions narrow each other: a table takes part when every list that is written has it.

use crate::{
    error::{Code, Place},
    pattern::{TableFilter, TablePattern},
    pipeline::Mode,
    written::Written,
};

const TABLES: &str = "source.postgres.snapshot.tables";
const EXCLUDED: &str = "source.postgres.snapshot.excluded_tables";
const SCHEMA_ONLY: &str = "source.postgres.snapshot.schema_only_tables";
const ADDED: &str = "source.postgres.replication.plugin.add_tables";
const FILTERED: &str = "source.postgres.replication.plugin.filter_tables";
const FILTER_INCLUDE: &str = "modifiers.filter.include_tables";
const FILTER_EXCLUDE: &str = "modifiers.filter.exclude_tables";
const FILTER_SCHEMA_ONLY: &str = "modifiers.filter.schema_only_tables";

pub(super) fn of_stream(w: &mut Written) -> TableFilter {
    let filter = TableFilter {
        include: narrowed(w, ADDED, FILTER_INCLUDE),
        exclude: joined(w, &[FILTER_EXCLUDE, FILTERED]),
        schema_only: joined(w, &[FILTER_SCHEMA_ONLY]),
    };
    refuse_both(w, FILTER_INCLUDE, FILTER_SCHEMA_ONLY);
    filter
}

pub(super) fn of_copy(w: &mut Written, mode: Mode) -> TableFilter {
    let filter = TableFilter {
        include: narrowed(w, TABLES, FILTER_INCLUDE),
        exclude: joined(w, &[EXCLUDED, FILTER_EXCLUDE]),
        schema_only: joined(w, &[SCHEMA_ONLY, FILTER_SCHEMA_ONLY]),
    };
    refuse_both(w, TABLES, SCHEMA_ONLY);
    if mode == Mode::SnapshotAndReplication {
        tell_about_the_stream(w);
    }
    filter
}

/// Lists of the copy do not hold for the stream, and a table that the target does not have stops it.
fn tell_about_the_stream(w: &mut Written) {
    let covered = |listed: &[TablePattern], by: &[TablePattern]| {
        listed.iter().all(|table| by.iter().any(|pattern| pattern.intersect(table).as_ref() == Some(table)))
    };
    let everything = w.patterns(TABLES).iter().any(|p| p.schema.is_none() && p.table.is_none());
    if !w.patterns(TABLES).is_empty() && !everything && w.patterns(FILTER_INCLUDE).is_empty() {
        let message = "concerns the copy only; the stream follows every table. To follow these only, list them in \
                       modifiers.filter.include_tables instead";
        w.notice(TABLES, message);
    }
    if !covered(w.patterns(EXCLUDED), w.patterns(FILTER_EXCLUDE)) {
        let message = "concerns the copy only; the stream still follows these tables, and stops when the target does \
                       not have them. To leave them out of both, list them in modifiers.filter.exclude_tables";
        w.notice(EXCLUDED, message);
    }
}

fn joined(w: &Written, paths: &[&str]) -> Vec<TablePattern> {
    let mut all: Vec<TablePattern> = Vec::new();
    for pattern in paths.iter().flat_map(|path| w.patterns(path)) {
        if !all.contains(pattern) {
            all.push(pattern.clone());
        }
    }
    all
}

/// The tables that both lists have; an empty list has all.
fn narrowed(w: &mut Written, one: &'static str, other: &'static str) -> Vec<TablePattern> {
    if w.patterns(one).is_empty() || w.patterns(other).is_empty() {
        return joined(w, &[one, other]);
    }
    let mut both: Vec<TablePattern> = Vec::new();
    for pattern in w.patterns(one).iter().flat_map(|a| w.patterns(other).iter().filter_map(|b| a.intersect(b))) {
        if !both.contains(&pattern) {
            both.push(pattern);
        }
    }
    if both.is_empty() {
        let place = w.place(one).cloned().unwrap_or(Place::Nowhere);
        let what = format!("{one} and {other} have no table in common");
        w.problem(&place, Code::Conflict, what, format!("list tables here that {other} has, or remove one of the two"));
    }
    both
}

/// A table by name cannot be wanted with and without its rows.
fn refuse_both(w: &mut Written, rows: &'static str, schema_only: &'static str) {
    let named = |path: &str| w.patterns(path).iter().filter(|p| p.is_exact()).cloned().collect::<Vec<_>>();
    let wanted = named(rows);
    for table in named(schema_only).into_iter().filter(|table| wanted.contains(table)) {
        let place = w.place(schema_only).cloned().unwrap_or(Place::Nowhere);
        let what =
            format!("{} is listed both in {rows} and in {schema_only}", crate::secret::shown(&table.to_string()));
        w.problem(&place, Code::Conflict, what, "remove it from one of the two");
    }
}
