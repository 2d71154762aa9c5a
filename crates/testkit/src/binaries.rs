//! Where the programs are: a cache that `scripts/fetch-postgres` fills.
//!
//! ```text
//!  <cache>/servers/<version>/bin   initdb postgres       one directory per pinned major
//!  <cache>/tools/<version>/bin     pg_dump psql pgbench  of the newest major
//!  <cache>/templates/<version>     an initialised data directory, copied for each cluster
//!  <cache>/ports/<port>            locked by the cluster that uses the port
//! ```

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

use crate::Error;

/// The pins; the script that fetches reads the same file.
const VERSIONS: &str = include_str!("../../../scripts/postgres-versions");

/// The programs of one server version.
#[derive(Debug, Clone)]
pub struct Binaries {
    major: u32,
    /// The pinned build, e.g. `17.10.0-beta.17`.
    version: String,
    dir: PathBuf,
}

impl Binaries {
    /// The pinned server of that major version.
    ///
    /// # Errors
    /// When it has not been fetched, or the version is not pinned.
    pub fn find(major: u32) -> Result<Self, Error> {
        let version = pin(&["server", &major.to_string()]).ok_or_else(|| Error::NotPinned(major.to_string()))?;
        let dir = cache_dir().join("servers").join(version);
        let binaries = Self { major, version: version.to_owned(), dir };
        let path = binaries.program("postgres");
        if path.is_file() { Ok(binaries) } else { Err(Error::NoServer { major, path }) }
    }

    /// A client tool: `pg_dump`, `pg_dumpall`, `pg_restore`, `psql`, `pgbench`.
    ///
    /// # Errors
    /// When it has not been fetched.
    pub fn tool(name: &str) -> Result<PathBuf, Error> {
        let path = tools_dir()?.join(name);
        if path.is_file() { Ok(path) } else { Err(Error::NoTool { tool: name.to_owned(), path }) }
    }

    /// The major version.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.major
    }

    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// A program of the server: `postgres`, `initdb`, `pg_ctl`.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.dir.join("bin").join(name)
    }
}

/// A `PATH` in which the client tools come first, for the binary under test.
///
/// # Errors
/// When they have not been fetched.
pub fn tools_path() -> Result<OsString, Error> {
    let mut path = Binaries::tool("pg_dump")?.parent().unwrap_or(Path::new("")).as_os_str().to_owned();
    if let Some(inherited) = env::var_os("PATH") {
        path.push(":");
        path.push(inherited);
    }
    Ok(path)
}

/// All pinned major versions, oldest first.
#[must_use]
pub fn pinned_majors() -> Vec<u32> {
    VERSIONS
        .lines()
        .filter_map(|line| line.strip_prefix("server "))
        .filter_map(|rest| rest.split_whitespace().next()?.parse().ok())
        .collect()
}

/// The major version of sources unless a test asks for one: `PGSTREAM_TEST_SOURCE_MAJOR`, else the newest.
#[must_use]
pub fn source_major() -> u32 {
    major_from("PGSTREAM_TEST_SOURCE_MAJOR")
}

/// The major version of targets unless a test asks for one: `PGSTREAM_TEST_TARGET_MAJOR`, else the newest.
#[must_use]
pub fn target_major() -> u32 {
    major_from("PGSTREAM_TEST_TARGET_MAJOR")
}

fn major_from(variable: &str) -> u32 {
    match env::var(variable) {
        Ok(value) => value.parse().unwrap_or_else(|_| panic!("{variable}={value} is not a major version")),
        Err(_) => pinned_majors().last().copied().unwrap_or_default(),
    }
}

fn tools_dir() -> Result<PathBuf, Error> {
    let version = pin(&["tools"]).ok_or_else(|| Error::NotPinned("client tools".to_owned()))?;
    Ok(cache_dir().join("tools").join(version).join("bin"))
}

/// The last word of the line that starts with these words.
fn pin(words: &[&str]) -> Option<&'static str> {
    VERSIONS.lines().find_map(|line| {
        let mut found = line.split_whitespace();
        words.iter().all(|word| found.next() == Some(word)).then(|| found.next()).flatten()
    })
}

/// The same rule as in `scripts/fetch-postgres`: root's home cannot be entered by the user that servers run as.
pub(crate) fn cache_dir() -> PathBuf {
    if let Some(dir) = env::var_os("PGSTREAM_CACHE").filter(|dir| !dir.is_empty()) {
        return dir.into();
    }
    if rustix::process::getuid().is_root() {
        return "/var/cache/pgstream-aws".into();
    }
    PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cache/pgstream-aws")
}
