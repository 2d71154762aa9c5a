//! Columns of a table. One that comes from a parent follows the parent; only what a child may set by itself is set here.

use pgstream_postgres::{TableName, quote_ident, quote_literal};

use super::{
    super::definition::{Column, Relation},
    Plan, options, rights, sequence,
};

/// The definition of a column in `CREATE TABLE` and `ADD COLUMN`.
pub(super) fn definition(column: &Column) -> String {
    let mut sql = format!("{} {}", quote_ident(&column.name), column.type_sql);
    if let Some(collation) = &column.collation {
        sql.push_str(&format!(" COLLATE {collation}"));
    }
    match (&column.default, column.generated.as_str()) {
        (Some(expression), "s") => sql.push_str(&format!(" GENERATED ALWAYS AS ({expression}) STORED")),
        (Some(expression), "v") => sql.push_str(&format!(" GENERATED ALWAYS AS ({expression}) VIRTUAL")),
        (Some(default), _) => sql.push_str(&format!(" DEFAULT {default}")),
        (None, _) => {}
    }
    if let Some(identity) = identity(column) {
        sql.push_str(&format!(" {identity}"));
    }
    if column.not_null {
        match &column.not_null_constraint {
            Some(constraint) if !constraint.valid => {}
            Some(constraint) => {
                let no_inherit = if constraint.no_inherit { " NO INHERIT" } else { "" };
                sql.push_str(&format!(" CONSTRAINT {} NOT NULL{no_inherit}", quote_ident(&constraint.name)));
            }
            None => sql.push_str(" NOT NULL"),
        }
    }
    sql
}

/// `GENERATED … AS IDENTITY (…)`.
fn identity(column: &Column) -> Option<String> {
    let when = match column.identity.as_str() {
        "a" => "ALWAYS",
        "d" => "BY DEFAULT",
        _ => return None,
    };
    let parameters = column.sequence.as_ref().map_or_else(String::new, |s| {
        let name = TableName::new(&s.schema, &s.name);
        format!(" (SEQUENCE NAME {name}{})", sequence::parameters(None, s))
    });
    Some(format!("GENERATED {when} AS IDENTITY{parameters}"))
}

/// What `CREATE TABLE` has no place for.
pub(super) fn complete(plan: &mut Plan, table: &str, column: &Column) {
    settings(plan, table, None, column);
    if let Some(constraint) = column.not_null_constraint.as_ref().filter(|constraint| !constraint.valid) {
        plan.define.push(format!(
            "ALTER TABLE {table} ADD CONSTRAINT {} NOT NULL {} NOT VALID",
            quote_ident(&constraint.name),
            quote_ident(&column.name)
        ));
    }
}

/// Columns that are gone, renamed, new or altered. `table` is its present name.
pub(super) fn alter(plan: &mut Plan, was: &Relation, is: &Relation, must_copy: bool) {
    let table = is.table().to_string();
    for gone in was.columns.iter().filter(|old| !is.columns.iter().any(|c| c.num == old.num)) {
        if !gone.inherited {
            plan.remove.push(format!("ALTER TABLE {} DROP COLUMN IF EXISTS {}", was.table(), quote_ident(&gone.name)));
        }
    }
    for column in &is.columns {
        match was.columns.iter().find(|c| c.num == column.num) {
            Some(before) => alter_one(plan, &table, before, column, must_copy),
            None if column.inherited => inherited(plan, &table, column),
            None => add(plan, &table, column),
        }
    }
}

/// A column that came with a change of the parent, as far as the child may differ.
fn inherited(plan: &mut Plan, table: &str, column: &Column) {
    if column.generated.is_empty() && column.identity.is_empty() {
        set_default(plan, table, column);
    }
    settings(plan, table, None, column);
}

/// Rows that are there show what they show on the source: `now()` was evaluated once, there.
fn add(plan: &mut Plan, table: &str, column: &Column) {
    match &column.missing {
        Some(missing) if column.generated.is_empty() && column.identity.is_empty() => {
            let literal = format!("{}::{}", quote_literal(missing), column.type_sql);
            let first = Column { default: Some(literal), ..column.clone() };
            plan.define.push(format!("ALTER TABLE {table} ADD COLUMN {}", definition(&first)));
            set_default(plan, table, column);
        }
        _ => plan.define.push(format!("ALTER TABLE {table} ADD COLUMN {}", definition(column))),
    }
    complete(plan, table, column);
}

fn set_default(plan: &mut Plan, table: &str, column: &Column) {
    let name = quote_ident(&column.name);
    let action = column.default.as_ref().map_or_else(|| "DROP DEFAULT".to_owned(), |d| format!("SET DEFAULT {d}"));
    plan.define.push(format!("ALTER TABLE ONLY {table} ALTER COLUMN {name} {action}"));
}

fn alter_one(plan: &mut Plan, table: &str, was: &Column, is: &Column, must_copy: bool) {
    let name = quote_ident(&is.name);
    let alter = format!("ALTER TABLE {table} ALTER COLUMN {name}");
    if was.name != is.name && !is.inherited {
        plan.define.push(format!("ALTER TABLE {table} RENAME COLUMN {} TO {name}", quote_ident(&was.name)));
    }
    let plain = is.generated.is_empty() && was.generated.is_empty();
    let retyped = (was.type_id, was.typmod, was.collation_id) != (is.type_id, is.typmod, is.collation_id);
    if !was.identity.is_empty() && is.identity.is_empty() {
        plan.define.push(format!("{alter} DROP IDENTITY"));
    }
    // A default that cannot be cast stands in the way of a new type.
    let dropped = plain && was.default.is_some() && (is.default.is_none() || retyped);
    if dropped {
        plan.define.push(format!("ALTER TABLE ONLY {table} ALTER COLUMN {name} DROP DEFAULT"));
    }
    if retyped && !is.inherited {
        let collation = is.collation.as_ref().map(|c| format!(" COLLATE {c}")).unwrap_or_default();
        // The rows that are copied again are gone by then.
        let using = if must_copy && plain { format!(" USING NULL::{}", is.type_sql) } else { String::new() };
        plan.define.push(format!("{alter} TYPE {}{collation}{using}", is.type_sql));
    }
    if plain && is.default.is_some() && (dropped || was.default != is.default) {
        set_default(plan, table, is);
    }
    if !is.inherited && !retyped {
        match (was.generated.is_empty(), is.generated.is_empty()) {
            (false, true) => plan.define.push(format!("{alter} DROP EXPRESSION")),
            (false, false) if was.default_id != is.default_id => {
                let expression = is.default.as_deref().unwrap_or_default();
                plan.define.push(format!("{alter} SET EXPRESSION AS ({expression})"));
            }
            _ => {}
        }
    }
    not_null(plan, table, was, is);
    alter_identity(plan, &alter, was, is);
    settings(plan, table, Some(was), is);
}

fn not_null(plan: &mut Plan, table: &str, was: &Column, is: &Column) {
    let name = quote_ident(&is.name);
    let alter = format!("ALTER TABLE {table} ALTER COLUMN {name}");
    match (&was.not_null_constraint, &is.not_null_constraint) {
        (Some(before), Some(now)) => {
            let constraint = quote_ident(&now.name);
            if (now.local || !is.inherited) && before.name != now.name {
                let old = quote_ident(&before.name);
                plan.define.push(format!("ALTER TABLE {table} RENAME CONSTRAINT {old} TO {constraint}"));
            }
            if !before.valid && now.valid {
                plan.define.push(format!("ALTER TABLE {table} VALIDATE CONSTRAINT {constraint}"));
            }
            if before.no_inherit != now.no_inherit {
                let inherit = if now.no_inherit { "NO INHERIT" } else { "INHERIT" };
                plan.define.push(format!("ALTER TABLE {table} ALTER CONSTRAINT {constraint} {inherit}"));
            }
        }
        (None, Some(now)) if !was.not_null && (now.local || !is.inherited) => {
            let no_inherit = if now.no_inherit { " NO INHERIT" } else { "" };
            let valid = if now.valid { "" } else { " NOT VALID" };
            plan.define.push(format!(
                "ALTER TABLE {table} ADD CONSTRAINT {} NOT NULL {name}{no_inherit}{valid}",
                quote_ident(&now.name)
            ));
        }
        // A child's comes with the parent's.
        (None, Some(_)) if !was.not_null => {}
        _ if !was.not_null && is.not_null => plan.define.push(format!("{alter} SET NOT NULL")),
        _ if was.not_null && !is.not_null => plan.define.push(format!("{alter} DROP NOT NULL")),
        _ => {}
    }
}

fn alter_identity(plan: &mut Plan, alter: &str, was: &Column, is: &Column) {
    if was.identity == is.identity {
        if let (Some(before), Some(now)) = (&was.sequence, &is.sequence) {
            plan.rename(
                "SEQUENCE",
                &TableName::new(&before.schema, &before.name),
                &TableName::new(&now.schema, &now.name),
                "",
            );
            sequence::alter(plan, before, now);
        }
    } else if was.identity.is_empty() {
        if let Some(identity) = identity(is) {
            plan.define.push(format!("{alter} ADD {identity}"));
        }
    } else if !is.identity.is_empty() {
        let when = if is.identity == "a" { "ALWAYS" } else { "BY DEFAULT" };
        plan.define.push(format!("{alter} SET GENERATED {when}"));
    }
}

/// Storage, compression, statistics, options, grants and comment.
fn settings(plan: &mut Plan, table: &str, was: Option<&Column>, is: &Column) {
    let alter = format!("ALTER TABLE ONLY {table} ALTER COLUMN {}", quote_ident(&is.name));
    if was.map_or(!is.storage_is_default, |was| was.storage != is.storage && was.type_id == is.type_id) {
        let storage = match is.storage.as_str() {
            "p" => "PLAIN",
            "e" => "EXTERNAL",
            "m" => "MAIN",
            _ => "EXTENDED",
        };
        plan.define.push(format!("{alter} SET STORAGE {storage}"));
    }
    if was.and_then(|was| was.compression.as_ref()) != is.compression.as_ref() {
        let method = match is.compression.as_deref() {
            Some("p") => "pglz",
            Some("l") => "lz4",
            _ => "default",
        };
        plan.define.push(format!("{alter} SET COMPRESSION {method}"));
    }
    if was.and_then(|was| was.statistics) != is.statistics {
        plan.define.push(format!("{alter} SET STATISTICS {}", is.statistics.unwrap_or(-1)));
    }
    let (set, reset) = options(was.and_then(|was| was.options.as_ref()), is.options.as_ref(), "");
    plan.define.extend(set.map(|set| format!("{alter} SET ({set})")));
    plan.define.extend(reset.map(|reset| format!("{alter} RESET ({reset})")));
    rights::of_column(plan, table, &is.name, (was.map_or(&[][..], |was| &was.grants), &is.grants));
    let column = format!("{table}.{}", quote_ident(&is.name));
    plan.comment("COLUMN", &column, was.and_then(|was| was.comment.as_ref()), is.comment.as_ref());
}
