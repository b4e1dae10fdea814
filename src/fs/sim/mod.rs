//! A simulated disk: a file system in memory that knows what a power cut may leave, and says so.
//!
//! Give a [`SimDisk`] to whatever does its I/O through [`FileSystem`](super::FileSystem), let it work,
//! and cut the power: at one random place ([`SimDisk::power_cut`]), or, from the operation log, at every
//! place and in every legal way ([`SimDisk::record`], [`Recording::walker`], [`CrashPoint::choices`]).
//!
//! # The model
//!
//! 1. Files are made of sectors of 512 bytes, written whole or not at all. Between two syncs of a file
//!    every distinct content of a sector may be the one that survives, each sector for itself.
//! 2. A file's length is a thing of its own: any length since the last sync may survive. Bytes that a cut
//!    took are gone; what is read beyond them is zeros.
//! 3. A created, renamed or removed name is in its directory only, and survives or not for itself, until
//!    the directory is synced. A rename is atomic. A file never has two names.
//! 4. A sync of a file makes its bytes and length durable, not its name. A sync of a directory makes its
//!    names durable, not what they lead to.
//! 5. A write of the bytes that are there already changes nothing, unless the disk never held them.
//!
//! Lock files are outside the model: the process id is written without history, since it says nothing
//! after a power cut. Room is counted in whole sectors by the length of files, holes included.
//!
//! [`SimDisk::without_history`] is the same without logs and power cuts: a fast file system in memory.
//!
//! # Example
//!
//! ```
//! use highwater::fs::sim::{EnumerationLimits, SimDisk};
//! use highwater::fs::{Barrier, FileSystem, OpenMode};
//! use std::path::Path;
//!
//! # fn main() -> std::io::Result<()> {
//! let disk = SimDisk::new();
//! let file = disk.open(Path::new("/notes"), OpenMode::CreateNew)?;
//! file.write_at(b"first", 0)?;
//! file.sync_data(Barrier::Copy)?;
//! disk.sync_dir(Path::new("/"), Barrier::Copy)?;
//! disk.mark(1); // from here on we promise "first"
//! file.write_at(b"other", 0)?;
//!
//! let mut seen = std::collections::BTreeSet::new();
//! for point in disk.record().walker() {
//!     for choice in point.choices(&EnumerationLimits::default(), 7) {
//!         let content = point.image(&choice).read_file("/notes").ok();
//!         assert!(point.marks().is_empty() || content.is_some(), "a promise was broken");
//!         seen.insert(content);
//!     }
//! }
//! // No file; an empty one; a length without bytes; and the two contents.
//! assert_eq!(seen.len(), 5);
//! # Ok(())
//! # }
//! ```

mod choice;
mod clock;
mod content;
mod crash;
mod disk;
mod fault;
mod file;
mod model;
mod names;
mod operation;
mod state;
#[cfg(test)]
mod tests;
mod view;

pub use choice::{Choice, EnumerationLimits, Outcome};
pub use content::MAX_FILE_BYTES;
pub use crash::{CrashPoint, CrashWalker, Unit, UnitKind};
pub use fault::{Fault, FaultKind, OperationKind, PageState};
pub use operation::{Action, Mark, Operation, Recording, SyncEffect};

use crate::fs::Barrier;
use crate::sync::engine::Ordering;
use model::{Model, Node, ROOT};
use names::clean;
use operation::Tamper;
use state::{Shared, State};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The unit that a disk writes whole or not at all, in bytes.
pub const SECTOR_BYTES: usize = 512;

/// A simulated disk. Clones are the same disk. See the [module](self) for what it simulates.
#[derive(Clone)]
pub struct SimDisk {
    shared: Arc<Shared>,
}

/// Making disks.
impl SimDisk {
    /// An empty disk that records what happens to it. Two disks made like this behave the same.
    pub fn new() -> SimDisk {
        SimDisk::with_seed(0)
    }

    /// The same with other random numbers.
    pub fn with_seed(seed: u64) -> SimDisk {
        SimDisk::from_image(Model::new(true), seed)
    }

    /// A file system in memory: nothing is recorded, everything is durable at once, a power cut changes
    /// nothing. Clock and random numbers are the system's.
    pub fn without_history() -> SimDisk {
        SimDisk { shared: Arc::new(Shared::new(Model::new(false), 0)) }
    }

    /// An independent copy as it is now: same bytes, unsynced changes, log, faults and settings. Open
    /// files and locks are not taken along.
    pub fn fork(&self) -> SimDisk {
        SimDisk { shared: Arc::new(self.shared.fork()) }
    }

    /// What the next process finds if this one dies and the machine runs on: a [`Self::fork`], in which
    /// nothing that this process still does shows.
    pub fn kill(&self) -> SimDisk {
        self.fork()
    }

    /// The disk after a power cut now, one legal way of many, chosen by the seed.
    pub fn power_cut(&self, seed: u64) -> SimDisk {
        let point = self.crash_point();
        point.image(&point.random_choice(seed))
    }

    /// The disk after a power cut now that left nothing but what is durable.
    pub fn durable_image(&self) -> SimDisk {
        self.crash_point().image(&Choice::all(Outcome::Old, 0))
    }

    /// A power cut now.
    pub fn crash_point(&self) -> CrashPoint {
        let state = self.shared.state.read();
        let seed = self.shared.clock.seed() ^ mix(state.operations as u64);
        let marks = Arc::clone(&state.log.marks);
        CrashPoint::new(state.model.clone(), state.operations, marks, seed)
    }

    fn from_image(model: Model, seed: u64) -> SimDisk {
        SimDisk { shared: Arc::new(Shared::new(model, seed)) }
    }
}

/// Recording.
impl SimDisk {
    /// Notes an event of the application between two operations, for the crash points after it.
    pub fn mark(&self, payload: u64) {
        let mut state = self.shared.state.write();
        if state.model.tracked {
            let mark = Mark { operations: state.operations, payload };
            Arc::make_mut(&mut state.log.marks).push(mark);
        }
    }

    /// How many operations there were: the index that the next one gets.
    pub fn operations(&self) -> usize {
        self.shared.state.read().operations
    }

    /// Everything that happened since the disk was made, or since [`Self::restart_recording`]. Cheap,
    /// but the next operation copies the list of operations if the recording is still held then.
    pub fn record(&self) -> Recording {
        let state = self.shared.state.read();
        let base = match state.model.tracked {
            true => Arc::clone(&state.base),
            false => Arc::new(state.model.clone()),
        };
        Recording { base, log: state.log.clone(), seed: self.shared.clock.seed() }
    }

    /// Ends the history: all that the process sees becomes durable, and from now on everything is durable
    /// at once and nothing is recorded. Makes a disk quicker that is only to be opened once. Clock and
    /// random numbers stay simulated.
    pub fn end_history(&self) {
        self.shared.state.write().end_history();
    }

    /// Forgets the log and all marks; what is unsynced stays unsynced. Indices start at 0 again.
    pub fn restart_recording(&self) {
        self.shared.state.write().restart_recording();
    }
}

/// Faults and settings.
impl SimDisk {
    /// Adds a fault to the script.
    pub fn inject(&self, fault: Fault) {
        self.shared.state.write().faults.add(fault);
        self.shared.armed.store(true, Ordering::Release);
    }

    /// Forgets all faults.
    pub fn clear_faults(&self) {
        self.shared.state.write().faults.clear();
        self.shared.armed.store(false, Ordering::Release);
    }

    /// How many operations were struck by a fault.
    pub fn faults_struck(&self) -> u64 {
        self.shared.state.read().faults.struck
    }

    /// Limits the room for files, in bytes; `None` is no limit. What does not fit gives `StorageFull`
    /// and changes nothing. Files may take more than the limit already.
    pub fn set_capacity(&self, capacity_bytes: Option<u64>) {
        self.shared.state.write().capacity_bytes = capacity_bytes;
    }

    /// Says how many bytes of files memory holds; `None` is all. Nothing else depends on it.
    pub fn set_memory(&self, memory_bytes: Option<u64>) {
        self.shared.state.write().memory_bytes = memory_bytes;
    }

    /// Bytes that files take, removed ones that are still open included.
    pub fn used_bytes(&self) -> u64 {
        self.shared.state.read().model.used_bytes()
    }

    /// Makes all syncs of that name return `Ok` and do nothing.
    pub fn disable_barrier(&self, barrier: Barrier) {
        self.shared.state.write().disabled.insert(barrier);
    }

    /// Undoes [`Self::disable_barrier`].
    pub fn enable_barrier(&self, barrier: Barrier) {
        self.shared.state.write().disabled.remove(&barrier);
    }

    /// Lets every operation that changes something or syncs fail with `ReadOnlyFilesystem`, or not.
    pub fn set_read_only(&self, read_only: bool) {
        self.shared.state.write().read_only = read_only;
    }

    /// Refuses everything that names this path, or one below it, with `PermissionDenied`. Files that are
    /// open already stay usable.
    pub fn deny(&self, path: impl AsRef<Path>) {
        self.shared.state.write().denied.insert(clean(path.as_ref()));
    }

    /// Undoes [`Self::deny`].
    pub fn allow(&self, path: impl AsRef<Path>) {
        self.shared.state.write().denied.remove(&clean(path.as_ref()));
    }

    /// Sets the wall clock, in microseconds since 1970. Each reading of a simulated clock advances it by
    /// 1 µs. Has no effect on a disk without history.
    pub fn set_clock_micros(&self, micros: u64) {
        self.shared.clock.set_wall(micros);
    }

    /// Lets time pass, on both clocks.
    pub fn advance_clock(&self, time: Duration) {
        self.shared.clock.advance(time);
    }
}

/// Looking at the disk, and damaging it, behind the process's back. No fault strikes, nothing is logged
/// as an operation (a recording replays it all the same), and all of it is durable at once.
impl SimDisk {
    /// The bytes of a file as the process sees them.
    pub fn read_file(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        let state = self.shared.state.read();
        let content = &state.model.file(state.model.find(&clean(path.as_ref()))?)?.content;
        let mut bytes = vec![0; content.len() as usize];
        content.read_at(&mut bytes, 0);
        Ok(bytes)
    }

    /// Makes these the bytes of the file, which is created if missing (its directory is not). If its name
    /// was not durable, all names of its directory become durable.
    pub fn write_file(&self, path: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
        let path = Arc::from(clean(path.as_ref()));
        self.tamper(Tamper::Write { path, bytes: Arc::from(bytes), names: true })
    }

    /// Removes a file; all names of its directory become durable.
    pub fn remove_file(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.tamper(Tamper::Remove { path: Arc::from(clean(path.as_ref())) })
    }

    /// Flips bit `bit` (0 to 7) of the byte at `offset`; `UnexpectedEof` if the file ends before it.
    pub fn flip_bit(&self, path: impl AsRef<Path>, offset: u64, bit: u8) -> io::Result<()> {
        self.tamper(Tamper::FlipBit { path: Arc::from(clean(path.as_ref())), offset, bit })
    }

    /// All files with their lengths in bytes, sorted by path.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        fn collect(model: &Model, dir: u64, path: &Path, found: &mut Vec<(PathBuf, u64)>) {
            let Ok(directory) = model.directory(dir) else { return };
            for (name, node) in &directory.names {
                let path = path.join(name);
                match model.node(*node).map(|node| &**node) {
                    Ok(Node::File(file)) => found.push((path, file.content.len())),
                    Ok(Node::Directory(_)) => collect(model, *node, &path, found),
                    Err(_) => {}
                }
            }
        }
        let mut found = Vec::new();
        collect(&self.shared.state.read().model, ROOT, Path::new("/"), &mut found);
        found.sort();
        found
    }

    /// A hash of all names, lengths and bytes as the process sees them.
    pub fn content_hash(&self) -> u64 {
        self.shared.state.read().model.content_hash()
    }

    /// The same of one file, or of what lies below one directory.
    pub fn content_hash_of(&self, path: impl AsRef<Path>) -> io::Result<u64> {
        self.shared.state.read().model.content_hash_of(&clean(path.as_ref()))
    }

    fn tamper(&self, tamper: Tamper) -> io::Result<()> {
        self.shared.state.write().tamper(tamper)
    }
}

impl Default for SimDisk {
    fn default() -> SimDisk {
        SimDisk::new()
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state: &State = &self.shared.state.read();
        f.debug_struct("SimDisk")
            .field("operations", &state.operations)
            .field("used_bytes", &state.model.used_bytes())
            .finish_non_exhaustive()
    }
}

/// Seeded random numbers (splitmix64).
struct Random {
    state: u64,
}

impl Random {
    fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    /// A number below `bound`, which is not 0.
    fn below(&mut self, bound: usize) -> usize {
        self.state = self.state.wrapping_add(GOLDEN);
        (mix(self.state) % bound as u64) as usize
    }
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Spreads the bits of a number over all of it.
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
