//! The RDS API in front of real PostgreSQL servers on one machine.
