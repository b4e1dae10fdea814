//! What the benchmark asks of every engine, and how it describes it.
//!
//! Work is handed in as closures, so that an adapter can keep tables, cursors and prepared statements that
//! borrow from a transaction. Everything is generic: no call of a timed loop goes through a table of
//! function pointers. Values are handed out borrowed wherever the engine can.

use std::error::Error;
use std::path::Path;

/// Any failure of an engine or of a check.
pub type Fault = Box<dyn Error + Send + Sync>;
/// The outcome of a step.
pub type Outcome<T = ()> = Result<T, Fault>;

/// What a commit that has returned survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// Power loss.
    Durable,
    /// The death of the process: the operating system has the bytes.
    Buffered,
    /// Nothing until a later commit or sync covers it.
    Memory,
}

/// What is the same for all engines of a run.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Bytes of memory for cached reads, for the engines that do not leave that to the page cache.
    pub cache_bytes: usize,
    /// Bytes of memory for changes that are not in their final place yet.
    pub write_bytes: usize,
    /// Whether tables are read by positional reads instead of a mapping, where the engine has both.
    pub positional: bool,
    /// Whether the data is larger than memory, for engines whose documentation advises something for that.
    pub beyond_memory: bool,
    /// Whether commits are to stay in the log until the database is opened again, where the engine would merge
    /// them long before the write budget is used up.
    pub hold_log: bool,
    /// About the length of most values, in bytes: a schema may depend on it.
    pub value_bytes: usize,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            cache_bytes: 4 << 30,
            write_bytes: 128 << 20,
            positional: false,
            beyond_memory: false,
            hold_log: false,
            value_bytes: crate::records::VALUE_BYTES,
        }
    }
}

/// How an engine can read what it has merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// Through a mapping only.
    Mapped,
    /// By positional reads only.
    Positional,
    /// Either, by [`Setup::positional`].
    Either,
}

/// How an engine is set up, for the printed table.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// What its commits guarantee, per promise; `None` if it has no such commit.
    pub durable: &'static str,
    /// See [`Promise::Buffered`].
    pub buffered: Option<&'static str>,
    /// See [`Promise::Memory`].
    pub memory: Option<&'static str>,
    /// Whether commits go to a log first and to their final place later.
    pub logged: bool,
    /// How it reads.
    pub reads: Reads,
    /// What differs from the other engines and matters for the figures.
    pub notes: &'static str,
}

impl Facts {
    /// Whether the engine has commits with this promise.
    pub fn offers(&self, promise: Promise) -> bool {
        match promise {
            Promise::Durable => true,
            Promise::Buffered => self.buffered.is_some(),
            Promise::Memory => self.memory.is_some(),
        }
    }
}

/// An engine under measurement: one ordered set of keys in one directory.
pub trait Engine: Sized + Send + Sync {
    /// Its name in tables and on the command line.
    const NAME: &'static str;
    /// The crate that it is, with the version in the lock file.
    const PACKAGE: &'static str;
    /// How it is set up.
    const FACTS: Facts;

    /// Reads of one point in time.
    type Reader<'a>;
    /// Writes of one atomic commit that reads nothing.
    type Batch<'a>: Batch;
    /// Writes of one atomic commit that reads, its own writes included.
    type Change<'a>: Change;

    /// Opens or creates.
    fn open(dir: &Path, setup: &Setup) -> Outcome<Self>;
    /// Closes cleanly.
    fn close(self) -> Outcome;
    /// Runs `body` on one snapshot, taken at the latest by its first read.
    fn read<T>(&self, body: impl FnOnce(&mut Self::Reader<'_>) -> Outcome<T>) -> Outcome<T>;
    /// Hands the value of a key, or nothing, to `with`.
    fn get<T>(
        reader: &mut Self::Reader<'_>,
        key: &[u8],
        with: impl FnOnce(Option<&[u8]>) -> T,
    ) -> Outcome<T>;
    /// Hands up to `count` entries from `from` on to `each`; says how many there were.
    fn scan(
        reader: &mut Self::Reader<'_>,
        from: &[u8],
        count: u64,
        each: impl FnMut(&[u8], &[u8]),
    ) -> Outcome<u64>;
    /// The number of keys.
    fn len(reader: &mut Self::Reader<'_>) -> Outcome<u64>;
    /// Runs `body` and commits.
    fn batch<T>(
        &self,
        promise: Promise,
        body: impl FnOnce(&mut Self::Batch<'_>) -> Outcome<T>,
    ) -> Outcome<T>;
    /// Runs `body` and commits durably.
    fn change<T>(&self, body: impl FnOnce(&mut Self::Change<'_>) -> Outcome<T>) -> Outcome<T>;
    /// Sets one key, in the way that the engine offers for it.
    fn put(&self, promise: Promise, key: &[u8], value: &[u8]) -> Outcome {
        self.batch(promise, |batch| batch.insert(key, value))
    }
    /// Sets many keys in ascending order, all past every existing key, in one commit.
    fn insert_sorted<'r>(
        &self,
        mut records: impl Iterator<Item = (&'r [u8], &'r [u8])>,
    ) -> Outcome {
        self.batch(Promise::Durable, |batch| {
            records.try_for_each(|(key, value)| batch.insert(key, value))
        })
    }
    /// Gives unused space back to the file system, and leaves the database in the best shape for reads.
    fn compact(self, dir: &Path, setup: &Setup) -> Outcome<Self>;
}

/// Blind writes.
pub trait Batch {
    /// Sets a key.
    fn insert(&mut self, key: &[u8], value: &[u8]) -> Outcome;
    /// Removes a key.
    fn remove(&mut self, key: &[u8]) -> Outcome;
}

/// Writes that read.
pub trait Change {
    /// Removes the entry with the smallest or, at the `back`, the greatest key; hands it to `with`.
    fn pop(&mut self, back: bool, with: impl FnOnce(&[u8], &[u8])) -> Outcome<bool>;
    /// Keeps the entries for which `keep` is true; says how many it removed.
    fn retain(&mut self, keep: impl FnMut(&[u8], &[u8]) -> bool) -> Outcome<u64>;
    /// Removes the entries of `from..to` for which `pick` is true, and hands each to `each`.
    fn extract(
        &mut self,
        from: &[u8],
        to: &[u8],
        pick: impl FnMut(&[u8], &[u8]) -> bool,
        each: impl FnMut(&[u8], &[u8]),
    ) -> Outcome<u64>;
}
