//! From the tree of a file to keys.

use std::collections::BTreeMap;

use super::Written;
use crate::{
    error::{Code, Place, Problem},
    keys::{self, Key, Kind},
    nearest::nearest,
    node::{Node, Scalar, Tree},
    secret::{is_suspicious, shown},
    value::{self, Origin, Value},
};

/// Takes every key of the file.
pub(crate) fn read_file(root: &Node, written: &mut Written) {
    read_section("", root, written);
}

fn read_section(section: &str, node: &Node, written: &mut Written) {
    let entries = match &node.tree {
        Tree::Map(entries) => entries,
        Tree::Null | Tree::Scalar(Scalar { broken: true, .. }) => return,
        Tree::Scalar(_) | Tree::List(_) => {
            let (what, fix) = match section {
                "" => ("the file holds no keys".to_owned(), "begin with `source:` and `target:`".to_owned()),
                _ => (format!("{section} holds no keys"), format!("its keys are: {}", names(section).join(", "))),
            };
            written.problem(&node.place, Code::WrongValue, what, fix);
            return;
        }
    };
    // A URL that YAML took for keys holds its password in any of them.
    let suspicious =
        entries.iter().any(|(name, _)| matches!(&name.tree, Tree::Scalar(s) if is_suspicious(s.written())));
    let mut seen: BTreeMap<(&str, &str), &Place> = BTreeMap::new();
    for (name, value) in entries {
        let Tree::Scalar(scalar) = &name.tree else {
            let what = format!("a key of {} is no name", at(section));
            written.problem(&name.place, Code::Syntax, what, "write keys as plain words");
            continue;
        };
        let text = scalar.text.as_str();
        let Some(key) = keys::child(section, text) else {
            let problem = unknown(section, if suspicious { "" } else { scalar.written() }, &name.place);
            written.problems.push(problem);
            continue;
        };
        // All columns are the same key.
        let same = (key.path, if key.name() == "*" { text } else { "" });
        if let Some(first) = seen.insert(same, &name.place) {
            let what = format!("{} is written twice", key.path);
            written.problem(&name.place, Code::Duplicate, what, format!("remove this one, or the one at {first}"));
            continue;
        }
        read_key(key, &name.place, value, written);
    }
}

fn read_key(key: &'static Key, place: &Place, node: &Node, written: &mut Written) {
    // What stands in lists is checked for now, and not kept.
    let kept = !key.path.contains("[]");
    match key.kind {
        Kind::Section => {
            if kept {
                written.sections.insert(key.path, place.clone());
            }
            read_section(key.path, node, written);
        }
        Kind::Sections => match &node.tree {
            Tree::Null => {}
            Tree::List(items) => {
                for item in items {
                    read_section(&format!("{}.[]", key.path), item, written);
                }
                if !items.is_empty() {
                    written.insert(key, place, Value::Checked);
                }
            }
            Tree::Scalar(_) | Tree::Map(_) => {
                let what = format!("{} is no list", key.path);
                written.problem(place, Code::WrongValue, what, "begin each item with `- `");
            }
        },
        Kind::Free => match &node.tree {
            Tree::Null => {}
            _ if kept => written.insert(key, place, Value::Checked),
            _ => {}
        },
        _ if kept => written.set(key, node, Origin::File),
        _ => {
            let _checked = value::read(key, node, Origin::File, &mut written.problems);
        }
    }
}

fn unknown(section: &str, name: &str, place: &Place) -> Problem {
    let siblings = names(section);
    let plain = !name.is_empty() && name.len() <= 64 && name.chars().all(|c| c.is_alphanumeric() || "_-.".contains(c));
    let what = match (section, plain) {
        ("", true) => format!("unknown key {name}"),
        (_, true) => format!("unknown key {section}.{name}"),
        (_, false) if name.is_empty() => format!("unknown key in {}", at(section)),
        (_, false) => format!("unknown key {} in {}", shown(name), at(section)),
    };
    let elsewhere: Vec<_> =
        keys::all().filter(|key| !key.is_variable_only() && key.name() == name).map(|key| key.path).take(3).collect();
    let fix = match nearest(name, siblings.iter().copied()) {
        Some(sibling) => format!("did you mean `{sibling}`?"),
        None if !elsewhere.is_empty() => format!("the key is {}", elsewhere.join(" or ")),
        None => format!("remove it; the keys of {} are: {}", at(section), siblings.join(", ")),
    };
    Problem::new(place, Code::UnknownKey, what, fix)
}

/// The names that a section takes.
fn names(section: &str) -> Vec<&'static str> {
    keys::under(section).map(Key::name).collect()
}

fn at(section: &str) -> &str {
    if section.is_empty() { "the file" } else { section }
}
