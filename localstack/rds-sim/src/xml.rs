//! Answers, element by element.

/// XML that is being written.
#[derive(Debug, Default)]
pub(crate) struct Xml {
    text: String,
}

impl Xml {
    /// An element with a value.
    pub(crate) fn text(&mut self, name: &str, value: &str) {
        self.open(name);
        for character in value.chars() {
            match character {
                '&' => self.text.push_str("&amp;"),
                '<' => self.text.push_str("&lt;"),
                '>' => self.text.push_str("&gt;"),
                other => self.text.push(other),
            }
        }
        self.close(name);
    }

    /// An element with a value that prints itself.
    pub(crate) fn value(&mut self, name: &str, value: impl ToString) {
        self.text(name, &value.to_string());
    }

    /// An element with elements.
    pub(crate) fn within(&mut self, name: &str, write: impl FnOnce(&mut Self)) {
        self.open(name);
        write(self);
        self.close(name);
    }

    /// A list of elements.
    pub(crate) fn list<T>(
        &mut self,
        name: &str,
        item: &str,
        of: impl IntoIterator<Item = T>,
        write: impl Fn(&mut Self, T),
    ) {
        self.within(name, |xml| of.into_iter().for_each(|one| xml.within(item, |xml| write(xml, one))));
    }

    /// What another one holds.
    pub(crate) fn append(&mut self, other: Self) {
        self.text.push_str(&other.text);
    }

    /// The document.
    pub(crate) fn finish(self) -> String {
        self.text
    }

    fn open(&mut self, name: &str) {
        self.text.push('<');
        self.text.push_str(name);
        self.text.push('>');
    }

    fn close(&mut self, name: &str) {
        self.text.push_str("</");
        self.text.push_str(name);
        self.text.push('>');
    }
}
