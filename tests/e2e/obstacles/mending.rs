//! `check --fix`, and how reports look.

use super::prepared;
use crate::replicator::Replicator;

#[tokio::test]
async fn fixes_are_shown_and_applied_by_an_administrator_who_agreed() {
    let (source, target) = pgstream_testkit::pair().await;
    let pipeline = prepared(source, target).await;
    pipeline.here().await.batch("CREATE TABLE secret (a int PRIMARY KEY); CREATE SEQUENCE numbers").await;
    pipeline
        .here()
        .await
        .batch("ALTER TABLE secret OWNER TO owner_of_all; REVOKE SELECT ON secret FROM owner_of_all")
        .await;
    pipeline
        .there()
        .await
        .batch("ALTER DATABASE app OWNER TO postgres; REVOKE CREATE ON DATABASE app FROM owner_of_all")
        .await;
    let (here, there) = (pipeline.source.url("app"), pipeline.target.url("app"));
    let granted = "GRANT SELECT ON SEQUENCE public.numbers TO reader;";

    // Nobody to ask: nothing is done.
    pipeline
        .pgstream(&["check", "--fix"])
        .await
        .ends(2)
        .prints(&["this would run:", granted])
        .says(&["usage::nobody_to_ask"]);
    pipeline.pgstream(&["check", "--fix", "--json"]).await.ends(2);
    pipeline.pgstream(&["check"]).await.ends(1).prints(&["access.select_sequence", "access.create_on_database"]);

    // The connecting roles may not grant themselves anything.
    pipeline.pgstream(&["check", "--fix", "--yes"]).await.ends(1).prints(&["failed", granted, "--source-admin-url"]);

    let arguments =
        ["check", "--fix", "--yes", "--strict", "--json", "--source-admin-url", &here, "--target-admin-url", &there];
    let done = pipeline.pgstream(&arguments).await.ok();
    let fixed = done.json()["fixed"].as_array().unwrap().clone();
    assert!(fixed.iter().any(|it| it["statement"] == granted && it["problem"].is_null()), "{fixed:#?}");
    pipeline.pgstream(&["check", "--fix"]).await.ok().prints(&["Nothing that could be mended"]);
    pipeline.pgstream(&["init"]).await.ok();
}

#[tokio::test]
async fn reports_fit_eighty_columns_but_for_statements() {
    let (source, target) = pgstream_testkit::pair().await;
    let pipeline = prepared(source, target).await;
    pipeline.here().await.batch("CREATE TABLE secret (a int PRIMARY KEY); CREATE UNLOGGED TABLE u (a int)").await;
    let done = pipeline.pgstream(&["check"]).await.ends(1);
    for line in done.out.lines().filter(|line| !line.trim_start().starts_with("fix:")) {
        assert!(line.chars().count() <= 80, "{line}");
    }
    assert!(!done.out.contains('\u{1b}'), "no colours without a terminal");
    let bad = Replicator::start(&["check", "--yes"]).done().await;
    bad.ends(2);
}
