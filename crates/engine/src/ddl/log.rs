//! What became of each recorded schema change: the source's log beside what the target has noted.

use pgstream_postgres::{Client, Error, Server, Session};
use serde::Serialize;

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The copy of the schema already had it.
    Copied,
    /// It is applied.
    Applied,
    /// It is not followed by this configuration.
    Ignored,
    /// It was skipped, or will be, as the operator asked.
    Skipped,
    /// It could not be described on the source, or was refused by the target: the stream stops at it.
    Failed,
    /// It is still to come.
    Pending,
}

/// One recorded change.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// Its number in `pgstream.schema_log`.
    pub id: i64,
    /// Command tag.
    pub command: String,
    /// What it touched, e.g. `table public.t`.
    pub objects: Vec<String>,
    /// When, by the source's clock.
    pub created_at: String,
    /// What became of it; `None` when there is no target to ask.
    pub state: Option<State>,
    /// Why it failed, or what was not carried over.
    pub notes: Vec<String>,
    /// The text of the command, without passwords.
    pub query: Option<String>,
}

/// What the target has noted of a change.
struct Noted {
    id: i64,
    state: String,
    notes: Vec<String>,
}

/// The last `limit` changes, oldest first.
///
/// # Errors
/// When a server fails or refuses.
pub async fn read(source: &Server, target: Option<&Server>, slot: &str, limit: i64) -> Result<Vec<Entry>, Error> {
    let client = source.connect(&Session::new("pgstream-aws ddl log")).await?;
    let (copied, noted) = match target {
        Some(target) => {
            let client = target.connect(&Session::new("pgstream-aws ddl log")).await?;
            noted(&client, slot).await?
        }
        None => (None, Vec::new()),
    };
    let rows = client
        .query(
            "SELECT id, command, failure, query, created_at::text,
                    coalesce(pg_visible_in_snapshot(transaction_id::text::xid8, $2::text::pg_snapshot), false),
                    ARRAY(SELECT concat_ws(' ', replace(o->>'class', '_', ' '),
                                 coalesce(concat_ws('.', coalesce(o#>>'{is,schema}', o#>>'{was,schema}'),
                                                    coalesce(o#>>'{is,name}', o#>>'{was,name}')), o->>'identity'))
                            FROM jsonb_array_elements(objects) AS o)
               FROM (SELECT * FROM pgstream.schema_log ORDER BY id DESC LIMIT $1) AS l ORDER BY id",
            &[&limit, &copied],
        )
        .await
        .map_err(client.failed("reading pgstream.schema_log"))?;
    Ok(rows
        .iter()
        .map(|row| {
            let (id, failure, copied): (i64, Option<String>, bool) = (row.get(0), row.get(2), row.get(5));
            let found = noted.iter().find(|noted| noted.id == id);
            let state = match (found.map(|noted| noted.state.as_str()), &failure) {
                _ if copied => State::Copied,
                (Some("applied"), _) => State::Applied,
                (Some("ignored"), _) => State::Ignored,
                (Some("skipped"), _) => State::Skipped,
                (Some(_), _) | (None, Some(_)) => State::Failed,
                (None, None) => State::Pending,
            };
            let notes = found.map(|noted| noted.notes.clone()).filter(|notes| !notes.is_empty());
            Entry {
                id,
                command: row.get(1),
                objects: row.get(6),
                created_at: row.get(4),
                state: target.map(|_| state),
                notes: notes.unwrap_or_else(|| failure.into_iter().collect()),
                query: row.get(3),
            }
        })
        .collect())
}

async fn noted(client: &Client, slot: &str) -> Result<(Option<String>, Vec<Noted>), Error> {
    let failed = || client.failed("reading pgstream.ddl_applied");
    let there: bool =
        client.query_one("SELECT to_regclass('pgstream.ddl_applied') IS NOT NULL", &[]).await.map_err(failed())?.get(0);
    if !there {
        return Ok((None, Vec::new()));
    }
    let copied = client
        .query_opt("SELECT snapshot FROM pgstream.schema_snapshot WHERE source = $1", &[&slot])
        .await
        .map_err(failed())?
        .map(|row| row.get(0));
    let rows = client
        .query("SELECT id, state, notes FROM pgstream.ddl_applied WHERE slot_name = $1", &[&slot])
        .await
        .map_err(failed())?;
    Ok((copied, rows.iter().map(|row| Noted { id: row.get(0), state: row.get(1), notes: row.get(2) }).collect()))
}

/// Lets the stream go past a change that is still to come. Returns what it is; `None` when there is no such change, or
/// it is already dealt with.
///
/// # Errors
/// When a server fails or refuses.
pub async fn skip(source: &Server, target: &Server, slot: &str, id: i64) -> Result<Option<Entry>, Error> {
    let entries = read(source, Some(target), slot, i64::MAX).await?;
    let open = |entry: &Entry| matches!(entry.state, Some(State::Pending | State::Failed));
    let Some(entry) = entries.into_iter().find(|entry| entry.id == id && open(entry)) else { return Ok(None) };
    let client = target.connect(&Session::new("pgstream-aws ddl skip")).await?;
    client
        .execute(
            "INSERT INTO pgstream.ddl_applied (slot_name, id, command, objects, state) VALUES ($1, $2, $3, $4, 'skipped')
             ON CONFLICT (slot_name, id) DO UPDATE SET state = 'skipped', notes = '{}'",
            &[&slot, &id, &entry.command, &entry.objects],
        )
        .await
        .map_err(client.failed("writing pgstream.ddl_applied"))?;
    Ok(Some(entry))
}
