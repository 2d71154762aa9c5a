//! Schema changes: what the source's event triggers recorded becomes statements for the target.
//!
//! ```text
//!  schema_log row ──> Record ──> scope: what of it is followed ──> plan: was -> is, as statements ──> replay: one
//!                      (was, is of each object)                                                      transaction
//! ```
//! Both definitions come from the source, so a newer target that prints the same expression otherwise makes no
//! difference. The statements run where the record stands in the stream, in the transaction of the rows around it.

pub mod definition;
pub mod log;
pub mod plan;
pub mod record;
pub mod scope;

pub use self::{
    plan::Plan,
    record::{Change, Record},
    scope::Scope,
};
