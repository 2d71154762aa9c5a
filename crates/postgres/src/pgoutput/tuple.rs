//! One row version.

use std::iter::FusedIterator;

use super::{DecodeError, Fault, reader::Reader};

/// One row version: a cell for each column of its [`Relation`](super::Relation), in that order.
///
/// Spec: "TupleData". The old tuple of a key ([`Old::Key`](super::Old::Key)) has all columns too; those outside the key
/// are null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple<'a> {
    columns: u16,
    unchanged: bool,
    cells: &'a [u8],
}

/// The value of one column of a row version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cell<'a> {
    /// SQL null.
    Null,
    /// A TOASTed value that the update did not touch; the stream does not carry it.
    Unchanged,
    /// The value as the type's output function writes it.
    Text(&'a [u8]),
    /// The value as the type's send function writes it.
    Binary(&'a [u8]),
}

impl<'a> Tuple<'a> {
    /// Checks every cell of the tuple that starts here and passes over it.
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let columns = reader.u16()?;
        // A cell is one byte or more.
        reader.require(usize::from(columns))?;
        let start = reader.rest();
        let mut unchanged = false;
        for _ in 0..columns {
            match reader.u8()? {
                b'n' => {}
                b'u' => unchanged = true,
                b't' | b'b' => {
                    // A length is an Int32; a negative one is larger than any message and fails as such.
                    let length = reader.u32()?;
                    reader.bytes(length as usize)?;
                }
                other => return Err(reader.fail_behind(Fault::UnknownSelector(other))),
            }
        }
        let cells = &start[..start.len() - reader.rest().len()];
        Ok(Self { columns, unchanged, cells })
    }

    /// Number of columns.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.columns)
    }

    /// Whether the table has no columns.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.columns == 0
    }

    /// The cells in column order. Cannot fail: they were checked when the message was parsed.
    #[must_use]
    pub fn cells(&self) -> Cells<'a> {
        Cells { left: self.columns, rest: self.cells }
    }

    /// Whether a cell is [`Cell::Unchanged`].
    #[must_use]
    pub fn has_unchanged(&self) -> bool {
        self.unchanged
    }

    /// Appends the cells to `arena`, to be read from there after the message is gone.
    pub fn save(&self, arena: &mut Vec<u8>) -> SavedTuple {
        let start = arena.len();
        arena.extend_from_slice(self.cells);
        SavedTuple { start, length: self.cells.len(), columns: self.columns, unchanged: self.unchanged }
    }
}

/// Where a [`Tuple`] lies in the arena that it was saved to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SavedTuple {
    start: usize,
    length: usize,
    columns: u16,
    unchanged: bool,
}

impl SavedTuple {
    /// The tuple, in the arena that it was saved to. In any other it has fewer cells or wrong ones.
    #[must_use]
    pub fn tuple<'a>(&self, arena: &'a [u8]) -> Tuple<'a> {
        let cells = arena.get(self.start..self.end()).unwrap_or_default();
        Tuple { columns: self.columns, unchanged: self.unchanged, cells }
    }

    /// Whether a cell is [`Cell::Unchanged`].
    #[must_use]
    pub fn has_unchanged(&self) -> bool {
        self.unchanged
    }

    /// One past the last byte of the tuple in its arena.
    #[must_use]
    pub fn end(&self) -> usize {
        self.start + self.length
    }
}

impl<'a> IntoIterator for Tuple<'a> {
    type Item = Cell<'a>;
    type IntoIter = Cells<'a>;

    fn into_iter(self) -> Cells<'a> {
        self.cells()
    }
}

/// The cells of a [`Tuple`].
#[derive(Debug, Clone)]
pub struct Cells<'a> {
    left: u16,
    rest: &'a [u8],
}

impl Cells<'_> {
    /// Bytes of the cells still to come: the value just returned ends this far before the end of its tuple.
    #[must_use]
    pub fn bytes_left(&self) -> usize {
        self.rest.len()
    }
}

impl<'a> Iterator for Cells<'a> {
    type Item = Cell<'a>;

    fn next(&mut self) -> Option<Cell<'a>> {
        // The bytes were checked by `Tuple::read`, so none of the `?` ends the iteration early.
        self.left = self.left.checked_sub(1)?;
        let (&kind, rest) = self.rest.split_first()?;
        self.rest = rest;
        match kind {
            b'n' => return Some(Cell::Null),
            b'u' => return Some(Cell::Unchanged),
            _ => {}
        }
        let (length, rest) = rest.split_first_chunk()?;
        let (value, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        self.rest = rest;
        Some(if kind == b'b' { Cell::Binary(value) } else { Cell::Text(value) })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::from(self.left), Some(usize::from(self.left)))
    }
}

impl ExactSizeIterator for Cells<'_> {}
impl FusedIterator for Cells<'_> {}
