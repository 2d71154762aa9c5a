//! The RDS API in front of real PostgreSQL servers on one machine.
//!
//! ```text
//!  AWS_ENDPOINT_URL_RDS ──Action=…──> http ──> faults ──> World: instances, clusters, parameter groups
//!                                                            └── reboot: the group's values ──> a real server restarts
//! ```
//! What is asked and answered, and where that was read, is in `docs/rds-sim.md`. A simulator is for one test or one
//! person: it keeps nothing, and its servers end with it.

mod catalog;
mod databases;
mod describe;
mod error;
mod events;
mod faults;
mod groups;
mod http;
mod iam;
mod made;
mod request;
mod seen;
mod server;
mod world;
mod xml;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{net::TcpListener, task::JoinHandle};

pub use faults::{Fault, Faults};
pub use iam::Policy;
pub use made::{Cluster, Instance};
pub use request::Call;
pub use seen::{ParameterGroup, Seen};

use self::world::World;

/// How a simulator behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// Port on loopback; 0 for a free one.
    pub port: u16,
    /// How long a state such as `applying` lasts, or `available` after a reboot was asked for.
    pub pause: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { port: 0, pause: Duration::from_millis(100) }
    }
}

/// A running simulator. Dropping it ends it and its servers.
pub struct Simulator {
    address: SocketAddr,
    world: Arc<World>,
    task: JoinHandle<()>,
}

impl Simulator {
    /// Listens on loopback.
    ///
    /// # Errors
    /// When the port cannot be had.
    pub async fn start(options: Options) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await?;
        let address = listener.local_addr()?;
        let world = Arc::new(World::new(options.pause));
        let task = tokio::spawn(http::serve(listener, Arc::clone(&world)));
        Ok(Self { address, world, task })
    }

    /// For `AWS_ENDPOINT_URL_RDS`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Makes a database instance, with a real server behind it.
    ///
    /// # Errors
    /// When the server does not start.
    pub async fn create_instance(&self, instance: Instance) -> Result<Database, pgstream_testkit::Error> {
        self.world.create_instance(instance).await
    }

    /// Makes a cluster with its members; the writer is a real server, readers are names.
    ///
    /// # Errors
    /// When the server does not start.
    pub async fn create_cluster(&self, cluster: Cluster) -> Result<Database, pgstream_testkit::Error> {
        self.world.create_cluster(cluster).await
    }

    /// An instance of which there is nothing but its states and its group: for what needs no server, without its cost.
    pub fn declare_instance(&self, instance: Instance) {
        self.world.declare_instance(instance);
    }

    /// A cluster, likewise.
    pub fn declare_cluster(&self, cluster: Cluster) {
        self.world.declare_cluster(cluster);
    }

    /// An instance or a cluster as it is now.
    ///
    /// # Panics
    /// There is none of this name.
    #[must_use]
    pub fn seen(&self, id: &str) -> Seen {
        self.world.seen(id).unwrap_or_else(|| panic!("there is no database {id}"))
    }

    /// All parameter groups.
    #[must_use]
    pub fn groups(&self) -> Vec<ParameterGroup> {
        self.world.groups()
    }

    /// What goes wrong from now on.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.world.faults
    }

    /// Callers may do what a policy allows and nothing else; everything without one.
    pub fn enforce(&self, policy: Option<Policy>) {
        self.world.enforce(policy);
    }

    /// Everything that was asked, in order.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.world.calls()
    }

    /// Puts a modification beside those that the API is asked for, to be flushed by `ApplyImmediately`.
    pub fn add_pending_modification(&self, id: &str, name: &'static str, value: &str) {
        self.world.add_pending_modification(id, name, value);
    }

    /// From now on the status of a database is one that does not end by itself, such as `storage-full`.
    pub fn set_status(&self, id: &str, status: &'static str) {
        self.world.set_status(id, status);
    }

    /// A blue/green deployment of this database.
    pub fn add_blue_green(&self, id: &str, name: &str, status: &str) {
        self.world.add_blue_green(id, name, status);
    }

    /// Maintenance that waits for its window.
    pub fn add_maintenance(&self, id: &str, action: &str, description: &str) {
        self.world.add_maintenance(id, action, description);
    }

    /// Something that happened to it so long ago; categories are those of RDS, such as `low storage`.
    pub fn add_event(&self, id: &str, ago: Duration, category: &str, message: &str) {
        self.world.add_event(id, ago, category, message);
    }

    /// The account may have so many groups of a kind beside AWS's own.
    pub fn set_group_quota(&self, most: usize) {
        self.world.set_group_quota(most);
    }

    /// Maintenance was made, and the blue/green deployment deleted.
    pub fn nothing_is_due(&self, id: &str) {
        self.world.nothing_is_due(id);
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The server behind an instance or a cluster's writer.
#[derive(Clone)]
pub struct Database {
    cluster: Arc<pgstream_testkit::Cluster>,
}

impl Database {
    /// A URL of the master user for a database on it; `postgres` and `app` are there.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        self.cluster.url_as(server::MASTER, server::MASTER_PASSWORD, database)
    }

    /// The master user.
    #[must_use]
    pub fn user(&self) -> &'static str {
        server::MASTER
    }

    /// Its password.
    #[must_use]
    pub fn password(&self) -> &'static str {
        server::MASTER_PASSWORD
    }

    /// The port on loopback.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.cluster.port()
    }

    /// The real server.
    #[must_use]
    pub fn cluster(&self) -> &pgstream_testkit::Cluster {
        &self.cluster
    }
}
