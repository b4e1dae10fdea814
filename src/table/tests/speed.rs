//! Figures, not checks: `cargo test --release table_speed -- --ignored --nocapture`.
//!
//! The file is mapped as the process sees it: `Mapping::Copied` here, so the figures leave out the page
//! faults of a real mapping.

use super::{DATABASE, FILE_ID, MemoryFile, Random, path, table};
use crate::cursor::Cursor;
use crate::table::{Found, ReadMode, TableBuilder, TableOptions, key_hash};
use crate::types::KeyspaceId;
use parking_lot::Mutex;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

const GETS: usize = 2_000_000;
const KEYSPACE: KeyspaceId = KeyspaceId(1);

#[test]
#[ignore = "measures; takes a minute in release mode"]
fn table_speed() {
    let records = std::env::var("RECORDS").map_or(5_000_000, |text| text.parse().unwrap());
    let mut random = Random(42);
    let mut keys: Vec<[u8; 24]> =
        (0..records).map(|_| *random.bytes(24).first_chunk().unwrap()).collect();
    keys.sort_unstable();
    let block_bytes = std::env::var("BLOCK_BYTES").map_or(16 << 10, |text| text.parse().unwrap());
    let filter = std::env::var("FILTER").is_ok();
    let value = random.bytes(150);
    let file = Arc::new(MemoryFile { bytes: Mutex::new(Vec::with_capacity(records * 190)) });
    let options = TableOptions { block_bytes, filter };
    let started = Instant::now();
    let mut builder = TableBuilder::new(file.clone(), path(), DATABASE, FILE_ID, options);
    for key in &keys {
        builder.add(KEYSPACE, key, Some(&value)).unwrap();
    }
    let meta = builder.finish().unwrap();
    let seconds = started.elapsed().as_secs_f64();
    println!("{options:?}");
    println!("build    {:8.2} M records/s", records as f64 / seconds / 1e6);
    let ratio = meta.file_bytes as f64 / (records * 174) as f64;
    println!("file     {ratio:8.4} of key and value bytes");

    let bytes = std::mem::take(&mut *file.bytes.lock());
    let table = table(bytes, &meta, ReadMode::Mmap);
    let started = Instant::now();
    table.sections().unwrap();
    println!("load     {:8.2} ms", started.elapsed().as_secs_f64() * 1e3);
    let started = Instant::now();
    let mut cursor = table.cursor(KEYSPACE).unwrap();
    let mut count = 0;
    cursor.first().unwrap();
    while cursor.is_valid() {
        count += 1;
        cursor.next().unwrap();
    }
    assert_eq!(count, records);
    println!("1st scan {:8.2} ns/entry", started.elapsed().as_secs_f64() * 1e9 / records as f64);
    let mut sum = 0;
    let rounds = 5_000_000_usize.div_ceil(records);
    for is_read in [false, true] {
        let started = Instant::now();
        for _ in 0..rounds {
            cursor.first().unwrap();
            while cursor.is_valid() {
                sum += if is_read { usize::from(cursor.key()[0]) } else { 1 };
                cursor.next().unwrap();
            }
        }
        black_box(sum);
        let nanos = started.elapsed().as_secs_f64() * 1e9 / (rounds * records) as f64;
        println!("scan     {nanos:8.2} ns/entry, keys read: {is_read}");
    }
    println!("resident {:8.2} bytes/block of index", {
        table.index_bytes() as f64 / table.check(&mut |_| {}).unwrap().data_blocks as f64
    });

    let order: Vec<u32> = (0..GETS).map(|_| random.below(records as u64) as u32).collect();
    let wanted: Vec<[u8; 24]> = order.iter().map(|place| keys[*place as usize]).collect();
    drop(keys);
    for _ in 0..3 {
        let started = Instant::now();
        for key in &wanted {
            match table.get(KEYSPACE, key, key_hash(KEYSPACE, key)).unwrap() {
                Some(Found::Value(value)) => sum += usize::from(value[0]),
                _ => panic!("a key is missing"),
            }
        }
        black_box(sum);
        println!("get hit  {:8.2} ns", started.elapsed().as_secs_f64() * 1e9 / GETS as f64);
    }
    let misses: Vec<[u8; 24]> =
        (0..GETS).map(|_| *random.bytes(24).first_chunk().unwrap()).collect();
    let started = Instant::now();
    for key in &misses {
        assert!(table.get(KEYSPACE, key, key_hash(KEYSPACE, key)).unwrap().is_none());
    }
    println!("get miss {:8.2} ns", started.elapsed().as_secs_f64() * 1e9 / GETS as f64);
    plain_loop(records, &wanted);
}

/// What one record at a random place costs by itself: two cache misses, the second address known only
/// after the first; once with several reads in flight, once with each waiting for the one before.
fn plain_loop(records: usize, wanted: &[[u8; 24]]) {
    let places_count = records as u64;
    let records = vec![[1_u8; 174]; records];
    let places: Vec<u32> =
        (0..places_count).map(|place| (place * 7_919 % places_count) as u32).collect();
    for is_chained in [false, true] {
        let started = Instant::now();
        let (mut sum, mut last) = (0, 1_u8);
        for key in wanted {
            // `last` is always 1, but only arithmetic knows.
            let hash =
                key_hash(KEYSPACE, key) ^ u64::from(last ^ 1) << (if is_chained { 40 } else { 0 });
            let place = places[(((hash >> 32) * places_count) >> 32) as usize];
            last = records[place as usize][30];
            sum += usize::from(last);
        }
        black_box(sum);
        let nanos = started.elapsed().as_secs_f64() * 1e9 / wanted.len() as f64;
        println!("plain    {nanos:8.2} ns, chained: {is_chained}");
    }
}
