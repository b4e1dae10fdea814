//! How fast runs of tables are merged into one. `cargo bench --bench merge`
//!
//! Four runs of random keys, half of which overwrite keys of the run before, become one base by `compact`.
//! Throughput counts the keys and values that go in.

use criterion::{BatchSize, Criterion, Throughput};
use highwater::{Database, Durability};
use tempfile::TempDir;

const RUNS: u64 = 4;
const ENTRIES_PER_RUN: u64 = 50_000;
const VALUE_BYTES: usize = 150;
const ENTRY_BYTES: u64 = 8 + VALUE_BYTES as u64;

fn merges(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("merge");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(RUNS * ENTRIES_PER_RUN * ENTRY_BYTES));
    group.bench_function("of_4_runs_of_50_000_entries", |bencher| {
        bencher.iter_batched(
            filled,
            |(db, dir)| {
                db.compact().expect("a compaction");
                assert_eq!(db.stats().runs, 1);
                (db, dir)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// A new database of four runs, and nothing in memory.
fn filled() -> (Database, TempDir) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary directory");
    // Without threads nothing merges before it is asked to.
    let db = Database::builder().background(false).open(dir.path().join("db")).expect("a database");
    let items = db.keyspace("items").expect("a keyspace");
    for run in 0..RUNS {
        let first = run * ENTRIES_PER_RUN / 2;
        for from in (first..first + ENTRIES_PER_RUN).step_by(1000) {
            let mut tx = db.write().expect("a transaction");
            for number in from..from + 1000 {
                let key = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
                tx.insert(&items, key, [run as u8; VALUE_BYTES]).expect("an insertion");
            }
            tx.commit_with(Durability::Buffered).expect("a commit");
        }
        db.checkpoint().expect("a checkpoint");
    }
    assert_eq!(db.stats().runs, RUNS, "each checkpoint was to leave a run");
    (db, dir)
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    merges(&mut criterion);
    criterion.final_summary();
}
