//! The real server behind an instance or a cluster.

use std::{collections::BTreeMap, fmt::Write as _, fs, sync::Arc};

use pgstream_testkit::{Cluster, Error, Stop};

/// The master user, as the console would name it.
pub(crate) const MASTER: &str = "master";
/// See [`MASTER`].
pub(crate) const MASTER_PASSWORD: &str = "master-password";

/// Names and values of a group that differ from the family's.
pub(crate) type Values = BTreeMap<String, String>;

/// RDS's roles, which the master user is a member of. REPLICATION is not inherited in PostgreSQL, so it has its own.
const ROLES: &str =
    "CREATE ROLE rds_replication NOLOGIN; CREATE ROLE rds_superuser NOLOGIN; CREATE ROLE rds_iam NOLOGIN;
    CREATE ROLE rds_password NOLOGIN; GRANT rds_replication, rds_password TO rds_superuser WITH ADMIN OPTION;
    CREATE ROLE master LOGIN CREATEDB CREATEROLE REPLICATION PASSWORD 'master-password';
    GRANT rds_superuser, pg_monitor TO master WITH ADMIN OPTION; CREATE DATABASE app OWNER master";

/// What an endpoint leads to.
pub(crate) enum Server {
    Real(Arc<Cluster>),
    /// States and groups only; nothing listens.
    Paper,
}

/// Where a database on paper would listen.
const PAPER_PORT: u16 = 5432;

impl Server {
    /// A server with the values of a group that was attached before it was made.
    pub(crate) async fn start(major: u32, values: &Values) -> Result<(Self, Arc<Cluster>), Error> {
        let builder = Cluster::builder().major(major).setting("wal_level", "replica");
        let cluster = Arc::new(builder.setting("include_if_exists", "rds.conf").start().await?);
        let admin = cluster.client("postgres").await;
        for statement in ROLES.split(';') {
            admin.batch(statement).await;
        }
        drop(admin);
        let server = Self::Real(Arc::clone(&cluster));
        server.write(values);
        server.restart().await?;
        Ok((server, cluster))
    }

    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::Real(cluster) => cluster.port(),
            Self::Paper => PAPER_PORT,
        }
    }

    /// What a reboot brings into force.
    pub(crate) fn write(&self, values: &Values) {
        let Self::Real(cluster) = self else { return };
        let mut text = String::from("rds.logical_replication = 'off'\n");
        for (name, value) in values.iter().filter(|(_, value)| !value.contains('{')) {
            let value = value.replace('\'', "''");
            // Writing to a String cannot fail.
            let _ = match (name.as_str(), value.as_str()) {
                ("rds.logical_replication", "1") => writeln!(text, "wal_level = logical\n{name} = 'on'"),
                _ => writeln!(text, "{name} = '{value}'"),
            };
        }
        let path = cluster.data_dir().join("rds.conf");
        fs::write(&path, text).unwrap_or_else(|error| panic!("writing {}: {error}", path.display()));
    }

    pub(crate) async fn restart(&self) -> Result<(), Error> {
        let Self::Real(cluster) = self else { return Ok(()) };
        cluster.stop(Stop::Fast).await;
        cluster.try_start().await
    }

    /// Dynamic values come into force at once.
    pub(crate) async fn reload(&self) {
        let Self::Real(cluster) = self else { return };
        cluster.client("postgres").await.batch("SELECT pg_reload_conf()").await;
    }
}
