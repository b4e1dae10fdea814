//! The simulated disk as a [`FileSystem`]: checks, faults and settings first, then one operation on the
//! model and one entry in the log, all under one lock.
//!
//! Reads take the lock shared. Only while faults are scripted do they take it alone, to count themselves.

use super::SimDisk;
use super::fault::OperationKind;
use super::model::{Node, NodeId};
use super::names::clean;
use super::operation::{Action, Tamper};
use super::state::State;
#[cfg(not(shuttle))]
use crate::fs::os::OsFileSystem;
use crate::fs::{
    Barrier, DirEntry, File, FileSystem, Holder, Join, LOCK_MAX_BYTES, LockGuard, LockOutcome,
    Mapping, OpenMode, PathKind, is_lock_text,
};
use crate::sync::engine::Ordering;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    node: NodeId,
    dir: NodeId,
    writable: bool,
}

#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    node: NodeId,
}

impl FileSystem for SimDisk {
    fn is_held_by_memory(&self, file_bytes: u64, _heap_bytes: u64) -> bool {
        self.shared.state.read().memory_bytes.is_none_or(|memory| file_bytes <= memory)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let path = clean(path);
        let mut state = self.shared.state.write();
        state.check_permission(&path)?;
        let (dir, node) = if mode == OpenMode::CreateNew {
            state.admit(OperationKind::Create, &path)?;
            state.create(&path, Action::Create)?
        } else {
            state.admit(OperationKind::Open, &path)?;
            if state.read_only && mode == OpenMode::ReadWrite {
                return Err(io::ErrorKind::ReadOnlyFilesystem.into());
            }
            let node = state.model.find(&path)?;
            state.model.file(node)?;
            (state.model.find_parent(&path)?.0, node)
        };
        state.model.pin(node);
        let writable = mode != OpenMode::Read;
        Ok(Arc::new(SimFile { disk: self.clone(), node, dir, writable }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let path = clean(path);
        let mut state = self.shared.state.write();
        state.check_permission(&path)?;
        state.admit(OperationKind::CreateDir, &path)?;
        state.create(&path, Action::CreateDir).map(drop)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let dir = clean(dir);
        let mut state = self.shared.state.write();
        state.check_permission(&dir)?;
        state.admit(OperationKind::List, &dir)?;
        let directory = state.model.directory(state.model.find(&dir)?)?;
        let entry = |(name, node): (&String, &NodeId)| {
            let file = state.model.file(*node).ok();
            let len = file.map_or(0, |file| file.content.len());
            DirEntry { name: name.clone(), len, is_dir: file.is_none() }
        };
        Ok(directory.names.iter().map(entry).collect())
    }

    fn kind(&self, path: &Path) -> io::Result<PathKind> {
        let path = clean(path);
        let state = self.shared.state.read();
        state.check_permission(&path)?;
        match state.model.find(&path) {
            Ok(node) => Ok(match **state.model.node(node)? {
                Node::File(_) => PathKind::File,
                Node::Directory(_) => PathKind::Directory,
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(PathKind::Missing),
            Err(error) => Err(error),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (clean(from), clean(to));
        let mut state = self.shared.state.write();
        state.check_permission(&from)?;
        state.check_permission(&to)?;
        state.admit(OperationKind::Rename, &from)?;
        let node = state.model.find(&from)?;
        let (dir, _) = state.model.find_parent(&from)?;
        let (target_dir, name) = state.model.find_parent(&to)?;
        if dir != target_dir {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        match state.model.find(&to) {
            Ok(target) if target == node => return Ok(()),
            Ok(target) => {
                let (is_file, replaces_file) =
                    (state.model.file(node).is_ok(), state.model.file(target).is_ok());
                match (is_file, replaces_file) {
                    (true, true) => {}
                    (true, false) => return Err(io::ErrorKind::IsADirectory.into()),
                    (false, true) => return Err(io::ErrorKind::NotADirectory.into()),
                    (false, false) if state.model.directory(target)?.names.is_empty() => {}
                    (false, false) => return Err(io::ErrorKind::DirectoryNotEmpty.into()),
                }
            }
            Err(_) => {}
        }
        state.perform(Arc::from(from), dir, node, Action::Rename { to: name });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let path = clean(path);
        let mut state = self.shared.state.write();
        state.check_permission(&path)?;
        state.admit(OperationKind::Remove, &path)?;
        let node = state.model.find(&path)?;
        state.model.file(node)?;
        let (dir, _) = state.model.find_parent(&path)?;
        state.perform(Arc::from(path), dir, node, Action::Remove);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path, barrier: Barrier) -> io::Result<()> {
        let path = clean(dir);
        let mut state = self.shared.state.write();
        state.check_permission(&path)?;
        let node = state.model.find(&path)?;
        state.model.directory(node)?;
        state.sync(Arc::from(path), node, OperationKind::SyncDir, barrier)
    }

    fn lock(&self, path: &Path) -> io::Result<LockOutcome> {
        let path = clean(path);
        let mut state = self.shared.state.write();
        state.check_permission(&path)?;
        state.admit(OperationKind::Lock, &path)?;
        let node = match state.model.find(&path) {
            Ok(node) => node,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                state.create(&path, Action::Create)?.1
            }
            Err(error) => return Err(error),
        };
        state.model.file(node)?;
        if let Some(holder) = state.holder(node) {
            return Ok(LockOutcome::Held { pid: holder.pid });
        }
        let mut text = [0; LOCK_MAX_BYTES + 1];
        let read = state.model.file(node)?.content.read_at(&mut text, 0);
        if !is_lock_text(&text[..read]) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let pid = std::process::id();
        let bytes = Arc::from(format!("{pid}\n").as_bytes());
        state.tamper(Tamper::Write { path: Arc::from(path), bytes, names: false })?;
        state.locks.insert(node, pid);
        Ok(LockOutcome::Acquired(Box::new(SimLock { disk: self.clone(), node })))
    }

    fn lock_holder(&self, path: &Path) -> io::Result<Option<Holder>> {
        let path = clean(path);
        let mut state = self.shared.state.write();
        state.check_permission(&path)?;
        state.admit(OperationKind::Open, &path)?;
        match state.model.find(&path) {
            Ok(node) => Ok(state.holder(node)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn now_micros(&self) -> u64 {
        self.shared.clock.wall()
    }

    fn monotonic(&self) -> Duration {
        self.shared.clock.steady()
    }

    fn random(&self) -> io::Result<u64> {
        self.shared.clock.random()
    }

    fn spawn(&self, name: &str, body: Box<dyn FnOnce() + Send>) -> io::Result<Box<dyn Join>> {
        #[cfg(shuttle)]
        return crate::sync::engine::spawn(name, body);
        #[cfg(not(shuttle))]
        OsFileSystem::new().spawn(name, body)
    }

    fn allocated_bytes(&self, dir: &Path) -> io::Result<u64> {
        let dir = clean(dir);
        let state = self.shared.state.read();
        state.check_permission(&dir)?;
        let directory = state.model.directory(state.model.find(&dir)?)?;
        let files = directory.names.values().filter_map(|node| state.model.file(*node).ok());
        Ok(files.map(|file| file.used_bytes()).sum())
    }
}

impl SimFile {
    /// Admits an operation on this file; gives the most bytes that it may move.
    fn admit(&self, state: &mut State, kind: OperationKind) -> io::Result<usize> {
        if !self.writable && !matches!(kind, OperationKind::Read | OperationKind::Map) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let path = Arc::clone(&state.model.file(self.node)?.path);
        state.admit(kind, &path)
    }

    /// The same for reading, without the lock alone unless faults are scripted.
    fn admit_read(&self, kind: OperationKind) -> io::Result<usize> {
        if !self.disk.shared.armed.load(Ordering::Acquire) {
            return Ok(usize::MAX);
        }
        self.admit(&mut self.disk.shared.state.write(), kind)
    }

    fn perform(&self, state: &mut State, action: Action) -> io::Result<()> {
        let path = Arc::clone(&state.model.file(self.node)?.path);
        state.perform(path, self.dir, self.node, action);
        Ok(())
    }
}

impl File for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let most = self.admit_read(OperationKind::Read)?.min(buffer.len());
        let state = self.disk.shared.state.read();
        Ok(state.model.file(self.node)?.content.read_at(&mut buffer[..most], offset))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.shared.state.write();
        let bytes = &bytes[..self.admit(&mut state, OperationKind::Write)?.min(bytes.len())];
        if bytes.is_empty() {
            return Ok(0);
        }
        state.check_room(self.node, offset.saturating_add(bytes.len() as u64))?;
        if state.model.tracked {
            self.perform(&mut state, Action::Write { offset, data: Arc::from(bytes) })?;
        } else {
            state.model.write_through(self.node, bytes, offset);
            state.operations += 1;
        }
        Ok(bytes.len())
    }

    fn sync_data(&self, barrier: Barrier) -> io::Result<()> {
        let mut state = self.disk.shared.state.write();
        let path = Arc::clone(&state.model.file(self.node)?.path);
        state.sync(path, self.node, OperationKind::SyncData, barrier)
    }

    fn start_writeback(&self, _offset: u64, _len: u64) {}

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.shared.state.read().model.file(self.node)?.content.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.shared.state.write();
        self.admit(&mut state, OperationKind::SetLen)?;
        state.check_room(self.node, len)?;
        self.perform(&mut state, Action::SetLen { len })
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.shared.state.write();
        self.admit(&mut state, OperationKind::Allocate)?;
        state.check_room(self.node, len)?;
        self.perform(&mut state, Action::Allocate { len })
    }

    fn map(&self, len: u64) -> io::Result<Mapping> {
        self.admit_read(OperationKind::Map)?;
        let state = self.disk.shared.state.read();
        let content = &state.model.file(self.node)?.content;
        if content.len() < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = Vec::new();
        let size = usize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
        bytes.try_reserve_exact(size).map_err(|_| io::ErrorKind::OutOfMemory)?;
        bytes.resize(size, 0);
        content.read_at(&mut bytes, 0);
        Ok(Mapping::Copied(bytes))
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.disk.shared.state.write().model.unpin(self.dir, self.node);
    }
}

impl LockGuard for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.shared.state.write().locks.remove(&self.node);
    }
}
