//! Quick looks at speed, not run by default:
//! `cargo test --release --lib memtable::speed -- --ignored --nocapture --test-threads 1`.

use super::tests::aimed;
use super::{Batch, Memtable, NewEntry};
use crate::cursor::Cursor;
use crate::types::{KeyspaceId, Seqno};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

const SPACE: KeyspaceId = KeyspaceId(1);
const COUNT: u64 = 1_000_000;
const VALUE: [u8; 150] = [7; 150];

type KeySet = (&'static str, fn(u64) -> Vec<u8>);

const KEY_SETS: &[KeySet] = &[
    ("random 24 bytes", |number| {
        let mixed = mix(number);
        [mixed, mix(mixed), mix(mixed ^ 1)].iter().flat_map(|part| part.to_be_bytes()).collect()
    }),
    ("ascending u64", |number| number.to_be_bytes().to_vec()),
    ("descending u64", |number| (u64::MAX - number).to_be_bytes().to_vec()),
    ("URLs, random", |number| {
        let number = mix(number) % 1_000_000_007;
        format!("https://www.example.com/articles/{:04}/{number:010}", number % 1000).into_bytes()
    }),
    ("URLs, ascending", |number| {
        format!("https://www.example.com/articles/{:04}/{number:010}", number / 1000).into_bytes()
    }),
];

/// Splitmix64's finish.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// Nanoseconds per item.
fn per_item(count: u64, body: impl FnOnce()) -> f64 {
    let start = Instant::now();
    body();
    start.elapsed().as_nanos() as f64 / count as f64
}

/// Keys of one length one behind the other in the order of their use, so that fetching the key that is
/// looked for costs nothing.
struct Keys {
    bytes: Vec<u8>,
    key_bytes: usize,
}

impl Keys {
    fn new(key: fn(u64) -> Vec<u8>, numbers: impl Iterator<Item = u64>) -> Keys {
        Keys { bytes: numbers.flat_map(key).collect(), key_bytes: key(0).len() }
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks_exact(self.key_bytes)
    }
}

#[test]
#[ignore = "a benchmark"]
fn by_key_set() {
    let count: u64 = std::env::var("COUNT").ok().and_then(|it| it.parse().ok()).unwrap_or(COUNT);
    let lookups = 500_000;
    // A virtual machine's first use of memory costs more than any later one.
    black_box(vec![1u8; 1 << 30]);
    let only = std::env::var("ONLY").unwrap_or_default();
    for (name, key) in KEY_SETS.iter().filter(|(name, _)| name.contains(&only)) {
        let keys = Keys::new(*key, 0..count);
        let present = Keys::new(*key, (0..lookups).map(|number| mix(number) % count));
        let absent = Keys::new(*key, (0..lookups).map(|number| count + mix(number) % count));
        let memtable = Memtable::new();
        let insert = per_item(count, || {
            let mut writer = memtable.writer();
            for (number, key) in keys.iter().enumerate() {
                writer.insert(SPACE, key, Seqno(number as u64), Some(&VALUE)).unwrap();
            }
        });
        let get = |keys: &Keys| {
            per_item(lookups, || {
                for key in keys.iter() {
                    black_box(memtable.get(SPACE, key, Seqno::MAX));
                }
            })
        };
        let (hit, miss) = (get(&present), get(&absent));
        let keyspace = memtable.directory.get(SPACE).unwrap();
        let get_unfiltered = |keys: &Keys| {
            per_item(lookups, || {
                for key in keys.iter() {
                    black_box(keyspace.entries.get(key));
                }
            })
        };
        let (tree_hit, tree_miss) = (get_unfiltered(&present), get_unfiltered(&absent));
        let mut cursor = memtable.cursor(SPACE, Seqno::MAX);
        let mut bytes = 0;
        let next = per_item(count, || {
            cursor.first().unwrap();
            while cursor.is_valid() {
                bytes += cursor.key().len();
                cursor.next().unwrap();
            }
        });
        let prev = per_item(count, || {
            cursor.last().unwrap();
            while cursor.is_valid() {
                bytes += cursor.key().len();
                cursor.prev().unwrap();
            }
        });
        black_box(bytes);
        let payload = keys.bytes.len() + VALUE.len() * count as usize;
        let overhead = memtable.bytes() as f64 / payload as f64;
        let update = per_item(lookups, || {
            let mut writer = memtable.writer();
            for key in present.iter() {
                writer.insert(SPACE, key, Seqno(count), Some(&VALUE)).unwrap();
            }
        });
        println!(
            "{name:16} insert {insert:4.0}  update {update:4.0}  hit {hit:4.0} (tree {tree_hit:4.0})  \
             miss {miss:4.0} (tree {tree_miss:4.0})  next {next:5.1}  prev {prev:5.1} ns; \
             memory {overhead:.2} x payload"
        );
    }
}

/// The three ways to insert: new keys and all of them again, scattered and in order, and one key for ever.
#[test]
#[ignore = "a benchmark"]
fn by_way() {
    let count = 200_000;
    black_box(vec![1u8; 1 << 30]);
    let insert = |way: &str, memtable: &Memtable, keys: &[Vec<u8>], seqno| {
        let mut writer = memtable.writer();
        let entry = |key| NewEntry { keyspace: SPACE, key, value: Some(&VALUE) };
        match way {
            "batch" => {
                let mut batch = Batch::new(&mut writer, seqno);
                keys.iter().for_each(|key| batch.push(entry(key)).unwrap());
                batch.finish().unwrap();
            }
            "aimed" => keys.iter().for_each(|key| {
                aimed(&mut writer, seqno, entry(key)).unwrap();
            }),
            _ => keys.iter().for_each(|key| {
                writer.insert(SPACE, key, seqno, Some(&VALUE)).unwrap();
            }),
        }
    };
    for (name, key) in KEY_SETS {
        let scattered: Vec<_> = (0..count).map(key).collect();
        let mut sorted = scattered.clone();
        sorted.sort();
        for way in ["alone", "batch", "aimed"] {
            let memtable = Memtable::new();
            let run = |keys: &[Vec<u8>], seqno| {
                per_item(count, || insert(way, &memtable, keys, Seqno(seqno)))
            };
            let (new, again, in_order) = (run(&scattered, 1), run(&scattered, 2), run(&sorted, 3));
            let one = vec![sorted[count as usize / 2].clone(); count as usize];
            let one = run(&one, 4);
            println!(
                "{name:16} {way:8} new {new:4.0}  again {again:4.0}  in order {in_order:4.0}  one key {one:4.0} ns"
            );
        }
    }
}

#[test]
#[ignore = "a benchmark"]
fn of_a_btree_map() {
    let (name, key) = KEY_SETS[0];
    let keys = Keys::new(key, 0..COUNT);
    let present = Keys::new(key, (0..COUNT).map(|number| mix(number) % COUNT));
    let mut map = BTreeMap::new();
    let insert = per_item(COUNT, || {
        for key in keys.iter() {
            map.insert(key.to_vec(), VALUE.to_vec());
        }
    });
    let hit = per_item(COUNT, || {
        for key in present.iter() {
            black_box(map.get(key).unwrap());
        }
    });
    println!("{name:16} BTreeMap: insert {insert:.0}  hit {hit:.0} ns");
}

#[test]
#[ignore = "a benchmark"]
fn of_small_write_sets() {
    for size in [1u64, 5, 100] {
        let rounds = 200_000 / size;
        let whole = per_item(rounds, || {
            for round in 0..rounds {
                let memtable = Memtable::new();
                let mut writer = memtable.writer();
                for number in 0..size {
                    let key = mix(round * size + number).to_be_bytes();
                    writer.insert(SPACE, &key, Seqno(1), Some(&VALUE)).unwrap();
                }
                drop(writer);
                black_box(memtable.get(SPACE, b"absent", Seqno::MAX));
            }
        });
        println!(
            "({} bytes by themselves) write set of {size:3}: make, fill, read, drop: {whole:.0} ns",
            size_of::<Memtable>()
        );
    }
}
