//! Both sides are read and everything is decided before anything is written.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use pgstream_config::pipeline::{OnConflict, SnapshotMode};
use pgstream_postgres::{Client, TableName};

use super::{
    Error, LedgerSource,
    catalog::{Majors, Table, Tables},
    exporter::{Exporter, Request, Snapshot},
    ledger::{Ledger, Origin, Position, State},
    restore::Dump,
    roles,
    run::{Snapshotting, session},
    select::{self, Facts, Selection, Wish},
    target::{self, There},
    tools::Tools,
};

/// The oldest source that this works with.
const OLDEST_SOURCE: u32 = 13;

/// The source, as far as a run must know it.
pub(super) struct SourceFacts {
    pub(super) major: u32,
    pub(super) origin: Origin,
    pub(super) position: Option<Position>,
}

/// Everything a run has learned before it writes.
pub(super) struct Prepared {
    pub(super) exporter: Exporter,
    pub(super) snapshot: Snapshot,
    pub(super) tables: Tables,
    pub(super) ledger: Ledger,
    pub(super) selection: Selection,
    pub(super) dump: Option<Arc<Dump>>,
    /// Tables that hold rows of somebody else.
    pub(super) own_rows: HashSet<TableName>,
}

impl Snapshotting {
    pub(super) async fn source_facts(&self, source: &Client) -> Result<SourceFacts, Error> {
        let server = || self.job.source.to_string();
        let major = source.major_version().await?;
        if major < OLDEST_SOURCE {
            return Err(Error::SourceTooOld { server: server(), major, needed: OLDEST_SOURCE });
        }
        let wrap = || source.failed("identifying the source");
        let standby: bool = source.query_one("SELECT pg_is_in_recovery()", &[]).await.map_err(wrap())?.get(0);
        if standby {
            return Err(Error::SourceInRecovery { server: server() });
        }
        let row = source
            .query_one(
                "SELECT system_identifier::text, current_database()::text,
                        ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int8
                 FROM pg_control_system()",
                &[],
            )
            .await
            .map_err(wrap())?;
        let (system_identifier, database): (String, String) = (row.get(0), row.get(1));
        let LedgerSource::Slot(slot) = &self.job.ledger_source else {
            let origin = Origin { source: format!("{system_identifier}/{database}"), system_identifier };
            return Ok(SourceFacts { major, origin, position: None });
        };
        let confirmed = source
            .query_opt(
                "SELECT coalesce(confirmed_flush_lsn, restart_lsn, '0/0') FROM pg_replication_slots
                 WHERE slot_name = $1 AND database = current_database()",
                &[slot],
            )
            .await
            .map_err(source.failed("reading the replication slot"))?
            .ok_or_else(|| Error::SlotMissing { slot: slot.clone(), server: server() })?
            .get(0);
        let position = Position { slot: slot.clone(), timeline: row.get(2), confirmed };
        let origin = Origin { source: slot.clone(), system_identifier };
        Ok(SourceFacts { major, origin, position: Some(position) })
    }

    /// Reads both sides and decides; writes nothing.
    pub(super) async fn prepare(
        &self,
        source: &Client,
        target: &Client,
        facts: &SourceFacts,
        majors: Majors,
    ) -> Result<Prepared, Error> {
        let settings = &self.job.settings;
        let ledger = Ledger::load(target, &facts.origin).await?;
        let tools = match settings.mode {
            SnapshotMode::Data => None,
            SnapshotMode::Full | SnapshotMode::Schema => {
                Some(Tools::find(self.job.tools.as_deref(), facts.major).await?)
            }
        };
        if let Some(name) = &self.job.publication {
            let there = source
                .query_opt("SELECT 1 FROM pg_publication WHERE pubname = $1", &[name])
                .await
                .map_err(source.failed("reading the publication"))?;
            if there.is_none() {
                let (publication, server) = (name.clone(), self.job.source.to_string());
                return Err(Error::PublicationMissing { publication, server });
            }
        }
        let request = Request {
            server: &self.job.source,
            session: &session("export", facts.major),
            major: facts.major,
            filter: &settings.tables,
            publication: self.job.publication.as_deref(),
            is_needed: &|table| self.is_needed(&ledger, table),
        };
        let (exporter, tables) = Exporter::take(&request).await?;
        let snapshot = exporter.snapshot.clone();
        let (dump, selection) = match tools {
            None => (None, Selection::default()),
            Some(tools) => {
                let mut dump = Dump::take(tools, &self.job.source, &snapshot, &settings.schema, &facts.origin).await?;
                self.act_as_role(target).await?;
                dump.disown(&roles::out_of_reach(target).await?);
                self.act_as_ourselves(target).await?;
                let selection = self.select(&exporter, target, &dump, &tables, &ledger).await?;
                dump.read(selection.in_pieces(), majors.target).await?;
                (Some(Arc::new(dump)), selection)
            }
        };
        let own_rows = self.check_target(target, &tables, &ledger, dump.is_some()).await?;
        tracing::debug!(?majors, snapshot = %snapshot.visible, lsn = %snapshot.lsn, "snapshot taken");
        Ok(Prepared { exporter, snapshot, tables, ledger, selection, dump, own_rows })
    }

    async fn select(
        &self,
        exporter: &Exporter,
        target: &Client,
        dump: &Dump,
        tables: &Tables,
        ledger: &Ledger,
    ) -> Result<Selection, Error> {
        let mut facts = Facts::read(exporter.client()).await?;
        facts.identify(exporter.client(), &dump.toc).await?;
        let present = select::present(target).await?;
        let wish = Wish {
            settings: &self.job.settings.schema,
            tables: &tables.schema,
            all: &tables.all,
            ledger,
            present: &present,
        };
        let selection = select::select(&dump.toc, &dump.keys, &dump.pre_data, &facts, &wish);
        self.check_extensions(target, dump, &selection).await?;
        Ok(selection)
    }

    async fn check_extensions(&self, target: &Client, dump: &Dump, selection: &Selection) -> Result<(), Error> {
        // The label of an extension is `- name` followed by an empty owner.
        let names: Vec<String> = dump
            .toc
            .entries
            .iter()
            .filter(|entry| selection.extensions.contains(&entry.id))
            .map(|entry| entry.label.trim_start_matches("- ").trim().to_owned())
            .collect();
        let rows = target
            .query(
                "SELECT w.name FROM unnest($1::text[]) AS w (name)
                 WHERE NOT EXISTS (SELECT FROM pg_available_extensions a WHERE a.name = w.name) ORDER BY 1",
                &[&names],
            )
            .await
            .map_err(target.failed("reading which extensions the target offers"))?;
        let extensions: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        if extensions.is_empty() { Ok(()) } else { Err(Error::ExtensionMissing { extensions }) }
    }

    /// Tables on the target that hold rows of somebody else; an error unless those may be merged with.
    async fn check_target(
        &self,
        target: &Client,
        tables: &Tables,
        ledger: &Ledger,
        schema_comes: bool,
    ) -> Result<HashSet<TableName>, Error> {
        if self.job.settings.mode == SnapshotMode::Schema {
            return Ok(HashSet::new());
        }
        let wanted: Vec<&Table> = tables.copied.iter().collect();
        let there = target::tables(target, &wanted).await?;
        for table in &wanted {
            match there.get(&table.name) {
                Some(there) if ledger.state(&table.name) != State::Complete => there.check(table)?,
                _ => {}
            }
        }
        if !schema_comes {
            let tables = missing(&wanted, &there);
            if !tables.is_empty() {
                return Err(Error::TableMissing { tables });
            }
        }
        self.act_as_role(target).await?;
        let own = target::with_foreign_rows(target, &wanted, &there, ledger).await?;
        self.act_as_ourselves(target).await?;
        if !own.is_empty() && self.job.target_settings.on_conflict == OnConflict::Error {
            let mut tables: Vec<String> = own.iter().map(ToString::to_string).collect();
            tables.sort();
            return Err(Error::TargetNotEmpty { tables });
        }
        Ok(own)
    }
}

fn missing(wanted: &[&Table], there: &HashMap<TableName, There>) -> Vec<String> {
    wanted.iter().filter(|t| !there.contains_key(&t.name)).map(|t| t.name.to_string()).collect()
}
