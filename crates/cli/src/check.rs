//! `pgstream-aws check`.

use console::style;
use pgstream_config::{Needs, pipeline::Mode};
use pgstream_doctor::{Category, Finding, Plan, Severity};

use crate::{
    arguments::{self, Common},
    configure,
    failure::Failure,
    output,
};

/// Makes the checks that matter to the configuration. Returns whether nothing is in the way.
pub async fn run(arguments: &arguments::Check, common: &Common) -> Result<bool, Failure> {
    let mut overrides = arguments.source.overrides(common);
    overrides.target_url.clone_from(&arguments.target_url);
    overrides.default_mode = Some(Mode::SnapshotAndReplication);
    let loaded = configure::configuration(common, &overrides, Needs::Source)?;
    let (source, target) = (configure::source(&loaded).await?, configure::target(&loaded).await?);
    let plan = Plan::new(&loaded.pipeline, &source, &categories(arguments))?;
    let report = pgstream_doctor::check(&plan, &source, target.as_ref()).await;
    let passes = report.passes(arguments.strict);
    if arguments.json {
        output::json(&report)?;
        return Ok(passes);
    }
    for finding in &report.findings {
        print(finding);
    }
    let (checked, found) = (report.checked, report.findings.len());
    match found {
        0 => output::line(style(format!("{checked} checks: nothing is in the way.")).green()),
        _ => output::line(format_args!("{checked} checks, {found} with findings.")),
    }
    Ok(passes)
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

fn print(finding: &Finding) {
    let label = format!("{}[{}]", finding.severity.name(), finding.id);
    let label = match finding.severity {
        Severity::Error => style(label).red(),
        Severity::Warning => style(label).yellow(),
        Severity::Notice => style(label).dim(),
    };
    output::line(format_args!("{label} on the {}", finding.side.name()));
    for instance in &finding.instances {
        output::line(format_args!("  - {}", instance.found));
        if !instance.fix.is_empty() {
            output::line(format_args!("    {} {}", style("fix:").cyan(), instance.fix));
        }
    }
    output::line(format_args!("  {} {}", style("why:").cyan(), finding.why));
}
