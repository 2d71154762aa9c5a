//! What the RDS API says of a server, for `check` and `doctor`.

use std::net::IpAddr;

use jiff::Timestamp;
use pgstream_aws_api::{
    Aws, Settings,
    provision::{self, ApplyStatus, Database, Direction, Named, Needs, PastEvent, Plan},
};
use pgstream_doctor::{Event, Finding, Rds, Side, WalRate, for_people};
use pgstream_postgres::Server;

use crate::failure::Failure;

/// How full a disk may be before it is worth a word.
const FULL: f64 = 0.85;

const GIB: f64 = 1_073_741_824.0;

/// Variables that send calls of the RDS API elsewhere, as to a simulator: then names of hosts prove nothing.
const ENDPOINTS: [&str; 2] = ["AWS_ENDPOINT_URL_RDS", "AWS_ENDPOINT_URL"];

/// What the API knows of a server.
#[derive(Default)]
pub struct Known {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What happened lately, where that was asked for.
    pub events: Vec<Event>,
}

/// What is asked of a server.
#[derive(Clone, Copy)]
pub struct Question {
    /// It must be able to decode WAL.
    pub needs_logical: bool,
    /// How fast the source writes WAL.
    pub wal_rate: Option<WalRate>,
    /// What happened lately is asked for.
    pub events: bool,
}

/// Asks the API about a server that is a database of RDS; `None` when it is none.
pub async fn ask(side: Side, server: &Server, source: &Server, question: Question) -> Option<Known> {
    let (host, port) = server.dsn().host_names().next()?;
    let simulated = ENDPOINTS.iter().any(|name| std::env::var_os(name).is_some());
    if !(is_rds(host) || simulated && is_loopback(host)) {
        return None;
    }
    match Box::pin(plan(side, server, source, host, port)).await {
        Ok(Planned { database, plan, needed }) => {
            let mut known = Known { findings: judge(side, &plan, needed, question.needs_logical), ..Known::default() };
            let rate = question.wal_rate.filter(|_| side == Side::Source);
            known.findings.extend(rate.and_then(|rate| room_for_wal(&plan, rate)));
            if question.events {
                match Box::pin(database.events(&plan.inspection)).await {
                    Ok(events) => known.events = events.into_iter().map(|event| told(side, event)).collect(),
                    Err(error) => {
                        known.findings.push(not_asked(side, "events were not read", &Failure::Provision(error)))
                    }
                }
            }
            Some(known)
        }
        // A server beside the simulator that the simulator does not have.
        Err(Failure::Provision(provision::Error::NotFound { .. })) if !is_rds(host) => None,
        Err(error) => {
            Some(Known { findings: vec![not_asked(side, "the RDS API was not asked", &error)], ..Known::default() })
        }
    }
}

fn not_asked(side: Side, what: &str, error: &Failure) -> Finding {
    let fix = miette::Diagnostic::help(error).map(|help| help.to_string()).unwrap_or_default();
    Rds::Api.finding(side, format!("{what}: {error}"), fix)
}

fn told(side: Side, event: PastEvent) -> Event {
    let PastEvent { at, source, categories, message } = event;
    let minutes_ago = Timestamp::now().duration_since(at).as_mins();
    Event { side, at: at.to_string(), minutes_ago, source, categories, message }
}

/// A database, and what `provision` would do with it.
struct Planned {
    database: Database,
    plan: Plan,
    /// How many bytes will be copied there.
    needed: Option<i64>,
}

async fn plan(side: Side, server: &Server, source: &Server, host: &str, port: u16) -> Result<Planned, Failure> {
    let named = Named::endpoint(host, Some(port))?;
    let aws = Box::pin(Aws::load(&Settings { region: named.region.clone(), profile: None })).await?;
    Box::pin(aws.check_credentials()).await?;
    let (end, needs) = match side {
        Side::Source => (provision::Side::Source, Needs::default()),
        // A server that does not answer, and too few connections, are findings of their own.
        Side::Target => (provision::Side::Target, Box::pin(provision::needs(source, server, 1)).await),
    };
    let needed = needs.bytes;
    let database = Database::new(&aws, named, end).with_server(Some(server.clone())).with_needs(needs);
    // Free storage is compared with what comes: the copy, or WAL that is kept for its stream.
    let database = database.with_metrics(&aws);
    let plan = Box::pin(database.plan(Direction::Forth)).await?;
    Ok(Planned { database, plan, needed })
}

fn judge(side: Side, plan: &Plan, needed: Option<i64>, needs_logical: bool) -> Vec<Finding> {
    let it = &plan.inspection;
    let apply = format!("pgstream-aws provision apply {} --side {} --region {}", it.id, side.name(), it.region);
    let mut findings = Vec::new();
    let mut found = |check: Rds, found: String, fix: String| findings.push(check.finding(side, found, fix));
    let matters = needs_logical || side == Side::Target;
    for blocker in &plan.blockers {
        match blocker.code {
            "status" => found(Rds::Status, blocker.message.clone(), blocker.fix.clone()),
            "blue_green" => found(Rds::BlueGreen, blocker.message.clone(), blocker.fix.clone()),
            // Below, whether or not they are in the way of anything.
            "pending_changes" => {}
            _ if matters => found(Rds::Unfit, blocker.message.clone(), blocker.fix.clone()),
            _ => {}
        }
    }
    if it.is_in_transition() {
        found(
            Rds::Status,
            format!("{} is {}, its parameter group {}", it.id, it.status, it.attached.status),
            "wait until it is available".to_owned(),
        );
    }
    let pending = it.attached.status == ApplyStatus::PendingReboot;
    if pending {
        let what = format!("parameter group {} of {} is pending-reboot", it.attached.name, it.id);
        found(Rds::PendingReboot, what, format!("at a time that suits: {apply}"));
    }
    let settings: Vec<String> = plan
        .wishes
        .iter()
        .filter_map(|wish| {
            let should = wish.should.as_ref()?;
            Some(format!("{} is {}, should be {should}", wish.parameter, wish.is.as_deref().unwrap_or("unset")))
        })
        .collect();
    if matters && !settings.is_empty() {
        found(Rds::Parameters, format!("of {}: {}", it.id, settings.join("; ")), apply.clone());
    } else if matters && plan.reboots() && !pending {
        let what = format!("{} does not run with what its parameter group {} says", it.id, it.attached.name);
        found(Rds::PendingReboot, what, format!("at a time that suits: {apply}"));
    }
    if !it.pending.is_empty() {
        let what = format!("changes of {} wait for the maintenance window: {}", it.id, it.pending.join(", "));
        found(Rds::PendingChanges, what, "apply or cancel them at a time that suits".to_owned());
    }
    if !it.maintenance.is_empty() {
        let what = format!("due for {}: {}", it.id, it.maintenance.join(", "));
        found(Rds::Maintenance, what, "see Maintenance & backups in the RDS console".to_owned());
    }
    if let Some(room) = it.room().filter(|room| !room.good) {
        found(Rds::Storage, format!("of {}: {}", it.id, room.detail), room.fix.unwrap_or_default());
    } else if let Some(what) = short_of_room(plan, needed) {
        let fix = format!(
            "aws rds modify-db-instance --db-instance-identifier {} --allocated-storage GIB --apply-immediately, or storage autoscaling",
            it.id
        );
        found(Rds::Storage, what, fix);
    }
    findings
}

/// Free storage of a source against the WAL that it writes. Aurora grows by itself.
fn room_for_wal(plan: &Plan, rate: WalRate) -> Option<Finding> {
    let it = &plan.inspection;
    let (free, allocated) = (it.storage.free.as_ref()?.bytes as f64, it.storage.allocated_gib?);
    let growth = f64::from((it.storage.maximum_gib.unwrap_or(allocated) - allocated).max(0)) * GIB;
    let hours = for_people(rate.fills_soon(free + growth)?);
    let lacking = ((rate.enough() - free - growth) / GIB).ceil().max(1.0);
    let found = format!(
        "{rate}: a slot that nobody reads fills the {:.1} GiB that {} has free, and may grow by, in {hours}",
        (free + growth) / GIB,
        it.id
    );
    let fix = format!(
        "raise its storage to {} GiB or more (`aws rds modify-db-instance`, or modify-db-cluster, with --allocated-storage), \
         or watch the slot with `pgstream-aws status` and an alarm",
        f64::from(allocated) + growth / GIB + lacking
    );
    Some(Rds::WalRoom.finding(Side::Source, found, fix))
}

/// Data that is there, and that will be, against what the disk may grow to. Aurora grows by itself.
fn short_of_room(plan: &Plan, needed: Option<i64>) -> Option<String> {
    let it = &plan.inspection;
    let there = it.server.as_ref()?.database_bytes;
    let room = it.storage.maximum_gib.or(it.storage.allocated_gib)?;
    let wanted = (there + needed.unwrap_or(0)) as f64 / GIB;
    (wanted > f64::from(room) * FULL).then(|| {
        format!(
            "{} of {room} GiB has {:.1} GiB of data, and {:.1} GiB are to come",
            it.id,
            there as f64 / GIB,
            needed.unwrap_or(0) as f64 / GIB
        )
    })
}

fn is_rds(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host.ends_with(".rds.amazonaws.com") || host.ends_with(".rds.amazonaws.com.cn")
}

/// The instance that a server's host is the endpoint of; clusters have no disk that fills up.
pub fn instance_of_host(server: &Server) -> Option<String> {
    let (host, _) = server.dsn().host_names().next()?;
    let (name, rest) = host.split_once('.')?;
    (is_rds(host) && !rest.starts_with("cluster-") && !rest.starts_with("proxy-")).then(|| name.to_owned())
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
