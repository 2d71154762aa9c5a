//! What a coordinator writes to offer a round: see `rounds.rs` for what becomes of it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use pgstream_postgres::{Client, TableName};
use serde_json::json;

use super::{
    Error,
    catalog::Kind,
    copy::{Merge, Unit, Write},
    exporter::Snapshot,
    ledger::{Origin, State},
    rounds::Node,
};

/// Units that one statement publishes.
const UNITS_AT_ONCE: usize = 1000;

/// What a coordinator says of its round.
pub(crate) struct Terms {
    pub(crate) node: Node,
    pub(crate) role: Option<String>,
    pub(crate) ignore_triggers: bool,
}

/// Offers the units, in their order. Returns the round's number.
pub(crate) async fn publish(
    target: &mut Client,
    origin: &Origin,
    snapshot: &Snapshot,
    terms: &Terms,
    units: &[Arc<Unit>],
    before: &HashMap<TableName, HashSet<TableName>>,
    coordinator: i32,
) -> Result<i64, Error> {
    let numbers: HashMap<&TableName, usize> = units.iter().enumerate().map(|(at, u)| (&u.table.name, at)).collect();
    let described: Vec<serde_json::Value> = units
        .iter()
        .enumerate()
        .map(|(at, unit)| {
            let (write, key, set) = written(&unit.write);
            let parents: Vec<usize> = before
                .get(&unit.table.name)
                .into_iter()
                .flatten()
                .filter_map(|parent| numbers.get(parent).copied())
                .collect();
            json!({
                "unit": at, "schema_name": unit.table.name.schema, "table_name": unit.table.name.name,
                "parts": unit.parts.len(), "root": unit.table.kind == Kind::Root, "format": unit.format.keyword(), "write": write, "key_columns": key,
                "set_columns": set, "again": unit.state != State::Absent && unit.parts.len() == 1, "parents": parents,
                "pages": unit.parts.iter().map(|pages| json!([pages.from, pages.to])).collect::<Vec<_>>(),
            })
        })
        .collect();
    let wrap = target.failed("offering the parts of the copy");
    let run = async {
        let tx = target.build_transaction().start().await?;
        let round: i64 = tx
            .query_one(
                "INSERT INTO pgstream.snapshot_rounds
                     (source, system_identifier, server_started, server_address, exported, snapshot, snapshot_lsn,
                      coordinator, role, ignore_triggers)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING round",
                &[
                    &origin.source,
                    &terms.node.system_identifier,
                    &terms.node.started,
                    &terms.node.address,
                    &snapshot.id,
                    &snapshot.visible,
                    &snapshot.lsn,
                    &coordinator,
                    &terms.role,
                    &terms.ignore_triggers,
                ],
            )
            .await?
            .get(0);
        for chunk in described.chunks(UNITS_AT_ONCE) {
            let text = serde_json::Value::from(chunk.to_vec()).to_string();
            tx.execute(PUBLISH, &[&round, &text]).await?;
        }
        tx.commit().await?;
        // Workers find their way by statistics; nobody waits for autovacuum.
        target.batch_execute("ANALYZE pgstream.snapshot_units, pgstream.snapshot_parts").await?;
        Ok(round)
    };
    run.await.map_err(wrap).map_err(Error::from)
}

const PUBLISH: &str = "
    WITH described AS (
        SELECT * FROM jsonb_to_recordset($2::text::jsonb) AS d (
            unit integer, schema_name text, table_name text, parts integer, root boolean, format text, write text, key_columns text[],
            set_columns text[], again boolean, parents integer[], pages jsonb)
    ), units AS (
        INSERT INTO pgstream.snapshot_units
            (round, unit, schema_name, table_name, parts, root, format, write, key_columns, set_columns, again, parents)
        SELECT $1, unit, schema_name, table_name, parts, root, format, write, key_columns, set_columns, again, parents
        FROM described
    )
    INSERT INTO pgstream.snapshot_parts (round, unit, part, from_page, to_page)
    SELECT $1, d.unit, p.number - 1, (p.range ->> 0)::bigint, (p.range ->> 1)::bigint
    FROM described d, jsonb_array_elements(d.pages) WITH ORDINALITY AS p (range, number)";

fn written(write: &Write) -> (&'static str, &[String], &[String]) {
    match write {
        Write::Fresh => ("fresh", &[], &[]),
        Write::Append => ("append", &[], &[]),
        Write::Merge(Merge::Keep) => ("keep", &[], &[]),
        Write::Merge(Merge::Replace { key, set }) => ("replace", key, set),
    }
}
