//! One PostgreSQL server: how to reach it, what it says, and the replication protocol.
//!
//! ```text
//!  Dsn + Password ──> Server ──┬─ connect()      ──> Client       SQL and COPY (tokio-postgres)
//!                              └─ replicate()    ──> replication  walsender ──> frames ──> pgoutput::Message<'a>
//! ```

pub mod dsn;
pub mod error;
pub mod ident;
pub mod libpq;
pub mod lsn;
pub mod pgoutput;
pub mod replication;
pub mod server;

pub use dsn::Dsn;
pub use error::{Class, Error};
pub use ident::{TableName, quote_ident, quote_literal};
pub use lsn::Lsn;
pub use server::{Client, Password, Server, Session};
