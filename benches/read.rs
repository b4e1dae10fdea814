//! Point reads and short ranges, from tables and from the memtable, on data that fits in memory.
//! `cargo bench --bench read`

use criterion::{Criterion, Throughput};
use highwater::{Database, Durability, Keyspace, Snapshot};
use std::hint::black_box;

const KEYS: u64 = 200_000;
const RANGE_ENTRIES: usize = 10;

fn reads(criterion: &mut Criterion) {
    for place in ["table", "memtable"] {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary directory");
        let (db, items) = filled(dir.path(), place == "table");
        let snapshot = db.snapshot();
        let mut group = criterion.benchmark_group(format!("read_{place}"));
        let mut number = 0;
        let mut next = || {
            number = (number + 7_919) % KEYS;
            number
        };
        group.throughput(Throughput::Elements(1));
        group.bench_function("get_hit", |bencher| {
            bencher.iter(|| assert!(get(&snapshot, &items, next())));
        });
        group.bench_function("get_miss", |bencher| {
            bencher.iter(|| assert!(!get(&snapshot, &items, KEYS + next())));
        });
        group.throughput(Throughput::Elements(RANGE_ENTRIES as u64));
        group.bench_function("range_of_10", |bencher| {
            bencher.iter(|| range(&snapshot, &items, next()));
        });
        group.finish();
    }
}

fn filled(dir: &std::path::Path, to_table: bool) -> (Database, Keyspace) {
    let db = Database::open(dir.join("db")).expect("a database");
    let items = db.keyspace("items").expect("a keyspace");
    for from in (0..KEYS).step_by(1000) {
        let mut tx = db.write().expect("a transaction");
        for number in from..from + 1000 {
            tx.insert(&items, key(number), [number as u8; 100]).expect("an insertion");
        }
        tx.commit_with(Durability::Buffered).expect("a commit");
    }
    if to_table {
        db.compact().expect("a compaction");
    }
    (db, items)
}

fn get(snapshot: &Snapshot, items: &Keyspace, number: u64) -> bool {
    black_box(snapshot.get(items, key(number)).expect("a read")).is_some()
}

fn range(snapshot: &Snapshot, items: &Keyspace, number: u64) {
    let entries = snapshot.range(items, key(number)..).expect("a range");
    for entry in entries.take(RANGE_ENTRIES) {
        black_box(entry.expect("an entry"));
    }
}

/// 16 bytes in no order.
fn key(number: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    reads(&mut criterion);
    criterion.final_summary();
}
