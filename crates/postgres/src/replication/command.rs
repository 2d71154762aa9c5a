//! Commands to the walsender, and the rows it answers with.

use bytes::{Buf as _, Bytes};

use super::StartOptions;
use crate::{Lsn, quote_ident, quote_literal};

/// `START_REPLICATION` with the options of pgoutput.
pub(super) fn start_replication(from: Lsn, options: &StartOptions) -> String {
    let publications = options.publications.iter().map(|name| quote_ident(name)).collect::<Vec<_>>().join(",");
    let mut parameters =
        format!("proto_version '{}', publication_names {}", options.proto_version, text(&publications));
    if options.binary {
        parameters.push_str(", binary 'true'");
    }
    if options.messages {
        parameters.push_str(", messages 'true'");
    }
    format!("START_REPLICATION SLOT {} LOGICAL {from} ({parameters})", quote_ident(&options.slot))
}

/// A string of the replication grammar, which has no `E''` and takes a backslash as it is.
fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// SQL, not a replication command: the slot's `wal_status`, if it exists, and whether the server is a standby.
pub(super) fn slot_state(slot: &str) -> String {
    format!(
        "SELECT (SELECT wal_status FROM pg_catalog.pg_replication_slots WHERE slot_name = {}), pg_catalog.pg_is_in_recovery()",
        quote_literal(slot)
    )
}

/// The fields of a DataRow in text format; `None` if the body is cut or not UTF-8.
pub(super) fn data_row(mut body: Bytes) -> Option<Vec<Option<String>>> {
    let count = body.try_get_u16().ok()?;
    let mut fields = Vec::new();
    for _ in 0..count {
        let length = body.try_get_i32().ok()?;
        fields.push(match usize::try_from(length) {
            Ok(length) if length <= body.len() => Some(String::from_utf8(body.split_to(length).into()).ok()?),
            Ok(_) => return None,
            Err(_) => None,
        });
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_stay_names() {
        let options = StartOptions {
            slot: "s\"; DROP".to_owned(),
            publications: vec!["a'b".to_owned(), "c\"d\\".to_owned()],
            proto_version: 1,
            binary: true,
            messages: false,
        };
        assert_eq!(
            start_replication(Lsn(0x1_0000_0002), &options),
            r#"START_REPLICATION SLOT "s""; DROP" LOGICAL 1/2 (proto_version '1', publication_names '"a''b","c""d\"', binary 'true')"#
        );
    }

    #[test]
    fn a_row_is_read_or_refused() {
        let row = Bytes::from_static(b"\0\x03\0\0\0\x01a\xff\xff\xff\xff\0\0\0\0");
        assert_eq!(data_row(row.clone()), Some(vec![Some("a".to_owned()), None, Some(String::new())]));
        for cut in 0..row.len() {
            assert_eq!(data_row(row.slice(..cut)), None, "{cut}");
        }
    }
}
