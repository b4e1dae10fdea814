//! Scripted faults: which operation goes wrong, how, and what a failed sync leaves behind.
//!
//! A [`Fault`] is a filter (kind of operation, part of the path, barrier, place in the log, how many
//! matches to let pass) and an effect. The first fault of the script that is due strikes; the others do
//! not count that operation as seen.

use crate::fs::Barrier;
use std::io;
use std::path::Path;

/// Kinds of operations that a fault can strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OperationKind {
    /// Opening an existing file.
    Open,
    /// Creating a file.
    Create,
    /// Creating a directory.
    CreateDir,
    /// Listing a directory.
    List,
    /// Renaming.
    Rename,
    /// Removing a file.
    Remove,
    /// Reading from a file.
    Read,
    /// Writing to a file.
    Write,
    /// Changing a file's length.
    SetLen,
    /// Allocating room.
    Allocate,
    /// Mapping a file.
    Map,
    /// Syncing a file.
    SyncData,
    /// Syncing a directory.
    SyncDir,
    /// Taking a lock.
    Lock,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// An I/O error (`EIO`).
    Io,
    /// No room (`ENOSPC`, `StorageFull`).
    NoSpace,
    /// Interrupted (`EINTR`).
    Interrupted,
    /// Any other error.
    Error(io::ErrorKind),
    /// A read or write that moves at most so many bytes, and no error.
    Short(usize),
}

/// The unsynced changes of a file or directory after a failed sync.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PageState {
    /// Still dirty: a later sync may make them durable.
    #[default]
    Dirty,
    /// Marked clean: the process goes on seeing them, the disk holds the old bytes, and later syncs
    /// succeed without writing them (unless they are written again).
    MarkedClean,
    /// Dropped: the process sees the old bytes again. A file's length stays.
    Reverted,
}

/// One scripted fault.
///
/// ```
/// use highwater::fs::sim::{Fault, FaultKind, OperationKind, PageState};
/// // The third sync of a log segment fails, and the kernel forgets that the pages were dirty.
/// let fault = Fault::new(FaultKind::Io)
///     .on(OperationKind::SyncData)
///     .path_contains(".log")
///     .nth(3)
///     .pages_after(PageState::MarkedClean);
/// # let _ = fault;
/// ```
#[derive(Clone, Debug)]
pub struct Fault {
    effect: FaultKind,
    pages: PageState,
    on: Option<OperationKind>,
    path_contains: Option<String>,
    barrier: Option<Barrier>,
    from_operation: usize,
    nth: u64,
    lasting: bool,
    seen: u64,
}

impl Fault {
    /// A fault that strikes the next operation, once.
    pub fn new(effect: FaultKind) -> Fault {
        Fault {
            effect,
            pages: PageState::Dirty,
            on: None,
            path_contains: None,
            barrier: None,
            from_operation: 0,
            nth: 1,
            lasting: false,
            seen: 0,
        }
    }

    /// Strikes only this kind of operation.
    pub fn on(mut self, kind: OperationKind) -> Fault {
        self.on = Some(kind);
        self
    }

    /// Strikes only where the path contains this text.
    pub fn path_contains(mut self, part: &str) -> Fault {
        self.path_contains = Some(part.to_owned());
        self
    }

    /// Strikes only syncs of this name.
    pub fn barrier(mut self, barrier: Barrier) -> Fault {
        self.barrier = Some(barrier);
        self
    }

    /// Strikes only when at least so many operations are in the log (so the operation, if it is one that
    /// is logged, would get this index or a later one).
    pub fn at_operation(mut self, index: usize) -> Fault {
        self.from_operation = index;
        self
    }

    /// Strikes the `nth` operation that matches; 1 is the first.
    pub fn nth(mut self, nth: u64) -> Fault {
        self.nth = nth.max(1);
        self
    }

    /// Strikes every matching operation from then on, not only one.
    pub fn from_then_on(mut self) -> Fault {
        self.lasting = true;
        self
    }

    /// What a sync that this fault fails leaves of the unsynced changes.
    pub fn pages_after(mut self, pages: PageState) -> Fault {
        self.pages = pages;
        self
    }

    fn matches(&self, attempt: &Attempt<'_>) -> bool {
        let moves_bytes = matches!(attempt.kind, OperationKind::Read | OperationKind::Write);
        self.on.is_none_or(|kind| kind == attempt.kind)
            && self.barrier.is_none_or(|barrier| Some(barrier) == attempt.barrier)
            && self.from_operation <= attempt.operations
            && (moves_bytes || !matches!(self.effect, FaultKind::Short(_)))
            && self
                .path_contains
                .as_ref()
                .is_none_or(|part| attempt.path.to_string_lossy().contains(part.as_str()))
    }
}

/// An operation about to be made.
pub(super) struct Attempt<'a> {
    pub kind: OperationKind,
    pub path: &'a Path,
    pub barrier: Option<Barrier>,
    /// How many operations were made before.
    pub operations: usize,
}

/// What a fault does to an operation.
#[derive(Debug)]
pub(super) enum Strike {
    Fail(io::Error, PageState),
    Short(usize),
}

/// All faults of a disk.
#[derive(Clone, Debug, Default)]
pub(super) struct FaultScript {
    faults: Vec<Fault>,
    pub struck: u64,
}

impl FaultScript {
    pub fn add(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    pub fn clear(&mut self) {
        self.faults.clear();
    }

    /// The fault that strikes this operation, if one is due.
    pub fn strike(&mut self, attempt: &Attempt<'_>) -> Option<Strike> {
        for fault in &mut self.faults {
            if !fault.matches(attempt) {
                continue;
            }
            fault.seen += 1;
            if fault.seen == fault.nth || (fault.lasting && fault.seen > fault.nth) {
                self.struck += 1;
                return Some(match fault.effect {
                    FaultKind::Io => Strike::Fail(input_output_error(), fault.pages),
                    FaultKind::NoSpace => Strike::Fail(no_space_error(), fault.pages),
                    FaultKind::Interrupted => {
                        Strike::Fail(io::ErrorKind::Interrupted.into(), fault.pages)
                    }
                    FaultKind::Error(kind) => Strike::Fail(kind.into(), fault.pages),
                    FaultKind::Short(bytes) => Strike::Short(bytes),
                });
            }
        }
        None
    }
}

/// What a full disk says.
pub(super) fn no_space_error() -> io::Error {
    if cfg!(unix) { io::Error::from_raw_os_error(28) } else { io::ErrorKind::StorageFull.into() }
}

fn input_output_error() -> io::Error {
    if cfg!(unix) {
        io::Error::from_raw_os_error(5)
    } else {
        io::Error::other("input/output error")
    }
}
