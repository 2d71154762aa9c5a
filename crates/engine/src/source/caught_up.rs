//! Waiting until the target is in step.
//!
//! ```text
//!  goal: where the source is now ──looks──> the target has passed it ──within CLOSE?── yes ──> in step
//!    ▲                                                                │
//!    └──────────────────────────── no: a new goal ────────────────────┘
//! ```
//! A source that is written to never stands still, so "everything" is no goal. In step means that the target has what the
//! source had at most [`CLOSE`] ago, by one clock: that of this process.

use std::time::Duration;

use pgstream_postgres::{Class, Lsn, Server, Session};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{Error, Status, StatusSettings, status};

/// How old what the target has may be.
const CLOSE: Duration = Duration::from_secs(30);

/// Between two looks at both servers.
const LOOK: Duration = Duration::from_secs(2);

/// Findings that no waiting mends: changes are lost, or this is not the pipeline that was meant.
const HOPELESS: [&str; 11] = [
    "slot_missing",
    "slot_gone",
    "slot_lost",
    "slot_plugin",
    "slot_database",
    "slot_ahead_of_target",
    "other_system",
    "target_other_system",
    "publication_missing",
    "schema_missing",
    "schema_of_another_program",
];

/// How the wait ended.
#[derive(Debug)]
pub enum CaughtUp {
    /// The target is in step.
    InStep(Box<Status>),
    /// It never will be, for a reason that is among the findings.
    Never(Box<Status>),
}

/// Looks at both servers until the target is in step. Changes nothing. Errors that go away by themselves are waited out.
///
/// # Errors
/// When `patience` ran out, a server cannot be read, or it was cancelled.
pub async fn caught_up(
    source: &Server,
    target: &Server,
    settings: &StatusSettings,
    patience: Duration,
    cancel: &CancellationToken,
) -> Result<CaughtUp, Error> {
    let began = Instant::now();
    let mut goal = None;
    loop {
        let left = patience.saturating_sub(began.elapsed());
        let behind = match look(source, target, settings).await {
            Ok(look) if look.status.findings.iter().any(|found| HOPELESS.contains(&found.code)) => {
                return Ok(CaughtUp::Never(Box::new(look.status)));
            }
            Ok(look) => {
                let (wanted, since) = *goal.get_or_insert((look.source, Instant::now()));
                if look.target.is_some_and(|applied| applied >= wanted) {
                    if since.elapsed() <= CLOSE {
                        return Ok(CaughtUp::InStep(Box::new(look.status)));
                    }
                    goal = None;
                }
                look.behind()
            }
            Err(error) if error.class() == Class::Transient && !left.is_zero() => {
                tracing::warn!(%error, "a server does not answer; waiting for it");
                None
            }
            Err(error) => return Err(error),
        };
        if left.is_zero() {
            return Err(Error::NotCaughtUp { target: target.to_string(), waited: patience, behind });
        }
        if let Some(behind) = behind {
            tracing::info!(behind_bytes = behind, "waiting for the target");
        }
        tokio::select! {
            () = sleep(LOOK.min(left)) => {}
            () = cancel.cancelled() => return Err(Error::Cancelled),
        }
    }
}

/// Both sides, the source first: what the target has is never older than what it is compared with.
struct Look {
    source: Lsn,
    target: Option<Lsn>,
    status: Status,
}

impl Look {
    /// Bytes of WAL between the two; `None` before the target has a position.
    fn behind(&self) -> Option<u64> {
        self.target.map(|applied| self.source.0.saturating_sub(applied.0))
    }
}

async fn look(source: &Server, target: &Server, settings: &StatusSettings) -> Result<Look, Error> {
    let client = source.connect(&Session::new("pgstream-aws status")).await?;
    // What is flushed is what a walsender sends.
    let row = client.query_one("SELECT pg_current_wal_flush_lsn()", &[]).await;
    let source_lsn = row.map_err(client.failed("reading the position of the source"))?.get(0);
    let status = status(source, Some(target), settings).await?;
    let applied = status.target.as_ref().and_then(|found| found.commit_end_lsn.as_deref());
    Ok(Look { source: source_lsn, target: applied.and_then(|lsn| lsn.parse().ok()), status })
}
