//! Publishing a table must never make the user's own UPDATE or DELETE fail.

use pgstream_engine::source::{Action, Error, InitSettings, Object, slot};
use pgstream_postgres::Session;
use pgstream_testkit::{cluster, dump_schema};

use crate::setup::{
    app, assert_nothing_wrong, codes, destroy, excluding, has, init, init_with, only_fix, role, status, try_init,
};

/// One table for each way to have no usable identity.
const UNUSABLE: &str = "
    CREATE TABLE no_key (id int);
    CREATE TABLE nothing (id int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
    CREATE TABLE deferrable_key (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED);
    CREATE TABLE lost_index (id int NOT NULL UNIQUE, b int);
    ALTER TABLE lost_index REPLICA IDENTITY USING INDEX lost_index_id_key;
    ALTER TABLE lost_index DROP CONSTRAINT lost_index_id_key;
    CREATE TABLE parted (id int, at date) PARTITION BY RANGE (at);
    CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
    CREATE TABLE parent (id int); CREATE TABLE child () INHERITS (parent)";

/// And those that have one.
const USABLE: &str = "
    CREATE TABLE key (id int PRIMARY KEY);
    CREATE TABLE full_row (id int); ALTER TABLE full_row REPLICA IDENTITY FULL;
    CREATE TABLE by_index (id int NOT NULL UNIQUE); ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_id_key;
    CREATE UNLOGGED TABLE unlogged (id int);
    CREATE TABLE keyed_parts (id int PRIMARY KEY) PARTITION BY HASH (id);
    CREATE TABLE keyed_parts_0 PARTITION OF keyed_parts FOR VALUES WITH (MODULUS 1, REMAINDER 0)";

const TOUCHED: [&str; 7] = ["child", "deferrable_key", "lost_index", "no_key", "nothing", "parent", "parted_1"];
const UNTOUCHED: [&str; 5] = ["by_index", "full_row", "key", "keyed_parts_0", "unlogged"];

#[tokio::test]
async fn matrix_source_updates_go_on_after_init_and_after_destroy() {
    let cluster = cluster().await;
    let client = cluster.client("app").await;
    client.batch(UNUSABLE).await;
    client.batch(USABLE).await;
    let before = dump_schema(&cluster, "app").await;
    let identities = "SELECT string_agg(relname || ' ' || relreplident::text, ', ' ORDER BY relname) FROM pg_class
                      WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')";
    let identities_before = client.text(identities).await;
    let source = app(&cluster);
    let report = init(&source).await;
    let mut changed: Vec<_> = report
        .steps
        .iter()
        .filter(|step| step.object == Object::ReplicaIdentity)
        .map(|step| step.name.clone())
        .collect();
    changed.sort();
    assert_eq!(changed, TOUCHED.map(|name| format!("\"public\".\"{name}\"")));
    let write_all = || async {
        for table in TOUCHED.iter().chain(&UNTOUCHED).chain(&["parted", "keyed_parts"]) {
            client.batch(&format!("UPDATE {table} SET id = id; DELETE FROM {table}")).await;
        }
    };
    client.batch("INSERT INTO no_key VALUES (1); INSERT INTO parted VALUES (1, '2026-06-01'); INSERT INTO lost_index VALUES (1, 1)").await;
    write_all().await;
    assert_nothing_wrong(&source).await;
    destroy(&source).await;
    write_all().await;
    // NOTHING is what an identity by a dropped index amounts to, and the only way to say it.
    let expected = identities_before.map(|text| text.replace("lost_index i", "lost_index n"));
    assert_eq!(client.text(identities).await, expected);
    let mut after = dump_schema(&cluster, "app").await;
    for definition in after.values_mut() {
        *definition = definition.replace("ALTER TABLE ONLY public.lost_index REPLICA IDENTITY NOTHING;\n", "");
    }
    assert_eq!(after, before);
}

#[tokio::test]
async fn a_partition_that_comes_later_is_warned_of_found_and_mended() {
    let cluster = cluster().await;
    let client = cluster.client("app").await;
    client.batch(UNUSABLE).await;
    let source = app(&cluster);
    init(&source).await;
    // Where schema changes are recorded, it would be mended at once.
    client
        .batch(
            "SET pgstream.skip_log = 'true';
             CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')",
        )
        .await;
    let found = status(&source).await.findings;
    assert_eq!(found.iter().map(|finding| finding.code).collect::<Vec<_>>(), ["tables_without_identity"]);
    assert!(found[0].message.contains("parted_2"), "{}", found[0].message);
    let report = init(&source).await;
    assert!(has(&report.steps, Action::Changed, Object::ReplicaIdentity, "\"public\".\"parted_2\""));
    client.batch("INSERT INTO parted VALUES (1, '2027-06-01'); UPDATE parted SET id = 2").await;
    assert_nothing_wrong(&source).await;
}

#[tokio::test]
async fn a_table_of_another_owner_is_refused_with_the_exact_statement() {
    let cluster = cluster().await;
    let client = cluster.client("app").await;
    let source = role(&cluster, "operator", "REPLICATION").await;
    client
        .batch(
            "GRANT CREATE ON DATABASE app TO operator; CREATE ROLE \"the owner\"; CREATE TABLE mine (id int PRIMARY KEY);
             ALTER TABLE mine OWNER TO operator; CREATE TABLE theirs (id int); ALTER TABLE theirs OWNER TO \"the owner\"",
        )
        .await;
    let result = try_init(&source, &InitSettings::default()).await;
    let Err(Error::Refused { problems, .. }) = &result else { panic!("not refused") };
    assert!(
        problems[0].fix.contains("ALTER TABLE \"public\".\"theirs\" REPLICA IDENTITY FULL;"),
        "{}",
        problems[0].fix
    );
    assert!(problems[1].fix.contains("GRANT \"the owner\" TO \"operator\";"), "{}", problems[1].fix);
    assert_eq!(codes(result), ["source::replica_identity", "source::publish_privilege"]);
    assert!(crate::setup::leftovers(&client).await.is_empty());
    // What the message offers works.
    init_with(&source, &excluding("public", "theirs")).await;
    destroy(&source).await;
    client.batch("GRANT \"the owner\" TO operator; ALTER TABLE theirs REPLICA IDENTITY FULL").await;
    init(&source).await;
}

#[tokio::test]
async fn a_table_in_use_is_named_with_who_uses_it() {
    let cluster = cluster().await;
    let (client, holder) = (cluster.client("app").await, cluster.client("app").await);
    client.batch("CREATE TABLE busy (id int)").await;
    holder.batch("SET application_name = 'nightly report'; BEGIN; SELECT * FROM busy").await;
    let pid: i32 = holder.scalar("SELECT pg_backend_pid()").await;
    let source = app(&cluster);
    let task = tokio::spawn({
        let source = source.clone();
        async move { try_init(&source, &InitSettings::default()).await }
    });
    // Meanwhile others get at the table: nobody waits behind init for longer than half a second.
    client.wait_until("SELECT count(*) FROM pg_locks WHERE relation = 'busy'::regclass AND NOT granted", "1").await;
    client.batch("SET statement_timeout = '5s'; INSERT INTO busy VALUES (1); UPDATE busy SET id = 2").await;
    let error = task.await.unwrap().unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::TableBusy { .. }), "{text}");
    assert!(text.contains("\"public\".\"busy\"") && text.contains(&format!("pid {pid} (nightly report")), "{text}");
    holder.batch("COMMIT").await;
    init(&source).await;
    assert_nothing_wrong(&source).await;
}

#[tokio::test]
async fn what_the_user_changed_since_is_left_alone() {
    let cluster = cluster().await;
    let client = cluster.client("app").await;
    client
        .batch("CREATE TABLE a (id int); CREATE TABLE b (id int); CREATE TABLE c (id int); CREATE TABLE d (id int)")
        .await;
    let source = app(&cluster);
    init(&source).await;
    client
        .batch(
            "SET pgstream.skip_log = 'true';
             ALTER TABLE a ADD PRIMARY KEY (id); ALTER TABLE a REPLICA IDENTITY DEFAULT; DROP TABLE b;
             ALTER TABLE c RENAME TO moved; CREATE PUBLICATION theirs FOR TABLE d",
        )
        .await;
    let steps = destroy(&source).await;
    assert!(has(&steps, Action::Left, Object::ReplicaIdentity, "\"public\".\"a\""), "{steps:#?}");
    assert!(has(&steps, Action::Restored, Object::ReplicaIdentity, "\"public\".\"moved\""), "{steps:#?}");
    assert!(has(&steps, Action::Left, Object::ReplicaIdentity, "\"public\".\"d\""), "{steps:#?}");
    client.batch("UPDATE d SET id = 1; UPDATE a SET id = 1; UPDATE moved SET id = 1").await;
    assert_eq!(crate::setup::leftovers(&client).await, ["publication theirs"]);
}

#[tokio::test]
async fn the_record_survives_a_second_change() {
    let cluster = cluster().await;
    let client = cluster.client("app").await;
    client.batch("CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t REPLICA IDENTITY NOTHING").await;
    let source = app(&cluster);
    init(&source).await;
    client.batch("ALTER TABLE t REPLICA IDENTITY DEFAULT; ALTER TABLE t DROP CONSTRAINT t_pkey").await;
    init(&source).await;
    client.batch("UPDATE t SET id = 1").await;
    destroy(&source).await;
    assert_eq!(client.text("SELECT relreplident FROM pg_class WHERE oid = 't'::regclass").await.as_deref(), Some("d"));
}

#[tokio::test]
async fn a_role_that_cannot_record_an_identity_is_told_before_anything_happens() {
    let cluster = cluster().await;
    let client = cluster.client("app").await;
    init(&app(&cluster)).await;
    let source = role(&cluster, "operator", "REPLICATION").await;
    client
        .batch(
            "SET pgstream.skip_log = 'true'; ALTER SCHEMA pgstream OWNER TO operator; CREATE TABLE t (id int);
             ALTER TABLE t OWNER TO operator",
        )
        .await;
    let fix = only_fix(try_init(&source, &InitSettings::default()).await);
    assert_eq!(fix, "as its owner: ALTER TABLE pgstream.replica_identities OWNER TO \"operator\";");
    client.batch("ALTER TABLE pgstream.replica_identities OWNER TO operator").await;
    init(&source).await;
    let session = source.connect(&Session::new("test")).await.unwrap();
    assert!(slot::fence(&session, "pgstream_app_slot").await.unwrap().is_some());
}
