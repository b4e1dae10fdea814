//! How fast an open replays the log after an unclean stop. `cargo bench --bench replay`
//!
//! The directory of a running database is copied, as a killed process would leave it, and each
//! iteration opens a fresh copy: plan, replay into tables, publish. Throughput counts bytes of log.

use criterion::{BatchSize, Criterion, Throughput};
use highwater::{Database, Durability};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const TRANSACTIONS: u64 = 2_000;
const ENTRIES_PER_TRANSACTION: u64 = 50;
const VALUE_BYTES: usize = 150;

fn replays(criterion: &mut Criterion) {
    let dir = temporary();
    let killed = dir.path().join("killed");
    make_killed(&dir.path().join("running"), &killed);
    let (_again, path) = copy_of(&killed);
    let log_bytes = Database::open(path).expect("a recovery").recovery().replayed_bytes;

    let mut group = criterion.benchmark_group("replay");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(log_bytes));
    group.bench_function("of_2_000_transactions", |bencher| {
        bencher.iter_batched(
            || copy_of(&killed),
            |(dir, path)| {
                let db = Database::open(path).expect("a recovery");
                assert_eq!(db.recovery().replayed_transactions, TRANSACTIONS + 1);
                (db, dir)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn make_killed(running: &Path, killed: &Path) {
    let db = Database::open(running).expect("a database");
    let items = db.keyspace("items").expect("a keyspace");
    for transaction in 0..TRANSACTIONS {
        let mut tx = db.write().expect("a transaction");
        for entry in 0..ENTRIES_PER_TRANSACTION {
            let number = transaction * ENTRIES_PER_TRANSACTION + entry;
            let key = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
            tx.insert(&items, key, [number as u8; VALUE_BYTES]).expect("an insertion");
        }
        tx.commit_with(Durability::Buffered).expect("a commit");
    }
    db.sync().expect("a sync");
    copy(running, killed);
}

fn copy_of(killed: &Path) -> (TempDir, PathBuf) {
    let dir = temporary();
    let path = dir.path().join("db");
    copy(killed, &path);
    (dir, path)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("a directory");
    for entry in from.read_dir().expect("a directory") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
    }
}

fn temporary() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary directory")
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    replays(&mut criterion);
    criterion.final_summary();
}
