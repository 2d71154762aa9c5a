//! What is there, how far it is, and what is wrong with it.

use std::collections::HashSet;

use pgstream_config::pattern::TableFilter;
use pgstream_postgres::{Client, Error as ServerError, Lsn, Server, Session, TableName, quote_ident};
use serde::Serialize;

use super::{
    Error, SCHEMA,
    error::list,
    migrate::{self, Installed},
    names::Names,
    publication::{self, Publication},
    sequences,
    slot::{self, PLUGIN, Record, SlotState, WalStatus},
    tables,
};
use crate::target::valve::{self, Mark, State};

/// What to look at.
#[derive(Debug, Clone, Default)]
pub struct StatusSettings {
    /// Slot name as configured; `None` means `pgstream_<db>_slot`.
    pub slot: Option<String>,
    /// Which tables should be followed.
    pub tables: TableFilter,
}

/// The state of one pipeline. LSNs are text, as the server shows them.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// The source, `host:port/database`.
    pub source: String,
    /// Its major version.
    pub major: u32,
    /// Its system identifier, where the role may read it.
    pub system_identifier: Option<String>,
    /// Schema `pgstream`.
    pub objects: ObjectsStatus,
    /// The publication, when it exists.
    pub publication: Option<PublicationStatus>,
    /// The slot, when it exists.
    pub slot: Option<SlotStatus>,
    /// The target, when one was given and answers.
    pub target: Option<TargetStatus>,
    /// What is wrong; empty when nothing is.
    pub findings: Vec<Finding>,
}

/// Schema `pgstream` on the source.
#[derive(Debug, Clone, Serialize)]
pub struct ObjectsStatus {
    /// Whether the schema exists.
    pub schema: bool,
    /// Version of its tables; 0 when there are none.
    pub migration: i32,
    /// Version that this program needs.
    pub migration_needed: i32,
    /// Where the recorded slot began.
    pub consistent_point: Option<String>,
}

/// The publication.
#[derive(Debug, Clone, Serialize)]
pub struct PublicationStatus {
    /// Its name.
    pub name: String,
    /// `FOR ALL TABLES`.
    pub all_tables: bool,
    /// How many tables' changes it publishes.
    pub tables: usize,
    /// Wanted tables that it does not publish.
    pub unpublished: Vec<String>,
    /// Published tables on which UPDATE and DELETE fail.
    pub without_identity: Vec<String>,
}

/// The replication slot.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)]
pub struct SlotStatus {
    pub name: String,
    pub plugin: Option<String>,
    /// The walsender that reads it.
    pub active_pid: Option<i32>,
    pub wal_status: Option<WalStatus>,
    pub invalidation_reason: Option<String>,
    pub restart_lsn: Option<String>,
    pub confirmed_flush_lsn: Option<String>,
    /// WAL kept for it.
    pub retained_bytes: Option<i64>,
    /// WAL that was not acknowledged.
    pub lag_bytes: Option<i64>,
    /// WAL that may still be written before it is lost; `null` without a limit.
    pub safe_wal_size: Option<i64>,
    /// Since when nobody reads it (17 and later).
    pub inactive_since: Option<String>,
}

/// What the target remembers.
#[derive(Debug, Clone, Serialize)]
pub struct TargetStatus {
    /// The target, `host:port/database`.
    pub server: String,
    /// End of the last source commit that is applied; `None` when nothing was.
    pub commit_end_lsn: Option<String>,
    /// Source clock at that commit.
    pub commit_time: Option<String>,
    /// When the target was written last.
    pub updated_at: Option<String>,
    /// Tables copied by a snapshot, completely.
    pub copied_tables: i64,
    /// Tables of which parts are missing.
    pub unfinished_tables: i64,
    /// Rows copied.
    pub copied_rows: i64,
}

/// Something is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stable name.
    pub code: &'static str,
    /// What.
    pub message: String,
    /// What to do.
    pub fix: String,
}

impl Finding {
    fn new(code: &'static str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { code, message: message.into(), fix: fix.into() }
    }
}

const RUN_INIT: &str = "run `pgstream-aws init`";
/// What to type when the slot cannot be followed any more.
pub(super) const START_OVER: &str = "changes are missing, start over: `pgstream-aws destroy --slot-only`, `pgstream-aws init`, then `pgstream-aws run --reset`, \
     a new snapshot beside the present database";

/// Looks at the source and, when given, the target. Changes nothing.
///
/// # Errors
/// When the source cannot be read. A target that cannot be read is a finding.
pub async fn status(source: &Server, target: Option<&Server>, settings: &StatusSettings) -> Result<Status, Error> {
    let names = Names::with_slot(source.dsn().dbname(), settings.slot.as_deref())?;
    let client = source.connect(&Session::new("pgstream-aws status")).await?;
    let mut findings = Vec::new();
    let system_identifier = system_identifier(&client).await?;
    let installed = migrate::installed(&client, source).await?;
    objects_findings(&installed, &mut findings);
    let record = slot::record(&client, &names.slot).await?;
    let slot = slot::read(&client, &names.slot).await?;
    let publication = match publication::describe(&client, &names.publication).await? {
        Some(found) => Some(publication_status(&client, found, &settings.tables, &mut findings).await?),
        None => {
            findings.push(Finding::new(
                "publication_missing",
                format!("publication {} does not exist", names.publication),
                // What a slot kept meanwhile was not published.
                if slot.is_some() { START_OVER } else { RUN_INIT },
            ));
            None
        }
    };
    sequences_findings(&client, &settings.tables, &mut findings).await?;
    let database = source.dsn().dbname();
    slot_findings(&names.slot, database, slot.as_ref(), record.as_ref(), system_identifier.as_deref(), &mut findings);
    let mut target_status = None;
    if let Some(server) = target {
        match read_target(server, &names.slot).await {
            Ok(found) => {
                found.findings(&names.slot, slot.as_ref(), system_identifier.as_deref(), &mut findings);
                target_status = Some(found.status);
            }
            Err(error) => findings.push(Finding::new(
                "target_unreadable",
                error.to_string(),
                "check the target's URL, its network path and the role's rights on schema pgstream",
            )),
        }
    }
    Ok(Status {
        source: source.to_string(),
        major: client.major_version().await?,
        system_identifier,
        objects: ObjectsStatus {
            schema: installed.schema,
            migration: installed.version,
            migration_needed: migrate::LATEST,
            consistent_point: record.and_then(|r| r.fence).map(|fence| fence.consistent_point.to_string()),
        },
        publication,
        slot: slot.map(slot_status),
        target: target_status,
        findings,
    })
}

/// `None` where the role may not call the function.
async fn system_identifier(client: &Client) -> Result<Option<String>, Error> {
    match client.query_one("SELECT system_identifier::text FROM pg_control_system()", &[]).await {
        Ok(row) => Ok(Some(row.get(0))),
        Err(error) if error.code() == Some(&tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE) => Ok(None),
        Err(error) => Err(client.failed("reading the system identifier")(error).into()),
    }
}

fn objects_findings(installed: &Installed, findings: &mut Vec<Finding>) {
    if !installed.foreign.is_empty() {
        findings.push(Finding::new(
            "schema_of_another_program",
            format!("schema pgstream holds {}, which this program did not make", list(&installed.foreign)),
            "remove them with the program that made them (`pgstream destroy`)",
        ));
    } else if installed.version == 0 {
        findings.push(Finding::new("schema_missing", "schema pgstream has not been prepared", RUN_INIT));
    } else if installed.version < migrate::LATEST {
        findings.push(Finding::new(
            "schema_outdated",
            format!("schema pgstream has version {}, this program needs {}", installed.version, migrate::LATEST),
            RUN_INIT,
        ));
    } else if installed.version > migrate::LATEST {
        findings.push(Finding::new(
            "schema_newer",
            format!("schema pgstream has version {}, this program knows {}", installed.version, migrate::LATEST),
            "use the newer release of pgstream-aws that prepared it",
        ));
    }
}

async fn publication_status(
    client: &Client,
    found: Publication,
    filter: &TableFilter,
    findings: &mut Vec<Finding>,
) -> Result<PublicationStatus, Error> {
    let tables = tables::read(&**client).await.map_err(client.failed("listing tables"))?;
    let published: HashSet<&TableName> = found.tables.iter().collect();
    let mut unpublished = Vec::new();
    let mut without_identity = Vec::new();
    for table in tables.iter() {
        if table.partitioned || table.unlogged {
            continue;
        }
        if published.contains(&table.name) {
            if table.lacks_identity() {
                without_identity.push(table.name.to_string());
            }
        } else if tables.wants_rows(table, filter) {
            unpublished.push(table.name.to_string());
        }
    }
    if !found.is_standard() {
        findings.push(Finding::new(
            "publication_settings",
            format!("publication {} does not publish every action by partition", found.name),
            RUN_INIT,
        ));
    }
    if !unpublished.is_empty() {
        findings.push(Finding::new(
            "tables_unpublished",
            format!("not in publication {}, so not followed: {}", found.name, list(&unpublished)),
            "run `pgstream-aws init`, then a snapshot of these tables",
        ));
    }
    if !without_identity.is_empty() {
        findings.push(Finding::new(
            "tables_without_identity",
            format!(
                "UPDATE and DELETE fail on published tables without a replica identity: {}",
                list(&without_identity)
            ),
            "run `pgstream-aws init` now (it sets REPLICA IDENTITY FULL), or add primary keys",
        ));
    }
    Ok(PublicationStatus {
        all_tables: found.all_tables,
        tables: found.tables.iter().filter(|table| table.schema != SCHEMA).count(),
        name: found.name,
        unpublished,
        without_identity,
    })
}

async fn sequences_findings(client: &Client, filter: &TableFilter, findings: &mut Vec<Finding>) -> Result<(), Error> {
    let unreadable = sequences::read(client, filter).await?.unreadable;
    if !unreadable.is_empty() {
        let names: Vec<&TableName> = unreadable.iter().map(|sequence| &sequence.name).collect();
        let fixes: Vec<&str> = unreadable.iter().map(|sequence| sequence.fix.as_str()).collect();
        findings.push(Finding::new(
            "sequences_unreadable",
            format!("this role may not read sequences, so their values are not carried over: {}", list(&names)),
            fixes.join(" "),
        ));
    }
    Ok(())
}

fn slot_findings(
    name: &str,
    database: &str,
    slot: Option<&SlotState>,
    record: Option<&Record>,
    system: Option<&str>,
    findings: &mut Vec<Finding>,
) {
    if let (Some(record), Some(system)) = (record, system)
        && record.system_identifier != system
    {
        findings.push(Finding::new(
            "other_system",
            format!("slot {name} was created on system {}, this server is system {system}", record.system_identifier),
            START_OVER,
        ));
    }
    let Some(slot) = slot else {
        findings.push(match record.and_then(|r| r.fence.as_ref()) {
            Some(_) => Finding::new("slot_gone", format!("slot {name} was created by init and is gone"), START_OVER),
            None => Finding::new("slot_missing", format!("slot {name} does not exist"), RUN_INIT),
        });
        return;
    };
    if slot.plugin.as_deref() != Some(PLUGIN) {
        let plugin = slot.plugin.as_deref().unwrap_or("none (physical)");
        findings.push(Finding::new(
            "slot_plugin",
            format!("slot {name} is of plugin {plugin}, not {PLUGIN}"),
            "choose another name with `--replication-slot`",
        ));
    } else if slot.database.as_deref() != Some(database) {
        findings.push(Finding::new(
            "slot_database",
            format!("slot {name} belongs to database {}", slot.database.as_deref().unwrap_or_default()),
            "choose another name with `--replication-slot`",
        ));
    } else if slot.is_lost() {
        let reason = slot.invalidation_reason.as_deref().unwrap_or("wal_removed");
        findings.push(Finding::new("slot_lost", format!("slot {name} is lost ({reason})"), START_OVER));
    } else if slot.wal_status == Some(WalStatus::Unreserved) {
        findings.push(Finding::new(
            "slot_unreserved",
            format!("slot {name} is about to be lost: it keeps more WAL than max_slot_wal_keep_size"),
            "start the replicator (`pgstream-aws run`) at once, or raise max_slot_wal_keep_size",
        ));
    } else if record.is_none_or(|r| r.fence.is_none()) {
        findings.push(Finding::new(
            "slot_unrecorded",
            format!("slot {name} is not on record in schema pgstream"),
            RUN_INIT,
        ));
    }
}

fn slot_status(slot: SlotState) -> SlotStatus {
    let text = |lsn: Option<Lsn>| lsn.map(|lsn| lsn.to_string());
    SlotStatus {
        restart_lsn: text(slot.restart_lsn),
        confirmed_flush_lsn: text(slot.confirmed_flush_lsn),
        name: slot.name,
        plugin: slot.plugin,
        active_pid: slot.active_pid,
        wal_status: slot.wal_status,
        invalidation_reason: slot.invalidation_reason,
        retained_bytes: slot.retained_bytes,
        lag_bytes: slot.lag_bytes,
        safe_wal_size: slot.safe_wal_size,
        inactive_since: slot.inactive_since,
    }
}

struct Target {
    status: TargetStatus,
    progress: Option<Lsn>,
    system_identifier: Option<String>,
    valve: Option<Mark>,
}

impl Target {
    fn findings(&self, name: &str, slot: Option<&SlotState>, system: Option<&str>, findings: &mut Vec<Finding>) {
        match &self.valve {
            Some(Mark { state: State::CopyPaused, reason, since }) => findings.push(Finding::new(
                "copy_paused",
                format!("the safety valve has paused the copy since {since}: {reason}"),
                "make room on the source: the copy goes on when the slot monitor sees it",
            )),
            Some(Mark { state: State::SlotDropped, reason, since }) if slot.is_none() => findings.push(Finding::new(
                "slot_dropped",
                format!("the safety valve dropped slot {name} at {since}: {reason}"),
                START_OVER,
            )),
            _ => {}
        }
        if let (Some(theirs), Some(ours)) = (self.system_identifier.as_deref(), system)
            && theirs != ours
        {
            findings.push(Finding::new(
                    "target_other_system",
                    format!("the target follows system {theirs} under slot {name}, this source is system {ours}: another history"),
                    "point at the right pair of servers, or start over with an empty target and a new snapshot",
                ));
            return;
        }
        let confirmed = slot.and_then(|slot| slot.confirmed_flush_lsn);
        if let (Some(progress), Some(confirmed)) = (self.progress, confirmed)
            && confirmed > progress
        {
            findings.push(Finding::new(
                "slot_ahead_of_target",
                format!("slot {name} has been acknowledged up to {confirmed}, but the target only has {progress}"),
                START_OVER,
            ));
        }
    }
}

async fn read_target(server: &Server, slot: &str) -> Result<Target, ServerError> {
    let client = server.connect(&Session::new("pgstream-aws status")).await?;
    let failed = || client.failed("reading what the target remembers");
    let mut found = Target {
        status: TargetStatus {
            server: server.to_string(),
            commit_end_lsn: None,
            commit_time: None,
            updated_at: None,
            copied_tables: 0,
            unfinished_tables: 0,
            copied_rows: 0,
        },
        progress: None,
        system_identifier: None,
        valve: None,
    };
    let prepared: bool = client
        .query_one(&format!("SELECT to_regclass('{}.apply_progress') IS NOT NULL", quote_ident(SCHEMA)), &[])
        .await
        .map_err(failed())?
        .get(0);
    if !prepared {
        return Ok(found);
    }
    let progress = client
        .query_opt(
            "SELECT system_identifier, commit_end_lsn, commit_time::text, updated_at::text
             FROM pgstream.apply_progress WHERE slot_name = $1",
            &[&slot],
        )
        .await
        .map_err(failed())?;
    if let Some(row) = progress {
        found.system_identifier = Some(row.get(0));
        found.progress = Some(row.get(1));
        found.status.commit_end_lsn = found.progress.map(|lsn| lsn.to_string());
        found.status.commit_time = row.get(2);
        found.status.updated_at = row.get(3);
    }
    let ledger = client
        .query_one(
            "SELECT count(*) FILTER (WHERE done), count(*) FILTER (WHERE NOT done), coalesce(sum(rows), 0)::int8
             FROM (SELECT count(*) >= max(parts) AS done, sum(row_count) AS rows
                   FROM pgstream.snapshot_ledger WHERE source = $1 GROUP BY schema_name, table_name) t",
            &[&slot],
        )
        .await
        .map_err(failed())?;
    found.status.copied_tables = ledger.get(0);
    found.status.unfinished_tables = ledger.get(1);
    found.status.copied_rows = ledger.get(2);
    found.valve = valve::read(&client, slot).await?;
    Ok(found)
}
