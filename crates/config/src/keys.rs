//! Every key there is: the one table that reading, the search for the nearest key, the environment and the
//! documentation follow.
//!
//! ```text
//!  Key { path, kind, default, variable } ──┬─> which keys a file may hold, and what stands under them
//!                                          ├─> which variables are read
//!                                          ├─> the value when nothing is written
//!                                          └─> docs/configuration.md
//! ```

mod modifiers;
mod source;
mod target;

use crate::pipeline::ObjectType;

/// One key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    /// Dotted; a segment `[]` stands for the items of a list, `*` for any name.
    pub path: &'static str,
    pub kind: Kind,
    pub default: Standard,
    /// The environment variable that says the same.
    pub variable: Option<&'static str>,
    /// Another spelling of this key, by its last segment.
    pub alias: Option<&'static str>,
    /// For the documentation; one sentence without its full stop.
    pub meaning: &'static str,
}

/// What stands under a key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// More keys.
    Section,
    /// Anything; not looked into.
    Free,
    /// A list of sections.
    Sections,
    /// Text in one line, not empty.
    Text,
    /// A connection URL. Secret.
    Url,
    /// `true` or `false`.
    Flag,
    /// A whole number from this one on.
    Count(u64),
    /// A number of bytes, at least one.
    Bytes,
    /// Milliseconds in a file, `500ms` in a variable.
    Millis,
    /// Seconds in a file, `60s` in a variable.
    Seconds,
    /// Between 0 and 1.
    Ratio,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Table patterns.
    Patterns,
    /// Table patterns without wildcards.
    Tables,
    /// Names.
    Names,
    /// Object types, with or without comments.
    Types(&'static [(&'static str, ObjectType)]),
    /// `name=value` settings.
    Settings,
    /// The path of a file.
    Path,
    /// `host:port`.
    Address,
    /// The path part of a URL.
    HttpPath,
    /// The name of a replication slot.
    Slot,
}

impl Kind {
    /// In a word or two, for the documentation and errors.
    pub(crate) fn describe(self) -> String {
        match self {
            Self::Section => "section".into(),
            Self::Free => "anything".into(),
            Self::Sections => "list of sections".into(),
            Self::Text => "text".into(),
            Self::Url => "URL, secret".into(),
            Self::Flag => "true or false".into(),
            Self::Count(0) => "whole number".into(),
            Self::Count(from) => format!("whole number, {from} or more"),
            Self::Bytes => "size: bytes or `64MiB`".into(),
            Self::Millis => "milliseconds, or `500ms`, `30s`".into(),
            Self::Seconds => "seconds, or `60s`, `1m`".into(),
            Self::Ratio => "number from 0 to 1".into(),
            Self::Word(words) => format!("`{}`", words.join("`, `")),
            Self::Patterns => "list of table patterns".into(),
            Self::Tables => "list of tables, no wildcards".into(),
            Self::Names => "list of names".into(),
            Self::Types(_) => "list of object types".into(),
            Self::Settings => "list of `name=value`".into(),
            Self::Path => "file".into(),
            Self::Address => "`host:port`".into(),
            Self::HttpPath => "path that starts with `/`".into(),
            Self::Slot => "slot name".into(),
        }
    }
}

/// What holds when a key is not written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Standard {
    /// Nothing; or what the meaning says.
    None,
    Flag(bool),
    Count(u64),
    Bytes(u64),
    Millis(u64),
    Seconds(u64),
    Word(&'static str),
    Text(&'static str),
    /// Something that depends on the rest, in words.
    Depends(&'static str),
}

impl Standard {
    /// As one would write it.
    pub(crate) fn describe(self) -> String {
        match self {
            Self::None => String::new(),
            Self::Flag(flag) => format!("`{flag}`"),
            Self::Count(n) | Self::Millis(n) | Self::Seconds(n) => format!("`{n}`"),
            Self::Bytes(bytes) => match bytes {
                n if n != 0 && n % (1 << 20) == 0 => format!("`{}MiB`", n >> 20),
                n => format!("`{n}`"),
            },
            Self::Word(word) | Self::Text(word) => format!("`{word}`"),
            Self::Depends(words) => words.to_owned(),
        }
    }
}

const fn key(path: &'static str, kind: Kind, meaning: &'static str) -> Key {
    Key { path, kind, default: Standard::None, variable: None, alias: None, meaning }
}

impl Key {
    const fn or(mut self, default: Standard) -> Self {
        self.default = default;
        self
    }

    const fn env(mut self, variable: &'static str) -> Self {
        self.variable = Some(variable);
        self
    }

    const fn also(mut self, alias: &'static str) -> Self {
        self.alias = Some(alias);
        self
    }

    /// Its last segment.
    pub(crate) fn name(&self) -> &'static str {
        self.path.rsplit('.').next().unwrap_or(self.path)
    }

    /// Whether only a variable can say it.
    pub(crate) fn is_variable_only(&self) -> bool {
        self.path.starts_with('$')
    }
}

/// The whole table, in the order of the documentation.
pub(crate) fn all() -> impl Iterator<Item = &'static Key> {
    source::KEYS.iter().chain(target::KEYS).chain(modifiers::KEYS)
}

/// The key with this path.
pub(crate) fn find(path: &str) -> Option<&'static Key> {
    all().find(|key| key.path == path)
}

/// The key that this variable says.
pub(crate) fn find_variable(variable: &str) -> Option<&'static Key> {
    all().find(|key| key.variable == Some(variable))
}

/// The keys right under a section; the root is the empty path.
pub(crate) fn under(section: &str) -> impl Iterator<Item = &'static Key> {
    all().filter(move |key| {
        let name = match section {
            "" => Some(key.path),
            section => key.path.strip_prefix(section).and_then(|rest| rest.strip_prefix('.')),
        };
        !key.is_variable_only() && name.is_some_and(|name| !name.contains('.'))
    })
}

/// The key that `name` means under a section.
pub(crate) fn child(section: &str, name: &str) -> Option<&'static Key> {
    let mut any = None;
    for key in under(section) {
        if key.name() == name || key.alias == Some(name) {
            return Some(key);
        }
        if key.name() == "*" {
            any = Some(key);
        }
    }
    any
}

/// The words of `pipeline::ObjectType`, as filters of a snapshot take them.
pub(crate) const SNAPSHOT_TYPES: &[(&str, ObjectType)] = &[
    ("tables", ObjectType::Tables),
    ("sequences", ObjectType::Sequences),
    ("types", ObjectType::Types),
    ("indexes", ObjectType::Indexes),
    ("constraints", ObjectType::Constraints),
    ("functions", ObjectType::Functions),
    ("views", ObjectType::Views),
    ("materialized_views", ObjectType::MaterializedViews),
    ("triggers", ObjectType::Triggers),
    ("event_triggers", ObjectType::EventTriggers),
    ("policies", ObjectType::Policies),
    ("rules", ObjectType::Rules),
    ("extensions", ObjectType::Extensions),
    ("collations", ObjectType::Collations),
    ("text_search", ObjectType::TextSearch),
    ("comments", ObjectType::Comments),
];

/// The same for DDL, which knows no comments.
pub(crate) const DDL_TYPES: &[(&str, ObjectType)] = SNAPSHOT_TYPES.split_at(SNAPSHOT_TYPES.len() - 1).0;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_path_and_variable_stands_once() {
        let mut seen = HashSet::new();
        for key in all() {
            assert!(seen.insert(key.path), "{}", key.path);
            assert!(key.variable.is_none_or(|variable| seen.insert(variable)), "{:?}", key.variable);
            assert!(!key.meaning.ends_with('.') && !key.meaning.is_empty(), "{}", key.path);
        }
    }

    #[test]
    fn every_key_stands_under_a_section() {
        for key in all().filter(|key| !key.is_variable_only()) {
            if let Some((parent, _)) = key.path.rsplit_once('.') {
                let kind = match parent.strip_suffix(".[]") {
                    Some(list) => find(list).map(|key| key.kind),
                    None => find(parent).map(|key| key.kind),
                };
                assert!(matches!(kind, Some(Kind::Section | Kind::Sections)), "{}", key.path);
            }
        }
    }

    #[test]
    fn ddl_knows_no_comments() {
        assert_eq!(DDL_TYPES.len(), 15);
        assert!(DDL_TYPES.iter().all(|(_, kind)| *kind != ObjectType::Comments));
    }

    #[test]
    fn defaults_fit_their_keys() {
        for key in all() {
            let fits = match (key.kind, key.default) {
                (_, Standard::None | Standard::Depends(_)) => true,
                (Kind::Flag, Standard::Flag(_)) | (Kind::Bytes, Standard::Bytes(_)) => true,
                (Kind::Millis, Standard::Millis(_)) | (Kind::Seconds, Standard::Seconds(_)) => true,
                (Kind::Count(from), Standard::Count(n)) => n >= from,
                (Kind::Word(words), Standard::Word(word)) => words.contains(&word),
                (Kind::Address | Kind::HttpPath, Standard::Text(_)) => true,
                _ => false,
            };
            assert!(fits, "{}", key.path);
        }
    }
}
