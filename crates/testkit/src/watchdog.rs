//! Nothing is left running: a shell that outlives the test by the moment it takes to end its server.
//!
//! ```text
//!  test process ──pipe──> sh watchdog.sh      end of file: test is done, killed, or interrupted
//!       └── postgres                          ──> immediate shutdown, directories removed
//! ```
//! The pipe is closed by the kernel, so it does not matter how the test process ends.

use std::{
    io::PipeWriter,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::{Error, error::io};

const SCRIPT: &str = include_str!("watchdog.sh");

/// Holds the pipe. Dropping it ends the server, if it still runs, and removes its directories.
pub(crate) struct Watchdog {
    pipe: Option<PipeWriter>,
    shell: Child,
}

impl Watchdog {
    pub(crate) fn start(data: &Path, base: &Path) -> Result<Self, Error> {
        let (end, pipe) = std::io::pipe().map_err(io("making a pipe"))?;
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "testkit-watchdog"])
            .arg(data)
            .arg(base)
            .stdin(end)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Signals for the test's group (Ctrl-C, a runner's timeout) must not reach it.
            .process_group(0)
            .current_dir("/")
            .spawn()
            .map_err(io("starting the watchdog"))?;
        Ok(Self { pipe: Some(pipe), shell })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.pipe.take());
        drop(self.shell.wait());
    }
}
