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
    /// A flush wrote so much, and synced it or not.
    pub fn note(&self, bytes: u64, synced: bool) {
        let since = self.unsynced_bytes.load(Ordering::Relaxed) + bytes;
        self.unsynced_bytes.store(if synced { 0 } else { since }, Ordering::Relaxed);
        if synced {
            let usual = self.synced_bytes.load(Ordering::Relaxed);
            self.synced_bytes.store(usual - usual / 8 + since / 8, Ordering::Relaxed);
        }
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
        (0..40).for_each(|_| rhythm.note(4096, true));
        assert!((3900..=4096).contains(&rhythm.usual_bytes()), "{}", rhythm.usual_bytes());
        (0..8).for_each(|_| rhythm.note(1 << 20, true));
        assert!(rhythm.usual_bytes() > 600 << 10);
        (0..80).for_each(|_| rhythm.note(4096, true));
        assert!(rhythm.usual_bytes() < 8192);
        (0..10).for_each(|_| rhythm.note(10_000, false));
        assert_eq!(rhythm.usual_bytes(), 100_000);
        rhythm.note(0, true);
        assert!(rhythm.usual_bytes() < 32 << 10);
    }
}
