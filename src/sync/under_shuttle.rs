//! The interfaces of `parking_lot` and `std::thread` over shuttle's locks and threads.
//!
//! shuttle runs the threads of an execution in turns, on one thread of the system, and chooses who is next
//! before each use of what stands here. Whatever a thread holds while it comes to such a place must stand here
//! too, or the others would wait for it for ever.
//!
//! There is no time. A pause is a turn of the others; a timed wait ends after as many turns as chance
//! decides, told or not, which every caller of one must bear anyway. (shuttle's own never ends untold.)

use crate::fs::Join;
use parking_lot::{ArcMutexGuard, RawMutex};
use shuttle::future::batch_semaphore::{BatchSemaphore, Fairness};
use shuttle::rand::{RngCore, thread_rng};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, PoisonError, TryLockError};
use std::time::Duration;

pub use shuttle::sync::atomic::{AtomicBool, AtomicU64, Ordering};
pub use shuttle::thread::yield_now;
pub use shuttle::thread_local;

/// The most turns of a timed wait.
const WAIT_TURNS_MAX: u32 = 12;
/// Turns until a lock that is waited for with a limit is given up.
const LOCK_TURNS: u32 = 200;

#[derive(Debug, Default)]
pub struct Mutex<T: ?Sized>(shuttle::sync::Mutex<T>);

/// Holds nothing only while a [`Condvar`] waits.
#[derive(Debug)]
pub struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    held: Option<shuttle::sync::MutexGuard<'a, T>>,
}

#[derive(Debug, Default)]
pub struct Condvar(shuttle::sync::Condvar);

#[derive(Debug)]
pub struct RwLock<T>(shuttle::sync::RwLock<T>);

impl<T> Mutex<T> {
    pub const fn new(value: T) -> Mutex<T> {
        Mutex(shuttle::sync::Mutex::new(value))
    }

    pub fn lock(&self) -> MutexGuard<'_, T> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        MutexGuard { mutex: self, held: Some(held) }
    }

    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let held = match self.0.try_lock() {
            Ok(held) => held,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(MutexGuard { mutex: self, held: Some(held) })
    }

    pub fn is_locked(&self) -> bool {
        self.try_lock().is_none()
    }

    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.held.as_ref().expect("the lock is held")
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.held.as_mut().expect("the lock is held")
    }
}

impl Condvar {
    pub const fn new() -> Condvar {
        Condvar(shuttle::sync::Condvar::new())
    }

    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let held = guard.held.take().expect("the lock is held");
        guard.held = Some(self.0.wait(held).unwrap_or_else(PoisonError::into_inner));
    }

    /// See the module.
    pub fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _limit: Duration) {
        guard.held = None;
        for _ in 0..=thread_rng().next_u32() % WAIT_TURNS_MAX {
            yield_now();
        }
        guard.held = Some(guard.mutex.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}

impl<T> RwLock<T> {
    pub const fn new(value: T) -> RwLock<T> {
        RwLock(shuttle::sync::RwLock::new(value))
    }

    pub fn read(&self) -> shuttle::sync::RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn write(&self) -> shuttle::sync::RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who has the one permit has the value; so its own lock, which shuttle does not see, is never waited for.
pub struct Gate<T> {
    turn: Arc<BatchSemaphore>,
    value: Arc<parking_lot::Mutex<T>>,
}

/// Holds a [`Gate`].
pub struct GateGuard<T> {
    turn: Arc<BatchSemaphore>,
    held: Option<ArcMutexGuard<RawMutex, T>>,
}

impl<T> Gate<T> {
    pub fn new(value: T) -> Gate<T> {
        let turn = Arc::new(BatchSemaphore::new(1, Fairness::Unfair));
        Gate { turn, value: Arc::new(parking_lot::Mutex::new(value)) }
    }

    pub fn lock(&self) -> GateGuard<T> {
        self.turn.acquire_blocking(1).expect("nobody closes it");
        self.held()
    }

    pub fn lock_arc(&self) -> GateGuard<T> {
        self.lock()
    }

    pub fn try_lock(&self) -> Option<GateGuard<T>> {
        self.turn.try_acquire(1).ok().map(|()| self.held())
    }

    pub fn try_lock_for(&self, _limit: Duration) -> Option<GateGuard<T>> {
        for _ in 0..LOCK_TURNS {
            if let Some(guard) = self.try_lock() {
                return Some(guard);
            }
            yield_now();
        }
        None
    }

    fn held(&self) -> GateGuard<T> {
        let held = self.value.try_lock_arc().expect("the permit goes before the value");
        GateGuard { turn: self.turn.clone(), held: Some(held) }
    }
}

impl<T> fmt::Debug for Gate<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

impl<T> Deref for GateGuard<T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.held.as_ref().expect("held until it is dropped")
    }
}

impl<T> DerefMut for GateGuard<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.held.as_mut().expect("held until it is dropped")
    }
}

impl<T> Drop for GateGuard<T> {
    fn drop(&mut self) {
        self.held = None;
        self.turn.release(1);
    }
}

/// A pause: the others have their turn.
pub fn sleep(_pause: Duration) {
    yield_now();
}

/// See the common one. An access to an atomic is a place where the turn may change.
pub fn turn() {
    AtomicBool::new(false).load(Ordering::SeqCst);
}

/// A thread of shuttle's.
struct Thread(shuttle::thread::JoinHandle<()>);

impl Join for Thread {
    fn join(self: Box<Self>) {
        // As std's: a panic of a thread fails the execution by itself.
        let _ = self.0.join();
    }
}

/// Starts a thread.
pub fn spawn(name: &str, body: Box<dyn FnOnce() + Send>) -> std::io::Result<Box<dyn Join>> {
    let thread = shuttle::thread::Builder::new().name(name.to_owned()).spawn(body)?;
    Ok(Box::new(Thread(thread)))
}
