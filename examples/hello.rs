//! The first steps: open, write, read, and what a transaction that is dropped leaves behind.
//!
//! `cargo run --example hello`

use highwater::{Database, Result};

fn main() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let db = Database::open(dir.path().join("db"))?;
    let books = db.keyspace("books")?;

    // One step is a transaction of its own. It is on the disk when it returns.
    books.insert("0131103628", "The C Programming Language")?;

    // Several steps: all of them or none.
    let mut tx = db.write()?;
    tx.insert(&books, "0201896834", "The Art of Computer Programming 1")?;
    tx.insert(&books, "0201485419", "The Art of Computer Programming (set)")?;
    tx.commit()?;

    // A transaction that is dropped never was.
    let mut tx = db.write()?;
    tx.clear(&books)?;
    drop(tx);

    // A snapshot is one point in commit order; what happens later does not show.
    let snapshot = db.snapshot();
    books.remove("0131103628")?;
    println!("{} books, of them from 02 on:", snapshot.len(&books)?);
    for entry in snapshot.prefix(&books, "02")? {
        let (isbn, title) = entry?;
        println!("  {}  {}", String::from_utf8_lossy(&isbn), String::from_utf8_lossy(&title));
    }
    println!("{} books now", books.len()?);

    drop(snapshot);
    db.close()
}
