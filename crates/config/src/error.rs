//! What is wrong with a configuration: all of it at once, sorted, each with its fix.

use std::{fmt, sync::Arc};

use miette::{Diagnostic, Severity};

/// Where something was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In a file, lines and columns from 1.
    Line {
        /// Its name as given.
        file: Arc<str>,
        /// The line.
        line: u64,
        /// The column, in characters.
        column: u64,
    },
    /// An environment variable.
    Variable(&'static str),
    /// A flag, with its dashes.
    Flag(&'static str),
    /// In a file, but no line of it: something that is missing.
    File(Arc<str>),
    /// Nowhere: nothing was written.
    Nowhere,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(flag) => f.write_str(flag),
            Self::File(file) => f.write_str(file),
            Self::Nowhere => f.write_str("configuration"),
        }
    }
}

/// The kind of a [`Problem`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    /// The file cannot be read, or is not what its name says.
    Unreadable,
    /// The file is not YAML, or a line of a `.env` file is none.
    Syntax,
    /// No such key.
    UnknownKey,
    /// Written twice.
    Duplicate,
    /// Not a value of this key.
    WrongValue,
    /// A `${NAME}` that is not in the environment.
    UnsetVariable,
    /// A key that has to be there.
    Missing,
    /// Two keys that exclude each other.
    Conflict,
    /// Understood, but not built yet.
    NotAvailable,
    /// A source or target of pgstream that this program does not have.
    NotHere,
    /// Refused, because data would be lost.
    Refused,
}

impl Code {
    fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "pgstream::config::unreadable",
            Self::Syntax => "pgstream::config::syntax",
            Self::UnknownKey => "pgstream::config::unknown_key",
            Self::Duplicate => "pgstream::config::duplicate",
            Self::WrongValue => "pgstream::config::wrong_value",
            Self::UnsetVariable => "pgstream::config::unset_variable",
            Self::Missing => "pgstream::config::missing",
            Self::Conflict => "pgstream::config::conflict",
            Self::NotAvailable => "pgstream::config::not_available",
            Self::NotHere => "pgstream::config::not_here",
            Self::Refused => "pgstream::config::refused",
        }
    }
}

/// One thing that is wrong, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{place}: {what}")]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// Which kind.
    pub code: Code,
    /// What is wrong, with the dotted key. Holds no secret.
    pub what: String,
    /// What to do.
    pub fix: String,
}

impl Problem {
    pub(crate) fn new(place: &Place, code: Code, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { place: place.clone(), code, what: what.into(), fix: fix.into() }
    }
}

impl Diagnostic for Problem {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code.as_str()))
    }

    fn severity(&self) -> Option<Severity> {
        Some(Severity::Error)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(&self.fix))
    }
}

/// Everything that is wrong, sorted by place.
///
/// `Display` is one line; a [`Diagnostic`] handler prints the problems as related ones, [`ConfigErrors::report`] in
/// plain text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Diagnostic)]
#[error("the configuration has {}", count(.problems.len()))]
#[diagnostic(code(pgstream::config))]
pub struct ConfigErrors {
    /// Never empty.
    #[related]
    problems: Vec<Problem>,
}

fn count(problems: usize) -> String {
    if problems == 1 { "a problem".to_owned() } else { format!("{problems} problems") }
}

impl ConfigErrors {
    /// `None` when nothing is wrong.
    pub(crate) fn from_problems(mut problems: Vec<Problem>) -> Option<Self> {
        problems.sort();
        problems.dedup();
        (!problems.is_empty()).then_some(Self { problems })
    }

    pub(crate) fn one(problem: Problem) -> Self {
        Self { problems: vec![problem] }
    }

    /// What is wrong, sorted by place; never empty.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// All of it in plain text, two lines a problem.
    #[must_use]
    pub fn report(&self) -> String {
        self.problems.iter().map(|p| format!("{p}\n  fix: {}\n", p.fix)).collect()
    }
}

/// Something that was accepted, but means less or something else than it says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Notice {
    /// Where it was written.
    pub place: Place,
    /// The dotted key, or the variable.
    pub key: String,
    /// What it means here. Holds no secret.
    pub message: String,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Variable(name) if *name == self.key => write!(f, "{name}: {}", self.message),
            place => write!(f, "{place}: {}: {}", self.key, self.message),
        }
    }
}
