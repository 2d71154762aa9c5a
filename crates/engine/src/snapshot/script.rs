//! SQL scripts as `pg_restore` writes them: what to send, and which command failed. Pure but for [`execute`].

use std::borrow::Cow;

use futures::TryStreamExt;
use pgstream_postgres::Client;
use tokio_postgres::{SimpleQueryMessage, error::SqlState};

use super::Error;

/// What of a failed command is shown.
const SHOWN: usize = 600;

/// The script without what is meant for `psql` or for newer servers than this one.
pub(crate) fn body(script: &str, server_major: u32) -> Cow<'_, str> {
    // `\restrict` precedes, and `\unrestrict` follows, every command.
    let start = if script.starts_with("SET ") { 0 } else { script.find("\nSET ").map_or(0, |at| at + 1) };
    let mut body = script.get(start..).unwrap_or(script);
    if let Some(at) = body.rfind("\n\\unrestrict ")
        && body.get(at + 1..).is_some_and(|tail| !tail.trim_end().contains('\n'))
    {
        body = body.get(..at).unwrap_or(body);
    }
    if server_major < 17 {
        // Known to pg_restore 17 and later only.
        const TIMEOUT: &str = "SET transaction_timeout = 0;\n";
        let head = body.find("\n\n").unwrap_or(body.len());
        if let Some(at) = body.get(..head).and_then(|head| head.find(TIMEOUT)) {
            let (before, after) = (body.get(..at).unwrap_or(""), body.get(at + TIMEOUT.len()..).unwrap_or(""));
            return Cow::Owned(format!("{before}{after}"));
        }
    }
    Cow::Borrowed(body)
}

/// A command of a script failed.
pub(crate) struct Failure {
    /// Commands that had succeeded.
    done: usize,
    error: tokio_postgres::Error,
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self { done: 0, error }
    }
}

/// Runs a script inside the current transaction.
pub(crate) async fn execute(target: &Client, sql: &str) -> Result<(), Failure> {
    let messages = target.simple_query_raw(sql).await?;
    let mut messages = std::pin::pin!(messages);
    let mut done = 0;
    loop {
        match messages.try_next().await {
            Ok(Some(SimpleQueryMessage::CommandComplete(_))) => done += 1,
            Ok(Some(_)) => {}
            Ok(None) => return Ok(()),
            Err(error) => return Err(Failure { done, error }),
        }
    }
}

impl Failure {
    /// Our error: what was restored, what the server said, the command without its literals.
    pub(crate) fn explain(self, target: &Client, what: &str, sql: &str) -> Error {
        let Some(db) = self.error.as_db_error() else {
            return target.failed(&format!("restoring {what}"))(self.error).into();
        };
        // The detail of a violated constraint or a malformed value holds what is in a row; others name objects.
        let is_about_rows = matches!(db.code().code().get(..2), Some("22" | "23"));
        let message = match db.detail() {
            Some(detail) if !is_about_rows => format!("{} ({detail})", db.message()),
            _ => db.message().to_owned(),
        };
        let command = statements(sql).nth(self.done).map(redact).unwrap_or_else(|| "(unknown)".to_owned());
        let help = help(db.code());
        let source = Box::new(target.failed(&format!("restoring {what}"))(self.error));
        Error::Restore { what: what.to_owned(), message, command, help, source }
    }
}

fn help(code: &SqlState) -> &'static str {
    match code {
        code if *code == SqlState::INSUFFICIENT_PRIVILEGE => {
            "the target role may not do this. Make it a member of the owner (`GRANT owner TO …`), or set `no_owner: true` \
             (and `no_privileges: true`); on RDS use the master user"
        }
        code if *code == SqlState::UNDEFINED_OBJECT => {
            "something it needs is missing on the target: a role (see `roles_snapshot_mode`), an extension, or an \
             object type left out by the filters"
        }
        code if *code == SqlState::OUT_OF_MEMORY || code.code() == "53200" => {
            "raise max_locks_per_transaction on the target"
        }
        code if *code == SqlState::UNIQUE_VIOLATION || *code == SqlState::FOREIGN_KEY_VIOLATION => {
            "the rows on the target violate this constraint: were other rows there before, or is a table left out?"
        }
        _ => "nothing of this piece was kept; fix the cause and run this again: finished work is not repeated",
    }
}

/// Splits SQL into statements, as far as needed to name one. Quotes, dollar quotes, comments and `BEGIN ATOMIC`
/// bodies are respected.
pub(crate) fn statements(sql: &str) -> impl Iterator<Item = &str> {
    let mut rest = sql;
    std::iter::from_fn(move || {
        loop {
            let trimmed = skip_space(rest);
            if trimmed.is_empty() {
                return None;
            }
            let end = statement_end(trimmed);
            let (statement, after) = trimmed.split_at_checked(end).unwrap_or((trimmed, ""));
            rest = after.strip_prefix(';').unwrap_or(after);
            if !statement.trim().is_empty() {
                return Some(statement);
            }
        }
    })
}

fn skip_space(mut sql: &str) -> &str {
    loop {
        sql = sql.trim_start();
        match sql.strip_prefix("--") {
            Some(comment) => sql = comment.split_once('\n').map_or("", |(_, rest)| rest),
            None => return sql,
        }
    }
}

fn statement_end(sql: &str) -> usize {
    let mut depth = 0_usize;
    let mut previous = "";
    for token in tokens(sql) {
        let text = sql.get(token.start..token.end).unwrap_or_default();
        match token.kind {
            Kind::Other if text == ";" && depth == 0 => return token.start,
            Kind::Word => {
                if depth == 0 && text.eq_ignore_ascii_case("atomic") && previous.eq_ignore_ascii_case("begin") {
                    depth = 1;
                } else if depth > 0 && text.eq_ignore_ascii_case("case") {
                    depth += 1;
                } else if depth > 0 && text.eq_ignore_ascii_case("end") {
                    depth -= 1;
                }
                previous = text;
            }
            _ => {}
        }
    }
    sql.len()
}

/// The statement with its literals replaced and its length limited.
pub(super) fn redact(statement: &str) -> String {
    let mut out = String::new();
    for token in tokens(statement) {
        match token.kind {
            Kind::Literal => out.push_str("'…'"),
            Kind::Comment => out.push(' '),
            Kind::Word | Kind::Other => out.push_str(statement.get(token.start..token.end).unwrap_or_default()),
        }
        if out.len() > SHOWN {
            return format!("{}…", out.chars().take(SHOWN).collect::<String>());
        }
    }
    out.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Word,
    /// A string or dollar-quoted body.
    Literal,
    Comment,
    /// A quoted identifier, punctuation, space.
    Other,
}

struct Token {
    kind: Kind,
    start: usize,
    end: usize,
}

fn tokens(sql: &str) -> impl Iterator<Item = Token> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = sql.get(at..).filter(|rest| !rest.is_empty())?;
        let (kind, length) = token(rest);
        let start = at;
        at += length.max(1);
        while !sql.is_char_boundary(at) {
            at += 1;
        }
        Some(Token { kind, start, end: at })
    })
}

fn token(rest: &str) -> (Kind, usize) {
    let until = |needle: &str, from: usize| {
        rest.get(from..).and_then(|tail| tail.find(needle)).map_or(rest.len(), |found| from + found + needle.len())
    };
    let bytes = rest.as_bytes();
    match bytes[0] {
        b'-' if rest.starts_with("--") => (Kind::Comment, until("\n", 2)),
        b'/' if rest.starts_with("/*") => (Kind::Comment, until("*/", 2)),
        b'\'' => (Kind::Literal, until("'", 1)),
        b'E' | b'e' if rest.get(1..2) == Some("'") => (Kind::Literal, escaped_end(bytes)),
        b'"' => (Kind::Other, until("\"", 1)),
        b'$' => {
            let tag =
                1 + bytes[1..].iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_' || **b >= 0x80).count();
            match rest.get(..=tag) {
                Some(open) if open.ends_with('$') => (Kind::Literal, until(open, open.len())),
                _ => (Kind::Other, 1),
            }
        }
        first if first.is_ascii_alphabetic() || first == b'_' || first >= 0x80 => {
            let is_word = |b: &u8| b.is_ascii_alphanumeric() || matches!(*b, b'_' | b'$') || *b >= 0x80;
            (Kind::Word, bytes.iter().take_while(|b| is_word(b)).count())
        }
        _ => (Kind::Other, 1),
    }
}

fn escaped_end(bytes: &[u8]) -> usize {
    let mut at = 2;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            b'\'' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_meant_for_psql_or_a_newer_server_is_not_sent() {
        let script = "--\n-- dump\n--\n\n\\restrict abc\n\nSET a = 0;\nSET transaction_timeout = 0;\nSET b = 1;\n\nSELECT 1;\n\n\\unrestrict abc\n\n";
        assert_eq!(body(script, 15).trim_end(), "SET a = 0;\nSET b = 1;\n\nSELECT 1;");
        assert!(body(script, 18).contains("transaction_timeout"));
        let text = "SET a = 0;\n\nCOMMENT ON TABLE t IS '\n\\unrestrict x\n';\n";
        assert_eq!(body(text, 15), text);
    }

    #[test]
    fn statements_are_told_apart() {
        let sql = "SET a = 0;\n-- c ;\nCREATE FUNCTION f() RETURNS int LANGUAGE sql AS $_$ SELECT ';' $_$;\n\
                   CREATE FUNCTION g() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END;\n\
                   COMMENT ON TABLE \"a;b\" IS 'it''s; ok';\nSELECT E'\\';' ;";
        let found: Vec<_> = statements(sql).collect();
        assert_eq!(found.len(), 5, "{found:#?}");
        assert!(found[2].ends_with("END") && found[2].starts_with("CREATE FUNCTION g"));
        assert_eq!(redact(found[3]), "COMMENT ON TABLE \"a;b\" IS '…''…'");
        assert_eq!(redact(found[4]), "SELECT '…'");
    }
}
