//! Time and chance of a simulated disk: deterministic, or the operating system's.
//!
//! A simulated clock stands still but for 1 µs per reading and what the test lets pass. Setting the wall
//! clock does not touch the steady one. Random numbers are a splitmix64 sequence.

use super::{GOLDEN, mix};
use crate::fs::FileSystem;
use crate::fs::os::OsFileSystem;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Time and chance: simulated, or the system's.
pub(super) struct Clock {
    system: bool,
    wall_micros: AtomicU64,
    steady_micros: AtomicU64,
    seed: u64,
    random: AtomicU64,
}

impl Clock {
    /// Where simulated wall clocks start: September 2020.
    const START_MICROS: u64 = 1_600_000_000_000_000;

    pub fn new(system: bool, seed: u64) -> Clock {
        Clock {
            system,
            wall_micros: AtomicU64::new(Clock::START_MICROS),
            steady_micros: AtomicU64::new(0),
            seed,
            random: AtomicU64::new(mix(seed ^ GOLDEN)),
        }
    }

    /// The same, going on by itself.
    pub fn fork(&self) -> Clock {
        let copy = |number: &AtomicU64| AtomicU64::new(number.load(Ordering::Relaxed));
        Clock {
            system: self.system,
            wall_micros: copy(&self.wall_micros),
            steady_micros: copy(&self.steady_micros),
            seed: self.seed,
            random: copy(&self.random),
        }
    }

    pub fn seed(&self) -> u64 {
        self.seed
    }

    pub fn set_wall(&self, micros: u64) {
        self.wall_micros.store(micros, Ordering::Relaxed);
    }

    pub fn advance(&self, time: Duration) {
        self.tick(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    pub fn wall(&self) -> u64 {
        if self.system { OsFileSystem::new().now_micros() } else { self.tick(1).0 }
    }

    pub fn steady(&self) -> Duration {
        if self.system {
            return OsFileSystem::new().monotonic();
        }
        Duration::from_micros(self.tick(1).1)
    }

    pub fn random(&self) -> io::Result<u64> {
        if self.system {
            return OsFileSystem::new().random();
        }
        Ok(mix(self.random.fetch_add(GOLDEN, Ordering::Relaxed)))
    }

    fn tick(&self, micros: u64) -> (u64, u64) {
        let step =
            |clock: &AtomicU64| clock.fetch_add(micros, Ordering::Relaxed).wrapping_add(micros);
        (step(&self.wall_micros), step(&self.steady_micros))
    }
}
