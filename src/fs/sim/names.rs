//! The names in one directory, on disk and in memory, and paths as lists of names.
//!
//! A directory has the names that the process sees, the durable ones, and the changes since its last
//! sync. Each change survives or not by itself; those that survive are applied to the durable names in
//! their order. A rename takes away every other name of its file, so that a file never has two names,
//! even if an earlier rename was lost.

use super::model::NodeId;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// The names in one directory.
#[derive(Clone, Debug, Default)]
pub(super) struct Directory {
    /// What the process sees.
    pub names: BTreeMap<String, NodeId>,
    /// What the disk holds.
    pub durable: BTreeMap<String, NodeId>,
    /// The changes since the last sync, oldest first.
    pub pending: Vec<PendingName>,
}

/// One unsynced change of names.
#[derive(Clone, Debug)]
pub(super) struct PendingName {
    pub change: NameChange,
    pub operation: usize,
}

/// A change of names in one directory.
#[derive(Clone, Debug)]
pub(super) enum NameChange {
    Set { name: String, node: NodeId },
    Rename { from: String, to: String, node: NodeId },
    Remove { name: String },
}

impl Directory {
    /// A directory that is the same on disk and in memory.
    pub fn settled(names: BTreeMap<String, NodeId>) -> Directory {
        Directory { durable: names.clone(), names, pending: Vec::new() }
    }

    /// The names left if those of the pending changes survive for which `survives` says so.
    pub fn survivor(&self, mut survives: impl FnMut(usize) -> bool) -> BTreeMap<String, NodeId> {
        let mut names = self.durable.clone();
        for (index, pending) in self.pending.iter().enumerate() {
            if survives(index) {
                pending.change.apply(&mut names);
            }
        }
        names
    }

    /// Every name that may lead to a node after a power cut.
    pub fn survivable(&self) -> impl Iterator<Item = (&str, NodeId)> + '_ {
        let pending = self.pending.iter().filter_map(|pending| match &pending.change {
            NameChange::Set { name, node } => Some((name.as_str(), *node)),
            NameChange::Rename { to, node, .. } => Some((to.as_str(), *node)),
            NameChange::Remove { .. } => None,
        });
        pending.chain(self.durable.iter().map(|(name, node)| (name.as_str(), *node)))
    }

    /// Every node that a name leads to, or may lead to after a power cut.
    pub fn all_nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.survivable().map(|(_, node)| node).chain(self.names.values().copied())
    }
}

impl NameChange {
    /// Makes the change.
    pub fn apply(&self, names: &mut BTreeMap<String, NodeId>) {
        match self {
            NameChange::Set { name, node } => {
                names.insert(name.clone(), *node);
            }
            NameChange::Rename { from, to, node } => {
                names.remove(from);
                names.retain(|_, held| held != node);
                names.insert(to.clone(), *node);
            }
            NameChange::Remove { name } => {
                names.remove(name);
            }
        }
    }

    /// Nodes that may lose their name.
    pub fn touched(&self, names: &BTreeMap<String, NodeId>) -> Vec<NodeId> {
        let name = match self {
            NameChange::Set { name, .. } | NameChange::Remove { name } => name,
            NameChange::Rename { to, .. } => to,
        };
        names.get(name).copied().into_iter().collect()
    }
}

/// A path as this disk knows it: from the root, without `.` and `..`; a relative path starts at the root.
pub(super) fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    clean
}

/// The name that a component stands for, if it is one.
pub(super) fn name_of(component: Component<'_>) -> Option<String> {
    match component {
        Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
        _ => None,
    }
}

/// The last name of a path.
pub(super) fn last_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
