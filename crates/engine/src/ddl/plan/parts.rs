//! Constraints, indexes, triggers, rules and policies. An index or constraint that a new column type rebuilt has another
//! oid, but the server of the target rebuilds it by itself: it is known by its name then.

use pgstream_postgres::{TableName, quote_ident};

use super::{
    super::definition::{Attached, Constraint, Index, Policy, Relation},
    Plan, options,
};

pub(super) fn constraints(plan: &mut Plan, was: Option<&Relation>, is: &Relation) {
    let table = is.table().to_string();
    let retyped = was.is_some_and(|was| is_retyped(was, is));
    let before = |c: &Constraint| {
        let old = &was?.constraints;
        old.iter().find(|o| o.id == c.id).or_else(|| old.iter().find(|o| retyped && o.name == c.name))
    };
    let kept: Vec<u32> = is.constraints.iter().filter_map(|c| before(c).map(|old| old.id)).collect();
    for gone in was.iter().flat_map(|was| &was.constraints).filter(|c| !c.inherited && !kept.contains(&c.id)) {
        let old = was.map(|was| was.table().to_string()).unwrap_or_default();
        plan.remove.push(format!("ALTER TABLE {old} DROP CONSTRAINT IF EXISTS {}", quote_ident(&gone.name)));
    }
    for constraint in &is.constraints {
        let name = quote_ident(&constraint.name);
        let old = before(constraint);
        match old {
            Some(old) => alter_constraint(plan, &table, old, constraint),
            None => add_constraint(plan, was, is, constraint),
        }
        if let (Some(parent), None) = (&constraint.index_parent, old.and_then(|old| old.index_parent.as_ref())) {
            attach(plan, parent, &is.schema, constraint.index.as_deref());
        }
        let comment = old.and_then(|old| old.comment.as_ref());
        plan.comment("CONSTRAINT", &format!("{name} ON {table}"), comment, constraint.comment.as_ref());
    }
}

fn add_constraint(plan: &mut Plan, was: Option<&Relation>, is: &Relation, constraint: &Constraint) {
    let (table, name) = (is.table(), quote_ident(&constraint.name));
    let only = if is.kind == 'p' { "ONLY " } else { "" };
    if constraint.has_index() {
        // A plain index that became the constraint's.
        let adopted =
            was.and_then(|was| was.indexes.iter().find(|i| Some(i.id) == constraint.index_id && !i.constraint));
        let definition = adopted.map_or_else(|| constraint.definition.clone(), |index| using_index(constraint, index));
        plan.define.push(format!("ALTER TABLE {only}{table} ADD CONSTRAINT {name} {definition}"));
    } else if constraint.inherited && !(was.is_none() && is.bound.is_some() && constraint.kind == 'c') {
        // It comes with the parent's; only a partition that is still to be attached needs its checks before.
    } else if constraint.kind == 'f' {
        plan.attach.push(format!("ALTER TABLE {table} ADD CONSTRAINT {name} {}", constraint.definition));
    } else {
        plan.define.push(format!("ALTER TABLE {table} ADD CONSTRAINT {name} {}", constraint.definition));
    }
}

fn using_index(constraint: &Constraint, index: &Index) -> String {
    let word = if constraint.kind == 'p' { "PRIMARY KEY" } else { "UNIQUE" };
    let when = match (constraint.deferrable, constraint.deferred) {
        (true, true) => " DEFERRABLE INITIALLY DEFERRED",
        (true, false) => " DEFERRABLE",
        _ => "",
    };
    format!("{word} USING INDEX {}{when}", quote_ident(&index.name))
}

fn alter_constraint(plan: &mut Plan, table: &str, was: &Constraint, is: &Constraint) {
    let name = quote_ident(&is.name);
    if is.inherited && !is.has_index() {
        return;
    }
    if was.name != is.name {
        plan.define.push(format!("ALTER TABLE {table} RENAME CONSTRAINT {} TO {name}", quote_ident(&was.name)));
    }
    if (was.deferrable, was.deferred) != (is.deferrable, is.deferred) {
        let deferrable = if is.deferrable { "DEFERRABLE" } else { "NOT DEFERRABLE" };
        let deferred = if is.deferred { "DEFERRED" } else { "IMMEDIATE" };
        plan.attach.push(format!("ALTER TABLE {table} ALTER CONSTRAINT {name} {deferrable} INITIALLY {deferred}"));
    }
    if was.enforced != is.enforced {
        let enforced = if is.enforced { "ENFORCED" } else { "NOT ENFORCED" };
        plan.attach.push(format!("ALTER TABLE {table} ALTER CONSTRAINT {name} {enforced}"));
    } else if !was.validated && is.validated {
        plan.attach.push(format!("ALTER TABLE {table} VALIDATE CONSTRAINT {name}"));
    }
}

/// The index of a partition becomes part of the one of the partitioned table.
fn attach(plan: &mut Plan, parent: &str, schema: &str, index: Option<&str>) {
    let index = TableName::new(schema, index.unwrap_or_default());
    plan.attach.push(format!("ALTER INDEX {parent} ATTACH PARTITION {index}"));
}

/// What `CREATE INDEX` makes; one that was left half built is not one.
pub(super) fn indexes(plan: &mut Plan, was: Option<&Relation>, is: &Relation) {
    let usable = |index: &&Index| index.valid || index.partitioned;
    let retyped = was.is_some_and(|was| is_retyped(was, is));
    let before = |index: &Index| {
        let mut old = was?.indexes.iter().filter(usable);
        let rebuilt = |o: &&Index| o.name == index.name && (retyped || o.definition == index.definition);
        old.clone().find(|o| o.id == index.id).or_else(|| old.find(rebuilt))
    };
    let kept: Vec<u32> = is.indexes.iter().filter_map(|i| before(i).map(|old| old.id)).collect();
    for gone in was.iter().flat_map(|was| was.indexes.iter().filter(usable)) {
        if !gone.constraint && !kept.contains(&gone.id) {
            let schema = was.map_or(&is.schema, |was| &was.schema);
            plan.remove.push(format!("DROP INDEX IF EXISTS {}", TableName::new(schema, &gone.name)));
        }
    }
    for index in is.indexes.iter().filter(usable) {
        let name = TableName::new(&is.schema, &index.name);
        let old = before(index);
        match old {
            None if !index.constraint => plan.define.push(index.definition.clone()),
            Some(old) if old.name != index.name && old.constraint == index.constraint && !index.constraint => {
                let from = TableName::new(&is.schema, &old.name);
                plan.define.push(format!("ALTER INDEX {from} RENAME TO {}", quote_ident(&index.name)));
            }
            _ => {}
        }
        if !index.constraint
            && let (Some(parent), None) = (&index.parent, old.and_then(|old| old.parent.as_ref()))
        {
            attach(plan, parent, &is.schema, Some(&index.name));
        }
        index_settings(plan, &name, is, old, index);
    }
}

fn index_settings(plan: &mut Plan, name: &TableName, table: &Relation, was: Option<&Index>, is: &Index) {
    if let Some(was) = was {
        let (set, reset) = options(was.options.as_ref(), is.options.as_ref(), "");
        plan.define.extend(set.map(|set| format!("ALTER INDEX {name} SET ({set})")));
        plan.define.extend(reset.map(|reset| format!("ALTER INDEX {name} RESET ({reset})")));
    }
    let empty = std::collections::BTreeMap::new();
    let targets = is.statistics.as_ref().unwrap_or(&empty);
    let before = was.and_then(|was| was.statistics.as_ref()).unwrap_or(&empty);
    for (column, target) in targets.iter().filter(|(column, target)| before.get(*column) != Some(target)) {
        plan.define.push(format!("ALTER INDEX {name} ALTER COLUMN {column} SET STATISTICS {target}"));
    }
    for column in before.keys().filter(|column| !targets.contains_key(*column)) {
        plan.define.push(format!("ALTER INDEX {name} ALTER COLUMN {column} SET STATISTICS -1"));
    }
    let kind = if table.kind == 'm' { "MATERIALIZED VIEW" } else { "TABLE" };
    match (was.is_some_and(|was| was.clustered), is.clustered) {
        (false, true) => {
            plan.attach.push(format!("ALTER {kind} {} CLUSTER ON {}", table.table(), quote_ident(&is.name)));
        }
        (true, false) if !table.indexes.iter().any(|index| index.clustered) => {
            plan.attach.push(format!("ALTER {kind} {} SET WITHOUT CLUSTER", table.table()));
        }
        _ => {}
    }
    plan.comment("INDEX", &name.to_string(), was.and_then(|was| was.comment.as_ref()), is.comment.as_ref());
}

/// Whether a column has another type: what is built on it is then built anew.
fn is_retyped(was: &Relation, is: &Relation) -> bool {
    is.columns.iter().any(|c| {
        let old = was.columns.iter().find(|old| old.num == c.num);
        old.is_some_and(|old| (old.type_id, old.typmod, old.collation_id) != (c.type_id, c.typmod, c.collation_id))
    })
}

pub(super) fn triggers(plan: &mut Plan, was: Option<&Relation>, is: &Relation) {
    let table = is.table().to_string();
    let old_table = was.map_or_else(|| table.clone(), |was| was.table().to_string());
    let before = was.map_or(&[][..], |was| &was.triggers);
    for gone in before.iter().filter(|t| !t.inherited && !is.triggers.iter().any(|new| new.id == t.id)) {
        plan.remove.push(format!("DROP TRIGGER IF EXISTS {} ON {old_table}", quote_ident(&gone.name)));
    }
    for trigger in &is.triggers {
        let name = quote_ident(&trigger.name);
        let old = before.iter().find(|t| t.id == trigger.id);
        let moved = was.is_some_and(|was| was.table() != is.table());
        if !trigger.inherited {
            match old {
                None => plan.attach.push(trigger.definition.clone()),
                Some(old) if old.name != trigger.name => {
                    let from = quote_ident(&old.name);
                    plan.attach.push(format!("ALTER TRIGGER {from} ON {table} RENAME TO {name}"));
                }
                // Its text names the table.
                Some(old) if old.definition != trigger.definition && !moved => {
                    plan.attach.push(format!("DROP TRIGGER {name} ON {table}"));
                    plan.attach.push(trigger.definition.clone());
                }
                Some(_) => {}
            }
        }
        if old.map_or('O', |old| old.enabled) != trigger.enabled {
            plan.attach.push(format!("ALTER TABLE {table} {} TRIGGER {name}", enabled(trigger)));
        }
        let comment = old.and_then(|old| old.comment.as_ref());
        plan.comment("TRIGGER", &format!("{name} ON {table}"), comment, trigger.comment.as_ref());
    }
}

pub(super) fn rules(plan: &mut Plan, was: Option<&Relation>, is: &Relation) {
    let table = is.table().to_string();
    let old_table = was.map_or_else(|| table.clone(), |was| was.table().to_string());
    let before = was.map_or(&[][..], |was| &was.rules);
    for gone in before.iter().filter(|r| !is.rules.iter().any(|new| new.id == r.id)) {
        plan.remove.push(format!("DROP RULE IF EXISTS {} ON {old_table}", quote_ident(&gone.name)));
    }
    for rule in &is.rules {
        let name = quote_ident(&rule.name);
        let old = before.iter().find(|r| r.id == rule.id);
        match old {
            Some(old) if old.name != rule.name => {
                plan.attach.push(format!("ALTER RULE {} ON {table} RENAME TO {name}", quote_ident(&old.name)));
            }
            Some(old) if old.definition == rule.definition => {}
            _ => plan.attach.push(or_replace(&rule.definition, "RULE")),
        }
        if old.map_or('O', |old| old.enabled) != rule.enabled {
            plan.attach.push(format!("ALTER TABLE {table} {} RULE {name}", enabled(rule)));
        }
        let comment = old.and_then(|old| old.comment.as_ref());
        plan.comment("RULE", &format!("{name} ON {table}"), comment, rule.comment.as_ref());
    }
}

fn enabled(part: &Attached) -> &'static str {
    match part.enabled {
        'D' => "DISABLE",
        'R' => "ENABLE REPLICA",
        'A' => "ENABLE ALWAYS",
        _ => "ENABLE",
    }
}

fn or_replace(definition: &str, word: &str) -> String {
    definition.replacen(&format!("CREATE {word}"), &format!("CREATE OR REPLACE {word}"), 1)
}

pub(super) fn policies(plan: &mut Plan, was: Option<&Relation>, is: &Relation) {
    let table = is.table().to_string();
    let old_table = was.map_or_else(|| table.clone(), |was| was.table().to_string());
    let before = was.map_or(&[][..], |was| &was.policies);
    for gone in before.iter().filter(|p| !is.policies.iter().any(|new| new.id == p.id)) {
        plan.remove.push(format!("DROP POLICY IF EXISTS {} ON {old_table}", quote_ident(&gone.name)));
    }
    for policy in &is.policies {
        let name = quote_ident(&policy.name);
        let old = before.iter().find(|p| p.id == policy.id);
        if let Some(old) = old
            && old.name != policy.name
        {
            plan.attach.push(format!("ALTER POLICY {} ON {table} RENAME TO {name}", quote_ident(&old.name)));
        }
        let text = |p: &Policy| (p.command, p.permissive, p.roles.clone(), p.using.clone(), p.check.clone());
        if old.map(text) != Some(text(policy)) {
            if old.is_some() {
                plan.attach.push(format!("DROP POLICY {name} ON {table}"));
            }
            plan.attach.push(create_policy(&table, policy));
        }
        let comment = old.and_then(|old| old.comment.as_ref());
        plan.comment("POLICY", &format!("{name} ON {table}"), comment, policy.comment.as_ref());
    }
}

fn create_policy(table: &str, policy: &Policy) -> String {
    let command = match policy.command {
        'r' => "SELECT",
        'a' => "INSERT",
        'w' => "UPDATE",
        'd' => "DELETE",
        _ => "ALL",
    };
    let permissive = if policy.permissive { "PERMISSIVE" } else { "RESTRICTIVE" };
    let role = |role: &Option<String>| role.as_ref().map_or_else(|| "PUBLIC".to_owned(), |role| quote_ident(role));
    let roles: Vec<String> = policy.roles.iter().map(role).collect();
    let using = policy.using.as_ref().map(|text| format!(" USING ({text})")).unwrap_or_default();
    let check = policy.check.as_ref().map(|text| format!(" WITH CHECK ({text})")).unwrap_or_default();
    let (name, roles) = (quote_ident(&policy.name), roles.join(", "));
    format!("CREATE POLICY {name} ON {table} AS {permissive} FOR {command} TO {roles}{using}{check}")
}
