//! What must not fail because others take the room that a full disk still has.
//!
//! Dropping a keyspace, a checkpoint, a compaction and a close give room back, and each first takes some. The reserve is
//! there for that. But a checkpoint in the background may have spent it, and what is free by then changes from moment to
//! moment: a merge writes tables until it fails, the log's thread fills a new segment until it does, tables that a
//! merge replaced are removed by and by. So who finds the disk full stops merges (those in the background give back what
//! they wrote), and tries again for a moment while the others fail.
//!
//! Invariant: without threads in the background nobody else takes room, and what failed with the reserve fails.

use super::Engine;
use crate::error::{Error, Result};
use crate::sync::engine::{Ordering, sleep};
use std::time::Duration;

/// For how long it is tried again, and when. A merge stops at its next block; a new segment fails within milliseconds.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(10);

/// While it lasts, merges in the background do not go on.
struct RoomWanted<'a>(&'a Engine);

impl<'a> RoomWanted<'a> {
    fn new(engine: &'a Engine) -> RoomWanted<'a> {
        engine.room_wanted.fetch_add(1, Ordering::AcqRel);
        RoomWanted(engine)
    }
}

impl Drop for RoomWanted<'_> {
    fn drop(&mut self) {
        self.0.room_wanted.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Engine {
    /// Does what frees room. On a full disk: again with the reserve, then without the competition of merges.
    pub fn insist<T>(&self, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
        let is_full = |outcome: &Result<T>| matches!(outcome, Err(Error::NoSpace { .. }));
        let mut outcome = attempt();
        if is_full(&outcome) && (self.remover.run() | self.space.reserve.spend()) {
            outcome = attempt();
        }
        if !is_full(&outcome) || !self.options.background {
            return outcome;
        }
        let _wanted = RoomWanted::new(self);
        let started = self.fs.monotonic();
        loop {
            sleep(PAUSE);
            self.remover.run();
            self.space.reserve.spend();
            outcome = attempt();
            // Measured behind it: what takes long by itself is not done again and again.
            if !is_full(&outcome) || self.fs.monotonic().saturating_sub(started) >= PATIENCE {
                return outcome;
            }
        }
    }

    /// Whether somebody waits for the room that a merge takes.
    pub fn is_room_wanted(&self) -> bool {
        self.room_wanted.load(Ordering::Acquire) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::RoomWanted;
    use crate::error::Error;
    use crate::fs::FileSystem;
    use crate::fs::sim::SimDisk;
    use crate::{Database, Durability};
    use std::sync::Arc;

    fn database(disk: &SimDisk, background: bool) -> Database {
        let fs: Arc<dyn FileSystem> = Arc::new(disk.clone());
        Database::builder().file_system(fs).background(background).open("/db").unwrap()
    }

    const FULL: Error = Error::NoSpace { what: "a test" };

    #[test]
    fn what_frees_room_outlasts_those_who_take_it() {
        for (background, fails, succeeds) in
            [(true, 0, true), (true, 5, true), (false, 0, true), (false, 5, false)]
        {
            let db = database(&SimDisk::without_history(), background);
            let mut left = fails;
            let outcome = db.engine.insist(|| {
                left -= 1;
                if left < 0 { Ok(()) } else { Err(FULL) }
            });
            assert_eq!(outcome.is_ok(), succeeds, "background {background}, {fails} times");
            assert!(!db.engine.is_room_wanted());
        }
    }

    #[test]
    fn a_disk_that_stays_full_is_an_error_and_other_errors_are_not_tried_again() {
        let db = database(&SimDisk::without_history(), true);
        let mut tries = 0;
        let outcome = db.engine.insist(|| -> crate::Result<()> {
            tries += 1;
            Err(FULL)
        });
        assert!(matches!(outcome, Err(Error::NoSpace { .. })) && tries > 2, "{tries} tries");
        tries = 0;
        let outcome = db.engine.insist(|| -> crate::Result<()> {
            tries += 1;
            Err(Error::Closed)
        });
        assert!(matches!(outcome, Err(Error::Closed)) && tries == 1, "{tries} tries");
    }

    #[test]
    fn a_merge_in_the_background_gives_its_room_to_who_needs_it() {
        let disk = SimDisk::without_history();
        let db = database(&disk, false);
        let items = db.keyspace("items").unwrap();
        let wanted = RoomWanted::new(&db.engine);
        for round in 0..12_u8 {
            let mut tx = db.write().unwrap();
            (0..200_u32).for_each(|n| tx.insert(&items, n.to_be_bytes(), [round; 200]).unwrap());
            tx.commit_with(Durability::Sync).unwrap();
            db.engine.freeze(&mut db.engine.writer.lock());
            db.engine.flush_all().unwrap();
        }
        let files = || disk.list("/db".as_ref()).unwrap().len();
        let (runs, before) = (db.stats().runs, files());
        let outcome = db.engine.merge_due(false);
        assert!(matches!(outcome, Err(Error::NoSpace { .. })), "{outcome:?}");
        assert_eq!((db.stats().runs, files()), (runs, before), "nothing of it is left");
        drop(wanted);
        assert!(db.engine.merge_due(false).unwrap());
        assert!(db.stats().runs < runs);
    }
}
