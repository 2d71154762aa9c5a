//! The commands that make a side ready: `provision` and `users`.

use clap::{Args, Subcommand, ValueEnum};

/// `provision`.
#[derive(Debug, Subcommand)]
pub enum Provision {
    /// Show what is, what should be, and the calls between; changes nothing
    Plan(DatabaseArgs),
    /// Carry out the plan; goes on where an earlier run stopped
    Apply(ProvisionApply),
    /// Try whether the database is ready; exit code 1 when it is not
    Verify(DatabaseArgs),
    /// Put back the parameter group that was there before, and delete the one that apply made
    Rollback(ProvisionApply),
}

/// Which database of RDS.
#[derive(Debug, Args)]
pub struct DatabaseArgs {
    /// Identifier or ARN of an instance or cluster, or host of its endpoint; the configuration's URL otherwise
    pub database: Option<String>,
    /// Which end of the pipeline it is
    #[arg(long, value_enum, default_value_t = ProvisionSide::Source)]
    pub side: ProvisionSide,
    /// URL to ask the server itself with, instead of the configuration's
    #[arg(long, value_name = "URL")]
    pub postgres_url: Option<String>,
    /// AWS region; also from the ARN or host, AWS_REGION or the profile
    #[arg(long)]
    pub region: Option<String>,
    /// AWS profile
    #[arg(long)]
    pub profile: Option<String>,
    /// Change the group that an earlier apply made though something else uses it, too
    #[arg(long)]
    pub change_shared_group: bool,
    /// Report as JSON
    #[arg(long)]
    pub json: bool,
}

/// `provision apply` and `provision rollback`.
#[derive(Debug, Args)]
pub struct ProvisionApply {
    /// Which one.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Do not ask; reboot when it is needed
    #[arg(short, long, conflicts_with = "no_reboot")]
    pub yes: bool,
    /// Do everything but the reboot, which stays pending
    #[arg(long)]
    pub no_reboot: bool,
    /// How long to wait for one change of state
    #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
    pub timeout: u64,
}

/// `--side`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProvisionSide {
    /// Changes are read from it.
    Source,
    /// Changes are written to it.
    Target,
}

/// `users`.
#[derive(Debug, Subcommand)]
pub enum Users {
    /// Print the statements, and change nothing
    Plan(UsersArgs),
    /// Run the statements, and keep generated passwords in Secrets Manager
    Apply(UsersApply),
}

/// Which roles, for what.
#[derive(Debug, Args)]
pub struct UsersArgs {
    /// The database, as an administrator, who makes the roles: postgresql:// or secretsmanager://
    #[arg(long, value_name = "URL", env = "PGSTREAM_ADMIN_URL", hide_env_values = true)]
    pub admin_url: String,
    /// The role
    #[arg(long, value_enum)]
    pub role: UserRole,
    /// What it takes part in
    #[arg(long, value_enum, default_value = "snapshot-and-replication")]
    pub mode: UserMode,
    /// It also runs init and destroy
    #[arg(long)]
    pub with_init: bool,
    /// It becomes the owner of what init made
    #[arg(long, conflicts_with = "with_init")]
    pub hand_over: bool,
    /// Whose tables a target is given: the source, postgresql:// or secretsmanager://
    #[arg(long, value_name = "URL", env = "PGSTREAM_POSTGRES_LISTENER_URL", hide_env_values = true)]
    pub source_url: Option<String>,
    /// Grants are not copied (no_privileges: true): a target's owners need their own
    #[arg(long)]
    pub no_privileges: bool,
    /// It also builds databases: create_target_db, clean_target_db, --reset
    #[arg(long)]
    pub createdb: bool,
    /// It also creates the roles of the source
    #[arg(long)]
    pub createrole: bool,
    /// Report as JSON
    #[arg(long)]
    pub json: bool,
}

/// `users apply`.
#[derive(Debug, Args)]
pub struct UsersApply {
    /// Which roles.
    #[command(flatten)]
    pub plan: UsersArgs,
    /// The secret that keeps its login, instead of pgstream/DB/ROLE
    #[arg(long, value_name = "NAME")]
    pub secret: Option<String>,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

/// `--role`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum UserRole {
    /// pgstreamsource: reads and follows the source.
    Source,
    /// pgstreamtarget: fills the target and follows on it.
    Target,
    /// pgstreammonitor: watches the slot.
    Monitor,
}

/// `--mode` of `users`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum UserMode {
    /// Copies.
    Snapshot,
    /// Follows.
    Replication,
    /// Both.
    SnapshotAndReplication,
}
