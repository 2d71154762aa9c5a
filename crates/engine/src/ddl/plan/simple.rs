//! Objects that one statement creates: schemas, extensions, functions, and what text search and operators consist of.

use pgstream_postgres::{TableName, quote_ident};

use super::{
    super::definition::{Extension, Function, Schema, Simple},
    super::record::Versions,
    Plan, dropped, rights,
};

pub(super) fn schema(plan: &mut Plan, versions: &Versions<Schema>) {
    if dropped(plan, versions, |s| format!("DROP SCHEMA IF EXISTS {}", quote_ident(&s.name))) {
        return;
    }
    let (was, Some(is)) = (versions.was.as_ref(), versions.is.as_ref()) else { return };
    let name = quote_ident(&is.name);
    match was {
        None => plan.define.push(format!("CREATE SCHEMA {name}")),
        Some(was) if was.name != is.name => {
            plan.define.push(format!("ALTER SCHEMA {} RENAME TO {name}", quote_ident(&was.name)));
        }
        Some(_) => {}
    }
    let grants = (was.map_or(&[][..], |was| &was.grants), &is.grants[..]);
    rights::of(plan, ("SCHEMA", "SCHEMA"), &name, (was.map(|was| &was.owner), &is.owner), grants);
    plan.comment("SCHEMA", &name, was.and_then(|was| was.comment.as_ref()), is.comment.as_ref());
}

/// The target's own version of an extension is taken: a newer server brings a newer one.
pub(super) fn extension(plan: &mut Plan, versions: &Versions<Extension>) {
    if dropped(plan, versions, |e| format!("DROP EXTENSION IF EXISTS {}", quote_ident(&e.name))) {
        return;
    }
    let (was, Some(is)) = (versions.was.as_ref(), versions.is.as_ref()) else { return };
    let (name, schema) = (quote_ident(&is.name), quote_ident(&is.schema));
    match was {
        // What cannot be moved says itself where it goes.
        None if is.relocatable => {
            plan.define.push(format!("CREATE EXTENSION IF NOT EXISTS {name} WITH SCHEMA {schema}"));
        }
        None => plan.define.push(format!("CREATE EXTENSION IF NOT EXISTS {name}")),
        Some(was) => {
            if was.version != is.version {
                plan.define.push(format!("ALTER EXTENSION {name} UPDATE"));
            }
            if was.schema != is.schema {
                plan.define.push(format!("ALTER EXTENSION {name} SET SCHEMA {schema}"));
            }
        }
    }
}

pub(super) fn function(plan: &mut Plan, versions: &Versions<Function>) {
    let name = |f: &Function| TableName::new(&f.schema, &f.name);
    if dropped(plan, versions, |f| format!("DROP ROUTINE IF EXISTS {}({})", name(f), f.arguments)) {
        return;
    }
    let (was, Some(is)) = (versions.was.as_ref(), versions.is.as_ref()) else { return };
    let arguments = format!("({})", is.arguments);
    if let Some(was) = was {
        plan.rename("ROUTINE", &name(was), &name(is), &format!("({})", was.arguments));
    }
    if was.is_none_or(|was| was.create != is.create) {
        plan.define.push(is.create.clone());
    }
    let signature = format!("{}{arguments}", name(is));
    let public = rights::built_in(&["EXECUTE"]);
    let grants = (was.map_or(&public[..], |was| &was.grants), &is.grants[..]);
    rights::of(plan, ("ROUTINE", "ROUTINE"), &signature, (was.map(|was| &was.owner), &is.owner), grants);
    plan.comment("ROUTINE", &signature, was.and_then(|was| was.comment.as_ref()), is.comment.as_ref());
}

/// Created as recorded; made anew when anything but its name, owner or comment changed.
pub(super) fn created(plan: &mut Plan, kind: &str, versions: &Versions<Simple>) {
    if dropped(plan, versions, |s| format!("DROP {kind} IF EXISTS {}", identity(s))) {
        return;
    }
    let (was, Some(is)) = (versions.was.as_ref(), versions.is.as_ref()) else { return };
    let ident = identity(is);
    match was {
        None => plan.define.push(is.create.clone()),
        Some(was) if was.create == is.create => {}
        Some(was) => match (&was.schema, &is.schema) {
            (Some(from), Some(to)) if (from, &was.name) != (to, &is.name) && is.identity.is_none() => {
                plan.rename(kind, &TableName::new(from, &was.name), &TableName::new(to, &is.name), "");
            }
            (Some(from), Some(to)) if from != to => {
                plan.define.push(format!("ALTER {kind} {} SET SCHEMA {}", identity(was), quote_ident(to)));
            }
            _ => {
                plan.remove.push(format!("DROP {kind} {}", identity(was)));
                plan.define.push(is.create.clone());
            }
        },
    }
    if let Some(owner) = &is.owner {
        rights::owner(plan, kind, &ident, (was.and_then(|was| was.owner.as_ref()), owner));
    }
    plan.comment(kind, &ident, was.and_then(|was| was.comment.as_ref()), is.comment.as_ref());
}

pub(super) fn text_search(plan: &mut Plan, versions: &Versions<Simple>) {
    created(plan, "TEXT SEARCH CONFIGURATION", versions);
    let Some(is) = &versions.is else { return };
    let before = versions.was.as_ref().map_or(&[][..], |was| &was.mappings);
    let alter = format!("ALTER TEXT SEARCH CONFIGURATION {}", identity(is));
    for gone in before.iter().filter(|old| !is.mappings.iter().any(|m| m.token == old.token)) {
        plan.define.push(format!("{alter} DROP MAPPING FOR {}", quote_ident(&gone.token)));
    }
    for mapping in is.mappings.iter().filter(|mapping| !before.contains(mapping)) {
        let verb = if before.iter().any(|m| m.token == mapping.token) { "ALTER" } else { "ADD" };
        let token = quote_ident(&mapping.token);
        plan.define.push(format!("{alter} {verb} MAPPING FOR {token} WITH {}", mapping.dictionaries));
    }
}

pub(super) fn statistics(plan: &mut Plan, versions: &Versions<Simple>) {
    created(plan, "STATISTICS", versions);
    let Some(is) = &versions.is else { return };
    if versions.was.as_ref().and_then(|was| was.target) != is.target {
        plan.define.push(format!("ALTER STATISTICS {} SET STATISTICS {}", identity(is), is.target.unwrap_or(-1)));
    }
}

/// How a statement names it.
fn identity(object: &Simple) -> String {
    match (&object.identity, &object.schema) {
        (Some(identity), _) => identity.clone(),
        (None, Some(schema)) => TableName::new(schema, &object.name).to_string(),
        (None, None) => object.name.clone(),
    }
}
