//! The decoder against an encoder written from the documentation, and against bytes that no server sends.

mod encode;

use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use self::encode::{OwnedMessage, message};
use super::{Cell, DecodeError, Fault, Message, Old, Relation, RelationId, Timestamp, Tuple};

/// Walks everything that claims to be infallible; a lie would panic or disagree with its count.
fn walk(message: &Message<'_>) {
    let tuple = |tuple: &Tuple<'_>| assert_eq!(tuple.cells().count(), tuple.len());
    match message {
        Message::Relation(relation) => assert_eq!(relation.columns().count(), relation.column_count()),
        Message::Insert { new, .. } => tuple(new),
        Message::Update { old, new, .. } => {
            tuple(new);
            old.iter().for_each(|old| tuple(&old.tuple()));
        }
        Message::Delete { old, .. } => tuple(&old.tuple()),
        Message::Truncate(truncate) => assert_eq!(truncate.relations().count(), truncate.relations().len()),
        _ => {}
    }
}

#[test]
fn a_tuple_reads_the_same_from_the_arena_that_it_was_saved_to() {
    let parsed = Message::parse(b"I\0\0\0\x07N\0\x03nut\0\0\0\x01x").unwrap();
    let Message::Insert { relation, new } = parsed else { panic!("{parsed:?}") };
    assert_eq!(relation.to_string(), "7");
    assert!(!new.is_empty() && new.has_unchanged());
    let mut arena = b"before".to_vec();
    let saved = new.save(&mut arena);
    assert!(saved.has_unchanged());
    assert!(saved.tuple(&arena).into_iter().eq([Cell::Null, Cell::Unchanged, Cell::Text(b"x")]));
    // In another arena it is less, and never a panic.
    assert_eq!(saved.tuple(b"").cells().count(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_is_encoded_is_decoded(original in message()) {
        let bytes = original.encode(None);
        let parsed = Message::parse(&bytes).unwrap();
        walk(&parsed);
        prop_assert_eq!(OwnedMessage::from(&parsed), original);
    }

    #[test]
    fn a_streamed_block_carries_its_xid(original in message(), xid: u32) {
        let bytes = original.encode(Some(xid));
        match Message::parse_streamed(&bytes) {
            Ok((found, parsed)) => {
                prop_assert_eq!(found.map(|found| found.0), original.streams_with_xid().then_some(xid));
                prop_assert_eq!(OwnedMessage::from(&parsed), original);
            }
            Err(error) => {
                prop_assert!(!original.streams());
                prop_assert_eq!(error, DecodeError { tag: bytes[0], offset: 0, fault: Fault::UnknownMessage });
            }
        }
    }

    #[test]
    fn a_message_cut_short_is_an_error(original in message(), extra in 1..8_usize) {
        let bytes = original.encode(None);
        for length in 0..bytes.len() {
            match Message::parse(&bytes[..length]) {
                Err(error) => prop_assert!(error.offset <= length),
                // The one message with two lengths: an abort of protocol 4 begins with one of protocol 2.
                Ok(Message::StreamAbort { abort: None, .. }) => prop_assert_eq!(length, 9),
                Ok(parsed) => prop_assert!(false, "{} of {} bytes parse as {parsed:?}", length, bytes.len()),
            }
        }
        let mut longer = bytes;
        longer.extend(std::iter::repeat_n(0, extra));
        prop_assert!(Message::parse(&longer).is_err());
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(parsed) = Message::parse(&bytes) { walk(&parsed) }
        if let Ok((_, parsed)) = Message::parse_streamed(&bytes) { walk(&parsed) }
    }

    #[test]
    fn a_damaged_message_never_panics(
        original in message(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = original.encode(None);
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Ok(parsed) = Message::parse(&bytes) { walk(&parsed) }
        if let Ok((_, parsed)) = Message::parse_streamed(&bytes) { walk(&parsed) }
    }
}

/// Messages as a server wrote them, one a line in hexadecimal.
fn recorded(lines: &str) -> impl Iterator<Item = Vec<u8>> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    lines.lines().map(move |line| line.as_bytes().chunks(2).map(byte).collect())
}

/// All but Origin and Stream Prepare, from PostgreSQL 15 with binary values, messages, two-phase commit and streaming.
#[test]
fn what_a_server_wrote_is_read_and_written_back_byte_for_byte() {
    for bytes in recorded(include_str!("server_15.hex")) {
        let parsed = Message::parse(&bytes).unwrap();
        walk(&parsed);
        assert_eq!(OwnedMessage::from(&parsed).encode(None), bytes);
    }
    let mut in_block = false;
    for bytes in recorded(include_str!("server_15_streamed.hex")) {
        let (xid, parsed) =
            if in_block { Message::parse_streamed(&bytes).unwrap() } else { (None, Message::parse(&bytes).unwrap()) };
        match parsed {
            Message::StreamStart { .. } => in_block = true,
            Message::StreamStop => in_block = false,
            _ => assert_eq!(xid.is_some(), in_block),
        }
        walk(&parsed);
        assert_eq!(OwnedMessage::from(&parsed).encode(xid.map(|xid| xid.0)), bytes);
    }
}

fn fault(bytes: &[u8]) -> (usize, Fault) {
    let error = Message::parse(bytes).unwrap_err();
    (error.offset, error.fault)
}

#[test]
fn a_count_is_not_believed_before_the_bytes_are_there() {
    assert_eq!(fault(b"I\0\0\0\x01N\xff\xff"), (8, Fault::Short { needed: 65_535, left: 0 }));
    assert_eq!(fault(b"T\xff\xff\xff\xff\0"), (6, Fault::Short { needed: 0xffff_ffff * 4, left: 0 }));
    assert_eq!(fault(b"R\0\0\0\x01s\0t\0d\xff\xff"), (12, Fault::Short { needed: 655_350, left: 0 }));
    assert_eq!(fault(b"I\0\0\0\x01N\0\x01t\xff\xff\xff\xffab"), (13, Fault::Short { needed: 0xffff_ffff, left: 2 }));
}

#[test]
fn an_undefined_meaning_is_an_error() {
    assert_eq!(fault(b""), (0, Fault::Short { needed: 1, left: 0 }));
    assert_eq!(fault(b"Z"), (0, Fault::UnknownMessage));
    assert_eq!(fault(b"E!"), (1, Fault::Trailing(1)));
    assert_eq!(fault(b"I\0\0\0\x01O\0\0"), (5, Fault::UnknownSelector(b'O')));
    assert_eq!(fault(b"I\0\0\0\x01N\0\x01x"), (8, Fault::UnknownSelector(b'x')));
    assert_eq!(fault(b"T\0\0\0\0\x04"), (5, Fault::UnknownFlags(4)));
    assert_eq!(fault(b"C\x01"), (1, Fault::UnknownFlags(1)));
    assert_eq!(fault(b"Y\0\0\0\x01\xff\0t\0"), (5, Fault::NotUtf8));
    assert_eq!(fault(b"Y\0\0\0\x01s"), (5, Fault::Unterminated));
}

#[test]
fn an_error_says_the_place_and_not_the_value() {
    let error = Message::parse(b"I\0\0\0\x01N\0\x01t\0\0\0\x63secret").unwrap_err();
    let text = "pgoutput message 'I' is malformed at byte 13: 99 bytes are needed and 6 are left";
    assert_eq!(error.to_string(), text);
}

#[test]
fn the_cells_of_a_row_are_slices_of_its_message() {
    let bytes = b"U\0\0\x40\x01K\0\x02t\0\0\0\x017nN\0\x04nut\0\0\0\x02hib\0\0\0\x02\x01\x02";
    let Ok(Message::Update { relation, old: Some(Old::Key(old)), new }) = Message::parse(bytes) else { panic!() };
    assert_eq!(relation, RelationId(0x4001));
    assert_eq!(old.cells().collect::<Vec<_>>(), [Cell::Text(b"7"), Cell::Null]);
    assert_eq!(
        new.cells().collect::<Vec<_>>(),
        [Cell::Null, Cell::Unchanged, Cell::Text(b"hi"), Cell::Binary(&[1, 2])]
    );
    let Some(Cell::Text(text)) = new.cells().nth(2) else { panic!() };
    assert!(bytes.as_ptr_range().contains(&text.as_ptr()));
}

#[test]
fn a_saved_row_is_read_from_its_arena() {
    let mut arena = b"before".to_vec();
    let saved = {
        let bytes = b"I\0\0\0\x01N\0\x03t\0\0\0\x02hinu".to_vec();
        let Ok(Message::Insert { new, .. }) = Message::parse(&bytes) else { panic!() };
        new.save(&mut arena)
    };
    let tuple = saved.tuple(&arena);
    assert!(tuple.has_unchanged());
    assert_eq!(tuple.cells().collect::<Vec<_>>(), [Cell::Text(b"hi"), Cell::Null, Cell::Unchanged]);
    let mut cells = tuple.cells();
    cells.next();
    assert_eq!(&arena[..saved.end() - cells.bytes_left()], b"beforet\0\0\0\x02hi");
    assert_eq!(saved.tuple(b"another").cells().count(), 0);
}

#[test]
fn an_empty_namespace_is_pg_catalog() {
    let Ok(Message::Relation(Relation { namespace, .. })) = Message::parse(b"R\0\0\0\x01\0pg_class\0n\0\0") else {
        panic!()
    };
    assert_eq!(namespace, "pg_catalog");
}

#[test]
fn a_timestamp_is_a_moment_or_none() {
    assert_eq!(Timestamp(0).system_time(), Some(SystemTime::UNIX_EPOCH + Duration::from_secs(946_684_800)));
    let before_1970 = Timestamp(-946_684_800_000_001).system_time();
    assert_eq!(before_1970, Some(SystemTime::UNIX_EPOCH - Duration::from_micros(1)));
    for extreme in [i64::MIN, i64::MAX] {
        // Whatever the platform can hold, it does not panic.
        let _ = Timestamp(extreme).system_time();
    }
}
