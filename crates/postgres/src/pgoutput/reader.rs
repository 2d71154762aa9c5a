//! A cursor over one message; every read checks what remains.

use super::{DecodeError, Fault, Oid, RelationId, Timestamp, Xid};
use crate::Lsn;

/// The unread rest of a message.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    tag: u8,
    length: usize,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self { tag: message.first().copied().unwrap_or_default(), length: message.len(), rest: message }
    }

    /// The bytes not yet read.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// `fault` at the place where reading stands.
    #[cold]
    pub(super) fn fail(&self, fault: Fault) -> DecodeError {
        DecodeError { tag: self.tag, offset: self.length - self.rest.len(), fault }
    }

    /// `fault` at the byte just read.
    #[cold]
    pub(super) fn fail_behind(&self, fault: Fault) -> DecodeError {
        let error = self.fail(fault);
        DecodeError { offset: error.offset.saturating_sub(1), ..error }
    }

    /// Fails unless `needed` bytes remain.
    pub(super) fn require(&self, needed: usize) -> Result<(), DecodeError> {
        let left = self.rest.len();
        if needed <= left { Ok(()) } else { Err(self.fail(Fault::Short { needed, left })) }
    }

    /// The message must end here.
    pub(super) fn finish(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.fail(Fault::Trailing(self.rest.len()))) }
    }

    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let Some((head, rest)) = self.rest.split_at_checked(count) else {
            return Err(self.fail(Fault::Short { needed: count, left: self.rest.len() }));
        };
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let Some((head, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.fail(Fault::Short { needed: N, left: self.rest.len() }));
        };
        self.rest = rest;
        Ok(*head)
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32, DecodeError> {
        self.array().map(i32::from_be_bytes)
    }

    pub(super) fn lsn(&mut self) -> Result<Lsn, DecodeError> {
        self.array().map(u64::from_be_bytes).map(Lsn)
    }

    pub(super) fn timestamp(&mut self) -> Result<Timestamp, DecodeError> {
        self.array().map(i64::from_be_bytes).map(Timestamp)
    }

    pub(super) fn xid(&mut self) -> Result<Xid, DecodeError> {
        self.u32().map(Xid)
    }

    pub(super) fn oid(&mut self) -> Result<Oid, DecodeError> {
        self.u32().map(Oid)
    }

    pub(super) fn relation_id(&mut self) -> Result<RelationId, DecodeError> {
        self.u32().map(RelationId)
    }

    /// A byte of flags of which only `known` are defined.
    pub(super) fn flags(&mut self, known: u8) -> Result<u8, DecodeError> {
        let flags = self.u8()?;
        if flags & !known == 0 { Ok(flags) } else { Err(self.fail_behind(Fault::UnknownFlags(flags))) }
    }

    /// A string up to its zero, which is consumed and not returned.
    pub(super) fn cstring(&mut self) -> Result<&'a [u8], DecodeError> {
        let end = self.rest.iter().position(|&byte| byte == 0).ok_or_else(|| self.fail(Fault::Unterminated))?;
        let (string, rest) = self.rest.split_at(end);
        self.rest = &rest[1..];
        Ok(string)
    }

    /// A string that names something: UTF-8, the client encoding of every connection here.
    pub(super) fn name(&mut self) -> Result<&'a str, DecodeError> {
        let before = *self;
        let string = self.cstring()?;
        std::str::from_utf8(string).map_err(|_| before.fail(Fault::NotUtf8))
    }
}
