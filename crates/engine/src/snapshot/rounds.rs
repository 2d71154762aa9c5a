//! A copy that is offered to other processes, in tables on the target.
//!
//! ```text
//!  coordinator ── publish ──> snapshot_rounds: which snapshot, held by which server, for whom
//!   (holds the lock           snapshot_units:  which tables, in which order, written how
//!    of the copy)             snapshot_parts:  what is left <── claim: DELETE … FOR UPDATE SKIP LOCKED ── workers
//!                             snapshot_ledger: what is done <── the same transaction, with the rows
//! ```
//! A part is in exactly one of the last two at any time. A round lives while its coordinator's session has the lock of the
//! copy, and no worker's session outlives it: the next run ends them before it looks at any table.
//!
//! What stands here decides what is read on the source only as far as the worker's own configuration allows: names and page
//! ranges come from here, columns and conditions from the source itself.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use pgstream_postgres::{Client, Lsn, Server, TableName};
use tokio_postgres::{GenericClient, Statement, Transaction};

use super::{
    Error,
    catalog::{Format, Kind},
    copy::{Copied, Merge, Pages, Part, Unit, Write},
    exporter::Snapshot,
    ledger::{self, Origin, State},
    marks::{self, WORKERS},
};

/// Who has the lock of the copy `$1` (of `run.rs`), if anybody has.
const COORDINATOR: &str = "
    SELECT l.pid FROM pg_locks l
    WHERE l.locktype = 'advisory' AND l.granted AND l.mode = 'ExclusiveLock' AND l.objsubid = 1
      AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
      AND ((l.classid::int8 << 32) | l.objid::int8) = hashtextextended('pgstream snapshot ' || $1, 0)";

/// One running server, whatever name or address leads to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) system_identifier: String,
    pub(crate) started: String,
    /// For people: the same server can have several.
    pub(crate) address: String,
}

impl Node {
    pub(crate) async fn of(client: &Client) -> Result<Self, Error> {
        let row = client
            .query_one(
                "SELECT system_identifier::text, pg_postmaster_start_time()::text,
                        coalesce(host(inet_server_addr()) || ':' || inet_server_port(), 'a local socket')
                 FROM pg_control_system()",
                &[],
            )
            .await
            .map_err(client.failed("identifying the server"))?;
        Ok(Self { system_identifier: row.get(0), started: row.get(1), address: row.get(2) })
    }

    /// Whether both are one server that was not started anew.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.system_identifier == other.system_identifier && self.started == other.started
    }
}

impl std::fmt::Display for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (system {}, started {})", self.address, self.system_identifier, self.started)
    }
}

/// A round that is offered.
#[derive(Debug, Clone)]
pub(crate) struct Round {
    pub(crate) id: i64,
    pub(crate) origin: Origin,
    pub(crate) node: Node,
    pub(crate) snapshot: Snapshot,
    pub(crate) role: Option<String>,
    pub(crate) ignore_triggers: bool,
}

/// What a worker finds on a target.
pub(crate) enum Standing {
    /// Something to do.
    Offered(Box<Round>),
    /// All rows are in, by the coordinator that is at work or since the worker asked first.
    Copied,
    /// A copy runs, and offers nothing (yet).
    Preparing,
    /// No copy runs.
    Nobody {
        /// An earlier one was finished.
        complete: bool,
    },
}

/// The clock of the target.
pub(crate) async fn clock(target: &Client) -> Result<String, Error> {
    let row = target
        .query_one("SELECT clock_timestamp()::text", &[])
        .await
        .map_err(target.failed("reading the target's clock"))?;
    Ok(row.get(0))
}

/// What is there for a worker that asked first when the target's clock said `since`.
pub(crate) async fn standing(target: &Client, source: &str, since: &str) -> Result<Standing, Error> {
    let wrap = || target.failed("looking for a coordinator");
    let there: bool = target
        .query_one("SELECT to_regclass('pgstream.snapshot_rounds') IS NOT NULL", &[])
        .await
        .map_err(wrap())?
        .get(0);
    if !there {
        let holder = target.query_opt(COORDINATOR, &[&source]).await.map_err(wrap())?;
        return Ok(if holder.is_some() { Standing::Preparing } else { Standing::Nobody { complete: false } });
    }
    let sql = format!(
        "WITH holder AS ({COORDINATOR})
         SELECT EXISTS (SELECT FROM holder),
                EXISTS (SELECT FROM pgstream.snapshot_steps s WHERE s.source = $1 AND s.step = $3),
                r.round, r.state, r.coordinator IN (SELECT pid FROM holder), r.ended_at > $2::text::timestamptz,
                r.system_identifier, r.server_started, r.server_address, r.exported, r.snapshot, r.snapshot_lsn,
                r.role, r.ignore_triggers
         FROM (VALUES (1)) AS one (row)
         LEFT JOIN LATERAL (
             SELECT * FROM pgstream.snapshot_rounds r WHERE r.source = $1 ORDER BY r.round DESC LIMIT 1) r ON true"
    );
    let row = target.query_one(&sql, &[&source, &since, &ledger::COMPLETE]).await.map_err(wrap())?;
    let (held, complete): (bool, bool) = (row.get(0), row.get(1));
    let nothing = || if held { Standing::Preparing } else { Standing::Nobody { complete } };
    let Some(id) = row.get::<_, Option<i64>>(2) else { return Ok(nothing()) };
    let (state, alive, lately): (&str, bool, Option<bool>) = (row.get(3), row.get(4), row.get(5));
    Ok(match state {
        "open" if alive => {
            let system_identifier: String = row.get(6);
            let origin = Origin { source: source.to_owned(), system_identifier: system_identifier.clone() };
            Standing::Offered(Box::new(Round {
                id,
                origin,
                node: Node { system_identifier, started: row.get(7), address: row.get(8) },
                snapshot: Snapshot { id: row.get(9), visible: row.get(10), lsn: row.get::<_, Lsn>(11) },
                role: row.get(12),
                ignore_triggers: row.get(13),
            }))
        }
        "copied" if alive || lately == Some(true) => Standing::Copied,
        _ => nothing(),
    })
}

/// Whether the round is still offered by the one who opened it, or all its rows are in.
pub(crate) async fn is_alive(target: &Client, round: &Round) -> Result<bool, Error> {
    let sql = format!(
        "SELECT r.state = 'copied' OR (r.state = 'open' AND r.coordinator IN ({COORDINATOR}))
         FROM pgstream.snapshot_rounds r WHERE r.round = $2"
    );
    let row = target
        .query_opt(&sql, &[&round.origin.source, &round.id])
        .await
        .map_err(target.failed("asking whether the coordinator is alive"))?;
    Ok(row.is_some_and(|row| row.get(0)))
}

/// Puts an end to rounds whose coordinator is gone, and to all sessions of earlier runs. To be called by the one who has
/// the lock of the copy, before it looks at any table.
///
/// A worker marks its session before it claims anything, and claims from open rounds only: whoever is marked after the round
/// was closed finds nothing, and whoever was marked before is found here.
pub(crate) async fn abandon(target: &Client, server: &Server, origin: &Origin) -> Result<(), Error> {
    let there = abandon_rounds(target, origin).await?;
    marks::end(target, server, origin).await?;
    if there { forget_parts(target, origin).await } else { Ok(()) }
}

/// False when there never was a round.
async fn abandon_rounds(target: &Client, origin: &Origin) -> Result<bool, Error> {
    let wrap = || target.failed("ending an earlier round of the copy");
    let there: bool = target
        .query_one("SELECT to_regclass('pgstream.snapshot_rounds') IS NOT NULL", &[])
        .await
        .map_err(wrap())?
        .get(0);
    if !there {
        return Ok(false);
    }
    let abandoned = target
        .execute(
            "UPDATE pgstream.snapshot_rounds SET state = 'abandoned', ended_at = clock_timestamp()
             WHERE source = $1 AND state = 'open'",
            &[&origin.source],
        )
        .await
        .map_err(wrap())?;
    if abandoned > 0 {
        tracing::info!(
            "an earlier coordinator has gone: the tables that it had not finished are copied under a new snapshot"
        );
    }
    Ok(true)
}

async fn forget_parts(target: &Client, origin: &Origin) -> Result<(), Error> {
    for table in ["snapshot_parts", "snapshot_units"] {
        let sql = format!(
            "DELETE FROM pgstream.{table}
             WHERE round IN (SELECT round FROM pgstream.snapshot_rounds WHERE source = $1 AND state <> 'open')"
        );
        target
            .execute(&sql, &[&origin.source])
            .await
            .map_err(target.failed("forgetting an earlier round of the copy"))?;
    }
    Ok(())
}

/// A part that this transaction has, and nobody else can have before it ends.
pub(crate) struct Claim {
    pub(crate) unit: i32,
    pub(crate) part: i32,
    pub(crate) table: TableName,
    pub(crate) kind: Kind,
    pub(crate) format: Format,
    pub(crate) write: Write,
    pub(crate) state: State,
    of: i32,
    pages: Pages,
}

impl Claim {
    pub(crate) fn as_part(&self) -> Part {
        let number = |n: i32| usize::try_from(n).unwrap_or_default();
        Part { number: number(self.part), of: number(self.of), pages: self.pages }
    }
}

const CLAIM: &str = "
    DELETE FROM pgstream.snapshot_parts p USING pgstream.snapshot_units u
    WHERE p.ctid = (
        SELECT c.ctid FROM pgstream.snapshot_parts c JOIN pgstream.snapshot_units cu USING (round, unit)
        WHERE c.round = $1 AND (c.unit, c.part) > ($2, $3) AND c.locked_out = $4
          AND EXISTS (SELECT FROM pgstream.snapshot_rounds r WHERE r.round = $1 AND r.state = 'open')
          AND (cu.parents = '{}'
               OR NOT EXISTS (SELECT FROM pgstream.snapshot_parts o WHERE o.round = $1 AND o.unit = ANY (cu.parents)))
        ORDER BY c.unit, c.part LIMIT 1 FOR UPDATE OF c SKIP LOCKED)
      AND u.round = p.round AND u.unit = p.unit
    RETURNING p.unit, p.part, u.schema_name, u.table_name, u.format, u.write, u.key_columns, u.set_columns, u.again,
              u.parts, p.from_page, p.to_page, u.root";

/// Where in the order of parts to look on; before the first one.
pub(crate) const BEGINNING: (i32, i32) = (-1, -1);

/// What [`claim`] asks in this session: it is asked for each part.
pub(crate) async fn claiming(target: &Client) -> Result<Statement, Error> {
    Ok(target.prepare(CLAIM).await.map_err(target.failed("preparing to take parts of the copy"))?)
}

/// Takes the first part behind `after` that nobody has. `locked_out`: of those that only the coordinator can read.
pub(crate) async fn claim(
    tx: &Transaction<'_>,
    statement: &Statement,
    round: i64,
    after: (i32, i32),
    locked_out: bool,
) -> Result<Option<Claim>, tokio_postgres::Error> {
    let Some(row) = tx.query_opt(statement, &[&round, &after.0, &after.1, &locked_out]).await? else { return Ok(None) };
    let pages = |at| row.get::<_, Option<i64>>(at).map(i64::unsigned_abs);
    Ok(Some(Claim {
        unit: row.get(0),
        part: row.get(1),
        table: TableName::new(row.get::<_, String>(2), row.get::<_, String>(3)),
        kind: if row.get(12) { Kind::Root } else { Kind::Plain },
        format: if row.get::<_, &str>(4) == Format::Binary.keyword() { Format::Binary } else { Format::Text },
        write: match row.get(5) {
            "fresh" => Write::Fresh,
            "append" => Write::Append,
            "replace" => Write::Merge(Merge::Replace { key: row.get(6), set: row.get(7) }),
            _ => Write::Merge(Merge::Keep),
        },
        state: if row.get(8) { State::Partial } else { State::Absent },
        of: row.get(9),
        pages: Pages { from: pages(10).unwrap_or_default(), to: pages(11) },
    }))
}

/// Leaves a part to the coordinator, whose session has the lock of the table.
pub(crate) async fn lock_out(target: &Client, round: i64, claim: &Claim) -> Result<(), Error> {
    target
        .execute(
            "UPDATE pgstream.snapshot_parts SET locked_out = true WHERE round = $1 AND unit = $2 AND part = $3",
            &[&round, &claim.unit, &claim.part],
        )
        .await
        .map_err(target.failed("leaving a part to the coordinator"))?;
    Ok(())
}

/// Whether parts of the round are not finished.
pub(crate) async fn has_parts(target: &Client, round: i64) -> Result<bool, Error> {
    let row = target
        .query_one("SELECT EXISTS (SELECT FROM pgstream.snapshot_parts WHERE round = $1)", &[&round])
        .await
        .map_err(target.failed("looking for parts that are left"))?;
    Ok(row.get(0))
}

/// Unit and part.
pub(crate) type PartId = (usize, usize);

/// Parts that are not finished, and whether some of them can only be read by the coordinator.
pub(crate) async fn open_parts(target: &Client, round: i64) -> Result<(BTreeSet<PartId>, bool), Error> {
    let rows = target
        .query("SELECT unit, part, locked_out FROM pgstream.snapshot_parts WHERE round = $1", &[&round])
        .await
        .map_err(target.failed("reading which parts are left"))?;
    let number = |n: i32| usize::try_from(n).unwrap_or_default();
    let locked_out = rows.iter().any(|row| row.get(2));
    Ok((rows.iter().map(|row| (number(row.get(0)), number(row.get(1)))).collect(), locked_out))
}

/// What the ledger says of finished parts.
pub(crate) async fn finished(
    target: &Client,
    origin: &Origin,
    units: &[Arc<Unit>],
    parts: &[PartId],
) -> Result<Vec<(usize, Copied)>, Error> {
    let (mut schemas, mut tables, mut numbers, mut at) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (unit, part) in parts {
        let Some(name) = units.get(*unit).map(|unit| &unit.table.name) else { continue };
        schemas.push(name.schema.as_str());
        tables.push(name.name.as_str());
        numbers.push(i32::try_from(*part).unwrap_or(i32::MAX));
        at.push(*unit);
    }
    let rows = target
        .query(
            "SELECT w.n, l.row_count, l.byte_count
             FROM unnest($2::text[], $3::text[], $4::int4[]) WITH ORDINALITY AS w (schema_name, table_name, part, n)
             JOIN pgstream.snapshot_ledger l USING (schema_name, table_name, part) WHERE l.source = $1",
            &[&origin.source, &schemas, &tables, &numbers],
        )
        .await
        .map_err(target.failed("reading what workers have copied"))?;
    let copied = |row: &tokio_postgres::Row| {
        let unit = usize::try_from(row.get::<_, i64>(0)).ok().and_then(|n| at.get(n.checked_sub(1)?).copied())?;
        Some((unit, Copied { rows: row.get::<_, i64>(1).unsigned_abs(), bytes: row.get::<_, i64>(2).unsigned_abs() }))
    };
    Ok(rows.iter().filter_map(copied).collect())
}

/// How many sessions copy for this source.
pub(crate) async fn workers(target: &Client, origin: &Origin) -> Result<usize, Error> {
    let rows = target.query(WORKERS, &[&origin.source]).await.map_err(target.failed("counting the workers"))?;
    Ok(rows.len())
}

/// Bytes of parts that are being copied, by table, as far as the server tells (PostgreSQL 14 and later).
pub(crate) async fn in_flight(target: &Client, origin: &Origin) -> Result<HashMap<TableName, u64>, Error> {
    let sql = format!(
        "SELECT n.nspname::text, c.relname::text, sum(p.bytes_processed)::int8
         FROM pg_stat_progress_copy p JOIN pg_class c ON c.oid = p.relid JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE p.datname = current_database() AND p.command = 'COPY FROM' AND p.pid IN ({WORKERS}) GROUP BY 1, 2"
    );
    let rows = target.query(&sql, &[&origin.source]).await.map_err(target.failed("reading how far the workers are"))?;
    let bytes = |row: &tokio_postgres::Row| row.get::<_, Option<i64>>(2).map_or(0, i64::unsigned_abs);
    Ok(rows.iter().map(|row| (TableName::new(row.get::<_, String>(0), row.get::<_, String>(1)), bytes(row))).collect())
}

/// All rows of the round are in.
pub(crate) async fn close<C: GenericClient>(target: &C, round: i64) -> Result<(), tokio_postgres::Error> {
    target
        .execute(
            "WITH units AS (DELETE FROM pgstream.snapshot_units WHERE round = $1)
             UPDATE pgstream.snapshot_rounds SET state = 'copied', ended_at = clock_timestamp() WHERE round = $1",
            &[&round],
        )
        .await
        .map(drop)
}
