//! What came of a crash test.

use std::fmt;

/// A crash test that passed: how much was tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checked {
    /// Moments at which the power failed: one before each operation of the workload, and one at its end.
    pub moments: u64,
    /// Different disks that this left; the invariant was asked about each. A disk counts again if more was
    /// acknowledged when it was left.
    pub images: u64,
    /// Of those: how often recovery was cut in turn.
    pub recoveries: u64,
    /// Different disks that this left; the invariant was asked about each.
    pub recovery_images: u64,
}

/// A crash after which the invariant does not hold.
///
/// Of the ways in which the power may fail at that moment it is one that loses as little as possible: with
/// any one of the lost things kept, the invariant holds (or fails in no way that was tried).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Broken {
    /// What the invariant (or the workload) said, or the text of its panic.
    pub what: String,
    /// After so many operations on the disk the power failed; `None` if the workload failed without any
    /// crash.
    pub operations: Option<usize>,
    /// The operation that was next.
    pub next: Option<String>,
    /// What was not synced then, and what became of it, one line each.
    pub lost: String,
    /// What had been acknowledged.
    pub acknowledged: Vec<u64>,
    /// Of the recovery from this crash, if that was cut in turn: operations until then, and what was lost.
    pub recovery: Option<(usize, String)>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(operations) = self.operations else {
            return write!(f, "the workload failed without any crash: {}", self.what);
        };
        writeln!(f, "{}", self.what)?;
        write!(f, "after a power cut at operation {operations}")?;
        match &self.next {
            Some(next) => writeln!(f, " (next was: {next})")?,
            None => writeln!(f, " (the end of the workload)")?,
        }
        writeln!(f, "acknowledged until then: {:?}", self.acknowledged)?;
        match self.lost.as_str() {
            "" => writeln!(f, "everything written until then survived")?,
            lost => write!(f, "{lost}")?,
        }
        if let Some((operations, lost)) = &self.recovery {
            writeln!(f, "and a second power cut at operation {operations} of the recovery")?;
            write!(f, "{lost}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Broken {}
