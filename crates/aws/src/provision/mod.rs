//! Brings a database on RDS or Aurora to where it can be a source or target, and back.
//!
//! ```text
//!  Named ──> Database ── inspect() ──> Inspection ──> Plan ── apply() ──> Outcome
//!  (locate)  (inspect)                  (model)      (plan)   (apply, calls)  └─ checks at the server (sql)
//! ```
//!
//! Whatever a run was killed at, the next one goes on from what it finds. Only groups that this program made are changed or
//! deleted, and nothing is rebooted unless that was allowed.

mod apply;
mod blockers;
mod calls;
mod error;
mod events;
mod inspect;
mod locate;
mod model;
mod notes;
mod pending;
mod plan;
mod room;
mod sql;

pub use apply::{Direction, Event, Limits, Outcome};
pub use blockers::Blocker;
pub use error::{BlockerError, Error};
pub use events::PastEvent;
pub use inspect::{Database, State};
pub use locate::Named;
pub use model::{
    ApplyStatus, Attached, Free, GroupKind, Inspection, Needs, Own, Parameter, Parameters, ServerFacts, Side, Storage,
    Topology,
};
pub use plan::{Change, Choices, Plan, Step, Wish};
pub use sql::{Check, needs};
