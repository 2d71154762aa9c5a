//! `pgstream-aws ddl`: recorded schema changes, and what became of them.

use comfy_table::{ContentArrangement, Table, presets::NOTHING};
use console::style;
use pgstream_config::{Loaded, Needs};
use pgstream_engine::{
    ddl::log::{self, Entry, State},
    source::Names,
};

use crate::{
    arguments::{Common, Ddl, DdlArgs},
    configure,
    failure::Failure,
    output,
};

/// Runs a subcommand. Returns whether nothing is wrong.
pub async fn run(command: &Ddl, common: &Common) -> Result<bool, Failure> {
    match command {
        Ddl::Log { pipeline, limit, json } => {
            let loaded = load(pipeline, common)?;
            let (source, target) = (configure::source(&loaded).await?, configure::target(&loaded).await?);
            let entries = log::read(&source, target.as_ref(), &slot(&loaded, &source)?, i64::from(*limit)).await?;
            let good = !entries.iter().any(|entry| entry.state == Some(State::Failed));
            if *json {
                output::json(&entries)?;
            } else {
                show(&entries);
            }
            Ok(good)
        }
        Ddl::Skip { pipeline, id } => {
            let loaded = load(pipeline, common)?;
            let source = configure::source(&loaded).await?;
            let Some(target) = configure::target(&loaded).await? else { return Err(Failure::NoTarget) };
            match log::skip(&source, &target, &slot(&loaded, &source)?, *id).await? {
                Some(entry) => {
                    output::line(format_args!(
                        "The stream will skip schema change {id}: {} ({}).",
                        entry.command,
                        entry.objects.join(", ")
                    ));
                    output::line(
                        "Make the same change on the target before you start it again: rows that follow expect it.",
                    );
                    Ok(true)
                }
                None => {
                    output::line(format_args!(
                        "There is no schema change {id} that is still to come. `pgstream-aws ddl log` lists them."
                    ));
                    Ok(false)
                }
            }
        }
    }
}

fn load(pipeline: &DdlArgs, common: &Common) -> Result<Loaded, Failure> {
    let mut overrides = pipeline.source.overrides(common);
    overrides.target_url.clone_from(&pipeline.target_url);
    configure::configuration(common, &overrides, Needs::Source)
}

fn slot(loaded: &Loaded, source: &pgstream_postgres::Server) -> Result<String, Failure> {
    Ok(Names::with_slot(source.dsn().dbname(), loaded.pipeline.source.slot.as_deref())?.slot)
}

fn show(entries: &[Entry]) {
    if entries.is_empty() {
        output::line("No schema change was recorded.");
        return;
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["id", "state", "command", "objects", "at"]);
    for entry in entries {
        let state = entry.state.map_or("recorded", word);
        let at = entry.created_at.split('.').next().unwrap_or_default();
        table.add_row([&entry.id.to_string(), state, &entry.command, &entry.objects.join(", "), at]);
    }
    output::line(table);
    for entry in entries.iter().filter(|entry| !entry.notes.is_empty()) {
        for note in &entry.notes {
            output::line(format_args!("{} {note}", style(format!("[{}]", entry.id)).yellow()));
        }
    }
}

fn word(state: State) -> &'static str {
    match state {
        State::Copied => "copied",
        State::Applied => "applied",
        State::Ignored => "ignored",
        State::Skipped => "skipped",
        State::Failed => "failed",
        State::Pending => "pending",
    }
}
