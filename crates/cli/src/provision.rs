//! `pgstream-aws provision`.

use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets::NOTHING};
use console::style;
use indicatif::HumanBytes;
use jiff::Zoned;
use pgstream_aws_api::{
    Aws, Settings,
    provision::{
        self, Check, Choices, Database, Direction, Event, Inspection, Limits, Named, Outcome, Plan, Side, needs,
    },
};
use pgstream_config::{Needs, pipeline::Target};
use pgstream_postgres::Server;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    arguments::{Common, DatabaseArgs, Provision, ProvisionApply, ProvisionSide},
    configure, destroy,
    failure::Failure,
    output,
};

/// Runs one of its commands. Returns whether nothing is wrong.
pub async fn run(arguments: &Provision, common: &Common, cancel: &CancellationToken) -> Result<bool, Failure> {
    match arguments {
        Provision::Plan(arguments) => plan(arguments, common).await,
        Provision::Apply(arguments) => carry_out(arguments, common, Direction::Forth, cancel).await,
        Provision::Rollback(arguments) => carry_out(arguments, common, Direction::Back, cancel).await,
        Provision::Verify(arguments) => verify(arguments, common).await,
    }
}

/// What the user named, with how to reach it.
struct Meant {
    database: Database,
    aws: Aws,
    /// Sessions that the pipeline may open on a target.
    sessions: i64,
}

async fn meant(arguments: &DatabaseArgs, common: &Common) -> Result<Meant, Failure> {
    let side = match arguments.side {
        ProvisionSide::Source => Side::Source,
        ProvisionSide::Target => Side::Target,
    };
    let loaded = match &common.config {
        Some(_) => Some(configure::configuration(common, &common.overrides(), Needs::Source)?),
        None => None,
    };
    let (source, target) = match &loaded {
        Some(loaded) => (Some(configure::source(loaded).await?), configure::target(loaded).await?),
        None => (None, None),
    };
    let configured = match side {
        Side::Source => source.clone(),
        Side::Target => target.clone(),
    };
    let server = match &arguments.postgres_url {
        Some(url) => Some(configure::server_of_flag(url).await?),
        None => configured,
    };
    let named = match (&arguments.database, &server) {
        (Some(text), _) => Named::parse(text)?,
        (None, Some(server)) => of_server(server)?,
        (None, None) => return Err(Failure::NoDatabase),
    };
    let sessions = match loaded.as_ref().and_then(|loaded| loaded.pipeline.target.as_ref()) {
        Some(Target::Postgres(target)) => i64::try_from(target.max_connections.get()).unwrap_or(i64::MAX),
        Some(Target::Stdout) | None => 1,
    };
    let needs = match (side, &source, &server) {
        (Side::Target, Some(source), Some(target)) => Box::pin(needs(source, target, sessions)).await,
        _ => provision::Needs::default(),
    };
    let region = arguments.region.clone().or_else(|| named.region.clone());
    let aws = Box::pin(Aws::load(&Settings { region, profile: arguments.profile.clone() })).await?;
    Box::pin(aws.check_credentials()).await?;
    let choices = Choices { change_shared_group: arguments.change_shared_group };
    let database = Database::new(&aws, named, side).with_server(server).with_needs(needs).with_choices(choices);
    Ok(Meant { database, aws, sessions })
}

fn of_server(server: &Server) -> Result<Named, Failure> {
    let (host, port) = server.dsn().host_names().next().ok_or(Failure::NoDatabase)?;
    Ok(Named::endpoint(host, Some(port))?)
}

async fn plan(arguments: &DatabaseArgs, common: &Common) -> Result<bool, Failure> {
    let meant = Box::pin(meant(arguments, common)).await?;
    let database = meant.database.with_metrics(&meant.aws);
    let plan = Box::pin(database.plan(Direction::Forth)).await?;
    match arguments.json {
        true => output::json(&plan)?,
        false => show(&plan),
    }
    Ok(plan.blockers.is_empty())
}

async fn carry_out(
    arguments: &ProvisionApply,
    common: &Common,
    direction: Direction,
    cancel: &CancellationToken,
) -> Result<bool, Failure> {
    let json = arguments.database.json;
    let meant = Box::pin(meant(&arguments.database, common)).await?;
    let plan = Box::pin(meant.database.plan(direction)).await?;
    if !json {
        show(&plan);
    }
    if !plan.steps.is_empty() && plan.blockers.is_empty() && !arguments.yes && !arguments.no_reboot {
        destroy::confirm()?;
    }
    let limits = Limits { reboot: !arguments.no_reboot, timeout: Duration::from_secs(arguments.timeout) };
    let tell = |event| {
        if !json {
            output::line(told(&event))
        }
    };
    let outcome = Box::pin(meant.database.apply(direction, limits, cancel, tell)).await?;
    match json {
        true => output::json(&outcome)?,
        false => show_outcome(&outcome),
    }
    Ok(outcome.is_good())
}

async fn verify(arguments: &DatabaseArgs, common: &Common) -> Result<bool, Failure> {
    let meant = Box::pin(meant(arguments, common)).await?;
    let database = meant.database.with_metrics(&meant.aws);
    let plan = Box::pin(database.plan(Direction::Forth)).await?;
    let mut checks = Box::pin(database.try_server(meant.sessions)).await?;
    let asked = !checks.is_empty();
    checks.extend(plan.inspection.room());
    let ready = plan.is_ready() && checks.iter().all(|check| check.good);
    if arguments.json {
        output::json(
            &json!({ "id": plan.inspection.id, "ready": ready, "blockers": plan.blockers, "calls": plan.calls, "checks": checks }),
        )?;
        return Ok(ready);
    }
    show_findings(&plan);
    checks.iter().for_each(show_check);
    if let Some(problem) = &plan.inspection.needs.problem {
        output::warning(&format!("source and target could not be compared: {problem}"));
    }
    if !asked {
        output::warning("the server itself was not asked: give -c or --postgres-url");
    }
    match ready {
        true => output::line(style(format!("{} is ready.", plan.inspection.id)).green()),
        false => output::line(style(format!("{} is not ready.", plan.inspection.id)).red()),
    }
    Ok(ready)
}

fn show(plan: &Plan) {
    output::line(what_is(&plan.inspection));
    if !plan.wishes.is_empty() {
        output::line(parameters(plan));
    }
    show_findings(plan);
    plan.notes.iter().for_each(|note| output::warning(note));
}

fn show_findings(plan: &Plan) {
    for blocker in &plan.blockers {
        output::line(format_args!("{} {}", style(format!("[{}]", blocker.code)).red(), blocker.message));
        output::line(format_args!("  {} {}", style("fix:").cyan(), blocker.fix));
    }
    match plan.calls.is_empty() {
        true => output::line("Nothing to change."),
        false => output::line("To do:"),
    }
    for (number, call) in plan.calls.iter().enumerate() {
        output::line(format_args!("  {}. {call}", number + 1));
    }
}

fn what_is(inspection: &Inspection) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    let mut row = |name: &str, value: String| {
        table.add_row([name.to_owned(), value]);
    };
    let list = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    row("database", format!("{} ({}, {})", inspection.id, inspection.topology, inspection.region));
    row("engine", format!("{} {}, family {}", inspection.engine, inspection.version, inspection.family));
    row("class", format!("{}{}", inspection.class, if inspection.multi_az { ", Multi-AZ" } else { "" }));
    row("status", inspection.status.clone());
    if let Some(writer) = &inspection.writer {
        row("writer", writer.clone());
        row("readers", list(&inspection.readers));
    }
    row("read replicas", list(&inspection.replicas));
    row("parameter group", format!("{} ({})", inspection.attached.name, inspection.attached.status));
    row("  also used by", list(&inspection.attached.other_users));
    row("pending changes", list(&inspection.pending));
    row("blue/green", inspection.blue_green.clone().unwrap_or_else(|| "none".to_owned()));
    let room =
        inspection.storage.allocated_gib.map_or_else(|| "grows by itself".to_owned(), |gib| format!("{gib} GiB"));
    let most = inspection.storage.maximum_gib.map(|gib| format!(", grows to {gib} GiB")).unwrap_or_default();
    let free = inspection.storage.free.as_ref();
    let free = free.map(|free| format!(", {} free at {}", HumanBytes(free.bytes), free.at));
    row("storage", format!("{} {room}{most}{}", inspection.storage.kind, free.unwrap_or_default()));
    match (&inspection.server, &inspection.server_problem) {
        (Some(facts), _) => {
            row("data", HumanBytes(facts.database_bytes.max(0).unsigned_abs()).to_string());
            row("wal_level", facts.wal_level.clone());
            row("slots", format!("{} of {} in use", facts.slots_used, facts.slots_max));
            row("WAL senders", format!("{} of {} in use", facts.senders_used, facts.senders_max));
            row("connections", format!("{} of {} in use", facts.connections_used, facts.connections_max));
        }
        (None, Some(problem)) => row("server", problem.clone()),
        (None, None) => row("server", "not asked: give -c or --postgres-url".to_owned()),
    }
    table
}

fn parameters(plan: &Plan) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["parameter", "is", "from", "should be", "why"]);
    for wish in plan.wishes.iter().filter(|wish| wish.parameter != "rds.extensions") {
        let is = wish.is.clone().unwrap_or_else(|| "-".to_owned());
        let should = wish.should.clone().unwrap_or_else(|| "as it is".to_owned());
        table.add_row([wish.parameter.to_owned(), is, wish.source.clone(), should, wish.why.to_owned()]);
    }
    table
}

fn told(event: &Event) -> String {
    let now = Zoned::now().strftime("%H:%M:%S").to_string();
    match event {
        Event::State(provision::State { status, group, apply }) => format!("{now}  {status}, {group} {apply}"),
        Event::Call(call) => format!("{now}  {call}"),
        Event::Again(problem) => format!("{now}  again: {problem}"),
    }
}

fn show_outcome(outcome: &Outcome) {
    outcome.checks.iter().for_each(show_check);
    if outcome.reboot_pending {
        output::warning(
            "a reboot is pending: nothing takes effect before it; run this again with --yes, at a time that suits",
        );
    }
    let changes = match outcome.calls.len() {
        0 => "nothing was changed".to_owned(),
        1 => "1 change".to_owned(),
        many => format!("{many} changes"),
    };
    output::line(format_args!("Done: {changes}."));
}

fn show_check(check: &Check) {
    let mark = if check.good { style("good").green() } else { style("bad ").red() };
    output::line(format_args!("  {mark} {:<24} {}", check.name, check.detail));
    if let Some(fix) = &check.fix {
        output::line(format_args!("       {} {fix}", style("fix:").cyan()));
    }
}
