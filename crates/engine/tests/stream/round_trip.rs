//! Every built-in type of the source's catalog, and types that users make: copied, and then inserted, updated and deleted
//! by key, by the type as key, and by the whole row. Edges and values at random; whether they travel as text or in binary
//! form depends on the types and the versions (`make types` runs several pairs).
//!
//! A type that the catalog has and this page does not fails the test.

mod values;

use std::{collections::BTreeMap, fmt::Write as _, num::NonZeroUsize};

use pgstream_config::{
    pattern::TableFilter,
    pipeline::{Access, ObjectTypes, OnConflict, PostgresTarget, RolesMode, SchemaCopy, Snapshot, SnapshotMode},
};
use pgstream_engine::{
    snapshot::{self, LedgerSource, Progress},
    source::{self, InitSettings},
};
use pgstream_testkit::{Binaries, seed};
use tokio_util::sync::CancellationToken;

use self::values::{BUILT_IN, MADE, MAKE, NOT_FOR_COLUMNS};
use crate::harness::{PUBLICATION, Pair, SLOT, server};

/// Values at random, for each type that can have them.
const RANDOM: usize = 12;

/// A type, its values as SQL expressions of it, and whether it can be a key.
struct Subject {
    number: usize,
    sql: String,
    values: Vec<String>,
    is_key: bool,
}

impl Subject {
    /// Its tables: by a key beside it, by the whole row, and by itself.
    fn tables(&self) -> String {
        let Self { number, sql, .. } = self;
        let mut tables = format!(
            "CREATE TABLE s{number} (id int PRIMARY KEY, v {sql}, a {sql}[]); CREATE TABLE f{number} (n int, v {sql});"
        );
        if self.is_key {
            write!(tables, "CREATE TABLE k{number} (v {sql} PRIMARY KEY, n int);").unwrap();
        }
        tables
    }

    /// Rows with all values, under numbers from `first` on.
    fn rows(&self, first: usize) -> String {
        let (number, values) = (self.number, &self.values);
        let listed: Vec<String> = (first..).zip(values).map(|(n, value)| format!("({n}, {value})")).collect();
        let listed = listed.join(", ");
        // No arrays of them: the one is an array by another name, the others are taken for arrays until 14.
        let array = match self.sql.as_str() {
            "moods" | "int2vector" | "oidvector" => "NULL",
            _ => "ARRAY[v, NULL, v]",
        };
        let mut rows = format!(
            "INSERT INTO s{number} SELECT n, v, {array} FROM (VALUES {listed}) AS x (n, v);
             INSERT INTO s{number} VALUES ({first} + 900, NULL, NULL), ({first} + 901, NULL, '{{}}');
             INSERT INTO f{number} SELECT n, v FROM (VALUES {listed}, ({first} + 900, NULL)) AS x (n, v);
             INSERT INTO f{number} SELECT n, v FROM (VALUES {listed}, ({first} + 900, NULL)) AS x (n, v);"
        );
        if self.is_key {
            write!(
                rows,
                "INSERT INTO k{number} SELECT v, n FROM (VALUES {listed}) AS x (n, v) WHERE length(v::text) < 500
                 ON CONFLICT DO NOTHING;"
            )
            .unwrap();
        }
        rows
    }

    fn changes(&self) -> String {
        let Self { number, .. } = self;
        let mut changes = format!(
            "UPDATE s{number} SET v = o.v FROM s{number} o WHERE o.id = s{number}.id + 1 AND s{number}.id % 2 = 0;
             UPDATE s{number} SET a = a[2:3] WHERE id % 3 = 0; DELETE FROM s{number} WHERE id % 5 = 0;
             UPDATE f{number} SET n = n + 10000 WHERE ctid = ANY (ARRAY(SELECT (array_agg(ctid))[1] FROM f{number} WHERE n % 2 = 0 GROUP BY n));
             DELETE FROM f{number} WHERE ctid = ANY (ARRAY(SELECT (array_agg(ctid))[1] FROM f{number} WHERE n % 3 = 0 GROUP BY n));"
        );
        if self.is_key {
            write!(changes, "UPDATE k{number} SET n = -n WHERE n % 2 = 0; DELETE FROM k{number} WHERE n % 3 = 0;")
                .unwrap();
        }
        changes
    }
}

/// One column of a type that has no binary form is enough for the whole stream to be text.
#[tokio::test]
async fn every_type_makes_the_round_trip_as_text() {
    round_trip(|_| true).await;
}

#[tokio::test]
async fn every_type_that_has_a_binary_form_makes_the_round_trip() {
    round_trip(|name| !name.starts_with("reg") && !["aclitem", "tsquery"].contains(&name)).await;
}

async fn round_trip(wanted: fn(&str) -> bool) {
    let (source, target) = pgstream_testkit::pair().await;
    let (here, there) = (source.client("app").await, target.client("app").await);
    here.batch(MAKE).await;
    // The same type has another number on the other side.
    there.batch("CREATE TYPE gap AS ENUM (); DROP TYPE gap").await;
    let seed = seed();
    here.batch(&format!("SELECT setseed({})", (seed % 1_000_000) as f64 / 1e6)).await;
    let subjects = subjects(&here, source.major(), wanted).await;
    let tables: String = subjects.iter().map(Subject::tables).collect();
    here.batch(&format!("CREATE TABLE public.marker (n bigint PRIMARY KEY); {tables}")).await;
    for subject in &subjects {
        here.batch(&subject.rows(1)).await;
    }

    let at_source = server(&source.url("app"));
    source::init(&at_source, &InitSettings::default(), &CancellationToken::new(), |_| {}).await.expect("init");
    let pair = Pair::of(source, target, here, there);
    snapshot::run(copy_of(&pair), Progress::silent(), CancellationToken::new()).await.expect("the copy");
    pair.assert_same().await;

    let running = pair.stream();
    for subject in &subjects {
        pair.here.batch(&format!("BEGIN; {} {} COMMIT", subject.rows(1001), subject.changes())).await;
        pair.here.batch(&subject.changes()).await;
    }
    pair.caught_up(&running).await;
    pair.assert_same().await;
    running.stop().await.expect("the stream stops cleanly");
}

/// All of them, with edges and with values at random.
async fn subjects(here: &pgstream_testkit::Client, major: u32, wanted: fn(&str) -> bool) -> Vec<Subject> {
    let known: BTreeMap<&str, _> = BUILT_IN.iter().map(|(name, edges, random)| (*name, (*edges, *random))).collect();
    let in_catalog = here
        .query(
            "SELECT typname::text, format_type(oid, NULL) FROM pg_type
             WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype IN ('b', 'r', 'm') AND typcategory <> 'A'
               AND oid < 16384 ORDER BY 1",
        )
        .await;
    let mut subjects = Vec::new();
    for row in &in_catalog {
        let (name, sql): (String, String) = (row.get(0), row.get(1));
        if NOT_FOR_COLUMNS.contains(&name.as_str()) || !wanted(&name) {
            continue;
        }
        let (edges, random) =
            *known.get(name.as_str()).unwrap_or_else(|| panic!("{name} of version {major} is new here"));
        // A type without its length has another name.
        let sql = if name == "bpchar" || name == "bit" { format!("{name}(7)") } else { sql };
        add(&mut subjects, here, major, sql, edges, random).await;
    }
    for (sql, edges, random) in MADE {
        add(&mut subjects, here, major, (*sql).to_owned(), edges, random).await;
    }
    assert!(subjects.len() > 60, "{}", subjects.len());
    subjects
}

async fn add(
    subjects: &mut Vec<Subject>,
    here: &pgstream_testkit::Client,
    major: u32,
    sql: String,
    edges: &[&str],
    random: &str,
) {
    let newer = |edge: &&str| !(major < 14 && edge.starts_with("14:"));
    let edges = edges.iter().filter(|edge| newer(edge)).map(|edge| edge.strip_prefix("14:").unwrap_or(edge));
    let mut values: Vec<String> =
        edges.map(|edge| format!("{}::{sql}", pgstream_postgres::quote_literal(edge))).collect();
    if !random.is_empty() {
        let made = here.query(&format!("SELECT ({random})::{sql}::text FROM generate_series(1, {RANDOM}) AS n")).await;
        values.extend(made.iter().map(|row| {
            let text: String = row.get(0);
            format!("{}::{sql}", pgstream_postgres::quote_literal(&text))
        }));
    }
    let literal = pgstream_postgres::quote_literal(&sql);
    let is_key = here
        .scalar::<bool>(&format!(
            "WITH RECURSIVE base AS (SELECT {literal}::regtype::oid AS oid, 0 AS depth
                UNION ALL SELECT t.typbasetype, depth + 1 FROM base JOIN pg_type t USING (oid) WHERE t.typtype = 'd'),
             type AS (SELECT t.* FROM base JOIN pg_type t USING (oid) ORDER BY depth DESC LIMIT 1)
             SELECT EXISTS (SELECT FROM pg_opclass c JOIN pg_am a ON a.oid = c.opcmethod AND a.amname = 'btree', type
                WHERE c.opcdefault AND (c.opcintype = type.oid
                   OR c.opcintype = CASE type.typtype WHEN 'e' THEN 'anyenum'::regtype WHEN 'r' THEN 'anyrange'::regtype
                      WHEN 'c' THEN 'record'::regtype WHEN 'm' THEN to_regtype('anymultirange') END
                   OR EXISTS (SELECT FROM pg_cast WHERE castsource = type.oid AND casttarget = c.opcintype
                              AND castmethod = 'b' AND castcontext = 'i' AND type.typname IN ('varchar'))))"
        ))
        .await;
    subjects.push(Subject { number: subjects.len(), is_key, sql, values });
}

fn copy_of(pair: &Pair) -> snapshot::Job {
    let number = |n: usize| NonZeroUsize::new(n).unwrap();
    snapshot::Job {
        source: server(&pair.source.url("app")),
        target: server(&pair.target.url("app")),
        ledger_source: LedgerSource::Slot(SLOT.into()),
        settings: Snapshot {
            mode: SnapshotMode::Full,
            tables: TableFilter::default(),
            repeat: false,
            table_workers: number(2),
            schema_workers: number(2),
            part_bytes: 80 << 20,
            max_connections: number(50),
            schema: SchemaCopy {
                clean_target_db: false,
                create_target_db: false,
                roles: RolesMode::NoPasswords,
                include_globals: false,
                no_owner: false,
                no_privileges: false,
                role: None,
                exclude_security_labels: Vec::new(),
                refresh_materialized_views: false,
                index_session_settings: Vec::new(),
                dump_file: None,
                object_types: ObjectTypes::All,
            },
        },
        target_settings: PostgresTarget {
            url: pair.target.url("app").into(),
            access: Access::Url,
            max_connections: number(50),
            disable_triggers: None,
            on_conflict: OnConflict::Error,
        },
        retry: pair.job().retry,
        publication: Some(PUBLICATION.into()),
        created_after: None,
        copiers: pgstream_engine::snapshot::Copiers::Here,
        tools: Binaries::tool("pg_dump").unwrap().parent().map(Into::into),
    }
}
