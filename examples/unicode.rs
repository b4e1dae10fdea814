//! Real data with an index: the Unicode character database, 34,924 records, by code point and by name,
//! in one transaction across two keyspaces.
//!
//! `cargo run --release --example unicode`

use highwater::{Database, Result};
use std::io::Read;

/// `UnicodeData.txt`, compressed. Its licence lies beside it.
const DATA: &[u8] = include_bytes!("../crates/cli/data/UnicodeData.txt.gz");

fn main() -> Result<()> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(DATA)
        .read_to_string(&mut text)
        .expect("the shipped data is sound");

    let dir = tempfile::tempdir().expect("a temporary directory");
    let db = Database::open(dir.path().join("unicode"))?;
    let (characters, names) = (db.keyspace("characters")?, db.keyspace("names")?);

    // Record and index entry are there together or not at all, also after a crash.
    let mut tx = db.write()?;
    for line in text.lines() {
        let mut fields = line.split(';');
        let (Some(code), Some(name)) = (fields.next(), fields.next()) else { continue };
        let point = u32::from_str_radix(code, 16).expect("a code point in hexadecimal");
        tx.insert(&characters, point.to_be_bytes(), line)?;
        if !name.starts_with('<') {
            tx.insert(&names, name, point.to_be_bytes())?;
        }
    }
    let lsn = tx.commit()?;
    println!("{} characters, {} names, durable at LSN {lsn}", characters.len()?, names.len()?);

    let snapshot = db.snapshot();
    println!("Characters whose names start with GREEK SMALL LETTER O:");
    for entry in snapshot.prefix(&names, "GREEK SMALL LETTER O")?.take(5) {
        let (name, point) = entry?;
        let point = u32::from_be_bytes(point[..].try_into().expect("four bytes"));
        let shown = char::from_u32(point).unwrap_or(' ');
        println!("  U+{point:04X} {shown} {}", String::from_utf8_lossy(&name));
    }
    // The key is the code point, big-endian: a range of keys is a range of code points.
    let block = 0x2190_u32.to_be_bytes()..0x2200_u32.to_be_bytes();
    println!("{} characters in the Arrows block", snapshot.range(&characters, block)?.count());
    drop(snapshot);
    db.close()
}
