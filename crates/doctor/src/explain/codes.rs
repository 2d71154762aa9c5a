//! This program's own codes, as docs/troubleshooting.md explains them: the page is the catalogue, and the binary carries it.

use super::Diagnosis;

const PAGE: &str = include_str!("../../../../docs/troubleshooting.md");

/// What the page says of a code, without its SQLSTATE in parentheses.
pub(super) fn lookup(code: &str) -> Option<Diagnosis> {
    let code = code.split('(').next().unwrap_or(code);
    let mut section = "";
    let mut above = "";
    for line in PAGE.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            section = heading;
        }
        let Some((codes, cause, fix)) = row(line) else { continue };
        let fix = if fix == "as above" { above } else { fix };
        above = fix;
        if let Some(id) = codes.split(", ").map(|code| code.trim_matches('`')).find(|found| *found == code) {
            return Some(Diagnosis { id, cause, fix, docs: format!("docs/troubleshooting.md#{}", anchor(section)) });
        }
    }
    None
}

/// The codes that are written in a text.
pub(super) fn written_in(text: &str) -> impl Iterator<Item = Diagnosis> {
    let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || matches!(letter, '_' | ':')));
    words.map(|word| word.trim_end_matches(':')).filter(|word| word.contains("::")).filter_map(lookup)
}

/// Codes, cause and fix of a row of a table.
fn row(line: &str) -> Option<(&str, &str, &str)> {
    let mut cells = line.strip_prefix("| `")?.split(" | ");
    let (codes, cause, fix) = (cells.next()?, cells.next()?, cells.next()?);
    Some((codes, cause, fix.trim_end_matches(" |")))
}

/// A heading as GitHub makes an anchor of it.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_found_on_the_page_with_their_section() {
        let found = lookup("pgstream::postgres::sql(42501)").unwrap();
        assert_eq!((found.id, found.docs.as_str()), ("pgstream::postgres::sql", "docs/troubleshooting.md#servers"));
        let lost = lookup("source::slot_lost").unwrap();
        assert_eq!(lost.docs, "docs/troubleshooting.md#preparing-the-source-init-and-destroy");
        assert!(lookup("snapshot::publication_missing").is_some());
        assert_eq!(lookup("source::slot_plugin").unwrap().fix, lookup("source::slot_physical").unwrap().fix);
        assert!(lookup("nothing::here").is_none());
    }

    #[test]
    fn codes_are_found_in_texts() {
        let ids: Vec<&str> =
            written_in("error[stream::conflict]: x; see pgstream::postgres::tls").map(|it| it.id).collect();
        assert_eq!(ids, ["stream::conflict", "pgstream::postgres::tls"]);
    }
}
