//! What the fuzz targets do; `crates/engine/tests/corpus` replays the corpus through the same functions.
//!
//! ```text
//!  frames, session   bytes ──> Wire ──> login, commands, frames          what a server says on a replication connection
//!  pgoutput, tuples  bytes ──> Message ──> cells; net effect             what its frames carry
//!  stream            bytes ──> Reader ──> batches ──> net effect         both, and the order of it all
//!  copy              bytes ──> the driver's COPY                         what a server says to COPY TO
//!  snapshot_text     text  ──> listing, script                           what pg_restore prints
//!  schema_log        text  ──> record ──> plan                           what the source recorded of schema changes
//!  config, url       text  ──> Pipeline, Dsn                             what a person wrote
//! ```
//! Each returns whatever the input is. A panic, or an assertion about what came out, is a finding.

use std::{future::Future, time::Duration};

use pgstream_config::{Needs, Overrides, SecretUrl, load_text, redact_url};
use pgstream_engine::{
    ddl::{
        Record,
        plan::{Plan, Rights},
    },
    snapshot::hostile as snapshot,
    stream::hostile as reader,
};
use pgstream_postgres::{
    Dsn, Lsn,
    pgoutput::{Cell, Message, Tuple},
    replication::{Frame, ReplicationStream, hostile},
};

/// Longer than anything takes: an input that needs more hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a password looks like that must not show up anywhere.
const CANARY: &str = "CANARY";

/// The frames of a running stream.
pub fn frames(said: &[u8]) {
    run(async {
        let Ok((stream, _peer)) = hostile::stream(said) else { return };
        drain(stream).await;
    });
}

/// A session from its start-up on.
pub fn session(said: &[u8]) {
    run(async {
        match hostile::session(said).await {
            Ok((stream, _peer)) => drain(stream).await,
            Err(error) => shown(&error),
        }
    });
}

async fn drain(mut stream: ReplicationStream) {
    loop {
        match stream.frame().await {
            Ok(Frame::Data { message, .. }) => pgoutput(&message),
            Ok(Frame::Keepalive { .. }) => {}
            Err(error) => return shown(&error),
        }
    }
}

/// One message, as one outside and as one inside a streamed block.
pub fn pgoutput(bytes: &[u8]) {
    match Message::parse(bytes) {
        Ok(message) => walk(&message, bytes.len()),
        Err(error) => {
            assert!(error.offset <= bytes.len(), "{error}");
            shown(&error);
        }
    }
    if let Ok((_, message)) = Message::parse_streamed(bytes) {
        walk(&message, bytes.len());
    }
}

/// Looks at all that a message has. What was checked at the door does not end early.
fn walk(message: &Message<'_>, length: usize) {
    match message {
        Message::Insert { new, .. } => cells(*new, length),
        Message::Update { old, new, .. } => {
            old.iter().for_each(|old| cells(old.tuple(), length));
            cells(*new, length);
        }
        Message::Delete { old, .. } => cells(old.tuple(), length),
        Message::Relation(relation) => {
            assert_eq!(relation.columns().count(), relation.column_count());
            assert!(relation.column_count() <= length);
            assert!(!reader::describe(relation).is_empty());
        }
        Message::Truncate(truncate) => assert!(truncate.relations().count() * 4 <= length),
        Message::Begin { commit_time, .. } | Message::Commit { commit_time, .. } => {
            let _outside_the_clock = commit_time.system_time();
        }
        _ => {}
    }
    assert!(!format!("{message:?}").is_empty());
}

fn cells(tuple: Tuple<'_>, length: usize) {
    assert_eq!(tuple.cells().count(), tuple.len());
    assert_eq!(tuple.has_unchanged(), tuple.cells().any(|cell| cell == Cell::Unchanged));
    let bytes: usize = tuple
        .cells()
        .map(|cell| match cell {
            Cell::Text(value) | Cell::Binary(value) => value.len() + 5,
            Cell::Null | Cell::Unchanged => 1,
        })
        .sum();
    assert!(bytes <= length);
    let mut arena = vec![0xAA; 3];
    let saved = tuple.save(&mut arena);
    assert_eq!(saved.tuple(&arena), tuple);
    assert_eq!(saved.end(), arena.len());
}

/// Many row messages of one table, each behind a byte for its length, and what they amount to.
pub fn tuples(bytes: &[u8]) {
    let (mut messages, mut rest) = (Vec::new(), bytes);
    while let Some((&length, after)) = rest.split_first() {
        let (message, after) = after.split_at(after.len().min(usize::from(length)));
        messages.push(message);
        rest = after;
    }
    let (faithful, seen) = reader::fold(&messages);
    assert!(faithful, "a batch gives back what was put into it");
    // A row that was replaced is two.
    assert!(seen.operations <= 2 * seen.changes, "{seen:?}");
}

/// A running stream, down to the net effect. Read in large batches and in small ones it says the same.
pub fn stream(said: &[u8]) {
    let read = |changes: usize| {
        run(async move {
            let Ok((stream, _peer)) = hostile::stream(said) else { return None };
            let (result, seen) = reader::read(stream, Lsn::ZERO, changes).await;
            if let Err(error) = &result {
                shown(error);
            }
            Some((result.map_err(|error| error.to_string()), seen))
        })
    };
    if let (Some((large, once)), Some((small, again))) = (read(10_000), read(2)) {
        assert_eq!(large, small);
        assert!(again.changes >= once.changes, "{once:?} {again:?}");
    }
}

/// The answer to `COPY TO`.
pub fn copy(said: &[u8]) {
    run(async {
        match hostile::copy_out(said).await {
            Ok(bytes) => assert!(bytes <= said.len()),
            Err(error) => shown(&error),
        }
    });
}

/// A file of settings: YAML, or `.env` when it starts with `#env`.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let name = if text.starts_with("#env") { "settings.env" } else { "settings.yaml" };
    let environment = |name: &str| (name == "SET").then(|| "value".to_owned());
    let check = |url: &str| Dsn::parse(url).map(drop).map_err(|error| (error.problem, error.fix.unwrap_or_default()));
    for needs in [Needs::Source, Needs::SourceAndTarget] {
        match load_text(name, text, &Overrides::default(), needs, &environment, &check) {
            Ok(loaded) => assert!(!format!("{:?}", loaded.pipeline).is_empty()),
            Err(errors) => assert!(!format!("{errors} {errors:?}").is_empty()),
        }
    }
}

/// A connection URL: as it is, and behind the beginning of one whose password is known.
pub fn url(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _one_or_the_other = (Dsn::parse(text).map(|dsn| dsn.to_string()), redact_url(text));
    let _none_or_one = SecretUrl::parse(text).map(|parsed| parsed.map(|secret| secret.example()));
    if text.contains(CANARY) {
        return;
    }
    let whole = format!("postgresql://user:{CANARY}{text}");
    let said = match Dsn::parse(&whole) {
        Ok(dsn) => format!("{dsn} {dsn:?} {}", dsn.host_display()),
        Err(error) => format!("{error} {error:?}"),
    };
    assert!(!said.contains(CANARY), "{said}");
    let redacted = redact_url(&whole);
    assert!(!redacted.contains(CANARY), "{redacted}");
}

/// What `pg_restore` prints: a listing, and a script.
pub fn snapshot_text(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (entries, names, left_out) = snapshot::listing(text);
    assert!(names <= entries && left_out <= entries && entries <= text.lines().count());
    for major in [13, 18] {
        assert!(snapshot::body(text, major).len() <= text.len());
    }
    // Entries as the headings number them, which is what would be asked for.
    let ids: Vec<u32> =
        text.split("\n--\n-- TOC entry ").skip(1).filter_map(|rest| rest.split_once(' ')?.0.parse().ok()).collect();
    if let Some(script) = snapshot::put_together(text, &ids).filter(|_| !ids.is_empty()) {
        let distinct = ids.iter().collect::<std::collections::HashSet<_>>().len() == ids.len();
        assert!(!distinct || script == text);
    }
    let mut statements = 0;
    for (statement, shown) in snapshot::statements(text) {
        statements += 1;
        assert!(text.contains(statement));
        // Each byte is shown at most as three: a literal's two quotes hold an ellipsis.
        assert!(shown.len() <= 3 * statement.len().max(2) + 3, "{shown}");
    }
    assert!(statements <= text.len());
}

/// The column `objects` of `pgstream.schema_log`.
pub fn schema_log(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Record::parse(1, "ALTER TABLE", text, None) {
        Ok(record) => {
            record.changes.iter().for_each(|change| assert!(!change.describe().is_empty()));
            for kept in [true, false] {
                let rights = Rights { owner: kept, privileges: kept };
                if let Ok(plan) = Plan::new(&record.changes, rights) {
                    assert!(plan.statements().all(|sql| !sql.is_empty()));
                }
            }
        }
        Err(error) => shown(&error),
    }
}

/// An error says something, once with its causes.
fn shown(error: &(dyn std::error::Error + 'static)) {
    assert!(!error.to_string().is_empty());
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    assert!(causes.map(ToString::to_string).count() < 10);
}

/// Runs to the end. The runtime is made once a thread: making one costs more than most inputs.
fn run<T>(work: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    }
    RUNTIME.with(|runtime| runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await.expect("an end") }))
}
