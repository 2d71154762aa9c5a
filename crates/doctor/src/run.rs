//! Asks both servers at once, and changes nothing on either.

use futures::future::join_all;
use miette::Diagnostic as _;
use pgstream_engine::source::{self, InitSettings, Part};
use pgstream_postgres::{Client, Error, Server, Session, quote_ident};

use crate::{
    catalogue,
    check::{Ask, Category, Check, Comparison, Severity, Side, Wrong},
    endpoint,
    explain::diagnose,
    machine::{self, MachineCheck},
    plan::Plan,
    plugin,
    report::{Finding, Instance, Report},
    wal,
};

/// Makes all checks. What cannot be asked is a finding, so this does not fail.
pub async fn check(plan: &Plan, source: &Server, target: Option<&Server>) -> Report {
    let mut report = Report::default();
    endpoints(plan, source, target, &mut report);
    let session = Session::new("pgstream-aws check");
    let there = async {
        match target {
            Some(server) => Some(server.connect(&session).await),
            None => None,
        }
    };
    let (here, there) = futures::join!(Box::pin(source.connect(&session)), Box::pin(there));
    report.made(Category::Connectivity, 1 + usize::from(target.is_some()));
    let here = connected(here, Side::Source, &mut report.findings);
    let there = there.and_then(|there| connected(there, Side::Target, &mut report.findings));

    let mine: Vec<&Check> =
        catalogue::all().filter(|check| (check.applies)(plan) && plan.wants(check.category)).collect();
    // Sessions answer one after the other what is sent at once; the round trip is paid once.
    let asked = mine.iter().filter_map(|check| {
        let answer = match (&check.ask, check.side) {
            (Ask::Compare(comparison), _) => Question::Compare(comparison, here.as_ref()?, there.as_ref()?),
            (Ask::Rows(sql), Side::Source) => Question::Rows(sql, here.as_ref()?),
            (Ask::Rows(sql), Side::Target) => Question::Rows(sql, there.as_ref()?),
            // Tried below, alone: a transaction belongs to the whole session.
            (Ask::Try(..), _) => return None,
        };
        Some(async move { (*check, answer.ask(plan).await) })
    });
    let servers = [(Side::Source, Some(source), here.as_ref()), (Side::Target, target, there.as_ref())];
    let (answers, required, (made, of_machine), wal_rate) = futures::join!(
        join_all(asked),
        Box::pin(required_by_init(plan, source, here.is_some())),
        Box::pin(machine::check(plan, servers)),
        Box::pin(of_wal(plan, here.as_ref())),
    );
    let (asked, problems) = required;
    report.made(Category::Replication, asked);
    made.into_iter().for_each(|category| report.made(category, 1));
    report.findings.extend(problems.into_iter().chain(of_machine));
    if let Some((rate, allowed)) = wal_rate {
        report.made(Category::Replication, 2);
        report.wal_rate = rate.as_ref().ok().copied().flatten();
        report.findings.extend(made_or_said(&wal::WAL_RATE, rate.map(|rate| rate.and_then(wal::WalRate::finding))));
        report.findings.extend(made_or_said(&plugin::PLUGIN_ALLOWED, allowed));
    }
    for (check, answer) in answers {
        report.made(check.category, 1);
        report.findings.extend(finding(plan, check, answer));
    }
    for check in &mine {
        let client = if check.side == Side::Source { &here } else { &there };
        if let (Ask::Try(sql, fix), Some(client)) = (&check.ask, client) {
            report.made(check.category, 1);
            report.findings.extend(finding(plan, check, attempt(client, sql, fix).await));
        }
    }
    report.sort();
    report
}

fn endpoints(plan: &Plan, source: &Server, target: Option<&Server>, report: &mut Report) {
    let mut wrong = endpoint::wrong(source.dsn().host_names(), Side::Source);
    if let Some(target) = target {
        wrong.extend(endpoint::wrong(target.dsn().host_names(), Side::Target));
    }
    for check in endpoint::ENDPOINTS.iter().filter(|check| plan.wants(check.category())) {
        report.made(check.category(), 1);
    }
    for (check, side, found) in wrong.into_iter().filter(|(check, ..)| plan.wants(check.category())) {
        let instances = vec![Instance { found, fix: check.fix.to_owned() }];
        let (id, category, severity, why) = (check.id.into(), check.category(), check.severity(), check.why.into());
        report.findings.push(Finding { id, category, side, severity, why, instances });
    }
}

/// The session, or a finding. Without a session nothing else can be said, so this is told whatever was asked for.
fn connected(result: Result<Client, Error>, side: Side, findings: &mut Vec<Finding>) -> Option<Client> {
    let error = match result {
        Ok(client) => return Some(client),
        Err(error) => error,
    };
    findings.push(Finding {
        id: format!("connectivity.{}", side.name()),
        category: Category::Connectivity,
        side,
        severity: Severity::Error,
        why: "nothing can be done or checked there".to_owned(),
        instances: vec![Instance { found: error.to_string(), fix: remedy(&error) }],
    });
    None
}

/// `init` knows best what it requires: it is asked for everything up to its first write.
async fn required_by_init(plan: &Plan, source: &Server, reachable: bool) -> (usize, Vec<Finding>) {
    let wanted = plan.wants(Category::Replication) || plan.wants(Category::Access);
    if !plan.follows() || !reachable || !wanted {
        return (0, Vec::new());
    }
    let settings = InitSettings {
        slot: Some(plan.slot().to_owned()),
        tables: plan.followed().clone(),
        part: Part::All,
        failover: false,
    };
    let why = "`init` would refuse to prepare the source";
    let of = |id: String, found: String, fix: String| {
        let category = if id.ends_with("privilege") { Category::Access } else { Category::Replication };
        let instances = vec![Instance { found, fix }];
        Finding { id, category, side: Side::Source, severity: Severity::Error, why: why.to_owned(), instances }
    };
    let findings = match source::preflight(source, &settings).await {
        Ok(problems) => problems.into_iter().map(|it| of(it.code.to_owned(), it.message, it.fix)).collect(),
        Err(error) => {
            let code = error.code().map_or_else(|| "replication.init".to_owned(), |code| code.to_string());
            let help = error.help().map(|help| help.to_string()).unwrap_or_default();
            vec![of(code, error.to_string(), help)]
        }
    };
    (1, findings.into_iter().filter(|finding| plan.wants(finding.category)).collect())
}

/// How fast WAL is written, and whether it may be decoded, when that matters.
async fn of_wal(
    plan: &Plan,
    client: Option<&Client>,
) -> Option<(Result<Option<wal::WalRate>, Error>, Result<Option<Finding>, Error>)> {
    let client = client.filter(|_| plan.follows() && plan.wants(Category::Replication))?;
    Some(futures::join!(wal::measure(client), plugin::check(client)))
}

/// A check that could not be made is said under its own name.
fn made_or_said(check: &MachineCheck, found: Result<Option<Finding>, Error>) -> Option<Finding> {
    found.unwrap_or_else(|error| {
        let said = format!("the check could not be made: {error}");
        Some(Finding { severity: Severity::Warning, ..check.finding(Side::Source, said, remedy(&error)) })
    })
}

/// A question with the sessions that it goes to.
enum Question<'a> {
    Rows(&'a str, &'a Client),
    Compare(&'a Comparison, &'a Client, &'a Client),
}

impl Question<'_> {
    async fn ask(self, plan: &Plan) -> Result<Vec<Instance>, Error> {
        match self {
            Self::Rows(sql, client) => rows(plan, client, sql).await,
            Self::Compare(comparison, here, there) => compare(plan, comparison, here, there).await,
        }
    }
}

async fn rows(plan: &Plan, client: &Client, sql: &str) -> Result<Vec<Instance>, Error> {
    let rows = client.query(&plan.fill(sql), &[]).await.map_err(client.failed("checking"))?;
    let wanted = rows.iter().filter(|row| is_wanted(plan, row.get(0), row.get(1)));
    let mut found: Vec<Instance> = wanted.map(|row| Instance { found: row.get(2), fix: row.get(3) }).collect();
    found.sort_by(|a, b| a.found.cmp(&b.found));
    found.dedup_by(|a, b| a.found == b.found);
    Ok(found)
}

async fn compare(plan: &Plan, it: &Comparison, here: &Client, there: &Client) -> Result<Vec<Instance>, Error> {
    let (wanted, present) = futures::join!(here.query(it.source, &[]), there.query(it.target, &[]));
    let wanted = wanted.map_err(here.failed("checking"))?;
    let present: Vec<String> =
        present.map_err(there.failed("checking"))?.iter().map(|row| row.get::<_, String>(0)).collect();
    let wrong = |key: &String| {
        let there = present.iter().any(|present| present == key || present == "*");
        there == (it.wrong == Wrong::Present)
    };
    let role = match it.fix.contains("{role}") {
        true => quote_ident(
            there.query_one("SELECT current_user::text", &[]).await.map_err(there.failed("checking"))?.get(0),
        ),
        false => String::new(),
    };
    let keys = wanted.iter().filter(|row| is_wanted(plan, row.get(0), row.get(1))).map(|row| row.get(2));
    Ok(keys
        .filter(wrong)
        .map(|key| Instance {
            found: it.found.replace("{}", &key),
            fix: it.fix.replace("{}", &key).replace("{ident}", &quote_ident(&key)).replace("{role}", &role),
        })
        .collect())
}

/// A row that is about no table is always wanted.
fn is_wanted(plan: &Plan, schema: Option<&str>, table: Option<&str>) -> bool {
    match (schema, table) {
        (Some(schema), Some(table)) => plan.tables().wants_schema(schema, table),
        _ => true,
    }
}

async fn attempt(client: &Client, sql: &str, fix: &str) -> Result<Vec<Instance>, Error> {
    client.batch_execute("BEGIN").await.map_err(client.failed("checking"))?;
    let tried = client.batch_execute(sql).await.map_err(client.failed("trying it"));
    client.batch_execute("ROLLBACK").await.map_err(client.failed("checking"))?;
    match tried {
        Err(error) if error.sqlstate().is_some() => {
            Ok(vec![Instance { found: error.to_string(), fix: fix.to_owned() }])
        }
        other => other.map(|()| Vec::new()),
    }
}

fn finding(plan: &Plan, check: &Check, answer: Result<Vec<Instance>, Error>) -> Option<Finding> {
    let (severity, mut instances) = match answer {
        Ok(instances) => (check.severity, instances),
        Err(error) => {
            let found = format!("the check could not be made: {error}");
            (Severity::Warning, vec![Instance { found, fix: remedy(&error) }])
        }
    };
    if instances.is_empty() {
        return None;
    }
    let more = instances.len().saturating_sub(plan.listed());
    instances.truncate(plan.listed());
    if more > 0 {
        let (found, fix) = (format!("and {more} more"), "as above, for each".to_owned());
        instances.push(Instance { found, fix });
    }
    let (id, why) = (check.id.to_owned(), check.why.to_owned());
    Some(Finding { id, category: check.category, side: check.side, severity, why, instances })
}

/// What the error advises by itself, else what is known of it.
fn remedy(error: &Error) -> String {
    let known = || diagnose(&error.to_string(), None).map(|known| known.fix.into());
    error.remedy().or_else(known).unwrap_or_default().into_owned()
}
