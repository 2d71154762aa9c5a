//! Removes from the source what `init` made, and nothing else.
//!
//! ```text
//!  plan() ── shown, confirmed ──> destroy(): planned again under the lock; only the very same plan is carried out
//!  slot -> its record -> publication -> replica identities -> tables -> schema
//! ```
//! An identity goes back only when its table is no longer published: until then UPDATE and DELETE need it.

use std::time::Duration;

use pgstream_postgres::{Client, Error as ServerError, Server, Session, TableName, quote_ident, quote_literal};
use tokio_postgres::error::SqlState;
use tokio_util::sync::CancellationToken;

use super::{
    Error, Problem, SCHEMA, capture,
    error::list,
    identity::{self, Back, Changed},
    lock, migrate,
    names::Names,
    publication,
    report::{Action, Object, Part, Step},
    slot,
};

/// Tries to drop a slot whose reader connects again.
const ABANDON_TRIES: usize = 10;
const ABANDON_WAIT: Duration = Duration::from_millis(200);

/// What to remove.
#[derive(Debug, Clone, Default)]
pub struct DestroySettings {
    /// Slot name as configured; `None` means `pgstream_<db>_slot`.
    pub slot: Option<String>,
    /// Everything, or one half.
    pub part: Part,
}

/// What would be removed, restored, and left alone.
#[derive(Debug, Clone)]
pub struct Plan {
    names: Names,
    tasks: Vec<Task>,
}

impl Plan {
    /// What will have been done, in order.
    pub fn steps(&self) -> impl Iterator<Item = Step> {
        self.tasks.iter().map(Task::step)
    }

    /// Whether anything would change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tasks.iter().all(|task| matches!(task, Task::Leave(_)))
    }
}

/// One thing to do.
#[derive(Debug, Clone)]
enum Task {
    StopCapture(String),
    DropSlot(String),
    ForgetSlot(String),
    DropPublication(String),
    PutBack(Changed),
    DropRelations { relations: Vec<String>, schema: bool },
    Leave(Step),
}

impl Task {
    fn step(&self) -> Step {
        match self {
            Self::DropSlot(name) => Step::new(Action::Removed, Object::Slot, name),
            Self::ForgetSlot(name) => Step::new(Action::Removed, Object::SlotRecord, name),
            Self::StopCapture(name) => Step::new(Action::Removed, Object::EventTrigger, name),
            Self::DropPublication(name) => Step::new(Action::Removed, Object::Publication, name),
            Self::PutBack(changed) => put_back_step(changed),
            Self::DropRelations { relations, schema: true } => {
                Step::new(Action::Removed, Object::Schema, SCHEMA).detail(format!("with {}", relations.join(", ")))
            }
            Self::DropRelations { relations, schema: false } => {
                Step::new(Action::Removed, Object::Migration, relations.join(", "))
            }
            Self::Leave(step) => step.clone(),
        }
    }
}

fn put_back_step(changed: &Changed) -> Step {
    let step = |action| Step::new(action, Object::ReplicaIdentity, changed.name.to_string());
    match &changed.back {
        Back::Restore(clause) => step(Action::Restored).detail(clause.clone()),
        Back::Dropped => step(Action::Left).detail("the table is gone"),
        Back::ChangedSince => step(Action::Left).detail("changed since init"),
    }
}

/// Reads what is there and decides what would be removed. Changes nothing.
///
/// # Errors
/// [`Error::Refused`] when a right is missing or something still needs what would be removed, [`Error::SlotActive`]
/// when the slot is being read.
pub async fn plan(server: &Server, settings: &DestroySettings) -> Result<Plan, Error> {
    let client = server.connect(&Session::new("pgstream-aws destroy")).await?;
    make_plan(server, &client, settings).await
}

/// Carries a plan out; `report` is told of each object as it is dealt with. Safe to run again after being interrupted.
///
/// # Errors
/// [`Error::PlanChanged`] when the source is not as it was when the plan was made; otherwise when the server fails.
pub async fn destroy(
    server: &Server,
    settings: &DestroySettings,
    plan: &Plan,
    cancel: &CancellationToken,
    report: impl Fn(&Step) + Send,
) -> Result<Vec<Step>, Error> {
    let mut client = server.connect(&Session::new("pgstream-aws destroy")).await?;
    lock::acquire(&client, cancel).await?;
    let now = make_plan(server, &client, settings).await?;
    if !now.steps().eq(plan.steps()) {
        return Err(Error::PlanChanged { server: server.to_string() });
    }
    let mut steps = Vec::new();
    for task in &now.tasks {
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        run(server, &mut client, &now.names, task, cancel).await?;
        let step = task.step();
        report(&step);
        steps.push(step);
    }
    Ok(steps)
}

async fn run(
    server: &Server,
    client: &mut Client,
    names: &Names,
    task: &Task,
    cancel: &CancellationToken,
) -> Result<(), Error> {
    match task {
        Task::DropSlot(name) => drop_slot(server, client, name).await,
        Task::ForgetSlot(name) => {
            client
                .execute("DELETE FROM pgstream.replication_slots WHERE slot_name = $1", &[name])
                .await
                .map_err(client.failed("removing the record of the slot"))?;
            Ok(())
        }
        Task::StopCapture(name) => {
            let drop = format!("DROP EVENT TRIGGER IF EXISTS {}", quote_ident(name));
            Ok(client.batch_execute(&drop).await.map_err(client.failed("dropping an event trigger"))?)
        }
        Task::DropPublication(_) => Ok(publication::drop(client, &names.publication).await?),
        Task::PutBack(changed) => identity::restore(client, &server.to_string(), changed, cancel).await,
        Task::DropRelations { relations, schema } => drop_relations(client, relations, *schema).await,
        Task::Leave(_) => Ok(()),
    }
}

/// Drops a slot, whoever reads it. Returns whether it was there.
///
/// # Errors
/// When the role may not, or the reader comes back faster than it can be ended.
pub async fn abandon(server: &Server, name: &str) -> Result<bool, Error> {
    let client = server.connect(&Session::new("pgstream-aws safety valve")).await?;
    for _ in 0..ABANDON_TRIES {
        let Some(state) = slot::read(&client, name).await? else { return Ok(false) };
        match drop_slot(server, &client, name).await {
            Err(Error::SlotActive { .. }) => {}
            other => return other.map(|()| true),
        }
        if let Some(pid) = state.active_pid {
            let ended = client.execute("SELECT pg_terminate_backend($1)", &[&pid]).await;
            ended.map_err(client.failed("ending the session that reads the slot"))?;
        }
        tokio::time::sleep(ABANDON_WAIT).await;
    }
    drop_slot(server, &client, name).await.map(|()| true)
}

async fn drop_slot(server: &Server, client: &Client, name: &str) -> Result<(), Error> {
    match client.execute("SELECT FROM pg_drop_replication_slot($1::text)", &[&name]).await {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_OBJECT) => Ok(()),
        Err(error) if error.code() == Some(&SqlState::OBJECT_IN_USE) => {
            let pid = slot::read(client, name).await?.and_then(|state| state.active_pid).unwrap_or_default();
            Err(Error::SlotActive { server: server.to_string(), slot: name.to_owned(), pid })
        }
        Err(error) => Err(client.failed("dropping the replication slot")(error).into()),
    }
}

/// One transaction, without CASCADE: what others built on our tables is theirs.
async fn drop_relations(client: &mut Client, relations: &[String], schema: bool) -> Result<(), Error> {
    let failed = client.failed("dropping the tables of schema pgstream");
    let run = async {
        let tx = client.transaction().await?;
        lock::limit_wait(&tx).await?;
        capture::drop(&tx).await?;
        let (sequences, tables): (Vec<&String>, Vec<&String>) =
            relations.iter().partition(|name| *name == "xid_serial");
        for (kind, names) in [("TABLE", tables), ("SEQUENCE", sequences)] {
            for name in names {
                tx.batch_execute(&format!("DROP {kind} IF EXISTS {}", TableName::new(SCHEMA, name.as_str()))).await?;
            }
        }
        if schema {
            tx.batch_execute(&format!("DROP SCHEMA IF EXISTS {}", quote_ident(SCHEMA))).await?;
        }
        tx.commit().await
    };
    Ok(run.await.map_err(failed)?)
}

async fn make_plan(server: &Server, client: &Client, settings: &DestroySettings) -> Result<Plan, Error> {
    let names = Names::with_slot(server.dsn().dbname(), settings.slot.as_deref())?;
    let mut planner = Planner { server, client, names: &names, tasks: Vec::new(), problems: Vec::new() };
    let facts = planner.facts().await?;
    if facts.in_recovery {
        planner.problems.push(Problem::new(
            "source::in_recovery",
            "the server is a standby (in recovery)",
            "connect to the primary",
        ));
    } else {
        let shared_stays = settings.part.migrations() && planner.shared_is_needed(&facts, settings.part).await?;
        let schema_goes = settings.part.migrations() && !shared_stays;
        if settings.part.slot() {
            planner.slot(&facts, schema_goes).await?;
        }
        if schema_goes {
            // What is put back after this is no schema change for the target.
            planner.tasks.extend(capture::installed(client).await?.into_iter().map(Task::StopCapture));
            planner.publication(&facts).await?;
            planner.schema(&facts).await?;
        }
    }
    let Planner { tasks, problems, .. } = planner;
    if problems.is_empty() {
        Ok(Plan { names, tasks })
    } else {
        Err(Error::Refused { server: server.to_string(), problems })
    }
}

struct Planner<'a> {
    server: &'a Server,
    client: &'a Client,
    names: &'a Names,
    tasks: Vec<Task>,
    problems: Vec<Problem>,
}

struct Facts {
    in_recovery: bool,
    role: String,
    /// Recorded slots that exist.
    live: Vec<String>,
}

impl Planner<'_> {
    async fn facts(&self) -> Result<Facts, Error> {
        let client = self.client;
        // A role that may not look into the schema is told so, instead of failing on the first table.
        migrate::installed(client, self.server).await?;
        let live = if slot::has_records(client).await? {
            client
                .query(
                    "SELECT r.slot_name FROM pgstream.replication_slots r
                     JOIN pg_replication_slots s ON s.slot_name = r.slot_name AND s.database = current_database()
                     ORDER BY 1",
                    &[],
                )
                .await
                .map_err(client.failed("reading the records of slots"))?
                .iter()
                .map(|row| row.get(0))
                .collect()
        } else {
            Vec::new()
        };
        let row = client
            .query_one("SELECT pg_is_in_recovery(), current_user::text", &[])
            .await
            .map_err(client.failed("reading the server's state"))?;
        Ok(Facts { in_recovery: row.get(0), role: row.get(1), live })
    }

    fn leave(&mut self, object: Object, name: &str, why: impl Into<String>) {
        self.tasks.push(Task::Leave(Step::new(Action::Left, object, name).detail(why)));
    }

    /// Schema and publication serve every slot of the database.
    async fn shared_is_needed(&mut self, facts: &Facts, part: Part) -> Result<bool, Error> {
        if part == Part::Migrations && facts.live.contains(&self.names.slot) {
            self.problems.push(Problem::new(
                "source::still_in_use",
                format!("slot {} still needs the publication and schema pgstream", self.names.slot),
                "run `pgstream-aws destroy` for everything, or `pgstream-aws destroy --slot-only` first",
            ));
            return Ok(false);
        }
        let others: Vec<&String> = facts.live.iter().filter(|name| **name != self.names.slot).collect();
        if others.is_empty() {
            return Ok(false);
        }
        let why = format!("still needed by slot {}", list(&others));
        if publication::describe(self.client, &self.names.publication).await?.is_some() {
            self.leave(Object::Publication, &self.names.publication, why.clone());
        }
        self.leave(Object::Schema, SCHEMA, why);
        Ok(true)
    }

    async fn slot(&mut self, facts: &Facts, schema_goes: bool) -> Result<(), Error> {
        let name = &self.names.slot;
        let record = slot::record(self.client, name).await?;
        if let Some(found) = slot::read(self.client, name).await? {
            let by_hand = format!("to drop it: SELECT pg_drop_replication_slot({})", quote_literal(name));
            match &record {
                None => self.leave(Object::Slot, name, format!("not made by init; {by_hand}")),
                Some(record) if record.adopted => {
                    self.leave(Object::Slot, name, format!("it was there before init; {by_hand}"));
                }
                Some(_) if !facts.live.contains(name) => {
                    self.leave(Object::Slot, name, "it belongs to another database, or is a physical slot");
                }
                Some(_) => {
                    if let Some(pid) = found.active_pid {
                        return Err(Error::SlotActive { server: self.server.to_string(), slot: name.clone(), pid });
                    }
                    self.tasks.push(Task::DropSlot(name.clone()));
                }
            }
        }
        // With the schema goes the record: the role may have been given the schema but not that table.
        if record.is_some() && !schema_goes {
            self.tasks.push(Task::ForgetSlot(name.clone()));
        }
        Ok(())
    }

    async fn publication(&mut self, facts: &Facts) -> Result<(), Error> {
        let name = &self.names.publication;
        match publication::describe(self.client, name).await? {
            None => {}
            Some(found) if !found.ours => {
                let by_hand = format!("not made by init; to drop it: DROP PUBLICATION {}", quote_ident(name));
                self.leave(Object::Publication, name, by_hand);
            }
            Some(found) => {
                if !found.owned {
                    self.problems.push(Problem::new(
                        "source::publication_owner",
                        format!("publication {name} belongs to {}, and only its owner can drop it", found.owner),
                        format!(
                            "run destroy as {}, or `ALTER PUBLICATION {} OWNER TO {};`",
                            found.owner,
                            quote_ident(name),
                            quote_ident(&facts.role)
                        ),
                    ));
                }
                self.tasks.push(Task::DropPublication(name.clone()));
            }
        }
        self.identities(facts).await
    }

    async fn identities(&mut self, facts: &Facts) -> Result<(), Error> {
        let dropped = self.tasks.iter().any(|task| matches!(task, Task::DropPublication(_)));
        let still_published = published_elsewhere(self.client, dropped.then_some(&self.names.publication)).await?;
        let mut foreign = Vec::new();
        for changed in identity::changed(self.client).await? {
            let Back::Restore(clause) = &changed.back else {
                self.tasks.push(Task::PutBack(changed));
                continue;
            };
            let sql = format!("ALTER TABLE {} REPLICA IDENTITY {clause}", changed.name);
            if let Some((_, publication)) = still_published.iter().find(|(table, _)| *table == changed.name) {
                let why = format!("still published by {}; afterwards: {sql}", quote_ident(publication));
                self.leave(Object::ReplicaIdentity, &changed.name.to_string(), why);
            } else {
                if !changed.owned {
                    foreign.push((changed.name.to_string(), changed.owner.clone().unwrap_or_default(), sql));
                }
                self.tasks.push(Task::PutBack(changed));
            }
        }
        if !foreign.is_empty() {
            let names: Vec<String> = foreign.iter().map(|(name, owner, _)| format!("{name} (owner {owner})")).collect();
            let sql: Vec<String> = foreign.iter().map(|(_, _, sql)| format!("{sql};")).collect();
            self.problems.push(Problem::new(
                "source::replica_identity",
                format!(
                    "role {} cannot put back the replica identity of tables it does not own: {}",
                    facts.role,
                    list(&names)
                ),
                format!("run destroy as their owner, or as the owner of each: {}", sql.join(" ")),
            ));
        }
        Ok(())
    }

    async fn schema(&mut self, facts: &Facts) -> Result<(), Error> {
        let found = contents(self.client).await?;
        let Some(Contents { ours, others, owner, owned }) = found else { return Ok(()) };
        let installed = migrate::installed(self.client, self.server).await?;
        if !installed.foreign.is_empty() {
            self.leave(Object::Schema, SCHEMA, "made by another program");
            return Ok(());
        }
        if !owned {
            self.problems.push(Problem::new(
                "source::schema_privilege",
                format!("schema pgstream belongs to {owner}, and role {} cannot remove it", facts.role),
                format!("run destroy as {owner}, or `ALTER SCHEMA pgstream OWNER TO {};`", quote_ident(&facts.role)),
            ));
        }
        let schema = others.is_empty();
        if !ours.is_empty() || schema {
            self.tasks.push(Task::DropRelations { relations: ours, schema });
        }
        if !schema {
            self.leave(Object::Schema, SCHEMA, format!("it also holds {}", list(&others)));
        }
        Ok(())
    }
}

/// Tables that publications other than this one publish for UPDATE or DELETE.
async fn published_elsewhere(client: &Client, but: Option<&String>) -> Result<Vec<(TableName, String)>, ServerError> {
    let rows = client
        .query(
            "SELECT t.schemaname::text, t.tablename::text, t.pubname::text
             FROM pg_publication_tables t JOIN pg_publication p USING (pubname)
             WHERE (p.pubupdate OR p.pubdelete) AND p.pubname::text IS DISTINCT FROM $1",
            &[&but],
        )
        .await
        .map_err(client.failed("reading other publications"))?;
    Ok(rows.iter().map(|row| (TableName::new(row.get::<_, String>(0), row.get::<_, String>(1)), row.get(2))).collect())
}

/// What is in the schema.
struct Contents {
    ours: Vec<String>,
    others: Vec<String>,
    owner: String,
    owned: bool,
}

async fn contents(client: &Client) -> Result<Option<Contents>, ServerError> {
    let row = client
        .query_opt(
            "SELECT ARRAY(SELECT c.relname::text FROM pg_class c
                          WHERE c.relnamespace = n.oid AND c.relname = ANY ($2::text[])
                          ORDER BY array_position($2::text[], c.relname::text)),
                    ARRAY(SELECT pg_describe_object(d.classid, d.objid, 0) FROM pg_depend d
                          WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid
                            AND NOT EXISTS (SELECT FROM pg_class c WHERE d.classid = 'pg_class'::regclass
                                            AND c.oid = d.objid AND c.relname = ANY ($2::text[]))
                            AND NOT EXISTS (SELECT FROM pg_proc p WHERE d.classid = 'pg_proc'::regclass
                                            AND p.oid = d.objid AND p.proname ~ '^ddl_')
                          ORDER BY 1),
                    nspowner::regrole::text, pg_has_role(nspowner, 'USAGE')
             FROM pg_namespace n WHERE nspname = $1",
            &[&SCHEMA, &migrate::RELATIONS],
        )
        .await
        .map_err(client.failed("reading schema pgstream"))?;
    Ok(row.map(|row| Contents { ours: row.get(0), others: row.get(1), owner: row.get(2), owned: row.get(3) }))
}
