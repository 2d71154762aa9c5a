//! What is wrong with a pipeline now.
//!
//! ```text
//!  check()   ── what would be in the way of it ──────────┐
//!  status()  ── slot, publication, history, progress ────┼─> Examination { status, findings }, worst first
//!  sessions  ── ours that wait for a lock, and for whom ─┤
//!  last error of a running replicator, diagnosed ────────┤
//!  events of RDS in the last day ── hear() ──────────────┘
//! ```
//!
//! It changes nothing, and can be asked while the pipeline runs.

use pgstream_engine::source::{self, Status, StatusSettings};
use pgstream_postgres::{Client, Error, Server, Session};
use serde::Serialize;

use crate::{
    check::{Category, Severity, Side},
    events::{Event, explaining},
    explain::diagnose,
    plan::Plan,
    report::{Finding, Instance, Report},
    run,
};

/// Sessions of this program that wait for another one's lock.
const BLOCKED: &str = "
    SELECT format('%s (process %s) waits for a lock that process %s holds%s', a.application_name, a.pid, b.pid,
                  CASE b.application_name WHEN '' THEN '' ELSE format(' (%s)', b.application_name) END),
           format('let it end, or end it: SELECT pg_terminate_backend(%s);', b.pid)
    FROM pg_stat_activity a, unnest(pg_blocking_pids(a.pid)) AS blocker JOIN pg_stat_activity b ON b.pid = blocker
    WHERE a.datname = current_database() AND a.application_name LIKE 'pgstream-aws%' AND a.wait_event_type = 'Lock'";

/// A pipeline, looked at.
#[derive(Debug, Serialize)]
pub struct Examination {
    /// Where it stands; none when the source could not be asked.
    pub status: Option<Status>,
    /// What is wrong, and how many checks were made.
    #[serde(flatten)]
    pub report: Report,
    /// What RDS tells of the last day, newest first; none of servers elsewhere.
    pub events: Vec<Event>,
}

impl Examination {
    /// Adds what RDS tells of one side, newest first, and what it explains.
    pub fn hear(&mut self, events: Vec<Event>) {
        self.report.findings.extend(explaining(&events));
        self.report.sort();
        self.events.extend(events);
    }
}

/// Looks at both servers, and at what a running replicator said last.
pub async fn examine(plan: &Plan, source: &Server, target: Option<&Server>, last_error: Option<&str>) -> Examination {
    let settings = StatusSettings { slot: Some(plan.slot().to_owned()), tables: plan.followed().clone() };
    let (mut report, status, waiting_here, waiting_there) = futures::join!(
        Box::pin(run::check(plan, source, target)),
        Box::pin(source::status(source, target, &settings)),
        Box::pin(blocked(source)),
        Box::pin(async {
            match target {
                Some(server) => blocked(server).await,
                None => Ok(Vec::new()),
            }
        }),
    );
    report.findings.retain(|finding| finding.severity != Severity::Notice);
    // A server that does not answer is among the findings already.
    let sides = [(Side::Source, waiting_here.unwrap_or_default()), (Side::Target, waiting_there.unwrap_or_default())];
    for (side, instances) in sides {
        if !instances.is_empty() {
            let why = "the pipeline stands still while it waits";
            report.findings.push(found("doctor.blocked", side, Severity::Warning, why, instances));
        }
    }
    if let Some(error) = last_error {
        let fix = diagnose(error, None).map_or_else(String::new, |known| format!("{} ({})", known.fix, known.docs));
        let instances = vec![Instance { found: error.to_owned(), fix }];
        let why = "what the running replicator met last; it retries what is transient";
        report.findings.push(found("doctor.last_error", Side::Source, Severity::Warning, why, instances));
    }
    let status = match status {
        Ok(status) => Some(status),
        Err(error) => {
            if !report.findings.iter().any(|finding| finding.id == "connectivity.source") {
                let instances = vec![Instance { found: error.to_string(), fix: String::new() }];
                let why = "nothing can be said of slot and publication";
                report.findings.push(found("doctor.status", Side::Source, Severity::Error, why, instances));
            }
            None
        }
    };
    if let Some(status) = status.as_ref().filter(|_| plan.follows()) {
        report.findings.extend(of_status(status, &report.findings));
    }
    report.sort();
    Examination { status, report, events: Vec::new() }
}

/// Findings of `status` that the checks do not have under their own code, and a pipeline that nobody runs.
fn of_status(status: &Status, known: &[Finding]) -> Vec<Finding> {
    let said = |code: &str| known.iter().any(|finding| finding.id.ends_with(&format!("::{code}")));
    let wrong = status.findings.iter().filter(|it| !said(it.code) && it.code != "target_unreadable");
    let mut findings: Vec<Finding> = wrong
        .map(|it| {
            let side = if it.code.contains("target") { Side::Target } else { Side::Source };
            let instances = vec![Instance { found: it.message.clone(), fix: it.fix.clone() }];
            found(it.code, side, Severity::Error, "a finding of `status`: see docs/troubleshooting.md", instances)
        })
        .collect();
    if let Some(slot) = status.slot.as_ref().filter(|slot| slot.active_pid.is_none()) {
        let kept = slot.retained_bytes.unwrap_or(0);
        let instances = vec![Instance {
            found: format!("nobody reads slot {}, which keeps {kept} bytes of WAL", slot.name),
            fix: "start `pgstream-aws run`; if it ended, `pgstream-aws doctor -` explains its log".to_owned(),
        }];
        let why = "the target falls behind, and WAL fills the disk of the source";
        findings.push(found("doctor.not_running", Side::Source, Severity::Error, why, instances));
    }
    findings
}

fn found(id: &str, side: Side, severity: Severity, why: &str, instances: Vec<Instance>) -> Finding {
    Finding { id: id.to_owned(), category: Category::Replication, side, severity, why: why.to_owned(), instances }
}

async fn blocked(server: &Server) -> Result<Vec<Instance>, Error> {
    let client: Client = server.connect(&Session::new("pgstream-aws doctor")).await?;
    let rows = client.query(BLOCKED, &[]).await.map_err(client.failed("looking at sessions"))?;
    Ok(rows.iter().map(|row| Instance { found: row.get(0), fix: row.get(1) }).collect())
}
