//! The key table as Markdown: the tables of `docs/configuration.md`.

use std::fmt::Write;

use crate::{
    keys::{self, Key, Kind},
    support::{self, Status},
};

/// Every key with its type, default, variable and status, section by section.
#[must_use]
pub fn reference() -> String {
    let mut page = String::new();
    for section in keys::all().filter(|key| matches!(key.kind, Kind::Section | Kind::Sections)) {
        let under = match section.kind {
            Kind::Sections => format!("{}.[]", section.path),
            _ => section.path.to_owned(),
        };
        let leaves: Vec<_> = keys::under(&under).filter(|key| key.kind != Kind::Section).collect();
        if leaves.is_empty() && section.path != "target.stdout" {
            continue;
        }
        // Writing to a string cannot fail.
        let _ = write!(page, "### `{}`\n\n{}.\n\n", section.path, section.meaning);
        table(&mut page, "key", &leaves, Key::name);
    }
    page.push_str("### Top level and variables without a key\n\n");
    let others: Vec<_> = keys::all()
        .filter(|key| key.is_variable_only() || (!key.path.contains('.') && key.kind != Kind::Section))
        .collect();
    table(&mut page, "key or variable", &others, |key| key.path.trim_start_matches('$'));
    page.truncate(page.trim_end().len());
    page.push('\n');
    page
}

fn table(page: &mut String, first: &str, keys: &[&Key], name: impl Fn(&Key) -> &'static str) {
    if keys.is_empty() {
        return;
    }
    let _ = writeln!(page, "| {first} | value | default | variable | meaning | status |\n|---|---|---|---|---|---|");
    for key in keys {
        let variable = match key.variable {
            Some(variable) if !key.is_variable_only() => format!("`{variable}`"),
            _ => String::new(),
        };
        let alias = key.alias.map(|alias| format!(" (also `{alias}`)")).unwrap_or_default();
        let _ = writeln!(
            page,
            "| `{}`{alias} | {} | {} | {variable} | {} | {} |",
            name(key),
            key.kind.describe(),
            key.default.describe(),
            key.meaning,
            status(key.path)
        );
    }
    page.push('\n');
}

fn status(path: &str) -> String {
    match support::status(path) {
        Status::Available => "available".to_owned(),
        Status::Accepted { holds, .. } => format!("accepted: {holds}"),
        Status::NotYet { key, instead } if key == path => format!("**not available yet**: {instead}"),
        Status::NotYet { .. } => "**not available yet**".to_owned(),
        Status::NotHere => "**not here**".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::{env, fs, path::Path};

    use super::*;

    const BEGIN: &str = "<!-- keys: begin (generated; UPDATE_DOCS=1 cargo nextest run -p pgstream-config) -->\n";
    const END: &str = "<!-- keys: end -->";

    #[test]
    fn the_documentation_has_every_key_as_the_code_has_it() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
        let page = fs::read_to_string(&path).unwrap();
        let (before, rest) = page.split_once(BEGIN).expect("the begin marker");
        let (tables, after) = rest.split_once(END).expect("the end marker");
        if env::var_os("UPDATE_DOCS").is_some() {
            fs::write(&path, format!("{before}{BEGIN}{}{END}{after}", reference())).unwrap();
        } else {
            assert!(tables == reference(), "docs/configuration.md is out of date: run with UPDATE_DOCS=1");
        }
    }

    #[test]
    fn every_leaf_stands_in_a_table() {
        let page = reference();
        for key in keys::all().filter(|key| key.kind != Kind::Section) {
            let row = match key.is_variable_only() {
                true => format!("| `{}`", key.path.trim_start_matches('$')),
                false => format!("| `{}`", key.name()),
            };
            assert!(page.contains(&row), "{}", key.path);
            assert!(key.variable.is_none_or(|variable| page.contains(&format!("`{variable}`"))), "{}", key.path);
        }
    }
}
