//! The SQL of many entries of a dump, from one call of `pg_restore`: each call reads the whole table of contents, which for
//! thousands of tables takes longer than what it writes.
//!
//! With `--verbose` every entry is headed by
//! ```text
//! --
//! -- TOC entry 3391 (class 2606 OID 16401)
//! ```
//! So can be a line of a comment or a literal. What is found is used only when it is exactly what was asked for, in that
//! order; otherwise each piece is asked for on its own.

use std::collections::HashMap;

const HEADING: &str = "\n--\n-- TOC entry ";

/// SQL by entry.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    /// Settings that precede every piece.
    head: String,
    entries: HashMap<u32, String>,
}

impl Texts {
    /// Takes a script of `ids` apart. Nothing when it is not beyond doubt where each begins.
    pub(crate) fn parse(script: &str, ids: &[u32]) -> Self {
        let starts: Vec<usize> = script.match_indices(HEADING).map(|(at, _)| at + 1).collect();
        let found = starts.iter().map(|start| id(script.get(start + HEADING.len() - 1..)?));
        if !found.eq(ids.iter().map(|id| Some(*id))) {
            return Self::default();
        }
        let ends = starts.iter().skip(1).copied().chain([script.len()]);
        let text = |(start, end): (&usize, usize)| script.get(*start..end).unwrap_or_default().to_owned();
        let head = script.get(..starts.first().copied().unwrap_or_default()).unwrap_or_default().to_owned();
        let entries = ids.iter().copied().zip(starts.iter().zip(ends).map(text)).collect();
        Self { head, entries }
    }

    /// The script of a piece. None when it has to be asked for.
    pub(crate) fn script(&self, ids: &[u32]) -> Option<String> {
        let texts: Vec<&str> = ids.iter().map(|id| self.entries.get(id).map(String::as_str)).collect::<Option<_>>()?;
        Some([&[self.head.as_str()], texts.as_slice()].concat().concat())
    }
}

fn id(text: &str) -> Option<u32> {
    text.split_once(' ')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "SET a = 0;\n\n--\n-- TOC entry 7 (class 1 OID 2)\n-- Name: x\n--\n\nCREATE INDEX x;\n\n\n\
                          --\n-- TOC entry 3 (class 1 OID 4)\n-- Name: y\n--\n\nCREATE INDEX y;\n\n";

    #[test]
    fn a_piece_is_its_settings_and_its_entries() {
        let texts = Texts::parse(SCRIPT, &[7, 3]);
        assert_eq!(texts.script(&[7, 3]).unwrap(), SCRIPT);
        let one = texts.script(&[3]).unwrap();
        assert!(
            one.starts_with("SET a = 0;\n") && one.ends_with("CREATE INDEX y;\n\n") && !one.contains(" x;"),
            "{one}"
        );
        assert_eq!(texts.script(&[3, 8]), None);
    }

    #[test]
    fn a_literal_that_looks_like_an_entry_makes_the_whole_script_useless() {
        let hostile =
            SCRIPT.replace("CREATE INDEX x;", "COMMENT ON INDEX x IS '\n--\n-- TOC entry 3 (class 1 OID 4)\n';");
        assert_eq!(Texts::parse(&hostile, &[7, 3]).script(&[3]), None);
        assert_eq!(Texts::parse(SCRIPT, &[3, 7]).script(&[3]), None);
        assert_eq!(Texts::parse("", &[3]).script(&[3]), None);
    }
}
