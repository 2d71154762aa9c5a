//! Row versions put together from several changes.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use pgstream_postgres::pgoutput::{Cell, Cells, SavedTuple};

use crate::mutants::{self, Mutant};

/// Where the cells of a net row are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Version {
    /// In one tuple of the batch.
    Saved(SavedTuple),
    /// In [`Merged`]: the first of them and their number.
    Merged { start: usize, columns: usize },
}

/// A cell that points into the arena of the batch: a large value is never copied to merge a row.
#[derive(Debug, Clone, Copy)]
enum MergedCell {
    Null,
    Unchanged,
    Text { start: usize, end: usize },
    Binary { start: usize, end: usize },
}

/// The cells of all merged rows.
#[derive(Debug, Default)]
pub(super) struct Merged(Vec<MergedCell>);

impl Merged {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The row `before`, updated to `after`: what `after` does not touch stays as it was.
    pub(super) fn update(&mut self, arena: &[u8], before: Version, after: SavedTuple) -> Version {
        if !after.tuple(arena).has_unchanged() {
            return Version::Saved(after);
        }
        let (start, columns) = match before {
            Version::Merged { start, columns } => (start, columns),
            Version::Saved(before) => {
                let start = self.0.len();
                self.0.extend(located(arena, before));
                (start, self.0.len() - start)
            }
        };
        for (cell, update) in self.0[start..start + columns].iter_mut().zip(located(arena, after)) {
            if !matches!(update, MergedCell::Unchanged) {
                *cell = update;
            }
        }
        Version::Merged { start, columns }
    }

    pub(super) fn cells<'a>(&'a self, arena: &'a [u8], version: &Version) -> RowCells<'a> {
        RowCells(match *version {
            Version::Saved(saved) => Source::Saved(saved.tuple(arena).cells()),
            Version::Merged { start, columns } => Source::Merged(arena, self.0[start..start + columns].iter()),
        })
    }
}

/// The cells of `saved` with their places in the arena.
fn located(arena: &[u8], saved: SavedTuple) -> impl Iterator<Item = MergedCell> {
    let mut cells = saved.tuple(arena).cells();
    std::iter::from_fn(move || {
        let cell = cells.next()?;
        let end = saved.end() - cells.bytes_left();
        Some(match cell {
            Cell::Null => MergedCell::Null,
            Cell::Unchanged => MergedCell::Unchanged,
            Cell::Text(value) => MergedCell::Text { start: end - value.len(), end },
            Cell::Binary(value) => MergedCell::Binary { start: end - value.len(), end },
        })
    })
}

/// The cells of a net row, in column order.
#[derive(Debug, Clone)]
pub struct RowCells<'a>(Source<'a>);

#[derive(Debug, Clone)]
enum Source<'a> {
    Saved(Cells<'a>),
    Merged(&'a [u8], std::slice::Iter<'a, MergedCell>),
}

impl<'a> Iterator for RowCells<'a> {
    type Item = Cell<'a>;

    fn next(&mut self) -> Option<Cell<'a>> {
        match &mut self.0 {
            Source::Saved(cells) => cells.next(),
            Source::Merged(arena, cells) => cells.next().map(|cell| match *cell {
                MergedCell::Null => Cell::Null,
                MergedCell::Unchanged => Cell::Unchanged,
                MergedCell::Text { start, end } => Cell::Text(&arena[start..end]),
                MergedCell::Binary { start, end } => Cell::Binary(&arena[start..end]),
            }),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match &self.0 {
            Source::Saved(cells) => cells.size_hint(),
            Source::Merged(_, cells) => cells.size_hint(),
        }
    }
}

impl ExactSizeIterator for RowCells<'_> {}

/// Which columns a group of updates sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Columns<'a> {
    /// Every column.
    All,
    /// Those whose bit is set: column `i` is bit `i % 64` of word `i / 64`.
    Only(&'a [u64]),
}

impl Columns<'_> {
    /// Whether the column at `index` is set.
    #[must_use]
    pub fn contains(&self, index: usize) -> bool {
        match self {
            Self::All => true,
            Self::Only(words) => words.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 == 1),
        }
    }
}

/// The distinct sets of columns in a plan; a number stands for each.
#[derive(Debug, Default)]
pub(super) struct ColumnSets {
    words: Vec<u64>,
    sets: Vec<(usize, usize)>,
    table: HashTable<(u64, u32)>,
    hasher: DefaultHashBuilder,
}

impl ColumnSets {
    /// The number of [`Columns::All`].
    pub(super) const ALL: u32 = 0;

    pub(super) fn clear(&mut self) {
        self.words.clear();
        self.sets.clear();
        self.table.clear();
    }

    /// The number of the set of columns that are not [`Cell::Unchanged`].
    pub(super) fn number<'a>(&mut self, cells: impl ExactSizeIterator<Item = Cell<'a>>) -> u32 {
        if mutants::is(Mutant::UnchangedIsNull) {
            return Self::ALL;
        }
        let start = self.words.len();
        self.words.resize(start + cells.len().div_ceil(64), 0);
        let mut all = true;
        for (index, cell) in cells.enumerate() {
            if cell == Cell::Unchanged {
                all = false;
            } else if let Some(word) = self.words.get_mut(start + index / 64) {
                *word |= 1 << (index % 64);
            }
        }
        if all {
            self.words.truncate(start);
            return Self::ALL;
        }
        let Self { words, sets, table, hasher } = self;
        let hash = hasher.hash_one(&words[start..]);
        let same = |&(other, number): &(u64, u32)| {
            let (from, to) = sets[number as usize - 1];
            other == hash && words[from..to] == words[start..]
        };
        if let Some(&(_, number)) = table.find(hash, same) {
            words.truncate(start);
            return number;
        }
        sets.push((start, words.len()));
        // A plan has fewer sets than a batch has changes, each of which takes more than one byte of memory.
        let number = u32::try_from(sets.len()).unwrap_or(u32::MAX);
        table.insert_unique(hash, (hash, number), |&(hash, _)| hash);
        number
    }

    /// The set of that number.
    pub(super) fn get(&self, number: u32) -> Columns<'_> {
        match (number as usize).checked_sub(1).and_then(|index| self.sets.get(index)) {
            Some(&(from, to)) => Columns::Only(&self.words[from..to]),
            None => Columns::All,
        }
    }
}
