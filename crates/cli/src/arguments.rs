//! The command line, as clap reads it.

mod setup;

use std::{num::NonZeroUsize, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use pgstream_config::Overrides;
use pgstream_engine::source::Part;

pub use self::setup::{DatabaseArgs, Provision, ProvisionApply, ProvisionSide, UserMode, UserRole, Users, UsersArgs};

/// Copies a PostgreSQL database and keeps the copy in step: snapshot, then streaming, exactly once.
#[derive(Debug, Parser)]
#[command(name = "pgstream-aws", version, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done; 1 findings or failure; 2 usage or configuration.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What every command understands.
    #[command(flatten)]
    pub common: Common,
}

/// Flags of every command.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Configuration: a YAML or a .env file; the variable may hold the text itself
    #[arg(short, long, global = true, env = "PGSTREAM_CONFIG", hide_env_values = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Least severe level that is logged: trace, debug, info, warn, error
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Form of log lines
    #[arg(long, global = true, value_enum)]
    pub log_format: Option<LogFormat>,
    /// No colours (also: NO_COLOR)
    #[arg(long, global = true)]
    pub no_color: bool,
}

/// `--log-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Console,
    /// One JSON object a line.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring a database of RDS or Aurora to where it can be a source or target
    #[command(subcommand)]
    Provision(Provision),
    /// Prepare the source: schema pgstream, replica identities, publication, replication slot
    Init(Prepare),
    /// Remove from the source exactly what init made
    Destroy(Destroy),
    /// Show how far everything is, and what is wrong; exit code 1 when something is
    Status(Status),
    /// Ask the health endpoint of a running `run`; exit code 1 when it is not well
    Health(Health),
    /// Watch the slot: WAL that it keeps, how far behind it is, when the disk is full
    Monitor(Monitor),
    /// Look for everything that would stand in the way; without --fix changes nothing; exit code 1 when something does
    Check(Check),
    /// Say what an error means and what to do; with -c and no text, what is wrong with the pipeline now
    Doctor(Doctor),
    /// Copy roles, schema and rows once; goes on where an earlier copy stopped
    Snapshot(Snapshot),
    /// Copy when the mode says so, then follow until stopped
    Run(Run),
    /// Show recorded schema changes, or skip one
    #[command(subcommand)]
    Ddl(Ddl),
    /// Make database roles with exactly the privileges that a side needs
    #[command(subcommand)]
    Users(Users),
    /// Show the version
    Version,
    /// Print a completion script for a shell
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// Where the source is.
#[derive(Debug, Clone, Args)]
pub struct SourceArgs {
    /// Source database, instead of source.postgres.url
    #[arg(long, value_name = "URL", visible_alias = "source-url")]
    pub postgres_url: Option<String>,
    /// Replication slot, instead of pgstream_DB_slot
    #[arg(long, value_name = "NAME")]
    pub replication_slot: Option<String>,
}

/// One half of the source state.
#[derive(Debug, Clone, Copy, Args)]
pub struct PartArgs {
    /// Only schema, replica identities and publication
    #[arg(long, conflicts_with = "slot_only")]
    migrations_only: bool,
    /// Only the replication slot
    #[arg(long)]
    slot_only: bool,
}

impl PartArgs {
    /// Which half is meant.
    pub fn part(self) -> Part {
        match (self.migrations_only, self.slot_only) {
            (true, _) => Part::Migrations,
            (_, true) => Part::Slot,
            _ => Part::All,
        }
    }
}

/// `init`.
#[derive(Debug, Args)]
pub struct Prepare {
    /// The source.
    #[command(flatten)]
    pub source: SourceArgs,
    /// Which half.
    #[command(flatten)]
    pub part: PartArgs,
    /// Let standbys keep the slot in step, so that it survives a failover (PostgreSQL 17 and later)
    #[arg(long)]
    pub failover: bool,
    /// Accepted for compatibility; nothing is injected here
    #[arg(long, hide = true)]
    pub with_injector: bool,
    /// Report as JSON
    #[arg(long)]
    pub json: bool,
}

/// `destroy`.
#[derive(Debug, Args)]
pub struct Destroy {
    /// The source.
    #[command(flatten)]
    pub source: SourceArgs,
    /// Which half.
    #[command(flatten)]
    pub part: PartArgs,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Accepted for compatibility; nothing is injected here
    #[arg(long, hide = true)]
    pub with_injector: bool,
    /// Report as JSON; needs --yes
    #[arg(long, requires = "yes")]
    pub json: bool,
}

/// `status`.
#[derive(Debug, Args)]
pub struct Status {
    /// The source.
    #[command(flatten)]
    pub source: SourceArgs,
    /// Target database, instead of target.postgres.url
    #[arg(long, value_name = "URL")]
    pub target_url: Option<String>,
    /// Wait until the target has what the source had at most 30 s ago; exit code 1 when it never will
    #[arg(long)]
    pub wait_caught_up: bool,
    /// How long to wait
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, requires = "wait_caught_up")]
    pub timeout: u64,
    /// Report as JSON
    #[arg(long)]
    pub json: bool,
}

/// `monitor`.
#[derive(Debug, Args)]
pub struct Monitor {
    /// The source.
    #[command(flatten)]
    pub source: SourceArgs,
    /// Target database, instead of target.postgres.url
    #[arg(long, value_name = "URL")]
    pub target_url: Option<String>,
    /// Look again after so many seconds, until stopped; otherwise once, with exit code 1 when something is wrong
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub every: Option<u64>,
    /// Where to
    #[arg(long, value_enum, default_value_t = MonitorTo::Terminal)]
    pub to: MonitorTo,
    /// Instance of RDS whose free storage CloudWatch is asked for, instead of the one that the source's host names
    #[arg(long, value_name = "ID")]
    pub rds_instance: Option<String>,
    /// Safety valve: warn when less is free on the source's disk
    #[arg(long, value_name = "SIZE", value_parser = size, requires = "every")]
    pub notify_below: Option<u64>,
    /// Safety valve: hold the copy back when less is free
    #[arg(long, value_name = "SIZE", value_parser = size, requires = "every")]
    pub pause_copy_below: Option<u64>,
    /// Safety valve: drop the slot when less is free; the target then needs a new copy
    #[arg(long, value_name = "SIZE", value_parser = size, requires = "every")]
    pub drop_slot_below: Option<u64>,
}

fn size(text: &str) -> Result<u64, String> {
    pgstream_config::parse_bytes(text).ok_or_else(|| "a size is a number of bytes, or such as `20GiB`".to_owned())
}

/// `--to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MonitorTo {
    /// A table, with the lag drawn over time.
    Terminal,
    /// One JSON object a line.
    Json,
    /// The text format of Prometheus, for a textfile collector.
    Prometheus,
    /// Metrics of CloudWatch in the namespace pgstream-aws.
    Cloudwatch,
}

/// `health`.
#[derive(Debug, Args)]
pub struct Health {
    /// Only streaming is well: /ready instead of /health
    #[arg(long)]
    pub ready: bool,
}

/// `ddl`.
#[derive(Debug, Subcommand)]
pub enum Ddl {
    /// List recorded schema changes and what became of them; exit code 1 when one failed
    Log {
        /// Which pipeline.
        #[command(flatten)]
        pipeline: DdlArgs,
        /// How many of the last ones
        #[arg(long, default_value_t = 50, value_name = "N")]
        limit: u32,
        /// Report as JSON
        #[arg(long)]
        json: bool,
    },
    /// Let the stream go past a schema change that you made on the target by hand
    Skip {
        /// Which pipeline.
        #[command(flatten)]
        pipeline: DdlArgs,
        /// Its number, as `ddl log` shows it
        id: i64,
    },
}

/// Which pipeline.
#[derive(Debug, Args)]
pub struct DdlArgs {
    /// The source.
    #[command(flatten)]
    pub source: SourceArgs,
    /// Target database, instead of target.postgres.url
    #[arg(long, value_name = "URL")]
    pub target_url: Option<String>,
}

/// `check`.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools)]
pub struct Check {
    /// The source.
    #[command(flatten)]
    pub source: SourceArgs,
    /// Target database, instead of target.postgres.url
    #[arg(long, value_name = "URL")]
    pub target_url: Option<String>,
    /// Fail for warnings, too
    #[arg(long)]
    pub strict: bool,
    /// Show and, once confirmed, run the statements that mend privileges and settings; never data, never a reboot
    #[arg(long)]
    pub fix: bool,
    /// Do not ask before --fix
    #[arg(short, long, requires = "fix")]
    pub yes: bool,
    /// Who runs the statements of --fix on the source, instead of source.postgres.url
    #[arg(long, value_name = "URL", env = "PGSTREAM_SOURCE_ADMIN_URL", hide_env_values = true)]
    pub source_admin_url: Option<String>,
    /// Who runs the statements of --fix on the target, instead of target.postgres.url
    #[arg(long, value_name = "URL", env = "PGSTREAM_TARGET_ADMIN_URL", hide_env_values = true)]
    pub target_admin_url: Option<String>,
    /// Only whether servers are reached and of the right kind (switches add up)
    #[arg(long)]
    pub connectivity: bool,
    /// Only endpoints of RDS and Aurora
    #[arg(long)]
    pub aws: bool,
    /// Only slot, WAL, publication
    #[arg(long)]
    pub replication: bool,
    /// Only privileges
    #[arg(long)]
    pub access: bool,
    /// Only tables and what they are made of
    #[arg(long)]
    pub schema: bool,
    /// Only connections and limits
    #[arg(long)]
    pub resources: bool,
    /// Report as JSON
    #[arg(long)]
    pub json: bool,
}

/// `doctor`.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 explained, or nothing is wrong; 1 not known, or something is wrong; 2 usage.")]
pub struct Doctor {
    /// The error, or - for standard input, e.g. a log; without it, the servers of the configuration are looked at
    pub text: Option<String>,
    /// Report as JSON
    #[arg(long)]
    pub json: bool,
}

/// `snapshot`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Snapshot {
    /// What is copied.
    #[command(flatten)]
    pub copy: CopyArgs,
    /// Copy with N processes on this machine, which are replaced when they die
    #[arg(long, value_name = "N")]
    pub workers: Option<NonZeroUsize>,
    /// Or one side of a copy by several processes or tasks.
    #[command(subcommand)]
    pub side: Option<SnapshotSide>,
}

/// `snapshot coordinate`, `snapshot worker`.
#[derive(Debug, Subcommand)]
pub enum SnapshotSide {
    /// Hold the snapshot and copy the schema, while workers elsewhere copy the rows
    Coordinate {
        /// What is copied.
        #[command(flatten)]
        copy: CopyArgs,
        /// How long no worker may be at work before that is an error
        #[arg(long, value_name = "SECONDS", default_value_t = WORKERS_WAIT)]
        wait: u64,
    },
    /// Copy rows for a coordinator, with the same configuration, until none are left
    Worker(WorkerArgs),
}

/// How long coordinator and workers wait for each other: tasks of Fargate take a minute or two to come up, and one that
/// failed is started again after half a minute.
const WORKERS_WAIT: u64 = 600;

/// What a copy is of.
#[derive(Debug, Args)]
pub struct CopyArgs {
    /// The source.
    #[command(flatten)]
    pub source: SourceArgs,
    /// Target database, instead of target.postgres.url
    #[arg(long, value_name = "URL")]
    pub target_url: Option<String>,
    /// Tables to copy, separated by commas: t, schema.t, schema.*, *.t
    #[arg(long, value_delimiter = ',', value_name = "PATTERNS")]
    pub tables: Vec<String>,
    /// Build the target database anew and swap it in when complete (clean_target_db)
    #[arg(long)]
    pub reset: bool,
    /// Copy rows only, into tables that exist
    #[arg(long)]
    pub data_only: bool,
    /// Keep the schema dump in this file
    #[arg(long, value_name = "FILE")]
    pub dump_file: Option<String>,
    /// Report as JSON
    #[arg(long)]
    pub json: bool,
}

/// `snapshot worker`.
#[derive(Debug, Args)]
pub struct WorkerArgs {
    /// The source.
    #[command(flatten)]
    pub source: SourceArgs,
    /// Target database, instead of target.postgres.url
    #[arg(long, value_name = "URL")]
    pub target_url: Option<String>,
    /// Tables that may be copied, as the coordinator has them
    #[arg(long, value_delimiter = ',', value_name = "PATTERNS")]
    pub tables: Vec<String>,
    /// How long there may be no coordinator before that is an error
    #[arg(long, value_name = "SECONDS", default_value_t = WORKERS_WAIT)]
    pub wait: u64,
    /// Report as JSON
    #[arg(long)]
    pub json: bool,
}

/// `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Source database, instead of source.postgres.url
    #[arg(long, value_name = "URL")]
    pub source_url: Option<String>,
    /// Target database, instead of target.postgres.url
    #[arg(long, value_name = "URL")]
    pub target_url: Option<String>,
    /// Replication slot, instead of pgstream_DB_slot
    #[arg(long, value_name = "NAME")]
    pub replication_slot: Option<String>,
    /// Tables to copy before following, separated by commas: t, schema.t, schema.*, *.t
    #[arg(long, value_delimiter = ',', value_name = "PATTERNS")]
    pub snapshot_tables: Vec<String>,
    /// Build the target database anew and swap it in when complete (clean_target_db)
    #[arg(long)]
    pub reset: bool,
    /// Copy rows only, into tables that exist
    #[arg(long)]
    pub data_only: bool,
    /// Prepare the source first, as init does
    #[arg(long)]
    pub init: bool,
    /// Keep the schema dump in this file
    #[arg(long, value_name = "FILE")]
    pub dump_file: Option<String>,
}

impl Common {
    /// The settings that these flags override.
    pub fn overrides(&self) -> Overrides {
        Overrides {
            log_level: self.log_level.clone(),
            log_format: self.log_format.map(|format| match format {
                LogFormat::Console => "console".to_owned(),
                LogFormat::Json => "json".to_owned(),
            }),
            no_color: self.no_color,
            ..Overrides::default()
        }
    }
}

impl SourceArgs {
    /// The settings that these flags override, beside those of `common`.
    pub fn overrides(&self, common: &Common) -> Overrides {
        Overrides {
            source_url: self.postgres_url.clone(),
            replication_slot: self.replication_slot.clone(),
            ..common.overrides()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
