//! An encoder of every message, written from the documentation, with owned messages that proptest can make.

use proptest::{collection::vec, prelude::*};

use super::super::{Cell, Message, Old, Prepared, ReplicaIdentity, Tuple};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnedCell {
    Null,
    Unchanged,
    Text(Vec<u8>),
    Binary(Vec<u8>),
}

type Row = Vec<OwnedCell>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedPrepared {
    lsn: u64,
    end_lsn: u64,
    time: i64,
    xid: u32,
    gid: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnedMessage {
    Begin(u64, i64, u32),
    Commit(u64, u64, i64),
    Origin(u64, String),
    Relation { id: u32, namespace: String, name: String, identity: u8, columns: Vec<(bool, String, u32, i32)> },
    Type(u32, String, String),
    Insert(u32, Row),
    Update(u32, Option<(u8, Row)>, Row),
    Delete(u32, (u8, Row)),
    Truncate(Vec<u32>, bool, bool),
    Logical(bool, u64, Vec<u8>, Vec<u8>),
    StreamStart(u32, bool),
    StreamStop,
    StreamCommit(u32, u64, u64, i64),
    StreamAbort(u32, u32, Option<(u64, i64)>),
    TwoPhase(u8, OwnedPrepared),
    RollbackPrepared(u64, u64, i64, i64, u32, String),
}

struct Writer(Vec<u8>);

impl Writer {
    fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }
    fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }
    fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }
    fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }
    fn i64(self, value: i64) -> Self {
        self.u64(value.cast_unsigned())
    }
    fn bytes(mut self, value: &[u8]) -> Self {
        self.0.extend(value);
        self
    }
    fn counted(self, value: &[u8]) -> Self {
        self.u32(u32::try_from(value.len()).unwrap()).bytes(value)
    }
    fn string(self, value: &str) -> Self {
        self.bytes(value.as_bytes()).u8(0)
    }
    fn namespace(self, value: &str) -> Self {
        self.string(if value == "pg_catalog" { "" } else { value })
    }
    fn row(mut self, row: &[OwnedCell]) -> Self {
        self = self.u16(u16::try_from(row.len()).unwrap());
        for cell in row {
            self = match cell {
                OwnedCell::Null => self.u8(b'n'),
                OwnedCell::Unchanged => self.u8(b'u'),
                OwnedCell::Text(value) => self.u8(b't').counted(value),
                OwnedCell::Binary(value) => self.u8(b'b').counted(value),
            };
        }
        self
    }
    fn prepared(self, transaction: &OwnedPrepared) -> Self {
        let OwnedPrepared { lsn, end_lsn, time, xid, gid } = transaction;
        self.u64(*lsn).u64(*end_lsn).i64(*time).u32(*xid).string(gid)
    }
}

impl OwnedMessage {
    fn tag(&self) -> u8 {
        match self {
            Self::Begin(..) => b'B',
            Self::Commit(..) => b'C',
            Self::Origin(..) => b'O',
            Self::Relation { .. } => b'R',
            Self::Type(..) => b'Y',
            Self::Insert(..) => b'I',
            Self::Update(..) => b'U',
            Self::Delete(..) => b'D',
            Self::Truncate(..) => b'T',
            Self::Logical(..) => b'M',
            Self::StreamStart(..) => b'S',
            Self::StreamStop => b'E',
            Self::StreamCommit(..) => b'c',
            Self::StreamAbort(..) => b'A',
            Self::TwoPhase(tag, _) => *tag,
            Self::RollbackPrepared(..) => b'r',
        }
    }

    pub fn streams_with_xid(&self) -> bool {
        b"RYIUDTM".contains(&self.tag())
    }

    pub fn streams(&self) -> bool {
        self.streams_with_xid() || b"OE".contains(&self.tag())
    }

    /// The message on the wire; with an xid where a streamed block has one.
    pub fn encode(&self, xid: Option<u32>) -> Vec<u8> {
        let out = Writer(vec![self.tag()]);
        let out = match xid {
            Some(xid) if self.streams_with_xid() => out.u32(xid),
            _ => out,
        };
        let out = match self {
            Self::Begin(lsn, time, xid) => out.u64(*lsn).i64(*time).u32(*xid),
            Self::Commit(lsn, end, time) => out.u8(0).u64(*lsn).u64(*end).i64(*time),
            Self::Origin(lsn, name) => out.u64(*lsn).string(name),
            Self::Relation { id, namespace, name, identity, columns } => {
                let out = out.u32(*id).namespace(namespace).string(name).u8(*identity);
                let out = out.u16(u16::try_from(columns.len()).unwrap());
                columns.iter().fold(out, |out, (key, name, oid, modifier)| {
                    out.u8(u8::from(*key)).string(name).u32(*oid).u32(modifier.cast_unsigned())
                })
            }
            Self::Type(oid, namespace, name) => out.u32(*oid).namespace(namespace).string(name),
            Self::Insert(relation, new) => out.u32(*relation).u8(b'N').row(new),
            Self::Update(relation, old, new) => {
                let out = out.u32(*relation);
                let out = match old {
                    Some((kind, old)) => out.u8(*kind).row(old),
                    None => out,
                };
                out.u8(b'N').row(new)
            }
            Self::Delete(relation, (kind, old)) => out.u32(*relation).u8(*kind).row(old),
            Self::Truncate(relations, cascade, restart) => {
                let out = out.u32(u32::try_from(relations.len()).unwrap());
                let out = out.u8(u8::from(*cascade) | u8::from(*restart) << 1);
                relations.iter().fold(out, |out, id| out.u32(*id))
            }
            Self::Logical(transactional, lsn, prefix, content) => {
                out.u8(u8::from(*transactional)).u64(*lsn).bytes(prefix).u8(0).counted(content)
            }
            Self::StreamStart(xid, first) => out.u32(*xid).u8(u8::from(*first)),
            Self::StreamStop => out,
            Self::StreamCommit(xid, lsn, end, time) => out.u32(*xid).u8(0).u64(*lsn).u64(*end).i64(*time),
            Self::StreamAbort(xid, subxid, abort) => {
                let out = out.u32(*xid).u32(*subxid);
                match abort {
                    Some((lsn, time)) => out.u64(*lsn).i64(*time),
                    None => out,
                }
            }
            Self::TwoPhase(b'b', transaction) => out.prepared(transaction),
            Self::TwoPhase(_, transaction) => out.u8(0).prepared(transaction),
            Self::RollbackPrepared(prepared, rolled_back, prepare_time, rollback_time, xid, gid) => {
                let out = out.u8(0).u64(*prepared).u64(*rolled_back);
                out.i64(*prepare_time).i64(*rollback_time).u32(*xid).string(gid)
            }
        };
        out.0
    }
}

fn row_of(tuple: &Tuple<'_>) -> Row {
    let owned = |cell| match cell {
        Cell::Null => OwnedCell::Null,
        Cell::Unchanged => OwnedCell::Unchanged,
        Cell::Text(value) => OwnedCell::Text(value.to_vec()),
        Cell::Binary(value) => OwnedCell::Binary(value.to_vec()),
    };
    tuple.cells().map(owned).collect()
}

fn old_of(old: &Old<'_>) -> (u8, Row) {
    match old {
        Old::Key(tuple) => (b'K', row_of(tuple)),
        Old::Full(tuple) => (b'O', row_of(tuple)),
    }
}

fn two_phase(tag: u8, transaction: &Prepared<'_>) -> OwnedMessage {
    let Prepared { lsn, end_lsn, time, xid, gid } = transaction;
    let owned = OwnedPrepared { lsn: lsn.0, end_lsn: end_lsn.0, time: time.0, xid: xid.0, gid: (*gid).to_owned() };
    OwnedMessage::TwoPhase(tag, owned)
}

impl From<&Message<'_>> for OwnedMessage {
    fn from(message: &Message<'_>) -> Self {
        match message {
            Message::Begin { final_lsn, commit_time, xid } => Self::Begin(final_lsn.0, commit_time.0, xid.0),
            Message::Commit { lsn, end_lsn, commit_time } => Self::Commit(lsn.0, end_lsn.0, commit_time.0),
            Message::Origin { lsn, name } => Self::Origin(lsn.0, (*name).to_owned()),
            Message::Relation(relation) => Self::Relation {
                id: relation.id.0,
                namespace: relation.namespace.to_owned(),
                name: relation.name.to_owned(),
                identity: match relation.replica_identity {
                    ReplicaIdentity::Default => b'd',
                    ReplicaIdentity::Nothing => b'n',
                    ReplicaIdentity::Full => b'f',
                    ReplicaIdentity::Index => b'i',
                },
                columns: relation
                    .columns()
                    .map(|column| (column.key, column.name.to_owned(), column.type_oid.0, column.type_modifier))
                    .collect(),
            },
            Message::Type { id, namespace, name } => Self::Type(id.0, (*namespace).to_owned(), (*name).to_owned()),
            Message::Insert { relation, new } => Self::Insert(relation.0, row_of(new)),
            Message::Update { relation, old, new } => Self::Update(relation.0, old.as_ref().map(old_of), row_of(new)),
            Message::Delete { relation, old } => Self::Delete(relation.0, old_of(old)),
            Message::Truncate(truncate) => Self::Truncate(
                truncate.relations().map(|id| id.0).collect(),
                truncate.cascade,
                truncate.restart_identity,
            ),
            Message::Logical(logical) => {
                Self::Logical(logical.transactional, logical.lsn.0, logical.prefix.to_vec(), logical.content.to_vec())
            }
            Message::StreamStart { xid, first } => Self::StreamStart(xid.0, *first),
            Message::StreamStop => Self::StreamStop,
            Message::StreamCommit { xid, lsn, end_lsn, commit_time } => {
                Self::StreamCommit(xid.0, lsn.0, end_lsn.0, commit_time.0)
            }
            Message::StreamAbort { xid, subxid, abort } => {
                Self::StreamAbort(xid.0, subxid.0, abort.map(|(lsn, time)| (lsn.0, time.0)))
            }
            Message::BeginPrepare(transaction) => two_phase(b'b', transaction),
            Message::Prepare(transaction) => two_phase(b'P', transaction),
            Message::CommitPrepared(transaction) => two_phase(b'K', transaction),
            Message::StreamPrepare(transaction) => two_phase(b'p', transaction),
            Message::RollbackPrepared { prepare_end_lsn, rollback_end_lsn, prepare_time, rollback_time, xid, gid } => {
                Self::RollbackPrepared(
                    prepare_end_lsn.0,
                    rollback_end_lsn.0,
                    prepare_time.0,
                    rollback_time.0,
                    xid.0,
                    (*gid).to_owned(),
                )
            }
        }
    }
}

fn row() -> impl Strategy<Value = Row> {
    let value = || vec(any::<u8>(), 0..12);
    let cell = prop_oneof![
        Just(OwnedCell::Null),
        Just(OwnedCell::Unchanged),
        value().prop_map(OwnedCell::Text),
        value().prop_map(OwnedCell::Binary),
    ];
    vec(cell, 0..8)
}

fn old() -> impl Strategy<Value = (u8, Row)> {
    (prop_oneof![Just(b'K'), Just(b'O')], row())
}

/// A name: any characters but the terminating zero.
fn name() -> impl Strategy<Value = String> {
    "[^\u{0}]{1,9}"
}

fn row_message() -> impl Strategy<Value = OwnedMessage> {
    prop_oneof![
        (any::<u32>(), row()).prop_map(|(id, new)| OwnedMessage::Insert(id, new)),
        (any::<u32>(), proptest::option::of(old()), row())
            .prop_map(|(id, old, new)| OwnedMessage::Update(id, old, new)),
        (any::<u32>(), old()).prop_map(|(id, old)| OwnedMessage::Delete(id, old)),
        (vec(any::<u32>(), 0..5), any::<bool>(), any::<bool>())
            .prop_map(|(ids, cascade, restart)| OwnedMessage::Truncate(ids, cascade, restart)),
    ]
}

fn shape_message() -> impl Strategy<Value = OwnedMessage> {
    let column = (any::<bool>(), name(), any::<u32>(), any::<i32>());
    let identity = prop_oneof![Just(b'd'), Just(b'n'), Just(b'f'), Just(b'i')];
    let relation = (any::<u32>(), name(), name(), identity, vec(column, 0..6)).prop_map(
        |(id, namespace, name, identity, columns)| OwnedMessage::Relation { id, namespace, name, identity, columns },
    );
    let prefix = vec(1..=u8::MAX, 0..6);
    prop_oneof![
        relation,
        (any::<u32>(), prop_oneof![name(), Just("pg_catalog".to_owned())], name())
            .prop_map(|(id, namespace, name)| OwnedMessage::Type(id, namespace, name)),
        (any::<u64>(), name()).prop_map(|(lsn, name)| OwnedMessage::Origin(lsn, name)),
        (any::<bool>(), any::<u64>(), prefix, vec(any::<u8>(), 0..20)).prop_map(
            |(transactional, lsn, prefix, content)| OwnedMessage::Logical(transactional, lsn, prefix, content)
        ),
    ]
}

fn transaction_message() -> impl Strategy<Value = OwnedMessage> {
    let two_phase = (any::<u64>(), any::<u64>(), any::<i64>(), any::<u32>(), name())
        .prop_map(|(lsn, end_lsn, time, xid, gid)| OwnedPrepared { lsn, end_lsn, time, xid, gid });
    let tag = prop_oneof![Just(b'b'), Just(b'P'), Just(b'K'), Just(b'p')];
    let rollback = (any::<u64>(), any::<u64>(), any::<i64>(), any::<i64>(), any::<u32>(), name());
    prop_oneof![
        any::<(u64, i64, u32)>().prop_map(|(lsn, time, xid)| OwnedMessage::Begin(lsn, time, xid)),
        any::<(u64, u64, i64)>().prop_map(|(lsn, end, time)| OwnedMessage::Commit(lsn, end, time)),
        any::<(u32, bool)>().prop_map(|(xid, first)| OwnedMessage::StreamStart(xid, first)),
        Just(OwnedMessage::StreamStop),
        any::<(u32, u64, u64, i64)>().prop_map(|(xid, lsn, end, time)| OwnedMessage::StreamCommit(xid, lsn, end, time)),
        (any::<u32>(), any::<u32>(), proptest::option::of(any::<(u64, i64)>()))
            .prop_map(|(xid, subxid, abort)| OwnedMessage::StreamAbort(xid, subxid, abort)),
        (tag, two_phase).prop_map(|(tag, transaction)| OwnedMessage::TwoPhase(tag, transaction)),
        rollback.prop_map(|(prepared, rolled_back, prepare_time, rollback_time, xid, gid)| {
            OwnedMessage::RollbackPrepared(prepared, rolled_back, prepare_time, rollback_time, xid, gid)
        }),
    ]
}

/// Any message.
pub fn message() -> impl Strategy<Value = OwnedMessage> {
    prop_oneof![row_message(), shape_message(), transaction_message()]
}
