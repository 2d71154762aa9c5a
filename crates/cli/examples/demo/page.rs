//! How the story looks: headings, what happens, commands as they are typed.

use console::style;

/// A heading.
pub fn chapter(title: &str) {
    println!("\n{}", style(format!("── {title}")).bold().cyan());
}

/// Something that happened.
pub fn say(line: &str) {
    println!("  {line}");
}

/// A command line; its output follows.
pub fn typed(line: &str) {
    println!("{} {}", style("$").dim(), style(line).bold());
}
