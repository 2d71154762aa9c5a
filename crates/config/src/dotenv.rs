//! A `.env` file: `NAME=value` lines.

use std::sync::Arc;

use crate::{
    error::{Code, Place, Problem},
    node::{self, Node, Scalar, Tree},
};

/// Whether a file is of this form: by its name, or by its first line with content.
pub(crate) fn is_dotenv(file: &str, text: &str) -> bool {
    let name = file.rsplit(['/', '\\']).next().unwrap_or(file).to_ascii_lowercase();
    match name.rsplit_once('.') {
        Some((_, "env")) => true,
        Some((_, "yaml" | "yml" | "json")) => false,
        _ if name.starts_with(".env.") => true,
        _ => text
            .lines()
            .map(str::trim)
            .find(|line| !line.is_empty() && !line.starts_with('#'))
            .is_some_and(|line| line.split_once('=').is_some_and(|(name, _)| is_name(export(name)))),
    }
}

/// The variables of the file in order, each with its line.
pub(crate) fn parse(
    file: &Arc<str>,
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    problems: &mut Vec<Problem>,
) -> Vec<(String, Node)> {
    let mut variables: Vec<(String, Node)> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let place = Place::Line { file: Arc::clone(file), line: number, column: 1 };
        let line = line.trim().trim_start_matches('\u{FEFF}');
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let written = line.split_once('=').map(|(name, value)| (export(name), value.trim()));
        let parsed = written.filter(|(name, _)| is_name(name)).map(|(name, value)| (name, quoted(value)));
        let (name, value) = match parsed {
            Some((name, Some(value))) => (name, value),
            Some((name, None)) => {
                let what = format!("the quotes around the value of {name} do not match");
                problems.push(Problem::new(&place, Code::Syntax, what, "write the value on one line, in '…' or \"…\""));
                continue;
            }
            None => {
                let what = "this line is no NAME=value";
                problems.push(Problem::new(&place, Code::Syntax, what, "write NAME=value, or # before a comment"));
                continue;
            }
        };
        let scalar = match value {
            (text, true) => node::expand(&text, &place, lookup, problems),
            (text, false) => Scalar::new(text),
        };
        if variables.iter().any(|(other, _)| other == name) {
            let what = format!("{name} is written twice");
            problems.push(Problem::new(&place, Code::Duplicate, what, "remove one of the two lines"));
        }
        variables.push((name.to_owned(), Node { place, tree: Tree::Scalar(scalar) }));
    }
    variables
}

fn export(name: &str) -> &str {
    let name = name.trim();
    name.strip_prefix("export ").map_or(name, str::trim)
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The text of a value and whether variables in it expand; `None` when its quotes do not match.
fn quoted(value: &str) -> Option<(String, bool)> {
    if let Some(rest) = value.strip_prefix('\'') {
        let (text, rest) = rest.split_once('\'')?;
        return is_comment(rest).then(|| (text.to_owned(), false));
    }
    let Some(rest) = value.strip_prefix('"') else {
        let end = value.find(" #").unwrap_or(value.len());
        return Some((value[..end].trim_end().to_owned(), true));
    };
    let (mut text, mut chars) = (String::new(), rest.chars());
    loop {
        match chars.next()? {
            '"' => return is_comment(chars.as_str()).then_some((text, true)),
            '\\' => match chars.next()? {
                'n' => text.push('\n'),
                c @ ('"' | '\\' | '$') => text.push(c),
                c => text.extend(['\\', c]),
            },
            c => text.push(c),
        }
    }
}

fn is_comment(rest: &str) -> bool {
    let rest = rest.trim();
    rest.is_empty() || rest.starts_with('#')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> (Vec<(String, String)>, Vec<String>) {
        let mut problems = Vec::new();
        let lookup = |name: &str| (name == "SET").then(|| "value".to_owned());
        let variables = parse(&"x.env".into(), text, &lookup, &mut problems)
            .into_iter()
            .map(|(name, node)| match node.tree {
                Tree::Scalar(scalar) => (name, scalar.text),
                _ => unreachable!(),
            })
            .collect();
        (variables, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn lines_as_people_write_them() {
        let (variables, problems) = parsed(
            "# comment\n\nA=1\n export B = \"two # \\\"words\\\"\" # comment\nC='${SET} $'\nD=x${SET} # comment\nE=a#b\nF=\n",
        );
        assert_eq!(problems, [""; 0]);
        let expected =
            [("A", "1"), ("B", "two # \"words\""), ("C", "${SET} $"), ("D", "xvalue"), ("E", "a#b"), ("F", "")];
        assert_eq!(variables, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn every_bad_line_is_reported_without_its_value() {
        let (_, problems) = parsed("postgres://u:CANARY@h\nA=\"CANARY\nB=1\nB=2\n1C=x\nD=${UNSET}\n");
        assert_eq!(
            problems,
            [
                "x.env:1:1: this line is no NAME=value",
                "x.env:2:1: the quotes around the value of A do not match",
                "x.env:4:1: B is written twice",
                "x.env:5:1: this line is no NAME=value",
                "x.env:6:1: the variable UNSET is not set",
            ]
        );
    }

    #[test]
    fn files_are_told_apart_by_name_then_by_content() {
        for (file, text, expected) in [
            ("a/pg.env", "", true),
            (".env", "", true),
            (".env.prod", "", true),
            ("pg.yaml", "A=1", false),
            ("pg.yml", "A=1", false),
            ("config", "# x\nexport A=1\n", true),
            ("config", "source:\n  a: b=c\n", false),
        ] {
            assert_eq!(is_dotenv(file, text), expected, "{file}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "([A-Z_=\"'\\\\#${} \n]|\\PC)*") {
            let _ = parsed(&text);
            let _ = is_dotenv("x", &text);
        }
    }
}
