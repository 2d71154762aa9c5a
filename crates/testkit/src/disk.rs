//! Disks that are full when a test says so, for one server or program and without any privilege.
//!
//! ```text
//!  disk.c ──cc──> disk.so ──LD_PRELOAD──> process:  a file below `dir` would grow, and the flag is there? ENOSPC
//! ```
//! A small file system would need the right to mount one, which neither users nor most containers have.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Error, error::io, template::run_for_output};

const SOURCE: &str = include_str!("disk.c");

/// The disk that a directory is on, for processes that are started with [`Disk::environment`].
#[derive(Debug, Clone)]
pub struct Disk {
    dir: PathBuf,
    /// Holds the library and the flag; the processes can look into it.
    beside: PathBuf,
}

impl Disk {
    /// The disk below `dir`. What it takes to fill it is kept in `beside`, which is not on it.
    ///
    /// # Errors
    /// When there is no C compiler.
    pub fn new(dir: impl Into<PathBuf>, beside: impl Into<PathBuf>) -> Result<Self, Error> {
        let disk = Self { dir: dir.into(), beside: beside.into() };
        compile(&disk.beside, &disk.library())?;
        Ok(disk)
    }

    /// What a process must have in its environment.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, PathBuf); 3] {
        [("LD_PRELOAD", self.library()), ("TESTKIT_DISK", self.dir.clone()), ("TESTKIT_DISK_FULL", self.flag())]
    }

    /// No file grows any more.
    ///
    /// # Panics
    /// When the flag cannot be written.
    pub fn fill(&self) {
        let flag = self.flag();
        File::create(&flag).unwrap_or_else(|error| panic!("{}: {error}", flag.display()));
    }

    /// There is room again.
    ///
    /// # Panics
    /// When it was not full.
    pub fn free(&self) {
        let flag = self.flag();
        fs::remove_file(&flag).unwrap_or_else(|error| panic!("{}: {error}", flag.display()));
    }

    fn library(&self) -> PathBuf {
        self.beside.join("disk.so")
    }

    fn flag(&self) -> PathBuf {
        self.beside.join("disk-full")
    }
}

fn compile(directory: &Path, library: &Path) -> Result<(), Error> {
    let source = directory.join("disk.c");
    fs::write(&source, SOURCE).map_err(io(format!("writing {}", source.display())))?;
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-o"]).arg(library).arg(&source).arg("-ldl");
    run_for_output(&mut compiler, "compiling disk.c").map(drop)
}
