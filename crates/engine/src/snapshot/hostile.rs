//! The texts of `pg_restore`, from anybody: the entrance of the fuzz targets, not part of the interface.

use std::collections::HashSet;

use super::{
    script,
    texts::Texts,
    toc::{Entry, Toc},
};

/// Reads a listing of a dump, names its entries and leaves out what hangs on every third one; how many entries it has,
/// how many names, and how many are left out.
#[must_use]
pub fn listing(text: &str) -> (usize, usize, usize) {
    let toc = Toc::parse(text);
    let mut left_out: HashSet<u32> = toc.entries.iter().step_by(3).map(|entry| entry.id).collect();
    toc.cascade(&mut left_out, |entry: &Entry| entry.kind == "EXTENSION");
    (toc.entries.len(), toc.keys().len(), left_out.len())
}

/// What of a script is sent to a server of that version.
#[must_use]
pub fn body(text: &str, server_major: u32) -> String {
    script::body(text, server_major).into_owned()
}

/// The script that is put together again from what a script of these entries was taken apart into. None when it was not.
#[must_use]
pub fn put_together(text: &str, ids: &[u32]) -> Option<String> {
    Texts::parse(text, ids).script(ids)
}

/// The statements of a script, each with what an error would show of it.
pub fn statements(text: &str) -> impl Iterator<Item = (&str, String)> {
    script::statements(text).map(|statement| (statement, script::redact(statement)))
}
