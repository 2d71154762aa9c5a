//! Log lines, on standard error.

use std::io::IsTerminal as _;

use pgstream_config::pipeline::Presentation;
use tracing_subscriber::EnvFilter;

use crate::progress::Screen;

/// Starts logging; lines go around the progress bars of `screen`.
pub fn start(logging: Presentation, screen: &Screen) {
    let level = match logging.level {
        "fatal" | "panic" => "error",
        level => level,
    };
    let colours = !logging.no_color && std::env::var_os("NO_COLOR").is_none() && std::io::stderr().is_terminal();
    console::set_colors_enabled_stderr(colours);
    if logging.no_color {
        console::set_colors_enabled(false);
    }
    // Other crates speak up only when something is wrong with them, unless everything is asked for.
    let ours = ["pgstream_aws", "pgstream_engine", "pgstream_postgres", "pgstream_config", "pgstream_monitor"];
    let ours: Vec<String> = ours.iter().map(|name| format!("{name}={level}")).collect();
    let others = if level == "trace" { "trace" } else { "warn" };
    // The driver writes statements out with their values, which may be rows and password verifiers; the signer writes out
    // what it signs, with session tokens, and what it signed, which is a login.
    let filter = EnvFilter::new(format!("{others},tokio_postgres=info,aws_sigv4=info,{}", ours.join(",")));
    let screen = screen.clone();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || screen.clone());
    if logging.json {
        lines.json().flatten_event(true).with_current_span(false).init();
    } else {
        lines.with_ansi(colours).with_target(false).init();
    }
}
