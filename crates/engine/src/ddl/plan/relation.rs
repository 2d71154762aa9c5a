//! Tables, views and materialized views.

use pgstream_postgres::quote_ident;

use super::{super::definition::Relation, super::record::Versions, Plan, columns, dropped, options, parts, rights};

pub(super) fn table(plan: &mut Plan, versions: &Versions<Relation>) {
    if dropped(plan, versions, |t| format!("DROP TABLE IF EXISTS {}", t.table())) {
        // Tables that reference each other let go of each other first.
        for key in versions.was.iter().flat_map(|was| &was.constraints).filter(|c| c.kind == 'f' && !c.inherited) {
            let table = versions.was.as_ref().map(|was| was.table().to_string()).unwrap_or_default();
            let name = quote_ident(&key.name);
            plan.remove.push(format!("ALTER TABLE IF EXISTS {table} DROP CONSTRAINT IF EXISTS {name}"));
        }
        return;
    }
    let (was, Some(is)) = (versions.was.as_ref(), versions.is.as_ref()) else { return };
    let ident = is.table().to_string();
    match was {
        None => create(plan, is),
        Some(was) => {
            if versions.must_copy && is.kind == 'r' {
                plan.must_copy.push(was.table());
            }
            let_go(plan, was, is);
            plan.rename("TABLE", &was.table(), &is.table(), "");
            columns::alter(plan, was, is, versions.must_copy);
            if was.persistence != is.persistence {
                let logged = if is.persistence == 'u' { "UNLOGGED" } else { "LOGGED" };
                plan.define.push(format!("ALTER TABLE {ident} SET {logged}"));
            }
            table_options(plan, was, is);
        }
    }
    belong(plan, was, is);
    parts::constraints(plan, was, is);
    parts::indexes(plan, was, is);
    parts::triggers(plan, was, is);
    parts::rules(plan, was, is);
    parts::policies(plan, was, is);
    switches(plan, was, is);
    let grants = (was.map_or(&[][..], |was| &was.grants), &is.grants[..]);
    rights::of(plan, ("TABLE", "TABLE"), &ident, (was.map(|was| &was.owner), &is.owner), grants);
    plan.comment("TABLE", &ident, was.and_then(|was| was.comment.as_ref()), is.comment.as_ref());
}

/// A partition is created by itself and attached when it has its indexes, so that all have the source's names.
fn create(plan: &mut Plan, is: &Relation) {
    let table = is.table();
    let partition = is.bound.is_some();
    let unlogged = if is.persistence == 'u' { "UNLOGGED " } else { "" };
    let own: Vec<String> =
        is.columns.iter().filter(|c| partition || c.local || !c.inherited).map(columns::definition).collect();
    let mut sql = format!("CREATE {unlogged}TABLE {table}");
    match &is.of_type {
        Some(name) => sql.push_str(&format!(" OF {name}")),
        None => sql.push_str(&format!(" ({})", own.join(", "))),
    }
    if !partition && !is.parents.is_empty() {
        let parents: Vec<&str> = is.parents.iter().map(|parent| parent.name.as_str()).collect();
        sql.push_str(&format!(" INHERITS ({})", parents.join(", ")));
    }
    if let Some(key) = &is.partition_key {
        sql.push_str(&format!(" PARTITION BY {key}"));
    }
    if let Some(method) = is.access_method.as_ref().filter(|method| *method != "heap") {
        sql.push_str(&format!(" USING {}", quote_ident(method)));
    }
    let all: Vec<String> = [("", &is.options), ("toast.", &is.toast_options)]
        .into_iter()
        .filter_map(|(prefix, list)| options(None, list.as_ref(), prefix).0)
        .collect();
    if !all.is_empty() {
        sql.push_str(&format!(" WITH ({})", all.join(", ")));
    }
    plan.define.push(sql);
    for column in &is.columns {
        columns::complete(plan, &table.to_string(), column);
    }
    if let Some(typed) = is.of_type.as_ref().map(|_| &is.columns) {
        for column in typed {
            let alter = format!("ALTER TABLE {table} ALTER COLUMN {}", quote_ident(&column.name));
            plan.define.extend(column.default.as_ref().map(|d| format!("{alter} SET DEFAULT {d}")));
            plan.define.extend(column.not_null.then(|| format!("{alter} SET NOT NULL")));
        }
    }
}

/// Parents that it no longer has.
fn let_go(plan: &mut Plan, was: &Relation, is: &Relation) {
    for parent in was.parents.iter().filter(|old| !is.parents.iter().any(|p| p.id == old.id)) {
        plan.remove.push(if was.bound.is_some() {
            format!("ALTER TABLE {} DETACH PARTITION {}", parent.name, was.table())
        } else {
            format!("ALTER TABLE {} NO INHERIT {}", was.table(), parent.name)
        });
    }
}

/// Parents that are new; those of a new table that inherits were named when it was created.
fn belong(plan: &mut Plan, was: Option<&Relation>, is: &Relation) {
    let before = was.map_or(&[][..], |was| &was.parents);
    for parent in is.parents.iter().filter(|p| !before.iter().any(|old| old.id == p.id)) {
        match &is.bound {
            Some(bound) => {
                plan.attach.push(format!("ALTER TABLE ONLY {} ATTACH PARTITION {} {bound}", parent.name, is.table()));
            }
            None if was.is_some() => plan.attach.push(format!("ALTER TABLE {} INHERIT {}", is.table(), parent.name)),
            None => {}
        }
    }
}

fn table_options(plan: &mut Plan, was: &Relation, is: &Relation) {
    let table = is.table();
    for (old, new, prefix) in [(&was.options, &is.options, ""), (&was.toast_options, &is.toast_options, "toast.")] {
        let (set, reset) = options(old.as_ref(), new.as_ref(), prefix);
        plan.define.extend(set.map(|set| format!("ALTER TABLE {table} SET ({set})")));
        plan.define.extend(reset.map(|reset| format!("ALTER TABLE {table} RESET ({reset})")));
    }
    if was.of_type != is.of_type {
        let action = is.of_type.as_ref().map_or_else(|| "NOT OF".to_owned(), |name| format!("OF {name}"));
        plan.define.push(format!("ALTER TABLE {table} {action}"));
    }
}

/// Row security and replica identity.
fn switches(plan: &mut Plan, was: Option<&Relation>, is: &Relation) {
    let table = is.table();
    if was.is_some_and(|was| was.row_security) != is.row_security {
        let action = if is.row_security { "ENABLE" } else { "DISABLE" };
        plan.attach.push(format!("ALTER TABLE {table} {action} ROW LEVEL SECURITY"));
    }
    if was.is_some_and(|was| was.force_row_security) != is.force_row_security {
        let action = if is.force_row_security { "FORCE" } else { "NO FORCE" };
        plan.attach.push(format!("ALTER TABLE {table} {action} ROW LEVEL SECURITY"));
    }
    let identity = |r: &Relation| (r.replica_identity.unwrap_or('d'), r.replica_identity_index.clone());
    if was.map_or(('d', None), identity) != identity(is) {
        let action = match identity(is) {
            ('f', _) => "FULL".to_owned(),
            ('n', _) => "NOTHING".to_owned(),
            ('i', Some(index)) => format!("USING INDEX {}", quote_ident(&index)),
            _ => "DEFAULT".to_owned(),
        };
        plan.attach.push(format!("ALTER TABLE {table} REPLICA IDENTITY {action}"));
    }
}

pub(super) fn view(plan: &mut Plan, versions: &Versions<Relation>) {
    if dropped(plan, versions, |v| format!("DROP VIEW IF EXISTS {}", v.table())) {
        return;
    }
    let (was, Some(is)) = (versions.was.as_ref(), versions.is.as_ref()) else { return };
    let ident = is.table().to_string();
    if let Some(was) = was {
        plan.rename("VIEW", &was.table(), &is.table(), "");
        rename_columns(plan, "VIEW", was, is);
    }
    if was.is_none_or(|was| was.query != is.query) {
        let with = options(None, is.options.as_ref(), "").0.map(|list| format!(" WITH ({list})")).unwrap_or_default();
        let query = is.query.as_deref().unwrap_or_default();
        plan.define.push(format!("CREATE OR REPLACE VIEW {ident}{with} AS {query}"));
    }
    if let Some(was) = was {
        let (set, reset) = options(was.options.as_ref(), is.options.as_ref(), "");
        plan.define.extend(set.map(|set| format!("ALTER VIEW {ident} SET ({set})")));
        plan.define.extend(reset.map(|reset| format!("ALTER VIEW {ident} RESET ({reset})")));
    }
    for column in &is.columns {
        let before = was.and_then(|was| was.columns.iter().find(|c| c.num == column.num));
        if before.and_then(|c| c.default.as_ref()) != column.default.as_ref() {
            let action = column.default.as_ref().map_or_else(|| "DROP DEFAULT".into(), |d| format!("SET DEFAULT {d}"));
            plan.define.push(format!("ALTER VIEW {ident} ALTER COLUMN {} {action}", quote_ident(&column.name)));
        }
    }
    parts::triggers(plan, was, is);
    parts::rules(plan, was, is);
    seen(plan, "VIEW", was, is);
}

pub(super) fn materialized_view(plan: &mut Plan, versions: &Versions<Relation>) {
    if dropped(plan, versions, |v| format!("DROP MATERIALIZED VIEW IF EXISTS {}", v.table())) {
        return;
    }
    let (was, Some(is)) = (versions.was.as_ref(), versions.is.as_ref()) else { return };
    let ident = is.table().to_string();
    match was {
        None => {
            let with =
                options(None, is.options.as_ref(), "").0.map(|list| format!(" WITH ({list})")).unwrap_or_default();
            let data = if is.populated { "DATA" } else { "NO DATA" };
            let query = is.query.as_deref().unwrap_or_default();
            plan.define.push(format!("CREATE MATERIALIZED VIEW {ident}{with} AS {query} WITH {data}"));
        }
        Some(was) => {
            plan.rename("MATERIALIZED VIEW", &was.table(), &is.table(), "");
            rename_columns(plan, "MATERIALIZED VIEW", was, is);
            let (set, reset) = options(was.options.as_ref(), is.options.as_ref(), "");
            plan.define.extend(set.map(|set| format!("ALTER MATERIALIZED VIEW {ident} SET ({set})")));
            plan.define.extend(reset.map(|reset| format!("ALTER MATERIALIZED VIEW {ident} RESET ({reset})")));
        }
    }
    parts::indexes(plan, was, is);
    if was.is_some() && versions.filled {
        let data = if is.populated { "" } else { " WITH NO DATA" };
        plan.attach.push(format!("REFRESH MATERIALIZED VIEW {ident}{data}"));
    }
    seen(plan, "MATERIALIZED VIEW", was, is);
}

fn rename_columns(plan: &mut Plan, kind: &str, was: &Relation, is: &Relation) {
    for column in &is.columns {
        if let Some(before) = was.columns.iter().find(|c| c.num == column.num && c.name != column.name) {
            let (from, to) = (quote_ident(&before.name), quote_ident(&column.name));
            plan.define.push(format!("ALTER {kind} {} RENAME COLUMN {from} TO {to}", is.table()));
        }
    }
}

/// Owner, grants and comments of a view and its columns.
fn seen(plan: &mut Plan, kind: &str, was: Option<&Relation>, is: &Relation) {
    let ident = is.table().to_string();
    let grants = (was.map_or(&[][..], |was| &was.grants), &is.grants[..]);
    rights::of(plan, (kind, "TABLE"), &ident, (was.map(|was| &was.owner), &is.owner), grants);
    plan.comment(kind, &ident, was.and_then(|was| was.comment.as_ref()), is.comment.as_ref());
    for column in &is.columns {
        let before = was.and_then(|was| was.columns.iter().find(|c| c.num == column.num));
        let grants = (before.map_or(&[][..], |c| &c.grants), &column.grants[..]);
        rights::of_column(plan, &ident, &column.name, grants);
        let name = format!("{ident}.{}", quote_ident(&column.name));
        plan.comment("COLUMN", &name, before.and_then(|c| c.comment.as_ref()), column.comment.as_ref());
    }
}
