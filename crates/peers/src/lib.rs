//! Highwater measured against bare system calls and against other engines.
//!
//! The binary `highwater-peers` runs the comparison (see `docs/performance.md`), the binary `limits` the
//! limits that the engine keeps. Everything that is stored is known by number ([`records`]), so that every
//! figure comes with a check of what was read.
//!
//! Measured is one engine at a time, in a process of its own ([`child`]), which reports each figure as a line of
//! text; the parent ([`run`]) lets the engines take turns, run after run, and makes medians and ratios of it.

pub mod chart;
pub mod child;
pub mod engine;
pub mod engines;
pub mod floor;
pub mod groups;
pub mod json;
pub mod limit;
pub mod model;
pub mod options;
pub mod phases;
pub mod records;
pub mod report;
pub mod run;
pub mod statistics;
pub mod system;
pub mod table;

pub use floor::BareLoop;
pub use records::{KEY_BYTES, Random, VALUE_BYTES, record};
pub use system::{MemoryWatch, allocated_bytes, anonymous_bytes, disk_written_bytes};
