//! The data path, and the state it needs on both servers.
//!
//! ```text
//!  replicate  the three in a row: what `run` does
//!  source/    init, status, destroy: schema pgstream, publication, slot
//!  snapshot/  roles, schema, rows (COPY), indexes, keys, ledger
//!  stream/    walsender -> decode -> batch -> apply -> progress -> acknowledge
//!  target/    what the target remembers: progress, ledger, the lock of the one writer
//!  users      roles with exactly the privileges that a side needs
//! ```

pub mod ddl;
mod mutants;
pub mod replicate;
pub mod snapshot;
pub mod source;
pub mod stream;
pub mod target;
pub mod users;
