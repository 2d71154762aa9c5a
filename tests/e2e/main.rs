//! End-to-end tests: the binary between two real servers.
