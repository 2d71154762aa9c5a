//! Whether both sides are equal, and how long it took.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use console::style;
use pgstream_testkit::TableDigest;

use crate::page::{chapter, say};

/// Every table of one side beside that of the other; fails when they differ.
pub fn compare(source: &BTreeMap<String, TableDigest>, target: &BTreeMap<String, TableDigest>) -> Result<(), String> {
    let mut wrong = String::new();
    for (table, left) in source {
        let same = target.get(table) == Some(left);
        let mark = if same { style("equal").green() } else { style("DIFFERENT").red() };
        say(&format!("{table:<24} {:>7} rows  sum {:>22}  {mark}", left.0, left.1));
        if !same {
            let _ = writeln!(wrong, "{table}: {left:?} against {:?}", target.get(table));
        }
    }
    if wrong.is_empty() && source.len() == target.len() {
        Ok(())
    } else {
        Err(format!("the two sides differ:\n{wrong}"))
    }
}

/// What the summary says.
#[derive(Default, Clone, Copy)]
pub struct Times {
    pub rows: u64,
    pub provision: Duration,
    pub copy: Duration,
    pub streamed: u64,
    pub recovery: Duration,
    pub catch_up: Duration,
    pub alarm: Duration,
    pub total: Duration,
}

impl Times {
    /// The end of the story.
    pub fn summary(&self) {
        let Self { rows, provision, copy, streamed, recovery, catch_up, alarm, total } = self;
        let rate = *rows as f64 / copy.as_secs_f64();
        chapter("Summary");
        say(&format!("provisioned  in {provision:.1?}, with one restart of the server"));
        say(&format!("copied       {rows} rows in {copy:.1?} ({rate:.0} rows/s, indexes and keys included)"));
        say(&format!("followed     {streamed} transactions of customers, from PostgreSQL 16 to 18"));
        say(&format!("recovered    in {recovery:.1?} from kill -9, with customers writing"));
        say(&format!("caught up    {catch_up:.1?} after the last customer left; every table equal"));
        say(&format!(
            "alarm        rang at the crash, and fell silent {alarm:.0?} later; the state machine runs the stream"
        ));
        say(&format!("in all       {total:.1?}"));
    }
}
