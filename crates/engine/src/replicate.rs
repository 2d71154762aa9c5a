//! `run`: prepare when asked, copy when the mode says so, then follow until stopped.
//!
//! ```text
//!  init (when asked) ──> copy (unless complete) ──> stream ──> SIGTERM
//!                          └── transient error: again, goes on where it stopped
//! ```

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use pgstream_config::pipeline::{Mode, Pipeline, Retry, RolesMode, Target};
use pgstream_postgres::{Class, Client, Server, Session};
use tokio_postgres::error::SqlState;
use tokio_util::sync::CancellationToken;

use crate::{
    snapshot::{self, Copiers, LedgerSource, Progress, Summary, Worked},
    source::{self, InitSettings, Names, Part, Step, slot},
    stream::{self, COPY_INLINE, Destination, Limits, Rights, SchemaChanges, status::Monitor},
    target::{ledger, progress},
    users::{self, Duties, Missing, Owners},
};

/// What is run, between which servers.
pub struct Run {
    /// Where rows come from.
    pub source: Server,
    /// Where they go.
    pub destination: Destination,
    /// How.
    pub pipeline: Pipeline,
    /// Prepare the source first.
    pub init: bool,
}

impl Run {
    /// What the roles of both sides lack for it: for a run that was refused something. `roles`: it was to create roles.
    pub async fn missing_rights(&self, roles: bool) -> Vec<Missing> {
        let mode = self.pipeline.mode;
        let duties = Duties {
            copy: mode != Mode::Replication,
            follow: mode != Mode::Snapshot,
            init: self.init,
            ..Duties::default()
        };
        let schema = &self.pipeline.snapshot.schema;
        let on_target = Duties {
            init: false,
            create_databases: schema.clean_target_db,
            create_roles: roles,
            roles_come: schema.roles != RolesMode::Disabled,
            no_privileges: schema.no_privileges,
            // Nothing is given to anybody.
            owners: schema.no_owner.then(Owners::default),
            ..duties.clone()
        };
        let target = match &self.destination {
            Destination::Postgres(target) => Some((target, &on_target)),
            Destination::Stdout => None,
        };
        users::explain((&self.source, &duties), target).await
    }
}

/// Who is told what happens.
pub struct Observers {
    /// Of the copy.
    pub progress: Progress,
    /// Of the stream.
    pub monitor: Arc<Monitor>,
}

/// What has happened, for the log.
#[derive(Debug)]
pub enum Milestone<'a> {
    /// One object on the source was created or kept.
    Prepared(&'a Step),
    /// The copy was complete before.
    AlreadyCopied,
    /// The copy is complete.
    Copied(&'a Summary),
    /// The copy broke, or could not begin, and will go on.
    CopyRetried {
        /// Why.
        error: &'a Error,
        /// After how long.
        wait: Duration,
    },
}

/// A run ended early.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// While preparing the source.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Source(#[from] source::Error),
    /// While copying.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Snapshot(#[from] snapshot::Error),
    /// While following.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Stream(#[from] stream::Error),
    /// While connecting.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Postgres(#[from] pgstream_postgres::Error),
    /// A copy to standard output.
    #[error("target.stdout follows changes; it cannot take a snapshot")]
    #[diagnostic(code(run::stdout_snapshot), help("set source.postgres.mode: replication, or choose target.postgres"))]
    StdoutSnapshot,
}

impl Error {
    /// What kind of failure this is.
    fn class(&self) -> Class {
        match self {
            Self::Source(error) => error.class(),
            Self::Snapshot(error) => error.class(),
            Self::Stream(error) => error.class(),
            Self::Postgres(error) => error.class(),
            Self::StdoutSnapshot => Class::Config,
        }
    }
}

/// Runs to the end of the copy, or until cancelled.
///
/// # Errors
/// The first failure that time does not heal.
pub async fn run(
    run: &Run,
    observers: Observers,
    cancel: &CancellationToken,
    tell: impl Fn(Milestone<'_>) + Send + Sync,
) -> Result<(), Error> {
    let pipeline = &run.pipeline;
    let names = Names::with_slot(run.source.dsn().dbname(), pipeline.source.slot.as_deref())?;
    if run.init && pipeline.mode != Mode::Snapshot {
        let settings = InitSettings {
            slot: pipeline.source.slot.clone(),
            tables: pipeline.stream.tables.clone(),
            part: Part::All,
            failover: false,
        };
        source::init(&run.source, &settings, cancel, |step| tell(Milestone::Prepared(step))).await?;
    }
    let Observers { progress, monitor } = observers;
    if pipeline.mode != Mode::Replication {
        match patiently(run, cancel, &tell, async || is_copied(run, &names).await).await? {
            Some(true) => tell(Milestone::AlreadyCopied),
            Some(false) => copy(run, Copiers::Here, progress, cancel, &tell).await?,
            None => return Ok(()),
        }
    }
    if pipeline.mode == Mode::Snapshot || cancel.is_cancelled() {
        return Ok(());
    }
    stream::run(&stream_job(run, names), &monitor, cancel).await?;
    Ok(())
}

/// Copies what is not copied yet, through transient errors. Ends without an error when cancelled.
///
/// # Errors
/// The first failure that time does not heal.
pub async fn copy(
    run: &Run,
    copiers: Copiers,
    progress: Progress,
    cancel: &CancellationToken,
    tell: &(impl Fn(Milestone<'_>) + Sync),
) -> Result<(), Error> {
    let (Destination::Postgres(target), Some(Target::Postgres(settings))) = (&run.destination, &run.pipeline.target)
    else {
        return Err(Error::StdoutSnapshot);
    };
    let names = Names::with_slot(run.source.dsn().dbname(), run.pipeline.source.slot.as_deref())?;
    let attempt = async || {
        let job = copy_job(run, target, settings, &names, copiers.clone()).await?;
        Ok(snapshot::run(job, progress.clone(), cancel.clone()).await?)
    };
    if let Some(summary) = patiently(run, cancel, tell, attempt).await? {
        tell(Milestone::Copied(&summary));
    }
    Ok(())
}

/// Copies parts that a coordinator offers until none are left, through transient errors. `wait`: how long nobody may offer
/// anything. `None` when cancelled.
///
/// # Errors
/// The first failure that time does not heal.
pub async fn work(
    run: &Run,
    wait: Duration,
    cancel: &CancellationToken,
    tell: &(impl Fn(Milestone<'_>) + Sync),
) -> Result<Option<Worked>, Error> {
    let (Destination::Postgres(target), Some(Target::Postgres(settings))) = (&run.destination, &run.pipeline.target)
    else {
        return Err(Error::StdoutSnapshot);
    };
    let names = Names::with_slot(run.source.dsn().dbname(), run.pipeline.source.slot.as_deref())?;
    let attempt = async || {
        let job = copy_job(run, target, settings, &names, Copiers::Here).await?;
        Ok(snapshot::work(job, wait, cancel.clone()).await?)
    };
    patiently(run, cancel, tell, attempt).await
}

/// Makes attempts until one succeeds, as the retry policy allows. `None` when cancelled.
///
/// # Errors
/// The first failure that time does not heal.
async fn patiently<T>(
    run: &Run,
    cancel: &CancellationToken,
    tell: &(impl Fn(Milestone<'_>) + Sync),
    attempt: impl AsyncFn() -> Result<T, Error>,
) -> Result<Option<T>, Error> {
    let retry = run.pipeline.source.retry;
    let (mut tries, mut failing_since) = (0, None);
    loop {
        let error = tokio::select! {
            biased;
            () = cancel.cancelled() => return Ok(None),
            outcome = attempt() => match outcome {
                Ok(value) => return Ok(Some(value)),
                Err(Error::Snapshot(snapshot::Error::Cancelled)) => return Ok(None),
                Err(error) => error,
            },
        };
        let failing = failing_since.get_or_insert_with(Instant::now).elapsed();
        if error.class() != Class::Transient || !may_retry(retry, tries, failing) {
            return Err(error);
        }
        tries += 1;
        let wait = retry.wait(tries);
        tell(Milestone::CopyRetried { error: &error, wait });
        tokio::select! {
            () = cancel.cancelled() => return Ok(None),
            () = tokio::time::sleep(wait) => {}
        }
    }
}

fn may_retry(retry: Retry, tries: usize, failing: Duration) -> bool {
    retry.max_retries.is_none_or(|limit| tries < limit) && retry.max_elapsed.is_none_or(|limit| failing < limit)
}

/// Whether the copy that the stream goes on from is complete; a target that does not exist yet holds none, and one that
/// may be built anew is of no use once the slot has gone on without it.
async fn is_copied(run: &Run, names: &Names) -> Result<bool, Error> {
    let Destination::Postgres(target) = &run.destination else { return Ok(false) };
    if run.pipeline.mode != Mode::SnapshotAndReplication || run.pipeline.snapshot.repeat {
        return Ok(false);
    }
    match target.connect(&Session::new("pgstream-aws run")).await {
        Ok(client) if run.pipeline.snapshot.schema.clean_target_db => {
            Ok(ledger::is_complete(&client, &names.slot).await? && !is_left_behind(run, &client, &names.slot).await?)
        }
        Ok(client) => Ok(ledger::is_complete(&client, &names.slot).await?),
        Err(error) if error.sqlstate() == Some(SqlState::INVALID_CATALOG_NAME.code()) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether the slot has confirmed changes that the target does not have.
async fn is_left_behind(run: &Run, target: &Client, slot: &str) -> Result<bool, Error> {
    let source = run.source.connect(&Session::new("pgstream-aws run")).await?;
    let confirmed = slot::read(&source, slot).await?.and_then(|state| state.confirmed_flush_lsn);
    let applied = progress::read(target, slot).await?.map(|progress| progress.commit_end);
    Ok(confirmed > applied)
}

async fn copy_job(
    run: &Run,
    target: &Server,
    settings: &pgstream_config::pipeline::PostgresTarget,
    names: &Names,
    copiers: Copiers,
) -> Result<snapshot::Job, Error> {
    let follows = run.pipeline.mode == Mode::SnapshotAndReplication;
    let created_after = if follows {
        let client = run.source.connect(&Session::new("pgstream-aws run")).await?;
        slot::fence(&client, &names.slot)
            .await?
            .map(|fence| snapshot::Fence { xid_snapshot_at_slot_creation: fence.created_snapshot })
    } else {
        None
    };
    Ok(snapshot::Job {
        source: run.source.clone(),
        target: target.clone(),
        ledger_source: if follows { LedgerSource::Slot(names.slot.clone()) } else { LedgerSource::Database },
        settings: run.pipeline.snapshot.clone(),
        target_settings: settings.clone(),
        retry: run.pipeline.source.retry,
        publication: follows.then(|| names.publication.clone()),
        created_after,
        copiers,
        tools: None,
    })
}

fn stream_job(run: &Run, names: Names) -> stream::Job {
    let settings = &run.pipeline.stream;
    let disable_triggers = match &run.pipeline.target {
        Some(Target::Postgres(target)) => target.disable_triggers,
        Some(Target::Stdout) | None => None,
    };
    let rights = &run.pipeline.snapshot.schema;
    let schema = (!settings.ignore_ddl).then(|| SchemaChanges {
        types: settings.ddl_types.clone(),
        rights: Rights { owner: !rights.no_owner, privileges: !rights.no_privileges },
        copy_inline: COPY_INLINE,
    });
    stream::Job {
        source: run.source.clone(),
        destination: run.destination.clone(),
        slot: names.slot,
        publication: names.publication,
        filter: settings.tables.clone(),
        schema,
        disable_triggers,
        limits: Limits {
            bytes: usize::try_from(settings.batch_bytes).unwrap_or(usize::MAX),
            changes: settings.batch_changes,
        },
        retry: run.pipeline.source.retry,
    }
}
