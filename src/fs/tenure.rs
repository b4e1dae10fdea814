//! Tenure: the time in which a directory is ours, from the open that took its lock to the close that gives it back.
//!
//! Handles, snapshots and optimistic transactions may outlive a close. The directory may have another owner by
//! then, whose files have names that ours would have. So whoever makes or removes a file without the writer's
//! gate and without the locks of checkpoints and merges holds the tenure meanwhile. A close ends it before it gives
//! up the lock, and waits for those who hold it.
//!
//! Invariant: nobody holds an ended tenure. A second hold by the same thread never waits: it succeeds or finds the end.

use crate::error::{Error, Result};
use crate::sync::engine::{Condvar, Mutex};

/// See the module.
#[derive(Debug, Default)]
pub struct Tenure {
    state: Mutex<State>,
    given_back: Condvar,
}

#[derive(Debug, Default)]
struct State {
    holders: usize,
    ended: bool,
}

/// Keeps a close waiting.
#[derive(Debug)]
pub struct Held<'a>(&'a Tenure);

impl Tenure {
    /// The directory stays ours as long as the guard lives.
    ///
    /// # Errors
    /// [`Error::Closed`] once it is not ours any more.
    pub fn hold(&self) -> Result<Held<'_>> {
        let mut state = self.state.lock();
        if state.ended {
            return Err(Error::Closed);
        }
        state.holders += 1;
        Ok(Held(self))
    }

    /// Ends it for good, once nobody holds it.
    pub fn end(&self) {
        let mut state = self.state.lock();
        state.ended = true;
        while state.holders > 0 {
            self.given_back.wait(&mut state);
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.holders -= 1;
        if state.holders == 0 {
            self.0.given_back.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Tenure;
    use crate::error::Error;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn the_end_waits_for_holders_and_nobody_holds_after_it() {
        let tenure = Tenure::default();
        let ended = AtomicBool::new(false);
        let first = tenure.hold().unwrap();
        let second = tenure.hold().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                tenure.end();
                ended.store(true, Ordering::SeqCst);
            });
            while tenure.hold().is_ok() {
                std::thread::yield_now();
            }
            drop(first);
            assert!(!ended.load(Ordering::SeqCst));
            assert!(matches!(tenure.hold(), Err(Error::Closed)));
            drop(second);
        });
        assert!(ended.load(Ordering::SeqCst));
        assert!(matches!(tenure.hold(), Err(Error::Closed)));
    }
}
