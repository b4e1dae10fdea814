//! How much the log writes from one sync to the next: what new segments are made of depends on it
//! ([`Fill`](super::fresh::Fill)).
//!
//! Only a leader notes, and there is one at a time; who reads may see a moment between two notes. Nothing but
//! time depends on it.

use std::sync::atomic::{AtomicU64, Ordering};

/// See the module.
#[derive(Debug, Default)]
pub struct Rhythm {
    /// An average in which the last eight syncs weigh most.
    synced_bytes: AtomicU64,
    /// Since the last sync.
    unsynced_bytes: AtomicU64,
}

impl Rhythm {
    /// A flush wrote so much, and synced it or not. Returns how much was not synced before it, all in all.
    pub fn note(&self, bytes: u64, synced: bool) -> u64 {
        let since = self.unsynced_bytes.load(Ordering::Relaxed) + bytes;
        self.unsynced_bytes.store(if synced { 0 } else { since }, Ordering::Relaxed);
        if synced {
            let usual = self.synced_bytes.load(Ordering::Relaxed);
            self.synced_bytes.store(usual - usual / 8 + since / 8, Ordering::Relaxed);
        }
        since
    }

    /// Bytes from one sync to the next, usually; if there was none for long, bytes since the last one.
    pub fn usual_bytes(&self) -> u64 {
        let since = self.unsynced_bytes.load(Ordering::Relaxed);
        self.synced_bytes.load(Ordering::Relaxed).max(since)
    }
}

#[cfg(test)]
mod tests {
    use super::Rhythm;

    #[test]
    fn the_last_syncs_count_and_what_was_not_synced() {
        let rhythm = Rhythm::default();
        (0..40).for_each(|_| assert_eq!(rhythm.note(4096, true), 4096));
        assert!((3900..=4096).contains(&rhythm.usual_bytes()), "{}", rhythm.usual_bytes());
        for _ in 0..8 {
            rhythm.note(1 << 20, true);
        }
        assert!(rhythm.usual_bytes() > 600 << 10);
        for _ in 0..80 {
            rhythm.note(4096, true);
        }
        assert!(rhythm.usual_bytes() < 8192);
        for _ in 0..10 {
            rhythm.note(10_000, false);
        }
        assert_eq!(rhythm.usual_bytes(), 100_000);
        assert_eq!(rhythm.note(0, true), 100_000);
        assert!(rhythm.usual_bytes() < 32 << 10);
    }
}
