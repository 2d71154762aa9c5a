//! Enums, composite types, domains and ranges.

use pgstream_postgres::{TableName, quote_ident, quote_literal};

use super::{
    super::definition::{Column, Constraint, Label, Type},
    super::record::Versions,
    Plan, Uncovered, dropped, rights,
};

pub(super) fn of(plan: &mut Plan, versions: &Versions<Type>) -> Result<(), Uncovered> {
    let name = |t: &Type| TableName::new(&t.schema, &t.name);
    let any = versions.any();
    if any.is_some_and(|t| t.kind.is_none()) {
        let object = any.map(|t| format!("base type {}", name(t))).unwrap_or_default();
        return Err(Uncovered { object });
    }
    if dropped(plan, versions, |t| format!("DROP {} IF EXISTS {}", word(t), name(t))) {
        return Ok(());
    }
    let (was, Some(is)) = (versions.was.as_ref(), versions.is.as_ref()) else { return Ok(()) };
    let (kind, ident) = (word(is), name(is).to_string());
    if !matches!(is.kind, Some('e' | 'c' | 'd')) && is.create.as_ref().is_none_or(String::is_empty) {
        return Err(Uncovered { object: format!("type {ident}, of a kind that is not known") });
    }
    match was {
        None => plan.define.push(create(is, &ident)),
        Some(was) => {
            plan.rename(kind, &name(was), &name(is), "");
            labels(plan, &ident, &was.labels, &is.labels);
            attributes(plan, &ident, &was.columns, &is.columns);
            domain(plan, &ident, was, is);
        }
    }
    let constraints = (was.map_or(&[][..], |was| &was.constraints), &is.constraints[..]);
    domain_constraints(plan, &ident, constraints);
    let public = rights::built_in(&["USAGE"]);
    let grants = (was.map_or(&public[..], |was| &was.grants), &is.grants[..]);
    rights::of(plan, (kind, kind), &ident, (was.map(|was| &was.owner), &is.owner), grants);
    plan.comment(kind, &ident, was.and_then(|was| was.comment.as_ref()), is.comment.as_ref());
    for column in &is.columns {
        let before = was.and_then(|was| was.columns.iter().find(|c| c.num == column.num));
        let attribute = format!("{ident}.{}", quote_ident(&column.name));
        plan.comment("COLUMN", &attribute, before.and_then(|c| c.comment.as_ref()), column.comment.as_ref());
    }
    Ok(())
}

fn word(t: &Type) -> &'static str {
    if t.kind == Some('d') { "DOMAIN" } else { "TYPE" }
}

fn create(is: &Type, ident: &str) -> String {
    match is.kind {
        Some('e') => {
            let labels: Vec<String> = is.labels.iter().map(|label| quote_literal(&label.label)).collect();
            format!("CREATE TYPE {ident} AS ENUM ({})", labels.join(", "))
        }
        Some('c') => {
            let columns: Vec<String> = is.columns.iter().map(attribute).collect();
            format!("CREATE TYPE {ident} AS ({})", columns.join(", "))
        }
        Some('d') => {
            let collation = is.collation.as_ref().map(|c| format!(" COLLATE {c}")).unwrap_or_default();
            let default = is.default.as_ref().map(|d| format!(" DEFAULT {d}")).unwrap_or_default();
            let not_null = if is.not_null { " NOT NULL" } else { "" };
            format!("CREATE DOMAIN {ident} AS {}{collation}{default}{not_null}", is.base.as_deref().unwrap_or_default())
        }
        _ => is.create.clone().unwrap_or_default(),
    }
}

fn attribute(column: &Column) -> String {
    let collation = column.collation.as_ref().map(|c| format!(" COLLATE {c}")).unwrap_or_default();
    format!("{} {}{collation}", quote_ident(&column.name), column.type_sql)
}

/// Values of an enum are renamed and added, never dropped.
fn labels(plan: &mut Plan, ident: &str, was: &[Label], is: &[Label]) {
    for label in is {
        if let Some(before) = was.iter().find(|l| l.id == label.id && l.label != label.label) {
            let (from, to) = (quote_literal(&before.label), quote_literal(&label.label));
            plan.define.push(format!("ALTER TYPE {ident} RENAME VALUE {from} TO {to}"));
        }
    }
    for (i, label) in is.iter().enumerate().filter(|(_, label)| !was.iter().any(|l| l.id == label.id)) {
        let after = i.checked_sub(1).and_then(|i| is.get(i));
        // Those before it are there by now; the first one comes before the first that was there.
        let place = match after {
            Some(after) => format!(" AFTER {}", quote_literal(&after.label)),
            None => is
                .iter()
                .find(|l| was.iter().any(|old| old.id == l.id))
                .map(|first| format!(" BEFORE {}", quote_literal(&first.label)))
                .unwrap_or_default(),
        };
        plan.define.push(format!("ALTER TYPE {ident} ADD VALUE {}{place}", quote_literal(&label.label)));
    }
}

/// Attributes of a composite type; tables of that type follow.
fn attributes(plan: &mut Plan, ident: &str, was: &[Column], is: &[Column]) {
    for gone in was.iter().filter(|old| !is.iter().any(|c| c.num == old.num)) {
        plan.define.push(format!("ALTER TYPE {ident} DROP ATTRIBUTE {} CASCADE", quote_ident(&gone.name)));
    }
    for column in is {
        let name = quote_ident(&column.name);
        let Some(before) = was.iter().find(|c| c.num == column.num) else {
            plan.define.push(format!("ALTER TYPE {ident} ADD ATTRIBUTE {} CASCADE", attribute(column)));
            continue;
        };
        if before.name != column.name {
            let old = quote_ident(&before.name);
            plan.define.push(format!("ALTER TYPE {ident} RENAME ATTRIBUTE {old} TO {name} CASCADE"));
        }
        if (before.type_id, before.typmod, before.collation_id) != (column.type_id, column.typmod, column.collation_id)
        {
            let collation = column.collation.as_ref().map(|c| format!(" COLLATE {c}")).unwrap_or_default();
            let alter = format!("ALTER ATTRIBUTE {name} TYPE {}{collation} CASCADE", column.type_sql);
            plan.define.push(format!("ALTER TYPE {ident} {alter}"));
        }
    }
}

fn domain(plan: &mut Plan, ident: &str, was: &Type, is: &Type) {
    if was.default != is.default {
        let action = is.default.as_ref().map_or_else(|| "DROP DEFAULT".to_owned(), |d| format!("SET DEFAULT {d}"));
        plan.define.push(format!("ALTER DOMAIN {ident} {action}"));
    }
    if was.not_null != is.not_null {
        let action = if is.not_null { "SET" } else { "DROP" };
        plan.define.push(format!("ALTER DOMAIN {ident} {action} NOT NULL"));
    }
}

fn domain_constraints(plan: &mut Plan, ident: &str, (was, is): (&[Constraint], &[Constraint])) {
    for gone in was.iter().filter(|old| !is.iter().any(|c| c.id == old.id)) {
        plan.remove.push(format!("ALTER DOMAIN {ident} DROP CONSTRAINT {}", quote_ident(&gone.name)));
    }
    for constraint in is {
        let name = quote_ident(&constraint.name);
        let before = was.iter().find(|c| c.id == constraint.id);
        match before {
            None => plan.define.push(format!("ALTER DOMAIN {ident} ADD CONSTRAINT {name} {}", constraint.definition)),
            Some(before) => {
                if before.name != constraint.name {
                    let old = quote_ident(&before.name);
                    plan.define.push(format!("ALTER DOMAIN {ident} RENAME CONSTRAINT {old} TO {name}"));
                }
                if !before.validated && constraint.validated {
                    plan.define.push(format!("ALTER DOMAIN {ident} VALIDATE CONSTRAINT {name}"));
                }
            }
        }
        let comment = before.and_then(|c| c.comment.as_ref());
        plan.comment("CONSTRAINT", &format!("{name} ON DOMAIN {ident}"), comment, constraint.comment.as_ref());
    }
}
