//! The groups of phases, each run on one engine in a process of its own.

use crate::child::Context;
use crate::engine::{Engine, Outcome};

mod drain;
mod kill;
mod latency;
mod main;
mod parts;
mod threads;

/// Runs the group of this name.
///
/// # Errors
/// If there is no such group, and what fails in it.
pub fn run<E: Engine>(group: &str, context: &Context) -> Outcome {
    match group {
        "main" => main::run::<E>(context),
        "threads" => threads::run::<E>(context),
        "kill" => kill::run::<E>(context),
        kill::VICTIM => kill::victim::<E>(context),
        "latency" => latency::run::<E>(context),
        "drain" => drain::run::<E>(context),
        _ => Err(format!("no group {group:?}").into()),
    }
}
