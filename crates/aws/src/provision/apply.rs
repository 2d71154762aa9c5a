//! Carries out plans, one step at a time.
//!
//! ```text
//!        ┌──────────────────────────────────────────────┐
//!        v                                              │
//!  settle ─> inspect ─> plan ─> no step left? ─> done   │
//!                        └─> first step ─> look for it ─┘
//! ```
//!
//! Nothing is remembered between steps but whether there was a reboot: what to do follows from what is there. A killed run
//! is continued by the next one, and a run with nothing to do changes nothing.

use std::time::{Duration, Instant};

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{
    Error,
    error::BlockerError,
    inspect::{Database, State, TAG_CREATOR, TAG_DATABASE, TAG_PREVIOUS},
    model::{ApplyStatus, Inspection, Side},
    plan::{Plan, Step},
    sql::{self, Check},
};
use crate::error::Error as AwsError;

/// First pause between two looks; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// A reboot takes minutes, and describing is throttled per account.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long the API may go on telling what was before a change. What it says then is believed.
const BEHIND: Duration = Duration::from_secs(60);

/// How long the status of a group may stay `pending-reboot` after the reboot.
const BEHIND_REBOOT: Duration = Duration::from_secs(180);

/// How long to look whether a reboot has begun whose answer was lost: a second one would be one too many.
const UNSURE: Duration = Duration::from_secs(20);

/// How long a server that was just rebooted may refuse sessions.
const COMING_UP: Duration = Duration::from_secs(60);

/// Attempts of one step whose outcome is unknown, or for which the database was just then busy.
const ATTEMPTS: u32 = 5;

/// The codes for "not in this state".
const BUSY: &[&str] = &[
    "InvalidDBInstanceState",
    "InvalidDBClusterStateFault",
    "InvalidDBParameterGroupState",
    "DBParameterGroupNotFound",
];

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To where a database should be.
    Forth,
    /// To where it was before.
    Back,
}

/// What may be done, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Restart the database when it is needed.
    pub reboot: bool,
    /// For each wait.
    pub timeout: Duration,
}

/// What happens meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The database is seen in another state.
    State(State),
    /// A call is made.
    Call(String),
    /// A call did not come through and is tried again.
    Again(String),
}

/// How it ended.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// Which database.
    pub id: String,
    /// The calls that changed something.
    pub calls: Vec<String>,
    /// It takes effect with a reboot, which was not allowed.
    pub reboot_pending: bool,
    /// What was tried at the server; empty without a URL.
    pub checks: Vec<Check>,
}

impl Outcome {
    /// Nothing that was tried failed.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.checks.iter().all(|check| check.good)
    }
}

impl Direction {
    fn plan(self, database: &Database, inspection: Inspection) -> Plan {
        match self {
            Self::Forth => Plan::make(inspection, database.choices),
            Self::Back => Plan::back(inspection),
        }
    }
}

impl Database {
    /// Looks, and plans.
    ///
    /// # Errors
    /// There is no such database, or AWS does not answer.
    pub async fn plan(&self, direction: Direction) -> Result<Plan, Error> {
        Ok(direction.plan(self, Box::pin(self.inspect()).await?))
    }

    /// Carries out what [`Self::plan`] says, until nothing is left to do.
    ///
    /// # Errors
    /// Something is in the way, or does not come to an end.
    pub async fn apply(
        &self,
        direction: Direction,
        limits: Limits,
        cancel: &CancellationToken,
        mut report: impl FnMut(Event) + Send,
    ) -> Result<Outcome, Error> {
        let mut run = Run { database: self, limits, cancel, report: &mut report, seen: None, calls: Vec::new() };
        let (mut rebooted, mut pending, mut failed) = (false, false, 0);
        let id = loop {
            let plan = run.settled_plan(direction).await?;
            let id = plan.inspection.id.clone();
            refuse(&plan, run.calls.len())?;
            let reboot_skipped = |step: &&Step| limits.reboot || !matches!(step, Step::Reboot { .. });
            pending = pending || (!limits.reboot && plan.reboots());
            let Some(step) = plan.steps.iter().find(reboot_skipped) else { break id };
            if rebooted && matches!(step, Step::Reboot { .. }) {
                return Err(Error::NoEffect { id, state: what_is_wrong(&plan.inspection) });
            }
            match run.carry_out(step, &plan.inspection).await {
                Ok(()) => {
                    failed = 0;
                    rebooted |= matches!(step, Step::Reboot { .. });
                }
                Err(Error::Aws(error)) if failed < ATTEMPTS && may_be_done(step, &error) => {
                    failed += 1;
                    (run.report)(Event::Again(error.to_string()));
                    run.pause(FIRST_PAUSE * 2_u32.pow(failed), &id).await?;
                }
                Err(error) => return Err(error),
            }
        };
        let calls = std::mem::take(&mut run.calls);
        let checks = match direction {
            Direction::Forth if !pending => run.verified(&id).await?,
            _ => Vec::new(),
        };
        Ok(Outcome { id, calls, reboot_pending: pending, checks })
    }

    /// Tries at the server what replication needs; nothing without a URL.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn try_server(&self, sessions: i64) -> Result<Vec<Check>, Error> {
        let Some(server) = self.server() else { return Ok(Vec::new()) };
        Ok(match self.side() {
            Side::Source => Box::pin(sql::try_source(server)).await?,
            Side::Target => Box::pin(sql::try_target(server, sessions)).await?,
        })
    }
}

fn refuse(plan: &Plan, changes: usize) -> Result<(), Error> {
    match plan.blockers.is_empty() {
        true => Ok(()),
        false => {
            let blockers = plan.blockers.iter().cloned().map(BlockerError).collect();
            Err(Error::Blocked { id: plan.inspection.id.clone(), changes, blockers })
        }
    }
}

fn what_is_wrong(inspection: &Inspection) -> String {
    match &inspection.server {
        Some(facts) if facts.wal_level != "logical" => format!("runs with wal_level={}", facts.wal_level),
        _ => format!("its parameter group is {}", inspection.attached.status),
    }
}

/// A reboot whose answer was lost may have begun; a database that was busy may be free in a moment.
fn may_be_done(step: &Step, error: &AwsError) -> bool {
    let busy = error.refusal().is_some_and(|code| BUSY.contains(&code));
    busy || (matches!(step, Step::Reboot { .. }) && error.is_transient())
}

/// Whether a reboot that was asked for has begun, or is over.
fn began(state: &State) -> bool {
    state.status != "available" || state.apply == ApplyStatus::InSync
}

struct Run<'a, R> {
    database: &'a Database,
    limits: Limits,
    cancel: &'a CancellationToken,
    report: &'a mut R,
    seen: Option<State>,
    calls: Vec<String>,
}

impl<R: FnMut(Event) + Send> Run<'_, R> {
    /// A plan made while nothing is under way.
    async fn settled_plan(&mut self, direction: Direction) -> Result<Plan, Error> {
        loop {
            let plan = self.database.plan(direction).await?;
            let inspection = &plan.inspection;
            let state = State {
                status: inspection.status.clone(),
                group: inspection.attached.name.clone(),
                apply: inspection.attached.status.clone(),
            };
            self.see(&state);
            if !inspection.is_in_transition() {
                return Ok(plan);
            }
            let settled = |state: &State| state.status == "available" && state.apply != ApplyStatus::Applying;
            if !self.wait(inspection, self.limits.timeout, settled).await? && !self.is_stuck(inspection).await? {
                return Err(self.waited(&inspection.id));
            }
        }
    }

    async fn is_stuck(&self, inspection: &Inspection) -> Result<bool, Error> {
        Ok(!self.database.inspect().await?.is_in_transition() && inspection.is_in_transition())
    }

    fn waited(&self, id: &str) -> Error {
        let state =
            self.seen.as_ref().map_or_else(String::new, |seen| format!("{}, its group {}", seen.status, seen.apply));
        Error::Waited { id: id.to_owned(), state, seconds: self.limits.timeout.as_secs() }
    }

    /// Makes the call, and waits until the API knows of it.
    async fn carry_out(&mut self, step: &Step, inspection: &Inspection) -> Result<(), Error> {
        let kind = inspection.topology.group_kind();
        let call = step.call(inspection, kind);
        (self.report)(Event::Call(call.clone()));
        let api = &self.database.api;
        let id = &inspection.id;
        match step {
            Step::CreateGroup { group, family, previous } => {
                let tags = [TAG_CREATOR, (TAG_DATABASE, id), (TAG_PREVIOUS, previous)];
                api.create_group(kind, group, family, &tags).await?;
            }
            Step::CopyGroup { group, previous } => {
                let tags = [TAG_CREATOR, (TAG_DATABASE, id), (TAG_PREVIOUS, previous)];
                api.copy_group(kind, previous, group, &tags).await?;
            }
            Step::SetParameters { group, changes } => {
                api.set_parameters(kind, group, changes).await?;
                let attached = *group == inspection.attached.name;
                if attached && changes.iter().any(|change| change.is_static) {
                    self.wait(inspection, BEHIND, |state| state.apply != ApplyStatus::InSync).await?;
                }
            }
            Step::Attach { group } => {
                api.attach(kind, id, group).await?;
                let known = |state: &State| state.group == *group && state.apply != ApplyStatus::InSync;
                self.wait(inspection, BEHIND, known).await?;
            }
            Step::Reboot { id: rebooted } => {
                if let Err(error) = api.reboot(inspection.topology, rebooted).await {
                    let unsure = error.is_transient() && !matches!(error, AwsError::Throttled { .. });
                    if !unsure || !self.wait(inspection, UNSURE, began).await? {
                        return Err(error.into());
                    }
                }
                self.calls.push(call);
                return self.rebooted(inspection).await;
            }
            Step::DeleteGroup { group } => api.delete_group(kind, group).await?,
        }
        self.calls.push(call);
        Ok(())
    }

    /// The status may read `available` for a while yet, and `pending-reboot` for a while after.
    async fn rebooted(&mut self, inspection: &Inspection) -> Result<(), Error> {
        self.wait(inspection, BEHIND, began).await?;
        if !self.wait(inspection, self.limits.timeout, |state| state.status == "available").await? {
            return Err(self.waited(&inspection.id));
        }
        let over = |state: &State| state.status == "available" && state.apply == ApplyStatus::InSync;
        self.wait(inspection, BEHIND_REBOOT.min(self.limits.timeout), over).await?;
        Ok(())
    }

    /// Looks until `right`. Returns whether it came to that in time.
    async fn wait(
        &mut self,
        inspection: &Inspection,
        most: Duration,
        right: impl Fn(&State) -> bool,
    ) -> Result<bool, Error> {
        let deadline = Instant::now() + most;
        let mut pause = FIRST_PAUSE;
        loop {
            match self.database.state(inspection.topology).await {
                Ok(state) => {
                    self.see(&state);
                    if right(&state) {
                        return Ok(true);
                    }
                }
                // Waiting outlasts a moment without the API.
                Err(Error::Aws(error)) if error.is_transient() => (self.report)(Event::Again(error.to_string())),
                Err(error) => return Err(error),
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            self.pause(pause, &inspection.id).await?;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn see(&mut self, state: &State) {
        if self.seen.as_ref() != Some(state) {
            (self.report)(Event::State(state.clone()));
            self.seen = Some(state.clone());
        }
    }

    async fn pause(&self, pause: Duration, id: &str) -> Result<(), Error> {
        tokio::select! {
            () = self.cancel.cancelled() => Err(Error::Stopped { id: id.to_owned() }),
            () = tokio::time::sleep(pause) => Ok(()),
        }
    }

    /// Tries the server; one that was just rebooted may need a moment.
    async fn verified(&self, id: &str) -> Result<Vec<Check>, Error> {
        let deadline = Instant::now() + COMING_UP;
        loop {
            match self.database.try_server(1).await {
                Err(Error::Server(error))
                    if error.class() == pgstream_postgres::Class::Transient && Instant::now() < deadline =>
                {
                    self.pause(FIRST_PAUSE, id).await?;
                }
                other => return other,
            }
        }
    }
}
