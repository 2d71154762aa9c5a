//! What the safety valve did, where the copy and the stream look.
//!
//! ```text
//!  slot monitor ── storage is short ──> copy_paused ───> the copy waits between two parts; goes on when the row is gone
//!               └─ it is shorter ─────> slot_dropped ──> whoever misses the slot is told why; gone with the target's data
//! ```

use std::time::Duration;

use pgstream_postgres::{Client, Error};
use tokio_postgres::error::SqlState;

/// How often a paused copy looks.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The copy is to wait.
    CopyPaused,
    /// The slot is gone.
    SlotDropped,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::CopyPaused => "copy_paused",
            Self::SlotDropped => "slot_dropped",
        }
    }
}

/// A row of `pgstream.safety_valve`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// What was done.
    pub state: State,
    /// Why.
    pub reason: String,
    /// When, as the target shows it.
    pub since: String,
}

/// What was done about a slot; nothing where nothing was, or the target is not prepared.
///
/// # Errors
/// When the session fails.
pub async fn read(client: &Client, slot: &str) -> Result<Option<Mark>, Error> {
    let sql = "SELECT state, reason, since::text FROM pgstream.safety_valve WHERE slot_name = $1";
    let row = match client.query_opt(sql, &[&slot]).await {
        Ok(row) => row,
        Err(error) if is_unprepared(&error) => None,
        Err(error) => return Err(client.failed("reading pgstream.safety_valve")(error)),
    };
    Ok(row.map(|row| Mark {
        state: if row.get::<_, &str>(0) == State::SlotDropped.name() { State::SlotDropped } else { State::CopyPaused },
        reason: row.get(1),
        since: row.get(2),
    }))
}

/// Marks a slot. Returns whether that is new; of a target that is not prepared, there is nothing to mark.
///
/// # Errors
/// When the session fails.
pub async fn mark(client: &Client, slot: &str, state: State, reason: &str) -> Result<bool, Error> {
    let sql = "INSERT INTO pgstream.safety_valve (slot_name, state, reason) VALUES ($1, $2, $3)
               ON CONFLICT (slot_name) DO UPDATE SET state = EXCLUDED.state, reason = EXCLUDED.reason, since = now()
               WHERE safety_valve.state <> EXCLUDED.state OR EXCLUDED.state = 'slot_dropped'";
    match client.execute(sql, &[&slot, &state.name(), &reason]).await {
        Ok(written) => Ok(written > 0),
        Err(error) if is_unprepared(&error) => Ok(false),
        Err(error) => Err(client.failed("writing pgstream.safety_valve")(error)),
    }
}

/// Lets the copy go on. Returns whether it was paused.
///
/// # Errors
/// When the session fails.
pub async fn resume(client: &Client, slot: &str) -> Result<bool, Error> {
    let sql = "DELETE FROM pgstream.safety_valve WHERE slot_name = $1 AND state = 'copy_paused'";
    match client.execute(sql, &[&slot]).await {
        Ok(gone) => Ok(gone > 0),
        Err(error) if is_unprepared(&error) => Ok(false),
        Err(error) => Err(client.failed("writing pgstream.safety_valve")(error)),
    }
}

/// Waits while the copy is paused.
///
/// # Errors
/// When the session fails.
pub async fn wait_while_paused(client: &Client, slot: &str) -> Result<(), Error> {
    let mut told = false;
    while let Some(mark) = read(client, slot).await?.filter(|mark| mark.state == State::CopyPaused) {
        if !told {
            tracing::warn!(slot, since = mark.since, reason = mark.reason, "the copy is paused by the safety valve");
            told = true;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    if told {
        tracing::info!(slot, "the copy goes on");
    }
    Ok(())
}

/// No schema, or one of an earlier version.
fn is_unprepared(error: &tokio_postgres::Error) -> bool {
    matches!(error.code(), Some(&SqlState::UNDEFINED_TABLE | &SqlState::INVALID_SCHEMA_NAME))
}
