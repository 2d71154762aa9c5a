//! `doctor explain`: errors as servers say them.

use crate::replicator::{Pipeline, Replicator};

#[tokio::test]
async fn errors_that_a_server_really_says_are_explained() {
    for major in [13, 15, 18] {
        let (source, target) = pgstream_testkit::pair_of(major, major).await;
        let pipeline = Pipeline::between(source, target, "CREATE ROLE low LOGIN PASSWORD 'secret'").await;
        pipeline.here().await.batch("REVOKE CREATE ON SCHEMA public FROM public").await;
        let low = pgstream_testkit::Client::open(&pipeline.source.url_as("low", "secret", "app")).await.unwrap();
        for (sql, id) in [
            ("SELECT * FROM pg_authid", "pg_authid"),
            ("SET session_replication_role = replica", "session_replication_role"),
            ("CREATE TABLE public.x ()", "schema_public"),
            ("CREATE ROLE r REPLICATION", "create_role"),
            ("CREATE DATABASE d", "create_database"),
            ("CREATE SCHEMA s", "permission_database"),
            ("SELECT * FROM public.marker", "permission_relation"),
            ("DROP SCHEMA public", "not_owner"),
            ("SELECT pg_create_logical_replication_slot('s', 'pgoutput')", "replication_permission"),
        ] {
            let error = low.simple_query(sql).await.unwrap_err();
            let text = error.as_db_error().unwrap().message().to_owned();
            let done = Replicator::start(&["doctor", "explain", "--json", &text]).done().await.ok();
            assert_eq!(done.json()[0]["id"], id, "{major}: {text}");
        }
    }
}

#[tokio::test]
async fn what_is_not_known_is_said_to_be_unknown() {
    Replicator::start(&["doctor", "explain", "all is well"]).done().await.ends(1).prints(&["No error that is known"]);
    Replicator::start(&["doctor", "explain", "FATAL: all replication slots are in use"]).done().await.ok().prints(&[
        "no_free_slot",
        "cause:",
        "fix:",
    ]);
}
