//! The binary, as a user would run it: in a directory with a configuration, with nothing of this machine's AWS or
//! PostgreSQL settings in its environment.

use std::{
    env,
    ffi::OsString,
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use tokio::process::{Child, Command};

use crate::page;

/// What of the environment is about the terminal and nothing else.
const OF_THE_TERMINAL: [&str; 8] =
    ["TERM", "COLORTERM", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS", "LANG", "TZ"];

/// Where commands are typed.
pub struct Shell {
    directory: PathBuf,
    environment: Vec<(OsString, OsString)>,
}

impl Shell {
    /// In this directory, with these variables.
    pub fn new(directory: &Path, variables: Vec<(String, String)>) -> Result<Self, String> {
        let terminal = OF_THE_TERMINAL.iter().filter_map(|name| Some(((*name).into(), env::var_os(name)?)));
        let mut environment: Vec<(OsString, OsString)> = terminal.collect();
        environment.extend(variables.into_iter().map(|(name, value)| (name.into(), value.into())));
        environment.push(("PATH".into(), pgstream_testkit::tools_path().map_err(|e| e.to_string())?));
        environment.push(("HOME".into(), directory.into()));
        Ok(Self { directory: directory.to_owned(), environment })
    }

    fn command(&self, line: &str) -> Result<Command, String> {
        let mut command = Command::new(binary()?);
        let environment = self.environment.iter().map(|(name, value)| (name, value));
        command.args(line.split(' ')).current_dir(&self.directory).env_clear().envs(environment).kill_on_drop(true);
        Ok(command)
    }

    /// Types a command and shows what it prints; it must end with this exit code.
    pub async fn run(&self, line: &str, code: i32) -> Result<(), String> {
        page::typed(&format!("pgstream-aws {line}"));
        let status = self.command(line)?.stdin(Stdio::null()).status().await.map_err(|e| e.to_string())?;
        match status.code() == Some(code) {
            true => Ok(()),
            false => Err(format!("`pgstream-aws {line}` ended with {status}")),
        }
    }

    /// [`Shell::run`] to success, but what it prints before its first step, which was shown already, is left out.
    pub async fn run_steps(&self, line: &str) -> Result<(), String> {
        page::typed(&format!("pgstream-aws {line}"));
        let (reader, writer) = std::io::pipe().map_err(|e| e.to_string())?;
        let mut child = {
            // Gone after this, and the writing ends with it.
            let mut command = self.command(line)?;
            let both = writer.try_clone().map_err(|e| e.to_string())?;
            command.stdin(Stdio::null()).stdout(writer).stderr(both);
            command.spawn().map_err(|e| e.to_string())?
        };
        let shown = tokio::task::spawn_blocking(move || show_steps(reader));
        let status = child.wait().await.map_err(|e| e.to_string())?;
        let left_out = shown.await.map_err(|e| e.to_string())?;
        match status.success() {
            true => Ok(()),
            false => Err(format!("`pgstream-aws {line}` ended with {status}\n{left_out}")),
        }
    }

    /// Types `run`; its log goes to a file.
    pub fn replicate(&self) -> Result<Replicator, String> {
        let line = "run -c shop.yaml";
        page::typed(&format!("pgstream-aws {line} 2>>run.log &"));
        self.start(self.command(&format!("{line} --no-color"))?, "run.log")
    }

    /// A task of Fargate: what its definition says, and nothing that was typed here.
    pub fn task(&self, command: &str, variables: Vec<(String, String)>) -> Result<Replicator, String> {
        let mut task = self.command(command)?;
        task.envs(variables);
        self.start(task, "tasks.log")
    }

    fn start(&self, mut command: Command, log: &str) -> Result<Replicator, String> {
        let log = self.file(log);
        let output = fs::OpenOptions::new().append(true).create(true).open(&log).map_err(|e| e.to_string())?;
        // Ctrl-C is for the demo, which ends it as it should be ended.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output).process_group(0);
        let child = command.spawn().map_err(|e| e.to_string())?;
        let lifeline = lifeline(&child).map_err(|e| e.to_string())?;
        Ok(Replicator { _lifeline: lifeline, child, log })
    }

    /// A file beside the configuration.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// Shows lines from the first step on; returns those before it. A step begins with the time of day.
fn show_steps(output: impl std::io::Read) -> String {
    let is_step = |line: &str| matches!(line.as_bytes(), [_, _, b':', _, _, b':', ..]);
    let (mut before, mut begun) = (String::new(), false);
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        if !begun && is_step(&line) {
            begun = true;
            page::say("… the plan, as above");
        }
        if begun {
            println!("{line}");
        } else {
            before = before + &line + "\n";
        }
    }
    before
}

/// A shell that kills the process when the demo is gone, which closes its standard input however it ended. It is dropped
/// before the process is, so that it never outlives its number.
fn lifeline(process: &Child) -> std::io::Result<Child> {
    Command::new("sh")
        .args(["-c", "cat >/dev/null; kill -9 \"$1\"", "demo-lifeline"])
        .arg(process.id().unwrap_or_default().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// Where the binary of this build is: beside the directory of this example.
pub fn binary() -> Result<PathBuf, String> {
    let here = env::current_exe().map_err(|e| e.to_string())?;
    let binary = here.parent().and_then(Path::parent).map(|dir| dir.join("pgstream-aws"));
    binary.filter(|path| path.exists()).ok_or_else(|| "pgstream-aws is not built: run `make demo`".to_owned())
}

/// A running `pgstream-aws`, most often `run`; killed when dropped.
pub struct Replicator {
    _lifeline: Child,
    child: Child,
    log: PathBuf,
}

impl Replicator {
    /// Kills it as a power cut would.
    pub async fn kill9(mut self) -> Result<(), String> {
        page::typed(&format!("kill -9 {}", self.pid().ok_or("the replicator has ended")?));
        self.child.kill().await.map_err(|e| e.to_string())
    }

    /// Its process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Whether it is still running; its exit otherwise.
    pub fn check(&mut self) -> Result<(), String> {
        match self.child.try_wait().map_err(|e| e.to_string())? {
            None => Ok(()),
            Some(status) => Err(self.ended(status)),
        }
    }

    /// Whether it has done what it was started for; an error when it failed.
    pub fn is_done(&mut self) -> Result<bool, String> {
        match self.child.try_wait().map_err(|e| e.to_string())? {
            None => Ok(false),
            Some(status) if status.success() => Ok(true),
            Some(status) => Err(self.ended(status)),
        }
    }

    /// Where it writes its log.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Asks it to end (SIGTERM) and waits.
    pub async fn stop(mut self) -> Result<(), String> {
        let pid = self.pid().ok_or("the replicator has ended")?;
        let asked = Command::new("kill").arg(pid.to_string()).status().await.map_err(|e| e.to_string())?;
        let status = self.child.wait().await.map_err(|e| e.to_string())?;
        if asked.success() && status.success() { Ok(()) } else { Err(self.ended(status)) }
    }

    fn ended(&self, status: ExitStatus) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(15)..].join("\n");
        format!("the replicator ended with {status}\n\nThe last lines of its log:\n{tail}")
    }
}
