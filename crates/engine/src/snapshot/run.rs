//! One run from beginning to end.

use std::sync::Arc;

use pgstream_config::pipeline::SnapshotMode;
use pgstream_postgres::{Client, Server, Session, TableName, quote_ident};
use tokio_util::sync::CancellationToken;

use super::{
    Error, Job, Phase, Progress, Summary,
    catalog::Majors,
    coordinate::Copiers,
    copy::{Context, Watch},
    database::{self, Databases},
    exporter::Snapshot,
    fence, finish,
    lanes::Lanes,
    ledger::{self, Ledger, Origin, State},
    marks,
    prepare::{Prepared, SourceFacts},
    progress::Event,
    restore::Dump,
    roles, rounds,
    select::Selection,
    units::table_work,
    workers::Run,
};
use crate::target::migrate;

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

/// Indexes of smaller tables are built by one process each: they are built side by side anyway, a build takes a second or
/// two, and what several processes sort has to pass through files.
const PARALLEL_FROM: &str = "256MB";

pub(super) struct Snapshotting {
    pub(super) job: Job,
    pub(super) progress: Progress,
    cancel: CancellationToken,
}

impl Snapshotting {
    async fn run(self) -> Result<Summary, Error> {
        self.progress.phase(Phase::Preparing);
        let source = self.job.source.connect(&session("control", 0)).await?;
        let facts = self.source_facts(&source).await?;
        patient(&source, facts.major).await?;
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
        let databases = Databases::open(&self.job.target, &session("control", 0)).await?;
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
        // Without a stream that goes on from it, a clean copy means a new one.
        let Some(position) = facts.position.as_ref().filter(|_| !self.job.settings.repeat) else { return Ok(false) };
        let target = self.job.target.connect(&session("control", 0)).await?;
        match Ledger::load(&target, &facts.origin).await {
            Ok(ledger) if ledger.has_step(ledger::COMPLETE) => ledger::can_follow(&target, position).await,
            Ok(_) | Err(Error::OtherHistory { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The role that restores and fills, when it is not the one that connects.
    fn role(&self) -> Option<&str> {
        let settings = &self.job.settings;
        settings.schema.role.as_deref().filter(|_| settings.mode != SnapshotMode::Data)
    }

    pub(super) async fn act_as_role(&self, target: &Client) -> Result<(), Error> {
        let Some(role) = self.role() else { return Ok(()) };
        let sql = format!("SET ROLE {}", quote_ident(role));
        target.batch_execute(&sql).await.map_err(target.failed("acting as the configured role"))?;
        Ok(())
    }

    pub(super) async fn act_as_ourselves(&self, target: &Client) -> Result<(), Error> {
        if self.role().is_some() {
            target.batch_execute("RESET ROLE").await.map_err(target.failed("acting as ourselves again"))?;
        }
        Ok(())
    }

    pub(super) fn tell(&self, notices: Vec<String>, summary: &mut Summary) {
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
        let mut target =
            server.connect(&session("control", 0)).await.map_err(|error| missing_database(server, error))?;
        let major = target.major_version().await?;
        patient(&target, major).await?;
        lock(&target, server, &facts.origin).await?;
        rounds::abandon(&target, server, &facts.origin).await?;
        let majors = Majors { source: facts.major, target: major };
        let prepared = self.prepare(source, &target, facts, majors).await?;
        self.report(source, &prepared, summary).await?;

        migrate::migrate(&mut target).await?;
        if let Some(position) = &facts.position {
            ledger::start_progress(&target, &facts.origin, position).await?;
            ledger::start_schema(source, &target, &facts.origin, &prepared.snapshot).await?;
        }
        if let Some(dump) = &prepared.dump {
            self.globals(source, &target, facts, server, &prepared.ledger, summary).await?;
            self.progress.phase(Phase::PreData);
            let schema = server.connect(&self.schema_session(majors)).await?;
            marks::own(&schema, &facts.origin).await?;
            self.pre_data(&schema, majors, dump, &prepared.selection).await?;
        }
        let Prepared { exporter, snapshot, tables, ledger, selection, dump, own_rows } = prepared;
        let target = Arc::new(target);
        let replica = self.may_ignore_triggers(&target).await;
        let wanted = if self.job.settings.mode == SnapshotMode::Schema { Vec::new() } else { tables.copied };
        let plan = self.plan(&target, wanted, &ledger, &own_rows, majors, replica, summary).await?;

        let run = self.lanes(server, facts, majors, replica, dump, snapshot.clone(), target.clone());
        self.progress.phase(Phase::Data);
        let copied: Vec<TableName> = plan.units.iter().map(|unit| unit.table.name.clone()).collect();
        if !plan.units.is_empty() {
            summary.snapshot_lsn = Some(snapshot.lsn);
        }
        let totals = Box::pin(run.copy(exporter, plan.units, plan.before, table_work(&selection, &plan.sizes))).await?;
        summary.rows += totals.rows;
        summary.bytes += totals.bytes;
        self.after_rows(source, &target, majors, &run, &selection).await?;
        self.progress.phase(Phase::Finishing);
        self.act_as_role(&target).await?;
        self.finish(source, &target, server, majors, &selection, copied).await?;
        self.act_as_ourselves(&target).await?;
        ledger::complete(&target, &facts.origin).await
    }

    /// Whether the rows of a table are copied by this run.
    pub(super) fn is_needed(&self, ledger: &Ledger, table: &TableName) -> bool {
        let settings = &self.job.settings;
        settings.mode != SnapshotMode::Schema && (settings.repeat || ledger.state(table) != State::Complete)
    }

    fn schema_session(&self, majors: Majors) -> Session {
        let session = session("schema", majors.target)
            .with("synchronous_commit", "on")
            .with("min_parallel_table_scan_size", PARALLEL_FROM);
        let mut session = watched(session, majors.target);
        for (name, value) in &self.job.settings.schema.index_session_settings {
            session = session.with(name, value);
        }
        session
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
        let disowned = prepared.dump.as_ref().map_or(0, |dump| dump.disowned());
        if disowned > 0 && !self.job.settings.schema.no_owner {
            notices.push(format!(
                "{disowned} objects belong to the role that restores them: on the source they belong to a role that is \
                 never copied (`postgres` or one of AWS) and that this role cannot act as on the target"
            ));
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

    /// Lanes of one process: for rows, and for indexes and keys.
    fn connections(&self) -> (usize, usize) {
        let settings = &self.job.settings;
        let at_source = settings.max_connections.get().saturating_sub(EXTRA_CONNECTIONS).max(1);
        let at_target = self.job.target_settings.max_connections.get().saturating_sub(EXTRA_CONNECTIONS).max(2);
        let schemas = settings.schema_workers.get().min(at_target / 2).max(1);
        (settings.table_workers.get().min(at_source).min(at_target - schemas).max(1), schemas)
    }

    /// How many parts are copied at once, by all who copy; the most there can be when that is not known.
    pub(super) fn copies_at_once(&self) -> usize {
        let (copies, _) = self.connections();
        match &self.job.copiers {
            Copiers::Here => copies,
            Copiers::Children { count, .. } => copies.saturating_mul(count.get()),
            Copiers::Elsewhere { .. } => usize::MAX,
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one call; each is a different fact")]
    fn lanes(
        &self,
        server: &Server,
        facts: &SourceFacts,
        majors: Majors,
        replica: bool,
        dump: Option<Arc<Dump>>,
        snapshot: Snapshot,
        control: Arc<Client>,
    ) -> Run {
        let (copies, schemas) = self.connections();
        let copy_session = copy_session(majors.target, replica);
        let lanes = Lanes {
            source: self.job.source.clone(),
            source_session: session("read", majors.source),
            target: server.clone(),
            copy_session,
            schema_session: self.schema_session(majors),
            target_major: majors.target,
            ignore_triggers: replica,
            copies,
            schemas,
            retry: self.job.retry,
            origin: facts.origin.clone(),
        };
        let role = self.role().map(str::to_owned);
        let watch = Watch::new(control.clone());
        let context = Context { origin: facts.origin.clone(), snapshot, role, watch };
        Run {
            lanes: Arc::new(lanes),
            context: Arc::new(context),
            control,
            copiers: self.job.copiers.clone(),
            dump,
            progress: self.progress.clone(),
            cancel: self.cancel.clone(),
        }
    }

    async fn after_rows(
        &self,
        source: &Client,
        target: &Client,
        majors: Majors,
        run: &Run,
        selection: &Selection,
    ) -> Result<(), Error> {
        let Some(dump) = run.dump.clone() else { return Ok(()) };
        let schema = run.lanes.restorer().await?;
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
        server: &Server,
        majors: Majors,
        selection: &Selection,
        copied: Vec<TableName>,
    ) -> Result<(), Error> {
        if self.job.settings.mode != SnapshotMode::Schema {
            let moved = finish::sequences(source, target).await?;
            tracing::info!(moved, "sequences moved forward");
            let session = self.schema_session(majors);
            let sessions = self.job.settings.schema_workers.get();
            finish::analyze(server, &session, self.role(), copied, sessions).await?;
            if self.job.settings.schema.refresh_materialized_views {
                finish::refresh(target, &selection.views).await?;
            }
        }
        Ok(())
    }
}

/// A session that outlives every time-out a role or database may have been given.
pub(super) fn session(purpose: &str, major: u32) -> Session {
    let mut session = Session::new(&format!("pgstream-aws snapshot {purpose}")).with("lc_monetary", "C");
    if major >= 14 {
        session = session.with("idle_session_timeout", "0");
    }
    if major >= 17 {
        session = session.with("transaction_timeout", "0");
    }
    session
}

/// A session that fills tables.
pub(super) fn copy_session(major: u32, ignore_triggers: bool) -> Session {
    // A target that crashes while tables are copied must not forget one that this run counts as finished.
    let mut session = watched(session("copy", major).with("synchronous_commit", "on"), major);
    if ignore_triggers {
        session = session.with("session_replication_role", "replica");
    }
    session
}

/// A backend that waits for a lock, or builds an index, notices within seconds that nobody waits for it any more.
fn watched(session: Session, major: u32) -> Session {
    if major >= 14 { session.with("client_connection_check_interval", "2s") } else { session }
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

/// The sessions that steer have been opened before it was known which settings the server has.
pub(super) async fn patient(client: &Client, major: u32) -> Result<(), Error> {
    let mut sql = String::new();
    if major >= 14 {
        sql.push_str("SET idle_session_timeout = 0;");
    }
    if major >= 17 {
        sql.push_str("SET transaction_timeout = 0;");
    }
    client.batch_execute(&sql).await.map_err(client.failed("preparing the session"))?;
    Ok(())
}

fn missing_database(server: &Server, error: pgstream_postgres::Error) -> Error {
    if error.sqlstate() == Some("3D000") {
        let database = quote_ident(server.dsn().dbname());
        return Error::DatabaseMissing { database, server: server.to_string() };
    }
    error.into()
}
