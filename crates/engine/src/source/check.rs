//! Everything that must hold before `init` writes anything.
//!
//! All problems come at once: an operator who must ask somebody else for each right asks once.

use std::collections::BTreeSet;

use pgstream_postgres::{Client, Server, Session};

use super::{
    Error, Problem,
    error::list,
    init::InitSettings,
    migrate::{self, Installed},
    names::Names,
    publication,
    slot::{self, PLUGIN, Record, SlotState},
    status::START_OVER,
    tables::{self, Table, Tables},
};

/// Server versions that are tested.
const OLDEST: u32 = 13;
const NEWEST: u32 = 18;

/// What was found, and what follows from it.
pub(crate) struct Plan {
    pub(crate) major: u32,
    pub(crate) installed: Installed,
    pub(crate) tables: Tables,
    pub(crate) publication: publication::Plan,
    /// Tables that need an identity before they are published.
    pub(crate) keyless: Vec<Table>,
    pub(crate) slot: SlotPlan,
    /// Empty when the slot is not meant.
    pub(crate) system_identifier: String,
}

/// What to do about the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SlotPlan {
    /// Nothing: it is there and on record.
    Keep,
    /// Create it and record it.
    Create,
    /// It is there; finish its record.
    Record,
    /// It was there before us; put it on record as such.
    Adopt,
}

/// Server-wide facts, in one round trip.
struct Facts {
    role: String,
    database: String,
    in_recovery: bool,
    wal_level: String,
    /// REPLICATION is a membership here.
    rds: bool,
    /// `rds.logical_replication`, where there is such a thing.
    rds_logical: Option<String>,
    /// Roles whose membership would be all rights on the server: nobody is advised to grant them.
    too_mighty: Vec<String>,
    slots_used: i64,
    slots_max: i64,
    may_create: bool,
    /// Whether rows can be written to these tables; true where they are yet to be made by this role.
    may_record_slots: bool,
    may_record_identities: bool,
    system_identifier: Option<String>,
}

/// Looks at everything. Fails with [`Error::Refused`] when something is in the way.
pub(crate) async fn check(
    server: &Server,
    client: &mut Client,
    names: &Names,
    settings: &InitSettings,
) -> Result<Plan, Error> {
    let mut problems = Vec::new();
    let major = client.major_version().await?;
    if !(OLDEST..=NEWEST).contains(&major) {
        problems.push(Problem::new(
            "source::version",
            format!("PostgreSQL {major} is not supported"),
            format!("use a server of version {OLDEST} to {NEWEST}"),
        ));
        if major < OLDEST {
            return Err(refused(server, problems));
        }
    }
    let mut facts = facts(client).await?;
    if facts.in_recovery {
        // Nothing can be tried on a server that cannot write, and the primary may have none of its problems.
        problems.push(Problem::new(
            "source::in_recovery",
            "the server is a standby (in recovery)",
            "connect to the primary: on Aurora the cluster's writer endpoint, not a `-ro-` or replica endpoint",
        ));
        return Err(refused(server, problems));
    }
    let installed = migrate::installed(client, server).await?;
    let tables = tables::read(&**client).await.map_err(client.failed("listing tables"))?;
    let publication = publication::Plan::make(client, &names.publication, &tables, &settings.tables).await?;
    let published_before = matches!(publication, publication::Plan::Update { .. });
    let keyless: Vec<Table> =
        publication.published(&tables).into_iter().filter(|table| table.lacks_identity()).cloned().collect();

    if settings.part.migrations() {
        schema_problems(&facts, &installed, published_before, &mut problems);
        ownership_problems(&facts, &publication, &keyless, &mut problems);
    } else if !installed.is_current() || !published_before {
        problems.push(Problem::new(
            "source::not_migrated",
            "schema pgstream or the publication is missing or of an older version",
            "run `pgstream-aws init --migrations-only` first, or `pgstream-aws init` for everything",
        ));
    }
    let mut slot = SlotPlan::Keep;
    if settings.part.slot() {
        wal_level_problems(&facts, &mut problems);
        match probe(server, &facts).await {
            Ok(system) => facts.system_identifier = Some(system),
            Err(problem) => problems.push(*problem),
        }
        let found = slot::read(client, &names.slot).await?;
        let record = slot::record(client, &names.slot).await?;
        let considered = Slot { name: &names.slot, found, record, published_before };
        match considered.plan(&facts) {
            Ok(plan) => slot = plan,
            Err(problem) => problems.push(*problem),
        }
        if slot != SlotPlan::Keep && !facts.may_record_slots {
            problems.push(record_problem(&facts, "replication_slots"));
        }
        if slot == SlotPlan::Create && facts.slots_used >= facts.slots_max {
            problems.push(Problem::new(
                "source::no_free_slot",
                format!("all {} replication slots are in use", facts.slots_max),
                format!(
                    "ALTER SYSTEM SET max_replication_slots = {}; then restart (RDS: in the parameter group), or drop a slot \
                     that nobody needs",
                    facts.slots_max + 5
                ),
            ));
        }
    }
    if !problems.is_empty() {
        return Err(refused(server, problems));
    }
    let system_identifier = facts.system_identifier.unwrap_or_default();
    Ok(Plan { major, installed, tables, publication, keyless, slot, system_identifier })
}

/// What `init` would refuse, without anything being written. Empty when it would go on.
///
/// # Errors
/// When the server cannot be reached or asked.
pub async fn preflight(server: &Server, settings: &InitSettings) -> Result<Vec<Problem>, Error> {
    let names = Names::with_slot(server.dsn().dbname(), settings.slot.as_deref())?;
    let mut client = server.connect(&Session::new("pgstream-aws check")).await?;
    match check(server, &mut client, &names, settings).await {
        Ok(_) => Ok(Vec::new()),
        Err(Error::Refused { problems, .. }) => Ok(problems),
        Err(error) => Err(error),
    }
}

fn refused(server: &Server, problems: Vec<Problem>) -> Error {
    Error::Refused { server: server.to_string(), problems }
}

/// `SHOW rds.logical_replication` works on any server once somebody has SET it: only `pg_settings` tells.
async fn facts(client: &Client) -> Result<Facts, Error> {
    let row = client
        .query_one(
            "SELECT current_user::text, current_database()::text, pg_is_in_recovery(),
                    (SELECT setting FROM pg_settings WHERE name = 'wal_level'),
                    (SELECT setting FROM pg_settings WHERE name = 'rds.logical_replication' AND category <> 'Customized Options'),
                    (SELECT count(*) FROM pg_replication_slots),
                    current_setting('max_replication_slots')::int8,
                    has_database_privilege(current_database(), 'CREATE'),
                    coalesce((SELECT bool_and(has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'UPDATE'))
                              FILTER (WHERE relname = 'replication_slots')
                              FROM pg_class c WHERE relnamespace = to_regnamespace('pgstream')), true),
                    coalesce((SELECT bool_and(has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'UPDATE'))
                              FILTER (WHERE relname = 'replica_identities')
                              FROM pg_class c WHERE relnamespace = to_regnamespace('pgstream')), true),
                    to_regrole('rds_replication') IS NOT NULL,
                    (SELECT coalesce(array_agg(rolname::text), '{}') FROM pg_roles
                     WHERE rolsuper OR rolname IN ('rds_superuser', 'rdsadmin'))",
            &[],
        )
        .await
        .map_err(client.failed("reading the server's settings"))?;
    Ok(Facts {
        role: row.get(0),
        database: row.get(1),
        in_recovery: row.get(2),
        wal_level: row.get(3),
        rds_logical: row.get(4),
        slots_used: row.get(5),
        slots_max: row.get(6),
        may_create: row.get(7),
        may_record_slots: row.get(8),
        may_record_identities: row.get(9),
        rds: row.get(10),
        too_mighty: row.get(11),
        system_identifier: None,
    })
}

/// Whether the role may replicate cannot be read anywhere: on RDS `rolreplication` is false for roles that may.
async fn probe(server: &Server, facts: &Facts) -> Result<String, Box<Problem>> {
    let identify = async { server.replicate().await?.identify_system().await };
    identify.await.map(|identity| identity.system_identifier).map_err(|error| {
        let role = pgstream_postgres::quote_ident(&facts.role);
        let fix = if !error.is_permission_denied() {
            // A login that is refused, a pooler, no WAL sender: granting more to the role mends none of them.
            let help = miette::Diagnostic::help(&error).map(|help| help.to_string());
            match (help, error.sqlstate().is_some_and(|state| state.starts_with("28"))) {
                (Some(help), false) => help,
                (help, _) => format!(
                    "a pg_hba.conf line that lets {role} in for `replication`{}",
                    help.map(|help| format!(". For this error: {help}")).unwrap_or_default()
                ),
            }
        } else if facts.rds {
            format!("GRANT rds_replication TO {role};")
        } else {
            format!("ALTER ROLE {role} REPLICATION;")
        };
        Box::new(Problem::new(
            "source::replication_privilege",
            format!("no replication connection can be opened: {error}"),
            fix,
        ))
    })
}

fn wal_level_problems(facts: &Facts, problems: &mut Vec<Problem>) {
    if facts.wal_level == "logical" {
        return;
    }
    let fix = match facts.rds_logical.as_deref() {
        Some("on" | "1" | "true") => {
            "rds.logical_replication is set but not in effect: reboot the instance (on Aurora: the writer)"
        }
        Some(_) => {
            "set rds.logical_replication = 1 in a custom parameter group (on Aurora: the cluster parameter group), attach it \
             and reboot the writer"
        }
        // Parameters of RDS cannot be set by SQL, whatever its catalog shows.
        None if facts.rds => {
            "set rds.logical_replication = 1 in a custom parameter group and reboot: `pgstream-aws provision apply` does both"
        }
        None => "ALTER SYSTEM SET wal_level = logical; then restart the server",
    };
    problems.push(Problem::new("source::wal_level", format!("wal_level is `{}`, not `logical`", facts.wal_level), fix));
}

fn schema_problems(facts: &Facts, installed: &Installed, published: bool, problems: &mut Vec<Problem>) {
    if !installed.foreign.is_empty() {
        problems.push(Problem::new(
            "source::schema_of_another_program",
            format!("schema pgstream holds {}, which this program did not make", list(&installed.foreign)),
            "remove them with the program that made them (`pgstream destroy`), or rename that schema",
        ));
    } else if installed.schema && !installed.is_current() && !installed.may_create {
        problems.push(Problem::new(
            "source::schema_privilege",
            format!("role {} may not create tables in schema pgstream", facts.role),
            format!(
                "run init as {}, or `GRANT CREATE ON SCHEMA pgstream TO {}`",
                installed.owner.as_deref().unwrap_or("its owner"),
                pgstream_postgres::quote_ident(&facts.role)
            ),
        ));
    }
    if !facts.may_create && (!installed.schema || !published) {
        problems.push(Problem::new(
            "source::create_privilege",
            format!("role {} may not create schemas and publications in database {}", facts.role, facts.database),
            format!(
                "GRANT CREATE ON DATABASE {} TO {};",
                pgstream_postgres::quote_ident(&facts.database),
                pgstream_postgres::quote_ident(&facts.role)
            ),
        ));
    }
}

fn ownership_problems(facts: &Facts, plan: &publication::Plan, keyless: &[Table], problems: &mut Vec<Problem>) {
    let foreign: Vec<&Table> = keyless.iter().filter(|table| !table.owned).collect();
    if !foreign.is_empty() {
        let sql: Vec<String> =
            foreign.iter().map(|table| format!("ALTER TABLE {} REPLICA IDENTITY FULL;", table.name)).collect();
        problems.push(Problem::new(
            "source::replica_identity",
            format!(
                "these tables have no usable replica identity, and role {} does not own them: {}. Published as they are, \
                 UPDATE and DELETE on them would fail for everybody",
                facts.role,
                named(&foreign)
            ),
            format!(
                "{} -- or, as the owner of each: {} Or leave the tables out with `modifiers.filter.exclude_tables`",
                memberships(&foreign, facts),
                sql.join(" ")
            ),
        ));
    }
    if !keyless.is_empty() && !facts.may_record_identities {
        problems.push(record_problem(facts, "replica_identities"));
    }
    let foreign: Vec<&Table> = plan.named().iter().filter(|table| !table.owned).collect();
    if !foreign.is_empty() {
        problems.push(Problem::new(
            "source::publish_privilege",
            format!("only their owner can publish these tables, and role {} is not: {}", facts.role, named(&foreign)),
            format!("{} -- or run init as a role that may publish all tables", memberships(&foreign, facts)),
        ));
    }
    if let publication::Plan::Update { found, add } = plan
        && !found.owned
        && (!add.is_empty() || !found.is_standard())
    {
        problems.push(Problem::new(
            "source::publication_owner",
            format!("publication {} must be changed, and belongs to {}", found.name, found.owner),
            format!(
                "run init as {}, or `ALTER PUBLICATION {} OWNER TO {};`",
                found.owner,
                pgstream_postgres::quote_ident(&found.name),
                pgstream_postgres::quote_ident(&facts.role)
            ),
        ));
    }
}

/// Tables with their owners.
fn named(tables: &[&Table]) -> String {
    list(&tables.iter().map(|table| format!("{} (owner {})", table.name, table.owner)).collect::<Vec<_>>())
}

/// The statements that let the role act for the owners of these tables, and what is left where that would be too much.
fn memberships(tables: &[&Table], facts: &Facts) -> String {
    let owners: BTreeSet<&str> = tables.iter().map(|table| table.owner.as_str()).collect();
    let role = pgstream_postgres::quote_ident(&facts.role);
    let (mighty, plain): (Vec<&str>, Vec<&str>) =
        owners.into_iter().partition(|owner| facts.too_mighty.iter().any(|mighty| mighty == owner));
    let grants = plain.iter().map(|owner| format!("GRANT {} TO {role};", pgstream_postgres::quote_ident(owner)));
    let left = mighty.iter().map(|owner| {
        format!("run init as {owner}, or give its tables to another owner: membership in it would be all rights on the server")
    });
    grants.chain(left).collect::<Vec<_>>().join(" ")
}

/// Users hand some of our tables to another role; it needs these two as well once it has something to record.
fn record_problem(facts: &Facts, table: &str) -> Problem {
    Problem::new(
        "source::record_privilege",
        format!("role {} may not write to pgstream.{table}", facts.role),
        format!("as its owner: ALTER TABLE pgstream.{table} OWNER TO {};", pgstream_postgres::quote_ident(&facts.role)),
    )
}

/// A slot as found and as recorded.
struct Slot<'a> {
    name: &'a str,
    found: Option<SlotState>,
    record: Option<Record>,
    published_before: bool,
}

impl Slot<'_> {
    fn plan(&self, facts: &Facts) -> Result<SlotPlan, Box<Problem>> {
        if let (Some(record), Some(system)) = (&self.record, &facts.system_identifier)
            && record.system_identifier != *system
        {
            return Err(Box::new(Problem::new(
                "source::other_system",
                format!(
                    "slot {} was created on system {}, but this server is system {system}: a restored or copied \
                         database, another history",
                    self.name, record.system_identifier
                ),
                START_OVER,
            )));
        }
        match (&self.found, &self.record) {
            (Some(found), record) => {
                if let Some(problem) = unusable(found, facts) {
                    return Err(Box::new(problem));
                }
                if !self.published_before {
                    return Err(Box::new(Problem::new(
                        "source::slot_before_publication",
                        format!(
                            "slot {} exists but its publication does not: the changes it keeps were not published",
                            self.name
                        ),
                        START_OVER,
                    )));
                }
                Ok(match record {
                    Some(Record { fence: Some(_), .. }) => SlotPlan::Keep,
                    Some(Record { fence: None, .. }) => SlotPlan::Record,
                    None => SlotPlan::Adopt,
                })
            }
            (None, Some(Record { fence: Some(_), created_at, .. })) => Err(Box::new(Problem::new(
                "source::slot_gone",
                format!(
                    "slot {} was created at {created_at} and is gone (dropped, or not carried over by a failover): changes \
                     since it was last read are not kept anywhere",
                    self.name
                ),
                START_OVER,
            ))),
            (None, _) => Ok(SlotPlan::Create),
        }
    }
}

/// Why a slot of that name cannot be ours.
fn unusable(found: &SlotState, facts: &Facts) -> Option<Problem> {
    let other = "choose another name with `--replication-slot`, or drop that slot if nobody needs it: `SELECT \
                 pg_drop_replication_slot(…)`";
    let name = &found.name;
    let (code, message, fix) = match (&found.plugin, &found.database) {
        (None, _) => ("source::slot_physical", format!("slot {name} is a physical slot"), other),
        (Some(plugin), _) if plugin != PLUGIN => {
            ("source::slot_plugin", format!("slot {name} is of plugin {plugin}, not {PLUGIN}"), other)
        }
        (_, Some(database)) if *database != facts.database => {
            ("source::slot_database", format!("slot {name} belongs to database {database}"), other)
        }
        _ if found.temporary => ("source::slot_temporary", format!("slot {name} is temporary"), other),
        _ if found.two_phase => {
            ("source::slot_two_phase", format!("slot {name} decodes prepared transactions in two phases"), other)
        }
        _ if found.is_lost() => {
            let reason = found.invalidation_reason.as_deref().unwrap_or("wal_removed");
            let message =
                format!("slot {name} is lost ({reason}): the server no longer has the changes it should hand out");
            ("source::slot_lost", message, START_OVER)
        }
        _ => return None,
    };
    Some(Problem::new(code, message, fix))
}
