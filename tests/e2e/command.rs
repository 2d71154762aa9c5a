//! The binary, run to its end.

use std::process::{Command, Output, Stdio};

/// How a run of the binary ended.
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ended {
    /// The report on standard output.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}\n{self:?}"))
    }
}

impl std::fmt::Debug for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {:?}\n--- stdout\n{}\n--- stderr\n{}", self.code, self.out, self.err)
    }
}

/// The binary with nothing of this process's environment that could configure it.
pub fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgstream-aws"));
    command.env_clear().stdin(Stdio::null());
    command
}

/// Runs the binary; nobody answers its questions.
pub async fn pgstream(arguments: &[&str]) -> Ended {
    let mut command = binary();
    command.args(arguments);
    finish(command).await
}

/// Runs a command to its end, without holding up the test's own tasks.
pub async fn finish(mut command: Command) -> Ended {
    let Output { status, stdout, stderr } =
        tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: status.code(), out: text(stdout), err: text(stderr) }
}
