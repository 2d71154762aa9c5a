//! What a check is: data. How it is asked is in [`crate::run`].

use serde::Serialize;

use crate::plan::Plan;

/// What a check is about; each has a switch on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Category {
    /// Both servers can be reached, and are of the right kind.
    Connectivity,
    /// Endpoints of RDS and Aurora.
    Aws,
    /// Slot, WAL, publication.
    Replication,
    /// Privileges.
    Access,
    /// Tables and what they are made of.
    Schema,
    /// Connections, limits, time.
    Resources,
}

impl Category {
    /// As it is written on the command line and in identifiers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connectivity => "connectivity",
            Self::Aws => "aws",
            Self::Replication => "replication",
            Self::Access => "access",
            Self::Schema => "schema",
            Self::Resources => "resources",
        }
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It will not work.
    Error,
    /// It may not work, or not as expected.
    Warning,
    /// Worth knowing.
    Notice,
}

impl Severity {
    /// As it is printed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Notice => "notice",
        }
    }
}

/// Where the fix belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The server that is copied from.
    Source,
    /// The server that is copied to.
    Target,
}

impl Side {
    /// As it is printed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Target => "target",
        }
    }
}

/// One check of the catalogue.
pub(crate) struct Check {
    /// Stable; begins with the category.
    pub(crate) id: &'static str,
    pub(crate) category: Category,
    pub(crate) side: Side,
    pub(crate) severity: Severity,
    /// What would happen otherwise.
    pub(crate) why: &'static str,
    /// Whether it matters to what was configured.
    pub(crate) applies: fn(&Plan) -> bool,
    pub(crate) ask: Ask,
}

/// How a check finds out.
pub(crate) enum Ask {
    /// A query on the check's side. Each row is something wrong: schema and table (or nulls), what was found, the fix.
    /// `{connections}` stands for the number of connections that the copy opens there.
    Rows(&'static str),
    /// A statement on the check's side that must succeed; it is rolled back. The second text is the fix.
    Try(&'static str, &'static str),
    /// Both sides are asked for keys.
    Compare(Comparison),
}

/// What must be on the target, or must not.
pub(crate) struct Comparison {
    /// Rows on the source: schema and table (or nulls), key.
    pub(crate) source: &'static str,
    /// Keys on the target; `*` is every key.
    pub(crate) target: &'static str,
    /// What is wrong: a key that the target lacks, or one that it has.
    pub(crate) wrong: Wrong,
    /// `{}` stands for the key.
    pub(crate) found: &'static str,
    /// `{}` stands for the key, `{ident}` for the key quoted as an identifier.
    pub(crate) fix: &'static str,
}

/// Which keys are trouble.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    Missing,
    Present,
}
