//! The program as a user meets it: every command, every exit code, through its own process.

mod damage;
mod drill;
mod everyday;
mod records;
mod rescue;
mod support;
mod trouble;
