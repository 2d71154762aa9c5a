//! Keys as bytes.
//!
//! ```text
//!  key (7, 'ab')  ->  00 00 00 07  61 62  │ b 00000004  t 00000002
//!                     values, in order      kind and length of each
//! ```
//!
//! With the lengths behind the values, equal bytes mean equal cells whatever the values contain, and bytes that sort next
//! to each other are neighbours in the target's index nearly always (negative numbers sort behind positive ones), which
//! is all that sorting is for.

use pgstream_postgres::pgoutput::{Cell, Tuple};

use super::Reason;

/// Kind and length.
const TAIL: usize = 1 + 4;

/// Appends the key of `tuple` to `keys`. After an error `keys` ends with rubbish.
pub(super) fn append(
    keys: &mut Vec<u8>,
    tails: &mut Vec<u8>,
    tuple: Tuple<'_>,
    columns: &[usize],
) -> Result<(), Reason> {
    tails.clear();
    for cell in select(tuple, columns) {
        let (kind, value) = match cell {
            Some(Cell::Text(value)) => (b't', value),
            Some(Cell::Binary(value)) => (b'b', value),
            Some(Cell::Null) => return Err(Reason::NullKey),
            Some(Cell::Unchanged) => return Err(Reason::UnknownKey),
            None => return Err(Reason::Shape),
        };
        let length = u32::try_from(value.len()).map_err(|_| Reason::Shape)?;
        keys.extend_from_slice(value);
        tails.push(kind);
        tails.extend_from_slice(&length.to_be_bytes());
    }
    keys.extend_from_slice(tails);
    Ok(())
}

/// Whether an update from `old` to `new` leaves the key alone. A TOASTed value that was not touched is the old one.
pub(super) fn same(old: Tuple<'_>, new: Tuple<'_>, columns: &[usize]) -> bool {
    select(old, columns).zip(select(new, columns)).all(|(old, new)| new == Some(Cell::Unchanged) || new == old)
}

/// The cells of `columns`; one pass when they ascend.
fn select<'a>(tuple: Tuple<'a>, columns: &[usize]) -> impl Iterator<Item = Option<Cell<'a>>> {
    let (mut cells, mut position) = (tuple.cells(), 0);
    columns.iter().map(move |&column| {
        if column < position {
            (cells, position) = (tuple.cells(), 0);
        }
        let cell = cells.nth(column - position);
        position = column + 1;
        cell
    })
}

/// The first eight bytes as a number, to compare most keys without looking at them.
pub(super) fn prefix(key: &[u8]) -> u64 {
    let mut first = [0; 8];
    let length = key.len().min(8);
    first[..length].copy_from_slice(&key[..length]);
    u64::from_be_bytes(first)
}

/// The cells of a key, in the order of the key's columns.
#[derive(Debug, Clone)]
pub struct KeyCells<'a> {
    values: &'a [u8],
    tails: &'a [u8],
}

impl<'a> KeyCells<'a> {
    pub(super) fn new(key: &'a [u8], columns: usize) -> Self {
        let (values, tails) = key.split_at(key.len().saturating_sub(columns * TAIL));
        Self { values, tails }
    }
}

impl<'a> Iterator for KeyCells<'a> {
    type Item = Cell<'a>;

    fn next(&mut self) -> Option<Cell<'a>> {
        // The bytes come from `append`, so none of the `?` ends the iteration early.
        let (&kind, rest) = self.tails.split_first()?;
        let (length, rest) = rest.split_first_chunk()?;
        self.tails = rest;
        let (value, rest) = self.values.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        self.values = rest;
        Some(if kind == b'b' { Cell::Binary(value) } else { Cell::Text(value) })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.tails.len() / TAIL;
        (left, Some(left))
    }
}

impl ExactSizeIterator for KeyCells<'_> {}
