//! Roles of the source: of a copy, of `init`, of a stream, of the monitor.

use pgstream_testkit::{Client, assert_sequences_not_behind};

use super::{PASSWORD, Subject, begin, copied, each_grant_is_needed, empty, fixes, follow, login, pipeline};

const READ_SEQUENCE: &str = r#"GRANT SELECT ON SEQUENCE "the shop"."orders_id_seq" TO "pgstreamsource""#;

async fn snapshot_of(major: u32) {
    let mut pipeline = pipeline(major, 18).await;
    pipeline.set("source.postgres.mode", "snapshot");
    pipeline.set("source.postgres.snapshot.schema.pgdump_pgrestore.no_owner", true);
    pipeline.set("source.postgres.snapshot.schema.pgdump_pgrestore.no_privileges", true);
    let subject = Subject::new(&pipeline.source, "source", &["--mode", "snapshot"]);
    let url = login(&pipeline.source, "source");
    let command = async || {
        let done = pipeline.pgstream(&["snapshot", "--postgres-url", &url]).await;
        if done.code == Some(0) {
            pipeline.assert_same_rows().await;
            assert_sequences_not_behind(&pipeline.source, &pipeline.target, "app").await;
        }
        done
    };
    each_grant_is_needed(&subject, || empty(&pipeline.target), command, &|_| ("42501", None)).await;
}

#[tokio::test]
async fn a_snapshot_reads_with_exactly_its_grants_on_18() {
    snapshot_of(18).await;
}

#[tokio::test]
async fn a_snapshot_reads_with_exactly_its_grants_on_13() {
    snapshot_of(13).await;
}

async fn init_on(major: u32) {
    let mut pipeline = copied(major, 18).await;
    let admin = pipeline.source.url("app");
    pipeline.set("source.postgres.mode", "replication");
    pipeline.set("source.postgres.url", login(&pipeline.source, "source"));
    let subject = Subject::new(&pipeline.source, "source", &["--mode", "replication", "--with-init"]);
    let command = async || {
        let done = pipeline.pgstream(&["init"]).await;
        if done.code == Some(0) { follow(&pipeline).await } else { done }
    };
    let prepare = async || {
        pipeline.pgstream(&["destroy", "--yes", "--postgres-url", &admin]).await.ok();
        pipeline.there().await.batch("DROP SCHEMA IF EXISTS pgstream CASCADE").await;
    };
    let expected = |sql: &str| match sql {
        sql if sql.contains("REPLICATION") => ("source::replication_privilege", None),
        sql if sql.contains("CREATE ON DATABASE") => ("source::create_privilege", None),
        sql if sql.contains("_owner") => ("source::publish_privilege", None),
        sql if sql.contains("SEQUENCES") || sql.contains("pg_read_all_data") => {
            ("not carried over", Some(READ_SEQUENCE))
        }
        _ => ("42501", None),
    };
    each_grant_is_needed(&subject, prepare, command, &expected).await;
    pipeline.assert_same_rows().await;
}

#[tokio::test]
async fn init_prepares_with_exactly_its_grants_on_18() {
    init_on(18).await;
}

#[tokio::test]
async fn init_prepares_with_exactly_its_grants_on_13() {
    init_on(13).await;
}

async fn source_of_a_stream(major: u32) {
    let mut pipeline = copied(major, 18).await;
    let admin = pipeline.source.url("app");
    pipeline.set("source.postgres.mode", "replication");
    pipeline.set("source.postgres.url", login(&pipeline.source, "source"));
    let subject = Subject::new(&pipeline.source, "source", &["--mode", "replication"]);
    let expected = |sql: &str| match sql {
        sql if sql.contains("SEQUENCES") => ("not carried over", Some(READ_SEQUENCE)),
        _ => ("42501", None),
    };
    let prepare = async || begin(&pipeline, &admin).await;
    each_grant_is_needed(&subject, prepare, || follow(&pipeline), &expected).await;
    pipeline.assert_same_rows().await;
}

#[tokio::test]
async fn a_stream_reads_with_exactly_its_grants_on_18() {
    source_of_a_stream(18).await;
}

#[tokio::test]
async fn a_stream_reads_with_exactly_its_grants_on_13() {
    source_of_a_stream(13).await;
}

/// What the slot monitor asks, with `CONNECT` and nothing else.
async fn monitor(major: u32) {
    let pipeline = pipeline(major, 18).await;
    pipeline.pgstream(&["init"]).await.ok();
    let subject = Subject::new(&pipeline.source, "monitor", &[]);
    let all = subject.printed().await;
    assert_eq!(
        all,
        ["CREATE ROLE \"pgstreammonitor\" LOGIN", "GRANT CONNECT ON DATABASE \"app\" TO \"pgstreammonitor\""]
    );
    subject.give(all[..1].iter()).await;
    let url = login(&pipeline.source, "monitor");
    let refused = Client::open(&url).await.err().unwrap().to_string();
    assert!(refused.contains("permission denied for database"), "{refused}");
    subject.admin().await.batch(&all[1]).await;
    let session = Client::open(&url).await.unwrap();
    let slots = "SELECT count(*) FROM pg_replication_slots WHERE pg_current_wal_lsn() - restart_lsn >= 0 AND wal_status IS NOT NULL";
    assert_eq!(session.scalar::<i64>(slots).await, 1);
    if major >= 14 {
        session.query("SELECT * FROM pg_stat_replication_slots").await;
    }
}

#[tokio::test]
async fn the_monitor_sees_slots_with_exactly_its_grants() {
    monitor(18).await;
    monitor(13).await;
}

/// What `users plan` prints after `init` with `--hand-over` makes the role the owner; it follows, and the administrator can
/// still remove what was made.
async fn hand_over(major: u32) {
    let mut pipeline = copied(major, 18).await;
    let admin = pipeline.source.url("app");
    begin(&pipeline, &admin).await;
    pipeline.set("source.postgres.mode", "replication");
    pipeline.set("source.postgres.url", login(&pipeline.source, "source"));
    let subject = Subject::new(&pipeline.source, "source", &["--mode", "replication", "--hand-over"]);
    let all = subject.printed().await;
    let of_pgstream: Vec<&String> = all.iter().filter(|sql| sql.contains(" pgstream")).collect();
    let handed =
        ["SCHEMA pgstream", "TABLE pgstream.schema_log", "TABLE pgstream.table_ids", "SEQUENCE pgstream.xid_serial"];
    assert_eq!(
        of_pgstream,
        handed.map(|what| format!("ALTER {what} OWNER TO \"pgstreamsource\"")).iter().collect::<Vec<_>>()
    );
    subject.give(all.iter()).await;
    assert!(subject.printed().await.is_empty(), "all of it is there");
    follow(&pipeline).await.ok();
    follow(&pipeline).await.ok();
    pipeline.assert_same_rows().await;
    pipeline.pgstream(&["status"]).await.ok().prints(&["Nothing is wrong."]);
    pipeline.pgstream(&["destroy", "--yes", "--postgres-url", &admin]).await.ok();
}

#[tokio::test]
async fn a_stream_goes_on_after_the_hand_over_that_is_printed() {
    hand_over(18).await;
    hand_over(13).await;
}

#[tokio::test]
async fn status_names_the_rights_that_it_lacks() {
    let mut pipeline = pipeline(13, 18).await;
    pipeline.pgstream(&["init"]).await.ok();
    pipeline.set("source.postgres.url", pipeline.source.url_as("looker", PASSWORD, "app"));
    let admin = pipeline.here().await;
    admin.batch(&format!("CREATE ROLE looker LOGIN PASSWORD '{PASSWORD}'")).await;
    let refused = pipeline.pgstream(&["status"]).await.ends(1).says(&["42501", "missing_privilege"]);
    assert_eq!(fixes(&refused), ["GRANT CONNECT ON DATABASE \"app\" TO \"looker\""]);
    admin.batch(&fixes(&refused)[0]).await;
    admin.batch("GRANT USAGE ON SCHEMA pgstream TO looker").await;
    let shown = pipeline.pgstream(&["status"]).await.ends(1);
    let fix = "GRANT SELECT ON SEQUENCE \"the shop\".\"orders_id_seq\" TO \"looker\";";
    let shown = shown.prints(&["[sequences_unreadable]", fix]);
    assert!(!shown.out.contains("42501"), "{shown:?}");
    admin.batch(fix).await;
    assert!(!pipeline.pgstream(&["status"]).await.out.contains("sequences_unreadable"));
}
