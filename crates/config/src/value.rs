//! One value: from what stands under a key to what it means.

mod quantity;

pub use quantity::bytes as parse_bytes;

use std::{path::PathBuf, time::Duration};

use secrecy::SecretString;

use crate::{
    error::{Code, Place, Problem},
    keys::{Key, Kind},
    nearest::nearest,
    node::{Node, Scalar, Tree},
    pattern::{ParsePatternError, TablePattern, split_list},
    pipeline::ObjectType,
    secret::{hidden, is_suspicious, shown},
    secret_url::{SecretUrl, SecretUrlError},
};

/// What a key says. Its `Debug` shows no secret.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Flag(bool),
    /// Of [`Kind::Count`] and [`Kind::Bytes`].
    Number(u64),
    /// Of [`Kind::Millis`] and [`Kind::Seconds`].
    Time(Duration),
    /// Of [`Kind::Word`].
    Word(&'static str),
    /// Of every kind of text that is not secret.
    Text(String),
    Path(PathBuf),
    Url(SecretString),
    Patterns(Vec<TablePattern>),
    Names(Vec<String>),
    Types(Vec<ObjectType>),
    Settings(Vec<(String, String)>),
    /// Checked, and of no further use yet.
    Checked,
}

impl Value {
    /// Whether it asks for something, for keys that do nothing yet: `false` and modes of operation do not.
    pub(crate) fn is_used(&self) -> bool {
        match self {
            Self::Flag(flag) => *flag,
            Self::Word(_) => false,
            Self::Patterns(list) => !list.is_empty(),
            Self::Names(list) => !list.is_empty(),
            Self::Types(list) => !list.is_empty(),
            Self::Settings(list) => !list.is_empty(),
            Self::Number(_) | Self::Time(_) | Self::Text(_) | Self::Path(_) | Self::Url(_) | Self::Checked => true,
        }
    }
}

/// How numbers with a unit are written where the value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A bare number has the unit of the key.
    File,
    /// A bare number would be nanoseconds to pgstream, which nobody means: the unit is needed.
    Variable,
}

/// Reads the value of a leaf key; `None` when nothing was written, or nothing usable, which is then reported.
pub(crate) fn read(key: &'static Key, node: &Node, origin: Origin, problems: &mut Vec<Problem>) -> Option<Value> {
    let mut reader = Reader { key, place: &node.place, origin, problems };
    let scalar = match &node.tree {
        Tree::Null => return None,
        Tree::Scalar(scalar) if scalar.broken => return None,
        Tree::Scalar(scalar) => scalar,
        Tree::List(items) => return reader.list(items),
        Tree::Map(_) if key.kind == Kind::Free => return Some(Value::Checked),
        Tree::Map(_) => {
            reader.wrong("is a section", &reader.wanted());
            return None;
        }
    };
    if is_list(key.kind) {
        return reader.items(&Item::split(scalar, &node.place));
    }
    reader.scalar(scalar)
}

fn is_list(kind: Kind) -> bool {
    matches!(kind, Kind::Patterns | Kind::Tables | Kind::Names | Kind::Types(_) | Kind::Settings)
}

/// One item of a list.
struct Item<'a> {
    text: &'a str,
    /// The only form that is ever shown.
    written: &'a str,
    place: &'a Place,
}

impl<'a> Item<'a> {
    /// `a, b.*` in one text.
    fn split(scalar: &'a Scalar, place: &'a Place) -> Vec<Self> {
        let written = |text| scalar.written.as_deref().unwrap_or(text);
        split_list(&scalar.text).into_iter().map(|text| Item { text, written: written(text), place }).collect()
    }
}

/// Reads the values of one key.
struct Reader<'a> {
    key: &'static Key,
    place: &'a Place,
    origin: Origin,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn scalar(&mut self, scalar: &Scalar) -> Option<Value> {
        let text = scalar.text.trim();
        if text.is_empty() {
            // Go programs cannot tell an empty text from none, and templates are written for that.
            if self.key.kind == Kind::Url {
                self.report(Code::Missing, "is empty", "write a postgresql:// URL, or remove the key");
            }
            return None;
        }
        let value = match self.key.kind {
            Kind::Text => Some(Value::Text(text.to_owned())),
            Kind::Free => Some(Value::Checked),
            Kind::Path => Some(Value::Path(PathBuf::from(text))),
            Kind::Url => return self.url(text),
            Kind::Flag => quantity::flag(text).map(Value::Flag),
            Kind::Count(from) => text.parse().ok().filter(|n| *n >= from).map(Value::Number),
            Kind::Bytes => quantity::bytes(text).filter(|n| *n > 0).map(Value::Number),
            Kind::Millis => self.time(text, Duration::from_millis),
            Kind::Seconds => self.time(text, Duration::from_secs),
            Kind::Ratio => text.parse().ok().filter(|r: &f64| (0.0..=1.0).contains(r)).map(|_| Value::Checked),
            Kind::Word(words) => words.iter().find(|word| **word == text).map(|word| Value::Word(word)),
            Kind::Address => address(text).map(Value::Text),
            Kind::HttpPath => is_http_path(text).then(|| Value::Text(text.to_owned())),
            Kind::Slot => is_slot(text).then(|| Value::Text(text.to_owned())),
            Kind::Section
            | Kind::Sections
            | Kind::Patterns
            | Kind::Tables
            | Kind::Names
            | Kind::Types(_)
            | Kind::Settings => None,
        };
        if value.is_none() {
            let mut fix = self.wanted();
            if let Kind::Word(words) = self.key.kind
                && let Some(word) = nearest(text, words.iter().copied())
            {
                fix = format!("{fix}; did you mean `{word}`?");
            }
            self.wrong(&format!("is {}", shown(scalar.written())), &fix);
        }
        value
    }

    fn time(&self, text: &str, unit: fn(u64) -> Duration) -> Option<Value> {
        let bare = text.parse().ok().filter(|n| *n == 0 || self.origin == Origin::File).map(unit);
        bare.or_else(|| quantity::duration(text)).map(Value::Time)
    }

    fn url(&mut self, text: &str) -> Option<Value> {
        if let Some(secret) = SecretUrl::parse(text) {
            return self.secret_name(text, secret);
        }
        if text.starts_with("postgresql://") || text.starts_with("postgres://") {
            return Some(Value::Url(text.into()));
        }
        let fix = match text.contains("://") {
            false if text.contains('=') => "write it as a URL: postgresql://user:password@host:5432/dbname",
            false => "start it with postgresql://",
            true => "PostgreSQL URLs start with postgresql:// or postgres://",
        };
        self.wrong("is not a PostgreSQL URL (its value is not shown)", fix);
        None
    }

    fn secret_name(&mut self, text: &str, secret: Result<SecretUrl, SecretUrlError>) -> Option<Value> {
        match secret {
            Ok(_) => Some(Value::Url(text.into())),
            Err(SecretUrlError { problem, fix }) => {
                self.wrong(&format!("does not name a secret: {problem} (its value is not shown)"), fix);
                None
            }
        }
    }

    fn list(&mut self, nodes: &[Node]) -> Option<Value> {
        if self.key.kind == Kind::Free {
            return Some(Value::Checked);
        }
        if !is_list(self.key.kind) {
            self.wrong("is a list", &self.wanted());
            return None;
        }
        let mut items = Vec::new();
        for node in nodes {
            match &node.tree {
                Tree::Scalar(scalar) if scalar.broken => {}
                // `["${TABLES}"]` may stand for many.
                Tree::Scalar(scalar) if scalar.written.is_some() => items.extend(Item::split(scalar, &node.place)),
                Tree::Scalar(scalar) => {
                    items.push(Item { text: &scalar.text, written: &scalar.text, place: &node.place });
                }
                _ => {
                    let mut item = Reader { place: &node.place, problems: &mut *self.problems, ..*self };
                    item.wrong("has an item that is no text", "write one name an item, in double quotes if need be");
                }
            }
        }
        self.items(&items)
    }

    /// Reports every item that is wrong.
    fn items(&mut self, items: &[Item<'_>]) -> Option<Value> {
        let before = self.problems.len();
        let value = match self.key.kind {
            Kind::Patterns => Value::Patterns(
                self.each(items, |text| text.parse().map_err(|error: ParsePatternError| error.to_string())),
            ),
            Kind::Tables => Value::Patterns(self.each(items, exact_table)),
            Kind::Types(types) => Value::Types(self.each(items, |text| object_type(types, text))),
            Kind::Settings => Value::Settings(self.each(items, session_setting)),
            _ => Value::Names(self.each(items, |text| match text.trim() {
                "" => Err("write a name".to_owned()),
                name => Ok(name.to_owned()),
            })),
        };
        (self.problems.len() == before).then_some(value)
    }

    fn each<T>(&mut self, items: &[Item<'_>], parse: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let mut parsed = Vec::new();
        // A URL that was split into items holds its password in any of them.
        let suspicious = items.iter().any(|item| is_suspicious(item.text) || is_suspicious(item.written));
        for item in items {
            match parse(item.text) {
                Ok(item) => parsed.push(item),
                Err(fix) => {
                    let written = if suspicious { hidden() } else { shown(item.written) };
                    let mut reader = Reader { place: item.place, problems: &mut *self.problems, ..*self };
                    reader.wrong(&format!("has the item {written}"), &fix);
                }
            }
        }
        parsed
    }

    /// What would be right, as the beginning of a fix.
    fn wanted(&self) -> String {
        match (self.key.kind, self.origin) {
            (Kind::Millis, Origin::Variable) => "write a number and a unit: `500ms`, `30s`".to_owned(),
            (Kind::Seconds, Origin::Variable) => "write a number and a unit: `60s`, `1m`".to_owned(),
            (Kind::Slot, _) => "write 1 to 63 lower-case letters, digits and underscores".to_owned(),
            (Kind::Url, _) => "write a postgresql:// URL".to_owned(),
            (Kind::Address, _) => "write `host:port`, such as `localhost:9910` or `:9910`".to_owned(),
            (Kind::Bytes, _) => "write a number of bytes, or a size such as `64MiB`".to_owned(),
            (Kind::Millis, _) => "write milliseconds, or a time such as `500ms` or `30s`".to_owned(),
            (Kind::Seconds, _) => "write seconds, or a time such as `60s` or `1m`".to_owned(),
            (kind @ Kind::Word(_), _) => format!("write one of {}", kind.describe()),
            (kind, _) => format!("write a value of this kind: {}", kind.describe()),
        }
    }

    fn wrong(&mut self, what: &str, fix: &str) {
        self.report(Code::WrongValue, what, fix);
    }

    fn report(&mut self, code: Code, what: &str, fix: &str) {
        let what = match self.key.is_variable_only() {
            true => format!("the value {what}"),
            false => format!("{} {what}", self.key.path),
        };
        self.problems.push(Problem::new(self.place, code, what, fix));
    }
}

fn exact_table(text: &str) -> Result<TablePattern, String> {
    match text.parse::<TablePattern>() {
        Err(error) => Err(error.to_string()),
        Ok(pattern) if pattern.is_exact() => Ok(pattern),
        Ok(_) => {
            Err("wildcards are not for this key: name the tables, or use modifiers.filter.exclude_tables".to_owned())
        }
    }
}

fn object_type(types: &[(&'static str, ObjectType)], text: &str) -> Result<ObjectType, String> {
    if let Some((_, kind)) = types.iter().find(|(word, _)| *word == text.trim()) {
        return Ok(*kind);
    }
    let words = || types.iter().map(|(word, _)| *word);
    match nearest(text, words()) {
        Some(word) => Err(format!("did you mean `{word}`?")),
        None => Err(format!("the object types are: {}", words().collect::<Vec<_>>().join(", "))),
    }
}

fn session_setting(text: &str) -> Result<(String, String), String> {
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))
    };
    match text.trim().split_once('=') {
        Some((name, value)) if is_name(name) && !value.is_empty() && !value.contains(char::is_whitespace) => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err("write `name=value` without blanks, such as `maintenance_work_mem=1GB`".to_owned()),
    }
}

/// `host:port`; no host means every interface.
fn address(text: &str) -> Option<String> {
    let (host, port) = text.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    match bare {
        "" if host.is_empty() => Some(format!("0.0.0.0:{port}")),
        _ if bare.len() < host.len() => bare.parse::<std::net::Ipv6Addr>().ok().map(|ip| format!("[{ip}]:{port}")),
        _ => host.chars().all(fits).then(|| format!("{host}:{port}")),
    }
}

fn is_http_path(text: &str) -> bool {
    text.len() > 1
        && text.starts_with('/')
        && text.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '{' | '}' | '*'))
}

fn is_slot(text: &str) -> bool {
    text.len() <= 63 && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys;

    fn value(path: &str, text: &str, origin: Origin) -> Result<Option<Value>, String> {
        let key = keys::find(path).unwrap();
        let mut problems = Vec::new();
        let value = read(key, &Node::scalar(Place::Nowhere, text), origin, &mut problems);
        match problems.first() {
            None => Ok(value),
            Some(problem) => Err(format!("{} | {}", problem.what, problem.fix)),
        }
    }

    fn debug(path: &str, text: &str) -> String {
        value(path, text, Origin::File).map_or_else(|error| error, |value| format!("{value:?}"))
    }

    #[test]
    fn values_of_every_kind() {
        for (path, text, expected) in [
            ("source.postgres.mode", "snapshot", "Some(Word(\"snapshot\"))"),
            ("target.postgres.batch.size", "10", "Some(Number(10))"),
            ("target.postgres.batch.max_bytes", "1.5MiB", "Some(Number(1572864))"),
            ("target.postgres.batch.timeout", "1000", "Some(Time(1s))"),
            ("target.postgres.batch.timeout", "1m30s", "Some(Time(90s))"),
            ("instrumentation.metrics.collection_interval", "60", "Some(Time(60s))"),
            ("source.postgres.replication.replication_slot", "123", "Some(Text(\"123\"))"),
            ("instrumentation.health.address", ":9910", "Some(Text(\"0.0.0.0:9910\"))"),
            ("instrumentation.health.address", "[::1]:80", "Some(Text(\"[::1]:80\"))"),
            ("source.postgres.url", " postgres://u:pw@h/db\n", "Some(Url(SecretBox<str>([REDACTED])))"),
            ("source.postgres.snapshot.schema.pgdump_pgrestore.role", "", "None"),
            (
                "source.postgres.snapshot.schema.pgdump_pgrestore.index_constraint_session_settings",
                "a=1 b.c=4GB",
                "Some(Settings([(\"a\", \"1\"), (\"b.c\", \"4GB\")]))",
            ),
            ("target.postgres.include_ddl_object_types", "tables, types", "Some(Types([Tables, Types]))"),
        ] {
            assert_eq!(debug(path, text), expected, "{path} {text}");
        }
    }

    #[test]
    fn wrong_values_say_what_would_be_right() {
        for (path, text, expected) in [
            (
                "source.postgres.mode",
                "snapshots",
                "source.postgres.mode is `snapshots` | write one of `replication`, `snapshot`, `snapshot_and_replication`; \
                 did you mean `snapshot`?",
            ),
            (
                "target.postgres.batch.size",
                "0",
                "target.postgres.batch.size is `0` | write a value of this kind: whole number, 1 or more",
            ),
            (
                "target.postgres.batch.max_bytes",
                "12 parsecs",
                "target.postgres.batch.max_bytes is `12 parsecs` | write a number of bytes, or a size such as `64MiB`",
            ),
            (
                "source.postgres.replication.replication_slot",
                "My-Slot",
                "source.postgres.replication.replication_slot is `My-Slot` | write 1 to 63 lower-case letters, digits \
                 and underscores",
            ),
            (
                "source.postgres.url",
                "host=h password=pw",
                "source.postgres.url is not a PostgreSQL URL (its value is not shown) | write it as a URL: \
                 postgresql://user:password@host:5432/dbname",
            ),
            (
                "source.postgres.url",
                "secretsmanager://prod?user=x",
                "source.postgres.url does not name a secret: the user comes from the secret (its value is not shown) | \
                 remove `user=`",
            ),
            (
                "source.postgres.snapshot.excluded_tables",
                "a.*",
                "source.postgres.snapshot.excluded_tables has the item `a.*` | wildcards are not for this key: name \
                 the tables, or use modifiers.filter.exclude_tables",
            ),
            (
                "target.postgres.include_ddl_object_types",
                "table",
                "target.postgres.include_ddl_object_types has the item `table` | did you mean `tables`?",
            ),
            (
                "instrumentation.health.address",
                "localhost",
                "instrumentation.health.address is `localhost` | write `host:port`, such as `localhost:9910` or `:9910`",
            ),
        ] {
            assert_eq!(debug(path, text), expected);
        }
    }

    #[test]
    fn a_secret_is_named_by_name_or_arn() {
        use secrecy::ExposeSecret as _;
        let url = "secretsmanager://arn:aws:secretsmanager:eu-west-1:1:secret:x?dbname=app&port=5432&sslmode=require";
        let value = value("source.postgres.url", url, Origin::File).unwrap();
        assert!(matches!(value, Some(Value::Url(text)) if text.expose_secret() == url));
    }

    #[test]
    fn in_a_variable_a_time_has_its_unit() {
        let path = "target.postgres.batch.timeout";
        assert!(matches!(value(path, "1s", Origin::Variable), Ok(Some(Value::Time(time))) if time.as_secs() == 1));
        assert!(matches!(value(path, "0", Origin::Variable), Ok(Some(Value::Time(Duration::ZERO)))));
        let error = value(path, "1000", Origin::Variable).unwrap_err();
        assert_eq!(error, "target.postgres.batch.timeout is `1000` | write a number and a unit: `500ms`, `30s`");
    }
}
