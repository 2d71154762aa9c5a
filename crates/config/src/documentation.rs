//! docs/configuration.md, generated from the table of keys.

use std::fmt::Write as _;

use crate::{
    keys::{KEYS, Key, Kind, Support},
    written::expected,
};

const HEAD: &str = "# Configuration

<!-- Generated from crates/config/src/keys.rs: UPDATE_DOCS=1 cargo test -p pgstream-config documentation -->

A configuration comes from a YAML file or a `.env` file (`-c/--config`, or `PGSTREAM_CONFIG`), from environment variables
and from flags; a flag beats a variable, a variable beats the file. The YAML of pgstream works unchanged for Postgres to
Postgres.

- `${NAME}` in a value is replaced from the environment (braces only); a variable that is not set is an error.
- Sizes are bytes, or carry a unit: `64MiB`, `100MB`. Intervals are milliseconds unless said otherwise.
- Lists in variables are separated by commas.
- An unknown key is an error that names the nearest one. All errors come at once, with file and line.
- There is exactly one source and one target.

*Status*: **works**; **accepted**: understood, what it asked for happens in another way, which a notice says; **not yet**:
understood, an error in this version; **no**: will not be.

| key | form | default | status |
| --- | --- | --- | --- |
";

const TAIL: &str = "
## How tables are chosen

`snapshot.excluded_tables` and `modifiers.filter.exclude_tables` beat everything. An explicit `schema.table` in
`snapshot.tables` or `include_tables` beats a wildcard in a `schema_only_tables` list. `snapshot.tables` replaces
`include_tables` for the copy. The publication covers what `modifiers.filter` lets through.

## Defaults that differ from pgstream's

- `strict_mode` is always on: a change that cannot be applied stops the stream. `ignore_send_errors: true` is refused.
- `retry_policy.exponential.max_interval` is 5 s instead of 30 s, so that a stream is back within seconds of a failover.
- `disable_triggers` that is not written means: under `session_replication_role = replica` when the role may set it.
";

/// The text of docs/configuration.md.
#[must_use]
pub fn documentation() -> String {
    let mut text = HEAD.to_owned();
    for key in KEYS {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {} | {} | {} | {} |", name(key), form(key.kind), default(key), status(key));
    }
    text.push_str(TAIL);
    text
}

fn name(key: &Key) -> String {
    let env = key.env.map_or_else(String::new, |env| format!("<br>`{env}`"));
    format!("`{}`{env}<br>{}", key.path, key.doc)
}

fn form(kind: Kind) -> String {
    expected(kind).trim_start_matches("write ").replace('|', "\\|")
}

fn default(key: &Key) -> String {
    if key.default.is_empty() { String::new() } else { format!("`{}`", key.default) }
}

fn status(key: &Key) -> String {
    match key.support {
        Support::Works => "works".to_owned(),
        Support::Accepted(notice) => format!("accepted: {notice}"),
        Support::NotYet => "not yet".to_owned(),
        Support::Never(why) => format!("no: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_is_that_of_the_code() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, documentation()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == documentation(),
            "docs/configuration.md is not what the code says: run UPDATE_DOCS=1 cargo test -p pgstream-config documentation"
        );
    }
}
