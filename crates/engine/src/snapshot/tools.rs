//! PostgreSQL's own `pg_dump` and `pg_restore`: found, checked, run. No secret reaches argv or the environment.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use pgstream_postgres::Server;
use tokio::process::Command;

use super::Error;

/// Names a directory that is searched before all others.
const DIRECTORY_VARIABLE: &str = "PGSTREAM_PG_BIN";

/// Where distributions put versioned client tools: `<parent>/<version>/bin` or `<parent>/<name>/bin`.
const PARENTS: &[&str] =
    &["/usr/lib/postgresql", "/usr", "/usr/local", "/opt", "/Library/PostgreSQL", "/opt/homebrew/opt"];

/// What a tool may write to standard error before it is cut in our messages.
const MESSAGE_LIMIT: usize = 2000;

/// A pair of tools from one directory.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    directory: PathBuf,
    pub(crate) major: u32,
}

impl Tools {
    /// The newest pair whose major version is at least `needed`; a given directory wins, then `PGSTREAM_PG_BIN`.
    pub(crate) async fn find(given: Option<&Path>, needed: u32) -> Result<Self, Error> {
        let mut newest: Option<Self> = None;
        for (explicit, directory) in candidates(given) {
            let Some(major) = version(&directory.join("pg_dump")).await else { continue };
            if version(&directory.join("pg_restore")).await.is_none_or(|restore| restore < major) {
                continue;
            }
            let tools = Self { directory, major };
            if explicit && major >= needed {
                return Ok(tools);
            }
            if newest.as_ref().is_none_or(|best| best.major < major) {
                newest = Some(tools);
            }
        }
        match newest {
            Some(tools) if tools.major >= needed => Ok(tools),
            other => Err(Error::ToolMissing {
                tool: "pg_dump",
                needed,
                found: other.map(|tools| format!("{} in {}", tools.major, tools.directory.display())),
            }),
        }
    }

    /// Runs `pg_dump` against a server.
    pub(crate) async fn dump(&self, server: &Server, arguments: &[OsString]) -> Result<(), Error> {
        let private = tempfile::tempdir().map_err(Error::io("making a private directory", std::env::temp_dir()))?;
        let environment = server.tool_environment(private.path()).await?;
        let mut command = self.command("pg_dump");
        command.envs(environment).arg("--no-password").args(arguments);
        let output = command.output().await.map_err(Error::io("running pg_dump", self.directory.clone()))?;
        check("pg_dump", &output)
    }

    /// Runs `pg_restore` without a server and returns what it writes.
    pub(crate) async fn restore(&self, arguments: &[OsString]) -> Result<String, Error> {
        let mut command = self.command("pg_restore");
        command.args(arguments);
        let output = command.output().await.map_err(Error::io("running pg_restore", self.directory.clone()))?;
        check("pg_restore", &output)?;
        String::from_utf8(output.stdout)
            .map_err(|_| Error::ToolFailed { tool: "pg_restore", message: "its output is not UTF-8".to_owned() })
    }

    fn command(&self, tool: &str) -> Command {
        let mut command = bare(&self.directory.join(tool));
        command
            .env("LC_ALL", "C")
            .env("PGAPPNAME", "pgstream-aws snapshot")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }
}

/// A tool that inherits only what programs of its kind look at: our own environment may hold passwords, URLs with them and
/// keys of AWS, which are none of its business.
fn bare(tool: &Path) -> Command {
    let mut command = Command::new(tool);
    command.env_clear().envs(std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_inherited)));
    command
}

fn is_inherited(name: &str) -> bool {
    match name {
        // Of ours, of another connection, or set for the tool.
        "PGPASSWORD" | "PGSERVICE" => false,
        _ if name.starts_with("PGSTREAM_") => false,
        "PATH" | "HOME" | "USER" | "LOGNAME" | "TMPDIR" | "TZ" => true,
        "LD_LIBRARY_PATH" | "DYLD_LIBRARY_PATH" | "SSL_CERT_FILE" | "SSL_CERT_DIR" | "OPENSSL_CONF" => true,
        _ => name.starts_with("PG") || name.starts_with("LANG") || name.starts_with("LC_"),
    }
}

/// Whether there are tools for a server of this major version.
///
/// # Errors
/// When there are none, or only older ones.
pub async fn tools_for(major: u32) -> Result<(), Error> {
    Tools::find(None, major).await.map(drop)
}

fn check(tool: &'static str, output: &Output) -> Result<(), Error> {
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let mut message: String = text.trim().chars().take(MESSAGE_LIMIT).collect();
    if message.is_empty() {
        message = output.status.to_string();
    }
    Err(Error::ToolFailed { tool, message })
}

fn candidates(given: Option<&Path>) -> Vec<(bool, PathBuf)> {
    let mut found: Vec<(bool, PathBuf)> = given.iter().map(|path| (true, path.to_path_buf())).collect();
    if let Some(directory) = std::env::var_os(DIRECTORY_VARIABLE).filter(|value| !value.is_empty()) {
        found.push((true, PathBuf::from(directory)));
    }
    for directory in std::env::var_os("PATH").iter().flat_map(std::env::split_paths) {
        found.push((false, directory));
    }
    for parent in PARENTS {
        let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
        found.extend(entries.map(|entry| (false, entry.path().join("bin"))));
    }
    let mut seen = std::collections::HashSet::new();
    found.retain(|(_, path)| path.join("pg_dump").is_file() && seen.insert(path.clone()));
    found
}

/// `pg_dump (PostgreSQL) 15.18 (Debian …)` and `… 18beta1`.
async fn version(tool: &Path) -> Option<u32> {
    let output = bare(tool).arg("--version").stdin(Stdio::null()).output().await.ok()?;
    major(&String::from_utf8_lossy(&output.stdout))
}

fn major(text: &str) -> Option<u32> {
    let rest = text.split_once("(PostgreSQL) ")?.1;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_inherits_no_secret() {
        for name in ["PATH", "PGSSLROOTCERT", "LC_MESSAGES", "TMPDIR"] {
            assert!(is_inherited(name), "{name}");
        }
        let secrets = [
            "PGPASSWORD",
            "PGSTREAM_POSTGRES_LISTENER_URL",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "DB_PASSWORD",
        ];
        for name in secrets {
            assert!(!is_inherited(name), "{name}");
        }
    }

    #[test]
    fn versions_are_read_as_the_tools_write_them() {
        assert_eq!(major("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(major("pg_dump (PostgreSQL) 19beta1\n"), Some(19));
        assert_eq!(major("something else"), None);
    }
}
