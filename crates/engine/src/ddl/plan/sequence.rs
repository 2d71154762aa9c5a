//! Sequences, those of identity columns included. Their values are carried over beside the stream.

use pgstream_postgres::{TableName, quote_ident};

use super::{super::definition::Sequence, super::record::Versions, Plan, dropped, rights};

pub(super) fn sequence(plan: &mut Plan, versions: &Versions<Sequence>) {
    let name = |s: &Sequence| TableName::new(&s.schema, &s.name);
    if dropped(plan, versions, |s| format!("DROP SEQUENCE IF EXISTS {}", name(s))) {
        return;
    }
    let (was, Some(is)) = (versions.was.as_ref(), versions.is.as_ref()) else { return };
    let table = name(is);
    match was {
        None => {
            let unlogged = if is.persistence == 'u' { "UNLOGGED " } else { "" };
            plan.define.push(format!("CREATE {unlogged}SEQUENCE {table} AS {}{}", is.type_sql, parameters(None, is)));
        }
        Some(was) => {
            plan.rename("SEQUENCE", &name(was), &table, "");
            alter(plan, was, is);
        }
    }
    if was.and_then(|was| was.owned_by.as_ref()).map(|o| (o.id, o.num)) != is.owned_by.as_ref().map(|o| (o.id, o.num)) {
        let owner = is
            .owned_by
            .as_ref()
            .map_or_else(|| "NONE".to_owned(), |owner| format!("{}.{}", owner.table, quote_ident(&owner.column)));
        plan.attach.push(format!("ALTER SEQUENCE {table} OWNED BY {owner}"));
    }
    // The sequence of a column follows the owner of its table.
    if is.owned_by.is_none() {
        rights::owner(plan, "SEQUENCE", &table.to_string(), (was.map(|was| &was.owner), &is.owner));
    }
    let grants = (was.map_or(&[][..], |was| &was.grants), &is.grants[..]);
    let same_owner = (Some(&is.owner), &is.owner);
    rights::of(plan, ("SEQUENCE", "SEQUENCE"), &table.to_string(), same_owner, grants);
    plan.comment("SEQUENCE", &table.to_string(), was.and_then(|was| was.comment.as_ref()), is.comment.as_ref());
}

/// What differs in its parameters and persistence.
pub(super) fn alter(plan: &mut Plan, was: &Sequence, is: &Sequence) {
    let table = TableName::new(&is.schema, &is.name);
    let mut changed = parameters(Some(was), is);
    if was.type_sql != is.type_sql {
        changed = format!(" AS {}{}", is.type_sql, parameters(None, is));
    }
    if !changed.is_empty() {
        plan.define.push(format!("ALTER SEQUENCE {table}{changed}"));
    }
    if was.persistence != is.persistence {
        let logged = if is.persistence == 'u' { "UNLOGGED" } else { "LOGGED" };
        plan.define.push(format!("ALTER SEQUENCE {table} SET {logged}"));
    }
}

/// The parameters that differ, or all of them.
pub(super) fn parameters(was: Option<&Sequence>, is: &Sequence) -> String {
    let mut text = String::new();
    let mut parameter = |word: &str, value: fn(&Sequence) -> i64| {
        if was.map(value) != Some(value(is)) {
            text.push_str(&format!(" {word} {}", value(is)));
        }
    };
    parameter("INCREMENT", |s| s.increment);
    parameter("MINVALUE", |s| s.min);
    parameter("MAXVALUE", |s| s.max);
    parameter("START", |s| s.start);
    parameter("CACHE", |s| s.cache);
    if was.map_or(is.cycle, |was| was.cycle != is.cycle) {
        text.push_str(if is.cycle { " CYCLE" } else { " NO CYCLE" });
    }
    text
}
