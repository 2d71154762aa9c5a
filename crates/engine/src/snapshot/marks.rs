//! Sessions of the target that write for a copy, each marked by an advisory lock of its own.
//!
//! A run that dies, or loses its connections, may have sent a COMMIT that the server is still at. The next run would find
//! neither the row of the ledger nor an empty table, so it ends these sessions, and sees them gone, before it looks.

use std::time::{Duration, Instant};

use pgstream_postgres::{Client, Server};

use super::{Error, ledger::Origin};

/// How long these sessions may take to end once they were told to.
const PARTING: Duration = Duration::from_secs(60);

/// How often it is asked whether they have.
const PARTING_POLL: Duration = Duration::from_millis(100);

/// Sessions of workers of `$1`.
pub(crate) const WORKERS: &str = "
    SELECT l.pid FROM pg_locks l
    WHERE l.locktype = 'advisory' AND l.granted AND l.mode = 'ShareLock' AND l.objsubid = 1
      AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
      AND ((l.classid::int8 << 32) | l.objid::int8) = hashtextextended('pgstream snapshot ' || $1, 2)";

/// Sessions of the process that has the lock of the copy, and of workers, of `$1`.
const WRITERS: &str = "
    SELECT l.pid FROM pg_locks l
    WHERE l.locktype = 'advisory' AND l.granted AND l.mode = 'ShareLock' AND l.objsubid = 1
      AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
      AND ((l.classid::int8 << 32) | l.objid::int8) IN
          (hashtextextended('pgstream snapshot ' || $1, 2), hashtextextended('pgstream snapshot ' || $1, 3))";

/// Marks a session of a worker, which claims parts of a round.
pub(crate) async fn worker(target: &Client, origin: &Origin) -> Result<(), Error> {
    let sql = "SELECT pg_advisory_lock_shared(hashtextextended('pgstream snapshot ' || $1, 2))";
    target.execute(sql, &[&origin.source]).await.map_err(target.failed("marking the session as a worker's"))?;
    Ok(())
}

/// Marks a session of the process that has the lock of the copy.
pub(crate) async fn own(target: &Client, origin: &Origin) -> Result<(), Error> {
    let sql = "SELECT pg_advisory_lock_shared(hashtextextended('pgstream snapshot ' || $1, 3))";
    target.execute(sql, &[&origin.source]).await.map_err(target.failed("marking the session as the copy's"))?;
    Ok(())
}

/// Ends what is left of earlier runs. To be called by the one who has the lock of the copy.
///
/// # Errors
///
/// When some are still there after a minute.
pub(crate) async fn end(target: &Client, server: &Server, origin: &Origin) -> Result<(), Error> {
    let wrap = || target.failed("ending sessions of an earlier run of the copy");
    let source = &origin.source;
    let begun = Instant::now();
    loop {
        // Of another role it may be refused: then they end by themselves, when they see that nobody is there any more.
        let told = target.query(&format!("SELECT pg_terminate_backend(pid) FROM ({WRITERS}) w"), &[source]).await;
        let left = target.query(WRITERS, &[source]).await.map_err(wrap())?.len();
        if left == 0 {
            return Ok(());
        }
        if begun.elapsed() > PARTING {
            told.map_err(wrap())?;
            return Err(Error::WorkersLeft { left, source_name: source.clone(), server: server.to_string() });
        }
        tokio::time::sleep(PARTING_POLL).await;
    }
}
