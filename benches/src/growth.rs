//! How time and memory grow: with the rows of a copy, with the number of tables, with the size of one transaction.

use pgstream_testkit::Cluster;

use crate::{
    followers::{Cost, Meter, Ours},
    report::{Lines, Section, Table},
    servers::{self, SOURCE, assert_equal},
};

const MILLION: u64 = 1_000_000;

pub async fn measure() -> Section {
    let mut table = Table::new(&["what", "size", "time", "own CPU", "own memory", "source CPU", "target CPU"]);
    let mut memory = Vec::new();
    let mut line = |name: &str, costs: &[(u64, Cost)]| {
        for (size, cost) in costs {
            table.push(vec![
                name.to_owned(),
                size.to_string(),
                format!("{:.2} s", cost.seconds),
                format!("{:.2} s", cost.own_cpu),
                format!("{:.0} MiB", cost.memory),
                format!("{:.2} s", cost.source_cpu),
                format!("{:.2} s", cost.target_cpu),
            ]);
        }
        #[expect(clippy::cast_precision_loss, reason = "sizes are small numbers")]
        memory.push((name.to_owned(), costs.iter().map(|(size, cost)| (*size as f64, cost.memory)).collect()));
    };
    let mut costs = Vec::new();
    for rows in [50_000, 500_000, 5 * MILLION] {
        costs.push((rows, copy(&rows_of(rows)).await));
    }
    line("rows copied", &costs);
    costs.clear();
    for tables in [10, 1_000, 10_000] {
        costs.push((tables, copy(&tables_of(tables)).await));
    }
    line("tables copied", &costs);
    costs.clear();
    for rows in [MILLION / 10, MILLION, 5 * MILLION] {
        costs.push((rows, one_transaction(rows).await));
    }
    line("rows of one transaction, streamed", &costs);
    let lines =
        Lines { title: "Memory of the process", file: "growth", across: "rows or tables", up: "MiB", series: memory };
    Section::new("growth").with(table).with(lines)
}

fn rows_of(rows: u64) -> Vec<String> {
    vec![format!(
        "CREATE TABLE t (id bigint PRIMARY KEY, a int, b text, c timestamptz);
         INSERT INTO t SELECT n, n % 1000, 'some text ' || n, now() FROM generate_series(1, {rows}) n"
    )]
}

fn tables_of(tables: u64) -> Vec<String> {
    // Each statement makes a thousand: locks are held to a transaction's end.
    (0..tables.div_ceil(1_000))
        .map(|thousand| {
            let last = (tables - thousand * 1_000).min(1_000);
            format!(
                "DO $$ BEGIN FOR n IN 1..{last} LOOP
                    EXECUTE format('CREATE TABLE t_%s (id int PRIMARY KEY, a text)', {thousand} * 1000 + n);
                    EXECUTE format('INSERT INTO t_%s SELECT g, g FROM generate_series(1, 10) g', {thousand} * 1000 + n);
                 END LOOP; END $$"
            )
        })
        .collect()
}

async fn copy(schema: &[String]) -> Cost {
    let (source, target) = servers::pair().await;
    fill(&source, schema).await;
    target.create_database("copy").await;
    let we = Ours::new(&source, &target, "copy", "snapshot", "");
    let meter = Meter::start(&source, &target);
    let (own_cpu, memory) = we.start("snapshot").finish().await;
    let cost = Cost { own_cpu, memory, ..meter.stop() };
    assert_equal(&source, &target, "copy").await;
    cost
}

async fn fill(server: &Cluster, statements: &[String]) {
    let client = server.client(SOURCE).await;
    for statement in statements {
        client.batch(statement).await;
    }
}

async fn one_transaction(rows: u64) -> Cost {
    const TABLE: &str =
        "CREATE TABLE marker (n int PRIMARY KEY); CREATE TABLE t (id bigint PRIMARY KEY, a int, b text)";
    let (source, target) = servers::pair().await;
    target.create_database("copy").await;
    target.client("copy").await.batch(TABLE).await;
    let here = source.client(SOURCE).await;
    here.batch(TABLE).await;
    let we = Ours::new(&source, &target, "copy", "replication", "");
    we.run("init");
    here.batch(&format!("INSERT INTO t SELECT n, n % 1000, 'some text ' || n FROM generate_series(1, {rows}) n")).await;
    here.batch("INSERT INTO marker VALUES (1)").await;
    let cost = we.follow(&source, &target).await;
    assert_equal(&source, &target, "copy").await;
    cost
}
