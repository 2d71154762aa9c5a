//! `pgstream-aws doctor`: an error explained, or a pipeline looked at.

use std::{
    io::{IsTerminal as _, Read as _},
    time::Duration,
};

use console::style;
use pgstream_config::{Needs, pipeline::Mode};
use pgstream_doctor::{Event, Plan, examine};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::{
    arguments::{Common, Doctor},
    check, configure,
    failure::Failure,
    output,
};

/// Logs are read up to here.
const LONGEST: u64 = 64 << 20;

/// A replicator on this machine answers within this, or is none.
const ANSWER: Duration = Duration::from_secs(2);

/// Answers of `/status` are read up to here.
const STATUS: u64 = 1 << 20;

/// Events that are shown; all are in the JSON.
const EVENTS: usize = 10;

/// Explains, or looks. Returns whether an error was known, or nothing is wrong.
pub async fn run(arguments: &Doctor, common: &Common) -> Result<bool, Failure> {
    match (&arguments.text, &common.config) {
        (Some(text), _) if text != "-" => explain(text, arguments.json),
        (None, Some(_)) => look(arguments, common).await,
        (None, None) if std::io::stdin().is_terminal() => Err(Failure::NothingToExplain),
        _ => explain(&standard_input()?, arguments.json),
    }
}

fn explain(text: &str, json: bool) -> Result<bool, Failure> {
    if text.trim().is_empty() {
        return Err(Failure::NothingToExplain);
    }
    let known = pgstream_doctor::explain(text);
    if json {
        output::json(&known)?;
        return Ok(!known.is_empty());
    }
    for diagnosis in &known {
        output::line(style(diagnosis.id).bold());
        output::line(format_args!("  {} {}", style("cause:").cyan(), diagnosis.cause));
        output::line(format_args!("  {} {}", style("fix:").cyan(), diagnosis.fix));
        output::line(format_args!("  {} {}", style("docs:").cyan(), diagnosis.docs));
    }
    if known.is_empty() {
        output::line("No error that is known. `pgstream-aws doctor -c` looks at both servers.");
    }
    Ok(!known.is_empty())
}

/// What is wrong with the configured pipeline now.
async fn look(arguments: &Doctor, common: &Common) -> Result<bool, Failure> {
    let mut overrides = common.overrides();
    overrides.default_mode = Some(Mode::SnapshotAndReplication);
    let loaded = configure::configuration(common, &overrides, Needs::Source)?;
    let (source, target) = (configure::source(&loaded).await?, configure::target(&loaded).await?);
    let plan = Plan::new(&loaded.pipeline, &source, &[])?;
    let last_error = match &loaded.pipeline.instrumentation.health {
        Some(address) => last_error(address).await,
        None => None,
    };
    let mut seen = Box::pin(examine(&plan, &source, target.as_ref(), last_error.as_deref())).await;
    let events = check::ask_aws(&loaded, &source, target.as_ref(), true, &mut seen.report).await;
    seen.hear(events);
    let passes = seen.report.passes(false);
    if arguments.json {
        output::json(&seen)?;
    } else {
        check::show(&seen.report);
        show(&seen.events);
    }
    Ok(passes)
}

fn show(events: &[Event]) {
    if events.is_empty() {
        return;
    }
    output::line(style("What RDS tells of the last 24 hours:").bold());
    for event in events.iter().take(EVENTS) {
        output::line(check::wrapped("  - ", "    ", &format!("{} {}", event.side.name(), event.describe())));
    }
    if let Some(more) = events.len().checked_sub(EVENTS).filter(|more| *more > 0) {
        output::line(format_args!("  and {more} more, with --json"));
    }
}

/// What a replicator on this machine met last, when one runs there and met anything.
async fn last_error(address: &str) -> Option<String> {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(format!("GET /status HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(STATUS).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = timeout(ANSWER, ask).await.ok()?.ok()?;
    let answer = String::from_utf8_lossy(&answer);
    let status: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()?;
    Some(status.get("last_error")?.as_str()?.to_owned())
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
