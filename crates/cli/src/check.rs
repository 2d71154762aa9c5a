//! `pgstream-aws check`.

use comfy_table::{ContentArrangement, Table, presets::NOTHING};
use console::style;
use pgstream_config::{Loaded, Needs, pipeline::Mode};
use pgstream_doctor::{Applied, Category, Event, Finding, Fix, Plan, Report, Severity, Side, fixes};
use pgstream_postgres::Server;
use serde::Serialize;

use crate::{
    arguments::{self, Common},
    configure, destroy,
    failure::Failure,
    output,
    rds::{self, Question},
};

/// Lines of prose are broken at this width; statements never are, so that they can be copied.
const WIDTH: usize = 80;

/// `--json`, with what `--fix` did.
#[derive(Serialize)]
struct Fixed<'a> {
    #[serde(flatten)]
    report: &'a Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    fixed: Option<&'a [Applied]>,
}

/// Makes the checks that matter to the configuration. Returns whether nothing is in the way.
pub async fn run(arguments: &arguments::Check, common: &Common) -> Result<bool, Failure> {
    let mut overrides = arguments.source.overrides(common);
    overrides.target_url.clone_from(&arguments.target_url);
    overrides.default_mode = Some(Mode::SnapshotAndReplication);
    let loaded = configure::configuration(common, &overrides, Needs::Source)?;
    let servers = (configure::source(&loaded).await?, configure::target(&loaded).await?);
    let categories = categories(arguments);
    let plan = Plan::new(&loaded.pipeline, &servers.0, &categories)?;
    let plan = if arguments.fix { plan.listing_all() } else { plan };
    let look = async || {
        let mut report = Box::pin(pgstream_doctor::check(&plan, &servers.0, servers.1.as_ref())).await;
        if categories.is_empty() || categories.contains(&Category::Aws) {
            ask_aws(&loaded, &servers.0, servers.1.as_ref(), false, &mut report).await;
        }
        report
    };
    let mut report = Box::pin(look()).await;
    let mut fixed = None;
    if arguments.fix {
        let todo = fixes(&report);
        if !arguments.json {
            show(&report);
        }
        if !todo.is_empty() {
            fixed = Some(Box::pin(fix(arguments, &servers, &todo)).await?);
            report = Box::pin(look()).await;
        } else if !arguments.json {
            output::line("Nothing that could be mended by itself.");
            return Ok(report.passes(arguments.strict));
        }
    }
    match arguments.json {
        true => output::json(&Fixed { report: &report, fixed: fixed.as_deref() })?,
        false => show(&report),
    }
    Ok(report.passes(arguments.strict))
}

/// Shows the statements, asks, and runs them.
async fn fix(
    arguments: &arguments::Check,
    servers: &(Server, Option<Server>),
    todo: &[Fix],
) -> Result<Vec<Applied>, Failure> {
    let here = match &arguments.source_admin_url {
        Some(url) => Some(configure::server_of_flag(url).await?),
        None => Some(servers.0.clone()),
    };
    let there = match &arguments.target_admin_url {
        Some(url) => Some(configure::server_of_flag(url).await?),
        None => servers.1.clone(),
    };
    let sides = [(Side::Source, here), (Side::Target, there)];
    if !arguments.json {
        for (side, server) in &sides {
            let Some(server) = server.as_ref().filter(|_| todo.iter().any(|fix| fix.side == *side)) else { continue };
            output::line(format_args!("On the {}, {server}, as {}, this would run:", side.name(), server.dsn().user()));
            for fix in todo.iter().filter(|fix| fix.side == *side) {
                output::line(format_args!("  {}", fix.statement));
            }
        }
    }
    match (arguments.yes, arguments.json) {
        (true, _) => {}
        (false, true) => return Err(Failure::NobodyToAsk),
        (false, false) => destroy::confirm()?,
    }
    let mut applied = Vec::new();
    for (side, server) in &sides {
        let Some(server) = server else { continue };
        applied.extend(Box::pin(pgstream_doctor::apply(server, *side, todo)).await?);
    }
    if !arguments.json {
        for one in &applied {
            match &one.problem {
                None => output::line(format_args!("  {} {}", style("done  ").green(), one.fix.statement)),
                Some(problem) => {
                    output::line(format_args!("  {} {}", style("failed").red(), one.fix.statement));
                    output::line(format_args!("         {problem}"));
                }
            }
        }
        if applied.iter().any(|one| one.problem.is_some()) {
            output::warning("give --source-admin-url or --target-admin-url, whose role may do what failed");
        }
    }
    Ok(applied)
}

/// Adds what the RDS API says of databases that are there. Returns what happened to them lately, where that is asked for.
pub async fn ask_aws(
    loaded: &Loaded,
    source: &Server,
    target: Option<&Server>,
    events: bool,
    report: &mut Report,
) -> Vec<Event> {
    let needs_logical = loaded.pipeline.mode != Mode::Snapshot;
    let question = Question { needs_logical, wal_rate: report.wal_rate, events };
    let mut events = Vec::new();
    for (side, server) in [(Side::Source, Some(source)), (Side::Target, target)] {
        let Some(server) = server else { continue };
        if let Some(known) = Box::pin(rds::ask(side, server, source, question)).await {
            report.add(Category::Aws, pgstream_doctor::Rds::ALL.len(), known.findings);
            events.extend(known.events);
        }
    }
    events.sort_by_key(|event: &Event| event.minutes_ago);
    events
}

fn categories(arguments: &arguments::Check) -> Vec<Category> {
    [
        (arguments.connectivity, Category::Connectivity),
        (arguments.aws, Category::Aws),
        (arguments.replication, Category::Replication),
        (arguments.access, Category::Access),
        (arguments.schema, Category::Schema),
        (arguments.resources, Category::Resources),
    ]
    .into_iter()
    .filter_map(|(wanted, category)| wanted.then_some(category))
    .collect()
}

/// Findings, then a table of what was looked at.
pub fn show(report: &Report) {
    report.findings.iter().for_each(print);
    output::line(table(report));
    let (checked, found) = (report.checked, report.findings.len());
    match found {
        0 => output::line(style(format!("{checked} checks: nothing is in the way.")).green()),
        _ => output::line(format_args!("{checked} checks, {found} with findings.")),
    }
}

fn table(report: &Report) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["category", "checks", "errors", "warnings", "notices"]);
    for (category, checked) in &report.categories {
        let count = |severity| {
            let found = report.findings.iter().filter(|it| it.category == *category && it.severity == severity).count();
            if found == 0 { "-".to_owned() } else { found.to_string() }
        };
        let counts = [Severity::Error, Severity::Warning, Severity::Notice].map(count);
        table.add_row([category.name().to_owned(), checked.to_string()].into_iter().chain(counts));
    }
    table
}

fn print(finding: &Finding) {
    let label = format!("{}[{}]", finding.severity.name(), finding.id);
    let label = match finding.severity {
        Severity::Error => style(label).red(),
        Severity::Warning => style(label).yellow(),
        Severity::Notice => style(label).dim(),
    };
    output::line(format_args!("{label} on the {}", finding.side.name()));
    for instance in &finding.instances {
        output::line(wrapped("  - ", "    ", &instance.found));
        if !instance.fix.is_empty() {
            // What is to be copied stays in one piece.
            let typed = [";", "`", "pgstream-aws ", "aws "].iter().any(|mark| instance.fix.contains(mark));
            let fix = if typed { instance.fix.clone() } else { wrapped("", "         ", &instance.fix) };
            output::line(format_args!("    {} {fix}", style("fix:").cyan()));
        }
    }
    output::line(format_args!("  {} {}", style("why:").cyan(), wrapped("", "       ", &finding.why)));
}

/// Text in lines of at most [`WIDTH`], but for words that are longer.
pub fn wrapped(first: &str, rest: &str, text: &str) -> String {
    let (mut lines, mut line) = (Vec::new(), first.to_owned());
    let mut width = if first.is_empty() { rest.len() } else { first.len() };
    let mut empty = true;
    for word in text.split_whitespace() {
        let wide = console::measure_text_width(word);
        if !empty && width + 1 + wide > WIDTH {
            lines.push(std::mem::replace(&mut line, rest.to_owned()));
            (width, empty) = (rest.len(), true);
        }
        if !empty {
            line.push(' ');
            width += 1;
        }
        line.push_str(word);
        width += wide;
        empty = false;
    }
    lines.push(line);
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_is_broken_at_eighty_columns() {
        let text = "word ".repeat(60);
        let broken = wrapped("  - ", "    ", &text);
        assert!(broken.lines().all(|line| line.len() <= WIDTH), "{broken}");
        assert_eq!(broken.lines().count(), 4);
        assert_eq!(broken.split_whitespace().count(), 61);
    }
}
