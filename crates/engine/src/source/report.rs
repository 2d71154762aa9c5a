//! What `init` and `destroy` did, one object at a time.

use std::fmt;

use serde::Serialize;

/// Which half of the source state a command works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Part {
    /// All of it.
    #[default]
    All,
    /// Schema, replica identities and publication: what is made with SQL by the owner of the tables.
    Migrations,
    /// The slot and its record: what needs the right to replicate.
    Slot,
}

impl Part {
    /// Whether schema, identities and publication are meant.
    #[must_use]
    pub fn migrations(self) -> bool {
        matches!(self, Self::All | Self::Migrations)
    }

    /// Whether the slot is meant.
    #[must_use]
    pub fn slot(self) -> bool {
        matches!(self, Self::All | Self::Slot)
    }
}

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Object {
    /// The schema `pgstream`.
    Schema,
    /// One version of the tables in it.
    Migration,
    /// An event trigger that records schema changes.
    EventTrigger,
    /// The replica identity of a table.
    ReplicaIdentity,
    /// The publication.
    Publication,
    /// A table as a member of the publication.
    PublishedTable,
    /// The replication slot.
    Slot,
    /// The record of the slot.
    SlotRecord,
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Schema => "schema",
            Self::Migration => "migration",
            Self::EventTrigger => "event trigger",
            Self::ReplicaIdentity => "replica identity",
            Self::Publication => "publication",
            Self::PublishedTable => "published table",
            Self::Slot => "replication slot",
            Self::SlotRecord => "slot record",
        })
    }
}

/// What happened, or will happen, to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It was not there.
    Created,
    /// It was there and is right.
    Kept,
    /// It was there and was brought in line.
    Changed,
    /// It was ours and is gone.
    Removed,
    /// It is as it was before `init`.
    Restored,
    /// It was left alone, for the reason that `detail` gives.
    Left,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Created => "created",
            Self::Kept => "kept",
            Self::Changed => "changed",
            Self::Removed => "removed",
            Self::Restored => "restored",
            Self::Left => "left",
        })
    }
}

/// One object, and what was done with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What was done.
    pub action: Action,
    /// To what kind of object.
    pub object: Object,
    /// Which one.
    pub name: String,
    /// More, where there is more to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Step {
    pub(crate) fn new(action: Action, object: Object, name: impl Into<String>) -> Self {
        Self { action, object, name: name.into(), detail: None }
    }

    pub(crate) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.action, self.object, self.name)?;
        match &self.detail {
            Some(detail) => write!(f, " ({detail})"),
            None => Ok(()),
        }
    }
}
