//! The text format of Prometheus, for a textfile collector.

use std::fmt::Write as _;

use crate::{
    metrics::{self, METRICS},
    sample::Sample,
};

/// One family for each metric that has a value.
#[must_use]
pub fn text(sample: &Sample) -> String {
    let values = metrics::of(sample);
    let mut text = String::new();
    for metric in METRICS {
        let name = format!("pgstream_slot_{}", snake(metric.name));
        let mut said = values.iter().filter(|value| value.metric == metric).peekable();
        if said.peek().is_none() {
            continue;
        }
        // Writing to a string cannot fail.
        let _ = write!(text, "# HELP {name} {}.\n# TYPE {name} gauge\n", metric.help);
        for value in said {
            let (slot, database) = (escape(&value.slot), escape(&sample.database));
            let _ = writeln!(text, "{name}{{slot=\"{slot}\",database=\"{database}\"}} {}", value.value);
        }
    }
    text
}

/// `RetainedWalBytes` is `retained_wal_bytes`; the prefix says `slot` already.
fn snake(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.strip_prefix("Slot").unwrap_or(name).chars() {
        if letter.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

fn escape(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SlotSample;

    #[test]
    fn every_known_value_is_a_line_with_its_labels() {
        let sample = Sample {
            at: 0.0,
            database: "a\"b".into(),
            up: true,
            error: None,
            wal_bytes_per_second: Some(12.5),
            free_storage_bytes: None,
            valve: None,
            slots: vec![SlotSample {
                name: "ours".into(),
                ours: true,
                active: Some(true),
                retained_wal_bytes: Some(1024.0),
                ..SlotSample::default()
            }],
        };
        insta::assert_snapshot!(text(&sample), @r#"
        # HELP pgstream_slot_up 1 when the source answered the monitor.
        # TYPE pgstream_slot_up gauge
        pgstream_slot_up{slot="ours",database="a\"b"} 1
        # HELP pgstream_slot_missing 1 when the slot does not exist.
        # TYPE pgstream_slot_missing gauge
        pgstream_slot_missing{slot="ours",database="a\"b"} 0
        # HELP pgstream_slot_active 1 while somebody reads the slot.
        # TYPE pgstream_slot_active gauge
        pgstream_slot_active{slot="ours",database="a\"b"} 1
        # HELP pgstream_slot_retained_wal_bytes WAL that is kept for the slot.
        # TYPE pgstream_slot_retained_wal_bytes gauge
        pgstream_slot_retained_wal_bytes{slot="ours",database="a\"b"} 1024
        # HELP pgstream_slot_wal_bytes_per_second WAL that the source writes.
        # TYPE pgstream_slot_wal_bytes_per_second gauge
        pgstream_slot_wal_bytes_per_second{slot="ours",database="a\"b"} 12.5
        "#);
    }
}
