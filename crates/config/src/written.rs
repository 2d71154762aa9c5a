//! What was written, key by key: the file, then the environment over it, then the flags over both.

mod section;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use secrecy::{ExposeSecret, SecretString};

use crate::{
    error::{Code, Notice, Place, Problem},
    keys::{self, Key, Standard},
    load::{Environment, Needs, UrlCheck},
    nearest::nearest,
    node::Node,
    pattern::TablePattern,
    pipeline::ObjectType,
    support::{self, Status},
    value::{self, Origin, Value},
};

pub(crate) use section::read_file;

/// The values of all keys that were written, and what was wrong with the others.
#[derive(Debug, Default)]
pub(crate) struct Written {
    entries: BTreeMap<&'static str, Entry>,
    /// Sections of the file, also empty ones.
    sections: BTreeMap<&'static str, Place>,
    /// Keys that were written wrongly somewhere.
    failed: BTreeSet<&'static str>,
    /// The name of the file.
    pub file: Option<Arc<str>>,
    pub problems: Vec<Problem>,
    pub notices: Vec<Notice>,
}

#[derive(Debug)]
struct Entry {
    value: Value,
    place: Place,
}

impl Written {
    /// Sets a key, over what was there.
    fn insert(&mut self, key: &'static Key, place: &Place, value: Value) {
        self.entries.insert(key.path, Entry { value, place: place.clone() });
    }

    /// Reads the value of a leaf key, and sets it.
    pub(crate) fn set(&mut self, key: &'static Key, node: &Node, origin: Origin) {
        let before = self.problems.len();
        if let Some(value) = value::read(key, node, origin, &mut self.problems) {
            self.insert(key, &node.place, value);
        } else if self.problems.len() > before || node.is_broken() {
            self.failed.insert(key.path);
        }
    }

    /// Whether the key was written, but has no value for that.
    pub(crate) fn has_failed(&self, path: &str) -> bool {
        self.failed.contains(path) && !self.entries.contains_key(path)
    }

    /// Sets a key that needs no reading.
    pub(crate) fn put(&mut self, path: &'static str, place: &Place, value: Value) {
        debug_assert!(keys::find(path).is_some(), "{path}");
        self.entries.insert(path, Entry { value, place: place.clone() });
    }

    /// Takes a variable of a `.env` file, where an unknown name is an error.
    pub(crate) fn variable_of_file(&mut self, name: &str, node: &Node) {
        if let Some(key) = keys::find_variable(name) {
            self.set(key, node, Origin::Variable);
        } else if let Some(what) = support::variable_not_here(name) {
            let what = format!("{name} belongs to a {what} source or target, which is not here");
            self.problems.push(Problem::new(&node.place, Code::NotHere, what, NOT_HERE));
        } else if name.starts_with("PGSTREAM_") {
            let fix = match nearest_variable(name) {
                Some(nearest) => format!("did you mean {nearest}?"),
                None => "remove it; docs/configuration.md lists the variables".to_owned(),
            };
            let what = format!("there is no variable {name}");
            self.problems.push(Problem::new(&node.place, Code::UnknownKey, what, fix));
        }
    }

    /// Takes the variables of the process, by name: others may have theirs there.
    pub(crate) fn variables_of_process(&mut self, environment: Environment<'_>) {
        for key in keys::all() {
            let Some(name) = key.variable else { continue };
            if let Some(value) = environment(name) {
                self.set(key, &Node::scalar(Place::Variable(name), value), Origin::Variable);
            }
        }
        for (name, what) in support::VARIABLES_THAT_SELECT {
            if environment(name).is_some_and(|value| !value.is_empty()) {
                let message = format!("ignored: it belongs to a {what} source or target, which is not here");
                self.notices.push(Notice { place: Place::Variable(name), key: (*name).to_owned(), message });
            }
        }
    }

    /// Reports what is written but not here, not built yet, or without effect, under the prefixes of `scope`; all when
    /// it is empty.
    pub(crate) fn check_support(&mut self, scope: &[&str]) {
        let mut told: Vec<&str> = Vec::new();
        let within = |path: &str| scope.is_empty() || scope.iter().any(|scope| path.starts_with(scope));
        for (path, entry) in self.entries.iter().filter(|(path, entry)| entry.value.is_used() && within(path)) {
            let plain = |key: &str| key.trim_start_matches('$').to_owned();
            match support::status(path) {
                Status::NotHere => {
                    let kind = if path.starts_with("source") { "source" } else { "target" };
                    let what = format!("{path} is not a {kind} here");
                    self.problems.push(Problem::new(&entry.place, Code::NotHere, what, NOT_HERE));
                }
                Status::NotYet { key, instead } if !told.contains(&key) => {
                    told.push(key);
                    let what = format!("{} is understood but not available in this version", plain(key));
                    self.problems.push(Problem::new(&entry.place, Code::NotAvailable, what, instead));
                }
                Status::Accepted { key, holds } if !told.contains(&key) => {
                    told.push(key);
                    let message = format!("accepted: {holds}");
                    self.notices.push(Notice { place: entry.place.clone(), key: plain(key), message });
                }
                Status::Available | Status::NotYet { .. } | Status::Accepted { .. } => {}
            }
        }
    }

    /// Reports URLs that start well and go on wrongly.
    pub(crate) fn check_urls(&mut self, check: UrlCheck<'_>, needs: Needs) {
        let target = (needs == Needs::SourceAndTarget).then_some("target.postgres.url");
        for path in ["source.postgres.url"].into_iter().chain(target) {
            let Some(Entry { value: Value::Url(url), place }) = self.entries.get(path) else { continue };
            if let Err((what, fix)) = check(url.expose_secret()) {
                let problem = Problem::new(place, Code::WrongValue, format!("{path}: {what}"), fix);
                self.problems.push(problem);
            }
        }
    }

    /// Where the key or section was written.
    pub(crate) fn place(&self, path: &str) -> Option<&Place> {
        self.entries.get(path).map(|entry| &entry.place).or_else(|| self.sections.get(path))
    }

    /// Whether the file has the section, be it empty.
    pub(crate) fn has_section(&self, section: &str) -> bool {
        self.sections.contains_key(section)
    }

    /// Whether a key under the section was written.
    pub(crate) fn has_under(&self, section: &str) -> bool {
        self.place_under(section).is_some()
    }

    /// Where the first key under the section was written.
    pub(crate) fn place_under(&self, section: &str) -> Option<&Place> {
        let inside = |path: &str| path.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'));
        self.entries.iter().filter(|(path, _)| inside(path)).map(|(_, entry)| &entry.place).min()
    }

    /// Whether some target was asked for, right or wrong.
    pub(crate) fn has_target(&self) -> bool {
        let targets = ["target.postgres", "target.stdout", "target.kafka", "target.search", "target.webhooks"];
        targets.iter().any(|target| self.place(target).is_some())
            || ["target.postgres.url", "$PGSTREAM_STDOUT_WRITER_ENABLED"]
                .iter()
                .any(|key| self.entries.contains_key(key) || self.failed.contains(key))
    }

    pub(crate) fn problem(&mut self, place: &Place, code: Code, what: impl Into<String>, fix: impl Into<String>) {
        self.problems.push(Problem::new(place, code, what, fix));
    }

    /// Reports that something is missing, at the innermost section that there is.
    pub(crate) fn missing(&mut self, section: &str, what: &str, fix: &str) {
        let file = || self.file.clone().map_or(Place::Nowhere, Place::File);
        let outer = section.split('.').next().unwrap_or(section);
        let place = self.sections.get(section).or_else(|| self.sections.get(outer)).cloned().unwrap_or_else(file);
        self.problem(&place, Code::Missing, what, fix);
    }

    pub(crate) fn notice(&mut self, path: &'static str, message: &str) {
        let place = self.place(path).cloned().unwrap_or(Place::Nowhere);
        self.notice_at(&place, path, message);
    }

    pub(crate) fn notice_at(&mut self, place: &Place, key: &str, message: &str) {
        self.notices.push(Notice { place: place.clone(), key: key.to_owned(), message: message.to_owned() });
    }

    fn value(&self, path: &str) -> Option<&Value> {
        debug_assert!(keys::find(path).is_some(), "{path}");
        self.entries.get(path).map(|entry| &entry.value)
    }

    fn standard(path: &str) -> Standard {
        keys::find(path).map_or(Standard::None, |key| key.default)
    }

    /// The flag if it was written.
    pub(crate) fn flag_written(&self, path: &str) -> Option<bool> {
        match self.value(path) {
            Some(Value::Flag(flag)) => Some(*flag),
            _ => None,
        }
    }

    pub(crate) fn flag(&self, path: &str) -> bool {
        self.flag_written(path).unwrap_or(Self::standard(path) == Standard::Flag(true))
    }

    /// A count or a size, if it was written.
    pub(crate) fn number_written(&self, path: &str) -> Option<u64> {
        match self.value(path) {
            Some(Value::Number(number)) => Some(*number),
            _ => None,
        }
    }

    /// A count or a size.
    pub(crate) fn number(&self, path: &str) -> u64 {
        self.number_written(path).unwrap_or(match Self::standard(path) {
            Standard::Count(number) | Standard::Bytes(number) => number,
            _ => 0,
        })
    }

    pub(crate) fn time(&self, path: &str) -> Duration {
        match (self.value(path), Self::standard(path)) {
            (Some(Value::Time(time)), _) => *time,
            (_, Standard::Millis(millis)) => Duration::from_millis(millis),
            (_, Standard::Seconds(seconds)) => Duration::from_secs(seconds),
            _ => Duration::ZERO,
        }
    }

    /// One of the words of the key; empty when it was not written and has no default.
    pub(crate) fn word(&self, path: &str) -> &'static str {
        match (self.value(path), Self::standard(path)) {
            (Some(Value::Word(word)), _) => word,
            (_, Standard::Word(word)) => word,
            _ => "",
        }
    }

    pub(crate) fn text(&self, path: &str) -> Option<String> {
        match (self.value(path), Self::standard(path)) {
            (Some(Value::Text(text)), _) => Some(text.clone()),
            (_, Standard::Text(text)) => Some(text.to_owned()),
            _ => None,
        }
    }

    pub(crate) fn file(&self, path: &str) -> Option<PathBuf> {
        match self.value(path) {
            Some(Value::Path(file)) => Some(file.clone()),
            _ => None,
        }
    }

    pub(crate) fn url(&self, path: &str) -> Option<SecretString> {
        match self.value(path) {
            Some(Value::Url(url)) => Some(url.clone()),
            _ => None,
        }
    }

    pub(crate) fn patterns(&self, path: &str) -> &[TablePattern] {
        match self.value(path) {
            Some(Value::Patterns(patterns)) => patterns,
            _ => &[],
        }
    }

    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        match self.value(path) {
            Some(Value::Names(names)) => names.clone(),
            _ => Vec::new(),
        }
    }

    pub(crate) fn types(&self, path: &str) -> &[ObjectType] {
        match self.value(path) {
            Some(Value::Types(types)) => types,
            _ => &[],
        }
    }

    pub(crate) fn settings(&self, path: &str) -> Vec<(String, String)> {
        match self.value(path) {
            Some(Value::Settings(settings)) => settings.clone(),
            _ => Vec::new(),
        }
    }
}

const NOT_HERE: &str = "from PostgreSQL to PostgreSQL (or target.stdout) is what this program does; remove it, or use \
                        pgstream for this pipeline";

fn nearest_variable(name: &str) -> Option<&'static str> {
    nearest(name, keys::all().filter_map(|key| key.variable))
}
