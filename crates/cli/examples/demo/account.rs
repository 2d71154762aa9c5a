//! An AWS account on this machine, with two databases in it.
//!
//! ```text
//!  ministack  Secrets Manager:  shop/source     host, port, database, user, password
//!                               shop-new/master  user and password, as RDS manages them
//!                               shop/target      the same, with host, port and database
//!  rds-sim    RDS:              shop             PostgreSQL 16 on the default parameter group, wal_level = replica
//!                               shop-new         PostgreSQL 18
//! ```

use std::path::Path;

use pgstream_testkit::{Client, Emulator};
use rds_sim::{Database, Instance, Options, Simulator};
use serde_json::{Value, json};

use crate::pgstream::Shell;

/// The database on both servers.
pub const DATABASE: &str = "shop";
const SOURCE_MAJOR: u32 = 16;
const TARGET_MAJOR: u32 = 18;

/// The account; its servers end with it.
pub struct Account {
    pub emulator: Emulator,
    simulator: Simulator,
    pub source: Database,
    pub target: Database,
}

impl Account {
    /// Starts everything, with an empty database on both servers.
    pub async fn open() -> Result<Self, String> {
        let simulator = Simulator::start(Options::default()).await.map_err(|e| e.to_string())?;
        let (emulator, source, target) = tokio::try_join!(
            Emulator::own(),
            simulator.create_instance(Instance::new("shop").major(SOURCE_MAJOR)),
            simulator.create_instance(Instance::new("shop-new").major(TARGET_MAJOR)),
        )
        .map_err(|e| e.to_string())?;
        for database in [&source, &target] {
            let sql = format!("CREATE DATABASE {DATABASE} OWNER {}", database.user());
            database.cluster().client("postgres").await.batch(&sql).await;
        }
        Ok(Self { emulator, simulator, source, target })
    }

    /// Puts the logins where RDS and its users keep them.
    pub async fn store_secrets(&self) -> Result<Logins, String> {
        let source = json!({
            "engine": "postgres", "host": "127.0.0.1", "port": self.source.port(), "dbname": DATABASE,
            "username": self.source.user(), "password": self.source.password(),
        });
        let master = json!({ "username": self.target.user(), "password": self.target.password() });
        let target = json!({
            "engine": "postgres", "host": "127.0.0.1", "port": self.target.port(), "dbname": DATABASE,
            "username": self.target.user(), "password": self.target.password(),
        });
        self.store("shop-new/master", &master).await?;
        Ok(Logins {
            source: self.store("shop/source", &source).await?,
            target: self.store("shop/target", &target).await?,
        })
    }

    /// The ARN of a secret that is made with this login.
    async fn store(&self, name: &str, login: &Value) -> Result<String, String> {
        let made = self.call(
            "secretsmanager",
            "secretsmanager.CreateSecret",
            json!({ "Name": name, "SecretString": login.to_string() }),
        );
        Ok(made.await?["ARN"].as_str().unwrap_or_default().to_owned())
    }

    /// Calls an action of a service that takes JSON.
    pub async fn call(&self, service: &str, target: &str, body: Value) -> Result<Value, String> {
        match self.emulator.json(service, target, &body.to_string()).await {
            (200, answer) => Ok(serde_json::from_str(&answer).unwrap_or_default()),
            (status, answer) => Err(format!("{target}: {status} {answer}")),
        }
    }

    /// A customer's way to the source.
    pub fn url(&self) -> String {
        self.source.url(DATABASE)
    }

    /// The master user's session on the source: everything in it is theirs, nothing a superuser's.
    pub async fn shop(&self) -> Result<Client, String> {
        Client::open(&self.url()).await.map_err(|e| e.to_string())
    }

    /// What the SDK reads, and nothing else of this machine.
    pub fn environment(&self) -> Vec<(String, String)> {
        let mut variables = self.emulator.environment();
        variables.push(("AWS_ENDPOINT_URL_RDS".to_owned(), self.simulator.endpoint()));
        variables
    }

    /// Where to type commands, with a configuration `shop.yaml`.
    pub fn shell(&self, directory: &Path) -> Result<Shell, String> {
        let file = directory.join("shop.yaml");
        std::fs::write(&file, include_str!("shop.yaml")).map_err(|e| format!("{}: {e}", file.display()))?;
        Shell::new(directory, self.environment())
    }
}

/// The ARNs of the secrets that tasks and Lambda read.
pub struct Logins {
    pub source: String,
    pub target: String,
}
