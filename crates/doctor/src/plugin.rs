//! Whether the source lets slots decode with pgoutput.
//!
//! Minor releases since August 2026 load only the plugins that `output_plugin_libraries` lists; its default has pgoutput.
//! Servers without the setting allow every plugin.

use pgstream_postgres::{Client, Error, quote_ident};

use crate::{
    check::{Category, Severity, Side},
    machine::MachineCheck,
    report::Finding,
};

/// What this program decodes with.
const PGOUTPUT: &str = "pgoutput";

/// pgoutput is not among the plugins that are allowed.
pub(crate) const PLUGIN_ALLOWED: MachineCheck = MachineCheck {
    id: "replication.plugin_allowed",
    category: Category::Replication,
    severity: Severity::Error,
    why: "the server refuses slots of plugins that it does not list",
};

pub(crate) async fn check(client: &Client) -> Result<Option<Finding>, Error> {
    let sql =
        "SELECT setting FROM pg_settings WHERE name = 'output_plugin_libraries' AND category <> 'Customized Options'";
    let row = client.query_opt(sql, &[]).await.map_err(client.failed("reading output_plugin_libraries"))?;
    Ok(row.and_then(|row| judge(&row.get::<_, String>(0))))
}

fn judge(setting: &str) -> Option<Finding> {
    let allowed = libraries(setting);
    if allowed.iter().any(|library| library == PGOUTPUT) {
        return None;
    }
    let wanted: Vec<String> = std::iter::once(PGOUTPUT.to_owned()).chain(allowed).map(|it| quote_ident(&it)).collect();
    let found = format!("output_plugin_libraries is '{setting}', without {PGOUTPUT}");
    let fix = format!(
        "ALTER SYSTEM SET output_plugin_libraries = {}; SELECT pg_reload_conf(); (RDS: in the parameter group)",
        wanted.join(", ")
    );
    Some(PLUGIN_ALLOWED.finding(Side::Source, found, fix))
}

/// Names between commas; quotes are around those with characters that need them, and doubled within.
fn libraries(setting: &str) -> Vec<String> {
    let (mut names, mut name, mut quoted) = (Vec::new(), String::new(), false);
    let mut rest = setting.chars().peekable();
    while let Some(next) = rest.next() {
        match next {
            '"' if quoted && rest.peek() == Some(&'"') => name.extend(rest.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => names.push(std::mem::take(&mut name)),
            ' ' | '\t' | '\n' if !quoted => {}
            other => name.push(other),
        }
    }
    names.push(name);
    names.retain(|name| !name.is_empty());
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_the_server_writes_them() {
        assert_eq!(libraries("pgoutput, test_decoding"), ["pgoutput", "test_decoding"]);
        assert_eq!(libraries(r#""my, own","a""b" , wal2json"#), ["my, own", "a\"b", "wal2json"]);
        assert!(libraries(" , ").is_empty() && libraries("").is_empty());
    }

    #[test]
    fn only_a_list_without_pgoutput_is_in_the_way_and_what_it_has_is_kept() {
        assert!(judge("pgoutput, test_decoding").is_none() && judge("\"pgoutput\"").is_none());
        for (setting, fix) in [
            ("", "output_plugin_libraries = \"pgoutput\";"),
            ("test_decoding, \"my own\"", "output_plugin_libraries = \"pgoutput\", \"test_decoding\", \"my own\";"),
            // One quoted string is one name, which is nothing's.
            ("\"pgoutput, wal2json\"", "output_plugin_libraries = \"pgoutput\", \"pgoutput, wal2json\";"),
            ("pgoutput2", "output_plugin_libraries = \"pgoutput\", \"pgoutput2\";"),
        ] {
            let finding = judge(setting).unwrap();
            assert!(finding.instances[0].fix.contains(fix), "{finding:?}");
        }
    }
}
