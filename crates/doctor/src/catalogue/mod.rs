//! All checks that ask a server, by the side that they ask.
//!
//! To add one: a `Check` in the list of its side, a row of `tests/e2e/obstacles` that makes the condition, and its paragraph in
//! docs/checks.md (`UPDATE_DOCS=1 cargo nextest run -p pgstream-doctor reference`).

mod both;
mod source;
mod target;

use crate::check::Check;

/// The catalogue, in the order in which findings of equal severity are printed.
pub(crate) fn all() -> impl Iterator<Item = &'static Check> {
    source::CHECKS.iter().chain(target::CHECKS).chain(both::CHECKS)
}

/// Tables that are the user's: not the system's, not ours, not temporary.
macro_rules! user_tables {
    ($kinds:literal) => {
        concat!(
            "pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND c.oid >= 16384 AND c.relpersistence <> 't' ",
            "AND c.relkind IN (",
            $kinds,
            ") AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname NOT IN ('pgstream', 'information_schema') ",
            "AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid ",
            "AND e.deptype = 'e') "
        )
    };
}
use user_tables;
