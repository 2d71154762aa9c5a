//! A YAML file as a tree of [`Node`]s.
//!
//! ```text
//!  text ──hide──> text ──serde-saphyr──> scalars, lists, maps ──expand──> nodes
//!       `${` `}`        never sees a variable           values of variables are never YAML
//! ```
//! Every scalar keeps the text it was written with: a slot called `123` or a role called `no` is a name.

use std::{fmt, sync::Arc};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::{DuplicateKeyPolicy, Location, NonFiniteFloatPolicy, Spanned};

use crate::{
    error::{Code, Place, Problem},
    node::{self, Node, Scalar, Tree},
    secret,
};

/// The characters of `${NAME}` in private use, each one for one so that columns stay: braces would be YAML in a flow
/// list.
const HIDDEN: [(char, char); 3] = [('$', '\u{E000}'), ('{', '\u{E001}'), ('}', '\u{E002}')];

/// No key lies deeper than 9; what is deeper is a mistake or an attack.
const DEPTH: usize = 32;
/// Far more than the longest configuration, far less than what an alias bomb unfolds to.
const NODES: usize = 20_000;

/// Parses one document; `None` when it is empty.
pub(crate) fn parse(
    file: &Arc<str>,
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    problems: &mut Vec<Problem>,
) -> Option<Node> {
    let text = hide_variables(text);
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: DEPTH, max_nodes: NODES, max_documents: 1 },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(&text, options) {
        Ok(root) => {
            let mut builder = Builder { file, text: &text, lookup, problems };
            let root = builder.node(root);
            (!matches!(root.tree, Tree::Null)).then_some(root)
        }
        Err(error) => {
            problems.push(syntax(file, &error));
            None
        }
    }
}

fn syntax(file: &Arc<str>, error: &serde_saphyr::Error) -> Problem {
    let place = match error.location() {
        Some(at) if at.line() > 0 => Place::Line { file: Arc::clone(file), line: at.line(), column: at.column() },
        _ => Place::File(Arc::clone(file)),
    };
    // What the parser says may quote the file.
    let said = error.without_snippet().to_string();
    let said = said.lines().next().unwrap_or_default();
    let what = match said.contains(['"', '\'', '`']) || secret::is_suspicious(said) || said.is_empty() {
        true => "this is not valid YAML".to_owned(),
        false => format!("this is not valid YAML: {}", said.split(" at line ").next().unwrap_or(said)),
    };
    let fix = "check the indentation (blanks, no tabs) and put values with `: `, ` #`, `@` or `*` in double quotes";
    Problem::new(&place, Code::Syntax, what, fix)
}

fn hide_variables(text: &str) -> String {
    let mut hidden = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, name, after)) = node::next_variable(rest) {
        let [(_, dollar), (_, open), (_, close)] = HIDDEN;
        hidden.push_str(before);
        hidden.extend([dollar, open]);
        hidden.push_str(name);
        hidden.push(close);
        rest = after;
    }
    hidden.push_str(rest);
    hidden
}

fn reveal_variables(text: &str) -> String {
    text.chars().map(|c| HIDDEN.iter().find(|(_, hidden)| *hidden == c).map_or(c, |(shown, _)| *shown)).collect()
}

struct Builder<'a> {
    file: &'a Arc<str>,
    text: &'a str,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    problems: &'a mut Vec<Problem>,
}

impl Builder<'_> {
    fn node(&mut self, raw: Spanned<Raw>) -> Node {
        let at = raw.referenced;
        let place = Place::Line { file: Arc::clone(self.file), line: at.line(), column: at.column() };
        let tree = match raw.value {
            Raw::Null => Tree::Null,
            Raw::Text(text) => Tree::Scalar(self.scalar(&text, &place)),
            Raw::Plain(value) => {
                let text = self.slice(raw.defined).unwrap_or(value);
                Tree::Scalar(self.scalar(&text, &place))
            }
            Raw::List(items) => Tree::List(items.into_iter().map(|item| self.node(item)).collect()),
            Raw::Map(entries) => {
                Tree::Map(entries.into_iter().map(|(key, value)| (self.node(key), self.node(value))).collect())
            }
        };
        Node { place, tree }
    }

    fn scalar(&mut self, text: &str, place: &Place) -> Scalar {
        node::expand(&reveal_variables(text), place, self.lookup, self.problems)
    }

    /// How a number or a boolean was written.
    fn slice(&self, at: Location) -> Option<String> {
        let from = usize::try_from(at.span().byte_offset()?).ok()?;
        let len = usize::try_from(at.span().byte_len()?).ok()?;
        let text = self.text.get(from..from.checked_add(len)?)?.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }
}

/// A value as the parser gives it.
enum Raw {
    Null,
    Text(String),
    /// A number or a boolean, by its value.
    Plain(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<Raw>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Plain(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Plain(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Plain(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Plain(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::Text(value))
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Raw, E> {
        Ok(Raw::Text(String::from_utf8_lossy(value).into_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The tree on one line: `key@line:column=value`.
    fn render(node: &Node) -> String {
        let Place::Line { line, column, .. } = &node.place else { return "?".into() };
        match &node.tree {
            Tree::Null => format!("null@{line}:{column}"),
            Tree::Scalar(scalar) => format!("{}@{line}:{column}", scalar.text),
            Tree::List(items) => format!("[{}]", items.iter().map(render).collect::<Vec<_>>().join(" ")),
            Tree::Map(entries) => {
                let entries: Vec<_> = entries.iter().map(|(k, v)| format!("{}={}", render(k), render(v))).collect();
                format!("{{{}}}", entries.join(" "))
            }
        }
    }

    fn parsed(text: &str) -> (Option<String>, Vec<Problem>) {
        let mut problems = Vec::new();
        let lookup = |name: &str| (name != "UNSET").then(|| format!("[{name}]: #"));
        let node = parse(&"f.yaml".into(), text, &lookup, &mut problems);
        (node.map(|node| render(&node)), problems)
    }

    fn tree(text: &str) -> String {
        let (node, problems) = parsed(text);
        assert_eq!(problems, []);
        node.unwrap()
    }

    #[test]
    fn values_keep_their_text_and_place() {
        assert_eq!(
            tree("a: 1\nb:\n  c: [no, 007, 1.50, \"x\", ~]\n"),
            "{a@1:1=1@1:4 b@2:1={c@3:3=[no@3:7 007@3:11 1.50@3:16 x@3:22 null@3:27]}}"
        );
        assert_eq!(tree("a: null\nb: 'null'\nc:\n"), "{a@1:1=null@1:4 b@2:1=null@2:4 c@3:1=null@3:2}");
    }

    #[test]
    fn variables_expand_to_text_wherever_they_stand() {
        assert_eq!(
            tree("a: [${A}, x-${B}] # ${UNSET}\nb: \"${A}\"\n"),
            "{a@1:1=[[A]: #@1:5 x-[B]: #@1:11] b@2:1=[A]: #@2:4}"
        );
    }

    #[test]
    fn every_unset_variable_is_reported_at_its_line() {
        let (_, problems) = parsed("a: ${UNSET}\nb:\n  - x\n  - ${UNSET}\n");
        let places: Vec<_> = problems.iter().map(|p| p.place.to_string()).collect();
        assert_eq!(places, ["f.yaml:1:4", "f.yaml:4:5"]);
    }

    #[test]
    fn anchors_and_merge_keys_work_and_duplicates_are_kept() {
        assert_eq!(
            tree("a: &x\n  k: 1\nb:\n  <<: *x\n  l: 2\nc: 1\nc: 2\n"),
            "{a@1:1={k@2:3=1@2:6} b@3:1={l@5:3=2@5:6 k@4:7=1@4:7} c@6:1=1@6:4 c@7:1=2@7:4}"
        );
    }

    #[test]
    fn an_empty_file_is_nothing() {
        assert_eq!(parsed("").0, None);
        assert_eq!(parsed("# nothing\n").0, None);
    }

    #[test]
    fn what_is_not_yaml_is_said_without_quoting_it() {
        for text in ["a: b: CANARY\n", "a: [CANARY\n", "a: *CANARY\n", "a: \"CANARY\n", "a: 1\n---\nb: CANARY\n"] {
            let (node, problems) = parsed(text);
            assert!(node.is_none() && problems.len() == 1, "{text:?}");
            let Place::Line { line, .. } = problems[0].place else { panic!("{text:?}: {:?}", problems[0]) };
            assert!(line > 0);
            assert!(!problems[0].to_string().contains("CANARY"), "{}", problems[0]);
        }
    }

    #[test]
    fn bombs_are_refused() {
        let deep = "[".repeat(5000);
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x]\n");
        for n in 1..12 {
            let before = format!("*a{}, ", n - 1).repeat(8);
            bomb.push_str(&format!("a{n}: &a{n} [{before}]\n"));
        }
        for text in [deep, bomb] {
            let (node, problems) = parsed(&text);
            assert!(node.is_none());
            assert_eq!(problems[0].code, Code::Syntax);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "([a-c]|[0-9]|[:\\-\\[\\]{}&*!|>'\"%@`#,?~$ \n\t.<_])*") {
            let _ = parsed(&text);
        }

        #[test]
        fn any_unicode_is_read_or_refused(text in "\\PC*") {
            let _ = parsed(&text);
        }
    }
}
