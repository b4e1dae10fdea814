//! What must not fail because others take the room that a full disk still has.
//!
//! Dropping a keyspace, a checkpoint, a compaction and a close give room back, and each first takes some. The reserve is
//! there for that. But what is free beside it changes from moment to moment: a merge writes tables until it fails, the
//! log's thread makes segments ready, tables that a merge replaced are removed by and by. So who finds the disk full
//! says so first: merges give back what they wrote, and neither commits nor the log's thread take any. Then the reserve
//! is spent, with it the dead segments that the log would use again, and it is tried again for a moment. Behind it the
//! reserve is filled again for the next, as far as that goes.
//!
//! A compaction is a large merge: it gives way like the others and goes on behind them. It may take long, so a commit
//! that has waited for it takes what there is, the reserve first.
//!
//! Invariants: nothing is taken from the reserve of a later owner of the directory; of the room of a spent reserve
//! nothing becomes log segments but for what frees some, since a checkpoint alone gives segments back.

use super::Engine;
use crate::checkpoint::merge::gave_way;
use crate::error::{Error, Result};
use crate::sync::engine::{Ordering, sleep};
use crate::view::Layer;
use crate::wal::reserve::{RESERVE_MIN_BYTES, Wanted};
use std::time::Duration;

/// For how long it is tried again, how often, and when. A merge looks up every few megabytes.
const PATIENCE: Duration = Duration::from_secs(1);
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// While it lasts, merges do not go on, and nobody else takes of the reserve.
pub struct RoomWanted<'a> {
    engine: &'a Engine,
    _of_the_reserve: Wanted<'a>,
}

impl Drop for RoomWanted<'_> {
    fn drop(&mut self) {
        self.engine.room_wanted.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Engine {
    /// Does what frees room. On a full disk again: with the reserve, and without the competition of merges.
    pub fn insist<T>(&self, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
        let outcome = attempt();
        if !is_full(&outcome) {
            return outcome;
        }
        let _wanted = self.want_room();
        self.try_again(Duration::ZERO, outcome, attempt)
    }

    /// As [`insist`](Self::insist), for what takes much room before it frees any: it gives way to who insists, and goes
    /// on behind them.
    pub fn insist_giving_way<T>(&self, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
        let mut attempt = || {
            for _ in 1..TRIES {
                let outcome = attempt();
                if !outcome.as_ref().is_err_and(gave_way) {
                    return outcome;
                }
                wait_while(|| self.is_room_wanted());
            }
            attempt()
        };
        let started = self.fs.monotonic();
        let outcome = attempt();
        if !is_full(&outcome) {
            return outcome;
        }
        let spent = self.fs.monotonic().saturating_sub(started);
        let _wanted = self.space.reserve.want_leniently();
        self.try_again(spent, outcome, attempt)
    }

    fn try_again<T>(
        &self,
        mut spent: Duration,
        mut outcome: Result<T>,
        mut attempt: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        let closed = || self.closed.load(Ordering::Acquire);
        let closing = closed();
        for tries in 0..TRIES {
            let started = self.fs.monotonic();
            // Later it may be others who gave room back.
            if self.free_room() || tries > 0 {
                outcome = attempt();
            }
            // Without threads in the background only another thread's merge takes room. A close does not wait for others.
            let alone = !self.options.background && self.merging.try_lock().is_some();
            if !is_full(&outcome) || alone || (closed() && !closing) {
                break;
            }
            spent += PAUSE + self.fs.monotonic().saturating_sub(started);
            // What takes long by itself is not done again and again.
            if spent >= PATIENCE {
                break;
            }
            sleep(PAUSE);
        }
        self.refill_reserve();
        outcome
    }

    /// Asks merges for their room, and all others not to take any.
    pub fn want_room(&self) -> RoomWanted<'_> {
        let _of_the_reserve = self.space.reserve.want();
        self.room_wanted.fetch_add(1, Ordering::AcqRel);
        RoomWanted { engine: self, _of_the_reserve }
    }

    /// Whether merges are asked for their room.
    pub fn is_room_wanted(&self) -> bool {
        self.room_wanted.load(Ordering::Acquire) > 0
    }

    /// Waits for a moment while somebody else makes room. Returns whether somebody did.
    pub fn outwait(&self) -> bool {
        wait_while(|| self.space.reserve.is_wanted())
    }

    /// Gives the reserve, dead log segments and removed tables back to the disk, for who asked for that
    /// ([`want_room`](Self::want_room)). Returns whether there was anything.
    pub fn free_room(&self) -> bool {
        // The directory may have another owner by now.
        let Ok(_held) = self.tenure.hold() else { return false };
        self.remover.run() | self.space.free_room()
    }

    /// Fills the reserve again that was spent, as far as the disk has room. The next commit asks for all of it.
    pub fn refill_reserve(&self) {
        let active_bytes = match self.view.load().layers.first() {
            Some(Layer::Memory(active)) => active.bytes(),
            _ => 0,
        };
        let Ok(_held) = self.tenure.hold() else { return };
        let _ = self.space.reserve.refill(RESERVE_MIN_BYTES, self.wanted_reserve(active_bytes));
    }
}

/// For as long as anybody insists. Returns whether it was so at all.
fn wait_while(is_so: impl Fn() -> bool) -> bool {
    let was_so = is_so();
    for _ in 0..TRIES {
        if !is_so() {
            break;
        }
        sleep(PAUSE);
    }
    was_so
}

fn is_full<T>(outcome: &Result<T>) -> bool {
    matches!(outcome, Err(Error::NoSpace { .. }))
}

#[cfg(test)]
mod tests {
    use super::{PAUSE, TRIES};
    use crate::error::Error;
    use crate::fs::FileSystem;
    use crate::fs::sim::SimDisk;
    use crate::sync::engine::sleep;
    use crate::wal::reserve::RESERVE_MIN_BYTES;
    use crate::{Database, Durability, Keyspace};
    use std::path::Path;
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
                assert_eq!(db.engine.is_room_wanted(), left < fails, "from the second try on");
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
        let wanted = db.engine.want_room();
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

    fn reserve_bytes(disk: &SimDisk) -> usize {
        disk.read_file("/db/RESERVE").map_or(0, |bytes| bytes.len())
    }

    fn allocated(disk: &SimDisk) -> u64 {
        disk.allocated_bytes(Path::new("/db")).unwrap()
    }

    /// A value of `bytes` in each of as many commits.
    fn write(items: &Keyspace, commits: u32, bytes: usize) {
        for number in 0..commits {
            items.insert(number.to_be_bytes(), vec![7; bytes]).unwrap();
        }
    }

    #[test]
    fn a_clock_that_hardly_moves_does_not_make_it_try_for_hours() {
        // Its clock moves by the calls that are made.
        let db = database(&SimDisk::new(), true);
        let mut tries = 0;
        let outcome = db.engine.insist(|| -> crate::Result<()> {
            tries += 1;
            Err(FULL)
        });
        assert!(matches!(outcome, Err(Error::NoSpace { .. })));
        assert!(tries <= TRIES + 1, "{tries} tries");
    }

    #[test]
    fn the_reserve_of_the_next_owner_is_not_touched() {
        let disk = SimDisk::without_history();
        let db = database(&disk, true);
        let mut next = None;
        let outcome = db.engine.insist(|| -> crate::Result<()> {
            if next.is_none() {
                db.clone().close().unwrap();
                let owner = database(&disk, false);
                write(&owner.keyspace("items").unwrap(), 1, 10);
                next = Some((owner, reserve_bytes(&disk)));
            }
            Err(FULL)
        });
        assert!(matches!(outcome, Err(Error::NoSpace { .. })), "{outcome:?}");
        let (_owner, bytes) = next.unwrap();
        assert!(bytes as u64 >= RESERVE_MIN_BYTES);
        assert_eq!(reserve_bytes(&disk), bytes);
    }

    #[test]
    fn a_spent_reserve_is_filled_again_behind_it_and_by_a_close() {
        let disk = SimDisk::without_history();
        let db = database(&disk, false);
        let items = db.keyspace("items").unwrap();
        write(&items, 100, 10_000);
        let before = reserve_bytes(&disk);
        assert!(before > 1_000_000, "as much as memory holds");
        for attempts in 1..=2 {
            let mut left = attempts;
            let _ = db.engine.insist(|| {
                left -= 1;
                match left {
                    0 => Ok(()),
                    _ => Err(FULL),
                }
            });
            assert_eq!(reserve_bytes(&disk), before);
        }
        assert!(db.engine.free_room());
        assert_eq!(reserve_bytes(&disk), 0);
        db.close().unwrap();
        assert!(reserve_bytes(&disk) > 1_000_000, "for a recovery of what the log holds");
    }

    #[test]
    fn a_checkpoint_that_spent_the_reserve_fills_it_again() {
        let disk = SimDisk::without_history();
        let db = database(&disk, false);
        let items = db.keyspace("items").unwrap();
        write(&items, 100, 10_000);
        disk.set_capacity(Some(allocated(&disk) + 100_000));
        db.checkpoint().unwrap();
        assert_eq!(reserve_bytes(&disk) as u64, RESERVE_MIN_BYTES, "memory is empty");
    }

    #[test]
    fn a_commit_that_finds_no_room_for_its_reserve_takes_none_for_the_log() {
        let disk = SimDisk::without_history();
        let db = database(&disk, false);
        let items = db.keyspace("items").unwrap();
        write(&items, 100, 10_000);
        let used = allocated(&disk);
        // Enough for the log, and not for what has to be held for its checkpoint as well.
        disk.set_capacity(Some(used + 12_000_000));
        let refused = items.insert("large", vec![7; 11_000_000]);
        assert!(matches!(refused, Err(Error::NoSpace { .. })), "{refused:?}");
        assert!(allocated(&disk) < used + 1_000_000, "{} more", allocated(&disk) - used);
        db.checkpoint().unwrap();
    }

    #[test]
    fn nobody_takes_room_while_it_is_wanted() {
        let disk = SimDisk::without_history();
        let db = database(&disk, false);
        let items = db.keyspace("items").unwrap();
        // From now on the reserve is large enough.
        write(&items, 1, 8_000_000);
        db.checkpoint().unwrap();
        let wanted = db.engine.want_room();
        let (before, used) = (db.engine.space.end(), allocated(&disk));
        let mut number = 0_u32;
        while !db.engine.space.wants_more(db.engine.log.end()) {
            number += 1;
            items.insert([0], [7; 2000]).unwrap();
        }
        let refused = (0..10_000).find_map(|_| items.insert([0], [7; 20_000]).err());
        assert!(matches!(refused, Some(Error::NoSpace { .. })), "{refused:?}");
        assert_eq!(db.engine.space.end(), before, "{number} commits had room");
        assert!(allocated(&disk) < used, "nor is the reserve kept for it");
        drop(wanted);
        items.insert([0], [7; 20_000]).unwrap();
        assert!(db.engine.space.end() > before);
    }

    #[test]
    fn a_commit_waits_for_who_makes_room() {
        let db = database(&SimDisk::without_history(), true);
        let items = db.keyspace("items").unwrap();
        let wanted = db.engine.want_room();
        std::thread::scope(|scope| {
            let commit = scope.spawn(|| items.insert("key", vec![7; 5_000_000]));
            sleep(20 * PAUSE);
            assert!(!commit.is_finished());
            drop(wanted);
            commit.join().unwrap().unwrap();
        });
    }

    #[test]
    fn a_compaction_that_gives_way_comes_to_its_end_later() {
        let db = database(&SimDisk::without_history(), true);
        let items = db.keyspace("items").unwrap();
        for _ in 0..2 {
            write(&items, 20, 100_000);
            db.checkpoint().unwrap();
        }
        let wanted = db.engine.want_room();
        std::thread::scope(|scope| {
            let compaction = scope.spawn(|| db.engine.insist_giving_way(|| db.engine.merge_all()));
            sleep(120 * PAUSE);
            assert!(!compaction.is_finished());
            drop(wanted);
            compaction.join().unwrap().unwrap();
        });
        assert_eq!(db.stats().runs, 1);
    }

    #[test]
    fn a_commit_tries_again_when_room_was_made_before_it_could_wait() {
        let db = database(&SimDisk::without_history(), false);
        let tries = std::cell::Cell::new(0);
        let outcome = db.engine.with_room(|_| {
            tries.set(tries.get() + 1);
            if tries.get() == 2 {
                return Ok(());
            }
            drop(db.engine.want_room());
            Err(FULL)
        });
        assert!(outcome.is_ok() && tries.get() == 2, "{outcome:?} after {} tries", tries.get());
        tries.set(0);
        let outcome = db.engine.with_room(|_| {
            tries.set(tries.get() + 1);
            Err(FULL)
        });
        assert!(outcome.is_err() && tries.get() == 1, "nobody gave room back");
    }

    #[test]
    fn a_compaction_on_a_full_disk_leaves_room_for_commits_and_their_checkpoint() {
        let disk = SimDisk::without_history();
        let db = database(&disk, true);
        let items = db.keyspace("items").unwrap();
        write(&items, 100, 10_000);
        let mut tries = 0;
        let outcome = db.engine.insist_giving_way(|| -> crate::Result<()> {
            tries += 1;
            // It takes too long for commits to wait to its end.
            write(&items, 10, 10_000);
            assert!(reserve_bytes(&disk) > 1_000_000, "as much as memory holds");
            Err(FULL)
        });
        assert!(outcome.is_err() && tries > 1, "{outcome:?} after {tries} tries");
    }

    #[test]
    fn dead_segments_are_given_back_too() {
        let disk = SimDisk::without_history();
        let db = database(&disk, false);
        let items = db.keyspace("items").unwrap();
        write(&items, 400, 10_000);
        db.checkpoint().unwrap();
        let (all, before) = (db.engine.space.bytes(), allocated(&disk));
        let reserve = reserve_bytes(&disk) as u64;
        assert!(db.engine.free_room());
        let gone = all - db.engine.space.bytes();
        assert!(gone > 0);
        assert_eq!(before - allocated(&disk), gone + reserve);
        write(&items, 400, 10_000);
    }

    #[test]
    fn a_merge_of_large_values_gives_way_as_soon() {
        let disk = SimDisk::without_history();
        let db = database(&disk, false);
        let items = db.keyspace("items").unwrap();
        for _ in 0..2 {
            write(&items, 20, 1 << 20);
            db.checkpoint().unwrap();
        }
        let runs = db.engine.published.lock().runs.clone();
        let looks = std::cell::Cell::new(0);
        let writer = db.engine.table_writer(crate::checkpoint::write::Purpose::Merge);
        let merged = writer.merge(&runs, &|_| true, true, &|| db.engine.take_file_id(), &|| {
            looks.set(looks.get() + 1);
            Ok(())
        });
        assert_eq!(merged.unwrap().len(), 1);
        assert!(looks.get() >= 20, "{} looks", looks.get());
    }
}
