//! What a commit costs, beside what the disk asks for the same: a bare write of one block and `fdatasync`,
//! on a file that was written before. `cargo bench --bench commit`
//!
//! The files lie in cargo's target directory, so the figures are those of the disk that holds it.

use criterion::{Criterion, Throughput};
use highwater::{Database, Durability, Keyspace};
use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;

const VALUE_BYTES: usize = 100;
const BLOCK_BYTES: u64 = 4096;
const BARE_FILE_BYTES: u64 = 32 << 20;

fn commits(criterion: &mut Criterion) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary directory");
    let mut group = criterion.benchmark_group("commit");
    group.throughput(Throughput::Elements(1));

    let file = File::create_new(dir.path().join("bare")).expect("a file");
    let zeros = vec![0; 1 << 20];
    for at in (0..BARE_FILE_BYTES).step_by(zeros.len()) {
        file.write_all_at(&zeros, at).expect("room on the disk");
    }
    file.sync_all().expect("a sync");
    let block = vec![7; BLOCK_BYTES as usize];
    let mut at = 0;
    group.bench_function("bare_write_and_fdatasync", |bencher| {
        bencher.iter(|| {
            file.write_all_at(&block, at).expect("a write");
            file.sync_data().expect("a sync");
            at = (at + BLOCK_BYTES) % BARE_FILE_BYTES;
        });
    });

    for (name, durability) in [
        ("sync", Durability::Sync),
        ("buffered", Durability::Buffered),
        ("memory", Durability::Memory),
    ] {
        let db = Database::open(dir.path().join(name)).expect("a database");
        let items = db.keyspace("items").expect("a keyspace");
        let mut number = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                number += 1;
                insert(&items, number, durability);
            });
        });
        drop(items);
        db.close().expect("a clean close");
    }
    group.finish();
}

fn insert(items: &Keyspace, number: u64, durability: Durability) {
    let key = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    let lsn = items.insert_with(key, [number as u8; VALUE_BYTES], durability);
    black_box(lsn.expect("a commit"));
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    commits(&mut criterion);
    criterion.final_summary();
}
