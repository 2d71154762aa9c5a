//! What was written, before anybody asked what it means: values with their places.

use crate::error::{Code, Place, Problem};

/// A value and where it stands.
pub(crate) struct Node {
    pub place: Place,
    pub tree: Tree,
}

/// Mappings keep their order and their duplicates. Not `Debug`: it may hold a password.
pub(crate) enum Tree {
    Null,
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

/// Every scalar is text; what it means is up to its key.
pub(crate) struct Scalar {
    /// With variables expanded.
    pub text: String,
    /// As it stands in the file, when that is something else. The only form that is ever shown.
    pub written: Option<String>,
    /// A variable in it is not set, which was reported.
    pub broken: bool,
}

impl Scalar {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), written: None, broken: false }
    }

    /// What may be shown, for keys that are not secret.
    pub(crate) fn written(&self) -> &str {
        self.written.as_deref().unwrap_or(&self.text)
    }
}

impl Node {
    pub(crate) fn scalar(place: Place, text: impl Into<String>) -> Self {
        Self { place, tree: Tree::Scalar(Scalar::new(text)) }
    }

    /// Whether it is a scalar with a variable that is not set.
    pub(crate) fn is_broken(&self) -> bool {
        matches!(&self.tree, Tree::Scalar(scalar) if scalar.broken)
    }
}

/// Replaces every `${NAME}` in `written`; a name without a value is a problem.
pub(crate) fn expand(
    written: &str,
    place: &Place,
    lookup: &dyn Fn(&str) -> Option<String>,
    problems: &mut Vec<Problem>,
) -> Scalar {
    let mut text = String::new();
    let (mut rest, mut broken) = (written, false);
    while let Some((before, name, after)) = next_variable(rest) {
        text.push_str(before);
        match lookup(name) {
            Some(value) => text.push_str(&value),
            None => {
                broken = true;
                problems.push(Problem::new(
                    place,
                    Code::UnsetVariable,
                    format!("the variable {name} is not set"),
                    format!("set {name} in the environment, or write the value in place of ${{{name}}}"),
                ));
            }
        }
        rest = after;
    }
    if rest.len() == written.len() {
        return Scalar::new(written);
    }
    text.push_str(rest);
    Scalar { text, written: Some(written.to_owned()), broken }
}

/// The first `${NAME}`: what stands before it, the name, what stands after it.
pub(crate) fn next_variable(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    loop {
        let start = from + text[from..].find("${")?;
        let inside = &text[start + 2..];
        let end = inside.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
        let name = &inside[..end];
        if inside[end..].starts_with('}') && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            return Some((&text[..start], name, &inside[end + 1..]));
        }
        from = start + 2;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn expanded(written: &str) -> (Scalar, usize) {
        let mut problems = Vec::new();
        let lookup = |name: &str| (name != "UNSET").then(|| format!("<{name}>"));
        let scalar = expand(written, &Place::Nowhere, &lookup, &mut problems);
        (scalar, problems.len())
    }

    #[test]
    fn only_braced_names_expand() {
        for (written, text) in [
            ("${A}", "<A>"),
            ("x${A_1}y${B}z", "x<A_1>y<B>z"),
            ("$A $${A} ${1} ${} ${A-b} ${A", "$A $<A> ${1} ${} ${A-b} ${A"),
            ("${${A}}", "${<A>}"),
        ] {
            assert_eq!(expanded(written).0.text, text);
        }
    }

    #[test]
    fn every_variable_that_is_not_set_is_a_problem() {
        let (scalar, problems) = expanded("${UNSET}${A}${UNSET}");
        assert!(scalar.broken);
        assert_eq!((scalar.text.as_str(), scalar.written(), problems), ("<A>", "${UNSET}${A}${UNSET}", 2));
    }

    #[test]
    fn a_value_is_not_expanded_again() {
        let scalar = expand("${A}", &Place::Nowhere, &|_| Some("${A}".to_owned()), &mut Vec::new());
        assert_eq!(scalar.text, "${A}");
    }

    proptest! {
        #[test]
        fn any_text_expands(text in "[${}A_é0 ]*") {
            let _ = expanded(&text);
        }
    }
}
