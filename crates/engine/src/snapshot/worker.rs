//! A worker: takes parts of a round until none are left.
//!
//! ```text
//!  look for a round ──> lanes: source session inside the snapshot, target session that is marked as a worker's
//!     ^                   └─> take a part ─> copy ─> take the next … none left: done
//!     └── the round is over before its rows are in: all sessions end, what they were copying is given back
//! ```
//! A worker writes nothing but rows and what goes with them in their transaction. It can die anywhere.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use pgstream_postgres::{Client, Server};
use tokio::{task::JoinSet, time::MissedTickBehavior};
use tokio_postgres::Statement;
use tokio_util::sync::CancellationToken;

use super::{
    Error, Job, LedgerSource,
    copy::{Context, Watch},
    database, exporter,
    lanes::{pause, tries},
    offered,
    rounds::{self, BEGINNING, Node, Round, Standing},
    run::{copy_session, patient, session},
    take::{Filler, Reader, Taken, take},
};

/// How often a round is looked for.
const LOOK: Duration = Duration::from_secs(1);

/// How long a copy that is complete, with nobody at work, is taken for one that is about to begin: tasks that are started
/// together do not come up together.
const LATE: Duration = Duration::from_secs(60);

/// How often it is asked whether the coordinator is alive.
const ALIVE: Duration = Duration::from_secs(1);

/// How often a lane looks for a part while all that are left are others'.
const IDLE: Duration = Duration::from_millis(250);

/// How often a lane looks from the beginning, for parts that were given back.
const FROM_BEGINNING: Duration = Duration::from_secs(5);

/// Sessions on the target beside the lanes'.
const CONTROL: usize = 1;

/// What a worker did.
#[derive(Debug, Clone, Copy, Default)]
pub struct Worked {
    /// Parts copied by it.
    pub parts: u64,
    /// Rows copied by it.
    pub rows: u64,
    /// Bytes of COPY data moved by it.
    pub bytes: u64,
}

impl Worked {
    fn add(&mut self, other: Self) {
        self.parts += other.parts;
        self.rows += other.rows;
        self.bytes += other.bytes;
    }
}

/// Takes parts of what a coordinator offers until all rows are in. `wait`: how long nobody may offer anything.
///
/// # Errors
/// When there is no coordinator, it ended early, or a part cannot be copied.
pub async fn work(job: Job, wait: Duration, cancel: CancellationToken) -> Result<Worked, Error> {
    let stop = cancel.clone();
    let work = Box::pin(Worker { job, wait }.run());
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(Error::Cancelled),
        outcome = work => outcome,
    }
}

struct Worker {
    job: Job,
    wait: Duration,
}

/// Where the copy is found.
struct Place {
    server: Server,
    standing: Standing,
}

/// How a round ended for a worker.
enum End {
    /// No part is left.
    Copied,
    /// Its coordinator is gone.
    Lost,
}

/// What a worker has seen so far.
struct Seen {
    /// The target's clock when it was reached first.
    since: Option<String>,
    /// It has worked for a coordinator.
    served: bool,
    /// When a coordinator was there last.
    coordinator: Instant,
    total: Worked,
}

impl Worker {
    async fn run(self) -> Result<Worked, Error> {
        let source_name = self.source_name().await?;
        let mut seen = Seen { since: None, served: false, coordinator: Instant::now(), total: Worked::default() };
        loop {
            match self.step(&source_name, &mut seen).await {
                Ok(true) => return Ok(seen.total),
                Ok(false) => {}
                // Also the end of a database that was replaced by a finished copy.
                Err(error) if error.is_transient() && seen.coordinator.elapsed() < self.wait => {
                    tracing::warn!(%error, "looking for the coordinator again after a transient failure");
                }
                Err(error) => return Err(error),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Looks, and works if there is something to do. Returns whether nothing is left.
    async fn step(&self, source_name: &str, seen: &mut Seen) -> Result<bool, Error> {
        let place = self.look(source_name, &mut seen.since).await?;
        let round = match place.standing {
            Standing::Offered(round) => round,
            Standing::Copied => return Ok(true),
            Standing::Preparing => {
                seen.coordinator = Instant::now();
                return Ok(false);
            }
            Standing::Nobody { complete } => {
                let quiet = seen.coordinator.elapsed();
                if complete && quiet >= self.wait.min(LATE) {
                    tracing::info!("the copy is complete");
                    return Ok(true);
                }
                if quiet < self.wait {
                    return Ok(false);
                }
                let (source_name, server) = (source_name.to_owned(), place.server.to_string());
                return Err(match seen.served {
                    true => Error::CoordinatorGone { source_name, server },
                    false => Error::NoCoordinator { source_name, server, waited: self.wait },
                });
            }
        };
        tracing::info!(round = round.id, server = %place.server, "working for a coordinator");
        seen.served = true;
        let end = Box::pin(self.serve(&round, &place.server, &mut seen.total)).await;
        seen.coordinator = Instant::now();
        match end? {
            End::Copied => Ok(true),
            End::Lost => {
                tracing::warn!("the coordinator has gone: what was being copied was given back");
                Ok(false)
            }
        }
    }

    /// Under which name the target remembers the copy; known to the source when there is no slot.
    async fn source_name(&self) -> Result<String, Error> {
        if let LedgerSource::Slot(slot) = &self.job.ledger_source {
            return Ok(slot.clone());
        }
        let source = self.job.source.connect(&session("control", 0)).await?;
        let node = Node::of(&source).await?;
        Ok(format!("{}/{}", node.system_identifier, self.job.source.dsn().dbname()))
    }

    /// Asks the target, or the database that is being built beside it.
    async fn look(&self, source_name: &str, since: &mut Option<String>) -> Result<Place, Error> {
        let target = self.job.target.clone();
        let staging = database::staging(&target);
        // Where the present database is missing, only trying tells whether the other one is there.
        let (mut standing, mut beside) = (Standing::Nobody { complete: false }, true);
        if let Some(control) = reach(&target, since).await? {
            standing = rounds::standing(&control, source_name, since.as_deref().unwrap_or_default()).await?;
            beside = matches!(standing, Standing::Nobody { .. })
                && database::is_there(&control, staging.dsn().dbname()).await?;
        }
        if beside && let Some(control) = reach(&staging, since).await? {
            standing = rounds::standing(&control, source_name, since.as_deref().unwrap_or_default()).await?;
            return Ok(Place { server: staging, standing });
        }
        Ok(Place { server: target, standing })
    }

    /// Works for a round until it is over.
    async fn serve(&self, round: &Round, server: &Server, total: &mut Worked) -> Result<End, Error> {
        let control = server.connect(&session("control", 0)).await?;
        let target_major = control.major_version().await?;
        patient(&control, target_major).await?;
        let control = Arc::new(control);
        let origin = round.origin.clone();
        let watch = Watch::new(control.clone());
        let context = Context { origin, snapshot: round.snapshot.clone(), role: round.role.clone(), watch };
        let shared = Arc::new(Shared {
            job: self.job.clone(),
            round: round.clone(),
            context,
            target: server.clone(),
            target_major,
        });
        let at_source = self.job.settings.max_connections.get();
        let at_target = self.job.target_settings.max_connections.get().saturating_sub(CONTROL).max(1);
        let lanes = self.job.settings.table_workers.get().min(at_source).min(at_target);
        let mut tasks: JoinSet<Result<Worked, Error>> = JoinSet::new();
        for _ in 0..lanes {
            let shared = shared.clone();
            tasks.spawn(async move { Box::pin(shared.lane()).await });
        }
        let mut asked = tokio::time::interval(ALIVE);
        asked.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let done = tokio::select! {
                done = tasks.join_next() => done,
                _ = asked.tick() => {
                    if !rounds::is_alive(&control, round).await? {
                        return Ok(End::Lost);
                    }
                    continue;
                }
            };
            match done {
                // Nothing is left of a round that was abandoned, either.
                None => return Ok(if rounds::is_alive(&control, round).await? { End::Copied } else { End::Lost }),
                Some(Ok(Ok(worked))) => total.add(worked),
                // Whatever fails when the coordinator dies, its death is the reason.
                Some(Ok(Err(error))) => {
                    let alive = rounds::is_alive(&control, round).await?;
                    return if alive { Err(error) } else { Ok(End::Lost) };
                }
                Some(Err(error)) => return Err(Error::Worker(error.to_string())),
            }
        }
    }
}

/// None when there is no such database. `since`: the target's clock when it was reached first.
async fn reach(server: &Server, since: &mut Option<String>) -> Result<Option<Client>, Error> {
    let control = match server.connect(&session("control", 0)).await {
        Ok(control) => control,
        Err(error) if error.sqlstate() == Some("3D000") => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if since.is_none() {
        *since = Some(rounds::clock(&control).await?);
    }
    Ok(Some(control))
}

/// What the lanes of a worker share.
struct Shared {
    job: Job,
    round: Round,
    context: Context,
    target: Server,
    target_major: u32,
}

struct Sessions {
    source: Client,
    reading: Statement,
    filler: Filler,
}

impl Shared {
    /// Takes parts until none are left.
    async fn lane(&self) -> Result<Worked, Error> {
        let (mut worked, mut sessions, mut failed) = (Worked::default(), None, 0);
        let (mut after, mut begun) = (BEGINNING, Instant::now());
        loop {
            if begun.elapsed() >= FROM_BEGINNING {
                (after, begun) = (BEGINNING, Instant::now());
            }
            match self.next(&mut sessions, after).await {
                Ok(Some(Taken::Part(claim, copied))) => {
                    tracing::debug!(table = %claim.table, part = claim.part, rows = copied.rows, "part copied");
                    worked.add(Worked { parts: 1, rows: copied.rows, bytes: copied.bytes });
                    (after, failed) = ((claim.unit, claim.part), 0);
                }
                Ok(Some(Taken::LockedOut)) => failed = 0,
                Ok(Some(Taken::Nothing)) if after != BEGINNING => (after, begun) = (BEGINNING, Instant::now()),
                Ok(Some(Taken::Nothing)) => {
                    failed = 0;
                    tokio::time::sleep(IDLE).await;
                }
                Ok(None) => return Ok(worked),
                Err(error) => {
                    // Whatever happened, these sessions may be in the middle of something.
                    sessions = None;
                    failed += 1;
                    // After a failover the name leads elsewhere before the coordinator notices.
                    let passing = error.is_transient() || matches!(error, Error::OtherServer { .. });
                    if !passing || failed >= tries(&self.job.retry) {
                        return Err(error);
                    }
                    tracing::warn!(attempt = failed, %error, "taking a part again after a transient failure");
                    tokio::time::sleep(pause(&self.job.retry, failed)).await;
                }
            }
        }
    }

    /// None when no part is left. The sessions are put back when they can be used again.
    async fn next(&self, lane: &mut Option<Sessions>, after: (i32, i32)) -> Result<Option<Taken>, Error> {
        let mut sessions = match lane.take() {
            Some(sessions) => sessions,
            None => self.open().await?,
        };
        let reader = Reader::Importer(&sessions.source, &self.job, &sessions.reading);
        let taken = take(&self.context, reader, &mut sessions.filler, self.round.id, after).await?;
        let over =
            matches!(taken, Taken::Nothing) && !rounds::has_parts(&sessions.filler.target, self.round.id).await?;
        *lane = Some(sessions);
        Ok((!over).then_some(taken))
    }

    async fn open(&self) -> Result<Sessions, Error> {
        let source = self.job.source.connect(&session("read", 0)).await?;
        let here = Node::of(&source).await?;
        if !here.is(&self.round.node) {
            return Err(Error::OtherServer { here: here.to_string(), there: self.round.node.to_string() });
        }
        patient(&source, source.major_version().await?).await?;
        exporter::enter(&source, &self.job.source, &self.context.snapshot).await?;
        let settings = copy_session(self.target_major, self.round.ignore_triggers);
        let target = self.target.connect(&settings).await?;
        let reading = offered::reading(&source).await?;
        Ok(Sessions { source, reading, filler: Filler::new(target, &self.context.origin).await? })
    }
}
