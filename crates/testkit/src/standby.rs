//! A standby of a cluster: made from its files, fed by its WAL, promoted by a test.
//!
//! ```text
//!  primary: stop ─> files ─> start ──WAL──> standby ──pg_promote()──> another primary, on the next timeline
//! ```

use std::{fs, path::Path};

use crate::{
    Cluster, Error, Stop,
    builder::{append, clusters_dir, scratch},
    cluster::Layout,
    error::io,
    port::Port,
    template::{PASSWORD, USER, copy_data, give_to_server},
    watchdog::Watchdog,
};

impl Cluster {
    /// A standby that follows this server, which is shut down for a moment. It reads WAL by the physical slot `standby`,
    /// which must exist, and has these settings beside the primary's. Logical slots of the primary are not on it.
    ///
    /// # Panics
    /// When one of them does not start.
    pub async fn standby(&self, settings: &str) -> Self {
        self.stop(Stop::Fast).await;
        let made = self.copy_as_standby(settings);
        self.start().await;
        let standby = made.unwrap_or_else(|error| panic!("{error}"));
        standby.start().await;
        standby
    }

    fn copy_as_standby(&self, settings: &str) -> Result<Self, Error> {
        let base = scratch(&clusters_dir())?;
        let layout = Layout { binaries: self.layout().binaries.clone(), data: base.join("data"), base, disk: None };
        let watchdog = Watchdog::start(&layout.data, &layout.base)?;
        copy_data(self.data_dir(), &layout.data)?;
        remove_slots(&layout.data.join("pg_replslot"))?;
        let primary = format!("host=127.0.0.1 port={} user={USER} password={PASSWORD} dbname=app", self.port());
        let text = format!(
            "\n# testkit\nprimary_conninfo = '{primary}'\nprimary_slot_name = 'standby'\nhot_standby_feedback = on\n\
             wal_receiver_status_interval = 1\n{settings}\n"
        );
        append(&layout.data.join("postgresql.conf"), &text)?;
        let signal = layout.data.join("standby.signal");
        fs::write(&signal, "").map_err(io(format!("writing {}", signal.display())))?;
        give_to_server(&signal)?;
        Ok(Self::new(layout, Port::reserve()?, watchdog))
    }
}

fn remove_slots(directory: &Path) -> Result<(), Error> {
    let failed = || io(format!("emptying {}", directory.display()));
    for entry in fs::read_dir(directory).map_err(failed())? {
        fs::remove_dir_all(entry.map_err(failed())?.path()).map_err(failed())?;
    }
    Ok(())
}
