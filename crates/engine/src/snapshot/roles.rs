//! Roles, memberships and role settings, in one transaction with their record.
//!
//! Roles belong to the server, not to the database: those that the target has already are left as they are.

use pgstream_config::pipeline::{RolesMode, SchemaCopy};
use pgstream_postgres::{Client, quote_ident, quote_literal};
use tokio_postgres::error::SqlState;

use super::{
    Error,
    ledger::{self, Ledger, Origin},
};

/// Made and kept by AWS; never copied. (`pg_*` roles belong to PostgreSQL.)
const MANAGED: &[&str] = &[
    "postgres",
    "rdsadmin",
    "rdsrepladmin",
    "rdstopmgr",
    "rdswriteforwarduser",
    "rds_ad",
    "rds_extension",
    "rds_iam",
    "rds_password",
    "rds_replication",
    "rds_reserved",
    "rds_superuser",
];

/// Settings whose value is a list of quoted names (`GUC_LIST_QUOTE`).
const QUOTED_LISTS: &[&str] = &[
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

const STEP: &str = "roles";

/// A statement, and what it is about if it fails.
#[derive(Debug, PartialEq, Eq)]
struct Statement {
    sql: String,
    what: String,
}

/// One role of the source.
#[derive(Debug, Clone)]
struct Role {
    name: String,
    login: bool,
    inherit: bool,
    connection_limit: i32,
    valid_until: Option<String>,
    password: Option<String>,
    /// `SUPERUSER`, `CREATEDB`, …: what not everybody may give.
    attributes: Vec<&'static str>,
}

/// Copies the roles of the source that the target lacks. Returns what could not be done but may be lived without.
pub(crate) async fn copy(
    source: &Client,
    target: &Client,
    settings: &SchemaCopy,
    origin: &Origin,
    ledger: &Ledger,
) -> Result<Vec<String>, Error> {
    if settings.roles == RolesMode::Disabled || ledger.has_step(STEP) {
        return Ok(Vec::new());
    }
    let roles = read(source, settings.roles).await?;
    let there = names(target).await?;
    let missing: Vec<&Role> = roles.iter().filter(|role| !there.contains(&role.name)).collect();
    let mut known = there;
    known.extend(missing.iter().map(|role| role.name.clone()));
    let memberships = memberships(source, target, &known).await?;
    let role_settings = role_settings(source, &missing).await?;

    let mut notices = Vec::new();
    target.batch_execute("BEGIN").await.map_err(target.failed("starting to copy roles"))?;
    let outcome = Box::pin(apply(target, settings, &missing, memberships, role_settings, &mut notices)).await;
    if let Err(error) = outcome {
        target.batch_execute("ROLLBACK").await.ok();
        return Err(error);
    }
    ledger::record_steps(&**target, origin, &[STEP]).await.map_err(target.failed("recording the roles"))?;
    target.batch_execute("COMMIT").await.map_err(target.failed("committing the roles"))?;
    tracing::info!(created = missing.len(), "roles copied");
    Ok(notices)
}

async fn apply(
    target: &Client,
    settings: &SchemaCopy,
    missing: &[&Role],
    memberships: Vec<Statement>,
    role_settings: Vec<Statement>,
    notices: &mut Vec<String>,
) -> Result<(), Error> {
    // Who creates a role is not its member, and nothing could be given to the new owners. From 16 on a setting changes that.
    let joins = target.major_version().await? < 16;
    if !joins {
        target
            .batch_execute("SET LOCAL createrole_self_grant = 'set, inherit'")
            .await
            .map_err(target.failed("preparing to create roles"))?;
    }
    // Not being allowed to create roles stops the copy only when something needs them.
    let needed = !(settings.no_owner && settings.no_privileges);
    for role in missing {
        let created = attempt(target, &create_sql(role)).await;
        if let Err(error) = created {
            let message = message(&error);
            if needed || error.code() != Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
                return Err(Error::Role { role: quote_ident(&role.name), message });
            }
            notices.push(format!("role {} was not created: {message}", quote_ident(&role.name)));
            continue;
        }
        if joins {
            let sql = format!("GRANT {} TO CURRENT_USER", quote_ident(&role.name));
            if let Err(error) = attempt(target, &sql).await {
                notices.push(format!("nothing can be given to role {}: {}", quote_ident(&role.name), message(&error)));
            }
        }
        for attribute in &role.attributes {
            let sql = format!("ALTER ROLE {} {attribute}", quote_ident(&role.name));
            if let Err(error) = attempt(target, &sql).await {
                notices.push(format!("role {} is without {attribute}: {}", quote_ident(&role.name), message(&error)));
            }
        }
    }
    for statement in memberships.into_iter().chain(role_settings) {
        if let Err(error) = attempt(target, &statement.sql).await {
            notices.push(format!("{}: {}", statement.what, message(&error)));
        }
    }
    Ok(())
}

/// Runs one statement under a savepoint.
async fn attempt(target: &Client, sql: &str) -> Result<(), tokio_postgres::Error> {
    target.batch_execute("SAVEPOINT role").await?;
    let outcome = target.batch_execute(sql).await;
    let after = if outcome.is_ok() { "RELEASE role" } else { "ROLLBACK TO role; RELEASE role" };
    target.batch_execute(after).await?;
    outcome
}

fn message(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |db| db.message().to_owned())
}

fn create_sql(role: &Role) -> String {
    let mut sql = format!(
        "CREATE ROLE {} {} {} CONNECTION LIMIT {}",
        quote_ident(&role.name),
        if role.login { "LOGIN" } else { "NOLOGIN" },
        if role.inherit { "INHERIT" } else { "NOINHERIT" },
        role.connection_limit
    );
    if let Some(until) = &role.valid_until {
        sql.push_str(&format!(" VALID UNTIL {}", quote_literal(until)));
    }
    if let Some(password) = &role.password {
        sql.push_str(&format!(" PASSWORD {}", quote_literal(password)));
    }
    sql
}

/// Managed roles that own things on the source but that this session cannot give things to: what they own belongs to
/// whoever restores it.
pub(crate) async fn out_of_reach(target: &Client) -> Result<Vec<String>, Error> {
    // From 16 on, membership alone does not let a role give things away.
    let kind = if target.major_version().await? >= 16 { "SET" } else { "MEMBER" };
    let sql = format!(
        "SELECT w.name FROM unnest($1::text[]) AS w (name)
         LEFT JOIN pg_roles r ON r.rolname = w.name
         WHERE r.oid IS NULL OR NOT pg_has_role(current_user, r.oid, '{kind}')"
    );
    let mut owners: Vec<&str> = MANAGED.to_vec();
    owners.push("pg_database_owner");
    let rows = target.query(&sql, &[&owners]).await.map_err(target.failed("reading who may own what"))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Whether a role is made and kept by PostgreSQL or AWS.
pub(crate) fn is_managed(name: &str) -> bool {
    name.starts_with("pg_") || MANAGED.contains(&name)
}

async fn read(source: &Client, mode: RolesMode) -> Result<Vec<Role>, Error> {
    let (catalog, password) =
        if mode == RolesMode::Enabled { ("pg_authid", "rolpassword") } else { ("pg_roles", "NULL::text") };
    let sql = format!(
        "SELECT rolname::text, rolcanlogin, rolinherit, rolconnlimit, rolvaliduntil::text, {password},
                rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls
         FROM {catalog} WHERE oid >= 16384 ORDER BY rolname"
    );
    let rows = source.query(&sql, &[]).await.map_err(|error| {
        if mode == RolesMode::Enabled && error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
            return Error::RolePasswords { message: message(&error) };
        }
        source.failed("reading roles")(error).into()
    })?;
    let attribute = ["SUPERUSER", "CREATEDB", "CREATEROLE", "REPLICATION", "BYPASSRLS"];
    Ok(rows
        .iter()
        .map(|row| Role {
            name: row.get(0),
            login: row.get(1),
            inherit: row.get(2),
            connection_limit: row.get(3),
            valid_until: row.get(4),
            password: row.get(5),
            attributes: (6..).zip(attribute).filter(|(at, _)| row.get::<_, bool>(*at)).map(|(_, name)| name).collect(),
        })
        .filter(|role| !is_managed(&role.name))
        .collect())
}

async fn names(target: &Client) -> Result<Vec<String>, Error> {
    let rows = target
        .query("SELECT rolname::text FROM pg_roles", &[])
        .await
        .map_err(target.failed("reading the target's roles"))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn memberships(source: &Client, target: &Client, known: &[String]) -> Result<Vec<Statement>, Error> {
    let (from, to) = (source.major_version().await?, target.major_version().await?);
    let options = if from >= 16 { "bool_or(inherit_option), bool_or(set_option)" } else { "NULL::bool, NULL::bool" };
    let sql = format!(
        "SELECT r.rolname::text, m.rolname::text, bool_or(a.admin_option), {options}
         FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
         GROUP BY r.rolname, m.rolname ORDER BY r.rolname, m.rolname"
    );
    let rows = source.query(&sql, &[]).await.map_err(source.failed("reading role memberships"))?;
    let mut statements = Vec::new();
    for row in &rows {
        let (role, member): (String, String) = (row.get(0), row.get(1));
        // Being a member of one of PostgreSQL's own roles is copied; being one of AWS's roles' members is AWS's doing.
        let role_is_fine = role.starts_with("pg_") || !is_managed(&role);
        if !role_is_fine || is_managed(&member) || !known.contains(&role) || !known.contains(&member) {
            continue;
        }
        let (admin, inherit, set): (bool, Option<bool>, Option<bool>) = (row.get(2), row.get(3), row.get(4));
        let mut sql = format!("GRANT {} TO {}", quote_ident(&role), quote_ident(&member));
        match (inherit, set) {
            (Some(inherit), Some(set)) if to >= 16 => {
                sql.push_str(&format!(" WITH ADMIN {admin}, INHERIT {inherit}, SET {set}"));
            }
            _ if admin => sql.push_str(" WITH ADMIN OPTION"),
            _ => {}
        }
        let what = format!("{} is not a member of {}", quote_ident(&member), quote_ident(&role));
        statements.push(Statement { sql, what });
    }
    Ok(statements)
}

async fn role_settings(source: &Client, roles: &[&Role]) -> Result<Vec<Statement>, Error> {
    let names: Vec<&str> = roles.iter().map(|role| role.name.as_str()).collect();
    let rows = source
        .query(
            "SELECT r.rolname::text, c.setting
             FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) AS c (setting)
             WHERE s.setdatabase = 0 AND r.rolname = ANY ($1) ORDER BY 1, 2",
            &[&names],
        )
        .await
        .map_err(source.failed("reading the settings of roles"))?;
    Ok(rows
        .iter()
        .filter_map(|row| {
            let name = quote_ident(row.get(0));
            let (setting, value) = row.get::<_, &str>(1).split_once('=')?;
            let what = format!("setting {setting} of role {name} was not copied");
            Some(Statement { sql: format!("ALTER ROLE {name} SET {}", assignment(setting, value)), what })
        })
        .collect())
}

/// `name TO value` as it has to be written for this setting.
pub(crate) fn assignment(setting: &str, value: &str) -> String {
    // The name may be a custom one with a dot; both halves are identifiers.
    let name = setting.split('.').map(quote_ident).collect::<Vec<_>>().join(".");
    if !QUOTED_LISTS.contains(&setting) {
        return format!("{name} TO {}", quote_literal(value));
    }
    let items: Vec<String> = list_items(value).iter().map(|item| quote_literal(item)).collect();
    if items.is_empty() { format!("{name} TO ''") } else { format!("{name} TO {}", items.join(", ")) }
}

/// Items of a list of names, as the server stores it: separated by commas, in double quotes where needed.
fn list_items(value: &str) -> Vec<String> {
    let mut items = Vec::new();
    let mut item = String::new();
    let (mut quoted, mut any) = (false, false);
    let mut chars = value.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '"' if quoted && chars.peek() == Some(&'"') => {
                item.push('"');
                chars.next();
            }
            '"' => {
                quoted = !quoted;
                any = true;
            }
            ',' if !quoted => {
                items.push(std::mem::take(&mut item));
                any = true;
            }
            char if char.is_whitespace() && !quoted => {}
            char => {
                item.push(char);
                any = true;
            }
        }
    }
    if any {
        items.push(item);
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_written_as_the_server_reads_them() {
        assert_eq!(assignment("work_mem", "64MB"), r#""work_mem" TO '64MB'"#);
        assert_eq!(
            assignment("search_path", r#""$user", "a,""b", public"#),
            r#""search_path" TO '$user', 'a,"b', 'public'"#
        );
        assert_eq!(assignment("search_path", r#""""#), r#""search_path" TO ''"#);
        assert_eq!(assignment("app.tenant", "it's"), r#""app"."tenant" TO 'it''s'"#);
    }

    #[test]
    fn managed_roles_are_known() {
        for name in ["postgres", "rdsadmin", "rds_superuser", "pg_monitor", "rds_iam"] {
            assert!(is_managed(name), "{name}");
        }
        assert!(!is_managed("app") && !is_managed("rds_app"));
    }
}
