//! How fast a database is copied, beside what else copies one: dump and restore, a pipe of COPY made by hand for these
//! tables, and the server's own subscription.
//!
//! Everyone copies the same schema, rows and indexes into an empty database, and may use two connections. Then the
//! tables are analysed, which only we do on our own.

use std::{
    process::{Command, Stdio},
    sync::Mutex,
    time::Instant,
};

use pgstream_testkit::{Binaries, Cluster};

use crate::{
    ROUNDS,
    followers::{Cost, Meter, Ours, prepare_native, subscription},
    report::{Bars, Section, Table},
    servers::{self, SOURCE, assert_equal, tool, wait},
    usage::cpu_of_children,
};

/// About 1 GB with its indexes.
pub const SCHEMA: &str = "
    CREATE TABLE customer (id bigint PRIMARY KEY, name text NOT NULL, mail text NOT NULL UNIQUE, since timestamptz, note jsonb);
    CREATE TABLE product (id int PRIMARY KEY, name text, price numeric(12, 2), tags text[]);
    CREATE TABLE purchase (id bigint PRIMARY KEY, customer bigint NOT NULL REFERENCES customer, at timestamptz, total numeric(12, 2), state text);
    CREATE INDEX ON purchase (customer); CREATE INDEX ON purchase (at);
    CREATE TABLE line (purchase bigint REFERENCES purchase, n int, product int NOT NULL REFERENCES product, amount int, price numeric(12, 2),
        PRIMARY KEY (purchase, n));
    CREATE INDEX ON line (product);
    CREATE TABLE event (id bigint PRIMARY KEY, at timestamptz, kind text, payload text);
    CREATE INDEX ON event (at);
    INSERT INTO customer SELECT n, 'customer ' || n, n || '@example.com', timestamptz '2026-01-01' + n * interval '1 minute',
        jsonb_build_object('n', n, 'text', md5(n::text)) FROM generate_series(1, 400000) n;
    INSERT INTO product SELECT n, 'product ' || n, n / 7.0, ARRAY['a' || n % 10, 'b' || n % 7] FROM generate_series(1, 50000) n;
    INSERT INTO purchase SELECT n, 1 + n::int8 * 7919 % 400000, timestamptz '2026-01-01' + n * interval '20 seconds', n % 100000 / 100.0, 'sent'
        FROM generate_series(1, 1200000) n;
    INSERT INTO line SELECT p, n, 1 + (p * 31 + n) % 50000, n, p % 1000 / 10.0 FROM generate_series(1, 1200000) p, generate_series(1, 2) n;
    INSERT INTO event SELECT n, timestamptz '2026-01-01' + n * interval '1 second', 'kind ' || n % 20, repeat(md5(n::text), 4)
        FROM generate_series(1, 1200000) n;
    CREATE TABLE marker (n int PRIMARY KEY); INSERT INTO marker VALUES (1);
    VACUUM (FREEZE, ANALYZE)";

/// All keys and indexes, which come after the rows.
pub const COMPLETE: &str = "SELECT (SELECT count(*) FROM pg_constraint WHERE connamespace = 'public'::regnamespace)
    + (SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE relnamespace = 'public'::regnamespace)";

/// As many as the others may use at a time: two for rows, two for indexes.
const LANES: &str = "\n    snapshot: { data: { table_workers: 2, schema_workers: 2 } }";

const OURS: &str = "pgstream-aws";
const PIPE: &str = "binary COPY pipe";
const DUMP: &str = "pg_dump -Fd, pg_restore";
const NATIVE: &str = "native subscription";
const PEERS: [&str; 4] = [OURS, PIPE, DUMP, NATIVE];

pub async fn measure() -> Section {
    let (source, target) = servers::pair().await;
    let here = source.client(SOURCE).await;
    for statement in SCHEMA.split_inclusive(';') {
        here.batch(statement).await;
    }
    let size: String = here.scalar("SELECT pg_size_pretty(pg_database_size(current_database()))").await;
    let mut costs: Vec<Vec<(Cost, f64)>> = PEERS.map(|_| Vec::new()).to_vec();
    for round in 0..ROUNDS {
        for turn in 0..PEERS.len() {
            let peer = (round + turn) % PEERS.len();
            let cost = copy(PEERS[peer], &source, &target).await;
            eprintln!("  {}: {cost:?}", PEERS[peer]);
            costs[peer].push(cost);
        }
    }
    let titled = format!("A database of {size}, two connections:\n");
    let mut table = Table::new(&[
        "copy",
        "time",
        "of ours",
        "until analysed",
        "of ours",
        "source CPU",
        "target CPU",
        "own CPU",
        "own memory",
    ]);
    let mut bars = Bars::new("A database copied: how many times our time the others take", "copy");
    let ours = median(&costs[0]);
    for (name, rounds) in PEERS.iter().zip(&costs) {
        let (cost, analysed) = median(rounds);
        if *name != OURS {
            bars.push(name, cost.seconds / ours.0.seconds);
        }
        let known = |figure: f64, text: String| if figure > 0.0 { text } else { "–".to_owned() };
        table.push(vec![
            (*name).to_owned(),
            format!("{:.2} s", cost.seconds),
            format!("{:.2}", cost.seconds / ours.0.seconds),
            format!("{analysed:.2} s"),
            format!("{:.2}", analysed / ours.1),
            format!("{:.2} s", cost.source_cpu),
            format!("{:.2} s", cost.target_cpu),
            known(cost.own_cpu, format!("{:.2} s", cost.own_cpu)),
            known(cost.memory, format!("{:.0} MiB", cost.memory)),
        ]);
    }
    Section::new("copy").with(titled).with(table).with(bars)
}

fn median(rounds: &[(Cost, f64)]) -> (Cost, f64) {
    let (costs, analysed): (Vec<_>, Vec<_>) = rounds.iter().copied().unzip();
    (Cost::median(&costs), crate::median(analysed))
}

/// What the copy cost, and the seconds until the tables were analysed too.
async fn copy(peer: &str, source: &Cluster, target: &Cluster) -> (Cost, f64) {
    let database = "copy";
    target.client("postgres").await.batch(&format!("CREATE DATABASE {database}")).await;
    target.client(database).await.batch("CHECKPOINT").await;
    let result = match peer {
        OURS => ours(source, target, database).await,
        NATIVE => natively(source, target, database).await,
        _ => {
            let meter = Meter::start(source, target);
            let own = if peer == PIPE { pipe(source, target, database).await } else { dump(source, target, database) };
            let cost = Cost { own_cpu: own, ..meter.stop() };
            let seconds = cost.seconds + analyse(target, database);
            (cost, seconds)
        }
    };
    assert_equal(source, target, database).await;
    target.client("postgres").await.batch(&format!("DROP DATABASE {database} WITH (FORCE)")).await;
    result
}

async fn ours(source: &Cluster, target: &Cluster, database: &str) -> (Cost, f64) {
    let lanes = std::env::var("LANES").unwrap_or(LANES.into());
    let we = Ours::new(source, target, database, &format!("snapshot{lanes}"), "");
    let (here, there) = (source.client(SOURCE).await, target.client(database).await);
    let expected = here.text(COMPLETE).await.unwrap();
    let meter = Meter::start(source, target);
    let began = Instant::now();
    let mut running = we.start("snapshot");
    // What comes after the last key is the analysis, which the others do not do.
    let (complete, (own_cpu, memory)) = tokio::join!(
        async {
            wait(&there, COMPLETE, &expected).await;
            began.elapsed().as_secs_f64()
        },
        running.finish()
    );
    let cost = Cost { own_cpu, memory, ..meter.stop() };
    (Cost { seconds: complete, ..cost }, cost.seconds)
}

async fn natively(source: &Cluster, target: &Cluster, database: &str) -> (Cost, f64) {
    prepare_native(source).await;
    let there = target.client(database).await;
    let meter = Meter::start(source, target);
    let schema = tempfile::NamedTempFile::new().unwrap();
    let file = schema.path().to_str().unwrap();
    tool("pg_dump", &["--schema-only", "--no-publications", "-f", file, &source.url(SOURCE)]);
    psql(&target.url(database), &["-f", file]);
    there.batch(&subscription(source, "create_slot = false, copy_data = true")).await;
    wait(&there, "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r'", "0").await;
    let cost = meter.stop();
    let analysed = cost.seconds + analyse(target, database);
    there.batch("ALTER SUBSCRIPTION bench DISABLE; ALTER SUBSCRIPTION bench SET (slot_name = NONE)").await;
    there.batch("DROP SUBSCRIPTION bench").await;
    let here = source.client(SOURCE).await;
    wait(&here, "SELECT count(*) FROM pg_replication_slots WHERE active", "0").await;
    here.batch("SELECT pg_drop_replication_slot('bench_native')").await;
    here.batch("DROP PUBLICATION bench_native").await;
    (cost, analysed)
}

/// Returns the CPU seconds of both programs.
fn dump(source: &Cluster, target: &Cluster, database: &str) -> f64 {
    let before = cpu_of_children();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("dump");
    let file = file.to_str().unwrap();
    tool("pg_dump", &["-Fd", "-j2", "-Z0", "--no-publications", "-f", file, &source.url(SOURCE)]);
    tool("pg_restore", &["-j2", "-d", &target.url(database), file]);
    cpu_of_children() - before
}

/// What an expert would write for these very tables: two lanes, the largest table first, binary, frozen, and the
/// indexes of a table as soon as its rows are there.
async fn pipe(source: &Cluster, target: &Cluster, database: &str) -> f64 {
    let before = cpu_of_children();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("schema.sql");
    let file = file.to_str().unwrap();
    tool("pg_dump", &["--section=pre-data", "--no-publications", "-f", file, &source.url(SOURCE)]);
    psql(&target.url(database), &["-f", file]);
    let here = source.client(SOURCE).await;
    let tables = here
        .query("SELECT oid::regclass::text, pg_table_size(oid) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 2 DESC")
        .await;
    let mut work = Vec::new();
    for table in tables {
        let table: String = table.get(0);
        let after = here
            .text(&format!(
                "SELECT string_agg(statement, ';' ORDER BY first DESC) FROM (
                    SELECT contype = 'p' AS first, format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) AS statement
                        FROM pg_constraint WHERE conrelid = '{table}'::regclass AND contype IN ('p', 'u')
                    UNION ALL SELECT false, pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = '{table}'::regclass
                        AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)) s"
            ))
            .await;
        work.push((table, after.unwrap_or_default()));
    }
    work.reverse();
    let work = Mutex::new(work);
    let (from, to) = (source.url(SOURCE), target.url(database));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some((table, after)) = work.lock().unwrap().pop() else { return };
                    copy_table(&from, &to, &table);
                    psql(&to, &["-c", &after]);
                }
            });
        }
    });
    let keys = here
        .text(
            "SELECT string_agg(format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid)), ';')
             FROM pg_constraint WHERE contype = 'f'",
        )
        .await;
    psql(&to, &["-c", &keys.unwrap_or_default()]);
    cpu_of_children() - before
}

fn copy_table(from: &str, to: &str, table: &str) {
    let psql = Binaries::tool("psql").unwrap();
    let mut out = Command::new(&psql)
        .args(["-qX", "-c", &format!("COPY {table} TO STDOUT (FORMAT binary)"), from])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let into = Command::new(&psql)
        .args(["-qX", "-v", "ON_ERROR_STOP=1", "-c", "BEGIN", "-c", &format!("TRUNCATE {table}")])
        .args(["-c", &format!("COPY {table} FROM STDIN (FORMAT binary, FREEZE)"), "-c", "COMMIT", to])
        .stdin(out.stdout.take().unwrap())
        .status()
        .unwrap();
    assert!(out.wait().unwrap().success() && into.success(), "{table}");
}

fn psql(url: &str, arguments: &[&str]) {
    tool("psql", &[&["-qX", "-v", "ON_ERROR_STOP=1"], arguments, &[url]].concat());
}

/// Seconds that it takes to analyse everything with two connections.
fn analyse(target: &Cluster, database: &str) -> f64 {
    let began = Instant::now();
    tool("vacuumdb", &["--analyze-only", "-q", "-j2", "-d", &target.url(database)]);
    began.elapsed().as_secs_f64()
}
