//! Power cuts: what is uncertain at one moment, and the disk that one way of deciding it leaves.
//!
//! At a crash point the disk consists of what is durable and of *units*: sectors written, lengths changed
//! and names changed since the last sync that covered them. Each unit survives or not by itself. A
//! [`Choice`] decides all of them, [`CrashPoint::image`] builds that disk and [`CrashPoint::image_hash`]
//! tells its content without building it, so that equal images are tried once.
//!
//! Cost: a step of a [`CrashWalker`] costs what the operation changes; a crash point costs one reference
//! per file and a small record per unit; an image copies the chunks (16 KiB) that hold units, and shares
//! all others.
//!
//! Invariants:
//! 1. Units are ordered by the operation that made their newest version, so a prefix of them is what a
//!    disk that writes in order would have kept.
//! 2. Everything `Old` is exactly what is durable; everything `New` is exactly what the process saw.

use super::SimDisk;
use super::choice::{Choice, Outcome};
use super::file::FileNode;
use super::mix;
use super::model::{Model, Node, NodeId, ROOT};
use super::names::{Directory, NameChange};
use super::operation::{Mark, Operation, Recording};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A walk over a recording: a position, and the disk after so many operations.
#[derive(Clone, Debug)]
pub struct CrashWalker {
    recording: Recording,
    model: Model,
    position: usize,
    tampers: usize,
    finished: bool,
}

/// One moment at which the power may fail.
#[derive(Clone, Debug)]
pub struct CrashPoint {
    model: Model,
    position: usize,
    seed: u64,
    marks: Arc<Vec<Mark>>,
    mark_count: usize,
    units: Vec<Unit>,
    files: BTreeMap<NodeId, FileUnits>,
    names: BTreeMap<NodeId, Vec<usize>>,
}

/// Something that survives a power cut or not, independent of everything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// The file, or the directory whose names change.
    pub path: Arc<Path>,
    /// What it is.
    pub kind: UnitKind,
    /// How many versions there are, the durable one (number 0) included; at least 2.
    pub versions: usize,
    /// The operation that made the newest version.
    pub operation: usize,
    /// All versions are the same bytes: only torn content makes a difference.
    pub silent: bool,
}

/// What a [`Unit`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnitKind {
    /// A sector of a file, by number.
    Sector(u64),
    /// A file's length: all versions, the durable one first.
    Length(Vec<u64>),
    /// A new file or directory of that name.
    Create(String),
    /// A rename, from the first name to the second.
    Rename(String, String),
    /// A removed name.
    Remove(String),
}

/// Which units (by index) belong to one file.
#[derive(Clone, Debug, Default)]
struct FileUnits {
    length: Option<usize>,
    /// In the order of the sectors.
    sectors: Vec<usize>,
}

impl CrashWalker {
    pub(super) fn new(recording: Recording) -> CrashWalker {
        let model = Model::clone(&recording.base);
        let mut walker = CrashWalker { recording, model, position: 0, tampers: 0, finished: false };
        walker.tamper();
        walker
    }

    /// How many operations were applied.
    pub fn position(&self) -> usize {
        self.position
    }

    /// The operation that comes next; `None` at the end.
    pub fn next_operation(&self) -> Option<&Operation> {
        self.recording.operation(self.position)
    }

    /// Applies the next operation; false at the end.
    pub fn advance(&mut self) -> bool {
        let Some(operation) = self.recording.log.operations.get(self.position) else {
            return false;
        };
        self.model.apply(operation, self.position);
        self.position += 1;
        self.tamper();
        true
    }

    /// Goes to a position, at most the end. Going back starts over.
    pub fn seek(&mut self, position: usize) {
        if position < self.position {
            *self = CrashWalker::new(self.recording.clone());
        }
        self.finished = false;
        while self.position < position && self.advance() {}
    }

    /// The power cut at this position.
    pub fn crash_point(&self) -> CrashPoint {
        let marks = Arc::clone(&self.recording.log.marks);
        let seed = mix(self.recording.seed ^ mix(self.position as u64));
        CrashPoint::new(self.model.clone(), self.position, marks, seed)
    }

    fn tamper(&mut self) {
        while let Some((at, tamper)) = self.recording.log.tampers.get(self.tampers)
            && *at <= self.position
        {
            // It was possible when it was recorded, so it is possible now.
            let _ = self.model.tamper(tamper);
            self.tampers += 1;
        }
    }
}

/// All crash points from the current position to the end.
impl Iterator for CrashWalker {
    type Item = CrashPoint;

    fn next(&mut self) -> Option<CrashPoint> {
        if self.finished {
            return None;
        }
        let point = self.crash_point();
        self.finished = !self.advance();
        Some(point)
    }
}

impl CrashPoint {
    pub(super) fn new(
        model: Model,
        position: usize,
        marks: Arc<Vec<Mark>>,
        seed: u64,
    ) -> CrashPoint {
        let mark_count = marks.partition_point(|mark| mark.operations <= position);
        let mut found = Vec::new();
        collect_units(&model, ROOT, Path::new("/"), &mut found);
        // Stable: the sectors of one operation stay in their order.
        found.sort_by_key(|(_, unit)| unit.operation);
        let mut files: BTreeMap<NodeId, FileUnits> = BTreeMap::new();
        let mut names: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
        let mut units = Vec::with_capacity(found.len());
        for (index, (node, unit)) in found.into_iter().enumerate() {
            match unit.kind {
                UnitKind::Sector(_) => files.entry(node).or_default().sectors.push(index),
                UnitKind::Length(_) => files.entry(node).or_default().length = Some(index),
                _ => names.entry(node).or_default().push(index),
            }
            units.push(unit);
        }
        for file in files.values_mut() {
            file.sectors.sort_by_key(|index| match units[*index].kind {
                UnitKind::Sector(sector) => sector,
                _ => 0,
            });
        }
        CrashPoint { model, position, seed, marks, mark_count, units, files, names }
    }

    /// After how many operations the power fails.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Everything that survives or not, by the operation that made its newest version.
    pub fn units(&self) -> &[Unit] {
        &self.units
    }

    /// The marks before the power cut. A mark right at it counts as before: what was acknowledged by
    /// then must be there, what was begun by then may be.
    pub fn marks(&self) -> &[Mark] {
        &self.marks[..self.mark_count]
    }

    /// The disk that this choice leaves: all of it durable, nothing recorded yet, no lock held, no fault
    /// scripted. Its random numbers depend on the recording's seed, the position and the choice.
    pub fn image(&self, choice: &Choice) -> SimDisk {
        let mut nodes = BTreeMap::new();
        self.build(ROOT, choice, &mut nodes);
        SimDisk::from_image(self.model.with_nodes(nodes), self.seed ^ choice.fingerprint())
    }

    /// Equal for equal images, also of other crash points and other recordings: a hash of all names,
    /// lengths and bytes. The same as [`SimDisk::content_hash`] of the image.
    pub fn image_hash(&self, choice: &Choice) -> u64 {
        self.model.hash_names(
            ROOT,
            &mut |node, directory| self.surviving_names(node, directory, choice),
            &mut |node, file| match self.files.get(&node) {
                None => file.survivor_hash(0, std::iter::empty()),
                Some(units) => {
                    let length = self.surviving_length(file, units, choice);
                    file.survivor_hash(length, units.outcomes(choice))
                }
            },
        )
    }

    /// The choice in words: what was lost and what came back other than written, one line each.
    pub fn describe(&self, choice: &Choice) -> String {
        let mut text = String::new();
        for (index, unit) in self.units.iter().enumerate() {
            let outcome = match choice.outcome(index) {
                Outcome::New => continue,
                Outcome::Old => "lost".to_owned(),
                Outcome::Version(version) => {
                    format!("as of version {version} of {}", unit.versions)
                }
                Outcome::Zeros => "zeros".to_owned(),
                Outcome::Garbage(seed) => format!("garbage {seed}"),
            };
            text.push_str(&format!("{unit}: {outcome}\n"));
        }
        text
    }

    fn build(&self, id: NodeId, choice: &Choice, nodes: &mut BTreeMap<NodeId, Arc<Node>>) {
        let Ok(node) = self.model.node(id) else { return };
        let built = match &**node {
            Node::Directory(directory) => {
                let names = self.surviving_names(id, directory, choice);
                names.values().for_each(|inner| self.build(*inner, choice, nodes));
                Arc::new(Node::Directory(Directory::settled(names)))
            }
            Node::File(file) if file.is_clean() => Arc::clone(node),
            Node::File(file) => {
                let none = FileUnits::default();
                let units = self.files.get(&id).unwrap_or(&none);
                let length = self.surviving_length(file, units, choice);
                let content = file.survivor(length, units.outcomes(choice));
                Arc::new(Node::File(FileNode::with_content(Arc::clone(&file.path), content)))
            }
        };
        nodes.insert(id, built);
    }

    fn surviving_names(
        &self,
        node: NodeId,
        directory: &Directory,
        choice: &Choice,
    ) -> BTreeMap<String, NodeId> {
        match self.names.get(&node) {
            None if !self.model.tracked => directory.names.clone(),
            None => directory.durable.clone(),
            Some(units) => directory.survivor(|index| choice.outcome(units[index]).version(1) == 1),
        }
    }

    fn surviving_length(&self, file: &FileNode, units: &FileUnits, choice: &Choice) -> usize {
        let newest = file.lengths().len() - 1;
        units.length.map_or(newest, |unit| choice.outcome(unit).version(newest))
    }
}

impl FileUnits {
    fn outcomes<'a>(&'a self, choice: &'a Choice) -> impl Iterator<Item = Outcome> + 'a {
        self.sectors.iter().map(|unit| choice.outcome(*unit))
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.kind {
            UnitKind::Sector(sector) => write!(f, "{path}: sector {sector}"),
            UnitKind::Length(lengths) => write!(f, "{path}: length {lengths:?}"),
            UnitKind::Create(name) => write!(f, "{path}: new name {name}"),
            UnitKind::Rename(from, to) => write!(f, "{path}: rename of {from} to {to}"),
            UnitKind::Remove(name) => write!(f, "{path}: removal of {name}"),
        }
    }
}

/// The units of one directory and of all that a name in it may lead to after the power cut.
fn collect_units(model: &Model, id: NodeId, path: &Path, found: &mut Vec<(NodeId, Unit)>) {
    let Ok(directory) = model.directory(id) else { return };
    let path: Arc<Path> = Arc::from(path);
    for pending in &directory.pending {
        let kind = match &pending.change {
            NameChange::Set { name, .. } => UnitKind::Create(name.clone()),
            NameChange::Rename { from, to, .. } => UnitKind::Rename(from.clone(), to.clone()),
            NameChange::Remove { name } => UnitKind::Remove(name.clone()),
        };
        found.push((id, Unit::new(&path, kind, 2, pending.operation, false)));
    }
    let mut inner: BTreeMap<NodeId, &str> = BTreeMap::new();
    for (name, node) in directory.survivable() {
        inner.insert(node, name);
    }
    for (node, name) in inner {
        match model.node(node).map(|held| &**held) {
            Ok(Node::Directory(_)) => collect_units(model, node, &path.join(name), found),
            Ok(Node::File(file)) => file_units(node, file, found),
            Err(_) => {}
        }
    }
}

fn file_units(node: NodeId, file: &FileNode, found: &mut Vec<(NodeId, Unit)>) {
    if file.lengths().len() > 1 {
        let lengths: Vec<u64> = file.lengths().collect();
        let (versions, operation) = (lengths.len(), file.length_operation());
        let kind = UnitKind::Length(lengths);
        found.push((node, Unit::new(&file.path, kind, versions, operation, false)));
    }
    for unit in file.sector_units() {
        let kind = UnitKind::Sector(unit.sector);
        found.push((node, Unit::new(&file.path, kind, unit.versions, unit.operation, unit.silent)));
    }
}

impl Unit {
    fn new(
        path: &Arc<Path>,
        kind: UnitKind,
        versions: usize,
        operation: usize,
        silent: bool,
    ) -> Unit {
        Unit { path: Arc::clone(path), kind, versions, operation, silent }
    }
}
