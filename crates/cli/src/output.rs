//! Reports, on standard output.

use std::{fmt, io::Write as _};

use console::style;
use pgstream_engine::source::{Action, Step};
use serde::Serialize;

use crate::failure::Failure;

/// Prints a line. A reader that went away (`| head`) has read what it wanted.
pub fn line(text: impl fmt::Display) {
    // The exit code still says how the command ended.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints a report as JSON.
pub fn json(report: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(report).map_err(unwritable)?;
    line(text);
    Ok(())
}

/// Prints a report as JSON in one line.
pub fn json_line(report: &impl Serialize) -> Result<(), Failure> {
    line(serde_json::to_string(report).map_err(unwritable)?);
    Ok(())
}

fn unwritable(error: serde_json::Error) -> Failure {
    Failure::Local { doing: "writing the report".to_owned(), help: "this is a defect: report it", source: error.into() }
}

/// Prints one line for an object that was dealt with.
pub fn step(step: &Step) {
    let action = format!("{:<9}", step.action.to_string());
    object_line(step, coloured(step.action, action));
}

/// Prints one line for an object that will be dealt with.
pub fn planned(step: &Step) {
    let verb = match step.action {
        Action::Created => "create",
        Action::Kept => "keep",
        Action::Changed => "change",
        Action::Removed => "remove",
        Action::Restored => "restore",
        Action::Left => "leave",
    };
    object_line(step, coloured(step.action, format!("{verb:<9}")));
}

fn coloured(action: Action, word: String) -> console::StyledObject<String> {
    match action {
        Action::Created | Action::Changed | Action::Restored => style(word).green(),
        Action::Removed => style(word).yellow(),
        Action::Kept | Action::Left => style(word).dim(),
    }
}

fn object_line(step: &Step, action: console::StyledObject<String>) {
    let detail = step.detail.as_ref().map_or_else(String::new, |detail| format!(" ({detail})"));
    line(format_args!("  {action} {:<16} {}{detail}", step.object, step.name));
}

/// Prints something that the user should know.
pub fn warning(text: &str) {
    line(format_args!("  {}      {text}", style("note").yellow()));
}
