//! The parameters of a family: those of the real server of that version, and RDS's own.

use pgstream_testkit::Client;

/// What a family says about one parameter.
#[derive(Debug, Clone)]
pub(crate) struct Definition {
    pub(crate) name: String,
    /// `boolean`, `integer`, `float`, `string`.
    pub(crate) data_type: &'static str,
    /// `0,1`, `1-100`, `a,b,c`; nothing for any text.
    pub(crate) allowed: Option<String>,
    pub(crate) is_static: bool,
    pub(crate) modifiable: bool,
    /// A value that RDS sets in every group of the family.
    pub(crate) system_value: Option<String>,
    pub(crate) description: String,
}

/// What RDS keeps to itself.
const NOT_MODIFIABLE: &[&str] = &[
    "archive_command",
    "archive_mode",
    "config_file",
    "data_directory",
    "fsync",
    "full_page_writes",
    "hba_file",
    "ident_file",
    "listen_addresses",
    "port",
    "ssl",
    "ssl_cert_file",
    "ssl_key_file",
    "unix_socket_directories",
    "wal_level",
];

const SETTINGS: &str = "SELECT name, vartype, context, min_val, max_val, array_to_string(enumvals, ','), short_desc
    FROM pg_settings WHERE context <> 'internal' AND name !~ '\\.' ORDER BY name";

/// Reads the server's settings and adds RDS's.
pub(crate) async fn read(client: &Client, major: u32, aurora: bool) -> Vec<Definition> {
    let mut all: Vec<Definition> = client.query(SETTINGS).await.iter().map(definition).collect();
    all.extend(own(major, aurora));
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// Settings of every server: name, type, values, whether they need a restart.
const ON_PAPER: &[(&str, &str, &str, bool)] = &[
    ("max_connections", "integer", "6-262143", true),
    ("max_replication_slots", "integer", "0-262143", true),
    ("max_slot_wal_keep_size", "integer", "-1-2147483647", false),
    ("max_wal_senders", "integer", "0-262143", true),
    ("wal_sender_timeout", "integer", "0-2147483647", false),
    ("work_mem", "integer", "64-2147483647", false),
];

/// The parameters that matter, for databases without a server.
pub(crate) fn on_paper(major: u32, aurora: bool) -> Vec<Definition> {
    let mut all = own(major, aurora);
    all.extend(ON_PAPER.iter().map(|(name, data_type, allowed, is_static)| Definition {
        name: (*name).to_owned(),
        data_type,
        allowed: Some((*allowed).to_owned()),
        is_static: *is_static,
        modifiable: true,
        system_value: None,
        description: String::new(),
    }));
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

fn definition(row: &tokio_postgres::Row) -> Definition {
    let text = |column: usize| row.get::<_, Option<String>>(column);
    let name: String = row.get(0);
    let (data_type, allowed) = match row.get::<_, &str>(1) {
        "bool" => ("boolean", Some("0,1".to_owned())),
        "integer" => ("integer", range(text(3), text(4))),
        "real" => ("float", range(text(3), text(4))),
        "enum" => ("string", text(5)),
        _ => ("string", None),
    };
    Definition {
        data_type,
        allowed,
        is_static: row.get::<_, &str>(2) == "postmaster",
        modifiable: !NOT_MODIFIABLE.contains(&name.as_str()),
        system_value: None,
        description: text(6).unwrap_or_default(),
        name,
    }
}

fn range(least: Option<String>, most: Option<String>) -> Option<String> {
    Some(format!("{}-{}", least?, most?))
}

fn own(major: u32, aurora: bool) -> Vec<Definition> {
    let flag = |name: &str, is_static: bool, value: &str, description: &str| Definition {
        name: name.to_owned(),
        data_type: "boolean",
        allowed: Some("0,1".to_owned()),
        is_static,
        modifiable: true,
        system_value: Some(value.to_owned()),
        description: description.to_owned(),
    };
    let text = |name: &str, modifiable: bool, value: Option<&str>, description: &str| Definition {
        name: name.to_owned(),
        data_type: "string",
        allowed: None,
        is_static: false,
        modifiable,
        system_value: value.map(str::to_owned),
        description: description.to_owned(),
    };
    let force_ssl = if major >= 15 { "1" } else { "0" };
    let mut own = vec![
        flag("rds.logical_replication", true, "0", "Enables logical decoding."),
        flag("rds.force_ssl", false, force_ssl, "Force SSL connections."),
        flag("rds.iam_auth_for_replication", true, "0", "IAM authentication for replication connections."),
        flag("rds.restrict_password_commands", true, "0", "Restricts commands that change passwords."),
        text("rds.allowed_extensions", true, None, "Extensions that may be created; none given means all."),
        text("rds.extensions", false, Some("citext,hstore,ltree,pg_trgm,pgcrypto"), "Extensions that are available."),
    ];
    if aurora {
        own.push(Definition {
            allowed: Some("0-2147483647".to_owned()),
            data_type: "integer",
            ..flag("rds.logical_wal_cache", true, "-1", "Cache for logical decoding, in 8 KiB pages.")
        });
    }
    own
}

impl Definition {
    /// Whether AWS would take the value.
    pub(crate) fn accepts(&self, value: &str) -> bool {
        // A formula over the size of the machine.
        if value.contains('{') {
            return self.data_type == "integer";
        }
        match (&self.allowed, self.data_type) {
            (Some(range), "integer" | "float") => match (value.parse::<f64>(), bounds(range)) {
                (Ok(value), Some((least, most))) => (least..=most).contains(&value),
                _ => false,
            },
            (Some(list), _) => list.split(',').any(|allowed| allowed == value),
            (None, _) => true,
        }
    }
}

fn bounds(range: &str) -> Option<(f64, f64)> {
    let at = range.get(1..)?.find('-')? + 1;
    Some((range[..at].parse().ok()?, range[at + 1..].parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_taken_as_the_family_says() {
        let mut definition = own(16, false).remove(0);
        assert!(definition.accepts("1") && !definition.accepts("on"));
        definition.allowed = Some("-1-100".to_owned());
        definition.data_type = "integer";
        assert!(
            definition.accepts("-1")
                && definition.accepts("100")
                && !definition.accepts("101")
                && !definition.accepts("x")
        );
    }
}
