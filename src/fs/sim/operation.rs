//! What happened to a disk, in order: operations, and the application's marks between them.
//!
//! An operation is recorded as it took effect (a short write with the bytes that were taken, a failed
//! sync with what it left), so a recording replays without the faults that shaped it. Bytes are shared:
//! cloning an operation or a whole [`Recording`] copies no data.

use super::crash::{CrashPoint, CrashWalker};
use super::fault::PageState;
use super::model::{Model, NodeId};
use crate::fs::Barrier;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// One change of a disk.
#[derive(Clone, Debug)]
pub struct Operation {
    pub(super) path: Arc<Path>,
    pub(super) node: NodeId,
    pub(super) dir: NodeId,
    pub(super) action: Action,
}

/// What an operation did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// A new, empty file.
    Create,
    /// A new directory.
    CreateDir,
    /// A rename within the directory.
    Rename {
        /// The new name.
        to: String,
    },
    /// A file lost its name.
    Remove,
    /// Bytes written.
    Write {
        /// Where in the file.
        offset: u64,
        /// What.
        data: Arc<[u8]>,
    },
    /// A file cut or extended.
    SetLen {
        /// The new length in bytes.
        len: u64,
    },
    /// Room allocated.
    Allocate {
        /// Up to which length in bytes.
        len: u64,
    },
    /// A sync of a file.
    SyncData {
        /// Its name.
        barrier: Barrier,
        /// What it did.
        effect: SyncEffect,
    },
    /// A sync of a directory.
    SyncDir {
        /// Its name.
        barrier: Barrier,
        /// What it did.
        effect: SyncEffect,
    },
}

/// What a sync did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncEffect {
    /// It made everything durable.
    Durable,
    /// Nothing, though it returned `Ok`: its barrier is disabled.
    Ignored,
    /// It failed, and left this.
    Failed(PageState),
}

/// An event of the application, between two operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// How many operations came before it.
    pub operations: usize,
    /// What the application said.
    pub payload: u64,
}

/// The history of a disk since it was made (or since its recording was started anew): its first state,
/// every operation, every mark. Immutable and cheap to clone.
#[derive(Clone, Debug)]
pub struct Recording {
    pub(super) base: Arc<Model>,
    pub(super) log: Log,
    pub(super) seed: u64,
}

/// The growing part of a recording.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    pub operations: Arc<Vec<Operation>>,
    pub marks: Arc<Vec<Mark>>,
    /// Tampering, each with the number of operations before it.
    pub tampers: Arc<Vec<(usize, Tamper)>>,
}

/// A change that no operation made.
#[derive(Clone, Debug)]
pub(super) enum Tamper {
    /// New bytes, durable at once; with `names`, the name too.
    Write {
        path: Arc<Path>,
        bytes: Arc<[u8]>,
        names: bool,
    },
    Remove {
        path: Arc<Path>,
    },
    FlipBit {
        path: Arc<Path>,
        offset: u64,
        bit: u8,
    },
}

impl Recording {
    /// How many operations there are. Crash points are `0..=operations()`.
    pub fn operations(&self) -> usize {
        self.log.operations.len()
    }

    /// One operation.
    pub fn operation(&self, index: usize) -> Option<&Operation> {
        self.log.operations.get(index)
    }

    /// All marks, in order.
    pub fn marks(&self) -> &[Mark] {
        &self.log.marks
    }

    /// A walk over all crash points, each one operation further. This is the way to visit many.
    pub fn walker(&self) -> CrashWalker {
        CrashWalker::new(self.clone())
    }

    /// The power cut after the first `operations` operations (at most all). Replays from the start.
    pub fn crash_point(&self, operations: usize) -> CrashPoint {
        let mut walker = self.walker();
        walker.seek(operations);
        walker.crash_point()
    }
}

impl Operation {
    /// The file or directory, by the name it had.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was done to it.
    pub fn action(&self) -> &Action {
        &self.action
    }

    /// Whether it is a sync, of a file or of a directory. Between two syncs every operation only adds to
    /// what a crash may leave.
    pub fn is_sync(&self) -> bool {
        matches!(self.action, Action::SyncData { .. } | Action::SyncDir { .. })
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.action {
            Action::Create => write!(f, "create {path}"),
            Action::CreateDir => write!(f, "create directory {path}"),
            Action::Rename { to } => write!(f, "rename {path} to {to}"),
            Action::Remove => write!(f, "remove {path}"),
            Action::Write { offset, data } => {
                write!(f, "write {path} {offset}..{}", offset + data.len() as u64)
            }
            Action::SetLen { len } => write!(f, "set length of {path} to {len}"),
            Action::Allocate { len } => write!(f, "allocate {len} bytes for {path}"),
            Action::SyncData { barrier, effect } => {
                write!(f, "sync {path} ({barrier:?}): {effect}")
            }
            Action::SyncDir { barrier, effect } => {
                write!(f, "sync directory {path} ({barrier:?}): {effect}")
            }
        }
    }
}

impl fmt::Display for SyncEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SyncEffect::Durable => "durable",
            SyncEffect::Ignored => "ignored",
            SyncEffect::Failed(PageState::Dirty) => "failed, still dirty",
            SyncEffect::Failed(PageState::MarkedClean) => "failed, marked clean",
            SyncEffect::Failed(PageState::Reverted) => "failed, reverted",
        })
    }
}

impl Tamper {
    pub fn path(&self) -> &Path {
        match self {
            Tamper::Write { path, .. } | Tamper::Remove { path } | Tamper::FlipBit { path, .. } => {
                path
            }
        }
    }
}
