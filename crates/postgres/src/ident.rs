//! Identifiers and literals, quoted in one place.

use std::fmt;

/// `name` as a quoted SQL identifier.
#[must_use]
pub fn quote_ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `value` as a SQL string literal, safe whatever `standard_conforming_strings` says.
#[must_use]
pub fn quote_literal(value: &str) -> String {
    let quoted = value.replace('\'', "''");
    if quoted.contains('\\') { format!(" E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// A schema-qualified table name; `Display` quotes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// Schema, unquoted.
    pub schema: String,
    /// Table, unquoted.
    pub name: String,
}

impl TableName {
    /// A name from its parts.
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self { schema: schema.into(), name: name.into() }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", quote_ident(&self.schema), quote_ident(&self.name))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the server's scanner makes of a quoted identifier; `None` when it ends early.
    fn scan_ident(sql: &str) -> Option<String> {
        let inner = sql.strip_prefix('"')?.strip_suffix('"')?;
        let halved = inner.replace("\"\"", "\0");
        (!halved.contains('"')).then(|| halved.replace('\0', "\""))
    }

    /// The same for a string literal, under `standard_conforming_strings` on or off.
    fn scan_literal(sql: &str, standard: bool) -> Option<String> {
        let (escapes, rest) = match sql.strip_prefix(" E'") {
            Some(rest) => (true, rest),
            None => (!standard, sql.strip_prefix('\'')?),
        };
        let mut characters = rest.strip_suffix('\'')?.chars();
        let mut text = String::new();
        while let Some(character) = characters.next() {
            match character {
                '\'' if characters.next() == Some('\'') => text.push('\''),
                '\'' => return None,
                '\\' if escapes => text.push(characters.next()?),
                other => text.push(other),
            }
        }
        Some(text)
    }

    proptest! {
        #[test]
        fn a_name_never_leaves_its_quotes(name in "[^\0]{0,40}|[\"';\\\\\n$%a-]{0,20}") {
            prop_assert_eq!(scan_ident(&quote_ident(&name)), Some(name));
        }

        #[test]
        fn a_literal_never_leaves_its_quotes(text in "[^\0]{0,40}|[\"';\\\\\n$%a-]{0,20}", standard: bool) {
            prop_assert_eq!(scan_literal(&quote_literal(&text), standard), Some(text));
        }

        #[test]
        fn a_table_is_its_two_quoted_names(schema in "[^\0.\"]{1,20}", name in "[^\0.\"]{1,20}") {
            let sql = TableName::new(schema.clone(), name.clone()).to_string();
            let parts: Vec<_> = sql.split("\".\"").collect();
            prop_assert_eq!(parts, [format!("\"{schema}"), format!("{name}\"")]);
        }
    }
}
