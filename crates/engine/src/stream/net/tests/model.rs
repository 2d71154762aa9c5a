//! Random but possible histories of three tables, applied one by one and as planned.

use std::collections::BTreeMap;

use pgstream_postgres::pgoutput::{Cell, Old, Tuple};
use proptest::{collection::vec, prelude::*};

use self::wire::Owned;
use super::push_message;
use crate::stream::{
    batch::{Batch, Change, Kind, RelIndex, Step, Truncate},
    net::{Images, KeyCells, Plan, Planner, RelationPlan},
};

/// The cells of pgoutput, written.
pub mod wire {
    use super::Cell;

    pub const NULL: &[u8] = b"n";
    pub const UNCHANGED: &[u8] = b"u";

    /// A value of a model's row: `None` is null.
    pub type Owned = Option<Vec<u8>>;

    pub fn text(value: &[u8]) -> Vec<u8> {
        counted(b't', value)
    }

    pub fn binary(value: &[u8]) -> Vec<u8> {
        counted(b'b', value)
    }

    fn counted(kind: u8, value: &[u8]) -> Vec<u8> {
        [&[kind], &u32::try_from(value.len()).unwrap().to_be_bytes()[..], value].concat()
    }

    pub fn row(cells: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
        let cells: Vec<_> = cells.collect();
        [u16::try_from(cells.len()).unwrap().to_be_bytes().to_vec(), cells.concat()].concat()
    }

    /// `None` for an unchanged value.
    pub fn owned(cell: Cell<'_>) -> Option<Owned> {
        match cell {
            Cell::Null => Some(None),
            Cell::Unchanged => None,
            Cell::Text(value) | Cell::Binary(value) => Some(Some(value.to_vec())),
        }
    }
}

/// A key, a second unique column, two columns that may be TOASTed.
const COLUMNS: usize = 4;
type Row = [Owned; COLUMNS];

/// 0: key (0), default identity. 1: key (1, 0), full identity. 2: no key, full identity.
const TABLES: usize = 3;
const KEYLESS: usize = 2;

fn key_columns(relation: RelIndex) -> Option<&'static [usize]> {
    [Some(&[0][..]), Some(&[1, 0]), None][relation.0 as usize]
}

fn is_full(table: usize) -> bool {
    table > 0
}

/// Columns that make up a row's identity in the model: those of the key, or all.
fn identity(table: usize, row: &Row) -> Vec<Owned> {
    match key_columns(relation(table)) {
        Some(columns) => columns.iter().map(|&column| row[column].clone()).collect(),
        None => row.to_vec(),
    }
}

fn relation(table: usize) -> RelIndex {
    RelIndex(u32::try_from(table).unwrap())
}

/// Tables of rows by identity, with the number of duplicates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Database([BTreeMap<Vec<Owned>, Vec<Row>>; TABLES]);

impl Database {
    fn insert(&mut self, table: usize, row: Row) {
        let same = self.0[table].entry(identity(table, &row)).or_default();
        assert!(same.is_empty() || key_columns(relation(table)).is_none(), "duplicate key");
        same.push(row);
    }

    fn delete(&mut self, table: usize, identity: &[Owned]) -> Row {
        let same = self.0[table].get_mut(identity).expect("the row to delete");
        let row = same.pop().expect("the row to delete");
        if same.is_empty() {
            self.0[table].remove(identity);
        }
        row
    }

    fn rows(&self, table: usize) -> impl Iterator<Item = &Row> {
        self.0[table].values().flatten()
    }

    /// One change, as the row-by-row path applies it.
    fn apply(&mut self, change: Change<'_>) {
        let table = change.relation.0 as usize;
        let whole = |tuple: Tuple<'_>| -> Row {
            let cells: Vec<Owned> = tuple.cells().map(|cell| wire::owned(cell).unwrap()).collect();
            cells.try_into().unwrap()
        };
        match change.kind {
            Kind::Insert(new) => self.insert(table, whole(new)),
            Kind::Update { old, new } => {
                let sent: Vec<Option<Owned>> = new.cells().map(wire::owned).collect();
                let before = match old {
                    Some(old) => identity(table, &whole(old.tuple())),
                    None => key_columns(change.relation)
                        .unwrap()
                        .iter()
                        .map(|&column| sent[column].clone().unwrap())
                        .collect(),
                };
                let mut row = self.delete(table, &before);
                row.iter_mut().zip(sent).for_each(|(cell, sent)| {
                    if let Some(sent) = sent {
                        *cell = sent
                    }
                });
                self.insert(table, row);
            }
            Kind::Delete(Old::Key(old) | Old::Full(old)) => {
                self.delete(table, &identity(table, &whole(old)));
            }
        }
    }

    /// The plan of one relation, as the set-wise path applies it.
    fn apply_plan(&mut self, plan: &RelationPlan<'_>) {
        let table = plan.relation().0 as usize;
        let key = |cells: KeyCells<'_>| -> Vec<Owned> { cells.map(|cell| wire::owned(cell).unwrap()).collect() };
        for row in plan.deletes().iter() {
            self.delete(table, &key(row.key()));
        }
        for group in plan.updates() {
            assert!(!group.rows.is_empty());
            for row in group.rows.iter() {
                let key = key(row.key());
                let found = self.0[table].get_mut(&key).expect("the row to update");
                for (column, cell) in row.cells().enumerate() {
                    let value = wire::owned(cell);
                    assert_eq!(value.is_some(), group.columns.contains(column));
                    if let Some(value) = value {
                        found[0][column] = value;
                    }
                }
                assert_eq!(identity(table, &found[0]), key, "an update leaves the key alone");
            }
        }
        for row in plan.inserts().iter() {
            let cells: Vec<Owned> = row.cells().map(|cell| wire::owned(cell).expect("a whole row")).collect();
            let row: Row = cells.try_into().unwrap();
            // Deletes and updates came first, so no other unique constraint is in the way.
            assert!(table != 0 || self.rows(table).all(|other| other[1] != row[1]), "unique violation");
            self.insert(table, row);
        }
    }
}

impl Database {
    /// The net effect on the table without a key, as its statements apply it.
    fn apply_images(&mut self, images: &Images<'_>) {
        let row = |image: usize| -> Row {
            let cells: Vec<Owned> = images.cells(image).iter().map(|&cell| wire::owned(cell).unwrap()).collect();
            cells.try_into().unwrap()
        };
        let deletes = images.deletes();
        for (&image, &size) in deletes.images.iter().zip(&deletes.sizes) {
            (0..size).for_each(|_| drop(self.delete(KEYLESS, &row(image))));
        }
        let (groups, becomes) = images.updates();
        let mut places: Vec<(i64, i64)> = groups.places.clone();
        // All rows are found before the first of them changes.
        for &(group, _) in &places {
            self.delete(KEYLESS, &row(groups.images[usize::try_from(group).unwrap()]));
        }
        becomes.iter().for_each(|&image| self.insert(KEYLESS, row(image)));
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), becomes.len(), "each update has a place of its own");
        assert!(groups.sizes.iter().sum::<i64>() == i64::try_from(places.len()).unwrap());
        images.inserts().iter().for_each(|&image| self.insert(KEYLESS, row(image)));
    }
}

/// What the generator wants next; what is possible at that point is done.
#[derive(Debug, Clone)]
struct Wish {
    table: usize,
    key: u8,
    act: u8,
    unique: u8,
    toasted: [Option<u8>; 2],
    unchanged: [bool; 2],
}

fn wish() -> impl Strategy<Value = Wish> {
    let value = || proptest::option::weighted(0.8, 0..4_u8);
    (0..TABLES, 0..4_u8, 0..64_u8, 0..8_u8, [value(), value()], any::<[bool; 2]>())
        .prop_map(|(table, key, act, unique, toasted, unchanged)| Wish { table, key, act, unique, toasted, unchanged })
}

impl Wish {
    fn row(&self) -> Row {
        let text = |value: u8| Some(format!("value {value}").into_bytes());
        let [first, second] = self.toasted.map(|value| value.and_then(text));
        [Some(vec![0, 0, 0, self.key]), Some(vec![self.unique]), first, second]
    }

    /// The same for the table without a key, where it changes rows as often as others.
    fn without_key(self) -> Self {
        let act = if self.act < 44 { self.act % 20 + 1 } else { self.act };
        Self { table: KEYLESS, act: if self.act.is_multiple_of(3) { 20 } else { act }, ..self }
    }

    /// Makes the change on the source, and tells it to the batch.
    fn perform(&self, source: &mut Database, batch: &mut Batch) {
        let Self { table, act, .. } = *self;
        let row = self.row();
        let is_unique = |source: &Database, ignored: Option<&Row>| {
            table != 0 || source.rows(table).all(|other| other[1] != row[1] || Some(other) == ignored)
        };
        if act == 0 {
            let relations = (0..=table).map(relation).collect();
            batch.truncate(Truncate { relations, cascade: false, restart_identity: false });
            source.0[..=table].iter_mut().for_each(BTreeMap::clear);
            return;
        }
        let found = source.rows(table).find(|other| other[0] == row[0]).cloned();
        match found {
            Some(found) if act < 20 => {
                source.delete(table, &identity(table, &found));
                push_message(batch, relation(table), &delete(table, &found));
            }
            // The table without a key has mostly inserts, or it would always be doubtful.
            Some(found) if table < 2 || act == 20 => {
                // In the second table the unique column is part of the key and hardly ever changes.
                let moves = act > 61;
                let mut new = row.clone();
                if table == 1 && !moves {
                    new[1].clone_from(&found[1]);
                }
                if table == 0 && moves {
                    new[0] = Some(vec![0, 0, 0, self.unique]);
                }
                for (column, &unchanged) in self.unchanged.iter().enumerate() {
                    if unchanged && found[2 + column].is_some() {
                        new[2 + column].clone_from(&found[2 + column]);
                    }
                }
                let target = identity(table, &new);
                let taken = target != identity(table, &found) && source.0[table].contains_key(&target);
                let free = is_unique(source, Some(&found));
                if (table < 2 && taken) || !free {
                    return;
                }
                source.delete(table, &identity(table, &found));
                source.insert(table, new.clone());
                push_message(batch, relation(table), &update(table, &found, &new, self.unchanged));
            }
            _ => {
                let taken = table < 2 && source.0[table].contains_key(&identity(table, &row));
                if !taken && is_unique(source, None) {
                    source.insert(table, row.clone());
                    push_message(batch, relation(table), &[b"I\0\0\0\0N".to_vec(), encode(&row, [false; 2])].concat());
                }
            }
        }
    }
}

fn encode(row: &Row, unchanged: [bool; 2]) -> Vec<u8> {
    let cell = |(column, value): (usize, &Owned)| match value {
        None => wire::NULL.to_vec(),
        Some(_) if column >= 2 && unchanged[column - 2] => wire::UNCHANGED.to_vec(),
        Some(value) if column == 0 => wire::binary(value),
        Some(value) => wire::text(value),
    };
    wire::row(row.iter().enumerate().map(cell))
}

fn old(table: usize, row: &Row) -> Vec<u8> {
    if is_full(table) {
        [b"O".to_vec(), encode(row, [false; 2])].concat()
    } else {
        [b"K".to_vec(), encode(&[row[0].clone(), None, None, None], [false; 2])].concat()
    }
}

fn delete(table: usize, row: &Row) -> Vec<u8> {
    [b"D\0\0\0\0".to_vec(), old(table, row)].concat()
}

fn update(table: usize, before: &Row, after: &Row, unchanged: [bool; 2]) -> Vec<u8> {
    let shown = is_full(table) || before[0] != after[0];
    let old = if shown { old(table, before) } else { Vec::new() };
    let kept = |column: usize| unchanged[column] && before[2 + column] == after[2 + column];
    [b"U\0\0\0\0".to_vec(), old, b"N".to_vec(), encode(after, [kept(0), kept(1)])].concat()
}

pub fn is_doubtful(plan: &Plan<'_>, change: &Change<'_>) -> bool {
    plan.doubts().iter().any(|doubt| doubt.relation == change.relation)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// The source's rows, the rows after each change in turn, and the rows after the plan are the same.
    #[test]
    fn the_plan_leaves_what_the_changes_leave(before in vec(wish(), 0..12), batches in vec(vec(wish(), 1..40), 1..4)) {
        let mut source = Database::default();
        let mut batch = Batch::default();
        before.iter().for_each(|wish| wish.perform(&mut source, &mut batch));
        let (mut one_by_one, mut set_wise) = (source.clone(), source.clone());

        let mut planner = Planner::default();
        for wishes in &batches {
            batch = Batch::default();
            wishes.iter().for_each(|wish| wish.perform(&mut source, &mut batch));
            for step in batch.steps() {
                match step {
                    Step::Truncate(truncate) => for relation in &truncate.relations {
                        one_by_one.0[relation.0 as usize].clear();
                        set_wise.0[relation.0 as usize].clear();
                    },
                    Step::Rows(rows) => {
                        rows.iter().for_each(|change| one_by_one.apply(change));
                        let plan = planner.plan(&rows, key_columns);
                        plan.relations().for_each(|relation| set_wise.apply_plan(&relation));
                        rows.iter().filter(|change| is_doubtful(&plan, change)).for_each(|change| set_wise.apply(change));
                    }
                }
            }
            prop_assert_eq!(&one_by_one, &source);
            prop_assert_eq!(&set_wise, &source);
        }
    }

    /// Nor does it matter which of several equal rows a change of a table without a key takes.
    #[test]
    fn images_leave_what_the_changes_leave(before in vec(wish(), 0..12), batches in vec(vec(wish(), 1..40), 1..4)) {
        let mut source = Database::default();
        let mut batch = Batch::default();
        before.iter().for_each(|wish| wish.clone().without_key().perform(&mut source, &mut batch));
        let mut target = source.clone();
        for wishes in &batches {
            batch = Batch::default();
            wishes.iter().for_each(|wish| wish.clone().without_key().perform(&mut source, &mut batch));
            for step in batch.steps() {
                let Step::Rows(rows) = step else { continue };
                target.apply_images(&Images::fold(&rows, relation(KEYLESS), &[0, 1, 2, 3]).expect("rows are told whole"));
            }
            prop_assert_eq!(&target, &source);
        }
    }

    /// Histories that no source can have end in a doubt, never in a panic.
    #[test]
    fn an_impossible_history_never_panics(
        changes in vec((0..3_u32, 0..3_u8, vec(0..5_u8, 0..4), vec(0..5_u8, 0..4), any::<bool>()), 0..40),
    ) {
        let tuple = |cells: &[u8]| wire::row(cells.iter().map(|cell| match cell {
            0 => wire::NULL.to_vec(),
            1 => wire::UNCHANGED.to_vec(),
            value => wire::binary(&[*value]),
        }));
        let mut batch = Batch::default();
        for (relation, kind, old, new, shown) in &changes {
            let old = [b"O".to_vec(), tuple(old)].concat();
            let new = [b"N".to_vec(), tuple(new)].concat();
            let message = match kind {
                0 => [b"I\0\0\0\0".to_vec(), new],
                1 if *shown => [[b"U\0\0\0\0".to_vec(), old].concat(), new],
                1 => [b"U\0\0\0\0".to_vec(), new],
                _ => [b"D\0\0\0\0".to_vec(), old],
            };
            push_message(&mut batch, RelIndex(*relation), &message.concat());
        }
        let mut planner = Planner::default();
        for step in batch.steps() {
            let Step::Rows(rows) = step else { continue };
            let plan = planner.plan(&rows, |relation| [Some(&[0][..]), Some(&[2, 1]), None][relation.0 as usize]);
            for relation in plan.relations() {
                prop_assert!(plan.doubts().iter().all(|doubt| doubt.relation != relation.relation()));
                let updates = relation.updates().map(|group| group.rows);
                for rows in updates.chain([relation.deletes(), relation.inserts()]) {
                    prop_assert!(rows.iter().all(|row| row.key().count() <= 2 && row.cells().count() <= 4));
                }
            }
            for relation in 0..3 {
                Images::fold(&rows, RelIndex(relation), &[0, 1]);
            }
            let doubtful = rows.iter().filter(|change| is_doubtful(&plan, change)).count();
            prop_assert_eq!(doubtful > 0, !plan.doubts().is_empty());
        }
    }
}
