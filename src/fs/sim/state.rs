//! What a simulated disk is made of besides its model: log, faults, settings, locks; and the one way in
//! which an operation gets from a request to the model and the log.
//!
//! Order of the checks: permission, read-only, faults, existence, room. A request that one of them refuses
//! changes nothing, with one exception: a failed sync is an operation, for what it leaves behind.

use super::clock::Clock;
use super::fault::{Attempt, FaultScript, OperationKind, PageState, Strike, no_space_error};
use super::model::{Model, NodeId};
use super::operation::{Action, Log, Operation, SyncEffect, Tamper};
use super::{MAX_FILE_BYTES, SECTOR_BYTES};
use crate::fs::{Barrier, Holder};
use crate::sync::engine::{AtomicBool, Ordering, RwLock};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What all clones of a disk share.
pub(super) struct Shared {
    pub state: RwLock<State>,
    /// Whether faults are scripted.
    pub armed: AtomicBool,
    pub clock: Clock,
}

/// A disk.
#[derive(Clone)]
pub(super) struct State {
    pub model: Model,
    pub base: Arc<Model>,
    pub log: Log,
    pub operations: usize,
    pub faults: FaultScript,
    pub capacity_bytes: Option<u64>,
    /// Files that memory holds.
    pub memory_bytes: Option<u64>,
    pub disabled: BTreeSet<Barrier>,
    pub read_only: bool,
    pub denied: BTreeSet<PathBuf>,
    pub locks: BTreeMap<NodeId, u32>,
}

impl Shared {
    pub fn new(model: Model, seed: u64) -> Shared {
        let clock = Clock::new(!model.tracked, seed);
        let state = State {
            base: Arc::new(model.clone()),
            model,
            log: Log::default(),
            operations: 0,
            faults: FaultScript::default(),
            capacity_bytes: None,
            memory_bytes: None,
            disabled: BTreeSet::new(),
            read_only: false,
            denied: BTreeSet::new(),
            locks: BTreeMap::new(),
        };
        Shared { state: RwLock::new(state), armed: AtomicBool::new(false), clock }
    }

    /// A copy without open files and locks.
    pub fn fork(&self) -> Shared {
        let mut state = self.state.read().clone();
        state.locks.clear();
        state.model.unpin_all();
        let armed = AtomicBool::new(self.armed.load(Ordering::Acquire));
        Shared { state: RwLock::new(state), armed, clock: self.clock.fork() }
    }
}

impl State {
    pub fn restart_recording(&mut self) {
        self.log = Log::default();
        self.operations = 0;
        self.base = Arc::new(self.model.clone());
    }

    pub fn end_history(&mut self) {
        self.log = Log::default();
        self.base = Arc::new(Model::new(false));
        self.model.end_history();
    }

    pub fn tamper(&mut self, tamper: Tamper) -> io::Result<()> {
        self.model.tamper(&tamper)?;
        if self.model.tracked {
            Arc::make_mut(&mut self.log.tampers).push((self.operations, tamper));
        }
        Ok(())
    }

    /// Refuses, fails or shortens an operation; gives the most bytes it may move.
    pub fn admit(&mut self, kind: OperationKind, path: &Path) -> io::Result<usize> {
        match self.admit_sync(kind, path, None) {
            Ok(most) => Ok(most),
            Err((error, _)) => Err(error),
        }
    }

    fn admit_sync(
        &mut self,
        kind: OperationKind,
        path: &Path,
        barrier: Option<Barrier>,
    ) -> Result<usize, (io::Error, PageState)> {
        use OperationKind::{List, Map, Open, Read};
        if self.read_only && !matches!(kind, Open | Read | Map | List) {
            return Err((io::ErrorKind::ReadOnlyFilesystem.into(), PageState::Dirty));
        }
        let attempt = Attempt { kind, path, barrier, operations: self.operations };
        match self.faults.strike(&attempt) {
            None => Ok(usize::MAX),
            Some(Strike::Short(most)) => Ok(most),
            Some(Strike::Fail(error, pages)) => Err((error, pages)),
        }
    }

    /// Refuses a path that was denied.
    pub fn check_permission(&self, path: &Path) -> io::Result<()> {
        match self.denied.iter().any(|denied| path.starts_with(denied)) {
            true => Err(io::ErrorKind::PermissionDenied.into()),
            false => Ok(()),
        }
    }

    /// Whether a file may become that long.
    pub fn check_room(&self, node: NodeId, len: u64) -> io::Result<()> {
        if len > MAX_FILE_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let before = self.model.file(node)?.used_bytes();
        let growth = len.next_multiple_of(SECTOR_BYTES as u64).saturating_sub(before);
        match self.capacity_bytes {
            Some(capacity) if growth > 0 && self.model.used_bytes() + growth > capacity => {
                Err(no_space_error())
            }
            _ => Ok(()),
        }
    }

    /// Changes the model and writes the log.
    pub fn perform(&mut self, path: Arc<Path>, dir: NodeId, node: NodeId, action: Action) {
        let operation = Operation { path, node, dir, action };
        self.model.apply(&operation, self.operations);
        if self.model.tracked {
            Arc::make_mut(&mut self.log.operations).push(operation);
        }
        self.operations += 1;
    }

    /// A new file or directory; gives its directory and itself.
    pub fn create(&mut self, path: &Path, action: Action) -> io::Result<(NodeId, NodeId)> {
        let (dir, name) = self.model.find_parent(path)?;
        if self.model.directory(dir)?.names.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let node = self.model.next_node();
        self.perform(Arc::from(path), dir, node, action);
        Ok((dir, node))
    }

    /// A sync, whatever comes of it.
    pub fn sync(
        &mut self,
        path: Arc<Path>,
        node: NodeId,
        kind: OperationKind,
        barrier: Barrier,
    ) -> io::Result<()> {
        let outcome = self.admit_sync(kind, &path, Some(barrier));
        let (effect, outcome) = match outcome {
            // An interrupted sync has not failed; it has not happened.
            Err((error, _)) if is_refusal(&error) => return Err(error),
            Err((error, pages)) => (SyncEffect::Failed(pages), Err(error)),
            Ok(_) if self.disabled.contains(&barrier) => (SyncEffect::Ignored, Ok(())),
            Ok(_) => (SyncEffect::Durable, Ok(())),
        };
        let action = match kind {
            OperationKind::SyncDir => Action::SyncDir { barrier, effect },
            _ => Action::SyncData { barrier, effect },
        };
        self.perform(path, node, node, action);
        outcome
    }

    /// Who holds the lock of a file.
    pub fn holder(&self, node: NodeId) -> Option<Holder> {
        let pid = *self.locks.get(&node)?;
        Some(Holder { pid: Some(pid) })
    }
}

/// Errors of a sync that say that it was not even tried.
fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ReadOnlyFilesystem)
}
