//! `pgstream-aws doctor`.

use std::io::Read as _;

use console::style;

use crate::{arguments::Doctor, failure::Failure, output};

/// Logs are read up to here.
const LONGEST: u64 = 64 << 20;

/// Explains errors. Returns whether anything was recognised.
pub fn run(command: &Doctor) -> Result<bool, Failure> {
    let Doctor::Explain { text, json } = command;
    let text = match text {
        Some(text) => text.clone(),
        None => standard_input()?,
    };
    let known = pgstream_doctor::explain(&text);
    if *json {
        output::json(&known)?;
        return Ok(!known.is_empty());
    }
    for diagnosis in &known {
        output::line(style(diagnosis.id).bold());
        output::line(format_args!("  {} {}", style("cause:").cyan(), diagnosis.cause));
        output::line(format_args!("  {} {}", style("fix:").cyan(), diagnosis.fix));
    }
    if known.is_empty() {
        output::line("No error that is known. `pgstream-aws check` looks at both servers.");
    }
    Ok(!known.is_empty())
}

fn standard_input() -> Result<String, Failure> {
    let mut bytes = Vec::new();
    std::io::stdin().take(LONGEST).read_to_end(&mut bytes).map_err(|source| Failure::Local {
        doing: "reading standard input".to_owned(),
        help: "give the text as an argument",
        source,
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
