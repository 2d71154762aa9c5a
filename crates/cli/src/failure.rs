//! How a failure reaches the user: what happened, why, what to do.

use console::style;
use miette::Diagnostic;
use pgstream_aws_api::{AccessError, provision};
use pgstream_config::ConfigErrors;
use pgstream_doctor::Diagnosis as Explanation;
use pgstream_engine::{
    replicate, snapshot, source, stream,
    users::{Denied, Missing},
};
use pgstream_monitor::valve::NotALadder;
use pgstream_postgres::dsn::DsnError;
use serde_json::json;

/// What a URL looks like.
pub const URL: &str = "write postgresql://user:password@host:5432/database";

/// Why a command did not succeed.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum Failure {
    /// What was configured cannot be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Config(#[from] ConfigErrors),
    /// The command needs a target server.
    #[error("no target server is configured")]
    #[diagnostic(code(config::no_target), help("write target.postgres.url, or give --target-url"))]
    NoTarget,
    /// A connection URL cannot be used.
    #[error("{which}: {}", error.problem)]
    #[diagnostic(code(config::url), help("{}", error.fix.as_deref().unwrap_or(URL)))]
    Url {
        /// Which one.
        which: &'static str,
        /// Why.
        error: DsnError,
    },
    /// A login that AWS keeps cannot be had.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Access(#[from] AccessError),
    /// The source could not be prepared, shown or cleaned.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Source(#[from] source::Error),
    /// The copy failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Snapshot(#[from] snapshot::Error),
    /// The stream stopped.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Stream(#[from] stream::Error),
    /// A server failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Postgres(#[from] pgstream_postgres::Error),
    /// One of these, because a right is missing.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Denied(Denied<Failure>),
    /// `run` needs another configuration.
    #[error("target.stdout follows changes; it cannot take a snapshot")]
    #[diagnostic(code(run::stdout_snapshot), help("set source.postgres.mode: replication, or choose target.postgres"))]
    StdoutSnapshot,
    /// AWS, or what is there.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Aws(#[from] pgstream_aws_api::Error),
    /// A database of RDS could not be prepared.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Provision(#[from] provision::Error),
    /// Nothing says which database is meant.
    #[error("no database is named")]
    #[diagnostic(
        code(usage::no_database),
        help("give an identifier, an ARN or the host of an endpoint, or -c with a configuration whose URL has one")
    )]
    NoDatabase,
    /// A local resource failed.
    #[error("{doing}: {source}")]
    #[diagnostic(code(local::io), help("{help}"))]
    Local {
        /// What was being done.
        doing: String,
        /// What to check.
        help: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The safety valve acts on free storage, and nobody knows it.
    #[error("the safety valve needs to know how much storage is free, and no instance of RDS is named")]
    #[diagnostic(
        code(usage::valve_without_instance),
        help(
            "give --rds-instance; a server whose storage CloudWatch does not know has no safety valve: set max_slot_wal_keep_size"
        )
    )]
    ValveWithoutInstance,
    /// The steps of the safety valve are in the wrong order.
    #[error("{0}")]
    #[diagnostic(
        code(usage::valve_order),
        help("for example --notify-below 40GiB --pause-copy-below 20GiB --drop-slot-below 5GiB")
    )]
    Valve(NotALadder),
    /// No health endpoint is configured.
    #[error("no health endpoint is configured")]
    #[diagnostic(code(usage::no_health_endpoint), help("set instrumentation.health.enabled: true"))]
    NoHealthEndpoint,
    /// `doctor` was given nothing.
    #[error("there is no error to explain, and no configuration to look at")]
    #[diagnostic(
        code(usage::nothing_to_explain),
        help("give the text of an error, - and a log on standard input, or -c with a configuration")
    )]
    NothingToExplain,
    /// The user did not agree.
    #[error("not confirmed: nothing was changed")]
    #[diagnostic(code(usage::not_confirmed))]
    NotConfirmed,
    /// There is nobody to ask.
    #[error("nothing was changed: standard input is not a terminal, so nobody can be asked")]
    #[diagnostic(code(usage::nobody_to_ask), help("read what would be done above, then give --yes"))]
    NobodyToAsk,
}

impl From<replicate::Error> for Failure {
    fn from(error: replicate::Error) -> Self {
        match error {
            replicate::Error::Source(error) => Self::Source(error),
            replicate::Error::Snapshot(error) => Self::Snapshot(error),
            replicate::Error::Stream(error) => Self::Stream(error),
            replicate::Error::Postgres(error) => Self::Postgres(error),
            replicate::Error::StdoutSnapshot => Self::StdoutSnapshot,
        }
    }
}

impl Failure {
    /// With the rights that are missing, if that is what it is about.
    pub async fn explained(self, missing: impl Future<Output = Vec<Missing>>) -> Self {
        let denied = match &self {
            Self::Source(error) => error.may_lack_rights(),
            Self::Snapshot(error) => error.may_lack_rights(),
            Self::Stream(error) => error.may_lack_rights(),
            Self::Postgres(error) => error.is_permission_denied(),
            _ => false,
        };
        let missing = if denied { missing.await } else { Vec::new() };
        if missing.is_empty() { self } else { Self::Denied(Denied { error: Box::new(self), missing }) }
    }

    /// 2 for what the user wrote, 1 for what happened.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_)
            | Self::Url { .. }
            | Self::StdoutSnapshot
            | Self::NobodyToAsk
            | Self::NoDatabase
            | Self::Valve(_)
            | Self::ValveWithoutInstance
            | Self::NoHealthEndpoint
            | Self::NoTarget
            | Self::NothingToExplain => 2,
            Self::Aws(pgstream_aws_api::Error::NoRegion) | Self::Provision(provision::Error::NotAName { .. }) => 2,
            Self::Source(source::Error::SlotName { .. }) => 2,
            _ => 1,
        }
    }

    /// Prints to standard error: text for people, one line of JSON for log collectors.
    pub fn print(&self, json: bool) {
        let code = self.code().map(|code| code.to_string());
        let help = self.help().map(|help| help.to_string());
        let causes = self.causes();
        let problems: Vec<&dyn Diagnostic> = self.related().into_iter().flatten().collect();
        let diagnosis = self.diagnosis(code.as_deref(), &causes);
        let advised = help.is_some() || !problems.is_empty();
        if json {
            let mut line =
                json!({ "level": "ERROR", "message": self.to_string(), "code": code, "causes": causes, "help": help });
            line["diagnosis"] = json!(diagnosis);
            if !problems.is_empty() {
                line["problems"] = problems.iter().map(|problem| problem_json(*problem)).collect();
            }
            eprintln!("{line}");
            return;
        }
        let label = style("error").red().bold().for_stderr();
        match &code {
            Some(code) => eprintln!("{label}[{code}]: {self}"),
            None => eprintln!("{label}: {self}"),
        }
        for cause in causes {
            eprintln!("  because: {cause}");
        }
        // Statements written for what is there are exact, a page's are general.
        let exact = matches!(self, Self::Denied(_)) || problems.iter().any(|problem| problem.help().is_some());
        for problem in problems {
            let code = problem.code().map(|code| format!("[{code}] ")).unwrap_or_default();
            eprintln!("  {} {code}{problem}", style("-").red().for_stderr());
            if let Some(help) = problem.help() {
                eprintln!("    {} {help}", style("fix:").cyan().for_stderr());
            }
        }
        if let Some(help) = &help {
            eprintln!("  {} {help}", style("help:").cyan().for_stderr());
        }
        let Some(diagnosis) = diagnosis else { return };
        // What the failure says by itself is nearer to what happened than the page about its code.
        let known_by_code = code.as_deref().is_some_and(|code| code.starts_with(diagnosis.id));
        if !known_by_code || !advised {
            eprintln!("  {} {} [{}]", style("cause:").cyan().for_stderr(), diagnosis.cause, diagnosis.id);
            if !exact {
                eprintln!("  {} {}", style("fix:").cyan().for_stderr(), diagnosis.fix);
            }
        }
        eprintln!("  {} {}", style("docs:").cyan().for_stderr(), diagnosis.docs);
    }

    /// What is known of it: by SQLSTATE and text for errors of servers, else by its code.
    fn diagnosis(&self, code: Option<&str>, causes: &[String]) -> Option<Explanation> {
        // What a server said to `init` is among its problems.
        let problems = self.related().into_iter().flatten().map(ToString::to_string);
        let said = problems.filter(|problem| problem.contains("(SQLSTATE ")).collect::<Vec<_>>();
        let text = [&[self.to_string()], causes, &said].concat().join("\n");
        pgstream_doctor::diagnose(&text, code)
    }

    /// The chain of causes, without those that the message above already says.
    fn causes(&self) -> Vec<String> {
        let mut causes = Vec::new();
        let mut said = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            let text = cause.to_string();
            if !said.contains(&text) {
                said.push_str(&text);
                causes.push(text);
            }
            next = cause.source();
        }
        causes
    }
}

fn problem_json(problem: &dyn Diagnostic) -> serde_json::Value {
    json!({
        "code": problem.code().map(|code| code.to_string()),
        "message": problem.to_string(),
        "help": problem.help().map(|help| help.to_string()),
    })
}
