//! What stands in the way, found before it bites, and explained when it has bitten.
//!
//! ```text
//!  source ─┐                      ┌─ a query that lists what is wrong
//!  target ─┼─> catalogue of checks┼─ a comparison of both sides         ──> Report { findings }
//!  URLs   ─┤                      └─ a statement tried and rolled back
//!  RDS API ┘        events of the last day ─> what explains what is wrong now
//!
//!  error text, log ──> explain()  ─┐
//!  a failure       ──> diagnose() ─┴─> Diagnosis { cause, fix, docs }
//! ```
//!
//! Checks change nothing: sessions read, and what is tried is rolled back. A check that could not be made is a finding by
//! itself, so that silence always means "looked, and found nothing".

mod catalogue;
mod check;
mod endpoint;
mod events;
mod explain;
mod fix;
mod live;
mod machine;
mod plan;
mod plugin;
mod rds;
mod reference;
mod report;
mod run;
mod wal;

pub use check::{Category, Severity, Side};
pub use events::Event;
pub use explain::{Diagnosis, diagnose, diagnoses, explain};
pub use fix::{Applied, Fix, apply, fixes};
pub use live::{Examination, examine};
pub use plan::Plan;
pub use rds::Rds;
pub use reference::reference;
pub use report::{Finding, Instance, Report};
pub use run::check;
pub use wal::{WalRate, for_people};
