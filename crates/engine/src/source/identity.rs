//! Replica identities: what UPDATE and DELETE of a published table need, and what `destroy` puts back.
//!
//! The server refuses UPDATE and DELETE of a table that is published and has no usable identity. So such a table gets
//! REPLICA IDENTITY FULL before it is published, and its previous setting is recorded in the same transaction.

use pgstream_postgres::{Client, TableName, quote_ident};
use tokio_util::sync::CancellationToken;

use super::{
    Error,
    lock::{self, Patience},
    report::{Action, Object, Step},
    tables::{Identity, Table},
};

/// Gives tables REPLICA IDENTITY FULL, one transaction each, so that no lock is held longer than one change takes.
pub(crate) async fn set_full(
    client: &mut Client,
    server: &str,
    table: &Table,
    cancel: &CancellationToken,
) -> Result<Option<Step>, Error> {
    let names = [table.name.to_string()];
    let mut patience = Patience::new(server, "setting the replica identity", &names);
    loop {
        match try_set_full(client, table).await {
            Ok(false) => return Ok(None),
            Ok(true) => {
                let previous = describe(table.identity, table.identity_index.as_deref());
                let detail = format!("FULL, was {previous}");
                return Ok(Some(Step::new(Action::Changed, Object::ReplicaIdentity, &names[0]).detail(detail)));
            }
            Err(error) => patience.pause(client, error, cancel).await?,
        }
    }
}

/// `false` when there was nothing to do: the table is gone, or has got an identity since it was listed.
async fn try_set_full(client: &mut Client, table: &Table) -> Result<bool, tokio_postgres::Error> {
    let tx = client.transaction().await?;
    lock::limit_wait(&tx).await?;
    let same: bool = tx
        .query_one(
            "SELECT to_regclass($1::text) IS NOT DISTINCT FROM $2::oid::regclass",
            &[&table.name.to_string(), &table.oid],
        )
        .await?
        .get(0);
    if !same {
        return Ok(false);
    }
    tx.batch_execute(&format!("LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE", table.name)).await?;
    let recorded = tx
        .execute(
            "INSERT INTO pgstream.replica_identities AS r (table_oid, schema_name, table_name, previous, previous_index)
             SELECT c.oid, n.nspname, c.relname, c.relreplident,
                    (SELECT ic.relname FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid
                     WHERE i.indrelid = c.oid AND i.indisreplident)
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.oid = $1 AND c.relreplident <> 'f'
             ON CONFLICT (table_oid) DO UPDATE SET schema_name = excluded.schema_name, table_name = excluded.table_name,
                 previous = excluded.previous, previous_index = excluded.previous_index, changed_at = now()",
            &[&table.oid],
        )
        .await?;
    if recorded == 0 {
        return Ok(false);
    }
    tx.batch_execute(&format!("ALTER TABLE ONLY {} REPLICA IDENTITY FULL", table.name)).await?;
    tx.commit().await?;
    Ok(true)
}

/// For people.
pub(crate) fn describe(identity: Identity, index: Option<&str>) -> String {
    match (identity, index) {
        (Identity::Default, _) => "DEFAULT without a primary key".to_owned(),
        (Identity::Nothing, _) => "NOTHING".to_owned(),
        (Identity::Full, _) => "FULL".to_owned(),
        (Identity::Index, Some(index)) => format!("USING INDEX {}", quote_ident(index)),
        (Identity::Index, None) => "USING INDEX of a dropped index".to_owned(),
    }
}

/// A table whose identity we changed, and what to do about it.
#[derive(Debug, Clone)]
pub(crate) struct Changed {
    pub(crate) oid: u32,
    /// As it is called now; as it was called, when it is gone.
    pub(crate) name: TableName,
    pub(crate) owner: Option<String>,
    pub(crate) owned: bool,
    pub(crate) back: Back,
}

/// How a changed identity is undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Back {
    /// By this clause of ALTER TABLE.
    Restore(String),
    /// Not at all: the table is gone.
    Dropped,
    /// Not at all: it is not FULL any more, so somebody decided otherwise.
    ChangedSince,
}

/// What we changed and have not put back.
pub(crate) async fn changed(client: &Client) -> Result<Vec<Changed>, Error> {
    let failed = || client.failed("reading the recorded replica identities");
    let present: bool = client
        .query_one("SELECT to_regclass('pgstream.replica_identities') IS NOT NULL", &[])
        .await
        .map_err(failed())?
        .get(0);
    if !present {
        return Ok(Vec::new());
    }
    let rows = client
        .query(
            "SELECT r.table_oid, coalesce(n.nspname::text, r.schema_name), coalesce(c.relname::text, r.table_name),
                    pg_get_userbyid(c.relowner)::text, coalesce(pg_has_role(c.relowner, 'USAGE'), true),
                    r.previous, c.relreplident,
                    (SELECT ic.relname::text FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid
                     WHERE i.indrelid = c.oid AND ic.relname = r.previous_index)
             FROM pgstream.replica_identities r
             LEFT JOIN pg_class c ON c.oid = r.table_oid
             LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
             ORDER BY 2, 3",
            &[],
        )
        .await
        .map_err(failed())?;
    Ok(rows
        .iter()
        .map(|row| {
            let previous = Identity::from_catalog(row.get(5));
            let index: Option<&str> = row.get(7);
            let back = match row.get::<_, Option<i8>>(6).map(Identity::from_catalog) {
                None => Back::Dropped,
                Some(Identity::Full) => Back::Restore(clause(previous, index)),
                Some(_) => Back::ChangedSince,
            };
            Changed {
                oid: row.get(0),
                name: TableName::new(row.get::<_, String>(1), row.get::<_, String>(2)),
                owner: row.get(3),
                owned: row.get(4),
                back,
            }
        })
        .collect())
}

/// A table whose identity index was dropped has none; NOTHING is what that amounts to.
fn clause(previous: Identity, index: Option<&str>) -> String {
    match (previous, index) {
        (Identity::Default, _) => "DEFAULT".to_owned(),
        (Identity::Full, _) => "FULL".to_owned(),
        (Identity::Index, Some(index)) => format!("USING INDEX {}", quote_ident(index)),
        (Identity::Nothing, _) | (Identity::Index, None) => "NOTHING".to_owned(),
    }
}

/// Puts the identity of one table back and forgets it, in one transaction.
pub(crate) async fn restore(
    client: &mut Client,
    server: &str,
    changed: &Changed,
    cancel: &CancellationToken,
) -> Result<(), Error> {
    let names = [changed.name.to_string()];
    let mut patience = Patience::new(server, "restoring the replica identity", &names);
    loop {
        match try_restore(client, changed).await {
            Ok(()) => return Ok(()),
            Err(error) => patience.pause(client, error, cancel).await?,
        }
    }
}

async fn try_restore(client: &mut Client, changed: &Changed) -> Result<(), tokio_postgres::Error> {
    let tx = client.transaction().await?;
    lock::limit_wait(&tx).await?;
    if let Back::Restore(clause) = &changed.back {
        tx.batch_execute(&format!("ALTER TABLE ONLY {} REPLICA IDENTITY {clause}", changed.name)).await?;
    }
    tx.execute("DELETE FROM pgstream.replica_identities WHERE table_oid = $1", &[&changed.oid]).await?;
    tx.commit().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_back_is_what_was_there() {
        assert_eq!(clause(Identity::Default, None), "DEFAULT");
        assert_eq!(clause(Identity::Nothing, None), "NOTHING");
        assert_eq!(clause(Identity::Index, Some("a\"b")), "USING INDEX \"a\"\"b\"");
        assert_eq!(clause(Identity::Index, None), "NOTHING");
    }
}
