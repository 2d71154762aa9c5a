//! Random changes as SQL text.
//!
//! A worker changes only rows that it owns, apart from accounts: contention there is enough.

use rand::{Rng, rngs::SmallRng};

const ACCOUNTS: i32 = 1000;

/// One to five changes of one transaction.
pub(crate) fn changes(rng: &mut SmallRng, worker: i32, n: i64) -> String {
    (0..rng.random_range(1..=5)).map(|_| change(rng, worker, n)).collect()
}

/// A change that is undone by a savepoint; it also writes a number to the journal that must never be seen.
pub(crate) fn undone(rng: &mut SmallRng, worker: i32, n: i64) -> String {
    let changes = changes(rng, worker, n);
    format!("SAVEPOINT s; INSERT INTO load.journal VALUES ({worker}, -{n}, 'undone'); {changes} ROLLBACK TO s;")
}

/// Empties the side table. Alone in its transaction: the lock would make deadlocks with any other change.
pub(crate) fn truncate(rng: &mut SmallRng) -> &'static str {
    if rng.random() { "TRUNCATE load.side RESTART IDENTITY;" } else { "TRUNCATE load.side;" }
}

fn change(rng: &mut SmallRng, worker: i32, n: i64) -> String {
    match rng.random_range(0..14) {
        0..=2 => transfer(rng),
        3 => insert_items(rng, worker, n),
        // Leaves the big value alone.
        4 => format!("UPDATE load.items SET note = 'n {n}', amount = -amount WHERE {};", own_items(rng, worker)),
        5 => format!("UPDATE load.items SET big = {} WHERE {};", big(rng, n), own_items(rng, worker)),
        6 => format!("DELETE FROM load.items WHERE {};", own_items(rng, worker)),
        // New keys; with the big value unchanged.
        7 => format!("UPDATE load.items SET id = nextval('load.item_id') WHERE {};", own_items(rng, worker)),
        8 => twins(rng, n),
        9 => format!("INSERT INTO load.side (note) SELECT 'side {n}' FROM generate_series(1, {});", count(rng)),
        10 => order(rng),
        11 => format!(
            "INSERT INTO load.events SELECT nextval('load.event_id'), {}, 'worker {worker}' FROM generate_series(1, {});",
            rng.random_range(0..4),
            count(rng)
        ),
        12 => format!(
            "UPDATE load.events SET kind = (kind + 1) % 4 WHERE id IN (SELECT id FROM load.events
             WHERE note = 'worker {worker}' ORDER BY id DESC LIMIT {});",
            count(rng)
        ),
        _ => format!(
            "DELETE FROM load.events WHERE id IN (SELECT id FROM load.events
             WHERE note = 'worker {worker}' ORDER BY id LIMIT {});",
            count(rng)
        ),
    }
}

fn count(rng: &mut SmallRng) -> u32 {
    rng.random_range(1..=8)
}

/// The lower account first: two transfers never wait for each other.
fn transfer(rng: &mut SmallRng) -> String {
    let (one, other) = (rng.random_range(1..=ACCOUNTS), rng.random_range(1..=ACCOUNTS));
    let amount = rng.random_range(-50..=50);
    if one == other {
        return format!("UPDATE load.accounts SET balance = balance WHERE id = {one};");
    }
    let (low, high) = (one.min(other), one.max(other));
    format!(
        "UPDATE load.accounts SET balance = balance - ({amount}) WHERE id = {low};
         UPDATE load.accounts SET balance = balance + ({amount}) WHERE id = {high};"
    )
}

fn insert_items(rng: &mut SmallRng, worker: i32, n: i64) -> String {
    format!(
        "INSERT INTO load.items (owner, note, big, bytes, tags, doc, amount)
         SELECT {worker}, E'tab\\t quote'' back\\\\slash \\u00e9 ' || i, {}, decode(md5(i::text), 'hex'),
                ARRAY['{{', '\"', NULL, i::text], '{{\"n\": {n}}}', CASE i WHEN 1 THEN 'NaN' ELSE i / 3.0 END
         FROM generate_series(1, {}) i;",
        big(rng, n),
        count(rng)
    )
}

/// NULL, short, or long enough to be stored out of line.
fn big(rng: &mut SmallRng, n: i64) -> String {
    match rng.random_range(0..4) {
        0 => "NULL".to_owned(),
        1 => format!("'small {n}'"),
        _ => format!("repeat(md5('{n}'), {})", rng.random_range(80..800)),
    }
}

fn own_items(rng: &mut SmallRng, worker: i32) -> String {
    let direction = if rng.random() { "DESC" } else { "ASC" };
    format!("id IN (SELECT id FROM load.items WHERE owner = {worker} ORDER BY id {direction} LIMIT {})", count(rng))
}

/// Of equal rows, exactly one or a few are changed.
fn twins(rng: &mut SmallRng, n: i64) -> String {
    let kind = rng.random_range(0..5);
    let few = if rng.random() { 1 } else { count(rng) };
    let these = format!(
        "ctid = ANY (ARRAY(SELECT ctid FROM load.twins WHERE kind = {kind} LIMIT {few} OFFSET {} FOR UPDATE SKIP LOCKED))",
        count(rng)
    );
    match rng.random_range(0..4) {
        0 => format!("DELETE FROM load.twins WHERE {these};"),
        1 => format!("UPDATE load.twins SET kind = (kind + 1) % 5 WHERE {these};"),
        2 => format!("UPDATE load.twins SET note = CASE WHEN note IS NULL THEN 'twin' END WHERE {these};"),
        _ => format!(
            "INSERT INTO load.twins SELECT {kind}, 'twin', {} FROM generate_series(1, {});",
            big(rng, n),
            few + 1
        ),
    }
}

fn order(rng: &mut SmallRng) -> String {
    let account = rng.random_range(1..=ACCOUNTS);
    if rng.random_ratio(1, 3) {
        return format!("DELETE FROM load.orders WHERE account = {account};");
    }
    format!("INSERT INTO load.orders (account, total) VALUES ({account}, {}.25);", rng.random_range(0..100))
}
