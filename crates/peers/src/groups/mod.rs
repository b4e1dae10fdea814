//! The groups of phases, each run on one engine in a process of its own.

use crate::child::Context;
use crate::engine::{Engine, Outcome};
use crate::records::KeyShape;
pub use parts::rest_quickly;

mod beyond;
mod churn;
mod drain;
mod keys;
mod kill;
mod latency;
mod main;
mod parts;
mod threads;
mod values;
mod ycsb;

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
        "churn" => churn::run::<E>(context),
        "sequence" => keys::run::<E>(context, group, KeyShape::Sequence),
        "prefixed" => keys::run::<E>(context, group, KeyShape::Prefixed),
        "values-1k" => values::run::<E>(context, group, 1 << 10),
        "values-16k" => values::run::<E>(context, group, 16 << 10),
        "values-1m" => values::run::<E>(context, group, 1 << 20),
        "ycsb" => ycsb::run::<E>(context),
        "beyond" => beyond::run::<E>(context),
        _ if group == beyond::LIMITED[0] => beyond::limited::<E>(context, false),
        _ if group == beyond::LIMITED[1] => beyond::limited::<E>(context, true),
        _ => Err(format!("no group {group:?}").into()),
    }
}
