//! Table patterns: `t`, `schema.t`, `schema.*`, `*.t`, `*.*`.

use std::str::FromStr;

/// A table pattern. `None` is the wildcard `*`; a pattern without a schema means `public`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TablePattern {
    /// Schema to match, or any when `None`.
    pub schema: Option<String>,
    /// Table to match, or any when `None`.
    pub table: Option<String>,
}

/// The text is no table pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("write t, schema.t, schema.*, *.t or *.*; a wildcard stands for a whole name")]
pub struct ParsePatternError;

impl FromStr for TablePattern {
    type Err = ParsePatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (schema, table) = text.split_once('.').unwrap_or(("public", text));
        let part = |part: &str| match part {
            "" => Err(ParsePatternError),
            "*" => Ok(None),
            name if name.contains('*') || name.contains('.') => Err(ParsePatternError),
            name => Ok(Some(name.to_owned())),
        };
        Ok(Self { schema: part(schema)?, table: part(table)? })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(list: &[&str]) -> Vec<TablePattern> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_pattern_without_a_schema_means_public() {
        let pattern: TablePattern = "orders".parse().unwrap();
        assert!(pattern.matches("public", "orders") && !pattern.matches("sales", "orders"));
        for bad in ["", ".", "a.", ".b", "a*", "a.b*", "a.b.c", "*x.y"] {
            assert!(bad.parse::<TablePattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn excluded_beats_included_beats_schema_only_wildcards() {
        let filter = TableFilter {
            include: patterns(&["sales.*", "archive.wanted"]),
            exclude: patterns(&["sales.secret"]),
            schema_only: patterns(&["archive.*", "sales.log"]),
        };
        assert!(filter.wants_rows("sales", "orders"));
        assert!(!filter.wants_rows("sales", "log") && filter.wants_schema("sales", "log"));
        assert!(!filter.wants_schema("sales", "secret"));
        assert!(filter.wants_rows("archive", "wanted"), "named explicitly");
        assert!(!filter.wants_rows("archive", "old") && filter.wants_schema("archive", "old"));
        assert!(!filter.wants_schema("public", "other"));
    }
}
