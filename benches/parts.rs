//! Parts of the engine, each alone: the encoding of a group, the memtable, a table, on three key sets:
//! 24 random bytes, big-endian numbers in sequence, URLs with long shared prefixes.
//! `cargo bench --features parts --bench parts`
//!
//! Keys that are looked up lie in the order of their use, so that fetching them costs little. Every look-up is
//! checked.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use highwater::ReadMode;
use highwater::parts::{Memory, Sorted, encode_group};
use std::hint::black_box;

const VALUE: [u8; 150] = [7; 150];
const MEMORY_ENTRIES: u64 = 200_000;
const TABLE_ENTRIES: u64 = 500_000;
const PROBES: u64 = 1 << 16;
const RANGE_ENTRIES: usize = 10;
const SCAN_ENTRIES: usize = 10_000;

type KeySet = (&'static str, fn(u64) -> Vec<u8>);

const KEY_SETS: [KeySet; 3] = [
    ("random", |number| {
        let mixed = mix(number);
        [mixed, mix(mixed), mix(mixed ^ 1)].iter().flat_map(|part| part.to_be_bytes()).collect()
    }),
    ("sequence", |number| number.to_be_bytes().to_vec()),
    ("urls", |number| {
        let number = mix(number);
        format!("https://www.example.com/articles/{:04}/{number:020}", number % 1000).into_bytes()
    }),
];

/// Splitmix64's finish.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// Keys one behind the other.
struct Keys {
    bytes: Vec<u8>,
    key_bytes: usize,
}

impl Keys {
    fn new(key: fn(u64) -> Vec<u8>, numbers: impl Iterator<Item = u64>) -> Keys {
        Keys { bytes: numbers.flat_map(key).collect(), key_bytes: key(0).len() }
    }

    fn probes(key: fn(u64) -> Vec<u8>, entries: u64) -> Keys {
        Keys::new(key, (0..PROBES).map(|probe| mix(probe) % entries))
    }

    fn records(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.bytes.chunks_exact(self.key_bytes).map(|key| (key, VALUE.as_slice()))
    }

    fn cycle(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks_exact(self.key_bytes).cycle()
    }
}

fn encoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("group_encode");
    for records in [1, 10, 100, 1000] {
        let keys = Keys::new(KEY_SETS[0].1, 0..records);
        let (mut operations, mut out) = (Vec::new(), Vec::new());
        encode_group(keys.records(), &mut operations, &mut out);
        group.throughput(Throughput::Bytes(out.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(records), |bencher| {
            bencher.iter(|| {
                encode_group(black_box(keys.records()), &mut operations, &mut out);
                black_box(out.len())
            });
        });
    }
    group.finish();
}

fn memtable(criterion: &mut Criterion) {
    for (name, key) in KEY_SETS {
        let mut group = criterion.benchmark_group(format!("memtable_{name}"));
        let keys = Keys::new(key, 0..MEMORY_ENTRIES);
        group.sample_size(10);
        group.throughput(Throughput::Elements(MEMORY_ENTRIES));
        group.bench_function("insert", |bencher| {
            bencher.iter_batched(
                Memory::default,
                |memory| {
                    memory.insert(keys.records()).expect("short keys");
                    memory
                },
                BatchSize::PerIteration,
            );
        });
        group.sample_size(100);
        let memory = Memory::default();
        memory.insert(keys.records()).expect("short keys");
        drop(keys);
        let probes = Keys::probes(key, MEMORY_ENTRIES);
        let mut next = probes.cycle();
        group.throughput(Throughput::Elements(1));
        group.bench_function("get", |bencher| {
            bencher.iter(|| {
                let key = next.next().expect("it cycles");
                assert_eq!(memory.get(key), Some(VALUE.len()));
            });
        });
        group.throughput(Throughput::Elements(SCAN_ENTRIES as u64));
        group.bench_function("scan", |bencher| {
            bencher.iter(|| assert_eq!(memory.scan(&[], SCAN_ENTRIES).ok(), Some(SCAN_ENTRIES)));
        });
        group.finish();
    }
}

fn table(criterion: &mut Criterion) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary directory");
    for (name, key) in KEY_SETS {
        let mut sorted: Vec<Vec<u8>> = (0..TABLE_ENTRIES).map(key).collect();
        sorted.sort_unstable();
        for (mode_name, mode) in [("mmap", ReadMode::Mmap), ("pread", ReadMode::Pread)] {
            let records = sorted.iter().map(|key| (key.as_slice(), VALUE.as_slice()));
            let path = dir.path().join(format!("{name}-{mode_name}"));
            let table = Sorted::build(&path, records, mode).expect("a table");
            let probes = Keys::probes(key, TABLE_ENTRIES);
            let mut next = probes.cycle();
            let mut group = criterion.benchmark_group(format!("table_{mode_name}_{name}"));
            group.throughput(Throughput::Elements(1));
            group.bench_function("get", |bencher| {
                bencher.iter(|| {
                    let key = next.next().expect("it cycles");
                    assert_eq!(table.get(key).expect("a read"), Some(VALUE.len()));
                });
            });
            group.throughput(Throughput::Elements(RANGE_ENTRIES as u64));
            group.bench_function("seek_and_10", |bencher| {
                bencher.iter(|| {
                    let key = next.next().expect("it cycles");
                    black_box(table.scan(key, RANGE_ENTRIES).expect("a range"))
                });
            });
            group.throughput(Throughput::Elements(SCAN_ENTRIES as u64));
            group.bench_function("scan", |bencher| {
                bencher.iter(|| {
                    let done = table.scan(&[], SCAN_ENTRIES).expect("a scan");
                    assert_eq!(done, SCAN_ENTRIES);
                });
            });
            group.finish();
        }
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    encoding(&mut criterion);
    memtable(&mut criterion);
    table(&mut criterion);
    criterion.final_summary();
}
