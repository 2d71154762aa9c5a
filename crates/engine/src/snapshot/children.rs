//! Workers that are processes of this machine: started, and replaced when they die.

use std::{
    ffi::OsString,
    num::NonZeroUsize,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::process::{Child, Command};

use super::Error;

/// A process that was killed says nothing about the copy; so many deaths for each worker do.
const DEATHS_PER_WORKER: usize = 10;

/// A worker that ends with an error has tried again by itself before.
const FAILURES: usize = 3;

/// How long workers that have nothing left to do may take to end.
const PARTING: Duration = Duration::from_secs(10);

/// How a worker is started. Not `Debug`: the environment may hold passwords.
#[derive(Clone)]
pub struct WorkerCommand {
    /// The program.
    pub program: PathBuf,
    /// Its arguments; nothing secret, as anybody can read them.
    pub arguments: Vec<OsString>,
    /// What its environment has beside ours.
    pub environment: Vec<(OsString, OsString)>,
}

/// Running workers. Dropping them kills them, which gives back what they were copying.
pub(crate) struct Children {
    command: WorkerCommand,
    running: Vec<Option<Child>>,
    deaths: usize,
    failures: usize,
}

impl Children {
    pub(crate) fn start(command: WorkerCommand, count: NonZeroUsize) -> Result<Self, Error> {
        let running = (0..count.get()).map(|_| spawn(&command).map(Some)).collect::<Result<_, _>>()?;
        Ok(Self { command, running, deaths: 0, failures: 0 })
    }

    /// Replaces those that have ended since the last time; to be called while there is something left to copy.
    pub(crate) fn tend(&mut self) -> Result<(), Error> {
        let limit = DEATHS_PER_WORKER * self.running.len();
        for (at, place) in self.running.iter_mut().enumerate() {
            let Some(child) = place else {
                *place = Some(spawn(&self.command)?);
                continue;
            };
            let Some(status) = child.try_wait().map_err(Error::io("waiting for a worker", None))? else { continue };
            let worker = at + 1;
            *place = None;
            self.deaths += 1;
            self.failures += usize::from(status.code().is_some_and(|code| code != 0));
            // One that ended well has seen nothing left, or was asked to stop: the next time tells.
            if status.success() {
                tracing::debug!(worker, "a worker has ended");
            } else {
                tracing::warn!(worker, status = %Ended(status), "a worker has died; what it was copying is copied by another");
            }
            if self.failures >= FAILURES || self.deaths > limit {
                return Err(Error::WorkersDie { last: Ended(status).to_string(), deaths: self.deaths });
            }
        }
        Ok(())
    }

    /// Lets them end by themselves: they see that nothing is left.
    pub(crate) fn let_go(mut self) {
        tokio::spawn(async move {
            let all = self.running.iter_mut().flatten().map(Child::wait);
            // What is left after that is killed when it is dropped.
            tokio::time::timeout(PARTING, futures::future::join_all(all)).await.ok();
        });
    }
}

fn spawn(command: &WorkerCommand) -> Result<Child, Error> {
    Command::new(&command.program)
        .args(&command.arguments)
        .envs(command.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(Error::io("starting a worker", command.program.clone()))
}

/// How a process ended, for people.
struct Ended(ExitStatus);

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // `exit status: 1` or `signal: 9 (SIGKILL)`.
        self.0.fmt(f)
    }
}
