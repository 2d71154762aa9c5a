//! One part of a round: claimed, copied and recorded in one transaction of the target.
//!
//! ```text
//!  BEGIN ─> claim: the part is gone, for us ─> rows ─> ledger ─> COMMIT: gone for everybody
//!                                               └── whatever happens here: ROLLBACK, and it is back
//! ```

use std::sync::Arc;

use pgstream_postgres::{Client, answered};
use tokio::sync::OnceCell;
use tokio_postgres::Statement;

use super::{
    Error, Job,
    copy::{self, Context, Copied, Failure, Unit},
    exporter,
    ledger::Origin,
    marks, offered,
    progress::TableProgress,
    rounds::{self, Claim},
};
use crate::{
    mutants::{self, Mutant},
    target::valve,
};

/// Who reads the rows.
#[derive(Clone, Copy)]
pub(crate) enum Reader<'a> {
    /// A session of a worker that imported the snapshot: it must be able to lock the table while the exporter's lock is
    /// there, and reads what its own configuration lets it. With the statement of [`offered::reading`].
    Importer(&'a Client, &'a Job, &'a Statement),
    /// The session that has all locks, and the units of the round.
    Exporter(&'a Client, &'a [Arc<Unit>]),
}

impl Reader<'_> {
    fn client(&self) -> &Client {
        match self {
            Self::Importer(client, ..) | Self::Exporter(client, _) => client,
        }
    }

    /// How the claimed table is copied. None when this session cannot lock it now.
    async fn unit(&self, context: &Context, claim: &Claim) -> Result<Option<Arc<Unit>>, Error> {
        let (source, job, statement) = match self {
            Self::Importer(source, job, statement) => (source, job, statement),
            Self::Exporter(_, units) => {
                let unit = usize::try_from(claim.unit).ok().and_then(|at| units.get(at));
                let unknown = || Error::Worker(format!("unit {} is not known", claim.unit));
                return Ok(Some(unit.cloned().ok_or_else(unknown)?));
            }
        };
        if !exporter::can_read(source, &claim.table, claim.kind).await? {
            return Ok(None);
        }
        exporter::still_held(source, &job.source, &context.snapshot).await?;
        let (filter, publication) = (&job.settings.tables, job.publication.as_deref());
        let table = offered::read(source, statement, &claim.table, claim.kind, filter, publication).await?;
        let progress = Arc::new(TableProgress::new(table.name.clone(), 0));
        Ok(Some(Arc::new(Unit {
            table,
            format: claim.format,
            write: claim.write.clone(),
            state: claim.state,
            parts: Vec::new(),
            progress,
            cleared: OnceCell::new(),
        })))
    }
}

/// What came of it.
pub(crate) enum Taken {
    /// A part is copied.
    Part(Claim, Copied),
    /// It is left to the exporter.
    LockedOut,
    /// There is none that could be taken now.
    Nothing,
}

enum Refused {
    Claiming(tokio_postgres::Error),
    Copying(Failure, Arc<Unit>),
    Other(Error),
}

impl From<pgstream_postgres::Error> for Refused {
    fn from(error: pgstream_postgres::Error) -> Self {
        Self::Other(error.into())
    }
}

/// A session that fills tables.
pub(crate) struct Filler {
    pub(crate) target: Client,
    claiming: Statement,
}

impl Filler {
    /// Makes a session one of a worker's.
    pub(crate) async fn new(target: Client, origin: &Origin) -> Result<Self, Error> {
        marks::worker(&target, origin).await?;
        let claiming = rounds::claiming(&target).await?;
        Ok(Self { target, claiming })
    }
}

/// Copies the next part behind `after` that nobody has. Not cancel-safe: after dropping it, drop both sessions.
pub(crate) async fn take(
    context: &Context,
    reader: Reader<'_>,
    filler: &mut Filler,
    round: i64,
    after: (i32, i32),
) -> Result<Taken, Error> {
    valve::wait_while_paused(&filler.target, &context.origin.source).await?;
    let sessions = [reader.client().pulse(), filler.target.pulse()];
    let outcome = answered(&sessions, attempt(context, reader, filler, round, after)).await;
    let target = &filler.target;
    match outcome {
        Ok((None, _)) => Ok(Taken::Nothing),
        Ok((Some(claim), Some(copied))) => Ok(Taken::Part(claim, copied)),
        Ok((Some(claim), None)) => {
            rounds::lock_out(target, round, &claim).await?;
            Ok(Taken::LockedOut)
        }
        Err(Refused::Claiming(error)) => Err(target.failed("taking a part of the copy")(error).into()),
        Err(Refused::Copying(failure, unit)) => Err(failure.told(reader.client(), &unit, target.failed(&unit.doing()))),
        Err(Refused::Other(error)) => Err(error),
    }
}

async fn attempt(
    context: &Context,
    reader: Reader<'_>,
    filler: &mut Filler,
    round: i64,
    after: (i32, i32),
) -> Result<(Option<Claim>, Option<Copied>), Refused> {
    let tx = filler.target.build_transaction().start().await.map_err(Refused::Claiming)?;
    let locked_out = matches!(reader, Reader::Exporter(..));
    let Some(claim) =
        rounds::claim(&tx, &filler.claiming, round, after, locked_out).await.map_err(Refused::Claiming)?
    else {
        tx.rollback().await.map_err(Refused::Claiming)?;
        return Ok((None, None));
    };
    let Some(unit) = reader.unit(context, &claim).await.map_err(Refused::Other)? else {
        tx.rollback().await.map_err(Refused::Claiming)?;
        return Ok((Some(claim), None));
    };
    let tx = if mutants::is(Mutant::ClaimApart) {
        tx.commit().await.map_err(Refused::Claiming)?;
        filler.target.build_transaction().start().await.map_err(Refused::Claiming)?
    } else {
        tx
    };
    match copy::fill(context, reader.client(), tx, &unit, claim.as_part()).await {
        Ok(copied) => Ok((Some(claim), Some(copied))),
        Err(failure) => Err(Refused::Copying(failure, unit)),
    }
}
