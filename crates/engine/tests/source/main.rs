//! What `init` makes on a real source, what it refuses, and that `destroy` leaves nothing of it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod converge;
mod destroy;
mod handover;
mod identity;
mod publication;
mod refused;
mod setup;
mod status;
