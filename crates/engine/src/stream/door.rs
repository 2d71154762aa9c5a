//! The checks at every connect: the stream goes on only on the history that the target holds.
//!
//! ```text
//!  target: schema, lock, progress ─┐
//!  source: identity, slot, publication ─┼─ compare ──> Opened, or the reason why not
//!  ledger: what copies already hold ────┘
//! ```
//! The invariant: `slot.confirmed_flush_lsn <= progress`, on one system and one line of timelines.

use std::time::Duration;

use pgstream_postgres::{
    Client, Lsn, Server, Session,
    replication::{Connection, Identity},
};
use tokio::time::timeout;

use super::{Error, Job};
use crate::{
    mutants::{self, Failpoint, Mutant},
    source::slot,
    target::{
        ledger::{self, Ledger},
        migrate,
        progress::{self, Claim, Progress},
    },
};

/// A step of the opening waits 15 s at most for an earlier replicator, and as long for its copies; the rest is short.
const OPENING: Duration = Duration::from_secs(60);

/// Everything a stream works with, checked.
pub struct Opened {
    /// In replication mode, not yet streaming.
    pub replication: Connection,
    /// A session for questions to the source.
    pub source: Client,
    /// Where to start.
    pub position: Lsn,
    /// Highest pgoutput protocol of the server.
    pub proto_version: u32,
    /// Whether values travel in their binary form.
    pub binary: bool,
    /// Whether the source has the log of schema changes.
    pub records_ddl: bool,
}

/// The session that writes.
pub struct Writer {
    /// Its connection; holds the advisory lock.
    pub client: Client,
    /// The right to move the progress.
    pub claim: Claim,
    /// Whether it runs under `session_replication_role = replica`.
    pub replica_role: bool,
    /// What copies already hold.
    pub ledger: Ledger,
}

/// Connects to both servers and checks that the one continues the other.
///
/// # Errors
/// The first reason why the stream must not go on.
pub async fn open(job: &Job, target: &Server) -> Result<(Opened, Writer), Error> {
    let mut client = connect(target, &writer_session()).await?;
    let ready = async {
        migrate::migrate(&mut client).await?;
        progress::lock(&client, &job.slot).await?;
        progress::wait_for_copies(&client, &job.slot).await?;
        enter_replica_role(&client, job.disable_triggers).await
    };
    let replica_role = in_time(ready).await?;
    let (source, replication) = connect_source(job).await?;
    in_time(compare(job, client, replica_role, source, replication)).await
}

async fn compare(
    job: &Job,
    mut client: Client,
    replica_role: bool,
    source: Client,
    mut replication: Connection,
) -> Result<(Opened, Writer), Error> {
    let (identity, confirmed) = look_at_source(job, &source, &mut replication).await?;
    let ledger = Ledger::read(&client, &job.slot).await?;
    if ledger.has_snapshot() && !ledger::is_complete(&client, &job.slot).await? {
        return Err(Error::SnapshotIncomplete { slot: job.slot.clone() });
    }
    let recorded = match progress::read(&client, &job.slot).await? {
        Some(recorded) => recorded,
        None => first_progress(&client, &source, job, &identity, confirmed).await?,
    };
    let position = if mutants::is(Mutant::StartAtSlot) { confirmed } else { recorded.commit_end };
    same_history(&mut replication, &identity, &recorded).await?;
    if confirmed > position && !mutants::is(Mutant::SlotAhead) {
        return Err(Error::SlotAhead { slot: job.slot.clone(), confirmed, applied: position });
    }
    let claim = progress::claim(&mut client, &job.slot).await?;
    mutants::reached(Failpoint::Claimed);
    record_timeline(&client, &claim, identity.timeline).await?;

    let opened = open_stream(job, replication, source, position, target_major(&client).await?).await?;
    Ok((opened, Writer { client, claim, replica_role, ledger }))
}

/// Does a step of the opening. To connect has limits of its own, for each address of each host.
///
/// # Errors
/// Those of the step; [`Error::NotOpened`] when it takes too long.
pub async fn in_time<T>(step: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(OPENING, step).await.unwrap_or(Err(Error::NotOpened { after: OPENING }))
}

/// The same for a target that keeps no state: the slot alone knows the position.
///
/// # Errors
/// As [`open`].
pub async fn open_without_target(job: &Job) -> Result<Opened, Error> {
    let (source, mut replication) = connect_source(job).await?;
    let look = async {
        let (_, confirmed) = look_at_source(job, &source, &mut replication).await?;
        open_stream(job, replication, source, confirmed, 0).await
    };
    let mut opened = in_time(look).await?;
    opened.binary = false;
    Ok(opened)
}

async fn connect_source(job: &Job) -> Result<(Client, Connection), Error> {
    let source = connect(&job.source, &Session::new("pgstream-aws stream")).await?;
    Ok((source, job.source.replicate().await?))
}

/// Who it is, and what the slot has confirmed.
async fn look_at_source(job: &Job, source: &Client, replication: &mut Connection) -> Result<(Identity, Lsn), Error> {
    let identity = replication.identify_system().await?;
    let confirmed = check_slot(source, job).await?;
    check_publication(source, &job.publication).await?;
    Ok((identity, confirmed))
}

async fn open_stream(
    job: &Job,
    replication: Connection,
    source: Client,
    position: Lsn,
    target_major: u32,
) -> Result<Opened, Error> {
    let major = source.major_version().await?;
    let proto_version = match major {
        ..=13 => 1,
        14 => 2,
        15 => 3,
        16.. => 4,
    };
    let binary = major >= 14 && target_major >= 14 && !has_local_references(&source, &job.publication).await?;
    let row = source.query_one("SELECT to_regclass('pgstream.schema_log') IS NOT NULL", &[]).await;
    let records_ddl = row.map_err(source.failed("looking for pgstream.schema_log"))?.get(0);
    Ok(Opened { replication, source, position, proto_version, binary, records_ddl })
}

/// A session that no timeout of its role ends. Not every server knows them all, so they cannot be sent at connect.
///
/// # Errors
/// When the server cannot be reached or refuses.
pub async fn connect(server: &Server, session: &Session) -> Result<Client, Error> {
    let client = server.connect(session).await?;
    let unlimited = "SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN ('transaction_timeout', 'idle_session_timeout')";
    client.execute(unlimited, &[]).await.map_err(client.failed("preparing a session"))?;
    Ok(client)
}

/// The slot and the position it has confirmed, if this stream can read it.
async fn check_slot(source: &Client, job: &Job) -> Result<Lsn, Error> {
    let slot = job.slot.clone();
    let Some(state) = slot::read(source, &slot).await? else {
        return Err(Error::SlotMissing { slot });
    };
    if state.is_lost() {
        return Err(Error::SlotLost {
            slot,
            reason: state.invalidation_reason.map_or_else(String::new, |r| format!(" ({r})")),
        });
    }
    let problem = if state.plugin.as_deref() != Some(slot::PLUGIN) {
        format!("is of plugin {}, not pgoutput", state.plugin.as_deref().unwrap_or("none (physical)"))
    } else if state.database.as_deref() != Some(job.source.dsn().dbname()) {
        format!("belongs to database {}", state.database.as_deref().unwrap_or("none"))
    } else if state.two_phase {
        "decodes prepared transactions before they commit (two_phase)".to_owned()
    } else {
        match state.confirmed_flush_lsn {
            Some(confirmed) => return Ok(confirmed),
            None => "is still being created".to_owned(),
        }
    };
    Err(Error::SlotUnusable { slot, problem })
}

/// Whether the publication is there. From version 18 on a missing one is a warning of the walsender, and only once there
/// is a change that it leaves out.
///
/// # Errors
/// [`Error::PublicationMissing`].
pub async fn check_publication(source: &Client, publication: &str) -> Result<(), Error> {
    let found = source
        .query_opt("SELECT 1 FROM pg_publication WHERE pubname = $1", &[&publication])
        .await
        .map_err(source.failed("reading pg_publication"))?;
    match found {
        Some(_) => Ok(()),
        None if mutants::is(Mutant::NoPublication) => Ok(()),
        None => Err(Error::PublicationMissing { publication: publication.to_owned() }),
    }
}

/// The progress of a target that was never streamed to: the slot must not have been read by anything yet.
async fn first_progress(
    client: &Client,
    source: &Client,
    job: &Job,
    identity: &Identity,
    confirmed: Lsn,
) -> Result<Progress, Error> {
    let start = slot::fence(source, &job.slot).await?.map_or(confirmed, |fence| fence.consistent_point);
    let progress = Progress {
        system_identifier: identity.system_identifier.clone(),
        timeline: identity.timeline,
        commit_end: start,
    };
    if confirmed <= start {
        progress::start(client, &job.slot, &progress).await?;
    }
    Ok(progress)
}

async fn same_history(replication: &mut Connection, identity: &Identity, recorded: &Progress) -> Result<(), Error> {
    if identity.system_identifier != recorded.system_identifier && !mutants::is(Mutant::OtherSystem) {
        return Err(Error::OtherSystem {
            expected: recorded.system_identifier.clone(),
            actual: identity.system_identifier.clone(),
        });
    }
    if identity.timeline == recorded.timeline {
        // Asked again: another replicator may have gone on since.
        let end = match identity.flush_lsn {
            end if end < recorded.commit_end => replication.identify_system().await?.flush_lsn,
            end => end,
        };
        return if recorded.commit_end <= end {
            Ok(())
        } else {
            Err(Error::SourceWentBack { end, applied: recorded.commit_end })
        };
    }
    let history = replication.timeline_history(identity.timeline).await?;
    let left_at = history.iter().find(|(timeline, _)| *timeline == recorded.timeline).map(|(_, lsn)| *lsn);
    match left_at {
        Some(switch) if recorded.commit_end <= switch => Ok(()),
        switch => Err(Error::OtherTimeline {
            expected: recorded.timeline,
            actual: identity.timeline,
            switch: switch.unwrap_or(Lsn::ZERO),
            applied: recorded.commit_end,
        }),
    }
}

async fn record_timeline(client: &Client, claim: &Claim, timeline: u32) -> Result<(), Error> {
    client
        .execute(
            "UPDATE pgstream.apply_progress SET timeline = $3 WHERE slot_name = $1 AND epoch = $2 AND timeline <> $3",
            &[&claim.slot, &claim.epoch, &i64::from(timeline)],
        )
        .await
        .map_err(client.failed("writing pgstream.apply_progress"))?;
    Ok(())
}

async fn target_major(client: &Client) -> Result<u32, Error> {
    Ok(client.major_version().await?)
}

/// Apply sessions commit asynchronously: a position is acknowledged only once the target has flushed past it. Plans are
/// generic and by index: statements run for one key or ten thousand, and a table that was empty when its plan was made
/// must not be scanned for each key when it is full.
fn writer_session() -> Session {
    writing(Session::new("pgstream-aws apply"))
        .with("plan_cache_mode", "force_generic_plan")
        .with("enable_seqscan", "off")
}

/// A session under the replica role that copies a table beside the stream.
///
/// # Errors
/// When the server cannot be reached or refuses.
pub async fn open_copier(target: &Server, slot: &str) -> Result<Client, Error> {
    let client = connect(target, &writing(Session::new("pgstream-aws copy again"))).await?;
    progress::lock_copies(&client, slot).await?;
    enter_replica_role(&client, Some(true)).await?;
    Ok(client)
}

fn writing(session: Session) -> Session {
    session
        .with("synchronous_commit", "off")
        // A session whose client vanished holds the lock of the one writer: the server is to notice within half a minute.
        .with("tcp_keepalives_idle", "10")
        .with("tcp_keepalives_interval", "5")
        .with("tcp_keepalives_count", "3")
        .with("tcp_user_timeout", "25000")
        .with("default_transaction_isolation", "read committed")
        .with("default_transaction_read_only", "off")
}

/// Under the replica role ordinary triggers and foreign-key checks do not fire, as for native replication.
async fn enter_replica_role(client: &Client, disable: Option<bool>) -> Result<bool, Error> {
    if disable == Some(false) {
        return Ok(false);
    }
    match client.batch_execute("SET session_replication_role = replica").await {
        Ok(()) => Ok(true),
        Err(error)
            if disable.is_none() && error.code() == Some(&tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE) =>
        {
            tracing::info!(
                "the target role may not set session_replication_role: triggers and foreign keys stay active"
            );
            Ok(false)
        }
        Err(error) => Err(client.failed("disabling triggers (target.postgres.disable_triggers)")(error).into()),
    }
}

/// Whether a published column holds object numbers of this very server (`regclass` and its like, however deep inside
/// arrays, composites, ranges or domains). Their binary form is that number; only their text travels. So it is with
/// `tsquery`: the binary form of an empty one is sent by every server and refused by every server.
/// And a type without a binary form ends the walsender with an error.
pub async fn has_local_references(source: &Client, publication: &str) -> Result<bool, Error> {
    let row = source
        .query_one(
            "WITH RECURSIVE used(oid) AS (
                 SELECT DISTINCT a.atttypid
                   FROM pg_publication_tables p
                   JOIN pg_namespace n ON n.nspname = p.schemaname
                   JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename
                   JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                  WHERE p.pubname = $1
                 UNION
                 SELECT inner_type.oid
                   FROM used
                   JOIN pg_type t ON t.oid = used.oid
                  CROSS JOIN LATERAL (
                       SELECT t.typelem WHERE t.typelem <> 0
                       UNION ALL SELECT t.typbasetype WHERE t.typbasetype <> 0
                       UNION ALL SELECT a.atttypid FROM pg_attribute a
                                  WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
                       UNION ALL SELECT r.rngsubtype FROM pg_range r WHERE r.rngtypid = t.oid) AS inner_type(oid))
             SELECT EXISTS (
                 SELECT 1 FROM used JOIN pg_type t ON t.oid = used.oid
                  WHERE ((t.typname LIKE 'reg%' OR t.typname = 'tsquery')
                         AND t.typnamespace = 'pg_catalog'::regnamespace)
                     OR (t.typsend = 0 AND t.typtype <> 'p'))",
            &[&publication],
        )
        .await
        .map_err(source.failed("reading the published column types"))?;
    Ok(row.get(0))
}
