//! The `pgstream` schema on the target, brought up to date before anything is written.

use pgstream_postgres::{Client, Error};

const MIGRATIONS: &[(i32, &str)] = &[
    (1, include_str!("migrations/0001_progress_and_ledger.sql")),
    (2, include_str!("migrations/0002_disabled_triggers.sql")),
    (3, include_str!("migrations/0003_schema_changes.sql")),
    (4, include_str!("migrations/0004_snapshot_rounds.sql")),
    (5, include_str!("migrations/0005_safety_valve.sql")),
];

/// Arbitrary but fixed: serialises concurrent migrations ("pgsttgt").
const MIGRATION_LOCK: i64 = 0x0070_6773_7474_6774;

/// Creates or upgrades the target's `pgstream` tables. Safe to run twice, in parallel and after a crash.
///
/// # Errors
/// When the role may not create the schema or its tables.
pub async fn migrate(client: &mut Client) -> Result<(), Error> {
    let wrap = client.failed("preparing schema pgstream on the target");
    let run = async {
        let tx = client.build_transaction().start().await?;
        tx.execute("SELECT pg_advisory_xact_lock($1)", &[&MIGRATION_LOCK]).await?;
        tx.batch_execute(
            "DO $$ BEGIN
                 IF to_regnamespace('pgstream') IS NULL THEN CREATE SCHEMA pgstream; END IF;
             END $$;
             CREATE TABLE IF NOT EXISTS pgstream.target_migrations (
                 version integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now());",
        )
        .await?;
        let done: i32 =
            tx.query_one("SELECT coalesce(max(version), 0) FROM pgstream.target_migrations", &[]).await?.get(0);
        for (version, sql) in MIGRATIONS.iter().filter(|(version, _)| *version > done) {
            tx.batch_execute(sql).await?;
            tx.execute("INSERT INTO pgstream.target_migrations (version) VALUES ($1)", &[version]).await?;
        }
        tx.commit().await
    };
    run.await.map_err(wrap)
}
