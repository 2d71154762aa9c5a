//! Servers whose transaction ids are about to run out of 32 bits.
//!
//! ```text
//!  initdb ~700 ──freeze──> a third of 2^32 ──freeze──> two thirds ──freeze──> 2^32 - left ──the test──> 2^32 + …
//! ```
//! Ids are compared around a circle, so the way is gone in steps of less than half of it, each from a state in which all
//! that is older is frozen: as a server does that lives long enough.

use std::fs;

use crate::{
    Binaries, Cluster, Stop,
    template::{as_server_user, give_to_server, run_for_output},
};

/// Ids of one file of `pg_xact`: 32 pages of 8 KiB, four transactions a byte.
const IDS_PER_FILE: u32 = 32 * 8192 * 4;
const FILE_BYTES: usize = 32 * 8192;
const THIRD: u32 = u32::MAX / 3;

impl Cluster {
    /// Restarts the server so that about this many transaction ids are left until the epoch changes.
    ///
    /// # Panics
    /// When the server is down, or a step fails.
    pub async fn near_the_end_of_an_epoch(&self, left: u32) {
        for next in [THIRD, 2 * THIRD, u32::MAX - left + 1] {
            self.freeze_everything().await;
            self.stop(Stop::Fast).await;
            self.set_next_xid(next);
            self.start().await;
        }
    }

    /// No row of any database depends on a transaction id any more.
    async fn freeze_everything(&self) {
        let admin = self.client("postgres").await;
        admin.batch("ALTER DATABASE template0 ALLOW_CONNECTIONS true").await;
        let databases = admin.query("SELECT datname FROM pg_database ORDER BY datname").await;
        for row in databases {
            self.client(row.get(0)).await.batch("VACUUM (FREEZE)").await;
        }
        admin.batch("ALTER DATABASE template0 ALLOW_CONNECTIONS false").await;
    }

    fn set_next_xid(&self, next: u32) {
        // The server expects the commit log of the next id to be there.
        let file = self.data_dir().join(format!("pg_xact/{:04X}", next / IDS_PER_FILE));
        let made = fs::write(&file, vec![0; FILE_BYTES]);
        made.unwrap_or_else(|error| panic!("writing {}: {error}", file.display()));
        give_to_server(&file).unwrap_or_else(|error| panic!("{error}"));
        let tool = Binaries::tool("pg_resetwal").unwrap_or_else(|error| panic!("{error}"));
        let mut command = std::process::Command::new(tool);
        command.args(["--next-transaction-id", &next.to_string()]).arg(self.data_dir());
        run_for_output(as_server_user(&mut command), "pg_resetwal").unwrap_or_else(|error| panic!("{error}"));
    }
}
