//! The target database itself: made when missing, or built anew beside the present one and swapped.
//!
//! ```text
//!  app (serves) ─────────────────────────────────────┐ rename, one transaction
//!  app_pgstream_new (marked, filled, resumable) ──────┼──> app
//!                                                     └──> app_pgstream_old ──> dropped
//! ```
//! Whatever fails before the rename leaves `app` as it was.

use pgstream_postgres::{Client, Server, Session, quote_ident, quote_literal};
use tokio_postgres::error::SqlState;

use super::{Error, ledger::Origin, roles};

/// Names are cut by the server at this length.
const NAME_BYTES: usize = 63;

/// Sessions that come back at once are terminated again, this often.
const SWAP_ATTEMPTS: u32 = 20;

/// Sessions that may not be ended are waited for so often: the server waits five seconds each time.
const ATTEMPTS_BESIDE_OTHERS: u32 = 2;

/// What a database of ours says in its comment.
const MARK: &str = "pgstream-aws: ";

/// A server's databases, seen from one that is not going to be renamed.
pub(crate) struct Databases {
    client: Client,
    server: Server,
    name: String,
}

/// What a database is made with.
#[derive(Debug, Clone)]
struct Properties {
    encoding: String,
    collate: Option<String>,
    ctype: Option<String>,
    /// `i` ICU, `b` builtin, `c` libc.
    provider: String,
    locale: Option<String>,
    owner: String,
    connection_limit: i32,
    settings: Vec<String>,
}

impl Databases {
    /// Connects beside the database of `server`.
    pub(crate) async fn open(server: &Server, session: &Session) -> Result<Self, Error> {
        let name = server.dsn().dbname().to_owned();
        let first = if name == "postgres" { "template1" } else { "postgres" };
        let client = match server.with_dbname(first).connect(session).await {
            Ok(client) => client,
            Err(_) if first == "postgres" => server.with_dbname("template1").connect(session).await?,
            Err(error) => return Err(error.into()),
        };
        Ok(Self { client, server: server.clone(), name })
    }

    /// The database that is filled before it takes the place of the present one.
    pub(crate) fn staging(&self) -> Server {
        staging(&self.server)
    }

    async fn comment(&self, database: &str) -> Result<Option<Option<String>>, Error> {
        let row = self
            .client
            .query_opt("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = $1", &[&database])
            .await
            .map_err(self.client.failed("looking for the database"))?;
        Ok(row.map(|row| row.get(0)))
    }

    /// Whether the database itself is there.
    pub(crate) async fn exists(&self) -> Result<bool, Error> {
        Ok(self.comment(&self.name).await?.is_some())
    }

    /// Makes the database like the source's. Returns what could not be taken over.
    pub(crate) async fn create(&self, source: &Client) -> Result<Vec<String>, Error> {
        self.make(&self.name, &properties(source, None).await?).await
    }

    /// Makes the staging database, like the present one or like the source's; one of an earlier run is used again.
    pub(crate) async fn stage(&self, source: &Client, origin: &Origin) -> Result<Vec<String>, Error> {
        let staging = suffixed(&self.name, "_pgstream_new");
        let mark = format!("{MARK}being filled from {}", origin.source);
        match self.comment(&staging).await? {
            Some(Some(comment)) if comment == mark => return Ok(Vec::new()),
            Some(_) => {
                let (database, server) = (quote_ident(&staging), self.server.to_string());
                return Err(Error::DatabaseInTheWay { database, server });
            }
            None => {}
        }
        let properties = match self.exists().await? {
            true => properties(&self.client, Some(&self.name)).await?,
            false => properties(source, None).await?,
        };
        let notices = self.make(&staging, &properties).await?;
        self.run(
            &format!("COMMENT ON DATABASE {} IS {}", quote_ident(&staging), quote_literal(&mark)),
            "marking the new database",
        )
        .await?;
        Ok(notices)
    }

    /// Gives the staging database the name of the present one.
    pub(crate) async fn swap(&self) -> Result<(), Error> {
        let staging = suffixed(&self.name, "_pgstream_new");
        let old = suffixed(&self.name, "_pgstream_old");
        self.drop_old().await?;
        let had_one = self.exists().await?;
        let mut renames = Vec::new();
        if had_one {
            renames.push(format!(
                "COMMENT ON DATABASE {} IS {}",
                quote_ident(&self.name),
                quote_literal(&format!("{MARK}replaced, to be dropped"))
            ));
            renames.extend(self.grants(&staging).await?);
            renames.push(format!("ALTER DATABASE {} RENAME TO {}", quote_ident(&self.name), quote_ident(&old)));
        }
        renames.push(format!("COMMENT ON DATABASE {} IS NULL", quote_ident(&staging)));
        renames.push(format!("ALTER DATABASE {} RENAME TO {}", quote_ident(&staging), quote_ident(&self.name)));
        for attempt in 1.. {
            // Of a superuser's session it may be refused. Such a one, of whoever manages the server, may leave by itself.
            let told = self
                .client
                .query(
                    "SELECT pg_terminate_backend(pid) FROM (
                         SELECT a.pid FROM pg_stat_activity a LEFT JOIN pg_roles r ON r.oid = a.usesysid
                         WHERE a.datname = ANY ($1) AND a.pid <> pg_backend_pid()
                         ORDER BY coalesce(r.rolsuper, false)) s",
                    &[&vec![self.name.as_str(), staging.as_str()]],
                )
                .await;
            let attempts = if told.is_ok() { SWAP_ATTEMPTS } else { ATTEMPTS_BESIDE_OTHERS };
            let script = format!("BEGIN; {}; COMMIT", renames.join("; "));
            match self.client.batch_execute(&script).await {
                Ok(()) => break,
                Err(error) => {
                    self.client.batch_execute("ROLLBACK").await.ok();
                    if error.code() != Some(&SqlState::OBJECT_IN_USE) || attempt >= attempts {
                        told.map_err(self.client.failed("ending the sessions of the database that is replaced"))?;
                        return Err(self.client.failed("renaming the databases")(error).into());
                    }
                    tracing::info!(attempt, "sessions came back while the databases were renamed: trying again");
                }
            }
        }
        self.drop_old().await
    }

    /// Drops what an earlier swap has left, if it is ours.
    pub(crate) async fn drop_old(&self) -> Result<(), Error> {
        let old = suffixed(&self.name, "_pgstream_old");
        match self.comment(&old).await? {
            None => Ok(()),
            Some(Some(comment)) if comment.starts_with(MARK) => {
                self.run(&format!("DROP DATABASE {} WITH (FORCE)", quote_ident(&old)), "dropping the replaced database")
                    .await
            }
            Some(_) => {
                let (database, server) = (quote_ident(&old), self.server.to_string());
                Err(Error::DatabaseInTheWay { database, server })
            }
        }
    }

    /// Grants on the present database, for the one that replaces it.
    async fn grants(&self, staging: &str) -> Result<Vec<String>, Error> {
        let rows = self
            .client
            .query(
                "SELECT CASE a.grantee WHEN 0 THEN NULL ELSE a.grantee::regrole::text END, a.privilege_type, a.is_grantable
                 FROM pg_database d, aclexplode(d.datacl) a WHERE d.datname = $1",
                &[&self.name],
            )
            .await
            .map_err(self.client.failed("reading the grants on the database"))?;
        let database = quote_ident(staging);
        let mut statements = Vec::new();
        if !rows.is_empty() {
            statements.push(format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC"));
        }
        for row in &rows {
            let grantee = row.get::<_, Option<String>>(0).unwrap_or_else(|| "PUBLIC".to_owned());
            let option = if row.get(2) { " WITH GRANT OPTION" } else { "" };
            let privilege: &str = row.get(1);
            statements.push(format!("GRANT {privilege} ON DATABASE {database} TO {grantee}{option}"));
        }
        Ok(statements)
    }

    async fn run(&self, sql: &str, doing: &str) -> Result<(), Error> {
        self.client.batch_execute(sql).await.map_err(self.client.failed(doing))?;
        Ok(())
    }

    async fn make(&self, name: &str, properties: &Properties) -> Result<Vec<String>, Error> {
        let mut notices = Vec::new();
        let database = quote_ident(name);
        let major = self.client.major_version().await?;
        let create = |locale: &str| {
            format!(
                "CREATE DATABASE {database} TEMPLATE template0 ENCODING {}{locale}",
                quote_literal(&properties.encoding)
            )
        };
        if let Err(error) = self.client.batch_execute(&create(&properties.locale_sql(major))).await {
            let unknown_locale = [SqlState::WRONG_OBJECT_TYPE, SqlState::INVALID_PARAMETER_VALUE];
            if !error.code().is_some_and(|code| unknown_locale.contains(code)) {
                return Err(self.client.failed("creating the database")(error).into());
            }
            notices.push(format!(
                "the target does not have the locale of the source ({}): database {database} has the target's default",
                properties.collate.as_deref().or(properties.locale.as_deref()).unwrap_or("unknown")
            ));
            self.run(&create(""), "creating the database").await?;
        }
        let mut statements = vec![format!("ALTER DATABASE {database} OWNER TO {}", quote_ident(&properties.owner))];
        if properties.connection_limit >= 0 {
            statements.push(format!("ALTER DATABASE {database} CONNECTION LIMIT {}", properties.connection_limit));
        }
        for (setting, value) in properties.settings.iter().filter_map(|setting| setting.split_once('=')) {
            statements.push(format!("ALTER DATABASE {database} SET {}", roles::assignment(setting, value)));
        }
        for statement in statements {
            if let Err(error) = self.client.batch_execute(&statement).await {
                let message = error.as_db_error().map_or_else(|| error.to_string(), |db| db.message().to_owned());
                notices.push(format!("not taken over for database {database}: {message}"));
            }
        }
        Ok(notices)
    }
}

impl Properties {
    fn locale_sql(&self, major: u32) -> String {
        let mut sql = String::new();
        let mut add = |option: &str, value: &Option<String>| {
            if let Some(value) = value {
                sql.push_str(&format!(" {option} {}", quote_literal(value)));
            }
        };
        add("LC_COLLATE", &self.collate);
        add("LC_CTYPE", &self.ctype);
        match self.provider.as_str() {
            "i" if major >= 15 => {
                add("ICU_LOCALE", &self.locale);
                sql.push_str(" LOCALE_PROVIDER icu");
            }
            "b" if major >= 17 => {
                add("BUILTIN_LOCALE", &self.locale);
                sql.push_str(" LOCALE_PROVIDER builtin");
            }
            _ => {}
        }
        sql
    }
}

/// Properties of a database of the server, or of the one that is connected to.
async fn properties(client: &Client, name: Option<&str>) -> Result<Properties, Error> {
    let (provider, locale) = match client.major_version().await? {
        ..=14 => ("'c'", "NULL::text"),
        15 | 16 => ("d.datlocprovider::text", "d.daticulocale"),
        _ => ("d.datlocprovider::text", "d.datlocale"),
    };
    let sql = format!(
        "SELECT pg_encoding_to_char(d.encoding)::text, d.datcollate::text, d.datctype::text, {provider}, {locale},
                pg_get_userbyid(d.datdba)::text, d.datconnlimit,
                coalesce((SELECT s.setconfig FROM pg_db_role_setting s WHERE s.setdatabase = d.oid AND s.setrole = 0), '{{}}')
         FROM pg_database d WHERE d.datname = coalesce($1, current_database())"
    );
    let row = client.query_one(&sql, &[&name]).await.map_err(client.failed("reading the database's properties"))?;
    Ok(Properties {
        encoding: row.get(0),
        collate: row.get(1),
        ctype: row.get(2),
        provider: row.get(3),
        locale: row.get(4),
        owner: row.get(5),
        connection_limit: row.get(6),
        settings: row.get(7),
    })
}

/// Settings of the source's database, for a target database that was there before.
pub(crate) async fn copy_settings(source: &Client, target: &Client, database: &str) -> Result<Vec<String>, Error> {
    let mut notices = Vec::new();
    for (setting, value) in properties(source, None).await?.settings.iter().filter_map(|s| s.split_once('=')) {
        let sql = format!("ALTER DATABASE {} SET {}", quote_ident(database), roles::assignment(setting, value));
        if let Err(error) = target.batch_execute(&sql).await {
            let message = error.as_db_error().map_or_else(|| error.to_string(), |db| db.message().to_owned());
            notices.push(format!("database setting {setting} was not copied: {message}"));
        }
    }
    Ok(notices)
}

/// Whether the server has a database of this name.
pub(crate) async fn is_there(client: &Client, name: &str) -> Result<bool, Error> {
    let row = client
        .query_one("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", &[&name])
        .await
        .map_err(client.failed("looking for the database"))?;
    Ok(row.get(0))
}

/// The database that is filled before it takes the place of that one.
pub(crate) fn staging(server: &Server) -> Server {
    server.with_dbname(&suffixed(server.dsn().dbname(), "_pgstream_new"))
}

/// `name` with a suffix, within the server's limit and on a character boundary.
fn suffixed(name: &str, suffix: &str) -> String {
    let mut end = name.len().min(NAME_BYTES - suffix.len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", name.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_keep_their_suffix() {
        assert_eq!(suffixed("app", "_pgstream_new"), "app_pgstream_new");
        let long = "ä".repeat(31);
        let name = suffixed(&long, "_pgstream_new");
        assert!(name.len() <= NAME_BYTES && name.ends_with("_pgstream_new") && name.starts_with("ää"));
    }
}
