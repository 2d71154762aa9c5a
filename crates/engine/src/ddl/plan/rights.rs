//! Owners and grants.

use pgstream_postgres::quote_ident;

use super::{
    super::definition::{DefaultPrivileges, Grant},
    super::record::Versions,
    Plan,
};

/// `ALTER … OWNER TO`, and the grants that differ. `kind` is the word for ALTER, `granted` that for GRANT.
pub(super) fn of(
    plan: &mut Plan,
    (kind, granted): (&str, &str),
    name: &str,
    owners: (Option<&String>, &String),
    grants: (&[Grant], &[Grant]),
) {
    owner(plan, kind, name, owners);
    let prefix = if granted.is_empty() { String::new() } else { format!("{granted} ") };
    differences(plan, "", &format!("{prefix}{name}"), grants);
}

pub(super) fn owner(plan: &mut Plan, kind: &str, name: &str, (was, is): (Option<&String>, &String)) {
    if was != Some(is) {
        plan.rights.push(format!("ALTER {kind} {name} OWNER TO {}", quote_ident(is)));
    }
}

/// Grants on some columns, e.g. `SELECT (a)`.
pub(super) fn of_column(plan: &mut Plan, table: &str, column: &str, grants: (&[Grant], &[Grant])) {
    differences(plan, &format!(" ({})", quote_ident(column)), table, grants);
}

fn differences(plan: &mut Plan, columns: &str, object: &str, (was, is): (&[Grant], &[Grant])) {
    for Grant { to, privilege, grantable } in was.iter().filter(|g| !is.contains(g)) {
        let still_granted = is.iter().any(|g| g.to == *to && g.privilege == *privilege);
        let option = if still_granted && *grantable { "GRANT OPTION FOR " } else { "" };
        if !still_granted || *grantable {
            plan.rights.push(format!("REVOKE {option}{privilege}{columns} ON {object} FROM {}", role(to.as_ref())));
        }
    }
    for Grant { to, privilege, grantable } in is.iter().filter(|g| !was.contains(g)) {
        let option = if *grantable { " WITH GRANT OPTION" } else { "" };
        plan.rights.push(format!("GRANT {privilege}{columns} ON {object} TO {}{option}", role(to.as_ref())));
    }
}

/// What PostgreSQL grants on a new object of this class.
pub(super) fn built_in(privileges: &[&str]) -> Vec<Grant> {
    let public = |privilege: &&str| Grant { to: None, privilege: (*privilege).to_owned(), grantable: false };
    privileges.iter().map(public).collect()
}

/// `ALTER DEFAULT PRIVILEGES`.
pub(super) fn defaults(plan: &mut Plan, versions: &Versions<DefaultPrivileges>) {
    let Some(any) = versions.any() else { return };
    let objects = match any.objects {
        'S' => "SEQUENCES",
        'f' => "FUNCTIONS",
        'T' => "TYPES",
        'n' => "SCHEMAS",
        'L' => "LARGE OBJECTS",
        _ => "TABLES",
    };
    let schema = any.schema.as_ref().map(|schema| format!(" IN SCHEMA {}", quote_ident(schema))).unwrap_or_default();
    let alter = format!("ALTER DEFAULT PRIVILEGES FOR ROLE {}{schema} ", quote_ident(&any.role));
    let grants = |d: &Option<DefaultPrivileges>| d.as_ref().map_or_else(|| any.built_in.clone(), |d| d.grants.clone());
    let mut inner = Plan::default();
    differences(&mut inner, "", objects, (&grants(&versions.was), &grants(&versions.is)));
    plan.rights.extend(inner.rights.into_iter().map(|sql| format!("{alter}{sql}")));
}

fn role(name: Option<&String>) -> String {
    name.map_or_else(|| "PUBLIC".to_owned(), |name| quote_ident(name))
}
