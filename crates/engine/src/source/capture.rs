//! The event triggers that record schema changes, and the definitions that they compare with.
//!
//! ```text
//!  migrations ──> functions ──> event triggers ──> describe everything ──> slot ──> describe everything again
//! ```
//! The second time is for transactions that began before there were triggers: creating the slot waited for them.

use pgstream_config::pattern::TableFilter;
use pgstream_postgres::{Client, Server};
use tokio_postgres::error::SqlState;
use tokio_util::sync::CancellationToken;

use super::{
    Error,
    lock::{self, Patience},
    report::{Action, Object, Step},
};

/// Name and event of each trigger.
const TRIGGERS: [(&str, &str); 3] = [
    ("pgstream_ddl_command_end", "ddl_command_end"),
    ("pgstream_sql_drop", "sql_drop"),
    ("pgstream_table_rewrite", "table_rewrite"),
];

/// What came of installing.
pub(crate) enum Outcome {
    /// They record.
    Installed(Vec<Step>),
    /// The role may not create event triggers.
    NotAllowed,
}

/// Which of the triggers are there and enabled for ordinary sessions.
pub(crate) async fn installed(client: &Client) -> Result<Vec<String>, Error> {
    let rows = client
        .query(
            "SELECT evtname::text FROM pg_event_trigger e JOIN pg_proc p ON p.oid = e.evtfoid
              WHERE p.pronamespace = to_regnamespace('pgstream') AND p.proname = 'ddl_capture' AND e.evtenabled IN ('O', 'A') ORDER BY 1",
            &[],
        )
        .await
        .map_err(client.failed("reading the event triggers"))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Creates the triggers that are missing and describes what there is.
pub(crate) async fn ensure(client: &mut Client, server: &Server, cancel: &CancellationToken) -> Result<Outcome, Error> {
    let there = installed(client).await?;
    let missing: Vec<_> = TRIGGERS.iter().filter(|(name, _)| !there.iter().any(|found| found == name)).collect();
    let step = |action, name: &str| Step::new(action, Object::EventTrigger, name);
    if missing.is_empty() {
        return Ok(Outcome::Installed(TRIGGERS.iter().map(|(name, _)| step(Action::Kept, name)).collect()));
    }
    let create: String = missing
        .iter()
        // One of that name may be disabled, or somebody's who had it before.
        .map(|(name, event)| {
            format!(
                "DROP EVENT TRIGGER IF EXISTS {name};
                 CREATE EVENT TRIGGER {name} ON {event} EXECUTE FUNCTION pgstream.ddl_capture();"
            )
        })
        .collect();
    if !describe(client, server, &create, cancel).await? {
        return Ok(Outcome::NotAllowed);
    }
    let action = |name: &str| if there.iter().any(|found| found == name) { Action::Kept } else { Action::Created };
    Ok(Outcome::Installed(TRIGGERS.iter().map(|(name, _)| step(action(name), name)).collect()))
}

/// Describes everything anew, where changes are captured. Another role than the one that installed the capture may not;
/// its definitions are up to date without us.
pub(crate) async fn refresh(client: &mut Client, server: &Server, cancel: &CancellationToken) -> Result<(), Error> {
    if !installed(client).await?.is_empty() {
        describe(client, server, "", cancel).await?;
    }
    Ok(())
}

/// Tells the capture which new tables join a publication that is a list.
pub(crate) async fn follow(client: &mut Client, publication: &str, filter: &TableFilter) -> Result<(), Error> {
    let failed = client.failed("recording which tables are followed");
    let mut rows: Vec<(&str, Option<&str>, Option<&str>)> = vec![("all", None, None)];
    for (list, patterns) in
        [("include", &filter.include), ("exclude", &filter.exclude), ("schema_only", &filter.schema_only)]
    {
        rows.extend(patterns.iter().map(|pattern| (list, pattern.schema.as_deref(), pattern.table.as_deref())));
    }
    let lists: Vec<&str> = rows.iter().map(|row| row.0).collect();
    let schemas: Vec<Option<&str>> = rows.iter().map(|row| row.1).collect();
    let tables: Vec<Option<&str>> = rows.iter().map(|row| row.2).collect();
    let write = async {
        let tx = client.transaction().await?;
        tx.execute("DELETE FROM pgstream.ddl_followed WHERE publication = $1", &[&publication]).await?;
        tx.execute(
            "INSERT INTO pgstream.ddl_followed (publication, list, schema_name, table_name)
             SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[])",
            &[&publication, &lists, &schemas, &tables],
        )
        .await?;
        tx.commit().await
    };
    match write.await {
        // The one who installed it has said so.
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Ok(()),
        written => Ok(written.map_err(failed)?),
    }
}

/// Runs `first` and describes everything, in one transaction; false when the role may not.
async fn describe(
    client: &mut Client,
    server: &Server,
    first: &str,
    cancel: &CancellationToken,
) -> Result<bool, Error> {
    let names = ["pgstream.ddl_objects".to_owned()];
    let mut patience = Patience::new(server, "describing the schema", &names);
    loop {
        let attempt = async {
            let tx = client.transaction().await?;
            lock::limit_wait(&tx).await?;
            tx.batch_execute(first).await?;
            tx.query_one("SELECT pgstream.ddl_refresh()", &[]).await?;
            tx.commit().await
        };
        match attempt.await {
            Ok(()) => return Ok(true),
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => return Ok(false),
            Err(error) => patience.pause(client, error, cancel).await?,
        }
    }
}

/// What goes with the schema; to be called in the transaction that drops its tables.
pub(crate) async fn drop(tx: &tokio_postgres::Transaction<'_>) -> Result<(), tokio_postgres::Error> {
    tx.batch_execute(
        "DO $$
         DECLARE
             object text;
         BEGIN
             FOR object IN SELECT quote_ident(evtname) FROM pg_event_trigger e JOIN pg_proc p ON p.oid = e.evtfoid
                            WHERE p.pronamespace = to_regnamespace('pgstream') AND p.proname = 'ddl_capture' LOOP
                 EXECUTE 'DROP EVENT TRIGGER ' || object;
             END LOOP;
             FOR object IN SELECT oid::regprocedure FROM pg_proc
                            WHERE pronamespace = to_regnamespace('pgstream') AND proname LIKE 'ddl\\_%' LOOP
                 EXECUTE 'DROP FUNCTION ' || object;
             END LOOP;
         END $$",
    )
    .await
}
