//! What the RDS API knows and the servers do not say. The API is asked elsewhere; what it means is here.

use crate::{
    check::{Category, Severity, Side},
    report::{Finding, Instance},
};

/// One check of what the RDS API says of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rds {
    /// The API could not be asked.
    Api,
    /// It is not `available`.
    Status,
    /// A parameter is not as it should be.
    Parameters,
    /// A value of the group is not in effect before a reboot.
    PendingReboot,
    /// Something forbids what would have to be changed.
    Unfit,
    /// A blue/green deployment is under way.
    BlueGreen,
    /// Changes wait for the maintenance window.
    PendingChanges,
    /// Maintenance is due.
    Maintenance,
    /// There is not enough room.
    Storage,
    /// WAL would fill it soon.
    WalRoom,
}

impl Rds {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Api,
        Self::Status,
        Self::Parameters,
        Self::PendingReboot,
        Self::Unfit,
        Self::BlueGreen,
        Self::PendingChanges,
        Self::Maintenance,
        Self::Storage,
        Self::WalRoom,
    ];

    /// Stable name.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::Api => "aws.rds_api",
            Self::Status => "aws.status",
            Self::Parameters => "aws.parameters",
            Self::PendingReboot => "aws.pending_reboot",
            Self::Unfit => "aws.unfit",
            Self::BlueGreen => "aws.blue_green",
            Self::PendingChanges => "aws.pending_changes",
            Self::Maintenance => "aws.maintenance",
            Self::Storage => "aws.storage",
            Self::WalRoom => "aws.wal_room",
        }
    }

    pub(crate) fn severity(self) -> Severity {
        match self {
            Self::Status | Self::Parameters | Self::Unfit => Severity::Error,
            Self::PendingReboot | Self::BlueGreen | Self::Storage | Self::WalRoom => Severity::Warning,
            Self::Api | Self::PendingChanges | Self::Maintenance => Severity::Notice,
        }
    }

    pub(crate) fn why(self) -> &'static str {
        match self {
            Self::Api => "parameter groups, pending reboots and blue/green deployments are not looked at",
            Self::Status => "a database that is not available refuses sessions, or is about to",
            Self::Parameters => {
                "without these parameters it cannot be a source or target; `provision` makes a group that has them"
            }
            Self::PendingReboot => "static parameters of the group take effect at the next reboot only",
            Self::Unfit => "`provision` would refuse to go on",
            Self::BlueGreen => {
                "after the switch-over another system answers: its slot is not there, and the history is another"
            }
            Self::PendingChanges => {
                "attaching a parameter group makes all of them at once; some of them restart the server"
            }
            Self::Maintenance => {
                "the server restarts in its maintenance window: the stream reconnects by itself, a copy goes on"
            }
            Self::Storage => {
                "a full disk stops the server; the copy, its indexes and WAL that a slot keeps all need room"
            }
            Self::WalRoom => "a stream that stands still for longer fills the disk of the source, and stops the server",
        }
    }

    /// What was found, as a finding.
    #[must_use]
    pub fn finding(self, side: Side, found: String, fix: String) -> Finding {
        Finding {
            id: self.id().to_owned(),
            category: Category::Aws,
            side,
            severity: self.severity(),
            why: self.why().to_owned(),
            instances: vec![Instance { found, fix }],
        }
    }
}
