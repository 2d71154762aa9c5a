//! `pgstream-aws status`.

use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets::NOTHING};
use console::style;
use indicatif::{HumanBytes, HumanCount};
use pgstream_config::Needs;
use pgstream_engine::{
    source::{self, CaughtUp, StatusSettings},
    users::{self, Duties},
};
use tokio_util::sync::CancellationToken;

use crate::{
    arguments::{self, Common},
    configure,
    failure::Failure,
    output,
};

/// Shows the state of a pipeline. Returns whether nothing is wrong with it.
pub async fn run(arguments: &arguments::Status, common: &Common, cancel: &CancellationToken) -> Result<bool, Failure> {
    let mut overrides = arguments.source.overrides(common);
    overrides.target_url.clone_from(&arguments.target_url);
    let loaded = configure::configuration(common, &overrides, Needs::Source)?;
    let settings =
        StatusSettings { slot: loaded.pipeline.source.slot.clone(), tables: loaded.pipeline.stream.tables.clone() };
    let (server, target) = (configure::source(&loaded).await?, configure::target(&loaded).await?);
    let looked = if arguments.wait_caught_up {
        let target = target.as_ref().ok_or(Failure::NoTarget)?;
        let patience = Duration::from_secs(arguments.timeout);
        match source::caught_up(&server, target, &settings, patience, cancel).await {
            Ok(CaughtUp::InStep(status)) => Ok((*status, true)),
            Ok(CaughtUp::Never(status)) => Ok((*status, false)),
            Err(error) => Err(error),
        }
    } else {
        source::status(&server, target.as_ref(), &settings).await.map(|status| {
            let good = status.findings.is_empty();
            (status, good)
        })
    };
    let (status, good) = match looked {
        Ok(looked) => looked,
        Err(error) => {
            let duties = Duties { follow: true, ..Duties::default() };
            return Err(Failure::from(error).explained(users::explain((&server, &duties), None)).await);
        }
    };
    if arguments.json {
        output::json(&status)?;
        return Ok(good);
    }
    output::line(table(&status));
    for finding in &status.findings {
        output::line(format_args!("{} {}", style(format!("[{}]", finding.code)).red(), finding.message));
        output::line(format_args!("  {} {}", style("fix:").cyan(), finding.fix));
    }
    if good {
        let text = if arguments.wait_caught_up { "The target is in step." } else { "Nothing is wrong." };
        output::line(style(text).green());
    }
    Ok(good)
}

fn table(status: &source::Status) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    let mut row = |name: &str, value: String| {
        table.add_row([name.to_owned(), value]);
    };
    let bytes = |bytes: Option<i64>| {
        bytes.map_or_else(|| "unknown".into(), |b| HumanBytes(b.max(0).unsigned_abs()).to_string())
    };
    row("source", format!("{} (PostgreSQL {})", status.source, status.major));
    let objects = &status.objects;
    row(
        "schema pgstream",
        match objects.schema {
            true => format!("version {} of {}", objects.migration, objects.migration_needed),
            false => "missing".into(),
        },
    );
    row(
        "publication",
        status.publication.as_ref().map_or_else(
            || "missing".into(),
            |publication| {
                let scope = if publication.all_tables { ", all tables" } else { "" };
                format!("{} ({} tables{scope})", publication.name, publication.tables)
            },
        ),
    );
    match &status.slot {
        None => row("slot", "missing".into()),
        Some(slot) => {
            let reader =
                slot.active_pid.map_or_else(|| "nobody reads it".into(), |pid| format!("read by process {pid}"));
            row("slot", format!("{} ({reader})", slot.name));
            let wal = slot.wal_status.map_or("-", source::slot::WalStatus::name);
            row(
                "  WAL",
                format!("{wal}, {} kept, {} to acknowledge", bytes(slot.retained_bytes), bytes(slot.lag_bytes)),
            );
            row("  confirmed", slot.confirmed_flush_lsn.clone().unwrap_or_else(|| "-".into()));
            if let Some(left) = slot.safe_wal_size {
                row("  until lost", bytes(Some(left)));
            }
        }
    }
    if let Some(target) = &status.target {
        row("target", target.server.clone());
        let unfinished = match target.unfinished_tables {
            0 => String::new(),
            some => format!(", {some} unfinished"),
        };
        let rows = HumanCount(target.copied_rows.max(0).unsigned_abs());
        row("  copied", format!("{} tables, {rows} rows{unfinished}", target.copied_tables));
        row("  applied", target.commit_end_lsn.clone().unwrap_or_else(|| "nothing yet".into()));
        if let Some(time) = &target.commit_time {
            row("  last commit", time.clone());
        }
    }
    table
}
