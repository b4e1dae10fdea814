//! From memory to tables, and from many tables to few.
//!
//! - [`flush`]: a frozen memtable becomes a table, the manifest starts the log behind it.
//! - [`due`]: which runs are to be merged, and when; [`dead`]: what of them newer ones have replaced.
//! - [`merge`]: runs of tables become one; [`parts`]: which of their tables stay as they are.
//! - [`write`]: how both write tables.
//! - [`background`]: the threads that do it, and what is done when there are none.
//!
//! Invariants:
//! 1. A manifest names only tables whose content and names are synced.
//! 2. A table is published only after the log up to its last commit is durable.
//! 3. Log is released, and files are removed, only after a durable manifest no longer needs them.
//! 4. After poison nothing is published, released or removed.

mod background;
mod dead;
mod due;
pub mod flush;
pub mod merge;
mod parts;
mod pinned;
pub mod write;

pub use background::Background;
pub use due::Allowance;
