//! What moves on a connection, and whether answers are missing: requests and the ends of answers are counted as they pass.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// What has happened on a transport; of interest where nothing happens any more. One task reads and writes, others only
/// look.
#[derive(Default)]
pub(crate) struct Motion {
    moved: AtomicU64,
    /// Requests are counted from here on: the start-up packet has no tag.
    begun: AtomicBool,
    under_way: AtomicU64,
    starved: AtomicBool,
}

impl Motion {
    /// The session is ready for its first request.
    pub(crate) fn begin(&self) {
        self.begun.store(true, Relaxed);
    }

    /// Bytes taken and given so far.
    pub(crate) fn moved(&self) -> u64 {
        self.moved.load(Relaxed)
    }

    /// Whether answers are missing, and what came was all read: whoever reads slowly waits for nobody else.
    pub(crate) fn waits(&self) -> bool {
        self.under_way.load(Relaxed) > 0 && self.starved.load(Relaxed)
    }

    /// Nothing is there to be read.
    pub(crate) fn found_nothing(&self) {
        self.starved.store(true, Relaxed);
    }

    /// These bytes were read.
    pub(crate) fn took(&self, bytes: &[u8], messages: &mut Messages) {
        self.starved.store(false, Relaxed);
        self.pass(bytes, messages, |tag| {
            if ends_answer(tag) {
                self.under_way.store(self.under_way.load(Relaxed).saturating_sub(1), Relaxed);
            }
        });
    }

    /// These bytes were written.
    pub(crate) fn gave(&self, bytes: &[u8], messages: &mut Messages) {
        self.pass(bytes, messages, |tag| {
            if ends_request(tag) {
                self.under_way.fetch_add(1, Relaxed);
            }
        });
    }

    fn pass(&self, bytes: &[u8], messages: &mut Messages, each: impl FnMut(u8)) {
        self.moved.fetch_add(bytes.len() as u64, Relaxed);
        if self.begun.load(Relaxed) {
            messages.pass(bytes, each);
        }
    }
}

/// Every request ends with a Sync, or is a simple Query.
fn ends_request(tag: u8) -> bool {
    matches!(tag, b'S' | b'Q')
}

/// Every answer ends with ReadyForQuery. In a COPY from the client (CopyInResponse), the server passes over the Sync that
/// came with its start (protocol documentation, "COPY Operations"): another one will end it.
fn ends_answer(tag: u8) -> bool {
    matches!(tag, b'Z' | b'G')
}

/// The messages in the bytes of one direction: a tag, a length that counts itself, a body.
#[derive(Default)]
pub(crate) struct Messages {
    header: [u8; 5],
    /// Bytes of the header that are there.
    known: usize,
    /// Bytes of the body that are still to come.
    rest: usize,
}

impl Messages {
    fn pass(&mut self, mut bytes: &[u8], mut each: impl FnMut(u8)) {
        loop {
            let body = self.rest.min(bytes.len());
            self.rest -= body;
            bytes = &bytes[body..];
            if let (0, Some((header, others))) = (self.known, bytes.split_first_chunk()) {
                bytes = others;
                each(self.read(*header));
                continue;
            }
            // A header in pieces.
            let Some((first, others)) = bytes.split_first() else { return };
            bytes = others;
            self.header[self.known] = *first;
            self.known += 1;
            if self.known == self.header.len() {
                self.known = 0;
                each(self.read(self.header));
            }
        }
    }

    fn read(&mut self, [tag, a, b, c, d]: [u8; 5]) -> u8 {
        self.rest = (u32::from_be_bytes([a, b, c, d]) as usize).saturating_sub(4);
        tag
    }
}
