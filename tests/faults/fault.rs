//! What can go wrong for a while, drawn by a seed.

use std::{fmt, time::Duration};

use pgstream_testkit::{Edge, Flow, Stop};
use rand::{Rng, rngs::SmallRng, seq::IndexedRandom};

use crate::rig::Kind;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Source,
    Target,
}

/// A fault that passes; what is after the name is how long, how far, or how.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// kill -9 of the replicator, which is started again.
    Killed,
    /// The same at an edge of a COMMIT on the target.
    KilledAt(Edge),
    /// SIGTERM and a new start.
    Restarted,
    /// SIGSTOP, then SIGCONT.
    Stopped(Duration),
    /// Another replicator tries to take over, and is killed.
    Rival(Duration),
    /// kill -9 of a server, which is started again.
    ServerKilled(Side, Duration),
    /// The same of the target at an edge of a COMMIT.
    TargetKilledAt(Edge),
    /// A server is shut down and started.
    ServerShut(Side, Stop),
    /// SIGSTOP of a whole server.
    ServerStopped(Side, Duration),
    /// kill -9 of one backend: the server throws all out and recovers.
    BackendKilled(Side),
    /// All of it at once.
    PowerCut,
    /// Sessions are ended by an administrator.
    Terminated(Side),
    /// Statements are cancelled.
    Cancelled,
    /// The database gets short timeouts for everything, and all sessions are new.
    Timeouts(Side),
    /// The password changes, and the passfile with it.
    PasswordChanged(Side),
    /// A table of the target is locked.
    Locked(Duration),
    /// Somebody locks what the applier needs, in another order.
    Deadlock,
    /// The target refuses rows, at once or at COMMIT, for a reason that passes.
    Refusing {
        code: &'static str,
        at_commit: bool,
        time: Duration,
    },
    /// Connections are reset now, or after so many bytes.
    Cut(Side),
    CutAfter(Side, u64),
    /// The connection to the target breaks at an edge of a COMMIT: the statement or its answer is lost.
    CutAt(Edge),
    /// Connections are reset and no new one is let in.
    Unreachable(Side, Duration),
    /// Nothing passes, nothing is closed.
    Silent(Side, Duration),
    /// Little passes.
    Slow(Side, Duration),
    /// One direction is closed in order.
    HalfClosed(Side, Flow),
    /// A byte is changed on an encrypted connection.
    Corrupted(Side, u64),
    /// The same in the handshake of a new connection.
    CorruptedHandshake(Side, u64),
    /// No file of the tables grows.
    DiskFull(Side, Duration),
}

/// Reasons that pass: deadlock, serialization, lock, statement timeout, memory, connections, shutdown.
const REFUSALS: [&str; 7] = ["40P01", "40001", "55P03", "57014", "53200", "53300", "57P01"];

/// `wal_sender_timeout` of the source.
pub const SENDER_PATIENCE: Duration = Duration::from_secs(3);

impl Fault {
    /// The next one for a pipeline of this kind.
    pub fn draw(rng: &mut SmallRng, kind: Kind) -> Self {
        loop {
            let fault = Self::any(rng);
            if fault.suits(kind) {
                return fault;
            }
        }
    }

    /// One that may come in the middle of a copy.
    pub fn draw_for_copy(rng: &mut SmallRng, kind: Kind) -> Self {
        loop {
            let fault = Self::draw(rng, kind);
            let suits = !matches!(
                fault,
                Self::KilledAt(_)
                    | Self::TargetKilledAt(_)
                    | Self::CutAt(_)
                    | Self::Refusing { .. }
                    | Self::Locked(_)
                    | Self::Deadlock
                    | Self::Rival(_)
            );
            if suits {
                return fault;
            }
        }
    }

    fn any(rng: &mut SmallRng) -> Self {
        let side = if rng.random() { Side::Source } else { Side::Target };
        let edge = if rng.random() { Edge::Commit } else { Edge::Reply };
        let flow = if rng.random() { Flow::Up } else { Flow::Down };
        let time = Duration::from_millis(rng.random_range(100..1200));
        let bytes = 1 << rng.random_range(2..15);
        let bytes = rng.random_range(1..=bytes);
        match rng.random_range(0..60) {
            0..=3 => Self::Killed,
            4..=6 => Self::KilledAt(edge),
            7 => Self::Restarted,
            8..=9 => Self::Stopped(time),
            10 => Self::Rival(time),
            11..=12 => Self::ServerKilled(side, time),
            13..=15 => Self::TargetKilledAt(edge),
            16..=17 => Self::ServerShut(side, if rng.random() { Stop::Immediate } else { Stop::Fast }),
            18..=19 => Self::ServerStopped(side, time),
            20..=21 => Self::BackendKilled(side),
            22 => Self::PowerCut,
            23..=25 => Self::Terminated(side),
            26..=27 => Self::Cancelled,
            28 => Self::Timeouts(side),
            29 => Self::PasswordChanged(side),
            30..=31 => Self::Locked(time),
            32..=33 => Self::Deadlock,
            34..=36 => {
                let code = REFUSALS.choose(rng).unwrap();
                Self::Refusing { code, at_commit: rng.random(), time: time / 2 }
            }
            37..=38 => Self::Cut(side),
            39..=43 => Self::CutAfter(side, bytes),
            44..=47 => Self::CutAt(edge),
            48 => Self::Unreachable(side, time),
            49 => Self::Silent(side, time),
            // Longer than the walsender waits.
            50 => Self::Silent(Side::Source, SENDER_PATIENCE + time),
            51 => Self::Slow(side, time),
            52..=53 => Self::HalfClosed(side, flow),
            54..=56 => Self::Corrupted(side, bytes),
            57 => Self::CorruptedHandshake(side, rng.random_range(300..4000)),
            _ => Self::DiskFull(side, time),
        }
    }

    fn suits(&self, kind: Kind) -> bool {
        match self {
            // The proxy finds a COMMIT only where it can read.
            Self::KilledAt(_) | Self::TargetKilledAt(_) | Self::CutAt(_) => kind != Kind::Encrypted,
            // Without encryption nobody can know.
            Self::Corrupted(..) | Self::CorruptedHandshake(..) => kind == Kind::Encrypted,
            // A trigger that fires for replicated rows is refused where triggers stay on.
            Self::Refusing { .. } => kind != Kind::Checked,
            _ => true,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
