//! How far the stream was applied, and the one replicator that may move it.
//!
//! ```text
//!  claim ──> advisory lock (one live session) + epoch + 1 (fences a session that lost its lock unnoticed)
//!  advance ─> UPDATE … WHERE epoch = mine, in the transaction of the rows; no row changed = somebody took over
//! ```

use std::time::Duration;

use pgstream_postgres::{Client, Error, Lsn};

use crate::mutants::{self, Mutant};

/// The row of one slot in `pgstream.apply_progress`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// System identifier of the source.
    pub system_identifier: String,
    /// Timeline of the source when the row was written.
    pub timeline: u32,
    /// End of the last source commit that is applied, one past its last byte.
    pub commit_end: Lsn,
}

/// The right to write progress for one slot, held by one session.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Slot name.
    pub slot: String,
    /// This replicator's epoch.
    pub epoch: i64,
}

/// The slot's progress cannot be claimed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ClaimError {
    /// Another replicator is at work.
    #[error("another replicator is writing slot {slot}'s changes to this target (backend {pid})")]
    #[diagnostic(
        code(stream::second_replicator),
        help("stop the other one; or, if it is gone for good, end its session: SELECT pg_terminate_backend({pid})")
    )]
    Taken {
        /// Slot name.
        slot: String,
        /// Backend that holds the lock; 0 when it cannot be told.
        pid: i32,
    },
    /// The session failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Postgres(#[from] Error),
}

/// How long a vanished predecessor's session may linger on the target.
const LOCK_PATIENCE: Duration = Duration::from_secs(15);
const LOCK_RETRY: Duration = Duration::from_millis(500);

/// Reads the progress of `slot`.
///
/// # Errors
/// When the session fails.
pub async fn read(client: &Client, slot: &str) -> Result<Option<Progress>, Error> {
    let row = client
        .query_opt(
            "SELECT system_identifier, timeline, commit_end_lsn FROM pgstream.apply_progress WHERE slot_name = $1",
            &[&slot],
        )
        .await
        .map_err(client.failed("reading pgstream.apply_progress"))?;
    Ok(row.map(|row| Progress {
        system_identifier: row.get(0),
        timeline: row.get::<_, i64>(1).try_into().unwrap_or_default(),
        commit_end: row.get(2),
    }))
}

/// Writes the first progress row of `slot`; keeps one that is there.
///
/// # Errors
/// When the session fails.
pub async fn start(client: &Client, slot: &str, progress: &Progress) -> Result<(), Error> {
    client
        .execute(
            "INSERT INTO pgstream.apply_progress (slot_name, system_identifier, timeline, commit_end_lsn)
             VALUES ($1, $2, $3, $4) ON CONFLICT (slot_name) DO NOTHING",
            &[&slot, &progress.system_identifier, &i64::from(progress.timeline), &progress.commit_end],
        )
        .await
        .map_err(client.failed("writing pgstream.apply_progress"))?;
    Ok(())
}

/// Takes the session lock of `slot` and raises its epoch, so that no earlier replicator can commit any more. When this
/// returns, everything that was committed on the target before is on its disk: the position that was read may be
/// acknowledged.
///
/// # Errors
/// [`ClaimError::Taken`] when another session keeps the lock.
pub async fn claim(client: &mut Client, slot: &str) -> Result<Claim, ClaimError> {
    lock(client, slot).await?;
    let failed = client.failed("taking over pgstream.apply_progress");
    let raise = async {
        let tx = client.transaction().await?;
        // An earlier session's commits were asynchronous; one that waits for the disk takes them with it.
        tx.batch_execute("SET LOCAL synchronous_commit = on").await?;
        let row = tx
            .query_one(
                "UPDATE pgstream.apply_progress SET epoch = epoch + 1, updated_at = now()
                  WHERE slot_name = $1 RETURNING epoch",
                &[&slot],
            )
            .await?;
        tx.commit().await?;
        Ok(row.get(0))
    };
    let epoch = raise.await.map_err(failed)?;
    Ok(Claim { slot: slot.to_owned(), epoch })
}

/// Takes the session-level advisory lock of the one writer.
///
/// # Errors
/// [`ClaimError::Taken`] when another session keeps it.
pub async fn lock(client: &Client, slot: &str) -> Result<(), ClaimError> {
    take(client, &format!("pgstream:{slot}"), slot).await
}

/// Locks the copies that are made beside the stream: one session at a time makes them.
///
/// # Errors
/// [`ClaimError::Taken`] when another session keeps it.
pub async fn lock_copies(client: &Client, slot: &str) -> Result<(), ClaimError> {
    take(client, &copies(slot), slot).await
}

/// Waits for what an earlier replicator may still be copying: whether that is in the ledger is only known then.
///
/// # Errors
/// [`ClaimError::Taken`] when its session does not end.
pub async fn wait_for_copies(client: &Client, slot: &str) -> Result<(), ClaimError> {
    lock_copies(client, slot).await?;
    let unlock = client.execute("SELECT pg_advisory_unlock(hashtextextended($1, 0))", &[&copies(slot)]).await;
    unlock.map_err(client.failed("locking the target for one replicator"))?;
    Ok(())
}

fn copies(slot: &str) -> String {
    format!("pgstream copies:{slot}")
}

async fn take(client: &Client, name: &str, slot: &str) -> Result<(), ClaimError> {
    let deadline = tokio::time::Instant::now() + LOCK_PATIENCE;
    let mut told = false;
    loop {
        let taken: bool = client
            .query_one("SELECT pg_try_advisory_lock(hashtextextended($1, 0))", &[&name])
            .await
            .map_err(client.failed("locking the target for one replicator"))?
            .get(0);
        if taken || mutants::is(Mutant::NoLock) {
            return Ok(());
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(ClaimError::Taken { slot: slot.to_owned(), pid: holder(client, name).await? });
        }
        if !std::mem::replace(&mut told, true) {
            tracing::info!(slot, "waiting for an earlier replicator's session on the target to end");
        }
        tokio::time::sleep(LOCK_RETRY).await;
    }
}

async fn holder(client: &Client, name: &str) -> Result<i32, Error> {
    let row = client
        .query_opt(
            "SELECT pid FROM pg_locks, hashtextextended($1, 0) AS h(key)
              WHERE locktype = 'advisory' AND granted AND objsubid = 1
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                AND classid = ((key >> 32) & 4294967295)::oid AND objid = (key & 4294967295)::oid",
            &[&name],
        )
        .await
        .map_err(client.failed("reading pg_locks"))?;
    Ok(row.map_or(0, |row| row.get(0)))
}

/// The statement that moves the progress; parameters: slot, epoch, commit end LSN, commit time.
pub const ADVANCE: &str = "UPDATE pgstream.apply_progress
       SET commit_end_lsn = $3, commit_time = coalesce($4, commit_time), updated_at = now()
     WHERE slot_name = $1 AND epoch = $2 AND commit_end_lsn <= $3";
