//! What the server itself says: the settings that it runs with, and whether replication really works.

use pgstream_postgres::{Client, Error, Server, Session};
use serde::Serialize;

use super::model::{Needs, ServerFacts};

const APPLICATION: &str = "pgstream-aws provision";

const FACTS: &str = "SELECT current_setting('wal_level'), \
     current_setting('rds.logical_replication', true), \
     pg_is_in_recovery(), \
     (SELECT count(*) FROM pg_replication_slots), \
     (SELECT coalesce(array_agg(slot_name::text ORDER BY slot_name), '{}') FROM pg_replication_slots WHERE slot_type = 'logical'), \
     current_setting('max_replication_slots')::int8, \
     (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'), \
     current_setting('max_wal_senders')::int8, \
     (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'), \
     current_setting('max_connections')::int8, \
     current_setting('wal_sender_timeout'), \
     current_setting('max_slot_wal_keep_size', true), \
     (SELECT coalesce(sum(pg_database_size(oid)), 0)::int8 FROM pg_database \
       WHERE datallowconn AND has_database_privilege(oid, 'CONNECT'))";

/// A slot of this name lives for a moment while it is tried; as a temporary one it ends with its session, whatever happens.
const TEST_SLOT: &str = "pgstream_provision_test";

/// Something that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// Whether it is as it should be.
    pub good: bool,
    /// What was found.
    pub detail: String,
    /// What to do, when it is not good.
    pub fix: Option<String>,
}

impl Check {
    fn good(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, good: true, detail: detail.into(), fix: None }
    }

    fn bad(name: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, good: false, detail: detail.into(), fix: Some(fix.into()) }
    }

    pub(super) fn of(name: &'static str, good: bool, detail: String, fix: &str) -> Self {
        match good {
            true => Self::good(name, detail),
            false => Self::bad(name, detail, fix),
        }
    }

    fn failed(name: &'static str, error: &Error, otherwise: &str) -> Self {
        Self::bad(name, error.to_string(), error.remedy().map_or_else(|| otherwise.to_owned(), Into::into))
    }
}

/// Asks the server for everything that matters.
pub(super) async fn facts(server: &Server) -> Result<ServerFacts, Error> {
    let client = server.connect(&Session::new(APPLICATION)).await?;
    let row = client.query_one(FACTS, &[]).await.map_err(client.failed("reading settings"))?;
    Ok(ServerFacts {
        wal_level: row.get(0),
        rds_logical_replication: row.get(1),
        in_recovery: row.get(2),
        slots_used: row.get(3),
        logical_slots: row.get(4),
        slots_max: row.get(5),
        senders_used: row.get(6),
        senders_max: row.get(7),
        connections_used: row.get(8),
        connections_max: row.get(9),
        wal_sender_timeout: row.get(10),
        max_slot_wal_keep_size: row.get(11),
        database_bytes: row.get(12),
    })
}

/// What a source asks of a target: the extensions and the bytes of its database that are not there yet. A database that is
/// still to be made, or a server in a private subnet, leaves that open.
pub async fn needs(source: &Server, target: &Server, sessions: i64) -> Needs {
    let sessions = Some(sessions);
    match Box::pin(compare(source, target)).await {
        Ok((missing_extensions, bytes)) => Needs { missing_extensions, bytes: Some(bytes), sessions, problem: None },
        Err(error) => Needs { sessions, problem: Some(error.to_string()), ..Needs::default() },
    }
}

async fn compare(source: &Server, target: &Server) -> Result<(Vec<String>, i64), Error> {
    let here = source.connect(&Session::new(APPLICATION)).await?;
    let there = target.connect(&Session::new(APPLICATION)).await?;
    let sql = "SELECT extname::text FROM pg_extension ORDER BY 1";
    let rows = here.query(sql, &[]).await.map_err(here.failed("listing extensions"))?;
    let wanted: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let sql = "SELECT name FROM unnest($1::text[]) AS name \
               WHERE name NOT IN (SELECT extname::text FROM pg_extension) ORDER BY 1";
    let rows = there.query(sql, &[&wanted]).await.map_err(there.failed("listing extensions"))?;
    let bytes = (database_bytes(&here).await? - database_bytes(&there).await?).max(0);
    Ok((rows.iter().map(|row| row.get(0)).collect(), bytes))
}

async fn database_bytes(client: &Client) -> Result<i64, Error> {
    let sql = "SELECT pg_database_size(current_database())";
    let row = client.query_one(sql, &[]).await.map_err(client.failed("measuring the database"))?;
    Ok(row.get(0))
}

/// Tries what replication needs: settings, a slot, a replication connection.
pub(super) async fn try_source(server: &Server) -> Result<Vec<Check>, Error> {
    let facts = facts(server).await?;
    let mut checks = vec![
        Check::of(
            "writer",
            !facts.in_recovery,
            role(&facts),
            "connect to the writer, not a replica or a reader endpoint",
        ),
        Check::of(
            "wal_level",
            facts.wal_level == "logical",
            facts.wal_level.clone(),
            "run `pgstream-aws provision apply`; after a change of rds.logical_replication the database must be rebooted",
        ),
        Check::of(
            "replication slots",
            facts.slots_used < facts.slots_max,
            format!("{} of {} in use", facts.slots_used, facts.slots_max),
            "drop slots that nobody reads, or raise max_replication_slots with `pgstream-aws provision apply`",
        ),
        Check::of(
            "WAL senders",
            facts.senders_used < facts.senders_max,
            format!("{} of {} in use", facts.senders_used, facts.senders_max),
            "stop readers that are not needed, or raise max_wal_senders with `pgstream-aws provision apply`",
        ),
    ];
    if !facts.in_recovery && facts.wal_level == "logical" {
        checks.push(try_slot(server).await?);
    }
    checks.push(try_connection(server).await);
    Ok(checks)
}

fn role(facts: &ServerFacts) -> String {
    match facts.in_recovery {
        true => "a standby".to_owned(),
        false => "yes".to_owned(),
    }
}

async fn try_slot(server: &Server) -> Result<Check, Error> {
    const NAME: &str = "test slot";
    let client: Client = server.connect(&Session::new(APPLICATION)).await?;
    let create = "SELECT FROM pg_create_logical_replication_slot($1, 'pgoutput', true)";
    let created = client.execute(create, &[&TEST_SLOT]).await.map_err(client.failed("creating a slot"));
    Ok(match created {
        Ok(_) => {
            let dropped = client.execute("SELECT pg_drop_replication_slot($1)", &[&TEST_SLOT]).await;
            match dropped.map_err(client.failed("dropping the test slot")) {
                Ok(_) => Check::good(NAME, "created and dropped"),
                Err(error) => Check::failed(NAME, &error, "run it again"),
            }
        }
        Err(error) => Check::failed(NAME, &error, "give the role the right to replicate: GRANT rds_replication TO it"),
    })
}

async fn try_connection(server: &Server) -> Check {
    const NAME: &str = "replication connection";
    let tried = async { server.replicate().await?.identify_system().await };
    match Box::pin(tried).await {
        Ok(identity) => {
            Check::good(NAME, format!("system {}, timeline {}", identity.system_identifier, identity.timeline))
        }
        Err(error) => Check::failed(NAME, &error, "give the role the right to replicate: GRANT rds_replication TO it"),
    }
}

/// Tries what a target needs: room for the sessions.
pub(super) async fn try_target(server: &Server, sessions: i64) -> Result<Vec<Check>, Error> {
    let facts = facts(server).await?;
    let free = facts.connections_max - facts.connections_used;
    Ok(vec![
        Check::of(
            "writer",
            !facts.in_recovery,
            role(&facts),
            "connect to the writer, not a replica or a reader endpoint",
        ),
        Check::of(
            "connections",
            free >= sessions,
            format!("{free} of {} free, {sessions} wanted", facts.connections_max),
            "lower target.postgres.max_connections, close idle sessions, or raise max_connections in the parameter group",
        ),
    ])
}
