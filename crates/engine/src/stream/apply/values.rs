//! Column values on their way to the target: bytes from the stream are wrapped, never converted.

use std::error::Error;

use bytes::{BufMut, BytesMut};
use pgstream_postgres::pgoutput::Cell;
use tokio_postgres::types::{Format, IsNull, ToSql, Type};

/// What putting a parameter into its wire form comes to.
pub type Encoded = Result<IsNull, Box<dyn Error + Sync + Send>>;

/// One value as a statement parameter, in the form in which it came.
#[derive(Debug, Clone, Copy)]
pub struct Value<'a>(pub Cell<'a>);

impl ToSql for Value<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Encoded {
        match self.0 {
            Cell::Null | Cell::Unchanged => Ok(IsNull::Yes),
            Cell::Text(bytes) | Cell::Binary(bytes) => {
                out.put_slice(bytes);
                Ok(IsNull::No)
            }
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn to_sql_checked(&self, ty: &Type, out: &mut BytesMut) -> Encoded {
        self.to_sql(ty, out)
    }

    fn encode_format(&self, _: &Type) -> Format {
        match self.0 {
            Cell::Binary(_) => Format::Binary,
            // Of a type without a binary form the server refuses even a null in it.
            Cell::Text(_) | Cell::Null | Cell::Unchanged => Format::Text,
        }
    }
}

/// Bytes of a one-dimensional array in binary form, built value by value.
///
/// Layout (array_recv): dimensions, null flag, element type, length, lower bound, then length-prefixed values.
#[derive(Debug)]
pub struct Column {
    bytes: Vec<u8>,
    len: i32,
    form: Option<Form>,
    mixed: bool,
}

const HEADER: usize = 20;
/// `text`: the element type of columns that travel in text form.
const TEXT_OID: u32 = 25;

impl Column {
    /// An empty array.
    pub fn new() -> Self {
        let mut bytes = Vec::with_capacity(256);
        for field in [1, 0, 0, 0, 1] {
            bytes.put_i32(field);
        }
        Self { bytes, len: 0, form: None, mixed: false }
    }

    /// Appends one value; an absent one is NULL.
    pub fn push(&mut self, cell: Cell<'_>) {
        self.len += 1;
        let (form, value) = match cell {
            Cell::Null | Cell::Unchanged => {
                self.bytes[4..8].copy_from_slice(&1_i32.to_be_bytes());
                self.bytes.put_i32(-1);
                return;
            }
            Cell::Text(value) => (Form::Text, value),
            Cell::Binary(value) => (Form::Binary, value),
        };
        self.mixed |= *self.form.get_or_insert(form) != form;
        put_value(&mut self.bytes, value);
    }

    /// The form of all values; `None` when they differ.
    pub fn form(&self) -> Option<Form> {
        if self.mixed { None } else { Some(self.form.unwrap_or(Form::Binary)) }
    }

    /// The array, ready to be sent. Values in binary form are of the type `oid`.
    pub fn finish(mut self, oid: u32) -> Array {
        debug_assert!(self.bytes.len() >= HEADER);
        let element = if self.form == Some(Form::Text) { TEXT_OID } else { oid };
        self.bytes[8..12].copy_from_slice(&element.to_be_bytes());
        self.bytes[12..16].copy_from_slice(&self.len.to_be_bytes());
        Array(self.bytes)
    }
}

/// A value is shorter than 1 GiB: the server's own limit, which the frame it came in respected.
fn put_value(out: &mut impl BufMut, value: &[u8]) {
    out.put_i32(i32::try_from(value.len()).unwrap_or(i32::MAX));
    out.put_slice(value);
}

/// A finished [`Column`].
#[derive(Debug)]
pub struct Array(Vec<u8>);

impl ToSql for Array {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Encoded {
        out.put_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn to_sql_checked(&self, ty: &Type, out: &mut BytesMut) -> Encoded {
        self.to_sql(ty, out)
    }
}

/// Whether values of a statement's column came in text or in binary form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// Text representation.
    Text,
    /// Binary representation.
    Binary,
}

impl Form {
    /// The common form of these cells; `None` when they are mixed.
    pub fn of<'a>(cells: impl Iterator<Item = Cell<'a>>) -> Option<Self> {
        let mut form = None;
        for cell in cells {
            let this = match cell {
                Cell::Null | Cell::Unchanged => continue,
                Cell::Text(_) => Self::Text,
                Cell::Binary(_) => Self::Binary,
            };
            if *form.get_or_insert(this) != this {
                return None;
            }
        }
        Some(form.unwrap_or(Self::Binary))
    }
}

/// Rows in COPY's own format.
#[derive(Debug)]
pub struct CopyRows {
    form: Form,
    buffer: BytesMut,
    columns: i16,
}

impl CopyRows {
    /// No rows yet.
    pub fn new(form: Form, columns: usize) -> Self {
        let mut buffer = BytesMut::with_capacity(64 * 1024);
        if form == Form::Binary {
            buffer.put_slice(b"PGCOPY\n\xff\r\n\0");
            buffer.put_i32(0);
            buffer.put_i32(0);
        }
        // The server allows 1600 columns.
        Self { form, buffer, columns: i16::try_from(columns).unwrap_or(i16::MAX) }
    }

    /// Appends one row.
    pub fn push<'a>(&mut self, cells: impl Iterator<Item = Cell<'a>>) {
        match self.form {
            Form::Binary => {
                self.buffer.put_i16(self.columns);
                for cell in cells {
                    match cell {
                        Cell::Null | Cell::Unchanged => self.buffer.put_i32(-1),
                        Cell::Text(value) | Cell::Binary(value) => put_value(&mut self.buffer, value),
                    }
                }
            }
            Form::Text => {
                for (i, cell) in cells.enumerate() {
                    if i > 0 {
                        self.buffer.put_u8(b'\t');
                    }
                    match cell {
                        Cell::Null | Cell::Unchanged => self.buffer.put_slice(b"\\N"),
                        Cell::Text(value) | Cell::Binary(value) => put_escaped(&mut self.buffer, value),
                    }
                }
                self.buffer.put_u8(b'\n');
            }
        }
    }

    /// Bytes waiting to be sent.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// What has been gathered so far.
    pub fn split(&mut self) -> bytes::Bytes {
        self.buffer.split().freeze()
    }

    /// The last piece, with the trailer.
    pub fn finish(mut self) -> bytes::Bytes {
        if self.form == Form::Binary {
            self.buffer.put_i16(-1);
        }
        self.buffer.freeze()
    }
}

/// COPY text escapes (documentation of COPY, "Text Format").
fn put_escaped(out: &mut BytesMut, value: &[u8]) {
    for &byte in value {
        match byte {
            b'\\' => out.put_slice(b"\\\\"),
            b'\n' => out.put_slice(b"\\n"),
            b'\r' => out.put_slice(b"\\r"),
            b'\t' => out.put_slice(b"\\t"),
            other => out.put_u8(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_a_binary_array() {
        let mut column = Column::new();
        column.push(Cell::Binary(&7_i32.to_be_bytes()));
        column.push(Cell::Null);
        let Array(bytes) = column.finish(23);
        let expected: Vec<u8> = [1_i32, 1, 23, 2, 1, 4, 7, -1].iter().flat_map(|n| n.to_be_bytes()).collect();
        assert_eq!(bytes, expected);
    }

    #[test]
    fn mixed_forms_have_no_common_one() {
        assert_eq!(Form::of([Cell::Null, Cell::Text(b"a")].into_iter()), Some(Form::Text));
        assert_eq!(Form::of([Cell::Binary(b"a"), Cell::Text(b"a")].into_iter()), None);
        assert_eq!(Form::of(std::iter::empty()), Some(Form::Binary));
    }

    #[test]
    fn text_rows_escape_what_copy_would_read_otherwise() {
        let mut rows = CopyRows::new(Form::Text, 3);
        rows.push([Cell::Text(b"a\tb\\"), Cell::Null, Cell::Text(b"\\N\n")].into_iter());
        assert_eq!(&rows.finish()[..], b"a\\tb\\\\\t\\N\t\\\\N\\n\n");
    }

    #[test]
    fn binary_rows_carry_header_and_trailer() {
        let mut rows = CopyRows::new(Form::Binary, 1);
        rows.push([Cell::Binary(b"x")].into_iter());
        let bytes = rows.finish();
        assert!(bytes.starts_with(b"PGCOPY\n\xff\r\n\0"));
        assert_eq!(&bytes[19..], b"\0\x01\0\0\0\x01x\xff\xff");
    }
}
