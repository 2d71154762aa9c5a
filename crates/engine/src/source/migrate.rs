//! The schema `pgstream` on the source, one version after the other, each in its own transaction.

use pgstream_postgres::{Client, Server};

use super::{
    Error, Problem, SCHEMA,
    report::{Action, Object, Step},
};

pub(crate) struct Migration {
    pub(crate) version: i32,
    pub(crate) name: &'static str,
    sql: &'static str,
}

const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "schema_log_and_records",
        sql: include_str!("migrations/0001_schema_log_and_records.sql"),
    },
    Migration { version: 2, name: "ddl_describe", sql: include_str!("migrations/0002_ddl_describe.sql") },
    Migration { version: 3, name: "ddl_objects", sql: include_str!("migrations/0003_ddl_objects.sql") },
    Migration { version: 4, name: "ddl_capture", sql: include_str!("migrations/0004_ddl_capture.sql") },
];

/// The version that this program needs.
pub(crate) const LATEST: i32 = MIGRATIONS[MIGRATIONS.len() - 1].version;

/// Tables and sequences that the migrations make; what `destroy` removes.
pub(crate) const RELATIONS: &[&str] = &[
    "schema_log",
    "table_ids",
    "ddl_objects",
    "ddl_followed",
    "replication_slots",
    "replica_identities",
    "migrations",
    "xid_serial",
];

/// What is there before the migrations run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Installed {
    /// Whether the schema exists.
    pub(crate) schema: bool,
    /// Highest version that was applied; 0 when there is none.
    pub(crate) version: i32,
    /// Relations of ours by name, where no version was ever applied: those of another program.
    pub(crate) foreign: Vec<String>,
    /// Owner of the schema.
    pub(crate) owner: Option<String>,
    /// Whether this role may create relations in the schema.
    pub(crate) may_create: bool,
}

impl Installed {
    pub(crate) fn is_current(&self) -> bool {
        self.version >= LATEST
    }
}

pub(crate) async fn installed(client: &Client, server: &Server) -> Result<Installed, Error> {
    let failed = || client.failed("reading schema pgstream");
    let row = client
        .query_opt(
            "SELECT pg_get_userbyid(nspowner)::text, has_schema_privilege(oid, 'CREATE'), has_schema_privilege(oid, 'USAGE'),
                    ARRAY(SELECT relname::text FROM pg_class WHERE relnamespace = n.oid AND relname = ANY ($2::text[])
                          ORDER BY relname),
                    quote_ident(current_user)
             FROM pg_namespace n WHERE nspname = $1",
            &[&SCHEMA, &RELATIONS],
        )
        .await
        .map_err(failed())?;
    let Some(row) = row else {
        return Ok(Installed { schema: false, version: 0, foreign: Vec::new(), owner: None, may_create: false });
    };
    let (owner, may_create, may_use) = (row.get::<_, String>(0), row.get(1), row.get::<_, bool>(2));
    if !may_use {
        let role: &str = row.get(4);
        let problem = Problem::new(
            "source::schema_privilege",
            format!("schema pgstream belongs to {owner}, and role {role} may not look into it"),
            format!("as {owner}: `GRANT USAGE ON SCHEMA pgstream TO {role};`, or run this as {owner}"),
        );
        return Err(Error::Refused { server: server.to_string(), problems: vec![problem] });
    }
    let relations: Vec<String> = row.get(3);
    let version = if relations.iter().any(|name| name == "migrations") {
        let sql = "SELECT coalesce(max(version), 0) FROM pgstream.migrations";
        client.query_one(sql, &[]).await.map_err(failed())?.get(0)
    } else {
        0
    };
    let foreign = if version == 0 { relations } else { Vec::new() };
    Ok(Installed { schema: true, version, foreign, owner: Some(owner), may_create })
}

/// Applies what is missing.
pub(crate) async fn migrate(client: &mut Client, installed: &Installed) -> Result<Vec<Step>, Error> {
    let mut steps = Vec::new();
    let action = if installed.schema { Action::Kept } else { Action::Created };
    steps.push(Step::new(action, Object::Schema, SCHEMA));
    for migration in MIGRATIONS {
        let name = format!("{:04} {}", migration.version, migration.name);
        if migration.version <= installed.version {
            steps.push(Step::new(Action::Kept, Object::Migration, name));
            continue;
        }
        apply(client, migration).await?;
        steps.push(Step::new(Action::Created, Object::Migration, name));
    }
    Ok(steps)
}

/// One transaction: schema and bookkeeping, where they are missing, come with the first migration.
async fn apply(client: &mut Client, migration: &Migration) -> Result<(), Error> {
    let failed = client.failed(&format!("applying migration {} of schema pgstream", migration.version));
    let run = async {
        let tx = client.transaction().await?;
        // Not IF NOT EXISTS: that asks for CREATE on the database even where the schema exists.
        tx.batch_execute(
            "DO $$ BEGIN
                 IF to_regnamespace('pgstream') IS NULL THEN CREATE SCHEMA pgstream; END IF;
                 IF to_regclass('pgstream.migrations') IS NULL THEN
                     CREATE TABLE pgstream.migrations (
                         version    integer     NOT NULL PRIMARY KEY,
                         name       text        NOT NULL,
                         applied_at timestamptz NOT NULL DEFAULT now());
                 END IF;
             END $$",
        )
        .await?;
        tx.batch_execute(migration.sql).await?;
        tx.execute(
            "INSERT INTO pgstream.migrations (version, name) VALUES ($1, $2)",
            &[&migration.version, &migration.name],
        )
        .await?;
        tx.commit().await
    };
    Ok(run.await.map_err(failed)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_count_up_from_one() {
        for (index, migration) in MIGRATIONS.iter().enumerate() {
            assert_eq!(usize::try_from(migration.version).unwrap(), index + 1);
        }
    }
}
