//! Table patterns: `t`, `schema.t`, `schema.*`, `*.t`, `*.*`.

/// A table pattern. `None` is the wildcard `*`; a pattern without a schema means `public`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TablePattern {
    /// Schema to match, or any when `None`.
    pub schema: Option<String>,
    /// Table to match, or any when `None`.
    pub table: Option<String>,
}

impl TablePattern {
    /// Whether `schema.table` is matched.
    #[must_use]
    pub fn matches(&self, schema: &str, table: &str) -> bool {
        self.schema.as_deref().is_none_or(|s| s == schema) && self.table.as_deref().is_none_or(|t| t == table)
    }
}

/// Which tables take part, from include and exclude lists; exclusion wins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableFilter {
    /// Tables to include; empty means all.
    pub include: Vec<TablePattern>,
    /// Tables to leave out entirely.
    pub exclude: Vec<TablePattern>,
    /// Tables whose schema is copied but whose rows are not.
    pub schema_only: Vec<TablePattern>,
}

impl TableFilter {
    /// Whether every table takes part with its rows.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty() && self.schema_only.is_empty()
    }

    /// Whether the table exists on the target at all.
    #[must_use]
    pub fn wants_schema(&self, schema: &str, table: &str) -> bool {
        let hit = |list: &[TablePattern]| list.iter().any(|p| p.matches(schema, table));
        !hit(&self.exclude) && (self.include.is_empty() || hit(&self.include) || hit(&self.schema_only))
    }

    /// Whether the rows of the table are copied and followed. An explicit include of this very table beats
    /// a schema-only wildcard; exclusion beats both.
    #[must_use]
    pub fn wants_rows(&self, schema: &str, table: &str) -> bool {
        let hit = |list: &[TablePattern]| list.iter().any(|p| p.matches(schema, table));
        let explicit = self.include.iter().any(|p| p.schema.is_some() && p.table.is_some() && p.matches(schema, table));
        !hit(&self.exclude) && (self.include.is_empty() || hit(&self.include)) && (explicit || !hit(&self.schema_only))
    }
}
