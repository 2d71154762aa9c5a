//! One part of a round: claimed, copied and recorded in one transaction of the target.
//!
//! ```text
//!  BEGIN ─> claim: the part is gone, for us ─> rows ─> ledger ─> COMMIT: gone for everybody
//!                                               └── whatever happens here: ROLLBACK, and it is back
//! ```

use std::sync::Arc;

use pgstream_postgres::{Client, Server};

use super::{
    Error,
    copy::{self, Context, Copied, Failure, Unit},
    exporter,
    rounds::{self, Claim},
};

/// Who reads the rows.
#[derive(Clone, Copy)]
pub(crate) enum Reader<'a> {
    /// A session that imported the snapshot: it must be able to lock the table while the exporter's lock is there.
    Importer(&'a Client, &'a Server),
    /// The session that has all locks.
    Exporter(&'a Client),
}

impl Reader<'_> {
    fn client(&self) -> &Client {
        match self {
            Self::Importer(client, _) | Self::Exporter(client) => client,
        }
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

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// Copies the next part behind `after` that nobody has. `unit`: how the claimed table is copied. Not cancel-safe: after
/// dropping it, drop both sessions.
pub(crate) async fn take(
    context: &Context,
    reader: Reader<'_>,
    target: &mut Client,
    round: i64,
    after: (i32, i32),
    unit: impl Fn(&Claim) -> Result<Arc<Unit>, Error>,
) -> Result<Taken, Error> {
    match attempt(context, reader, target, round, after, unit).await {
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
    target: &mut Client,
    round: i64,
    after: (i32, i32),
    unit: impl Fn(&Claim) -> Result<Arc<Unit>, Error>,
) -> Result<(Option<Claim>, Option<Copied>), Refused> {
    let tx = target.build_transaction().start().await.map_err(Refused::Claiming)?;
    let locked_out = matches!(reader, Reader::Exporter(_));
    let Some(claim) = rounds::claim(&tx, round, after, locked_out).await.map_err(Refused::Claiming)? else {
        tx.rollback().await.map_err(Refused::Claiming)?;
        return Ok((None, None));
    };
    let unit = unit(&claim)?;
    if let Reader::Importer(source, server) = reader {
        if !exporter::can_read(source, &unit.table).await? {
            tx.rollback().await.map_err(Refused::Claiming)?;
            return Ok((Some(claim), None));
        }
        exporter::still_held(source, server, &context.snapshot).await?;
    }
    let copied = copy::fill(context, reader.client(), tx, &unit, claim.as_part()).await;
    match copied {
        Ok(copied) => Ok((Some(claim), Some(copied))),
        Err(failure) => Err(Refused::Copying(failure, unit)),
    }
}
