//! One PostgreSQL server: how to reach it, what it says, and the replication protocol.
//!
//! ```text
//!  Dsn + Password ──> Server ──┬─ connect()      ──> Client       SQL and COPY (tokio-postgres)
//!                              └─ replicate()    ──> replication  walsender ──> frames ──> pgoutput::Message<'a>
//! ```

mod dial;
pub mod dsn;
pub mod error;
pub mod ident;
pub mod lsn;
mod motion;
mod password;
pub mod pgoutput;
mod pulse;
pub mod replication;
pub mod server;
pub mod tls;
mod tools;
mod transport;
mod wire;

pub use dsn::{Dsn, DsnError};
pub use error::{Class, Error};
pub use ident::{TableName, quote_ident, quote_literal};
pub use lsn::Lsn;
pub use password::{
    Credentials, CredentialsError, CredentialsFuture, CredentialsRequest, MAX_REFUSALS, Password, PasswordProvider,
    Refusal,
};
pub use pulse::{Pulse, answered};
pub use server::{Canceller, Client, Server, Session};
