//! An `ErrorResponse` or `NoticeResponse` of the server.

use std::fmt;

use super::{Class, sqlstate};

/// What a server said when it refused; `Display` leaves out what may be row values.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerError {
    /// `ERROR`, `FATAL`, `PANIC`, or a notice level; never localized.
    pub severity: String,
    /// SQLSTATE.
    pub code: String,
    /// The primary message.
    pub message: String,
    /// More, possibly row values.
    pub(crate) detail: Option<String>,
    /// What the server suggests.
    pub hint: Option<String>,
}

impl ServerError {
    /// Reads the fields of a message body. Lenient: a field that is missing or cut stays empty, since half an error
    /// message tells more than a complaint about it.
    pub(crate) fn parse(mut body: &[u8]) -> Self {
        let (mut severity, mut code, mut message) = (String::new(), String::new(), String::new());
        let (mut detail, mut hint) = (None, None);
        while let [kind, rest @ ..] = body {
            if *kind == 0 {
                break;
            }
            let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
            let value = || String::from_utf8_lossy(&rest[..end]).into_owned();
            match kind {
                // `V` is never localized and wins over `S`, which comes first.
                b'S' if severity.is_empty() => severity = value(),
                b'V' => severity = value(),
                b'C' => code = value(),
                b'M' => message = value(),
                b'D' => detail = Some(value()),
                b'H' => hint = Some(value()),
                _ => {}
            }
            body = rest.get(end + 1..).unwrap_or_default();
        }
        Self { severity, code, message, detail, hint }
    }
}

/// One line: severity, message, SQLSTATE, and, unless they may hold row values, detail; then the hint.
pub(super) fn write(
    f: &mut fmt::Formatter<'_>,
    severity: &str,
    code: &str,
    message: &str,
    detail: Option<&str>,
    hint: Option<&str>,
) -> fmt::Result {
    let class = sqlstate::lookup(code).class;
    write!(f, "{severity}: ")?;
    // Input errors quote the value itself (`invalid input syntax for type integer: "…"`).
    match (class, message.find(": \"")) {
        (Class::Data, Some(at)) => write!(f, "{}", &message[..at])?,
        _ => f.write_str(message)?,
    }
    write!(f, " (SQLSTATE {code})")?;
    if let Some(detail) = detail.filter(|_| class != Class::Data) {
        write!(f, "; {detail}")?;
    }
    if let Some(hint) = hint {
        write!(f, "; hint: {hint}")?;
    }
    Ok(())
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, &self.severity, &self.code, &self.message, self.detail.as_deref(), self.hint.as_deref())
    }
}

/// As `Display`.
impl fmt::Debug for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerError({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_response_is_read_with_its_unlocalized_severity() {
        let error = ServerError::parse(b"SFEHLER\0VERROR\0C55006\0Mslot is active\0Dpid 7\0Hwait\0Fslot.c\0\0");
        assert_eq!(error.to_string(), "ERROR: slot is active (SQLSTATE 55006); pid 7; hint: wait");
    }

    #[test]
    fn a_data_error_does_not_show_values() {
        let duplicate = ServerError::parse(b"SERROR\0C23505\0Mduplicate key\0DKey (ssn)=(123) already exists.\0\0");
        assert_eq!(duplicate.to_string(), "ERROR: duplicate key (SQLSTATE 23505)");
        let syntax = ServerError::parse(b"SERROR\0C22P02\0Minvalid input syntax for type integer: \"secret\"\0\0");
        assert!(!format!("{syntax} {syntax:?}").contains("secret"));
    }

    #[test]
    fn a_cut_error_response_is_still_read() {
        for cut in [&b""[..], b"\0", b"S", b"SERROR", b"SERROR\0C", b"M\xff\xfe\0C\0"] {
            let _ = ServerError::parse(cut).to_string();
        }
    }
}
