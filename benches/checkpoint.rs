//! How fast a checkpoint turns a memtable into a durable table. `cargo bench --bench checkpoint`
//!
//! Throughput counts keys and values, not what the table adds to them.

use criterion::{BatchSize, Criterion, Throughput};
use highwater::{Database, Durability};
use tempfile::TempDir;

const ENTRIES: u64 = 100_000;
const ENTRY_BYTES: u64 = 8 + VALUE_BYTES as u64;
const VALUE_BYTES: usize = 150;

fn checkpoints(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("checkpoint");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(ENTRIES * ENTRY_BYTES));
    group.bench_function("of_100_000_entries", |bencher| {
        bencher.iter_batched(
            filled,
            |(db, dir)| {
                db.checkpoint().expect("a checkpoint");
                (db, dir)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// A new database with everything in memory, and the log synced.
fn filled() -> (Database, TempDir) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary directory");
    let db = Database::open(dir.path().join("db")).expect("a database");
    let items = db.keyspace("items").expect("a keyspace");
    for from in (0..ENTRIES).step_by(1000) {
        let mut tx = db.write().expect("a transaction");
        for number in from..from + 1000 {
            let key = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
            tx.insert(&items, key, [number as u8; VALUE_BYTES]).expect("an insertion");
        }
        tx.commit_with(Durability::Buffered).expect("a commit");
    }
    db.sync().expect("a sync");
    assert_eq!(db.stats().checkpoints, 0, "the memtable was to hold it all");
    (db, dir)
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    checkpoints(&mut criterion);
    criterion.final_summary();
}
