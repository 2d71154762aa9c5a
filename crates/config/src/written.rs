//! What was written, wherever it was: file, then environment, then flags; the later one wins.
//!
//! ```text
//!  YAML ──walk──┐ unknown keys, ${VAR}
//!  .env ────────┼──> Written: key -> (texts, where)
//!  environment ─┤
//!  flags ───────┘
//! ```

use std::collections::BTreeMap;

use crate::{
    error::{ConfigError, Origin},
    keys::{self, KEYS, Kind},
    tree::{Node, Value},
};

/// A value as text.
#[derive(Debug, Clone)]
pub enum Text {
    /// One value.
    One(String),
    /// A list, each with its line.
    Many(Vec<(String, u64)>),
    /// A mapping where the key has a form of its own.
    Section,
}

/// All values by key, and what was wrong on the way.
#[derive(Debug, Default)]
pub struct Written {
    /// Values by dotted key.
    pub values: BTreeMap<&'static str, (Text, Origin)>,
    /// What was wrong.
    pub errors: Vec<ConfigError>,
}

/// Looks up environment variables; tests give their own.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Written {
    /// Reports a problem.
    pub fn wrong(&mut self, origin: Origin, key: &str, problem: String, fix: impl Into<String>) {
        self.errors.push(ConfigError { origin, key: key.to_owned(), problem, fix: fix.into() });
    }

    /// Sets a key, replacing what an earlier layer said.
    pub fn set(&mut self, path: &'static str, text: Text, origin: Origin) {
        self.values.insert(path, (text, origin));
    }

    /// Takes a YAML tree.
    pub fn take_yaml(&mut self, file: &str, root: &Node, environment: Environment<'_>) {
        match &root.value {
            Value::Map(_) => self.walk(file, "", root, environment),
            Value::Null => {}
            _ => self.wrong(
                Origin::File { file: file.to_owned(), line: root.line },
                "",
                "the file must be a mapping".to_owned(),
                "start with `source:` and `target:`",
            ),
        }
    }

    fn walk(&mut self, file: &str, prefix: &str, node: &Node, environment: Environment<'_>) {
        let Value::Map(entries) = &node.value else {
            if !matches!(node.value, Value::Null) {
                let origin = Origin::File { file: file.to_owned(), line: node.line };
                let names = keys::children(prefix).join(", ");
                self.wrong(
                    origin,
                    prefix,
                    "a section is expected here, not a value".into(),
                    format!("it may hold: {names}"),
                );
            }
            return;
        };
        for (name, child) in entries {
            let path = if prefix.is_empty() { name.value.clone() } else { format!("{prefix}.{}", name.value) };
            let origin = Origin::File { file: file.to_owned(), line: name.referenced.line() };
            if let Some(key) = keys::find(&path) {
                self.take_value(file, key, child, origin, environment);
            } else if keys::children(&path).is_empty() {
                let siblings = keys::children(prefix);
                self.wrong(origin, &path, "there is no such key".to_owned(), did_you_mean(&name.value, &siblings));
            } else {
                self.walk(file, &path, child, environment);
            }
        }
    }

    fn take_value(
        &mut self,
        file: &str,
        key: &'static keys::Key,
        node: &Node,
        origin: Origin,
        environment: Environment<'_>,
    ) {
        let text = match (&node.value, key.kind) {
            (_, Kind::Section) => Text::Section,
            (Value::Null, _) => return,
            (Value::Scalar(text), _) => match self.expand(key, text, &origin, environment) {
                Some(text) => Text::One(text),
                None => return,
            },
            (Value::List(nodes), _) => {
                let mut items = Vec::new();
                for item in nodes {
                    let at = Origin::File { file: file.to_owned(), line: item.line };
                    match &item.value {
                        Value::Scalar(text) => {
                            items.extend(self.expand(key, text, &at, environment).map(|text| (text, item.line)));
                        }
                        Value::Null => {}
                        _ => self.wrong(at, key.path, "a list of plain values is expected".into(), ""),
                    }
                }
                Text::Many(items)
            }
            (Value::Map(_), _) => {
                self.wrong(origin, key.path, "a value is expected here, not a section".into(), expected(key.kind));
                return;
            }
        };
        self.set(key.path, text, origin);
    }

    /// `${NAME}` from the environment; braces only.
    fn expand(&mut self, key: &keys::Key, text: &str, origin: &Origin, environment: Environment<'_>) -> Option<String> {
        let mut expanded = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            expanded.push_str(before);
            let Some((name, tail)) = after.split_once('}') else {
                let fix = "write ${NAME}".to_owned();
                self.wrong(origin.clone(), key.path, "`${` without its `}`".into(), fix);
                return None;
            };
            let Some(value) = environment(name) else {
                let problem = format!("the environment variable {name} is not set");
                self.wrong(origin.clone(), key.path, problem, format!("export {name}, or write the value here"));
                return None;
            };
            expanded.push_str(&value);
            rest = tail;
        }
        expanded.push_str(rest);
        Some(expanded)
    }

    /// Takes the variables of a `.env` file: `NAME=value` lines, `#` comments, optional quotes and `export`.
    pub fn take_env_file(&mut self, file: &str, text: &str) {
        for (number, line) in (1_u64..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let origin = Origin::File { file: file.to_owned(), line: number };
            let Some((name, value)) = line.strip_prefix("export ").unwrap_or(line).split_once('=') else {
                self.wrong(origin, "", "not a line of the form NAME=value".into(), "");
                continue;
            };
            let name = name.trim();
            match KEYS.iter().find(|key| key.env == Some(name)) {
                Some(key) => self.take_variable(key, unquote(value.trim()), origin),
                None if name.starts_with("PGSTREAM_") => {
                    let known: Vec<&str> = KEYS.iter().filter_map(|key| key.env).collect();
                    self.wrong(origin, name, "there is no such variable".into(), did_you_mean(name, &known));
                }
                None => {}
            }
        }
    }

    /// Takes the environment's variables; an empty one counts as not set.
    pub fn take_environment(&mut self, environment: Environment<'_>) {
        for key in KEYS {
            let Some(name) = key.env else { continue };
            if let Some(value) = environment(name).filter(|value| !value.is_empty()) {
                self.take_variable(key, &value, Origin::Environment(name));
            }
        }
    }

    fn take_variable(&mut self, key: &'static keys::Key, value: &str, origin: Origin) {
        let text = if is_list(key.kind) {
            Text::Many(
                value.split([',', ' ']).filter(|item| !item.is_empty()).map(|item| (item.to_owned(), 0)).collect(),
            )
        } else {
            Text::One(value.to_owned())
        };
        self.set(key.path, text, origin);
    }
}

fn unquote(value: &str) -> &str {
    let quoted = |quote: char| value.strip_prefix(quote).and_then(|value| value.strip_suffix(quote));
    quoted('"').or_else(|| quoted('\'')).unwrap_or(value)
}

/// Whether values of this kind are lists.
pub fn is_list(kind: Kind) -> bool {
    matches!(kind, Kind::Texts | Kind::Tables | Kind::ExactTables | Kind::Assignments | Kind::ObjectTypes)
}

/// The nearest of the names, or all of them when none is near.
pub fn did_you_mean(name: &str, known: &[&str]) -> String {
    let near = known.iter().map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate)).min();
    match near {
        Some((distance, nearest)) if distance <= name.len().div_ceil(3).max(1) => format!("did you mean `{nearest}`?"),
        _ if known.len() <= 20 => format!("known here: {}", known.join(", ")),
        _ => "see docs/configuration.md for all of them".to_owned(),
    }
}

/// What a value of this kind looks like.
pub fn expected(kind: Kind) -> String {
    match kind {
        Kind::Text => "write a text".into(),
        Kind::Secret => "write a URL: postgresql://user:password@host:5432/database".into(),
        Kind::Bool => "write true or false".into(),
        Kind::Count => "write a whole number".into(),
        Kind::Positive => "write a whole number, at least 1".into(),
        Kind::Ratio => "write a number between 0 and 1".into(),
        Kind::Size => "write a number of bytes, or one with a unit: 64MiB".into(),
        Kind::Millis => "write a whole number of milliseconds".into(),
        Kind::Seconds => "write a whole number of seconds".into(),
        Kind::OneOf(names) => format!("write one of: {}", names.join(", ")),
        Kind::Texts => "write a list of texts".into(),
        Kind::Tables => "write a list of patterns: t, schema.t, schema.*, *.t or *.*".into(),
        Kind::ExactTables => "write a list of tables: t or schema.t; wildcards are not allowed here".into(),
        Kind::Assignments => "write a list of name=value".into(),
        Kind::ObjectTypes => format!("write a list of: {}", keys::OBJECT_TYPES.join(", ")),
        Kind::Section => "write a section".into(),
    }
}
