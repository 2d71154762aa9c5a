//! Which statements give a role what its duties need.

use pgstream_postgres::{Client, Error, quote_ident, quote_literal};

use super::{Duties, Owners, Role, Step, facts::Facts};

/// The plan for a role of any name.
pub(super) async fn make(client: &Client, role: Role, name: &str, duties: &Duties) -> Result<Vec<Step>, Error> {
    let facts = Facts::read(client, name).await?;
    let mut plan = Plan { client, facts: &facts, name, role: quote_ident(name), steps: Vec::new() };
    let login = "SELECT rolcanlogin FROM pg_roles WHERE rolname = $1";
    plan.step("logs in", format!("CREATE ROLE {} LOGIN", plan.role), Probe::OfRole(login)).await?;
    match role {
        Role::Target if duties.copy => {
            let probe = "SELECT pg_has_role($1, datdba, 'USAGE') FROM pg_database WHERE datname = current_database()";
            let (sql, why) = reach(role, duties, &facts.database, name);
            plan.giving_away().await?;
            plan.step(why, sql, Probe::OfRole(probe)).await?;
        }
        _ => {
            let (sql, why) = reach(role, duties, &facts.database, name);
            let probe = "SELECT has_database_privilege($1, current_database(), 'CONNECT')";
            plan.step(why, sql, Probe::OfPublic(probe)).await?;
        }
    }
    match role {
        Role::Source => plan.source(duties).await?,
        Role::Target => plan.target(duties).await?,
        Role::Monitor => {}
    }
    Ok(plan.steps)
}

/// The statement that lets a role into a database, and why it is this one.
pub(super) fn reach(role: Role, duties: &Duties, database: &str, name: &str) -> (String, &'static str) {
    let (database, name) = (quote_ident(database), quote_ident(name));
    match role {
        // It makes schemas and extensions there, and gives grants; an owner needs no other right on a database.
        Role::Target if duties.copy => {
            (format!("ALTER DATABASE {database} OWNER TO {name}"), "creates schemas and extensions")
        }
        _ => (format!("GRANT CONNECT ON DATABASE {database} TO {name}"), "reaches the database"),
    }
}

struct Plan<'a> {
    client: &'a Client,
    facts: &'a Facts,
    /// As it is.
    name: &'a str,
    /// Quoted.
    role: String,
    steps: Vec<Step>,
}

/// A query that says whether a step holds for role `$1`.
enum Probe<'a> {
    /// Only a role that exists can have it.
    OfRole(&'a str),
    /// `PUBLIC` may have it, and with it a role that is yet to be made.
    OfPublic(&'a str),
}

impl Plan<'_> {
    async fn step(&mut self, why: &'static str, sql: String, probe: Probe<'_>) -> Result<(), Error> {
        let asked = match probe {
            Probe::OfRole(query) | Probe::OfPublic(query) if self.facts.role_exists => Some((query, self.name)),
            Probe::OfPublic(query) => Some((query, "public")),
            Probe::OfRole(_) => None,
        };
        let present = match asked {
            Some((query, subject)) => {
                let row = self.client.query_opt(query, &[&subject]).await;
                let row = row.map_err(self.client.failed("reading privileges"))?;
                row.and_then(|row| row.get::<_, Option<bool>>(0)).unwrap_or(false)
            }
            None => false,
        };
        self.steps.push(Step { sql, why, present });
        Ok(())
    }

    async fn source(&mut self, duties: &Duties) -> Result<(), Error> {
        if duties.follow || duties.init {
            let r = &self.role;
            let (sql, probe) = if self.facts.rds {
                (format!("GRANT rds_replication TO {r}"), "SELECT pg_has_role($1, 'rds_replication', 'USAGE')")
            } else {
                (format!("ALTER ROLE {r} REPLICATION"), "SELECT rolreplication FROM pg_roles WHERE rolname = $1")
            };
            self.step("opens the replication slot", sql, Probe::OfRole(probe)).await?;
        }
        // Who is a member of the owners reads what is theirs.
        let schemas = if duties.init && !duties.copy { &self.facts.foreign_sequences } else { &self.facts.schemas };
        if self.facts.reads_all && !schemas.is_empty() {
            let probe = Probe::OfRole("SELECT pg_has_role($1, 'pg_read_all_data', 'USAGE')");
            let why = if duties.copy { "reads tables and sequences" } else { "carries sequences over" };
            self.step(why, format!("GRANT pg_read_all_data TO {}", self.role), probe).await?;
        } else {
            for schema in schemas {
                self.read_schema(schema, duties.copy).await?;
            }
        }
        if duties.init {
            self.on_database("CREATE", "creates schema pgstream and the publication").await?;
            for owner in &self.facts.table_owners {
                self.membership(owner, "publishes the owners' tables").await?;
            }
        } else if self.facts.prepared && duties.hand_over {
            self.hand_over().await?;
        } else if self.facts.prepared && duties.follow && !self.facts.reads_all {
            self.usage("pgstream", "finds where the slot began").await?;
            self.read_log().await?;
        }
        Ok(())
    }

    async fn target(&mut self, duties: &Duties) -> Result<(), Error> {
        for (wanted, attribute, column, why) in [
            (duties.create_databases, "CREATEDB", "rolcreatedb", "builds databases and swaps them"),
            (duties.create_roles, "CREATEROLE", "rolcreaterole", "creates the roles of the source"),
        ] {
            if wanted {
                let probe = format!("SELECT {column} FROM pg_roles WHERE rolname = $1");
                self.step(why, format!("ALTER ROLE {} {attribute}", self.role), Probe::OfRole(&probe)).await?;
            }
        }
        if !duties.copy {
            match self.facts.prepared {
                true => self.write_own_schema().await?,
                false => self.on_database("CREATE", "creates schema pgstream").await?,
            }
            for schema in &self.facts.schemas {
                self.write_schema(schema).await?;
            }
            return Ok(());
        }
        if duties.create_databases && self.facts.signals {
            let probe = Probe::OfRole("SELECT pg_has_role($1, 'pg_signal_backend', 'USAGE')");
            let sql = format!("GRANT pg_signal_backend TO {}", self.role);
            self.step("ends the sessions of a database that it replaces", sql, probe).await?;
        } else if !duties.create_databases && self.has("public") && !self.facts.public_follows_database {
            let sql = format!("GRANT USAGE, CREATE ON SCHEMA public TO {}", self.role);
            let probe =
                "SELECT has_schema_privilege($1, 'public', 'USAGE') AND has_schema_privilege($1, 'public', 'CREATE')";
            self.step("creates tables in public", sql, Probe::OfPublic(probe)).await?;
        }
        match &duties.owners {
            Some(owners) => self.owners_to_be(owners, duties).await,
            None => self.owners_to_be(&Owners::read(self.client).await?, duties).await,
        }
    }

    /// What is made by one role and given to another asks something of both.
    async fn owners_to_be(&mut self, owners: &Owners, duties: &Duties) -> Result<(), Error> {
        let name = self.name;
        // Nobody can give away the membership in itself.
        for owner in owners.names().filter(|owner| *owner != name && Some(*owner) != self.facts.admin.as_deref()) {
            let quoted = quote_ident(owner);
            let why = "makes tables in the name of their owners";
            if self.holds("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", owner).await? {
                self.membership(owner, why).await?;
            } else if duties.roles_come {
                // Who creates a role is its member.
                continue;
            } else {
                self.add("owns tables", format!("CREATE ROLE {quoted}"), false);
                self.add(why, format!("GRANT {quoted} TO {}", self.role), false);
            }
            for schema in owners.schemas_of_others(owner) {
                // Whoever owns the schema is about to copy the grants on it; a new database has those of a new database.
                let copied = duties.create_databases
                    || !duties.no_privileges && (schema != "public" || self.facts.public_follows_database);
                if !copied && self.has(schema) {
                    self.create_in_schema(schema, owner).await?;
                }
            }
        }
        Ok(())
    }

    /// The new owner of a table must be allowed to create it.
    async fn create_in_schema(&mut self, schema: &str, owner: &str) -> Result<(), Error> {
        let sql = format!("GRANT CREATE ON SCHEMA {} TO {}", quote_ident(schema), quote_ident(owner));
        let query = "SELECT EXISTS (SELECT FROM pg_namespace, (SELECT oid FROM pg_roles WHERE rolname = $1) r
                                     WHERE nspname = {} AND has_schema_privilege(r.oid, pg_namespace.oid, 'CREATE'))";
        let present = self.holds(&query.replace("{}", &quote_literal(schema)), owner).await?;
        self.add("owns tables in a schema of another", sql, present);
        Ok(())
    }

    fn has(&self, schema: &str) -> bool {
        self.facts.schemas.iter().any(|name| name == schema)
    }

    fn add(&mut self, why: &'static str, sql: String, present: bool) {
        self.steps.push(Step { sql, why, present });
    }

    async fn holds(&self, query: &str, subject: &str) -> Result<bool, Error> {
        let row = self.client.query_one(query, &[&subject]).await;
        Ok(row.map_err(self.client.failed("reading privileges"))?.get(0))
    }

    async fn on_database(&mut self, right: &str, why: &'static str) -> Result<(), Error> {
        let sql = format!("GRANT {right} ON DATABASE {} TO {}", quote_ident(&self.facts.database), self.role);
        let probe = format!("SELECT has_database_privilege($1, current_database(), '{right}')");
        self.step(why, sql, Probe::OfPublic(&probe)).await
    }

    async fn membership(&mut self, owner: &str, why: &'static str) -> Result<(), Error> {
        // From 16 on, a member may act as a role only where its grant says so.
        let and_set = if self.facts.major >= 16 { "AND pg_has_role($1, {}, 'SET')" } else { "" };
        let probe = format!("SELECT pg_has_role($1, {{}}, 'USAGE') {and_set}").replace("{}", &quote_literal(owner));
        self.step(why, format!("GRANT {} TO {}", quote_ident(owner), self.role), Probe::OfRole(&probe)).await
    }

    async fn read_schema(&mut self, schema: &str, tables: bool) -> Result<(), Error> {
        if tables {
            self.usage(schema, "sees what is in the schema").await?;
            self.all_of(schema, "reads the tables", "SELECT", "TABLES", "'r', 'p', 'v', 'm', 'f'").await?;
        }
        self.all_of(schema, "carries sequences over", "SELECT", "SEQUENCES", "'S'").await
    }

    async fn write_schema(&mut self, schema: &str) -> Result<(), Error> {
        self.usage(schema, "sees what is in the schema").await?;
        let rights = "SELECT, INSERT, UPDATE, DELETE, TRUNCATE";
        self.all_of(schema, "applies changes", rights, "TABLES", "'r', 'p', 'v', 'm', 'f'").await?;
        self.all_of(schema, "carries sequences over", "SELECT, UPDATE", "SEQUENCES", "'S'").await
    }

    async fn read_log(&mut self) -> Result<(), Error> {
        self.all_of("pgstream", "follows schema changes", "SELECT", "TABLES", "'r'").await
    }

    /// A copy by another role has made schema `pgstream`.
    async fn write_own_schema(&mut self) -> Result<(), Error> {
        let probe =
            "SELECT has_schema_privilege($1, 'pgstream', 'USAGE') AND has_schema_privilege($1, 'pgstream', 'CREATE')";
        let sql = format!("GRANT USAGE, CREATE ON SCHEMA pgstream TO {}", self.role);
        self.step("keeps its position", sql, Probe::OfPublic(probe)).await?;
        let rights = "SELECT, INSERT, UPDATE, DELETE";
        self.all_of("pgstream", "keeps its position", rights, "TABLES", "'r'").await
    }

    async fn usage(&mut self, schema: &str, why: &'static str) -> Result<(), Error> {
        let probe = format!("SELECT has_schema_privilege($1, {}, 'USAGE')", quote_literal(schema));
        let sql = format!("GRANT USAGE ON SCHEMA {} TO {}", quote_ident(schema), self.role);
        self.step(why, sql, Probe::OfPublic(&probe)).await
    }

    /// A grant on all relations of a kind; `kinds` are their letters in `pg_class`. A schema that has none needs none.
    async fn all_of(
        &mut self,
        schema: &str,
        why: &'static str,
        rights: &str,
        what: &str,
        kinds: &str,
    ) -> Result<(), Error> {
        let function = if what == "SEQUENCES" { "has_sequence_privilege" } else { "has_table_privilege" };
        let each: Vec<_> = rights.split(", ").map(|right| format!("{function}($1, c.oid, '{right}')")).collect();
        // The condition on the kind must come first: the functions refuse other kinds.
        let probe = format!(
            "SELECT coalesce(bool_and(CASE WHEN relkind IN ({kinds}) THEN {} ELSE true END), true) FROM pg_class c
             JOIN pg_namespace n ON n.oid = c.relnamespace WHERE nspname = {}",
            each.join(" AND "),
            quote_literal(schema)
        );
        let sql = format!("GRANT {rights} ON ALL {what} IN SCHEMA {} TO {}", quote_ident(schema), self.role);
        self.step(why, sql, Probe::OfPublic(&probe)).await
    }

    /// Who gives something to a role must be a member of it, or a superuser.
    async fn giving_away(&mut self) -> Result<(), Error> {
        if self.facts.admin.is_none() {
            return Ok(());
        }
        let kind = if self.facts.major >= 16 { "SET" } else { "MEMBER" };
        let probe = format!("SELECT pg_has_role(current_user, rolname, '{kind}') FROM pg_roles WHERE rolname = $1");
        let sql = format!("GRANT {} TO CURRENT_USER", self.role);
        self.step("lets the administrator give it something", sql, Probe::OfRole(&probe)).await
    }

    /// The order matters: the owner of the schema may create in it, which the new owner of an object must.
    async fn hand_over(&mut self) -> Result<(), Error> {
        self.giving_away().await?;
        if !self.facts.reads_all {
            self.read_log().await?;
        }
        let probe = "SELECT pg_get_userbyid(nspowner) = $1 FROM pg_namespace WHERE nspname = 'pgstream'";
        let sql = format!("ALTER SCHEMA pgstream OWNER TO {}", self.role);
        self.step("owns what init made", sql, Probe::OfRole(probe)).await?;
        for (kind, name) in [("TABLE", "schema_log"), ("TABLE", "table_ids"), ("SEQUENCE", "xid_serial")] {
            let probe = format!(
                "SELECT pg_get_userbyid(relowner) = $1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE nspname = 'pgstream' AND relname = '{name}'"
            );
            let sql = format!("ALTER {kind} pgstream.{name} OWNER TO {}", self.role);
            self.step("owns what init made", sql, Probe::OfRole(&probe)).await?;
        }
        Ok(())
    }
}
