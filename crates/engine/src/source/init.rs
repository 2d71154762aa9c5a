//! Prepares the source.

use pgstream_config::pattern::TableFilter;
use pgstream_postgres::{Client, Server, Session};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{
    Error, Problem, capture,
    check::{self, Plan, SlotPlan},
    error::list,
    identity, lock, migrate,
    names::Names,
    publication::{self, Outcome},
    report::{Action, Object, Part, Step},
    slot,
    tables::Table,
};

/// What to prepare.
#[derive(Debug, Clone, Default)]
pub struct InitSettings {
    /// Slot name as configured; `None` means `pgstream_<db>_slot`.
    pub slot: Option<String>,
    /// Which tables are followed.
    pub tables: TableFilter,
    /// Everything, or one half.
    pub part: Part,
    /// Let the slot be synchronised to standbys (17 and later).
    pub failover: bool,
}

/// What was prepared.
#[derive(Debug, Clone, Serialize)]
pub struct InitReport {
    /// The source, `host:port/database`.
    pub server: String,
    /// The slot.
    pub slot: String,
    /// The publication.
    pub publication: String,
    /// Where the stream begins; `None` when the slot was not meant.
    pub consistent_point: Option<String>,
    /// What was done, in order.
    pub steps: Vec<Step>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// New tables may come up between listing and publishing, and a second time while those are dealt with.
const PUBLISH_TRIES: usize = 5;

/// Prepares the source: schema, replica identities, publication, slot. Safe to run again at any time, in parallel, and
/// after being interrupted anywhere. `report` is told of each object as it is dealt with.
///
/// # Errors
/// [`Error::Refused`] when something is in the way, before anything was changed; otherwise when the server fails.
pub async fn init(
    server: &Server,
    settings: &InitSettings,
    cancel: &CancellationToken,
    report: impl Fn(&Step) + Send,
) -> Result<InitReport, Error> {
    let names = Names::with_slot(server.dsn().dbname(), settings.slot.as_deref())?;
    let mut client = server.connect(&Session::new("pgstream-aws init")).await?;
    lock::acquire(&client, cancel).await?;
    let plan = check::check(server, &mut client, &names, settings).await?;

    let mut done = InitReport {
        server: server.to_string(),
        slot: names.slot.clone(),
        publication: names.publication.clone(),
        consistent_point: None,
        steps: Vec::new(),
        warnings: Vec::new(),
    };
    let mut say = |steps: Vec<Step>| {
        steps.iter().for_each(&report);
        done.steps.extend(steps);
    };
    if settings.part.migrations() {
        say(migrate::migrate(&mut client, &plan.installed).await?);
        let mut captured = true;
        match capture::ensure(&mut client, server, cancel).await? {
            capture::Outcome::Installed(steps) => say(steps),
            capture::Outcome::NotAllowed => {
                captured = false;
                done.warnings.push(
                    "schema changes are not recorded: this role may not create event triggers (on RDS a member of \
                     rds_superuser may). A changed table will stop the stream; run init again as such a role"
                        .to_owned(),
                );
            }
        }
        capture::follow(&mut client, &names.publication, &settings.tables).await?;
        let publish = Publish { server: done.server.clone(), name: &names.publication, plan: &plan, cancel };
        publish.run(&mut client, &mut say).await?;
        if done.steps.iter().any(|step| step.object == Object::ReplicaIdentity) {
            done.warnings.push(
                "with REPLICA IDENTITY FULL, every update and delete writes the whole old row to WAL: a primary key is \
                 cheaper"
                    .to_owned(),
            );
        }
        let more =
            publication::warnings(&names.publication, &plan.publication, &plan.tables, &settings.tables, captured);
        done.warnings.extend(more);
    }
    if settings.part.slot() {
        let steps = ensure_slot(server, &client, &names.slot, &plan, settings.failover, cancel).await?;
        if steps.iter().any(|step| step.object == Object::Slot && step.action == Action::Created) {
            capture::refresh(&mut client, server, cancel).await?;
        }
        steps.iter().for_each(&report);
        done.steps.extend(steps);
        let fence = slot::fence(&client, &names.slot).await?;
        done.consistent_point = fence.map(|fence| fence.consistent_point.to_string());
        if settings.failover && plan.major < 17 {
            done.warnings
                .push(format!("the slot is not synchronised to standbys: PostgreSQL {} cannot do that", plan.major));
        }
    }
    Ok(done)
}

/// Identities first, then the publication.
struct Publish<'a> {
    server: String,
    name: &'a str,
    plan: &'a Plan,
    cancel: &'a CancellationToken,
}

impl Publish<'_> {
    async fn run(&self, client: &mut Client, say: &mut impl FnMut(Vec<Step>)) -> Result<(), Error> {
        let mut keyless = self.plan.keyless.clone();
        for _ in 0..PUBLISH_TRIES {
            self.give_identities(client, &keyless, say).await?;
            let plan = &self.plan.publication;
            match publication::ensure(client, &self.server, self.name, self.plan.major, plan, self.cancel).await? {
                Outcome::Done(steps) => {
                    say(steps);
                    return Ok(());
                }
                Outcome::Keyless(tables) => keyless = tables,
            }
        }
        let names: Vec<_> = keyless.iter().map(|table| &table.name).collect();
        Err(Error::UnstableSchema { server: self.server.clone(), tables: list(&names) })
    }

    async fn give_identities(
        &self,
        client: &mut Client,
        tables: &[Table],
        say: &mut impl FnMut(Vec<Step>),
    ) -> Result<(), Error> {
        for table in tables {
            let step = identity::set_full(client, &self.server, table, self.cancel).await?;
            say(step.into_iter().collect());
        }
        Ok(())
    }
}

async fn ensure_slot(
    server: &Server,
    client: &Client,
    name: &str,
    plan: &Plan,
    failover: bool,
    cancel: &CancellationToken,
) -> Result<Vec<Step>, Error> {
    let step = |action, object| Step::new(action, object, name);
    let slot = match plan.slot {
        SlotPlan::Keep => {
            return Ok(vec![step(Action::Kept, Object::Slot), step(Action::Kept, Object::SlotRecord)]);
        }
        SlotPlan::Create => {
            slot::write_intent(client, name, &plan.system_identifier, false).await?;
            slot::create(server, client, name, plan.major, failover, cancel).await?;
            step(Action::Created, Object::Slot).detail(format!("plugin {}", slot::PLUGIN))
        }
        SlotPlan::Record => step(Action::Kept, Object::Slot),
        SlotPlan::Adopt => {
            slot::write_intent(client, name, &plan.system_identifier, true).await?;
            step(Action::Kept, Object::Slot).detail("it was there before: destroy will leave it")
        }
    };
    let Some(fence) = slot::complete_record(client, name).await? else {
        let problem = Problem::new(
            "source::slot_gone",
            format!("slot {name} was dropped by somebody else while it was being recorded"),
            "run `pgstream-aws init` again",
        );
        return Err(Error::Refused { server: server.to_string(), problems: vec![problem] });
    };
    let begins = format!("the stream begins at {}", fence.consistent_point);
    Ok(vec![slot, step(Action::Created, Object::SlotRecord).detail(begins)])
}
