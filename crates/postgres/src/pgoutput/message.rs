//! The messages.

use super::{DecodeError, Fault, Oid, Relation, RelationId, Timestamp, Tuple, Xid, reader::Reader, relation};
use crate::Lsn;

/// One message of pgoutput, borrowed from the frame that carried it.
///
/// Each variant is the message of that name in "Logical Replication Message Formats".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// A transaction begins; its changes follow, whole and in commit order.
    Begin {
        /// LSN of the commit record, the `lsn` of the Commit that follows.
        final_lsn: Lsn,
        /// When it committed.
        commit_time: Timestamp,
        /// Its id.
        xid: Xid,
    },
    /// The transaction ends.
    Commit {
        /// LSN of the commit record.
        lsn: Lsn,
        /// One past the last byte of the transaction: the position to acknowledge once it is durable.
        end_lsn: Lsn,
        /// When it committed.
        commit_time: Timestamp,
    },
    /// The transaction came to the source from elsewhere.
    Origin {
        /// LSN of the commit there.
        lsn: Lsn,
        /// Name of the origin.
        name: &'a str,
    },
    /// The shape of a table.
    Relation(Relation<'a>),
    /// The name of a type that is not built in.
    Type {
        /// The OID that columns carry. For a domain the names are those of its base type.
        id: Oid,
        /// Schema.
        namespace: &'a str,
        /// Name.
        name: &'a str,
    },
    /// A row was inserted.
    Insert {
        /// Its table.
        relation: RelationId,
        /// The row.
        new: Tuple<'a>,
    },
    /// A row was updated.
    Update {
        /// Its table.
        relation: RelationId,
        /// The row before, when the replica identity is full or the key changed.
        old: Option<Old<'a>>,
        /// The row after.
        new: Tuple<'a>,
    },
    /// A row was deleted.
    Delete {
        /// Its table.
        relation: RelationId,
        /// The row before.
        old: Old<'a>,
    },
    /// Tables were truncated by one statement.
    Truncate(Truncate<'a>),
    /// `pg_logical_emit_message`. Any login role can send one.
    Logical(LogicalMessage<'a>),
    /// A block of a transaction still in progress begins; parse what follows with [`Message::parse_streamed`].
    StreamStart {
        /// The top-level transaction.
        xid: Xid,
        /// Whether this is its first block.
        first: bool,
    },
    /// The block ends.
    StreamStop,
    /// A streamed transaction committed.
    StreamCommit {
        /// The top-level transaction.
        xid: Xid,
        /// LSN of the commit record.
        lsn: Lsn,
        /// One past the last byte of the transaction.
        end_lsn: Lsn,
        /// When it committed.
        commit_time: Timestamp,
    },
    /// A streamed transaction, or a subtransaction of it, was rolled back.
    StreamAbort {
        /// The top-level transaction.
        xid: Xid,
        /// What was rolled back; the same as `xid` for all of it.
        subxid: Xid,
        /// LSN and time of the abort; sent only with `streaming = parallel`.
        abort: Option<(Lsn, Timestamp)>,
    },
    /// A two-phase transaction begins; its changes and [`Message::Prepare`] follow.
    BeginPrepare(Prepared<'a>),
    /// `PREPARE TRANSACTION`.
    Prepare(Prepared<'a>),
    /// `COMMIT PREPARED`; `lsn` and `time` are those of the commit.
    CommitPrepared(Prepared<'a>),
    /// `ROLLBACK PREPARED`.
    RollbackPrepared {
        /// One past the last byte of the prepare.
        prepare_end_lsn: Lsn,
        /// One past the last byte of the rollback.
        rollback_end_lsn: Lsn,
        /// When it was prepared.
        prepare_time: Timestamp,
        /// When it was rolled back.
        rollback_time: Timestamp,
        /// The transaction.
        xid: Xid,
        /// Its global id.
        gid: &'a str,
    },
    /// `PREPARE TRANSACTION` of a streamed transaction.
    StreamPrepare(Prepared<'a>),
}

/// The row before a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Old<'a> {
    /// Its replica identity columns; the others are null. With an update: the key changed.
    Key(Tuple<'a>),
    /// All of it: the replica identity is full.
    Full(Tuple<'a>),
}

impl<'a> Old<'a> {
    /// The cells.
    #[must_use]
    pub fn tuple(&self) -> Tuple<'a> {
        match self {
            Self::Key(tuple) | Self::Full(tuple) => *tuple,
        }
    }
}

/// Tables truncated by one statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truncate<'a> {
    /// `CASCADE` was written.
    pub cascade: bool,
    /// `RESTART IDENTITY` was written.
    pub restart_identity: bool,
    relations: &'a [u8],
}

impl<'a> Truncate<'a> {
    /// The tables that are in the publication.
    pub fn relations(&self) -> impl ExactSizeIterator<Item = RelationId> + use<'a> {
        let (ids, _) = self.relations.as_chunks::<4>();
        ids.iter().map(|id| RelationId(u32::from_be_bytes(*id)))
    }
}

/// What `pg_logical_emit_message` wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogicalMessage<'a> {
    /// Whether it belongs to the transaction around it.
    pub transactional: bool,
    /// Its position.
    pub lsn: Lsn,
    /// The prefix: bytes, because any role may choose them and a server in `SQL_ASCII` does not check them.
    pub prefix: &'a [u8],
    /// The content.
    pub content: &'a [u8],
}

/// A transaction in two-phase commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prepared<'a> {
    /// LSN of the prepare, or of the commit in [`Message::CommitPrepared`].
    pub lsn: Lsn,
    /// One past the last byte of that record.
    pub end_lsn: Lsn,
    /// When it happened.
    pub time: Timestamp,
    /// The transaction.
    pub xid: Xid,
    /// Its global id.
    pub gid: &'a str,
}

const TRUNCATE_CASCADE: u8 = 1;
const TRUNCATE_RESTART_IDENTITY: u8 = 2;
const MESSAGE_TRANSACTIONAL: u8 = 1;
/// Where the format has flags "currently unused".
const NO_FLAGS: u8 = 0;

impl<'a> Message<'a> {
    /// Reads a message outside a streamed block.
    ///
    /// # Errors
    /// When the bytes are not exactly one message of protocol 1 to 4.
    pub fn parse(message: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(message);
        let tag = reader.u8()?;
        let parsed = read(tag, &mut reader)?;
        reader.finish()?;
        Ok(parsed)
    }

    /// Reads a message between [`Message::StreamStart`] and [`Message::StreamStop`], where rows, truncates, relations,
    /// types and logical messages carry the id of the (sub)transaction that they belong to.
    ///
    /// # Errors
    /// When the bytes are not exactly one message that can stand in a streamed block.
    pub fn parse_streamed(message: &'a [u8]) -> Result<(Option<Xid>, Self), DecodeError> {
        let mut reader = Reader::new(message);
        let tag = reader.u8()?;
        let xid = match tag {
            b'I' | b'U' | b'D' | b'T' | b'R' | b'Y' | b'M' => Some(reader.xid()?),
            b'O' | b'E' => None,
            _ => return Err(reader.fail_behind(Fault::UnknownMessage)),
        };
        let parsed = read(tag, &mut reader)?;
        reader.finish()?;
        Ok((xid, parsed))
    }
}

/// The body of the message that starts with `tag`.
fn read<'a>(tag: u8, reader: &mut Reader<'a>) -> Result<Message<'a>, DecodeError> {
    Ok(match tag {
        b'I' => Message::Insert { relation: reader.relation_id()?, new: new_tuple(reader)? },
        b'U' => update(reader)?,
        b'D' => {
            let relation = reader.relation_id()?;
            let selector = reader.u8()?;
            Message::Delete { relation, old: old_tuple(selector, reader)? }
        }
        b'B' => Message::Begin { final_lsn: reader.lsn()?, commit_time: reader.timestamp()?, xid: reader.xid()? },
        b'C' => {
            reader.flags(NO_FLAGS)?;
            Message::Commit { lsn: reader.lsn()?, end_lsn: reader.lsn()?, commit_time: reader.timestamp()? }
        }
        b'R' => Message::Relation(Relation::read(reader)?),
        b'Y' => Message::Type { id: reader.oid()?, namespace: relation::namespace(reader)?, name: reader.name()? },
        b'T' => truncate(reader)?,
        b'O' => Message::Origin { lsn: reader.lsn()?, name: reader.name()? },
        b'M' => logical(reader)?,
        b'S' => Message::StreamStart { xid: reader.xid()?, first: reader.flags(1)? == 1 },
        b'E' => Message::StreamStop,
        b'c' => {
            let xid = reader.xid()?;
            reader.flags(NO_FLAGS)?;
            Message::StreamCommit { xid, lsn: reader.lsn()?, end_lsn: reader.lsn()?, commit_time: reader.timestamp()? }
        }
        b'A' => {
            let (xid, subxid) = (reader.xid()?, reader.xid()?);
            // Only a parallel stream of protocol 4 says more; the length tells.
            let short = reader.rest().is_empty();
            let abort = if short { None } else { Some((reader.lsn()?, reader.timestamp()?)) };
            Message::StreamAbort { xid, subxid, abort }
        }
        b'b' => Message::BeginPrepare(prepared(reader)?),
        b'P' | b'K' | b'p' => {
            reader.flags(NO_FLAGS)?;
            let transaction = prepared(reader)?;
            match tag {
                b'P' => Message::Prepare(transaction),
                b'K' => Message::CommitPrepared(transaction),
                _ => Message::StreamPrepare(transaction),
            }
        }
        b'r' => {
            reader.flags(NO_FLAGS)?;
            Message::RollbackPrepared {
                prepare_end_lsn: reader.lsn()?,
                rollback_end_lsn: reader.lsn()?,
                prepare_time: reader.timestamp()?,
                rollback_time: reader.timestamp()?,
                xid: reader.xid()?,
                gid: reader.name()?,
            }
        }
        _ => return Err(reader.fail_behind(Fault::UnknownMessage)),
    })
}

fn update<'a>(reader: &mut Reader<'a>) -> Result<Message<'a>, DecodeError> {
    let relation = reader.relation_id()?;
    Ok(match reader.u8()? {
        b'N' => Message::Update { relation, old: None, new: Tuple::read(reader)? },
        selector => {
            let old = old_tuple(selector, reader)?;
            Message::Update { relation, old: Some(old), new: new_tuple(reader)? }
        }
    })
}

fn old_tuple<'a>(selector: u8, reader: &mut Reader<'a>) -> Result<Old<'a>, DecodeError> {
    match selector {
        b'K' => Tuple::read(reader).map(Old::Key),
        b'O' => Tuple::read(reader).map(Old::Full),
        other => Err(reader.fail_behind(Fault::UnknownSelector(other))),
    }
}

fn new_tuple<'a>(reader: &mut Reader<'a>) -> Result<Tuple<'a>, DecodeError> {
    match reader.u8()? {
        b'N' => Tuple::read(reader),
        other => Err(reader.fail_behind(Fault::UnknownSelector(other))),
    }
}

fn truncate<'a>(reader: &mut Reader<'a>) -> Result<Message<'a>, DecodeError> {
    let count = reader.u32()? as usize;
    let flags = reader.flags(TRUNCATE_CASCADE | TRUNCATE_RESTART_IDENTITY)?;
    Ok(Message::Truncate(Truncate {
        cascade: flags & TRUNCATE_CASCADE != 0,
        restart_identity: flags & TRUNCATE_RESTART_IDENTITY != 0,
        // Saturation keeps a hostile count larger than any message on every word size.
        relations: reader.bytes(count.saturating_mul(4))?,
    }))
}

fn logical<'a>(reader: &mut Reader<'a>) -> Result<Message<'a>, DecodeError> {
    let transactional = reader.flags(MESSAGE_TRANSACTIONAL)? != 0;
    let (lsn, prefix) = (reader.lsn()?, reader.cstring()?);
    let length = reader.u32()? as usize;
    Ok(Message::Logical(LogicalMessage { transactional, lsn, prefix, content: reader.bytes(length)? }))
}

fn prepared<'a>(reader: &mut Reader<'a>) -> Result<Prepared<'a>, DecodeError> {
    Ok(Prepared {
        lsn: reader.lsn()?,
        end_lsn: reader.lsn()?,
        time: reader.timestamp()?,
        xid: reader.xid()?,
        gid: reader.name()?,
    })
}
