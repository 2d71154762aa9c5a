//! What recording and replaying schema changes costs a backlog that has none: the same with and without them.

use crate::{
    ROUNDS,
    backlog::{TPC_B, prepare, write},
    followers::{Cost, Ours},
    report::{Section, Table},
    servers::{self, SOURCE, assert_equal},
};

pub async fn measure() -> Section {
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        for with_schema in [round % 2 == 0, round % 2 == 1] {
            let cost = follow(with_schema).await;
            println!("  {with_schema}: {cost:.2?}");
            if with_schema { &mut with } else { &mut without }.push(cost);
        }
    }
    let mut table = Table::new(&["TPC-B, 150,000 transactions", "time", "target CPU", "source CPU", "own CPU"]);
    for (name, rounds) in [("schema changes followed", &with), ("`ignore_ddl: true`", &without)] {
        let cost = Cost::median(rounds);
        table.push(vec![
            name.to_owned(),
            format!("{:.2} s", cost.seconds),
            format!("{:.2} s", cost.target_cpu),
            format!("{:.2} s", cost.source_cpu),
            format!("{:.2} s", cost.own_cpu),
        ]);
    }
    Section::new("schema").with(table)
}

async fn follow(with_schema: bool) -> Cost {
    let (source, target) = servers::pair().await;
    target.create_database("ours").await;
    prepare(&TPC_B, &source, SOURCE).await;
    prepare(&TPC_B, &target, "ours").await;
    let settings = format!("    ignore_ddl: {}\n", !with_schema);
    let we = Ours::new(&source, &target, "ours", "replication", &settings);
    we.run("init");
    write(&TPC_B, &source).await;
    let cost = we.follow(&source, &target).await;
    assert_equal(&source, &target, "ours").await;
    cost
}
