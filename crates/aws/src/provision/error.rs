//! Why a database could not be prepared.

use super::blockers::Blocker;
use crate::error::Error as AwsError;

/// Provisioning stopped.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// AWS, or the way to it.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Aws(#[from] AwsError),
    /// The database itself.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Server(#[from] pgstream_postgres::Error),
    /// The name is none.
    #[error("`{text}` names no database of RDS")]
    #[diagnostic(
        code(aws::provision::name),
        help("give the identifier of an instance or cluster, its ARN, or the host of its endpoint")
    )]
    NotAName {
        /// What was written.
        text: String,
    },
    /// Nothing has this name.
    #[error("there is no database `{name}` in {region}")]
    #[diagnostic(
        code(aws::provision::not_found),
        help(
            "see `aws rds describe-db-instances` and describe-db-clusters; is it in another region (--region) or account (--profile)? A host name of your own does not say which database it is: give its identifier"
        )
    )]
    NotFound {
        /// What was looked for.
        name: String,
        /// Where.
        region: String,
    },
    /// A reader was named.
    #[error("`{name}` is a reader")]
    #[diagnostic(
        code(aws::provision::reader),
        help("slots live on the writer: name the cluster, or its endpoint without `-ro`")
    )]
    Reader {
        /// What was named.
        name: String,
    },
    /// A proxy was named.
    #[error("`{name}` is an RDS Proxy, which has no replication mode")]
    #[diagnostic(code(aws::provision::proxy), help("name the database behind it, or its own endpoint"))]
    Proxy {
        /// What was named.
        name: String,
    },
    /// AWS does not know the version of this database.
    #[error("AWS names no parameter group family for {engine} {version}")]
    #[diagnostic(code(aws::provision::family), help("is the version withdrawn? Upgrade the engine first"))]
    Family {
        /// Engine.
        engine: String,
        /// Version.
        version: String,
    },
    /// Something is in the way.
    #[error("{id} cannot be prepared: {}", stopped_after(*changes))]
    #[diagnostic(code(aws::provision::blocked), help("mend what is listed, then run the same command again"))]
    Blocked {
        /// The database.
        id: String,
        /// Calls that had changed something by then.
        changes: usize,
        /// Each with its fix.
        #[related]
        blockers: Vec<BlockerError>,
    },
    /// It takes too long.
    #[error("{id} is still {state} after {seconds} s")]
    #[diagnostic(
        code(aws::provision::timeout),
        help("see the events of the database in the RDS console; run the same command again to go on waiting")
    )]
    Waited {
        /// The database.
        id: String,
        /// Status, and that of its group.
        state: String,
        /// How long.
        seconds: u64,
    },
    /// A reboot did not help.
    #[error("{id} was rebooted, and still {state}")]
    #[diagnostic(
        code(aws::provision::no_effect),
        help(
            "see the events of the database for a parameter that was not accepted; an instance parameter group wins over that of the cluster"
        )
    )]
    NoEffect {
        /// The database.
        id: String,
        /// What is wrong.
        state: String,
    },
    /// The user stopped it.
    #[error("stopped while preparing {id}")]
    #[diagnostic(code(aws::provision::stopped), help("run the same command again: it goes on where it stopped"))]
    Stopped {
        /// The database.
        id: String,
    },
}

/// One thing that is in the way.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("[{}] {}", .0.code, .0.message)]
#[diagnostic(help("{}", .0.fix))]
pub struct BlockerError(pub Blocker);

fn stopped_after(changes: usize) -> String {
    match changes {
        0 => "nothing was changed".to_owned(),
        1 => "stopped after 1 change".to_owned(),
        many => format!("stopped after {many} changes"),
    }
}
