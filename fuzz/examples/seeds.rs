//! Writes the seed corpus: pieces of real databases for the decoders, and short scripts for the others.
//!
//! `cargo run --manifest-path fuzz/Cargo.toml --no-default-features --example seeds`

use highwater::fs::sim::SimDisk;
use highwater::{Database, Durability};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn main() -> io::Result<()> {
    let disk = SimDisk::new();
    fill(&disk).map_err(io::Error::other)?;
    for (path, _) in disk.files() {
        let bytes = disk.read_file(&path)?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_default();
        if name == "MANIFEST" {
            seed("manifest", &name, &[&[0], bytes.as_slice()])?;
            seed("manifest", "mended", &[&[1], bytes.as_slice()])?;
        } else if name.starts_with("table-") {
            seed("table", &name, &[&[0], bytes.as_slice()])?;
            seed("table", &format!("{name}-mended"), &[&[1], bytes.as_slice()])?;
        } else if name.starts_with("log-") {
            seed("group", &name, &[&[2], &bytes[..4096]])?;
            groups(&name, &bytes)?;
        }
    }
    for (number, script) in SCRIPTS.iter().enumerate() {
        seed("operations", &number.to_string(), &[script])?;
    }
    for (number, script) in FAULTS.iter().enumerate() {
        seed("faults", &number.to_string(), &[script])?;
    }
    for (number, (form, text)) in RECORDS.iter().enumerate() {
        // Pieces of one byte, and the whole.
        seed("import", &format!("{number}-bytes"), &[&[*form], text.as_bytes()])?;
        seed("import", &number.to_string(), &[&[form | 0xfe], text.as_bytes()])?;
    }
    for template in 0..5_u8 {
        seed("recovery", &format!("{template}-as-it-is"), &[&[template]])?;
        for kind in [0, 1, 2, 5, 7, 8, 0x88] {
            let edit = [1, kind, 0, 0x10, 0x20, 0xff, 0x01, kind & 1];
            seed("recovery", &format!("{template}-{kind}"), &[&[template], &edit])?;
        }
    }
    Ok(())
}

/// Transactions with reopenings, deaths and power cuts between them.
const SCRIPTS: [&[u8]; 4] = [
    &[0, 0, 2, 0, 1, 5, 0, 2, 6, 3, 1, 0, 15, 7, 0, 1, 1, 0, 3, 9, 1, 14, 7, 13, 7],
    &[0, 0, 0, 0, 1, 255, 0, 8, 0, 0, 0, 0, 2, 9, 1, 9, 15, 3, 7, 12, 0, 7, 15, 1],
    &[1, 1, 11, 0, 1, 200, 0, 2, 201, 0, 3, 130, 4, 1, 3, 7, 5, 6, 7, 0, 4, 4, 2, 15, 9, 7],
    &[2, 2, 1, 0, 1, 1, 0, 2, 2, 2, 14, 13, 2, 2, 1, 4, 0, 15, 1, 1, 10, 11, 15, 2, 8, 9, 7],
];

/// Commits between faults: a failed sync of the log that forgets its pages, a full disk, a failed rename.
const FAULTS: [&[u8]; 4] = [
    &[0, 1, 2, 3, 18, 4, 5, 0, 0, 1, 9, 1, 0, 0, 34, 7, 0, 0, 50, 8, 14, 0, 0, 2, 9],
    &[0, 3, 66, 1, 66, 2, 8, 20, 0, 3, 66, 3, 66, 4, 10, 9, 0, 0, 2, 1, 11, 15, 7],
    &[0, 0, 2, 1, 6, 0, 1, 2, 2, 0, 10, 0, 0, 3, 9, 10, 13, 0, 0, 0, 18, 5, 15, 3],
    &[7, 9, 7, 3, 5, 130, 0, 2, 83, 1, 19, 2, 34, 3, 12, 10, 9, 11, 5, 0, 4, 5, 31, 0, 0, 0, 2, 4],
];

/// Forms (0: JSON Lines, 1: CSV) and records.
const RECORDS: [(u8, &str); 5] = [
    (0, "{\"key\": \"ada\", \"value\": \"1815\"}\n{\"key_hex\":\"00ff\",\"value_hex\":\"\"}\n\n"),
    (
        0,
        "\u{feff}{\"value\":\"\\u00e9\\n\",\"key\":\"\"}\r\nnot a record\n{\"key\":\"k\",\"value\":\"v\"}",
    ),
    (1, "key,value\nada,1815\n\"a \"\"b\"\"\",\"1\n2\"\n"),
    (1, "\u{feff}value_encoding,key,value,key_encoding\r\nhex,k,00ff,text\r\n,0g,x,hex\r\n"),
    (1, "key,value\nopen,\"quote\n"),
];

fn groups(name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut at = 4096;
    let mut number = 0;
    while at + 80 <= bytes.len() && number < 12 {
        if !bytes[at..].starts_with(b"HWgroup1") {
            at += 8;
            continue;
        }
        let body = bytes[at + 60..at + 64].try_into().map_or(0, u32::from_le_bytes) as usize;
        let end = (at + 80 + body).next_multiple_of(8).min(bytes.len());
        seed("group", &format!("{name}-{number}"), &[&[(number % 2) as u8], &bytes[at..end]])?;
        number += 1;
        at = end;
    }
    Ok(())
}

fn seed(target: &str, name: &str, parts: &[&[u8]]) -> io::Result<()> {
    let dir: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join(format!("seed-{name}")), parts.concat())
}

fn fill(disk: &SimDisk) -> highwater::Result<()> {
    let builder = Database::builder().file_system(Arc::new(disk.clone())).background(false);
    let db = builder.memory_budget(1 << 20).open("/db")?;
    let users = db.keyspace("users")?;
    let items = db.keyspace("items")?;
    for round in 0..3_u8 {
        let mut tx = db.write()?;
        for number in 0..20_u32 {
            tx.insert(&users, number.to_be_bytes(), [round; 8])?;
            tx.insert(&items, [round, number as u8], vec![round; number as usize * 3])?;
        }
        tx.insert(&items, "large", vec![round; 9_000])?;
        tx.remove(&users, 3_u32.to_be_bytes())?;
        tx.remove_range(&users, [0, 0, 0, 9]..[0, 0, 0, 12])?;
        tx.commit()?;
        db.checkpoint()?;
    }
    let mut tx = db.write()?;
    tx.insert(&users, "a", "1")?;
    tx.commit_with(Durability::Buffered)?;
    let dropped = db.keyspace("dropped")?;
    db.drop_keyspace(&dropped)?;
    db.maintain()
}
