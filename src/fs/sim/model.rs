//! The state of a simulated disk as a pure machine: files and directories, on disk and in memory, and
//! what one [`Operation`] does to them.
//!
//! The live disk and the offline walk over a recording are the same machine fed with the same operations,
//! so a recording needs nothing but its first state and its operations. All checks (does the name exist,
//! is there room, is a fault due) are made before an operation is applied; applying cannot fail.
//!
//! Invariants:
//! 1. All states share what they have in common (`Arc` per node, copy on write): cloning costs one
//!    reference per file.
//! 2. A node that no name, durable or volatile or unsynced, and no open handle leads to is dropped.

use super::file::FileNode;
use super::names::{Directory, NameChange, PendingName, last_name, name_of};
use super::operation::{Action, Operation, SyncEffect, Tamper};
use super::{fault::PageState, mix};
use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// Number of a file or directory; never used twice on one disk.
pub(super) type NodeId = u64;

/// The root directory.
pub(super) const ROOT: NodeId = 0;

/// All files and directories.
#[derive(Clone, Debug)]
pub(super) struct Model {
    /// Whether what a power cut may leave is kept; if not, all is durable at once.
    pub tracked: bool,
    nodes: BTreeMap<NodeId, Arc<Node>>,
    pinned: BTreeMap<NodeId, usize>,
    next_node: NodeId,
}

#[derive(Clone, Debug)]
pub(super) enum Node {
    File(FileNode),
    Directory(Directory),
}

impl Model {
    /// An empty disk: a root directory.
    pub fn new(tracked: bool) -> Model {
        let root = Arc::new(Node::Directory(Directory::default()));
        let nodes = BTreeMap::from([(ROOT, root)]);
        Model { tracked, nodes, pinned: BTreeMap::new(), next_node: ROOT + 1 }
    }

    /// The same machine with other nodes; both sides of every node equal.
    pub fn with_nodes(&self, nodes: BTreeMap<NodeId, Arc<Node>>) -> Model {
        Model { tracked: true, nodes, pinned: BTreeMap::new(), next_node: self.next_node }
    }

    /// A number for the next file or directory.
    pub fn next_node(&self) -> NodeId {
        self.next_node
    }

    /// The node at a clean path.
    pub fn find(&self, path: &Path) -> io::Result<NodeId> {
        path.components().try_fold(ROOT, |dir, component| {
            let Component::Normal(name) = component else { return Ok(dir) };
            let name = name.to_string_lossy();
            self.directory(dir)?.names.get(&*name).copied().ok_or_else(not_found)
        })
    }

    /// The directory and the name of a clean path; the root has none.
    pub fn find_parent(&self, path: &Path) -> io::Result<(NodeId, String)> {
        let name = path.components().next_back().and_then(name_of);
        let name = name.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let dir = self.find(path.parent().unwrap_or(Path::new("")))?;
        self.directory(dir)?;
        Ok((dir, name))
    }

    pub fn directory(&self, node: NodeId) -> io::Result<&Directory> {
        match &**self.node(node)? {
            Node::Directory(directory) => Ok(directory),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    pub fn file(&self, node: NodeId) -> io::Result<&FileNode> {
        match &**self.node(node)? {
            Node::File(file) => Ok(file),
            Node::Directory(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    pub fn node(&self, node: NodeId) -> io::Result<&Arc<Node>> {
        self.nodes.get(&node).ok_or_else(not_found)
    }

    /// How many files and directories are kept.
    #[cfg(test)]
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Keeps a node while a handle is open.
    pub fn pin(&mut self, node: NodeId) {
        *self.pinned.entry(node).or_insert(0) += 1;
    }

    /// Undoes one [`Self::pin`].
    pub fn unpin(&mut self, dir: NodeId, node: NodeId) {
        if let Some(count) = self.pinned.get_mut(&node) {
            *count -= 1;
            if *count == 0 {
                self.pinned.remove(&node);
                self.collect(dir, &[node]);
            }
        }
    }

    /// Makes all that the process sees durable, and everything from now on at once.
    pub fn end_history(&mut self) {
        self.tracked = false;
        for node in self.nodes.values_mut() {
            if matches!(&**node, Node::File(file) if file.is_clean()) {
                continue;
            }
            match Arc::make_mut(node) {
                Node::File(file) => file.change_through(|_| {}),
                Node::Directory(directory) => {
                    directory.durable.clear();
                    directory.pending.clear();
                }
            }
        }
    }

    /// Forgets all open handles (a copy of the disk has none).
    pub fn unpin_all(&mut self) {
        self.pinned.clear();
        let mut named = vec![ROOT];
        for node in self.nodes.values() {
            if let Node::Directory(directory) = &**node {
                named.extend(directory.all_nodes());
            }
        }
        named.sort_unstable();
        self.nodes.retain(|id, _| named.binary_search(id).is_ok());
    }

    /// Does what the operation says, to disk and memory. `index` is its place in the log.
    pub fn apply(&mut self, operation: &Operation, index: usize) {
        let (node, dir) = (operation.node, operation.dir);
        match &operation.action {
            Action::Create | Action::CreateDir => {
                let new = match operation.action {
                    Action::Create => Node::File(FileNode::new(Arc::clone(&operation.path))),
                    _ => Node::Directory(Directory::default()),
                };
                self.nodes.insert(node, Arc::new(new));
                self.next_node = self.next_node.max(node + 1);
                let name = last_name(&operation.path);
                self.change_names(dir, NameChange::Set { name, node }, index);
            }
            Action::Rename { to } => {
                let path = Arc::from(operation.path.with_file_name(to));
                if let Some(Node::File(file)) = self.node_mut(node) {
                    file.path = path;
                }
                let (from, to) = (last_name(&operation.path), to.clone());
                self.change_names(dir, NameChange::Rename { from, to, node }, index);
            }
            Action::Remove => {
                let name = last_name(&operation.path);
                self.change_names(dir, NameChange::Remove { name }, index);
            }
            Action::Write { offset, data } => {
                self.change_file(
                    node,
                    |file| file.write(data, *offset, index),
                    |content| {
                        content.write_at(data, *offset);
                    },
                );
            }
            Action::SetLen { len } => self.set_len(node, *len, index),
            Action::Allocate { len } => {
                if self.file(node).is_ok_and(|file| file.content.len() < *len) {
                    self.set_len(node, *len, index);
                }
            }
            Action::SyncData { effect, .. } => {
                let Some(Node::File(file)) = self.node_mut(node) else { return };
                match effect {
                    SyncEffect::Durable => file.sync(),
                    SyncEffect::Ignored => {}
                    SyncEffect::Failed(pages) => file.fail_sync(*pages),
                }
            }
            Action::SyncDir { effect, .. } => self.sync_dir(node, *effect),
        }
    }

    /// Writes without an `Arc` around the bytes (a disk without history).
    pub fn write_through(&mut self, node: NodeId, bytes: &[u8], offset: u64) {
        if let Some(Node::File(file)) = self.node_mut(node) {
            file.change_through(|content| content.write_at(bytes, offset));
        }
    }

    /// Changes disk and memory behind the process's back.
    pub fn tamper(&mut self, tamper: &Tamper) -> io::Result<()> {
        let (dir, name) = self.find_parent(tamper.path())?;
        let found = self.directory(dir)?.names.get(&name).copied();
        match tamper {
            Tamper::Write { path, bytes, names } => {
                let node = found.unwrap_or(self.next_node);
                if found.is_none() {
                    let new = Node::File(FileNode::new(Arc::clone(path)));
                    self.nodes.insert(node, Arc::new(new));
                    self.next_node += 1;
                }
                self.file(node)?;
                if found.is_none() || *names {
                    self.put_name(dir, &name, Some(node));
                }
                if let Some(Node::File(file)) = self.node_mut(node) {
                    file.change_through(|content| {
                        content.set_len(0);
                        content.write_at(bytes, 0);
                    });
                }
            }
            Tamper::Remove { .. } => {
                let node = found.ok_or_else(not_found)?;
                self.file(node)?;
                self.put_name(dir, &name, None);
                self.collect(dir, &[node]);
            }
            Tamper::FlipBit { offset, bit, .. } => {
                let node = found.ok_or_else(not_found)?;
                self.file(node)?;
                if let Some(Node::File(file)) = self.node_mut(node)
                    && !file.flip_bit(*offset, *bit)
                {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
        Ok(())
    }

    /// Bytes that all files take which a name or a handle leads to, in whole sectors.
    pub fn used_bytes(&self) -> u64 {
        let mut seen: Vec<NodeId> = self.pinned.keys().copied().collect();
        for node in self.nodes.values() {
            if let Node::Directory(directory) = &**node {
                seen.extend(directory.names.values());
            }
        }
        seen.sort_unstable();
        seen.dedup();
        seen.iter().filter_map(|node| self.file(*node).ok()).map(FileNode::used_bytes).sum()
    }

    /// A hash of all names, lengths and bytes that the process sees.
    pub fn content_hash(&self) -> u64 {
        self.hash_seen(ROOT)
    }

    /// The same of one file, or of what lies below one directory.
    pub fn content_hash_of(&self, path: &Path) -> io::Result<u64> {
        let node = self.find(path)?;
        Ok(match &**self.node(node)? {
            Node::File(file) => file.content_hash(),
            Node::Directory(_) => self.hash_seen(node),
        })
    }

    fn hash_seen(&self, dir: NodeId) -> u64 {
        self.hash_names(dir, &mut |_, directory| directory.names.clone(), &mut |_, file| {
            file.content_hash()
        })
    }

    /// The hash of a tree, with the names and the files' hashes as given.
    pub fn hash_names(
        &self,
        dir: NodeId,
        names: &mut impl FnMut(NodeId, &Directory) -> BTreeMap<String, NodeId>,
        file_hash: &mut impl FnMut(NodeId, &FileNode) -> u64,
    ) -> u64 {
        let Ok(directory) = self.directory(dir) else { return 0 };
        let mut sum = 1u64;
        for (name, node) in names(dir, directory) {
            let inner = match self.nodes.get(&node).map(|node| &**node) {
                Some(Node::File(file)) => file_hash(node, file),
                Some(Node::Directory(_)) => mix(!self.hash_names(node, names, file_hash)),
                None => 0,
            };
            sum = sum.wrapping_add(mix(xxh3_64(name.as_bytes()) ^ mix(inner)));
        }
        sum
    }

    fn set_len(&mut self, node: NodeId, len: u64, index: usize) {
        self.change_file(node, |file| file.set_len(len, index), |content| content.set_len(len));
    }

    /// Operations on files that were dropped (only a walk can meet them) change nothing.
    fn change_file(
        &mut self,
        node: NodeId,
        tracked: impl FnOnce(&mut FileNode),
        through: impl FnOnce(&mut super::content::Content),
    ) {
        let is_tracked = self.tracked;
        match self.node_mut(node) {
            Some(Node::File(file)) if is_tracked => tracked(file),
            Some(Node::File(file)) => file.change_through(through),
            _ => {}
        }
    }

    fn change_names(&mut self, dir: NodeId, change: NameChange, index: usize) {
        let tracked = self.tracked;
        let Some(Node::Directory(directory)) = self.node_mut(dir) else { return };
        let touched = change.touched(&directory.names);
        change.apply(&mut directory.names);
        if tracked {
            directory.pending.push(PendingName { change, operation: index });
        } else {
            self.collect(dir, &touched);
        }
    }

    fn sync_dir(&mut self, dir: NodeId, effect: SyncEffect) {
        let no_change =
            matches!(effect, SyncEffect::Ignored | SyncEffect::Failed(PageState::Dirty));
        if no_change || !self.tracked {
            return;
        }
        let Some(Node::Directory(directory)) = self.node_mut(dir) else { return };
        let before: Vec<NodeId> = directory.all_nodes().collect();
        let pending = std::mem::take(&mut directory.pending);
        match effect {
            SyncEffect::Durable => {
                pending.iter().for_each(|name| name.change.apply(&mut directory.durable));
            }
            SyncEffect::Failed(PageState::Reverted) => {
                directory.names.clone_from(&directory.durable);
            }
            SyncEffect::Ignored | SyncEffect::Failed(_) => {}
        }
        self.collect(dir, &before);
    }

    /// Sets or takes a name, on disk and in memory. Unless the disk knows it already, all names of the
    /// directory become durable: a change that depends on others cannot come before them.
    fn put_name(&mut self, dir: NodeId, name: &str, node: Option<NodeId>) {
        let settled = |directory: &Directory| {
            directory.names.get(name) == node.as_ref()
                && directory.durable.get(name) == node.as_ref()
        };
        if self.directory(dir).is_ok_and(settled) {
            return;
        }
        self.sync_dir(dir, SyncEffect::Durable);
        let tracked = self.tracked;
        let Some(Node::Directory(directory)) = self.node_mut(dir) else { return };
        let durable = tracked.then_some(&mut directory.durable);
        for names in [Some(&mut directory.names), durable].into_iter().flatten() {
            match node {
                Some(node) => names.insert(name.to_owned(), node),
                None => names.remove(name),
            };
        }
    }

    /// Drops those of the nodes of one directory that nothing leads to.
    fn collect(&mut self, dir: NodeId, candidates: &[NodeId]) {
        for node in candidates {
            let named = self
                .directory(dir)
                .is_ok_and(|directory| directory.all_nodes().any(|held| held == *node));
            let is_file = matches!(self.nodes.get(node).map(|held| &**held), Some(Node::File(_)));
            if is_file && !named && !self.pinned.contains_key(node) {
                self.nodes.remove(node);
            }
        }
    }

    fn node_mut(&mut self, node: NodeId) -> Option<&mut Node> {
        self.nodes.get_mut(&node).map(Arc::make_mut)
    }
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}
