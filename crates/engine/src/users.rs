//! Database roles with exactly the privileges that a side needs.
//!
//! ```text
//!  wanted duties ─┐
//!  the catalogs  ─┴─> plan: Step { sql, why, present } ──> apply: what is not present, in one transaction
//! ```
//!
//! A plan reads only, and every step is a statement that an administrator can run by hand. Nothing is ever revoked.

use pgstream_postgres::{Client, Error, quote_ident, quote_literal};
use serde::Serialize;

/// A role that pgstream-aws logs in as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads and follows the source.
    Source,
    /// Fills the target and follows on it.
    Target,
    /// Watches the slot.
    Monitor,
}

impl Role {
    /// Its name on the server.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "pgstreamsource",
            Self::Target => "pgstreamtarget",
            Self::Monitor => "pgstreammonitor",
        }
    }
}

/// What a role is for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Duties {
    /// Copies schema and rows.
    pub copy: bool,
    /// Follows changes.
    pub follow: bool,
    /// Runs `init` and `destroy` itself, instead of an administrator.
    pub init: bool,
    /// Builds databases (`create_target_db`, `clean_target_db`).
    pub create_databases: bool,
    /// Creates the roles of the source.
    pub create_roles: bool,
}

/// One statement of a plan.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// To be run by an administrator, in the database.
    pub sql: String,
    /// What it is needed for.
    pub why: &'static str,
    /// It holds already.
    pub present: bool,
}

/// What a role lacks for its duties, and what it has.
///
/// # Errors
/// The server fails.
pub async fn plan(client: &Client, role: Role, duties: Duties) -> Result<Vec<Step>, Error> {
    let facts = Facts::read(client, role).await?;
    let mut plan = Plan { client, role: role.name(), exists: facts.role_exists, steps: Vec::new() };
    let (r, db) = (quote_ident(role.name()), quote_ident(&facts.database));
    plan.step("logs in", format!("CREATE ROLE {r} LOGIN"), "SELECT rolcanlogin FROM pg_roles WHERE rolname = $1")
        .await?;
    plan.step(
        "reaches the database",
        format!("GRANT CONNECT ON DATABASE {db} TO {r}"),
        "SELECT has_database_privilege($1, current_database(), 'CONNECT')",
    )
    .await?;
    match role {
        Role::Source => plan.source(&facts, duties).await?,
        Role::Target => plan.target(&facts, duties).await?,
        Role::Monitor => {}
    }
    Ok(plan.steps)
}

/// Carries out what is not present, and sets the password by its verifier, in one transaction.
///
/// # Errors
/// The server refuses; then nothing is changed.
pub async fn apply(client: &mut Client, role: Role, steps: &[Step], password: &str) -> Result<(), Error> {
    // The text of statements ends up in logs: the password itself never leaves this process.
    let verifier = postgres_protocol::password::scram_sha_256(password.as_bytes());
    let password = format!("ALTER ROLE {} PASSWORD {}", quote_ident(role.name()), quote_literal(&verifier));
    let failed = client.failed("giving a role its privileges");
    let work = async {
        let transaction = client.transaction().await?;
        for step in steps.iter().filter(|step| !step.present) {
            transaction.batch_execute(&step.sql).await?;
        }
        transaction.batch_execute(&password).await?;
        transaction.commit().await
    };
    work.await.map_err(failed)
}

/// What the statements depend on.
struct Facts {
    database: String,
    role_exists: bool,
    /// RDS and Aurora: REPLICATION is a membership there.
    rds: bool,
    reads_all: bool,
    /// Schemas of users, with their tables' owners.
    schemas: Vec<String>,
    owners: Vec<String>,
    prepared: bool,
}

impl Facts {
    async fn read(client: &Client, role: Role) -> Result<Self, Error> {
        let row = client
            .query_one(
                "SELECT current_database()::text, to_regrole($1) IS NOT NULL, to_regrole('rds_replication') IS NOT NULL,
                        to_regrole('pg_read_all_data') IS NOT NULL, to_regnamespace('pgstream') IS NOT NULL,
                        ARRAY(SELECT nspname::text FROM pg_namespace
                              WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'pgstream') ORDER BY 1),
                        ARRAY(SELECT DISTINCT r.rolname::text FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner
                              JOIN pg_namespace n ON n.oid = c.relnamespace
                              WHERE c.relkind IN ('r', 'p') AND nspname !~ '^pg_' AND NOT r.rolsuper AND r.rolname <> $1
                                AND nspname NOT IN ('information_schema', 'pgstream') ORDER BY 1)",
                &[&role.name()],
            )
            .await
            .map_err(client.failed("reading roles and schemas"))?;
        Ok(Self {
            database: row.get(0),
            role_exists: row.get(1),
            rds: row.get(2),
            reads_all: row.get(3),
            prepared: row.get(4),
            schemas: row.get(5),
            owners: row.get(6),
        })
    }
}

struct Plan<'a> {
    client: &'a Client,
    role: &'static str,
    exists: bool,
    steps: Vec<Step>,
}

impl Plan<'_> {
    /// Adds a statement; `probe` says whether it holds for role `$1`.
    async fn step(&mut self, why: &'static str, sql: String, probe: &str) -> Result<(), Error> {
        let present = if self.exists {
            let row = self.client.query_one(probe, &[&self.role]).await;
            row.map_err(self.client.failed("reading privileges"))?.get::<_, Option<bool>>(0).unwrap_or(false)
        } else {
            false
        };
        self.steps.push(Step { sql, why, present });
        Ok(())
    }

    async fn source(&mut self, facts: &Facts, duties: Duties) -> Result<(), Error> {
        let r = quote_ident(self.role);
        if duties.follow || duties.init {
            let (sql, probe) = if facts.rds {
                (format!("GRANT rds_replication TO {r}"), "SELECT pg_has_role($1, 'rds_replication', 'USAGE')")
            } else {
                (format!("ALTER ROLE {r} REPLICATION"), "SELECT rolreplication FROM pg_roles WHERE rolname = $1")
            };
            self.step("opens the replication slot", sql, probe).await?;
        }
        if facts.reads_all && duties.copy {
            let probe = "SELECT pg_has_role($1, 'pg_read_all_data', 'USAGE')";
            self.step("reads tables and sequences", format!("GRANT pg_read_all_data TO {r}"), probe).await?;
        } else {
            for schema in &facts.schemas {
                self.read_schema(schema, duties.copy).await?;
            }
        }
        if duties.init {
            self.create_on_database(facts, "creates schema pgstream and the publication").await?;
            self.membership(facts, "publishes the owners' tables").await?;
        } else if duties.follow && facts.prepared {
            self.hand_over().await?;
        }
        Ok(())
    }

    async fn target(&mut self, facts: &Facts, duties: Duties) -> Result<(), Error> {
        let r = quote_ident(self.role);
        for (wanted, attribute, column, why) in [
            (duties.create_databases, "CREATEDB", "rolcreatedb", "builds databases and swaps them"),
            (duties.create_roles, "CREATEROLE", "rolcreaterole", "creates the roles of the source"),
        ] {
            if wanted {
                let probe = format!("SELECT {column} FROM pg_roles WHERE rolname = $1");
                self.step(why, format!("ALTER ROLE {r} {attribute}"), &probe).await?;
            }
        }
        if !duties.copy {
            self.create_on_database(facts, "creates schema pgstream").await?;
            for schema in &facts.schemas {
                self.write_schema(schema).await?;
            }
            return Ok(());
        }
        self.membership(facts, "makes tables in the name of their owners").await?;
        let sql = format!("ALTER DATABASE {} OWNER TO {r}", quote_ident(&facts.database));
        let probe = "SELECT pg_get_userbyid(datdba) = $1 FROM pg_database WHERE datname = current_database()";
        self.step("creates schemas and extensions", sql, probe).await?;
        let probe = "SELECT has_schema_privilege($1, 'public', 'CREATE')";
        if facts.schemas.iter().any(|schema| schema == "public") {
            self.step("creates tables in public", format!("GRANT CREATE ON SCHEMA public TO {r}"), probe).await?;
        }
        Ok(())
    }

    async fn create_on_database(&mut self, facts: &Facts, why: &'static str) -> Result<(), Error> {
        let sql = format!("GRANT CREATE ON DATABASE {} TO {}", quote_ident(&facts.database), quote_ident(self.role));
        self.step(why, sql, "SELECT has_database_privilege($1, current_database(), 'CREATE')").await
    }

    async fn membership(&mut self, facts: &Facts, why: &'static str) -> Result<(), Error> {
        for owner in &facts.owners {
            let probe = format!("SELECT pg_has_role($1, {}, 'USAGE')", quote_literal(owner));
            self.step(why, format!("GRANT {} TO {}", quote_ident(owner), quote_ident(self.role)), &probe).await?;
        }
        Ok(())
    }

    async fn read_schema(&mut self, schema: &str, tables: bool) -> Result<(), Error> {
        self.usage(schema).await?;
        if tables {
            self.all_of(schema, "reads the tables", "SELECT", "TABLES", "'r', 'p', 'v', 'm', 'f'").await?;
        }
        self.all_of(schema, "carries sequences over", "SELECT", "SEQUENCES", "'S'").await
    }

    async fn write_schema(&mut self, schema: &str) -> Result<(), Error> {
        self.usage(schema).await?;
        let rights = "SELECT, INSERT, UPDATE, DELETE, TRUNCATE";
        self.all_of(schema, "applies changes", rights, "TABLES", "'r', 'p', 'v', 'm', 'f'").await?;
        self.all_of(schema, "carries sequences over", "SELECT, UPDATE", "SEQUENCES", "'S'").await
    }

    async fn usage(&mut self, schema: &str) -> Result<(), Error> {
        let probe = format!("SELECT has_schema_privilege($1, {}, 'USAGE')", quote_literal(schema));
        let sql = format!("GRANT USAGE ON SCHEMA {} TO {}", quote_ident(schema), quote_ident(self.role));
        self.step("sees what is in the schema", sql, &probe).await
    }

    /// A grant on all relations of a kind; `kinds` are their letters in `pg_class`.
    async fn all_of(
        &mut self,
        schema: &str,
        why: &'static str,
        rights: &str,
        what: &str,
        kinds: &str,
    ) -> Result<(), Error> {
        let function = if what == "SEQUENCES" { "has_sequence_privilege" } else { "has_table_privilege" };
        let each: Vec<_> = rights.split(", ").map(|right| format!("{function}($1, oid, '{right}')")).collect();
        // The condition on the kind must come first: the functions refuse other kinds.
        let probe = format!(
            "SELECT coalesce(bool_and(CASE WHEN relkind IN ({kinds}) THEN {} ELSE true END), true) FROM pg_class
             WHERE relnamespace = {}::regnamespace",
            each.join(" AND "),
            quote_literal(&quote_ident(schema))
        );
        let r = quote_ident(self.role);
        let sql = format!("GRANT {rights} ON ALL {what} IN SCHEMA {} TO {r}", quote_ident(schema));
        self.step(why, sql, &probe).await
    }

    /// The order matters: the owner of the schema may create in it, which the new owner of an object must.
    async fn hand_over(&mut self) -> Result<(), Error> {
        let r = quote_ident(self.role);
        let probe = "SELECT pg_get_userbyid(nspowner) = $1 FROM pg_namespace WHERE nspname = 'pgstream'";
        self.step("owns what init made", format!("ALTER SCHEMA pgstream OWNER TO {r}"), probe).await?;
        for (kind, name) in [("TABLE", "schema_log"), ("TABLE", "table_ids"), ("SEQUENCE", "xid_serial")] {
            let probe =
                format!("SELECT pg_get_userbyid(relowner) = $1 FROM pg_class WHERE oid = 'pgstream.{name}'::regclass");
            self.step("owns what init made", format!("ALTER {kind} pgstream.{name} OWNER TO {r}"), &probe).await?;
        }
        Ok(())
    }
}
