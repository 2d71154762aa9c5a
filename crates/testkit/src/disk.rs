//! A disk that can be full, without a file system of its own: mounting one takes rights that test machines rarely have.
//!
//! ```text
//!  program ──write──> full_disk.c (preloaded) ──> kernel
//!                        └─ ENOSPC for what makes a file longer, while the flag file is there
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Error, error::io, template::run_for_output};

/// What is preloaded.
const SOURCE: &str = include_str!("full_disk.c");

/// The disk of the programs that run with [`Disk::environment`].
#[derive(Debug, Clone)]
pub struct Disk {
    library: PathBuf,
    flag: PathBuf,
}

impl Disk {
    /// A disk with room; its library and its flag live in `directory`.
    ///
    /// # Errors
    /// When there is no C compiler (`cc`), or the directory cannot be written.
    pub fn new(directory: &Path) -> Result<Self, Error> {
        let (source, library) = (directory.join("full_disk.c"), directory.join("full_disk.so"));
        fs::write(&source, SOURCE).map_err(io(format!("writing {}", source.display())))?;
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl");
        run_for_output(&mut compiler, "compiling full_disk.c with cc")?;
        Ok(Self { library, flag: directory.join("disk-is-full") })
    }

    /// Variables for the program.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, &Path); 2] {
        [("LD_PRELOAD", &self.library), ("TESTKIT_FULL_DISK", &self.flag)]
    }

    /// From now on nothing fits any more.
    ///
    /// # Panics
    /// When the flag cannot be written.
    pub fn fill(&self) {
        fs::write(&self.flag, "").unwrap_or_else(|error| panic!("{}: {error}", self.flag.display()));
    }

    /// Makes room again.
    ///
    /// # Panics
    /// When the flag cannot be removed.
    pub fn free(&self) {
        fs::remove_file(&self.flag).unwrap_or_else(|error| panic!("{}: {error}", self.flag.display()));
    }
}
