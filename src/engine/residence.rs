//! Whether memory holds the tables; [`Table::advise`](crate::table::Table::advise) says what follows.
//!
//! It is looked at when the database opens and whenever tables were written, so a limit that is set meanwhile is seen
//! then.
//!
//! Invariant: only time depends on it.

use super::Engine;
use crate::table::ReadMode;
use crate::view::Layer;

impl Engine {
    /// Tells the tables whether memory holds them all.
    pub fn note_memory(&self) {
        if self.options.read_mode == ReadMode::Pread {
            return;
        }
        let view = self.view.load_full();
        let runs = || {
            view.layers.iter().filter_map(|layer| match layer {
                Layer::Run(run) => Some(run),
                Layer::Memory(_) => None,
            })
        };
        let bytes: u64 = runs().map(|run| run.bytes()).sum();
        // Not back and forth with each merge.
        let margin = if self.cache.is_scattered() { bytes / 3 } else { 0 };
        let heap_bytes = self.options.memory_budget as u64;
        let scattered = !self.fs.is_held_by_memory(bytes + margin, heap_bytes);
        if self.cache.set_scattered(scattered) != scattered {
            runs().flat_map(|run| &run.tables).for_each(|table| table.advise());
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::fs::FileSystem;
    use crate::fs::sim::{Fault, FaultKind, OperationKind, SimDisk};
    use crate::{Builder, Database, Durability, Error, Keyspace, Result};
    use std::path::Path;
    use std::sync::Arc;

    fn on(disk: &SimDisk) -> Builder {
        let fs: Arc<dyn FileSystem> = Arc::new(disk.clone());
        Database::builder().file_system(fs).background(false)
    }

    fn count(db: &Database, items: &Keyspace) -> Result<usize> {
        let mut count = 0;
        for entry in db.reader().iter(items)? {
            entry?;
            count += 1;
        }
        Ok(count)
    }

    /// A database with one table, of which all was read.
    fn filled(disk: &SimDisk) -> (Database, Keyspace) {
        let db = on(disk).open("/db").unwrap();
        let items = db.keyspace("items").unwrap();
        let mut tx = db.write().unwrap();
        for number in 0..4000_u32 {
            tx.insert(&items, number.to_be_bytes(), [7; 100]).unwrap();
        }
        tx.commit_with(Durability::Sync).unwrap();
        db.checkpoint().unwrap();
        assert_eq!(count(&db, &items).unwrap(), 4000);
        (db, items)
    }

    /// Changes a byte of the large table: who reads it again sees it, since mappings of this disk are copies.
    fn flip(disk: &SimDisk) {
        let names = disk.list(Path::new("/db")).unwrap().into_iter();
        let mut tables = names.filter(|file| file.name.ends_with(".hwt") && file.len > 400_000);
        let path = format!("/db/{}", tables.next().expect("a table").name);
        assert!(tables.next().is_none(), "one only");
        disk.flip_bit(&path, 200_000, 3).unwrap();
    }

    fn scan_reads_again(db: &Database, items: &Keyspace) -> bool {
        match count(db, items) {
            Ok(_) => false,
            Err(error) => {
                assert!(error.is_damage(), "{error}");
                true
            }
        }
    }

    #[test]
    fn memory_is_looked_at_when_a_table_was_written() {
        let disk = SimDisk::without_history();
        let (db, items) = filled(&disk);
        flip(&disk);
        assert!(!scan_reads_again(&db, &items));
        let write_a_table = |memory| {
            disk.set_memory(memory);
            items.insert("one more", "value").unwrap();
            db.checkpoint().unwrap();
        };
        write_a_table(Some(100_000));
        assert!(scan_reads_again(&db, &items));
        assert!(items.get(3999_u32.to_be_bytes()).unwrap().is_some(), "a lookup does not");
        let bytes = db.stats().live_table_bytes;
        write_a_table(Some(bytes + bytes / 10));
        assert!(scan_reads_again(&db, &items), "not back and forth with a tenth more or less");
        write_a_table(Some(bytes * 3 / 2));
        assert!(!scan_reads_again(&db, &items));
    }

    #[test]
    fn memory_is_looked_at_by_an_open() {
        let disk = SimDisk::without_history();
        drop(filled(&disk));
        disk.set_memory(Some(100_000));
        let db = on(&disk).open("/db").unwrap();
        let items = db.keyspace("items").unwrap();
        assert!(!scan_reads_again(&db, &items));
        flip(&disk);
        assert!(scan_reads_again(&db, &items));
    }

    #[test]
    fn memory_is_looked_at_when_a_merge_was_published() {
        let disk = SimDisk::without_history();
        let (db, items) = filled(&disk);
        items.insert("one more", "value").unwrap();
        db.checkpoint().unwrap();
        disk.set_memory(Some(100_000));
        db.compact().unwrap();
        assert!(!scan_reads_again(&db, &items));
        flip(&disk);
        assert!(scan_reads_again(&db, &items));
    }

    #[test]
    fn what_tells_the_system_of_a_use_may_fail_and_what_brings_a_value_may_not() {
        let disk = SimDisk::without_history();
        let (db, items) = filled(&disk);
        items.insert(b"of two pages", [9; 8000]).unwrap();
        db.checkpoint().unwrap();
        db.compact().unwrap();
        assert_eq!(count(&db, &items).unwrap(), 4001);
        disk.set_memory(Some(100_000));
        db.engine.note_memory();
        disk.inject(Fault::new(FaultKind::Io).on(OperationKind::Read).from_then_on());
        for number in 0..100_u32 {
            assert!(items.get((number * 40).to_be_bytes()).unwrap().is_some());
        }
        assert!(disk.faults_struck() > 3, "{}", disk.faults_struck());
        let failed = items.get(b"of two pages");
        assert!(matches!(failed, Err(Error::Io { .. })), "{failed:?}");
    }
}
