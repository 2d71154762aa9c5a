//! Schema changes: whatever is done to the source, `pg_dump -s` and every row end up equal.

mod mirror;

mod capture;
mod columns;
mod constraints;
mod indexes;
mod others;
mod partitions;
mod random;
mod rows;
mod tables;
mod views;
