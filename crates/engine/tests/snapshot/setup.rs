//! Jobs with defaults.

use std::{num::NonZeroUsize, time::Duration};

use pgstream_config::{
    pattern::{TableFilter, TablePattern},
    pipeline::{Access, ObjectTypes, OnConflict, PostgresTarget, Retry, RolesMode, SchemaCopy, Snapshot, SnapshotMode},
};
use pgstream_engine::snapshot::{Error, Job, LedgerSource, Progress, Summary};
use pgstream_postgres::{Dsn, Server};
use pgstream_testkit::{Binaries, Cluster};
use tokio_util::sync::CancellationToken;

fn number(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap()
}

pub fn server(url: &str) -> Server {
    Server::new(Dsn::parse(url).unwrap())
}

/// A full copy of database `app` with the defaults of the configuration.
pub fn job(source: &Cluster, target: &Cluster) -> Job {
    let retry = Retry {
        initial: Duration::from_millis(50),
        max: Duration::from_millis(500),
        max_retries: None,
        max_elapsed: None,
    };
    Job {
        source: server(&source.url("app")),
        target: server(&target.url("app")),
        ledger_source: LedgerSource::Database,
        settings: Snapshot {
            mode: SnapshotMode::Full,
            tables: TableFilter::default(),
            repeat: false,
            table_workers: number(4),
            schema_workers: number(4),
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
            url: target.url("app").into(),
            access: Access::Url,
            max_connections: number(50),
            disable_triggers: None,
            on_conflict: OnConflict::Error,
        },
        retry,
        publication: None,
        created_after: None,
        copiers: pgstream_engine::snapshot::Copiers::Here,
        tools: Binaries::tool("pg_dump").unwrap().parent().map(Into::into),
    }
}

pub async fn run(job: Job) -> Result<Summary, Error> {
    pgstream_engine::snapshot::run(job, Progress::silent(), CancellationToken::new()).await
}

/// Where both servers write definitions in the same way.
pub async fn assert_same_schema(source: &Cluster, target: &Cluster, db: &str) {
    if source.major() == target.major() {
        pgstream_testkit::assert_same_schema(source, target, db).await;
    }
}

/// `schema.table`, `*` for any.
pub fn pattern(text: &str) -> TablePattern {
    let (schema, table) = text.split_once('.').unwrap();
    let part = |text: &str| (text != "*").then(|| text.to_owned());
    TablePattern { schema: part(schema), table: part(table) }
}
