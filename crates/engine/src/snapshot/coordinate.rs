//! The coordinator's side of a round: rows are copied by other processes.
//!
//! ```text
//!  publish ──> look, every quarter of a second ──┬─> parts that are gone: in the ledger ──> indexes of their tables
//!              (what is left; who is at work)    ├─> a part that no worker can read: copied here, by the exporter
//!                                                └─> workers of ours that died: replaced
//! ```
//! A round ends when no part is left. Until then it keeps the snapshot, and its locks, on the source.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use pgstream_postgres::{Client, TableName};
use tokio::task::JoinSet;

use super::{
    Error, WorkerCommand,
    children::Children,
    copy::{self, Copied, Unit},
    exporter::Exporter,
    progress::Event,
    publish::{self, Terms},
    rounds::{self, Node, PartId},
    take::{Filler, Reader, Taken, take},
    workers::Run,
};

/// How often the target is asked what is left; less often when the answer takes long.
const LOOK: Duration = Duration::from_millis(250);

/// The share of its time that the asking may take, as one part in so many.
const LOOK_SHARE: u32 = 5;

/// How often the session that holds the snapshot is asked whether it is there.
const EXPORTER: Duration = Duration::from_secs(2);

/// Who copies the rows.
#[derive(Clone, Default)]
pub enum Copiers {
    /// This process, over several sessions.
    #[default]
    Here,
    /// Workers that somebody else starts.
    Elsewhere {
        /// How long nobody may be at work before that is an error.
        wait: Duration,
    },
    /// Workers that are started here, and replaced when they die.
    Children {
        /// How many.
        count: NonZeroUsize,
        /// How they are started.
        command: WorkerCommand,
    },
}

/// Nobody needs to wait for workers that are started here.
const CHILDREN_WAIT: Duration = Duration::from_secs(120);

/// A round on offer. Dropping it ends the snapshot and the workers that were started here.
pub(crate) struct Offer {
    round: i64,
    control: Arc<Client>,
    exporter: Arc<Exporter>,
    units: Vec<Arc<Unit>>,
    open: BTreeSet<PartId>,
    started: HashSet<usize>,
    /// Rows and bytes of finished parts, by unit.
    done: Vec<Copied>,
    children: Option<Children>,
    wait: Duration,
    at_work: Instant,
    asked: Instant,
    next: Instant,
    /// Copies what only the exporter can read.
    reading: JoinSet<Result<(), Error>>,
    /// Whether the target shows how far a COPY is.
    shows_progress: bool,
}

impl Offer {
    /// Offers the units. None when there is nothing to copy.
    pub(crate) async fn publish(
        run: &Run,
        exporter: Exporter,
        units: Vec<Arc<Unit>>,
        before: &HashMap<TableName, HashSet<TableName>>,
    ) -> Result<Option<Self>, Error> {
        let (lanes, context, control) = (&run.lanes, &run.context, run.control.clone());
        let mut session = lanes.copier().await?;
        for unit in units.iter().filter(|unit| unit.parts.len() > 1) {
            copy::clear(context, &session, unit).await?;
        }
        let coordinator: i32 = control
            .query_one("SELECT pg_backend_pid()", &[])
            .await
            .map_err(control.failed("asking for the session's number"))?
            .get(0);
        let terms = Terms {
            node: Node::of(exporter.client()).await?,
            role: context.role.clone(),
            ignore_triggers: run.lanes.ignore_triggers,
        };
        let round =
            publish::publish(&mut session, &context.origin, &context.snapshot, &terms, &units, before, coordinator)
                .await?;
        let open: BTreeSet<PartId> =
            units.iter().enumerate().flat_map(|(at, unit)| (0..unit.parts.len()).map(move |part| (at, part))).collect();
        if open.is_empty() {
            rounds::close(&**control, round).await.map_err(control.failed("closing the round"))?;
            return Ok(None);
        }
        tracing::info!(round, parts = open.len(), tables = units.len(), "the copy is offered to workers");
        let (children, wait) = match &run.copiers {
            Copiers::Children { count, command } => (Some(Children::start(command.clone(), *count)?), CHILDREN_WAIT),
            Copiers::Elsewhere { wait } => (None, *wait),
            Copiers::Here => (None, Duration::MAX),
        };
        let now = Instant::now();
        Ok(Some(Self {
            round,
            control,
            exporter: Arc::new(exporter),
            done: vec![Copied::default(); units.len()],
            units,
            open,
            started: HashSet::new(),
            children,
            wait,
            at_work: now,
            asked: now,
            next: now,
            reading: JoinSet::new(),
            shows_progress: lanes.target_major >= 14,
        }))
    }

    /// How many parts are not finished.
    pub(crate) fn left(&self) -> usize {
        self.open.len()
    }

    /// Waits until something is finished; says what.
    pub(crate) async fn watch(&mut self, run: &Run) -> Result<Vec<(usize, Copied)>, Error> {
        loop {
            tokio::time::sleep_until(self.next.into()).await;
            let begun = Instant::now();
            let (open, locked_out) = rounds::open_parts(&self.control, self.round).await?;
            let gone: Vec<PartId> = self.open.difference(&open).copied().collect();
            let finished = match gone.is_empty() {
                true => Vec::new(),
                false => rounds::finished(&self.control, &run.context.origin, &self.units, &gone).await?,
            };
            if finished.len() != gone.len() {
                return Err(Error::Worker(format!("{} parts vanished", gone.len() - finished.len())));
            }
            self.open = open;
            self.show(run, &finished).await?;
            if self.open.is_empty() {
                let failed = self.control.failed("closing the round");
                rounds::close(&**self.control, self.round).await.map_err(failed)?;
                self.children.take().into_iter().for_each(Children::let_go);
                return Ok(finished);
            }
            self.look_after(run, locked_out, !finished.is_empty()).await?;
            self.next = Instant::now() + LOOK.max(begun.elapsed() * LOOK_SHARE);
            if !finished.is_empty() {
                return Ok(finished);
            }
        }
    }

    /// What is finished and, where the server tells, what is on its way.
    async fn show(&mut self, run: &Run, finished: &[(usize, Copied)]) -> Result<(), Error> {
        for (unit, copied) in finished {
            if let Some(done) = self.done.get_mut(*unit) {
                done.rows += copied.rows;
                done.bytes += copied.bytes;
            }
        }
        let in_flight = match self.shows_progress {
            true => rounds::in_flight(&self.control, &run.context.origin).await?,
            false => HashMap::new(),
        };
        for (at, (unit, done)) in self.units.iter().zip(&self.done).enumerate() {
            let running = in_flight.get(&unit.table.name);
            if (running.is_some() || done.bytes > 0) && self.started.insert(at) {
                run.progress.send(Event::TableStarted(unit.progress.clone()));
            }
            unit.progress.set(done.rows, done.bytes + running.copied().unwrap_or_default());
        }
        Ok(())
    }

    async fn look_after(&mut self, run: &Run, locked_out: bool, moved: bool) -> Result<(), Error> {
        while let Some(read) = self.reading.try_join_next() {
            read.map_err(|error| Error::Worker(error.to_string()))??;
        }
        if locked_out && self.reading.is_empty() {
            self.read_here(run);
        }
        if self.asked.elapsed() >= EXPORTER {
            // While it reads, it is busy: its end is noticed by the one who reads.
            if self.reading.is_empty() && !self.exporter.is_alive().await {
                return Err(Error::SnapshotGone { server: run.lanes.source.to_string() });
            }
            self.asked = Instant::now();
        }
        if let Some(children) = &mut self.children {
            children.tend()?;
        }
        if moved || !self.reading.is_empty() || rounds::workers(&self.control, &run.context.origin).await? > 0 {
            self.at_work = Instant::now();
        }
        if self.at_work.elapsed() > self.wait {
            return Err(Error::NoWorkers { parts: self.open.len(), waited: self.wait });
        }
        Ok(())
    }

    /// Copies the parts of tables that a statement on the source waits to change: the exporter has their locks already.
    fn read_here(&mut self, run: &Run) {
        let (lanes, context) = (run.lanes.clone(), run.context.clone());
        let (exporter, units, round) = (self.exporter.clone(), self.units.clone(), self.round);
        self.reading.spawn(async move {
            let target = lanes.target.connect(&lanes.copy_session).await?;
            let mut filler = Filler::new(target, &context.origin).await?;
            loop {
                let (_one_at_a_time, reader) = exporter.reader().await;
                let reader = Reader::Exporter(reader, &units);
                match take(&context, reader, &mut filler, round, rounds::BEGINNING).await? {
                    Taken::Part(claim, _) => tracing::info!(
                        table = %claim.table, part = claim.part,
                        "read by the coordinator: a statement on the source waits to change this table"
                    ),
                    Taken::LockedOut | Taken::Nothing => return Ok(()),
                }
            }
        });
    }
}
