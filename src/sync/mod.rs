//! Locks, atomics and threads, so that a checker of interleavings can take their place.
//!
//! In every common build these are those of `parking_lot` and `std`, under their own names. What stands
//! here directly is for the log and its room; what stands in [`engine`] for the engine around them and for
//! the simulated disk.
//!
//! - With `--cfg loom` those of the log are loom's, so that its models (`wal::interleavings`) run the real
//!   code in all orders. The rest stays as it is; the models do not come to it.
//! - With `--cfg shuttle` all of them are shuttle's, so that whole engines with their threads run in
//!   schedules that a seed decides (`engine::schedules`).

#[cfg(loom)]
mod under_loom;
#[cfg(shuttle)]
pub mod under_shuttle;

#[cfg(not(any(loom, shuttle)))]
pub use parking_lot::{Condvar, Mutex};
#[cfg(not(any(loom, shuttle)))]
pub use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
#[cfg(not(any(loom, shuttle)))]
pub use std::thread::yield_now;

#[cfg(loom)]
pub use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
#[cfg(loom)]
pub use loom::thread::yield_now;
#[cfg(loom)]
pub use under_loom::{Condvar, Mutex};

#[cfg(shuttle)]
pub use under_shuttle::{AtomicBool, AtomicU64, Condvar, Mutex, Ordering, yield_now};

/// Between a store and a load, both `SeqCst`, that must not change places. loom takes such accesses for
/// acquire and release only, and has to be told; everywhere else there is nothing to do.
#[inline]
pub fn in_one_order() {
    #[cfg(loom)]
    loom::sync::atomic::fence(Ordering::SeqCst);
}

/// For the engine around the log.
#[cfg(not(shuttle))]
pub mod engine {
    pub use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
    pub use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    pub use std::thread::{sleep, yield_now};
    pub use std::thread_local;

    /// A lock whose guard may outlive the borrow: the writer's gate.
    pub type Gate<T> = parking_lot::Mutex<T>;
    /// Holds a [`Gate`].
    pub type GateGuard<T> = parking_lot::ArcMutexGuard<parking_lot::RawMutex, T>;

    /// A place between two uses of what the checker does not see (the current view, which is swapped
    /// without a lock): here other threads may have their turn.
    #[inline(always)]
    pub fn turn() {}
}

#[cfg(shuttle)]
pub use under_shuttle as engine;
