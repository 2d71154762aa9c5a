//! From texts to typed values; what cannot be read is reported and reading goes on.

use std::{num::NonZeroUsize, time::Duration};

use secrecy::SecretString;

use crate::{
    error::Origin,
    keys::{self, Kind, Support},
    pattern::TablePattern,
    pipeline::ObjectType,
    written::{Text, Written, did_you_mean, expected, is_list},
};

/// Something accepted that does not mean what it meant elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Dotted key.
    pub key: &'static str,
    /// What happens instead.
    pub message: &'static str,
}

/// A reader of [`Written`] values.
pub struct Reader {
    /// What was written.
    pub written: Written,
}

impl Reader {
    /// Refuses keys that are not available, notes those that mean something else, and checks every value's form, also of
    /// keys that nobody reads.
    pub fn check(&mut self) -> Vec<Notice> {
        let mut notices = Vec::new();
        let present: Vec<&'static str> = self.written.values.keys().copied().collect();
        for path in present {
            let Some(key) = keys::find(path) else { continue };
            self.check_form(key);
            match key.support {
                Support::Works => {}
                Support::Accepted(message) => notices.push(Notice { key: key.path, message }),
                Support::NotYet => {
                    let origin = self.origin(path);
                    let problem = "understood, but not available in this version".to_owned();
                    self.written.wrong(origin, path, problem, "remove it");
                }
                Support::Never(why) => {
                    let origin = self.origin(path);
                    let side = path.split('.').next().unwrap_or_default();
                    self.written.wrong(origin, path, format!("this is not a {side} here"), why);
                }
            }
        }
        notices
    }

    fn check_form(&mut self, key: &'static keys::Key) {
        match key.kind {
            Kind::Bool => drop(self.boolean(key.path)),
            Kind::Count => drop(self.count(key.path)),
            Kind::Positive => drop(self.positive(key.path)),
            Kind::Size => drop(self.size(key.path)),
            Kind::Millis | Kind::Seconds => drop(self.millis(key.path)),
            Kind::OneOf(_) => drop(self.one_of(key.path)),
            Kind::Tables | Kind::ExactTables => drop(self.tables(key.path)),
            Kind::Assignments => drop(self.assignments(key.path)),
            Kind::ObjectTypes => drop(self.object_types(key.path)),
            Kind::Ratio => {
                drop(self.parsed(key.path, |text| text.parse::<f64>().ok().filter(|ratio| (0.0..=1.0).contains(ratio))))
            }
            Kind::Texts => drop(self.texts(key.path)),
            Kind::Text | Kind::Secret => drop(self.one(key.path)),
            Kind::Section => {}
        }
    }

    /// Whether the key was written.
    pub fn has(&self, path: &str) -> bool {
        self.written.values.contains_key(path)
    }

    /// Where it was written.
    pub fn origin(&self, path: &str) -> Origin {
        self.written.values.get(path).map_or(Origin::Nowhere, |(_, origin)| origin.clone())
    }

    fn wrong(&mut self, path: &'static str, problem: String, fix: String) {
        let origin = self.origin(path);
        let repeated = |e: &crate::error::ConfigError| e.key == path && e.problem == problem && e.origin == origin;
        if !self.written.errors.iter().any(repeated) {
            self.written.wrong(origin, path, problem, fix);
        }
    }

    fn kind(path: &str) -> Kind {
        keys::find(path).map_or(Kind::Text, |key| key.kind)
    }

    fn one(&mut self, path: &'static str) -> Option<String> {
        match &self.written.values.get(path)?.0 {
            Text::One(text) => Some(text.clone()),
            Text::Many(_) | Text::Section => {
                self.wrong(path, "one value is expected".into(), expected(Self::kind(path)));
                None
            }
        }
    }

    fn parsed<T>(&mut self, path: &'static str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let text = self.one(path)?;
        let value = parse(text.trim());
        if value.is_none() {
            self.wrong(path, format!("`{}` cannot be used", shorten(&text)), expected(Self::kind(path)));
        }
        value
    }

    /// A text.
    pub fn text(&mut self, path: &'static str) -> Option<String> {
        self.one(path).filter(|text| !text.is_empty())
    }

    /// A text that is never shown.
    pub fn secret(&mut self, path: &'static str) -> Option<SecretString> {
        self.text(path).map(SecretString::from)
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, path: &'static str) -> Option<bool> {
        self.parsed(path, |text| match text {
            "true" | "True" | "TRUE" | "1" => Some(true),
            "false" | "False" | "FALSE" | "0" => Some(false),
            _ => None,
        })
    }

    /// A whole number.
    pub fn count(&mut self, path: &'static str) -> Option<usize> {
        self.parsed(path, |text| text.parse().ok())
    }

    /// A whole number, at least one.
    pub fn positive(&mut self, path: &'static str) -> Option<NonZeroUsize> {
        self.parsed(path, |text| text.parse().ok())
    }

    /// Milliseconds, or seconds: whole numbers.
    pub fn millis(&mut self, path: &'static str) -> Option<Duration> {
        let unit = if Self::kind(path) == Kind::Seconds { 1000 } else { 1 };
        self.parsed(path, |text| text.parse::<u64>().ok()?.checked_mul(unit)).map(Duration::from_millis)
    }

    /// Bytes.
    pub fn size(&mut self, path: &'static str) -> Option<u64> {
        self.parsed(path, bytes)
    }

    /// One of the key's names.
    pub fn one_of(&mut self, path: &'static str) -> Option<&'static str> {
        let Kind::OneOf(names) = Self::kind(path) else { return None };
        let text = self.one(path)?;
        let found = names.iter().copied().find(|name| *name == text.trim());
        if found.is_none() {
            let fix = format!("{} ({})", did_you_mean(&text, names), names.join(", "));
            self.wrong(path, format!("`{}` is not a value of this key", shorten(&text)), fix);
        }
        found
    }

    /// A list of texts.
    pub fn texts(&mut self, path: &'static str) -> Option<Vec<String>> {
        debug_assert!(is_list(Self::kind(path)));
        match &self.written.values.get(path)?.0 {
            Text::Many(items) => Some(items.iter().map(|(item, _)| item.clone()).collect()),
            Text::One(text) => Some(vec![text.clone()]),
            Text::Section => None,
        }
    }

    fn items<T>(&mut self, path: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> Option<Vec<T>> {
        let texts = self.texts(path)?;
        let mut items = Vec::with_capacity(texts.len());
        for text in texts {
            match parse(text.trim()) {
                Ok(item) => items.push(item),
                Err(fix) => self.wrong(path, format!("`{}` cannot be used", shorten(&text)), fix),
            }
        }
        Some(items)
    }

    /// A list of table patterns.
    pub fn tables(&mut self, path: &'static str) -> Option<Vec<TablePattern>> {
        let exact = Self::kind(path) == Kind::ExactTables;
        self.items(path, |text| match text.parse::<TablePattern>() {
            Ok(pattern) if exact && (pattern.schema.is_none() || pattern.table.is_none()) => {
                Err(expected(Kind::ExactTables))
            }
            Ok(pattern) => Ok(pattern),
            Err(problem) => Err(problem.to_string()),
        })
    }

    /// A list of `name=value`.
    pub fn assignments(&mut self, path: &'static str) -> Option<Vec<(String, String)>> {
        self.items(path, |text| match text.split_once('=') {
            Some((name, value)) if is_setting(name.trim()) => Ok((name.trim().to_owned(), value.trim().to_owned())),
            _ => Err(expected(Kind::Assignments)),
        })
    }

    /// A list of object types.
    pub fn object_types(&mut self, path: &'static str) -> Option<Vec<ObjectType>> {
        self.items(path, |text| {
            ObjectType::from_name(text)
                .ok_or_else(|| format!("{}; {}", did_you_mean(text, keys::OBJECT_TYPES), expected(Kind::ObjectTypes)))
        })
    }
}

fn is_setting(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.'))
}

/// Values in messages are short, and a URL among them shows no password.
fn shorten(text: &str) -> String {
    let text = if text.contains("://") || text.contains("password") {
        crate::error::redact_url(text)
    } else {
        text.to_owned()
    };
    let mut short: String = text.chars().take(60).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// A number of bytes, with a unit of 1000 (`MB`) or 1024 (`MiB`).
fn bytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim() {
        "" | "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_decimal_and_binary_units() {
        assert_eq!(bytes("83886080"), Some(83_886_080));
        assert_eq!(bytes("64MiB"), Some(64 << 20));
        assert_eq!(bytes("1 GB"), Some(1_000_000_000));
        for bad in ["", "MiB", "-1", "1.5MiB", "64 MIB", "99999999999GiB"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }
}
