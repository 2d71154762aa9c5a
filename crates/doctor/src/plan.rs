//! What is about to be done, as far as it decides which checks matter.

use pgstream_config::{
    pattern::TableFilter,
    pipeline::{Mode, ObjectType, Pipeline, RolesMode, SnapshotMode, Target},
};
use pgstream_engine::source;
use pgstream_postgres::{Server, quote_literal};

use crate::check::Category;

/// At most so many instances of one finding are listed; the rest is counted.
const LISTED: usize = 20;

/// What is about to be done, as far as it decides what must hold.
#[derive(Debug, Clone)]
pub struct Plan {
    pipeline: Pipeline,
    slot: String,
    categories: Vec<Category>,
    listed: usize,
}

impl Plan {
    /// All checks that matter to a pipeline; of these categories, or of all when none is given.
    ///
    /// # Errors
    /// When the slot's name is not one.
    pub fn new(pipeline: &Pipeline, source: &Server, categories: &[Category]) -> Result<Self, source::Error> {
        let names = source::Names::with_slot(source.dsn().dbname(), pipeline.source.slot.as_deref())?;
        Ok(Self { pipeline: pipeline.clone(), slot: names.slot, categories: categories.to_vec(), listed: LISTED })
    }

    /// Lists every instance of a finding.
    #[must_use]
    pub fn listing_all(self) -> Self {
        Self { listed: usize::MAX, ..self }
    }

    /// So many instances of one finding are listed.
    pub(crate) fn listed(&self) -> usize {
        self.listed
    }

    pub(crate) fn follows(&self) -> bool {
        self.pipeline.mode != Mode::Snapshot
    }

    pub(crate) fn copies(&self) -> bool {
        self.pipeline.mode != Mode::Replication
    }

    pub(crate) fn copies_schema(&self) -> bool {
        self.copies() && self.pipeline.snapshot.mode != SnapshotMode::Data
    }

    /// Whether objects of this type are copied.
    pub(crate) fn copies_type(&self, of: ObjectType) -> bool {
        self.copies_schema() && self.pipeline.snapshot.schema.object_types.contains(of)
    }

    pub(crate) fn creates_database(&self) -> bool {
        let schema = &self.pipeline.snapshot.schema;
        self.copies_schema() && (schema.clean_target_db || schema.create_target_db)
    }

    pub(crate) fn copies_roles(&self) -> bool {
        self.copies_schema()
            && self.pipeline.snapshot.schema.roles != RolesMode::Disabled
            && !self.pipeline.snapshot.schema.no_owner
    }

    pub(crate) fn needs_owners(&self) -> bool {
        let schema = &self.pipeline.snapshot.schema;
        self.copies_schema() && schema.roles == RolesMode::Disabled && !schema.no_owner
    }

    pub(crate) fn gives_owners(&self) -> bool {
        self.copies_schema() && !self.pipeline.snapshot.schema.no_owner
    }

    pub(crate) fn copies_passwords(&self) -> bool {
        self.copies_roles() && self.pipeline.snapshot.schema.roles == RolesMode::Enabled
    }

    pub(crate) fn disables_triggers(&self) -> bool {
        matches!(&self.pipeline.target, Some(Target::Postgres(target)) if target.disable_triggers == Some(true))
    }

    pub(crate) fn replays_ddl(&self) -> bool {
        self.follows() && !self.pipeline.stream.ignore_ddl
    }

    /// The slot, as it is configured or named by default.
    pub(crate) fn slot(&self) -> &str {
        &self.slot
    }

    /// Tables that are followed.
    pub(crate) fn followed(&self) -> &TableFilter {
        &self.pipeline.stream.tables
    }

    pub(crate) fn wants(&self, category: Category) -> bool {
        self.categories.is_empty() || self.categories.contains(&category)
    }

    pub(crate) fn tables(&self) -> &TableFilter {
        if self.copies() { &self.pipeline.snapshot.tables } else { &self.pipeline.stream.tables }
    }

    /// Sessions that the copy opens on each side, and one to decide.
    fn connections(&self) -> usize {
        let snapshot = &self.pipeline.snapshot;
        snapshot.table_workers.get().max(snapshot.schema_workers.get()) + 1
    }

    /// Names and numbers in the place of their marks.
    pub(crate) fn fill(&self, sql: &str) -> String {
        sql.replace("{slot}", &quote_literal(&self.slot)).replace("{connections}", &self.connections().to_string())
    }
}
