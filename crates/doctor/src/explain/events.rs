//! A log as a list of events: what was said with one breath belongs together.
//!
//! ```text
//!  ERROR:  42501: permission denied …   ┐
//!  DETAIL:  …                           ├─> Event { state: 42501, text: message, detail, hint, context }
//!  HINT:  …                             ┘
//!  STATEMENT:  CREATE …                    left out: what a user typed proves nothing
//! ```

use serde_json::Value;

/// One error, as far as it was told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// SQLSTATE, where one is in the text.
    pub(super) state: Option<String>,
    /// Message, detail, hint and context, in lower case.
    pub(super) text: String,
}

impl Event {
    /// All lines of `text` are about one thing.
    pub(super) fn one(text: &str) -> Self {
        Self { state: state(text), text: text.to_lowercase() }
    }

    fn add(&mut self, line: &str) {
        if self.state.is_none() {
            self.state = state(line);
        }
        self.text.push('\n');
        self.text.push_str(&line.to_lowercase());
    }
}

/// What a line is to the event before it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Begins,
    Continues,
    /// What a user typed, or what was advised.
    Aside,
}

/// How servers, `psql`, and this program's own failures begin the parts of an event.
const PARTS: [(&str, Part); 10] = [
    ("DETAIL:", Part::Continues),
    ("HINT:", Part::Continues),
    ("CONTEXT:", Part::Continues),
    ("because:", Part::Continues),
    ("STATEMENT:", Part::Aside),
    ("QUERY:", Part::Aside),
    ("help:", Part::Aside),
    ("cause:", Part::Aside),
    ("fix:", Part::Aside),
    ("docs:", Part::Aside),
];

/// The label stands at the beginning, or after the prefix of a log line (`… [4711] DETAIL:  …`).
fn part(line: &str) -> Part {
    let found = PARTS.iter().filter_map(|(label, part)| {
        let at = line.find(label)?;
        let alone = line[..at].ends_with([' ', ']', ',']) || at == 0;
        // A message may speak of a hint; a prefix is short.
        let plain = line[at + label.len()..].starts_with(' ') && !line[..at].contains("ERROR:") && at < 100;
        (alone && plain).then_some((at, *part))
    });
    found.min_by_key(|(at, _)| *at).map_or(Part::Begins, |(_, part)| part)
}

/// The events of a log, in their order.
pub(super) fn events(log: &str) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    for line in log.lines().filter(|line| !line.trim().is_empty()) {
        if let Some(event) = of_json(line) {
            events.push(event);
            continue;
        }
        match (part(line), events.last_mut()) {
            (Part::Aside, _) => {}
            (Part::Continues, Some(event)) => event.add(line),
            _ => events.push(Event::one(line)),
        }
    }
    events
}

/// A line of a log in JSON: all that it tells, but for advice.
fn of_json(line: &str) -> Option<Event> {
    let line = line.trim();
    let value: Value = line.starts_with('{').then(|| serde_json::from_str(line).ok())??;
    let mut text = String::new();
    collect(&value, &mut text);
    Some(Event::one(&text))
}

fn collect(value: &Value, text: &mut String) {
    match value {
        Value::String(part) => {
            text.push_str(part);
            text.push('\n');
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, text)),
        Value::Object(fields) => {
            // `state_code` is that of `log_destination = jsonlog`.
            if let Some(Value::String(code)) = fields.get("state_code") {
                text.push_str(&format!("(SQLSTATE {code})\n"));
            }
            let told = fields.iter().filter(|(name, _)| {
                !matches!(name.as_str(), "help" | "fix" | "diagnosis" | "statement" | "query" | "internal_query")
            });
            told.for_each(|(_, value)| collect(value, text));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A SQLSTATE where servers, drivers and this program write one. Five letters elsewhere are a process, a port, a name.
fn state(text: &str) -> Option<String> {
    const BEFORE: [&str; 8] =
        ["SQLSTATE ", "SQLSTATE: ", "SQLSTATE=", "ERROR:  ", "FATAL:  ", ",ERROR,", ",FATAL,", "postgres::"];
    const AFTER: [&str; 2] = [" ERROR:", " FATAL:"];
    let begin = BEFORE.iter().filter_map(|mark| {
        let rest = &text[text.find(mark)? + mark.len()..];
        match *mark {
            "ERROR:  " | "FATAL:  " => code(rest).filter(|_| rest.get(5..).is_some_and(|rest| rest.starts_with(':'))),
            "postgres::" => {
                rest.split_once('(').filter(|(name, _)| !name.contains(' ')).and_then(|(_, rest)| code(rest))
            }
            _ => code(rest),
        }
    });
    let end = AFTER.iter().filter_map(|mark| {
        let before = text[..text.find(mark)?].trim_end();
        let word = before.rsplit([' ', '[', ']', ':']).next()?;
        code(word).filter(|_| word.len() == 5)
    });
    begin.chain(end).next().map(str::to_owned)
}

/// The SQLSTATE at the beginning: five digits and capitals, the first two of a class that exists, and then something else.
fn code(text: &str) -> Option<&str> {
    let code = text.get(..5)?;
    let ends = !text[5..].starts_with(|next: char| next.is_ascii_alphanumeric());
    let shape = code.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
    (ends && shape && CLASSES.contains(&&code[..2])).then_some(code)
}

/// Classes of SQLSTATE that a server reports; a process identifier before ` ERROR:` is rarely mistaken for one.
const CLASSES: [&str; 34] = [
    "01", "02", "03", "08", "09", "0A", "0B", "0L", "0P", "20", "21", "22", "23", "24", "25", "26", "27", "28", "2B",
    "34", "38", "39", "3D", "3F", "40", "42", "44", "53", "54", "55", "57", "58", "P0", "XX",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sqlstate_is_read_where_it_is_written() {
        for text in [
            "creating a slot on h:5432/d: ERROR: no (SQLSTATE 42501); detail",
            "ERROR:  42501: permission denied",
            "2026-01-01 UTC,\"u\",\"d\",4711,,,,,,ERROR,42501,\"permission denied\"",
            "2026-01-01 UTC [4711] 42501 ERROR:  permission denied",
            "error[pgstream::postgres::sql(42501)]: no",
            "org.postgresql.util.PSQLException (SQLSTATE=42501)",
        ] {
            assert_eq!(state(text).as_deref(), Some("42501"), "{text}");
        }
        for text in ["slot is active for PID 42501", "ERROR:  42501 rows", "port 55006 ERROR is", "permission denied"] {
            assert_eq!(state(text), None, "{text}");
        }
    }

    #[test]
    fn details_and_hints_belong_to_their_error_and_statements_to_nothing() {
        let log = "2026-01-01 [7] ERROR:  permission denied to create role\n2026-01-01 [7] DETAIL:  Only roles\n\
                   2026-01-01 [7] STATEMENT:  CREATE ROLE pg_authid\nLOG:  fine";
        let events = events(log);
        assert_eq!(events.len(), 2, "{events:?}");
        assert!(events[0].text.contains("only roles") && !events[0].text.contains("pg_authid"), "{events:?}");
    }

    #[test]
    fn a_line_of_json_is_one_event_without_its_advice() {
        let events =
            events(r#"{"level":"ERROR","message":"a","causes":["b (SQLSTATE 53100)"],"help":"pending-reboot"}"#);
        assert_eq!(events[0].state.as_deref(), Some("53100"));
        assert!(!events[0].text.contains("pending-reboot"));
    }
}
