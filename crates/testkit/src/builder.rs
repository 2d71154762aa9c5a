//! What a cluster is made with.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    Binaries, Cluster, Disk, Error,
    cluster::Layout,
    error::io,
    port::Port,
    template::{copy_data, give_to_server, template},
    tls::write_certificates,
    watchdog::Watchdog,
};

/// What every cluster has unless the builder says otherwise. Durability is off: a killed process loses nothing that
/// reached the system, and no test pulls the plug.
const SETTINGS: [(&str, &str); 18] = [
    ("listen_addresses", "127.0.0.1"),
    ("wal_level", "logical"),
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("max_connections", "100"),
    ("max_wal_senders", "20"),
    ("max_replication_slots", "20"),
    ("max_prepared_transactions", "20"),
    ("password_encryption", "scram-sha-256"),
    ("shared_buffers", "32MB"),
    ("wal_init_zero", "off"),
    ("max_wal_size", "512MB"),
    // Files in the data directory go with it; POSIX segments of a killed server would stay.
    ("dynamic_shared_memory_type", "mmap"),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
    ("log_line_prefix", "%m [%p] %q%u@%d %a "),
    ("log_error_verbosity", "verbose"),
    ("log_replication_commands", "on"),
];

/// What a durable cluster has beside that: PostgreSQL's own defaults.
const DURABLE: [(&str, &str); 3] = [("fsync", "on"), ("full_page_writes", "on"), ("wal_init_zero", "on")];

/// Where what is written outlives the machine's power, which cannot be said of `/tmp`.
const DISK: &str = "/var/tmp";

/// Free bytes below which `/dev/shm` is left alone: containers often have 64 MiB there.
const ROOMY: u64 = 8 << 30;

/// How often a taken port is replaced by another one.
const PORT_TRIES: usize = 5;

/// Describes a cluster; [`Builder::start`] makes it.
#[derive(Debug, Clone)]
pub struct Builder {
    major: u32,
    settings: Vec<(String, String)>,
    hba: Vec<String>,
    tls: bool,
    fillable: Option<&'static str>,
    durable: bool,
}

impl Builder {
    pub(crate) fn new(major: u32) -> Self {
        Self { major, settings: Vec::new(), hba: Vec::new(), tls: false, fillable: None, durable: false }
    }

    /// The major version; the newest, or that of the matrix, if not called.
    #[must_use]
    pub fn major(mut self, major: u32) -> Self {
        self.major = major;
        self
    }

    /// A line of `postgresql.conf`; a later one wins.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A line of `pg_hba.conf`, read before the defaults (password on loopback for all and for replication).
    #[must_use]
    pub fn hba(mut self, line: &str) -> Self {
        self.hba.push(line.to_owned());
        self
    }

    /// TLS with a new certificate for `localhost` and `127.0.0.1`; its authority is [`Cluster::ca_file`].
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// A disk that [`Cluster::disk`] can fill below this part of the data directory: `""` is all of it, `base` the
    /// tables without the WAL, so that the server lives however long the disk is full.
    #[must_use]
    pub fn fillable_disk(mut self, below: &'static str) -> Self {
        self.fillable = Some(below);
        self
    }

    /// Commits that are on a disk, as PostgreSQL makes them by default.
    #[must_use]
    pub fn durable(mut self) -> Self {
        self.durable = true;
        self
    }

    /// Makes the cluster and starts it.
    ///
    /// # Errors
    /// When the binaries are missing, or the server does not start; its log is in the error.
    pub async fn start(self) -> Result<Cluster, Error> {
        let (layout, mut watchdog) = match tokio::task::spawn_blocking(move || self.prepare()).await {
            Ok(prepared) => prepared?,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        let mut tries = 0;
        loop {
            tries += 1;
            let cluster = Cluster::new(layout.clone(), Port::reserve()?, watchdog);
            match cluster.try_start().await {
                Ok(()) => return Ok(cluster),
                Err(_) if tries < PORT_TRIES && cluster.log_tail().contains("Address already in use") => {
                    watchdog = cluster.into_watchdog();
                    // A moment for the other process to be visible to the next probe.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn prepare(self) -> Result<(Layout, Watchdog), Error> {
        let binaries = Binaries::find(self.major)?;
        let template = template(&binaries)?;
        let base = scratch(&if self.durable { PathBuf::from(DISK) } else { clusters_dir() })?;
        let mut layout = Layout { binaries, data: base.join("data"), base, disk: None };
        // From here on the directories are removed whatever happens.
        let watchdog = Watchdog::start(&layout.data, &layout.base)?;
        copy_data(&template, &layout.data)?;
        if self.tls {
            write_certificates(&layout.base)?;
        }
        if let Some(below) = self.fillable {
            layout.disk = Some(Disk::new(layout.data.join(below), &layout.base)?);
        }
        self.write_configuration(&layout)?;
        Ok((layout, watchdog))
    }

    fn write_configuration(&self, layout: &Layout) -> Result<(), Error> {
        let mut text = String::from("\n# testkit\n");
        let tls = ["ssl_cert_file", "ssl_key_file"].map(|name| {
            let file = if name == "ssl_key_file" { "server.key" } else { "server.crt" };
            (name, layout.base.join(file).display().to_string())
        });
        let tls = tls.iter().map(|(name, value)| (*name, value.as_str())).chain([("ssl", "on")]);
        let chosen = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let durable = DURABLE.into_iter().filter(|_| self.durable);
        for (name, value) in SETTINGS.into_iter().chain(durable).chain(tls.filter(|_| self.tls)).chain(chosen) {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name} = '{}'", value.replace('\'', "''"));
        }
        append(&layout.data.join("postgresql.conf"), &text)?;

        let mut hba = self.hba.join("\n");
        hba.push_str(
            "\nlocal all all trust\n\
             host all all 127.0.0.1/32 scram-sha-256\n\
             host replication all 127.0.0.1/32 scram-sha-256\n",
        );
        let path = layout.data.join("pg_hba.conf");
        fs::write(&path, hba).map_err(io(format!("writing {}", path.display())))
    }
}

pub(crate) fn append(path: &Path, text: &str) -> Result<(), Error> {
    let doing = || io(format!("writing {}", path.display()));
    let before = fs::read_to_string(path).map_err(doing())?;
    fs::write(path, before + text).map_err(doing())
}

/// Where clusters live. A data directory is a thousand small files, which most disks take a second to make and memory a
/// twentieth of one; `TMPDIR` has the last word.
pub(crate) fn clusters_dir() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let roomy = || rustix::fs::statvfs(memory).is_ok_and(|fs| fs.f_bavail * fs.f_frsize >= ROOMY);
    if std::env::var_os("TMPDIR").is_none() && roomy() { memory.to_owned() } else { std::env::temp_dir() }
}

/// A new directory that only the server user enters; the watchdog removes it.
pub(crate) fn scratch(parent: &Path) -> Result<PathBuf, Error> {
    let dir = tempfile::Builder::new()
        .prefix("pgkit-")
        .tempdir_in(parent)
        .map_err(io(format!("creating a directory in {}", parent.display())))?
        .keep();
    give_to_server(&dir)?;
    Ok(dir)
}
