//! The slot monitor, as the Lambda and `pgstream-aws monitor` run it.
//!
//! ```text
//!  source ──look──> slots, end of WAL ─┐
//!  target ──look──> last commit ───────┼──> Watcher (what was seen before) ──> Sample ──> metrics ──> CloudWatch
//!  CloudWatch ────> free storage ──────┘                                         ├──────> text for Prometheus
//!                                                                                └──────> table for a terminal
//! ```
//!
//! The stream's own metrics take the same way, or are lines that CloudWatch Logs reads:
//!
//! ```text
//!  the stream's counters ──> Counted (what was counted since) ──> stream::of ──┬──> CloudWatch
//!                                                                               └──> emf::line
//! ```
//!
//! What is not known is left out, never made up: a source that does not answer gives one metric, `Up` = 0.

pub mod emf;
pub mod look;
pub mod metrics;
pub mod prometheus;
pub mod publish;
pub mod sample;
pub mod series;
pub mod stream;
pub mod valve;
pub mod watcher;

pub use metrics::{METRICS, Metric, NAMESPACE, Unit, Value};
pub use sample::{Sample, SlotSample};
pub use watcher::{Settings, Watcher};
