//! How fast a backlog is applied, and what that costs, beside the server's own subscription.
//!
//! Both sides get the same tables and a slot each; then the source is written to; then each follows alone until it has
//! everything, in turns first.

use pgstream_testkit::Cluster;

use crate::{
    ROUNDS,
    followers::{Cost, Ours, follow_natively, prepare_native},
    report::{Bars, Section, Table},
    servers::{self, SOURCE, assert_equal, pgbench},
};

pub struct Workload {
    pub name: &'static str,
    /// On both sides, before the slots.
    pub schema: &'static str,
    /// On the source, after them.
    pub load: Load,
}

pub enum Load {
    Sql(&'static str),
    Pgbench { scale: u32, transactions: u32 },
}

pub const TPC_B: Workload = Workload {
    name: "TPC-B, 150,000 transactions",
    schema: "",
    load: Load::Pgbench { scale: 5, transactions: 150_000 },
};

const WORKLOADS: [Workload; 6] = [
    TPC_B,
    Workload {
        name: "1,000 transactions of 1,000 inserts",
        schema: "CREATE TABLE bulk (id bigint PRIMARY KEY, a int, b text, c timestamptz, d numeric)",
        load: Load::Sql(
            "DO $$ BEGIN FOR n IN 1..1000 LOOP
                INSERT INTO bulk SELECT n * 1000 + i, i, 'some text ' || i, now(), i / 7.0 FROM generate_series(0, 999) AS i;
                COMMIT; END LOOP; END $$",
        ),
    },
    Workload {
        name: "500,000 updates by key",
        schema: "CREATE TABLE item (id int PRIMARY KEY, a int, b text, c text);
                 INSERT INTO item SELECT n, n, 'text ' || n, repeat('x', 100) FROM generate_series(1, 500000) AS n",
        load: Load::Sql(
            "DO $$ BEGIN FOR n IN 0..499 LOOP
                UPDATE item SET a = a + 1, b = 'new ' || id WHERE id % 500 = n; COMMIT; END LOOP; END $$",
        ),
    },
    Workload {
        name: "200,000 updates beside unchanged TOAST",
        schema: "CREATE TABLE document (id int PRIMARY KEY, version int, title text, body text);
                 ALTER TABLE document ALTER body SET STORAGE EXTERNAL;
                 INSERT INTO document SELECT n, 0, 'title ' || n, repeat(md5(n::text), 250) FROM generate_series(1, 5000) AS n",
        load: Load::Sql(
            "DO $$ BEGIN FOR n IN 0..399 LOOP
                UPDATE document SET version = version + 1 WHERE id % 10 = n % 10; COMMIT; END LOOP; END $$",
        ),
    },
    Workload {
        name: "10,000 updates without a key",
        schema: "CREATE TABLE loose (day date, n int, note text);
                 ALTER TABLE loose REPLICA IDENTITY FULL;
                 INSERT INTO loose SELECT date '2026-01-01' + n % 365, n, 'note ' || n FROM generate_series(1, 20000) AS n",
        load: Load::Sql(
            "DO $$ BEGIN FOR part IN 0..99 LOOP
                UPDATE loose SET note = 'new ' || note WHERE n % 200 = part; COMMIT; END LOOP; END $$",
        ),
    },
    Workload {
        name: "100,000 updates without a key, with an index",
        schema: "CREATE TABLE loose (day date, n int, note text);
                 CREATE INDEX ON loose (n);
                 ALTER TABLE loose REPLICA IDENTITY FULL;
                 INSERT INTO loose SELECT date '2026-01-01' + n % 365, n, 'note ' || n FROM generate_series(1, 200000) AS n",
        load: Load::Sql(
            "DO $$ BEGIN FOR part IN 0..99 LOOP
                UPDATE loose SET note = 'new ' || note WHERE n % 200 = part; COMMIT; END LOOP; END $$",
        ),
    },
];

pub async fn measure() -> Section {
    let chosen = std::env::var("WORKLOAD").unwrap_or_default();
    let mut table = Table::new(&[
        "backlog",
        "ours",
        "native",
        "times as fast",
        "target CPU, ours",
        "native",
        "share",
        "source CPU, ours",
        "native",
        "own CPU",
        "own memory",
    ]);
    let mut bars = Bars::new("A backlog applied: times as fast as the native subscription", "backlog");
    for workload in WORKLOADS.iter().filter(|workload| workload.name.contains(&chosen)) {
        let mut rounds = Vec::new();
        for round in 0..ROUNDS {
            let costs = compare(workload, round % 2 == 1).await;
            println!("  {}: {costs:.2?}", workload.name);
            rounds.push(costs);
        }
        let (ours, native): (Vec<_>, Vec<_>) = rounds.into_iter().unzip();
        let (ours, native) = (Cost::median(&ours), Cost::median(&native));
        let faster = native.seconds / ours.seconds;
        bars.push(workload.name, faster);
        table.push(vec![
            workload.name.to_owned(),
            format!("{:.2} s", ours.seconds),
            format!("{:.2} s", native.seconds),
            format!("**{faster:.2}**"),
            format!("{:.2} s", ours.target_cpu),
            format!("{:.2} s", native.target_cpu),
            format!("**{:.2}**", ours.target_cpu / native.target_cpu),
            format!("{:.2} s", ours.source_cpu),
            format!("{:.2} s", native.source_cpu),
            format!("{:.2} s", ours.own_cpu),
            format!("{:.0} MiB", ours.memory),
        ]);
    }
    Section::new("backlog").with(table).with(bars)
}

async fn compare(workload: &Workload, ours_first: bool) -> (Cost, Cost) {
    let (source, target) = servers::pair().await;
    prepare(workload, &source, SOURCE).await;
    for database in ["ours", "native"] {
        target.create_database(database).await;
        prepare(workload, &target, database).await;
    }
    let we = Ours::new(&source, &target, "ours", "replication", "");
    we.run("init");
    prepare_native(&source).await;
    write(workload, &source).await;
    let (ours, native);
    if ours_first {
        ours = we.follow(&source, &target).await;
        native = follow_natively(&source, &target, "native").await;
    } else {
        native = follow_natively(&source, &target, "native").await;
        ours = we.follow(&source, &target).await;
    }
    for database in ["ours", "native"] {
        assert_equal(&source, &target, database).await;
    }
    (ours, native)
}

/// Tables and what is in them before the load.
pub async fn prepare(workload: &Workload, server: &Cluster, database: &str) {
    let client = server.client(database).await;
    client.batch("CREATE TABLE marker (n int PRIMARY KEY)").await;
    if let Load::Pgbench { scale, .. } = workload.load {
        pgbench(server, database, &["-i", "-q", "-s", &scale.to_string()]);
    }
    client.batch(workload.schema).await;
    client.batch("CHECKPOINT").await;
}

/// The load, and the marker behind it.
pub async fn write(workload: &Workload, source: &Cluster) {
    let here = source.client(SOURCE).await;
    match &workload.load {
        Load::Sql(sql) => here.batch(sql).await,
        Load::Pgbench { transactions, .. } => {
            let each = transactions / 4;
            pgbench(source, SOURCE, &["-n", "-c", "4", "-j", "2", "-t", &each.to_string()]);
        }
    }
    here.batch("INSERT INTO marker VALUES (1)").await;
}
