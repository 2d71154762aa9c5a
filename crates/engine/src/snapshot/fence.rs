//! The gap between a slot and the first snapshot after it, closed by waiting.
//!
//! ```text
//!  WAL        … commit of T … │ slot's consistent point …
//!  ProcArray  T still "running" (waits for a synchronous standby) ──────┐ the snapshot must not be taken in here:
//!                                                                       │ T is not in the stream and not visible
//! ```

use std::time::Duration;

use pgstream_postgres::Client;
use tokio_util::sync::CancellationToken;

use super::Error;

/// What was running when the slot had just been created.
#[derive(Debug, Clone)]
pub struct Fence {
    /// `pg_current_snapshot()`, taken right after the slot was created.
    pub xid_snapshot_at_slot_creation: String,
}

/// How often the server is asked.
const POLL: Duration = Duration::from_millis(200);

/// How often the log says who is waited for.
const POLLS_PER_REPORT: u32 = 50;

const WAITED_FOR: &str = "
    SELECT old.xid::text, a.pid, a.xact_start::text, a.application_name, p.gid
    FROM pg_snapshot_xip($1::text::pg_snapshot) AS old (xid)
    JOIN pg_snapshot_xip(pg_current_snapshot()) AS now (xid) ON now.xid = old.xid
    LEFT JOIN pg_stat_activity a ON a.backend_xid = old.xid::xid
    LEFT JOIN pg_prepared_xacts p ON p.transaction = old.xid::xid";

/// Returns when every transaction that ran at the slot's creation has ended, as other backends see it.
pub(crate) async fn wait(source: &Client, fence: &Fence, cancel: &CancellationToken) -> Result<(), Error> {
    for poll in 0_u32.. {
        let rows = source
            .query(WAITED_FOR, &[&fence.xid_snapshot_at_slot_creation])
            .await
            .map_err(source.failed("looking for transactions older than the slot"))?;
        if rows.is_empty() {
            return Ok(());
        }
        if poll % POLLS_PER_REPORT == 0 {
            for row in &rows {
                tracing::info!(
                    xid = row.get::<_, &str>(0),
                    pid = row.get::<_, Option<i32>>(1),
                    since = row.get::<_, Option<&str>>(2),
                    application = row.get::<_, Option<&str>>(3),
                    prepared = row.get::<_, Option<&str>>(4),
                    "waiting for a transaction that began before the slot: the snapshot is taken after it ends"
                );
            }
        }
        tokio::select! {
            () = cancel.cancelled() => return Err(Error::Cancelled),
            () = tokio::time::sleep(POLL) => {}
        }
    }
    Ok(())
}
