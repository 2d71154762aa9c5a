//! One run from beginning to end.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use pgstream_config::pipeline::{ObjectType, ObjectTypes, OnConflict, SnapshotMode};
use pgstream_postgres::{Client, Server, Session, TableName};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use super::{
    Error, Job, LedgerSource, Phase, Progress, Summary,
    catalog::{Majors, Table, Tables},
    copy::{Context, Unit},
    database::{self, Databases},
    exporter::{Exporter, Request, Snapshot},
    fence, finish,
    ledger::{self, Ledger, Origin, Position, State},
    plan,
    progress::{Event, TableProgress},
    restore::Dump,
    roles,
    select::{self, Facts, Selection, Wish},
    target::{self, There},
    tools::Tools,
    workers::{Lanes, Run},
};
use crate::target::migrate;

/// The oldest source that this works with.
const OLDEST_SOURCE: u32 = 13;

/// Connections of a run beside its lanes: the exporter and `pg_dump` on the source, the steering session on the target.
const EXTRA_CONNECTIONS: usize = 2;

/// Copies what the job asks for and what earlier runs have not copied yet.
///
/// Stops soon after `cancel`; what is committed then is kept and counts for the next run.
///
/// # Errors
/// When a server, a tool or the settings stand in the way; see [`Error::class`] for what to do.
pub async fn run(job: Job, progress: Progress, cancel: CancellationToken) -> Result<Summary, Error> {
    let stop = cancel.clone();
    let work = Box::pin(Snapshotting { job, progress, cancel }.run());
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(Error::Cancelled),
        outcome = work => outcome,
    }
}

struct Snapshotting {
    job: Job,
    progress: Progress,
    cancel: CancellationToken,
}

/// The source, as far as a run must know it.
struct SourceFacts {
    major: u32,
    origin: Origin,
    position: Option<Position>,
}

/// Everything a run has learned before it writes.
struct Prepared {
    exporter: Exporter,
    snapshot: Snapshot,
    tables: Tables,
    ledger: Ledger,
    selection: Selection,
    dump: Option<Arc<Dump>>,
    /// Tables that hold rows of somebody else.
    own_rows: HashSet<TableName>,
}

impl Snapshotting {
    async fn run(self) -> Result<Summary, Error> {
        self.progress.phase(Phase::Preparing);
        let source = self.job.source.connect(&self.session("control")).await?;
        let facts = self.source_facts(&source).await?;
        if let Some(fence) = &self.job.created_after {
            fence::wait(&source, fence, &self.cancel).await?;
        }
        let mut summary = Summary::default();
        let (clean, create) = match self.job.settings.mode {
            SnapshotMode::Data => (false, false),
            SnapshotMode::Full | SnapshotMode::Schema => {
                (self.job.settings.schema.clean_target_db, self.job.settings.schema.create_target_db)
            }
        };
        if !clean && !create {
            self.fill(&source, &facts, &self.job.target, &mut summary).await?;
            return Ok(summary);
        }
        let databases = Databases::open(&self.job.target, &self.session("control")).await?;
        databases.drop_old().await?;
        let exists = databases.exists().await?;
        if clean && !(exists && self.is_complete(&facts).await?) {
            let notices = databases.stage(&source, &facts.origin).await?;
            self.tell(notices, &mut summary);
            self.fill(&source, &facts, &databases.staging(), &mut summary).await?;
            self.progress.phase(Phase::Swapping);
            databases.swap().await?;
            return Ok(summary);
        }
        if !exists {
            let notices = databases.create(&source).await?;
            self.tell(notices, &mut summary);
        }
        self.fill(&source, &facts, &self.job.target, &mut summary).await?;
        Ok(summary)
    }

    /// Whether the present database is the finished copy of this very source, which the stream can go on from.
    async fn is_complete(&self, facts: &SourceFacts) -> Result<bool, Error> {
        if self.job.settings.repeat {
            return Ok(false);
        }
        let target = self.job.target.connect(&self.session("control")).await?;
        match Ledger::load(&target, &facts.origin).await {
            Ok(ledger) if ledger.has_step(ledger::COMPLETE) => match &facts.position {
                Some(position) => ledger::can_follow(&target, position).await,
                None => Ok(true),
            },
            Ok(_) | Err(Error::OtherHistory { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn tell(&self, notices: Vec<String>, summary: &mut Summary) {
        for notice in notices {
            self.progress.notice(notice.clone());
            summary.notices.push(notice);
        }
    }

    /// Fills one database; where it ends up is decided by the caller.
    async fn fill(
        &self,
        source: &Client,
        facts: &SourceFacts,
        server: &Server,
        summary: &mut Summary,
    ) -> Result<(), Error> {
        let mut target = server.connect(&self.session("control")).await?;
        lock(&target, server, &facts.origin).await?;
        let majors = Majors { source: facts.major, target: target.major_version().await? };
        let prepared = self.prepare(source, &target, facts, majors).await?;
        self.report(source, &prepared, summary).await?;

        migrate::migrate(&mut target).await?;
        if let Some(position) = &facts.position {
            ledger::start_progress(&target, &facts.origin, position).await?;
        }
        if let Some(dump) = &prepared.dump {
            self.globals(source, &target, facts, server, &prepared.ledger, summary).await?;
            self.progress.phase(Phase::PreData);
            let schema = server.connect(&self.schema_session(majors)).await?;
            self.pre_data(&schema, majors, dump, &prepared.selection).await?;
        }
        let Prepared { exporter, snapshot, tables, ledger, selection, dump, own_rows } = prepared;
        let replica = self.may_ignore_triggers(&target).await;
        let wanted = if self.job.settings.mode == SnapshotMode::Schema { Vec::new() } else { tables.copied };
        let plan = self.plan(&target, wanted, &ledger, &own_rows, majors, replica, summary).await?;

        let run = self.lanes(server, facts, majors, replica, dump, snapshot.clone());
        self.progress.phase(Phase::Data);
        let copied: Vec<TableName> = plan.units.iter().map(|unit| unit.table.name.clone()).collect();
        if !plan.units.is_empty() {
            summary.snapshot_lsn = Some(snapshot.lsn);
        }
        let totals =
            Box::pin(run.copy(Some(exporter), plan.units, plan.before, table_work(&selection, &plan.sizes))).await?;
        summary.rows += totals.rows;
        summary.bytes += totals.bytes;
        self.after_rows(source, &target, server, majors, &run, &selection).await?;
        self.progress.phase(Phase::Finishing);
        self.finish(source, &target, &selection, &copied).await?;
        ledger::complete(&target, &facts.origin).await
    }

    /// Whether the rows of a table are copied by this run.
    fn is_needed(&self, ledger: &Ledger, table: &TableName) -> bool {
        let settings = &self.job.settings;
        settings.mode != SnapshotMode::Schema && (settings.repeat || ledger.state(table) != State::Complete)
    }

    fn session(&self, purpose: &str) -> Session {
        Session::new(&format!("pgstream-aws snapshot {purpose}")).with("lc_monetary", "C")
    }

    fn schema_session(&self, majors: Majors) -> Session {
        let mut session = self.session("schema").with("synchronous_commit", "off");
        if majors.target >= 14 {
            // A backend notices within seconds that nobody waits for its index any more.
            session = session.with("client_connection_check_interval", "2s");
        }
        for (name, value) in &self.job.settings.schema.index_session_settings {
            session = session.with(name, value);
        }
        session
    }

    async fn source_facts(&self, source: &Client) -> Result<SourceFacts, Error> {
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
                "SELECT coalesce(confirmed_flush_lsn, restart_lsn, '0/0') FROM pg_replication_slots WHERE slot_name = $1",
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
    async fn prepare(
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
            session: &self.session("export"),
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
                let dump = Dump::take(tools, &self.job.source, &snapshot, &settings.schema, &facts.origin).await?;
                let selection = self.select(&exporter, target, &dump, &tables, &ledger).await?;
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
        let own = target::with_foreign_rows(target, &wanted, &there, ledger).await?;
        if !own.is_empty() && self.job.target_settings.on_conflict == OnConflict::Error {
            let mut tables: Vec<String> = own.iter().map(ToString::to_string).collect();
            tables.sort();
            return Err(Error::TargetNotEmpty { tables });
        }
        Ok(own)
    }

    /// Tells what the user should know before hours of copying.
    async fn report(&self, source: &Client, prepared: &Prepared, summary: &mut Summary) -> Result<(), Error> {
        let mut notices = finish::not_copied(source).await?;
        let Prepared { selection, tables, .. } = prepared;
        if !selection.left_out.is_empty() {
            notices.push(format!("left out, because what they need is left out: {}", selection.left_out.join("; ")));
        }
        if !selection.kept.is_empty() {
            notices.push(format!("on the target already and kept as they are: {}", selection.kept.join("; ")));
        }
        if !tables.not_followed.is_empty() {
            notices.push(format!(
                "not copied, because the publication does not have them (unlogged tables cannot be published): {}",
                finish::sorted(tables.not_followed.iter().cloned())
            ));
        }
        self.tell(notices, summary);
        Ok(())
    }

    /// What belongs to the server rather than to the database.
    async fn globals(
        &self,
        source: &Client,
        target: &Client,
        facts: &SourceFacts,
        server: &Server,
        ledger: &Ledger,
        summary: &mut Summary,
    ) -> Result<(), Error> {
        self.progress.phase(Phase::Roles);
        let settings = &self.job.settings.schema;
        let notices = roles::copy(source, target, settings, &facts.origin, ledger).await?;
        self.tell(notices, summary);
        if settings.include_globals {
            let notices = database::copy_settings(source, target, server.dsn().dbname()).await?;
            self.tell(notices, summary);
        }
        Ok(())
    }

    async fn pre_data(&self, schema: &Client, majors: Majors, dump: &Dump, selection: &Selection) -> Result<(), Error> {
        let size = locks_at_once(schema).await?;
        for chunk in selection.schemas.chunks(size) {
            dump.restore(schema, majors.target, chunk, "schemas").await?;
        }
        let mut done = 0;
        for chunk in selection.pre_data.chunks(size) {
            dump.restore(schema, majors.target, chunk, "types, functions and tables").await?;
            done += chunk.len();
            self.progress.send(Event::Schema { done, total: selection.pre_data.len() });
        }
        Ok(())
    }

    /// Whether sessions of the copy may run without triggers and foreign keys.
    async fn may_ignore_triggers(&self, target: &Client) -> bool {
        if self.job.target_settings.disable_triggers == Some(false) {
            return false;
        }
        let allowed =
            target.batch_execute("BEGIN; SET LOCAL session_replication_role = replica; ROLLBACK").await.is_ok();
        if !allowed {
            target.batch_execute("ROLLBACK").await.ok();
            tracing::info!("the target role may not set session_replication_role: tables are filled parents first");
        }
        allowed
    }

    #[expect(clippy::too_many_arguments, reason = "one call; each is a different fact")]
    async fn plan(
        &self,
        target: &Client,
        wanted: Vec<Table>,
        ledger: &Ledger,
        own_rows: &HashSet<TableName>,
        majors: Majors,
        replica: bool,
        summary: &mut Summary,
    ) -> Result<Plan, Error> {
        let references: Vec<&Table> = wanted.iter().collect();
        let there = target::tables(target, &references).await?;
        let sizes: BTreeMap<u32, u64> = wanted.iter().map(|table| (table.oid, table.bytes)).collect();
        let (mut units, mut missing) = (Vec::new(), Vec::new());
        for table in wanted {
            let state = ledger.state(&table.name);
            if !self.is_needed(ledger, &table.name) {
                summary.tables_before += 1;
                continue;
            }
            let Some(there) = there.get(&table.name) else {
                missing.push(table);
                continue;
            };
            there.check(&table)?;
            let write = there.write(&table, own_rows.contains(&table.name), self.job.target_settings.on_conflict)?;
            let format = table.format(majors, &there.types);
            let parts = plan::split(&table, self.job.settings.part_bytes, majors.source);
            let progress = Arc::new(TableProgress::new(table.name.clone(), table.bytes));
            units.push(Arc::new(Unit { table, format, write, state, parts, progress, cleared: OnceCell::new() }));
        }
        self.check_missing(missing, summary)?;
        summary.tables += units.len();
        self.progress.send(Event::Planned {
            tables: units.iter().map(|unit| unit.progress.clone()).collect(),
            finished: summary.tables_before,
        });
        let mut before = HashMap::new();
        if !replica {
            let names = units.iter().map(|unit| unit.table.name.clone()).collect();
            before = plan::parents_first(&names, &target::references(target).await?)?;
        }
        Ok(Plan { units, before, sizes })
    }

    /// Tables without a place on the target: an error, unless the object filter left them out.
    fn check_missing(&self, missing: Vec<Table>, summary: &mut Summary) -> Result<(), Error> {
        if missing.is_empty() {
            return Ok(());
        }
        let schema = &self.job.settings.schema;
        let filtered = !schema.object_types.contains(ObjectType::Tables) || schema.object_types != ObjectTypes::All;
        let dependent = missing.iter().any(|table| table.extension_config);
        if self.job.settings.mode == SnapshotMode::Full && (filtered || dependent) {
            let notice = format!(
                "rows not copied, because their tables were left out: {}",
                finish::sorted(missing.into_iter().map(|table| table.name))
            );
            self.tell(vec![notice], summary);
            return Ok(());
        }
        Err(Error::TableMissing { tables: missing.iter().map(|table| table.name.to_string()).collect() })
    }

    fn lanes(
        &self,
        server: &Server,
        facts: &SourceFacts,
        majors: Majors,
        replica: bool,
        dump: Option<Arc<Dump>>,
        snapshot: Snapshot,
    ) -> Run {
        let settings = &self.job.settings;
        let at_source = settings.max_connections.get().saturating_sub(EXTRA_CONNECTIONS).max(1);
        let at_target = self.job.target_settings.max_connections.get().saturating_sub(EXTRA_CONNECTIONS).max(2);
        let schemas = settings.schema_workers.get().min(at_target / 2).max(1);
        let copies = settings.table_workers.get().min(at_source).min(at_target - schemas).max(1);
        let mut copy_session = self.session("copy").with("synchronous_commit", "off");
        if replica {
            copy_session = copy_session.with("session_replication_role", "replica");
        }
        let lanes = Lanes {
            source: self.job.source.clone(),
            source_session: self.session("read"),
            target: server.clone(),
            copy_session,
            schema_session: self.schema_session(majors),
            target_major: majors.target,
            copies,
            schemas,
            retry: self.job.target_settings.retry,
        };
        let role = settings.schema.role.clone().filter(|_| settings.mode != SnapshotMode::Data);
        let context = Context { origin: facts.origin.clone(), snapshot, role };
        Run {
            lanes: Arc::new(lanes),
            context: Arc::new(context),
            dump,
            progress: self.progress.clone(),
            cancel: self.cancel.clone(),
        }
    }

    async fn after_rows(
        &self,
        source: &Client,
        target: &Client,
        server: &Server,
        majors: Majors,
        run: &Run,
        selection: &Selection,
    ) -> Result<(), Error> {
        let Some(dump) = run.dump.clone() else { return Ok(()) };
        let session = self.schema_session(majors);
        let schema = server.connect(&session).await?;
        let chunk = locks_at_once(&schema).await?;
        self.progress.phase(Phase::ForeignKeys);
        for ids in selection.attach.chunks(chunk) {
            dump.restore(&schema, majors.target, ids, "index attachments").await?;
        }
        Box::pin(run.foreign_keys(&selection.foreign_keys)).await?;
        self.progress.phase(Phase::PostData);
        for (ids, what) in [
            (&selection.rest, "triggers, rules, policies and comments"),
            (&selection.grants, "grants"),
            (&selection.event_triggers, "event triggers"),
        ] {
            for ids in ids.chunks(chunk) {
                dump.restore(&schema, majors.target, ids, what).await?;
            }
        }
        finish::labels(source, target, &self.job.settings.schema.exclude_security_labels).await
    }

    async fn finish(
        &self,
        source: &Client,
        target: &Client,
        selection: &Selection,
        copied: &[TableName],
    ) -> Result<(), Error> {
        if self.job.settings.mode != SnapshotMode::Schema {
            let moved = finish::sequences(source, target).await?;
            tracing::info!(moved, "sequences moved forward");
            for table in copied {
                finish::analyze(target, table).await?;
            }
            if self.job.settings.schema.refresh_materialized_views {
                finish::refresh(target, &selection.views).await?;
            }
        }
        Ok(())
    }
}

struct Plan {
    units: Vec<Arc<Unit>>,
    before: HashMap<TableName, HashSet<TableName>>,
    sizes: BTreeMap<u32, u64>,
}

fn table_work(selection: &Selection, sizes: &BTreeMap<u32, u64>) -> HashMap<u32, (select::TableWork, u64)> {
    let size = |table: &u32| sizes.get(table).copied().unwrap_or(0);
    selection.tables.iter().map(|(table, work)| (*table, (work.clone(), size(table)))).collect()
}

fn missing(wanted: &[&Table], there: &HashMap<TableName, There>) -> Vec<String> {
    wanted.iter().filter(|t| !there.contains_key(&t.name)).map(|t| t.name.to_string()).collect()
}

/// How many entries of a dump one transaction may create: about half of what the server's lock table holds, since
/// every new table, index and sequence is a lock.
async fn locks_at_once(target: &Client) -> Result<usize, Error> {
    let slots: i64 = target
        .query_one(
            "SELECT current_setting('max_locks_per_transaction')::int8 * (current_setting('max_connections')::int8
                    + current_setting('max_prepared_transactions')::int8)",
            &[],
        )
        .await
        .map_err(target.failed("reading how many locks the target can hold"))?
        .get(0);
    // A table may bring a TOAST table, its index and an identity sequence.
    Ok(usize::try_from(slots / 8).unwrap_or(usize::MAX).max(16))
}

/// One run at a time fills a database from a source. Held by the session until it ends.
async fn lock(target: &Client, server: &Server, origin: &Origin) -> Result<(), Error> {
    let taken: bool = target
        .query_one("SELECT pg_try_advisory_lock(hashtextextended('pgstream snapshot ' || $1, 0))", &[&origin.source])
        .await
        .map_err(target.failed("locking the target against a second snapshot"))?
        .get(0);
    if taken {
        return Ok(());
    }
    Err(Error::AlreadyRunning { source_name: origin.source.clone(), server: server.to_string() })
}
