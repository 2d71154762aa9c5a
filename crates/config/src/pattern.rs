//! Table patterns: `t`, `schema.t`, `schema.*`, `*.t`, `*.*`.
//!
//! ```text
//!  excluded      > listed by name > schema-only wildcard > listed by wildcard
//!  (not there)     (rows)           (no rows)              (rows)
//! ```
//! Names are taken as written, upper case included; `"my.schema"."t*"` quotes a name that holds a dot, a star or a
//! quote.

use std::{fmt, str::FromStr};

/// Names are cut to this many bytes by the server: a longer one matches nothing.
const NAME_BYTES: usize = 63;

/// A table pattern. `None` is the wildcard `*`; a pattern without a schema means `public`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TablePattern {
    /// Schema to match, or any when `None`.
    pub schema: Option<String>,
    /// Table to match, or any when `None`.
    pub table: Option<String>,
}

/// The text is no table pattern; says what is wrong with it, without repeating it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParsePatternError(&'static str);

impl FromStr for TablePattern {
    type Err = ParsePatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (first, rest) = part(text.trim()).map_err(ParsePatternError)?;
        let Some(rest) = rest else { return Ok(Self { schema: Some("public".to_owned()), table: first }) };
        let (second, rest) = part(rest).map_err(ParsePatternError)?;
        match rest {
            None => Ok(Self { schema: first, table: second }),
            Some(_) => Err(ParsePatternError(
                "a pattern is `table` or `schema.table`; a name that holds a dot goes in double quotes",
            )),
        }
    }
}

impl TablePattern {
    /// Whether `schema.table` is matched.
    #[must_use]
    pub fn matches(&self, schema: &str, table: &str) -> bool {
        self.schema.as_deref().is_none_or(|s| s == schema) && self.table.as_deref().is_none_or(|t| t == table)
    }

    /// Whether it names one table.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.schema.is_some() && self.table.is_some()
    }

    /// The pattern of the tables that both match.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        let both = |a: &Option<String>, b: &Option<String>| match (a, b) {
            (Some(a), Some(b)) if a != b => None,
            (a, b) => Some(a.clone().or_else(|| b.clone())),
        };
        Some(Self { schema: both(&self.schema, &other.schema)?, table: both(&self.table, &other.table)? })
    }
}

impl fmt::Display for TablePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (dot, name) in [("", &self.schema), (".", &self.table)] {
            match name.as_deref() {
                None => write!(f, "{dot}*")?,
                Some(name) if name.contains(['.', '*', '"', ',']) || name.contains(char::is_whitespace) => {
                    write!(f, "{dot}\"{}\"", name.replace('"', "\"\""))?;
                }
                Some(name) => write!(f, "{dot}{name}")?,
            }
        }
        Ok(())
    }
}

/// One name, and what follows the dot after it.
fn part(text: &str) -> Result<(Option<String>, Option<&str>), &'static str> {
    let (name, rest) = match text.strip_prefix('"') {
        Some(quoted) => quoted_name(quoted)?,
        None => {
            let end = text.find('.').unwrap_or(text.len());
            (text[..end].to_owned(), &text[end..])
        }
    };
    if name == "*" && !text.starts_with('"') {
        return Ok((None, rest.strip_prefix('.')));
    }
    if name.contains('*') && !text.starts_with('"') {
        return Err("`*` stands for a whole name, not for a part of one");
    }
    if name.is_empty() {
        return Err("a name is empty");
    }
    if name.len() > NAME_BYTES {
        return Err("PostgreSQL names have at most 63 bytes");
    }
    Ok((Some(name), rest.strip_prefix('.')))
}

/// Up to the closing quote, `""` undoubled.
fn quoted_name(quoted: &str) -> Result<(String, &str), &'static str> {
    let mut name = String::new();
    let mut rest = quoted;
    loop {
        let Some(end) = rest.find('"') else { return Err("a double quote is not closed") };
        name.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                name.push('"');
                rest = after;
            }
            None if rest.is_empty() || rest.starts_with('.') => return Ok((name, rest)),
            None => return Err("after a closing double quote comes a dot or nothing"),
        }
    }
}

/// Splits `a, "b c" d.*` at blanks and commas outside double quotes, as lists stand in variables and flags.
pub(crate) fn split_list(text: &str) -> Vec<&str> {
    let mut quoted = false;
    text.split(|c: char| {
        quoted ^= c == '"';
        !quoted && (c == ',' || c.is_whitespace())
    })
    .filter(|item| !item.is_empty())
    .collect()
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
        let named = |list: &[TablePattern]| list.iter().any(|p| p.is_exact() && p.matches(schema, table));
        if hit(&self.exclude) || named(&self.schema_only) {
            return false;
        }
        named(&self.include) || (!hit(&self.schema_only) && (self.include.is_empty() || hit(&self.include)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> TablePattern {
        text.parse().unwrap()
    }

    fn filter(include: &[&str], exclude: &[&str], schema_only: &[&str]) -> TableFilter {
        let list = |list: &[&str]| list.iter().map(|p| pattern(p)).collect();
        TableFilter { include: list(include), exclude: list(exclude), schema_only: list(schema_only) }
    }

    #[test]
    fn patterns_are_read_and_written_alike() {
        for (text, full) in [
            ("t", "public.t"),
            ("s.t", "s.t"),
            ("s.*", "s.*"),
            ("*.t", "*.t"),
            ("*.*", "*.*"),
            ("*", "public.*"),
            ("s.Test", "s.Test"),
            ("\"a.b\".\"*\"", "\"a.b\".\"*\""),
            ("\"say \"\"hi\"\"\"", "public.\"say \"\"hi\"\"\""),
        ] {
            assert_eq!(pattern(text).to_string(), full);
            assert_eq!(pattern(full), pattern(text));
        }
        assert!(pattern("\"*\".t").matches("*", "t") && !pattern("\"*\".t").matches("s", "t"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["", ".", "s.", ".t", "a.b.c", "t*", "s.t*", "\"a", "\"a\"b", &"x".repeat(64)] {
            assert!(text.parse::<TablePattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn lists_split_at_blanks_and_commas_outside_quotes() {
        assert_eq!(split_list(" a, b.c\t\"d, e\".f,"), ["a", "b.c", "\"d, e\".f"]);
    }

    #[test]
    fn an_empty_filter_wants_everything() {
        let all = TableFilter::default();
        assert!(all.is_everything() && all.wants_schema("s", "t") && all.wants_rows("s", "t"));
    }

    #[test]
    fn exclusion_beats_a_listed_table_beats_a_schema_only_wildcard() {
        let f = filter(&["s.listed", "s.both", "w.*"], &["s.both"], &["s.*", "w.quiet"]);
        assert!(!f.wants_schema("s", "both") && !f.wants_rows("s", "both"), "excluded");
        assert!(f.wants_schema("s", "listed") && f.wants_rows("s", "listed"), "listed by name");
        assert!(f.wants_schema("s", "other") && !f.wants_rows("s", "other"), "schema-only by wildcard");
        assert!(f.wants_schema("w", "quiet") && !f.wants_rows("w", "quiet"), "a name beats the wildcard that lists it");
        assert!(f.wants_schema("w", "loud") && f.wants_rows("w", "loud"), "listed by wildcard");
        assert!(!f.wants_schema("x", "t") && !f.wants_rows("x", "t"), "not listed");
    }

    #[test]
    fn a_schema_only_wildcard_beats_an_include_wildcard() {
        let f = filter(&["s.*"], &[], &["*.audit"]);
        assert!(f.wants_rows("s", "t") && !f.wants_rows("s", "audit") && f.wants_schema("s", "audit"));
    }

    #[test]
    fn schema_only_alone_leaves_the_others_whole() {
        let f = filter(&[], &[], &["audit"]);
        assert!(f.wants_rows("public", "t") && !f.wants_rows("public", "audit"));
    }

    #[test]
    fn two_patterns_meet() {
        for (a, b, both) in [
            ("s.*", "*.t", Some("s.t")),
            ("*.*", "s.t", Some("s.t")),
            ("s.*", "s.*", Some("s.*")),
            ("s.a", "s.b", None),
            ("s.*", "z.t", None),
        ] {
            assert_eq!(pattern(a).intersect(&pattern(b)), both.map(pattern));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*") {
            if let Ok(read) = text.parse::<TablePattern>() {
                prop_assert_eq!(read.to_string().parse(), Ok(read));
            }
            let _ = split_list(&text);
        }

        #[test]
        fn any_name_can_be_written(schema in "[^\\x00]{1,12}", table in "[^\\x00]{1,12}") {
            let exact = TablePattern { schema: Some(schema), table: Some(table) };
            prop_assert_eq!(exact.to_string().parse(), Ok(exact));
        }
    }
}
