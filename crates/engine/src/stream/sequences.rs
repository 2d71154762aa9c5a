//! Sequences: not in the WAL stream, so their values are read on the source at an interval and only ever move forward
//! on the target.

use std::collections::HashSet;

use pgstream_config::pattern::TableFilter;
use pgstream_postgres::{Client, Error, TableName};

use crate::source::sequences::{self as source, Value};

/// Carries sequences over. All of them are compared each time: a TRUNCATE … RESTART IDENTITY that is applied after the
/// source's value was read sets the target's back, although the source's does not move any more.
#[derive(Debug, Default)]
pub struct Sequences {
    /// Those that the target lacks and that were reported.
    missing: HashSet<TableName>,
    /// Those that cannot be read on the source and were reported.
    unreadable: HashSet<TableName>,
}

impl Sequences {
    /// Reads the values of the source and brings the target forward. What cannot be read is reported in the log once.
    ///
    /// # Errors
    /// When a session fails or the role may not set a sequence.
    pub async fn carry_over(&mut self, source: &Client, target: &Client, filter: &TableFilter) -> Result<(), Error> {
        let source::Sequences { values, unreadable } = source::read(source, filter).await?;
        for sequence in unreadable {
            if self.unreadable.insert(sequence.name.clone()) {
                tracing::warn!(
                    sequence = %sequence.name, fix = %sequence.fix,
                    "the source role may not read a sequence: its value is not carried over"
                );
            }
        }
        self.apply(target, values).await
    }

    /// Brings the target's sequences forward. One that is missing there is reported in the log once.
    ///
    /// # Errors
    /// When the session fails or the role may not set a sequence.
    async fn apply(&mut self, target: &Client, values: Vec<Value>) -> Result<(), Error> {
        if values.is_empty() {
            return Ok(());
        }
        let schemas: Vec<&str> = values.iter().map(|v| v.name.schema.as_str()).collect();
        let names: Vec<&str> = values.iter().map(|v| v.name.name.as_str()).collect();
        let last: Vec<i64> = values.iter().map(|v| v.last_value).collect();
        let rows = target
            .query(
                "SELECT w.schema, w.name,
                        CASE WHEN s.sequencename IS NOT NULL
                              AND (s.last_value IS NULL
                                   OR (s.increment_by > 0 AND s.last_value < w.value)
                                   OR (s.increment_by < 0 AND s.last_value > w.value))
                             THEN setval(format('%I.%I', w.schema, w.name)::regclass, w.value, true)
                        END,
                        s.sequencename IS NULL
                   FROM unnest($1::text[], $2::text[], $3::int8[]) AS w(schema, name, value)
                   LEFT JOIN pg_sequences s ON s.schemaname = w.schema AND s.sequencename = w.name",
                &[&schemas, &names, &last],
            )
            .await
            .map_err(target.failed("setting sequences"))?;
        for row in rows.iter().filter(|row| row.get::<_, bool>(3)) {
            let name = TableName::new(row.get::<_, String>(0), row.get::<_, String>(1));
            if self.missing.insert(name.clone()) {
                tracing::warn!(sequence = %name, "the target has no such sequence");
            }
        }
        Ok(())
    }
}
