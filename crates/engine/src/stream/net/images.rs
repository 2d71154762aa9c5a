//! The net effect on a table without a key, whose rows are told apart by all of their values.
//!
//! Equal rows are one as good as another, so what counts is how many there are of each image (the values of a row). A change
//! first takes a row that the batch itself has made, if one has its image:
//!
//! | | a row `x ─> y` of the batch has the image | none has |
//! |---|---|---|
//! | insert `y` | | a row `() ─> y` |
//! | update `y` to `z` | it becomes `x ─> z` | a row `y ─> z` |
//! | delete `y` | it becomes `x ─> ()` | a row `y ─> ()` |
//!
//! Left of the arrow stands what the target has before the batch, so all deletes, then all updates, then all inserts leave as
//! many rows of each image as the changes one by one.

use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable};
use pgstream_postgres::pgoutput::{Cell, Tuple};

use crate::stream::batch::{Kind, RelIndex, Rows};

/// The number of an image.
type Image = usize;

/// Where a row comes from, and what becomes of it.
#[derive(Debug, Clone, Copy)]
struct Row {
    before: Option<Image>,
    after: Option<Image>,
}

/// The net effect of the changes of one table.
#[derive(Debug)]
pub struct Images<'a> {
    width: usize,
    /// Of all images, one after the other; large values stay where they are.
    cells: Vec<Cell<'a>>,
    rows: Vec<Row>,
    hasher: DefaultHashBuilder,
}

/// Images in groups of equal ones.
#[derive(Debug, Default)]
pub struct Groups {
    /// One of each group.
    pub images: Vec<Image>,
    /// How many each has.
    pub sizes: Vec<i64>,
    /// Of each image that was grouped: the number of its group, and its place in it, from 1 on.
    pub places: Vec<(i64, i64)>,
}

impl<'a> Images<'a> {
    /// The net effect of the changes of `relation`; `columns` are all of its columns that are stored, ascending. `None`
    /// where the stream does not tell a row whole.
    pub fn fold(rows: &Rows<'a>, relation: RelIndex, columns: &[usize]) -> Option<Self> {
        let mut images =
            Self { width: columns.len(), cells: Vec::new(), rows: Vec::new(), hasher: DefaultHashBuilder::default() };
        // By their images, the rows that the batch has made.
        let mut made = HashTable::new();
        for change in rows.iter().filter(|change| change.relation == relation) {
            match change.kind {
                Kind::Insert(new) => {
                    let after = images.push(new, None, columns)?;
                    images.make(&mut made, Row { before: None, after: Some(after) });
                }
                Kind::Delete(old) => {
                    let image = images.push(old.tuple(), None, columns)?;
                    match images.take(&mut made, image) {
                        Some(row) => images.rows[row].after = None,
                        None => images.rows.push(Row { before: Some(image), after: None }),
                    }
                }
                Kind::Update { old, new } => {
                    let old = old?.tuple();
                    let image = images.push(old, None, columns)?;
                    let row = images.take(&mut made, image);
                    let after = images.push(new, Some(old), columns)?;
                    match row {
                        Some(row) => {
                            images.rows[row].after = Some(after);
                            let hash = images.hash(after);
                            made.insert_unique(hash, (hash, row), |&(hash, _)| hash);
                        }
                        None => images.make(&mut made, Row { before: Some(image), after: Some(after) }),
                    }
                }
            }
        }
        Some(images)
    }

    /// The values of an image, in the order of the columns.
    pub fn cells(&self, image: Image) -> &[Cell<'a>] {
        &self.cells[image * self.width..(image + 1) * self.width]
    }

    /// Rows to delete.
    pub fn deletes(&self) -> Groups {
        self.group(self.rows.iter().filter(|row| row.after.is_none()).filter_map(|row| row.before))
    }

    /// Rows to update as they are before, and in the same order what each becomes. They are to be told from those that are
    /// deleted: those go first.
    pub fn updates(&self) -> (Groups, Vec<Image>) {
        let updates = || self.rows.iter().filter_map(|row| row.before.zip(row.after));
        (self.group(updates().map(|(before, _)| before)), updates().map(|(_, after)| after).collect())
    }

    /// Rows to insert, in commit order.
    pub fn inserts(&self) -> Vec<Image> {
        self.rows.iter().filter(|row| row.before.is_none()).filter_map(|row| row.after).collect()
    }

    /// Adds the image of a tuple; a value that an update left alone is that of `before`.
    fn push(&mut self, tuple: Tuple<'a>, before: Option<Tuple<'a>>, columns: &[usize]) -> Option<Image> {
        let image = self.cells.len().checked_div(self.width)?;
        let mut wanted = columns.iter().peekable();
        let mut before = before.map(|before| before.cells());
        for (i, cell) in tuple.cells().enumerate() {
            let old = before.as_mut().and_then(Iterator::next);
            if wanted.next_if_eq(&&i).is_some() {
                let cell = if cell == Cell::Unchanged { old? } else { cell };
                self.cells.push(Some(cell).filter(|cell| *cell != Cell::Unchanged)?);
            }
        }
        wanted.next().is_none().then_some(image)
    }

    /// A row that later changes of the batch may take.
    fn make(&mut self, made: &mut HashTable<(u64, usize)>, row: Row) {
        if let Some(after) = row.after {
            let hash = self.hash(after);
            made.insert_unique(hash, (hash, self.rows.len()), |&(hash, _)| hash);
        }
        self.rows.push(row);
    }

    /// A row of the batch that has this image now.
    fn take(&self, made: &mut HashTable<(u64, usize)>, image: Image) -> Option<usize> {
        let hash = self.hash(image);
        let same = |&(other, row): &(u64, usize)| {
            other == hash && self.rows[row].after.is_some_and(|after| self.cells(after) == self.cells(image))
        };
        made.find_entry(hash, same).ok().map(|entry| entry.remove().0.1)
    }

    fn group(&self, images: impl Iterator<Item = Image>) -> Groups {
        let mut known: HashTable<(u64, usize)> = HashTable::new();
        let mut groups = Groups::default();
        for image in images {
            let hash = self.hash(image);
            let same =
                |&(other, group): &(u64, usize)| other == hash && self.cells(groups.images[group]) == self.cells(image);
            let group = match known.find(hash, same) {
                Some(&(_, group)) => group,
                None => {
                    known.insert_unique(hash, (hash, groups.images.len()), |&(hash, _)| hash);
                    groups.images.push(image);
                    groups.sizes.push(0);
                    groups.images.len() - 1
                }
            };
            groups.sizes[group] += 1;
            // A batch has far fewer groups.
            groups.places.push((i64::try_from(group).unwrap_or(i64::MAX), groups.sizes[group]));
        }
        groups
    }

    fn hash(&self, image: Image) -> u64 {
        self.hasher.hash_one(self.cells(image))
    }
}
