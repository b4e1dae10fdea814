//! The program as a user meets it: every command, every exit code, through its own process.

mod damage;
mod drill;
mod everyday;
mod fixture;
mod follow;
mod operations;
mod quiet;
mod records;
mod rescue;
mod snapshots;
mod support;
mod sweep;
mod trouble;
