//! Running a crash test: record once, then try every crash.
//!
//! A disk is looked at once for each set of acknowledgements. A crash that breaks the invariant is made
//! smaller before it is reported: one lost thing after another is kept, as long as the invariant still
//! does not hold.

use super::broken::{Broken, Checked};
use crate::db::Database;
use crate::error::Result;
use crate::fs::sim::{Choice, CrashPoint, EnumerationLimits, Outcome, SimDisk};
use crate::options::Builder;
use std::collections::HashSet;
use std::fmt::{self, Display};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

type Options = Arc<dyn Fn(Builder) -> Builder + Send + Sync>;

/// A crash test. See the [module](super).
#[derive(Clone)]
pub struct CrashTest {
    path: PathBuf,
    seed: u64,
    limits: EnumerationLimits,
    recoveries: u64,
    options: Options,
}

/// Where the workload runs.
#[derive(Debug)]
pub struct Stage {
    disk: SimDisk,
    builder: Builder,
    path: PathBuf,
}

/// What a crash left, for the invariant.
#[derive(Debug)]
pub struct Crash {
    stage: Stage,
    acknowledged: Vec<u64>,
}

/// Choices for each cut of a recovery.
const RECOVERY_LIMITS: EnumerationLimits =
    EnumerationLimits { exhaustive_units: 3, per_family: 4, samples: 4, torn_sectors: true };

impl CrashTest {
    /// A test of a database that lies at `path` of the simulated disk.
    ///
    /// The database is as small as it gets, so that a crash costs well under a millisecond: log segments of 32 KiB
    /// and 64 KiB of memory in place of megabytes. Format and code are the same.
    /// [`options`](Self::options) changes that.
    pub fn new(path: impl Into<PathBuf>) -> CrashTest {
        CrashTest {
            path: path.into(),
            seed: 0,
            limits: EnumerationLimits {
                exhaustive_units: 8,
                per_family: 16,
                samples: 32,
                torn_sectors: true,
            },
            recoveries: 50,
            options: Arc::new(|builder| builder.simulation_sizes(64 << 10)),
        }
    }

    /// The seed of the disk's random numbers and of the ways that are drawn by lot. Default 0.
    pub fn seed(mut self, seed: u64) -> CrashTest {
        self.seed = seed;
        self
    }

    /// How many ways of losing power to try at each moment. Default: all up to 8 unsynced things; above
    /// that, of each family 16 and 32 drawn by lot; torn sectors, too.
    pub fn limits(mut self, limits: EnumerationLimits) -> CrashTest {
        self.limits = limits;
        self
    }

    /// One disk in so many (by its hash) has the recovery from it cut, everywhere. Default 50; 1 is all, 0 is
    /// none.
    pub fn recoveries(mut self, one_in: u64) -> CrashTest {
        self.recoveries = one_in;
        self
    }

    /// The options of the database, in place of the small sizes. The file system and the absence of
    /// background threads are set afterwards.
    pub fn options(
        mut self,
        options: impl Fn(Builder) -> Builder + Send + Sync + 'static,
    ) -> CrashTest {
        self.options = Arc::new(options);
        self
    }

    /// Runs the workload once and asks the invariant about every crash. The first that breaks it ends the
    /// test. A panic of either counts as an error.
    ///
    /// Costs an open of the database and what the invariant does for every different disk: a workload of a
    /// hundred operations on the disk leaves some thousands.
    ///
    /// # Errors
    /// [`Broken`], if the workload fails without any crash, or the invariant does not hold after one.
    pub fn check<W: Display, I: Display>(
        &self,
        workload: impl FnOnce(&Stage) -> std::result::Result<(), W>,
        invariant: impl Fn(&Crash) -> std::result::Result<(), I>,
    ) -> std::result::Result<Checked, Box<Broken>> {
        let disk = SimDisk::with_seed(self.seed);
        let stage = self.stage(disk.clone());
        caught(|| workload(&stage)).map_err(|what| {
            Box::new(Broken {
                what,
                operations: None,
                next: None,
                lost: String::new(),
                acknowledged: Vec::new(),
                recovery: None,
            })
        })?;
        let recording = disk.record();
        let judge = Judge { test: self, invariant: &|crash| caught(|| invariant(crash)) };
        let mut checked = Checked::default();
        let mut seen = HashSet::new();
        let mut walker = recording.walker();
        loop {
            checked.moments += 1;
            let point = walker.crash_point();
            judge.moment(&point, &mut seen, &mut checked).map_err(|mut broken| {
                broken.next = walker.next_operation().map(|operation| operation.to_string());
                broken
            })?;
            if !walker.advance() {
                return Ok(checked);
            }
        }
    }

    fn stage(&self, disk: SimDisk) -> Stage {
        let builder = (self.options)(Database::builder());
        let builder = builder.file_system(Arc::new(disk.clone())).background(false);
        Stage { disk, builder, path: self.path.clone() }
    }
}

impl fmt::Debug for CrashTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CrashTest")
            .field("path", &self.path)
            .field("seed", &self.seed)
            .field("limits", &self.limits)
            .field("recoveries", &self.recoveries)
            .finish_non_exhaustive()
    }
}

impl Stage {
    /// Opens the database with the options of the test; creates it if it is missing.
    ///
    /// # Errors
    /// As [`Builder::open`].
    pub fn open(&self) -> Result<Database> {
        self.builder().open(&self.path)
    }

    /// The options of the test, the disk among them, for code that opens the database itself.
    pub fn builder(&self) -> Builder {
        self.builder.clone()
    }

    /// Where the database lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The disk, for files of the application's own.
    pub fn disk(&self) -> &SimDisk {
        &self.disk
    }

    /// Notes a promise that the application made to somebody, such as a reply that was sent. From here on
    /// the invariant is told of it ([`Crash::acknowledged`]).
    pub fn acknowledge(&self, promise: u64) {
        self.disk.mark(promise);
    }
}

impl Crash {
    /// Opens the database as the next process would; it is recovered.
    ///
    /// # Errors
    /// As [`Builder::open`]. An error here is worth reporting: every crash state must open.
    pub fn open(&self) -> Result<Database> {
        self.stage.open()
    }

    /// The options of the test, the disk among them, for code that opens the database itself.
    pub fn builder(&self) -> Builder {
        self.stage.builder()
    }

    /// Where the database lies.
    pub fn path(&self) -> &Path {
        self.stage.path()
    }

    /// The disk that the crash left.
    pub fn disk(&self) -> &SimDisk {
        self.stage.disk()
    }

    /// What the workload had [acknowledged](Stage::acknowledge) before the crash, in that order.
    pub fn acknowledged(&self) -> &[u64] {
        &self.acknowledged
    }
}

struct Judge<'a> {
    test: &'a CrashTest,
    invariant: &'a dyn Fn(&Crash) -> std::result::Result<(), String>,
}

impl Judge<'_> {
    /// Every way of losing power at one moment.
    fn moment(
        &self,
        point: &CrashPoint,
        seen: &mut HashSet<(u64, usize)>,
        checked: &mut Checked,
    ) -> std::result::Result<(), Box<Broken>> {
        let acknowledged: Vec<u64> = point.marks().iter().map(|mark| mark.payload).collect();
        for choice in point.choices(&self.test.limits, self.test.seed) {
            let hash = point.image_hash(&choice);
            if !seen.insert((hash, acknowledged.len())) {
                continue;
            }
            checked.images += 1;
            let nested = self.test.recoveries > 0 && hash.is_multiple_of(self.test.recoveries);
            let (outcome, disk) = self.ask(point, &choice, &acknowledged, nested);
            if let Err(what) = outcome {
                let (choice, what) = self.least(point, choice, &acknowledged, what);
                return Err(self.broken(point, &choice, acknowledged, what));
            }
            if nested {
                checked.recoveries += 1;
                self.recovery(&disk, &acknowledged, checked).map_err(|(at, lost, what)| {
                    let mut broken = self.broken(point, &choice, acknowledged.clone(), what);
                    broken.recovery = Some((at, lost));
                    broken
                })?;
            }
        }
        Ok(())
    }

    /// Cuts the power at every operation of what the invariant did to a disk.
    fn recovery(
        &self,
        disk: &SimDisk,
        acknowledged: &[u64],
        checked: &mut Checked,
    ) -> std::result::Result<(), (usize, String, String)> {
        let mut seen = HashSet::new();
        for point in disk.record().walker() {
            for choice in point.choices(&RECOVERY_LIMITS, self.test.seed) {
                if !seen.insert(point.image_hash(&choice)) {
                    continue;
                }
                checked.recovery_images += 1;
                if let (Err(what), _) = self.ask(&point, &choice, acknowledged, false) {
                    let (choice, what) = self.least(&point, choice, acknowledged, what);
                    return Err((point.position(), point.describe(&choice), what));
                }
            }
        }
        Ok(())
    }

    fn ask(
        &self,
        point: &CrashPoint,
        choice: &Choice,
        acknowledged: &[u64],
        recorded: bool,
    ) -> (std::result::Result<(), String>, SimDisk) {
        let disk = point.image(choice);
        if !recorded {
            disk.end_history();
        }
        let stage = self.test.stage(disk.clone());
        let crash = Crash { stage, acknowledged: acknowledged.to_vec() };
        ((self.invariant)(&crash), disk)
    }

    /// Keeps one lost thing after another, as long as the invariant still does not hold.
    fn least(
        &self,
        point: &CrashPoint,
        mut choice: Choice,
        acknowledged: &[u64],
        mut what: String,
    ) -> (Choice, String) {
        for unit in 0..point.units().len() {
            if choice.outcome(unit) == Outcome::New {
                continue;
            }
            let kept = choice.clone().with(unit, Outcome::New);
            if let (Err(said), _) = self.ask(point, &kept, acknowledged, false) {
                (choice, what) = (kept, said);
            }
        }
        (choice, what)
    }

    fn broken(
        &self,
        point: &CrashPoint,
        choice: &Choice,
        acknowledged: Vec<u64>,
        what: String,
    ) -> Box<Broken> {
        Box::new(Broken {
            what,
            operations: Some(point.position()),
            next: None,
            lost: point.describe(choice),
            acknowledged,
            recovery: None,
        })
    }
}

/// Runs a closure of the application; an error and a panic both become text.
fn caught<E: Display>(
    body: impl FnOnce() -> std::result::Result<(), E>,
) -> std::result::Result<(), String> {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(format!("panic: {}", text.unwrap_or("(without text)")))
        }
    }
}
