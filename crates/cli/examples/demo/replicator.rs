//! The binary, as a user would run it.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::{Child, Command};

/// Where the binary of this build is: beside the directory of this example.
pub fn binary() -> Result<PathBuf, String> {
    let here = std::env::current_exe().map_err(|e| e.to_string())?;
    let binary = here.parent().and_then(Path::parent).map(|dir| dir.join("pgstream-aws"));
    binary.filter(|path| path.exists()).ok_or_else(|| "pgstream-aws is not built: run `make demo`".to_owned())
}

/// A command of the binary, with the PostgreSQL client tools in reach.
pub fn command(arguments: &[&str]) -> Result<Command, String> {
    let mut command = Command::new(binary()?);
    command.args(arguments).env("PATH", pgstream_testkit::tools_path().map_err(|e| e.to_string())?);
    Ok(command)
}

/// Runs a command to its end, showing what it prints.
pub async fn show(arguments: &[&str]) -> Result<(), String> {
    let status = command(arguments)?.status().await.map_err(|e| e.to_string())?;
    if status.success() { Ok(()) } else { Err(format!("`pgstream-aws {}` ended with {status}", arguments.join(" "))) }
}

/// A running `pgstream-aws run`, its log in a file.
pub struct Replicator {
    child: Child,
}

impl Replicator {
    /// Starts it.
    pub fn start(config: &Path, log: &Path) -> Result<Self, String> {
        let log = std::fs::OpenOptions::new().append(true).create(true).open(log).map_err(|e| e.to_string())?;
        let config = config.to_string_lossy();
        let child = command(&["run", "-c", &config, "--log-level", "info", "--no-color"])?
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(|e| e.to_string())?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| e.to_string())?;
        Ok(Self { child })
    }

    /// Kills it as a power cut would.
    pub async fn kill9(mut self) -> Result<(), String> {
        self.child.kill().await.map_err(|e| e.to_string())
    }

    /// Whether it is still running; its exit otherwise.
    pub fn check(&mut self) -> Result<(), String> {
        match self.child.try_wait().map_err(|e| e.to_string())? {
            None => Ok(()),
            Some(status) => Err(format!("the replicator ended with {status}")),
        }
    }

    /// Asks it to end (SIGTERM) and waits.
    pub async fn stop(mut self) -> Result<(), String> {
        let pid = self.child.id().ok_or("the replicator has ended")?;
        let asked = std::process::Command::new("kill").arg(pid.to_string()).status().map_err(|e| e.to_string())?;
        let status = self.child.wait().await.map_err(|e| e.to_string())?;
        if asked.success() && status.success() { Ok(()) } else { Err(format!("the replicator ended with {status}")) }
    }

    /// Leaves it running.
    pub fn keep(&self) -> Option<u32> {
        self.child.id()
    }
}
