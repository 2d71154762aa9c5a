//! Reports, on standard output.

use console::style;
use pgstream_engine::source::{Action, Step};
use serde::Serialize;

use crate::failure::Failure;

/// Prints a report as JSON.
pub fn json(report: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(report).map_err(|error| Failure::Local {
        doing: "writing the report".to_owned(),
        help: "this is a defect: report it",
        source: error.into(),
    })?;
    println!("{text}");
    Ok(())
}

/// Prints one line for an object.
pub fn step(step: &Step) {
    let action = format!("{:<9}", step.action.to_string());
    let action = match step.action {
        Action::Created | Action::Changed | Action::Restored => style(action).green(),
        Action::Removed => style(action).yellow(),
        Action::Kept | Action::Left => style(action).dim(),
    };
    let detail = step.detail.as_ref().map_or_else(String::new, |detail| format!(" ({detail})"));
    println!("  {action} {:<16} {}{detail}", step.object.to_string(), step.name);
}

/// Prints something that the user should know.
pub fn warning(text: &str) {
    println!("  {}   {text}", style("note").yellow());
}
