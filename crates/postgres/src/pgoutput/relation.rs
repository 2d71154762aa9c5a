//! The shape of a table, sent before its first row and again when it may have changed.

use super::{DecodeError, Fault, Oid, RelationId, reader::Reader};

/// The shape of a table.
///
/// Spec: "Relation". Dropped columns are left out, generated ones too unless the publication includes them; columns
/// outside the publication's column list are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relation<'a> {
    /// The id that rows of this table carry.
    pub id: RelationId,
    /// Schema; the empty string on the wire is `pg_catalog`.
    pub namespace: &'a str,
    /// Table.
    pub name: &'a str,
    /// What an update or a delete says about the old row.
    pub replica_identity: ReplicaIdentity,
    column_count: u16,
    columns: &'a [u8],
}

/// `pg_class.relreplident`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReplicaIdentity {
    /// The primary key, if there is one.
    Default,
    /// Nothing: updates and deletes are refused by the source.
    Nothing,
    /// All columns.
    Full,
    /// The columns of a chosen unique index.
    Index,
}

/// One column of a [`Relation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column<'a> {
    /// Whether the column belongs to the replica identity; all of them do when that is full.
    pub key: bool,
    /// Name.
    pub name: &'a str,
    /// Type.
    pub type_oid: Oid,
    /// `atttypmod`; -1 for none.
    pub type_modifier: i32,
}

/// `LOGICALREP_IS_REPLICA_IDENTITY`, the one flag of a column.
const KEY: u8 = 1;
/// Flags, an empty name's zero, type and modifier.
const SMALLEST_COLUMN: usize = 1 + 1 + 4 + 4;

impl<'a> Relation<'a> {
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let id = reader.relation_id()?;
        let namespace = namespace(reader)?;
        let name = reader.name()?;
        let replica_identity = match reader.u8()? {
            b'd' => ReplicaIdentity::Default,
            b'n' => ReplicaIdentity::Nothing,
            b'f' => ReplicaIdentity::Full,
            b'i' => ReplicaIdentity::Index,
            other => return Err(reader.fail_behind(Fault::UnknownSelector(other))),
        };
        let column_count = reader.u16()?;
        reader.require(usize::from(column_count) * SMALLEST_COLUMN)?;
        let columns = reader.rest();
        for _ in 0..column_count {
            column(reader)?;
        }
        let columns = &columns[..columns.len() - reader.rest().len()];
        Ok(Self { id, namespace, name, replica_identity, column_count, columns })
    }

    /// Number of columns.
    #[must_use]
    pub fn column_count(&self) -> usize {
        usize::from(self.column_count)
    }

    /// The columns, in the order of the cells of a row. Cannot fail: they were checked when the message was parsed.
    pub fn columns(&self) -> impl Iterator<Item = Column<'a>> + use<'a> {
        let mut reader = Reader::new(self.columns);
        (0..self.column_count).map_while(move |_| column(&mut reader).ok())
    }
}

/// A schema; the empty string stands for `pg_catalog`.
pub(super) fn namespace<'a>(reader: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
    reader.name().map(|name| if name.is_empty() { "pg_catalog" } else { name })
}

fn column<'a>(reader: &mut Reader<'a>) -> Result<Column<'a>, DecodeError> {
    let key = reader.flags(KEY)? == KEY;
    Ok(Column { key, name: reader.name()?, type_oid: reader.oid()?, type_modifier: reader.i32()? })
}
