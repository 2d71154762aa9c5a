//! The plan of each table entry, by example, and all of them against a model that applies changes one by one.

mod model;

use pgstream_postgres::pgoutput::{Cell, Message};

use self::model::wire;
use super::{Columns, NetRow, NetRows, Plan, Planner, Reason};
use crate::stream::batch::{Batch, Kind, RelIndex, Rows, Step, Truncate};

const TABLE: RelIndex = RelIndex(0);

/// Pushes a change written as the stream writes it: `I 1,a`, `U 1,b`, `U K1,~ 2,b`, `U O1,a 1,b`, `D K1,~`; `~` is null and
/// `=` an unchanged TOASTed value.
fn push(batch: &mut Batch, relation: RelIndex, change: &str) {
    let parts: Vec<&str> = change.split(' ').collect();
    let row = |text: &str| {
        let cell = |cell: &str| match cell {
            "~" => wire::NULL.to_vec(),
            "=" => wire::UNCHANGED.to_vec(),
            value => wire::text(value.as_bytes()),
        };
        wire::row(text.split(',').map(cell))
    };
    let bytes = match parts[..] {
        ["I", new] => [b"I\0\0\0\0N".to_vec(), row(new)].concat(),
        ["U", new] => [b"U\0\0\0\0N".to_vec(), row(new)].concat(),
        ["U", old, new] => {
            let (kind, old) = old.split_at(1);
            [b"U\0\0\0\0", kind.as_bytes(), &row(old), b"N", &row(new)].concat()
        }
        ["D", old] => {
            let (kind, old) = old.split_at(1);
            [b"D\0\0\0\0", kind.as_bytes(), &row(old)].concat()
        }
        _ => panic!("{change}"),
    };
    push_message(batch, relation, &bytes);
}

fn push_message(batch: &mut Batch, relation: RelIndex, bytes: &[u8]) {
    let kind = match Message::parse(bytes).unwrap() {
        Message::Insert { new, .. } => Kind::Insert(new),
        Message::Update { old, new, .. } => Kind::Update { old, new },
        Message::Delete { old, .. } => Kind::Delete(old),
        other => panic!("{other:?}"),
    };
    batch.push(relation, kind);
}

fn batch(changes: &[&str]) -> Batch {
    let mut batch = Batch::default();
    changes.iter().for_each(|change| push(&mut batch, TABLE, change));
    batch
}

fn rows(batch: &Batch) -> Rows<'_> {
    match batch.steps().next() {
        Some(Step::Rows(rows)) => rows,
        other => panic!("{other:?}"),
    }
}

fn text<'a>(cells: impl Iterator<Item = Cell<'a>>) -> String {
    let cell = |cell| match cell {
        Cell::Null => "~".to_owned(),
        Cell::Unchanged => "=".to_owned(),
        Cell::Text(value) | Cell::Binary(value) => String::from_utf8(value.to_vec()).unwrap(),
    };
    cells.map(cell).collect::<Vec<_>>().join(",")
}

/// The plan of the first relation in words: `-1 *2,b +3,c`, or the reason of its doubt.
fn words(plan: &Plan<'_>) -> String {
    if let Some(doubt) = plan.doubts().first() {
        return format!("{:?}@{}", doubt.reason, doubt.change);
    }
    let mut words = Vec::new();
    let mut add = |sign: &str, rows: NetRows<'_>, shown: fn(NetRow<'_>) -> String| {
        words.extend(rows.iter().map(|row| format!("{sign}{}", shown(row))));
    };
    for relation in plan.relations() {
        add("-", relation.deletes(), |row| text(row.key()));
        relation.updates().for_each(|group| add("*", group.rows, |row| text(row.cells())));
        add("+", relation.inserts(), |row| text(row.cells()));
    }
    words.join(" ")
}

fn net(changes: &[&str]) -> String {
    let batch = batch(changes);
    words(&Planner::default().plan(&rows(&batch), |_| Some(&[0])))
}

#[test]
fn the_first_change_of_a_key_stands_as_it_is() {
    assert_eq!(net(&["I 1,a"]), "+1,a");
    assert_eq!(net(&["U 1,a"]), "*1,a");
    assert_eq!(net(&["D K1,~"]), "-1");
}

#[test]
fn an_inserted_row_is_inserted_as_it_ends() {
    assert_eq!(net(&["I 1,a", "U 1,b"]), "+1,b");
    assert_eq!(net(&["I 1,a,x", "U 1,b,=", "U 1,=,~"]), "+1,b,~");
    assert_eq!(net(&["I 1,a", "D K1,~"]), "");
    assert_eq!(net(&["I 1,a", "D K1,~", "I 1,b"]), "+1,b");
    assert_eq!(net(&["I 1,a", "I 1,b"]), "Impossible@1");
}

#[test]
fn an_updated_row_sets_the_union_of_what_was_sent() {
    assert_eq!(net(&["U 1,a", "U 1,b"]), "*1,b");
    assert_eq!(net(&["U 1,a,=,=", "U 1,=,b,=", "U 1,c,=,="]), "*1,c,b,=");
    assert_eq!(net(&["U 1,a,=", "U 1,=,b"]), "*1,a,b");
    assert_eq!(net(&["U 1,a", "D K1,~"]), "-1");
    assert_eq!(net(&["U 1,a", "I 1,b"]), "Impossible@1");
}

#[test]
fn a_replaced_row_is_deleted_and_inserted() {
    assert_eq!(net(&["D K1,~", "I 1,a"]), "-1 +1,a");
    assert_eq!(net(&["U 1,z", "D K1,~", "I 1,a,x", "U 1,b,="]), "Shape@2");
    assert_eq!(net(&["D K1,~,~", "I 1,a,x", "U 1,b,="]), "-1 +1,b,x");
    assert_eq!(net(&["D K1,~", "I 1,a", "D K1,~"]), "-1");
    assert_eq!(net(&["D K1,~", "I 1,a", "I 1,a"]), "Impossible@2");
}

#[test]
fn a_row_that_is_gone_cannot_change() {
    assert_eq!(net(&["D K1,~", "U 1,a"]), "Impossible@1");
    assert_eq!(net(&["D K1,~", "D K1,~"]), "Impossible@1");
    assert_eq!(net(&["I 1,a", "D K1,~", "U 1,a"]), "Impossible@2");
    assert_eq!(net(&["I 1,a", "D K1,~", "D K1,~"]), "Impossible@2");
}

#[test]
fn a_key_that_moves_or_is_not_known_is_doubtful() {
    assert_eq!(net(&["I 3,c", "U K1,~ 2,b"]), "KeyChanged@1");
    assert_eq!(net(&["U O1,a 2,b"]), "KeyChanged@0");
    assert_eq!(net(&["U O1,a 1,b"]), "*1,b");
    // A TOASTed key: the old one is sent although it did not change.
    assert_eq!(net(&["U K1,~ =,b"]), "*=,b");
    assert_eq!(net(&["U =,b"]), "UnknownKey@0");
    assert_eq!(net(&["I ~,b"]), "NullKey@0");
    assert_eq!(net(&["I 1,="]), "Shape@0");
}

#[test]
fn a_toasted_key_is_read_from_the_old_row() {
    let batch = batch(&["U K1,~ =,b"]);
    let rows = rows(&batch);
    let mut planner = Planner::default();
    let plan = planner.plan(&rows, |_| Some(&[0]));
    let group = plan.relations().next().unwrap().updates().next().unwrap();
    assert!(!group.columns.contains(0) && group.columns.contains(1));
    assert_eq!(text(group.rows.iter().next().unwrap().key()), "1");
}

#[test]
fn the_key_columns_may_come_in_any_order() {
    let batch = batch(&["I a,1,x", "I b,1,y", "U b,1,z", "D Ka,1,~", "D Kc,1,~"]);
    let rows = rows(&batch);
    assert_eq!(words(&Planner::default().plan(&rows, |_| Some(&[1, 0]))), "-1,c +b,1,z");
    // Equal concatenations are not equal keys.
    let ambiguous = self::batch(&["I a,bc,1", "I ab,c,2"]);
    assert_eq!(words(&Planner::default().plan(&self::rows(&ambiguous), |_| Some(&[0, 1]))), "+a,bc,1 +ab,c,2");
    assert_eq!(words(&Planner::default().plan(&self::rows(&ambiguous), |_| Some(&[9]))), "Shape@0");
}

#[test]
fn without_a_key_only_inserts_are_sure() {
    for none in [None, Some(&[][..])] {
        let inserts = batch(&["I 2,b", "I 1,a", "I 2,b"]);
        assert_eq!(words(&Planner::default().plan(&rows(&inserts), |_| none)), "+2,b +1,a +2,b");
        let update = batch(&["I 2,b", "U O2,b 2,c"]);
        assert_eq!(words(&Planner::default().plan(&rows(&update), |_| none)), "NoKey@1");
    }
}

#[test]
fn statements_are_sorted_and_grouped_by_columns() {
    let changes = ["U 3,c,=", "U 1,=,a", "U 2,b,=", "U 4,d,d", "I 9,i,i", "I 8,h,h", "D K7,~,~", "D K6,~,~"];
    assert_eq!(net(&changes), "-6 -7 *4,d,d *2,b,= *3,c,= *1,=,a +9,i,i +8,h,h");
    let batch = batch(&changes);
    let rows = rows(&batch);
    let mut planner = Planner::default();
    let plan = planner.plan(&rows, |_| Some(&[0]));
    let columns: Vec<_> = plan.relations().flat_map(|relation| relation.updates().map(|group| group.columns)).collect();
    assert_eq!(columns, [Columns::All, Columns::Only(&[0b011]), Columns::Only(&[0b101])]);
}

#[test]
fn a_doubtful_relation_leaves_the_others_alone() {
    let mut batch = Batch::default();
    let other = RelIndex(5);
    push(&mut batch, TABLE, "I 1,a");
    push(&mut batch, other, "I 1,a");
    push(&mut batch, TABLE, "U K1,~ 2,b");
    push(&mut batch, other, "U 1,b");
    push(&mut batch, TABLE, "D K2,~");
    let rows = rows(&batch);
    let mut planner = Planner::default();
    let plan = planner.plan(&rows, |_| Some(&[0]));
    assert_eq!(
        plan.doubts().iter().map(|doubt| (doubt.relation, doubt.reason)).collect::<Vec<_>>(),
        [(TABLE, Reason::KeyChanged)]
    );
    assert_eq!(plan.relations().map(|relation| relation.relation()).collect::<Vec<_>>(), [other]);
    let doubtful = rows.numbers().zip(rows.iter()).filter(|(_, change)| model::is_doubtful(&plan, change));
    assert_eq!(doubtful.map(|(number, _)| number).collect::<Vec<_>>(), [0, 2, 4]);
}

#[test]
fn nothing_moves_across_a_truncate_or_a_barrier() {
    let mut batch = Batch::default();
    assert!(batch.is_empty() && batch.steps().next().is_none());
    batch.barrier();
    push(&mut batch, TABLE, "I 1,a");
    let truncate = Truncate { relations: vec![TABLE], cascade: true, restart_identity: false };
    batch.truncate(truncate.clone());
    batch.truncate(truncate.clone());
    batch.barrier();
    push(&mut batch, TABLE, "I 1,b");
    batch.barrier();
    batch.barrier();
    push(&mut batch, TABLE, "D K1,~");
    let mut planner = Planner::default();
    let mut steps = Vec::new();
    for step in batch.steps() {
        steps.push(match step {
            Step::Rows(rows) => words(&planner.plan(&rows, |_| Some(&[0]))),
            Step::Truncate(found) => {
                assert_eq!(*found, truncate);
                "truncate".to_owned()
            }
        });
    }
    assert_eq!(steps, ["+1,a", "truncate", "truncate", "+1,b", "-1"]);
    assert_eq!(batch.len(), 3);
    assert!(batch.bytes() > 3 * 10);
}
