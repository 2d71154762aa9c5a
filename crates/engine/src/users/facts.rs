//! What the statements of a plan depend on.

use std::collections::BTreeSet;

use pgstream_postgres::{Client, Error};

use crate::snapshot::is_managed;

/// Whom the things of a database belong to that a copy makes, but for superusers and roles that are never copied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owners {
    /// Each schema, and an owner of something in it that is not the schema's.
    guests: Vec<(String, String)>,
    /// All of them.
    names: BTreeSet<String>,
}

/// Owners of relations, functions, types and schemas that are not of the server, of an extension or of this program.
const OWNERS: &str = "
    WITH owned (classid, objid, namespace, owner) AS (
        SELECT 'pg_class'::regclass, oid, relnamespace, relowner FROM pg_class
         WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
        UNION ALL SELECT 'pg_proc'::regclass, oid, pronamespace, proowner FROM pg_proc
        UNION ALL SELECT 'pg_type'::regclass, oid, typnamespace, typowner FROM pg_type WHERE typtype IN ('d', 'e', 'r')
        UNION ALL SELECT 'pg_namespace'::regclass, oid, oid, nspowner FROM pg_namespace WHERE nspname <> 'public')
    SELECT DISTINCT r.rolname::text, nspname::text, owner = nspowner
      FROM owned
      JOIN pg_namespace n ON n.oid = namespace
      JOIN pg_roles r ON r.oid = owner
     WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'pgstream') AND NOT r.rolsuper
       AND NOT EXISTS (SELECT FROM pg_depend d WHERE (d.classid, d.objid, d.deptype) = (owned.classid, owned.objid, 'e'))
     ORDER BY 1, 2";

impl Owners {
    /// Those of a database.
    ///
    /// # Errors
    /// The server fails.
    pub async fn read(client: &Client) -> Result<Self, Error> {
        let rows = client.query(OWNERS, &[]).await.map_err(client.failed("reading owners"))?;
        let mut owners = Self::default();
        for row in &rows {
            let name: String = row.get(0);
            if is_managed(&name) {
                continue;
            }
            if !row.get::<_, bool>(2) {
                owners.guests.push((row.get(1), name.clone()));
            }
            owners.names.insert(name);
        }
        Ok(owners)
    }

    /// All of them, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Schemas of others in which this one owns something.
    pub(super) fn schemas_of_others(&self, owner: &str) -> impl Iterator<Item = &str> {
        self.guests.iter().filter(move |(_, guest)| guest == owner).map(|(schema, _)| schema.as_str())
    }
}

/// Of one server, database and role.
pub(super) struct Facts {
    pub(super) database: String,
    pub(super) role_exists: bool,
    pub(super) major: u32,
    /// RDS and Aurora: REPLICATION is a membership there.
    pub(super) rds: bool,
    /// `pg_read_all_data` exists, and whoever is connected may grant it: the master user of RDS may not everywhere.
    pub(super) reads_all: bool,
    /// The same of `pg_signal_backend`.
    pub(super) signals: bool,
    /// Somebody else is connected than the role itself, and is no superuser: `CURRENT_USER` of the statements.
    pub(super) admin: Option<String>,
    /// Whether `init` has been run.
    pub(super) prepared: bool,
    /// Schemas of users.
    pub(super) schemas: Vec<String>,
    /// Of tables, also those that are never copied.
    pub(super) table_owners: Vec<String>,
    /// Schemas with sequences that belong to none of these.
    pub(super) foreign_sequences: Vec<String>,
    /// Whoever owns the database owns schema `public`.
    pub(super) public_follows_database: bool,
}

impl Facts {
    pub(super) async fn read(client: &Client, role: &str) -> Result<Self, Error> {
        let row = client
            .query_one(
                "SELECT current_database()::text, EXISTS (SELECT FROM pg_roles WHERE rolname = $1),
                        to_regrole('rds_replication') IS NOT NULL,
                        coalesce((SELECT a.grants_any OR pg_has_role(oid, 'MEMBER WITH ADMIN OPTION') FROM pg_roles
                                  WHERE rolname = 'pg_read_all_data'), false),
                        EXISTS (SELECT FROM pg_namespace WHERE nspname = 'pgstream'),
                        ARRAY(SELECT nspname::text FROM pg_namespace
                              WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'pgstream') ORDER BY 1),
                        ARRAY(SELECT DISTINCT r.rolname::text FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner
                              JOIN pg_namespace n ON n.oid = c.relnamespace
                              WHERE c.relkind IN ('r', 'p') AND nspname !~ '^pg_' AND NOT r.rolsuper AND r.rolname <> $1
                                AND nspname NOT IN ('information_schema', 'pgstream') ORDER BY 1),
                        coalesce((SELECT pg_get_userbyid(nspowner) = 'pg_database_owner' FROM pg_namespace
                                  WHERE nspname = 'public'), false),
                        ARRAY(SELECT DISTINCT nspname::text FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner
                              JOIN pg_namespace n ON n.oid = c.relnamespace
                              WHERE c.relkind = 'S' AND nspname !~ '^pg_'
                                AND nspname NOT IN ('information_schema', 'pgstream')
                                AND (r.rolsuper OR NOT EXISTS (SELECT FROM pg_class t WHERE t.relkind IN ('r', 'p')
                                                               AND t.relowner = c.relowner)) ORDER BY 1),
                        a.grants_any OR pg_has_role('pg_signal_backend', 'MEMBER WITH ADMIN OPTION'),
                        CASE WHEN current_user <> $1 AND NOT rolsuper THEN current_user::text END
                   FROM (SELECT rolsuper, rolsuper OR current_user = $1 OR
                                rolcreaterole AND current_setting('server_version_num')::int < 160000 AS grants_any
                           FROM pg_roles WHERE rolname = current_user) a",
                &[&role],
            )
            .await
            .map_err(client.failed("reading roles and schemas"))?;
        Ok(Self {
            database: row.get(0),
            role_exists: row.get(1),
            major: client.major_version().await?,
            rds: row.get(2),
            reads_all: row.get(3),
            prepared: row.get(4),
            schemas: row.get(5),
            table_owners: row.get(6),
            public_follows_database: row.get(7),
            foreign_sequences: row.get(8),
            signals: row.get(9),
            admin: row.get(10),
        })
    }
}
