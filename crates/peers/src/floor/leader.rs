//! The floor of durable commits from many threads: a naive leader loop.
//!
//! Whoever finds nobody at work becomes the leader, takes everything that has gathered, writes it with one
//! `pwrite` on a fresh block of a pre-written file, and syncs once. Others wait on a condition. Nothing is
//! encoded, checked, indexed or kept.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};

/// Bytes of the file, which is written round and round.
const FILE_BYTES: u64 = 16 << 20;

/// The loop.
#[derive(Debug)]
pub struct LeaderLoop {
    file: fs::File,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    gathered: Vec<u8>,
    /// Commits that were ever put into `gathered`.
    placed: u64,
    /// Commits that are on the disk.
    synced: u64,
    led: bool,
    at: u64,
}

impl LeaderLoop {
    /// A loop over a file made in `dir`.
    ///
    /// # Errors
    /// Of the file system.
    pub fn new(dir: &Path) -> io::Result<LeaderLoop> {
        let file = super::prewritten(&dir.join("leader-loop"), FILE_BYTES)?;
        Ok(LeaderLoop { file, state: Mutex::default(), changed: Condvar::new() })
    }

    /// Returns when the bytes are on the disk.
    ///
    /// # Errors
    /// Of the file system; the loop is of no use after that.
    pub fn commit(&self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.gathered.extend_from_slice(bytes);
        state.placed += 1;
        let mine = state.placed;
        while state.synced < mine {
            if state.led {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.led = true;
            let mut group = std::mem::take(&mut state.gathered);
            group.resize(group.len().next_multiple_of(4096), 0);
            if state.at + group.len() as u64 > FILE_BYTES {
                state.at = 0;
            }
            let (at, placed) = (state.at, state.placed);
            state.at += group.len() as u64;
            drop(state);
            let done = self.file.write_all_at(&group, at).and_then(|()| self.file.sync_data());
            state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.led = false;
            state.synced = placed;
            self.changed.notify_all();
            done?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_returns_and_syncs_are_shared() {
        let dir = tempfile::tempdir().expect("a directory");
        let leader = LeaderLoop::new(dir.path()).expect("a loop");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        leader.commit(&[1; 174]).expect("a commit");
                    }
                });
            }
        });
        let state = leader.state.into_inner().expect("no panic");
        assert_eq!((state.placed, state.synced, state.led), (160, 160, false));
        // Every group takes at least one block; all alone, 160 of them.
        assert!(state.at >= 4096 && state.at <= 160 * 4096);
    }
}
