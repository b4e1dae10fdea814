//! The process that trials kill: opens the database, goes on with the history without end, and says what it
//! was promised.
//!
//! After each commit it prints `ack NUMBER` in one write, before the same thread begins another: beyond the
//! acknowledgements that were printed there is at most one commit for each thread. Every commit is at
//! least handed to the system, so that all of them survive the death of the process.

use crate::history::{self, Spaces};
use crate::random::Random;
use highwater::{Builder, Database};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Mutex;

/// How a life goes.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    /// Of the history.
    pub seed: u64,
    /// Of everything that is not part of the history.
    pub whim: u64,
    /// Threads that commit.
    pub threads: u64,
}

/// How all trials open their databases: so small that logs, checkpoints and merges are always under way.
pub fn builder() -> Builder {
    Database::builder().memory_budget(1 << 20).segment_size(1 << 20).table_size(64 << 10)
}

/// Lives until killed.
pub fn live(dir: &Path, life: Life) -> Result<(), String> {
    let db = builder().open(dir).map_err(|e| format!("open: {e}"))?;
    let spaces = Spaces::create(&db).map_err(|e| e.to_string())?;
    let number = Mutex::new(history::number_in(&db)?);
    say("open\n")?;
    std::thread::scope(|scope| {
        let (db, spaces, number) = (&db, &spaces, &number);
        let threads: Vec<_> = (0..life.threads)
            .map(|thread| {
                let mut random = Random::new(life.whim, thread);
                scope.spawn(move || -> Result<(), String> {
                    loop {
                        commit(db, spaces, number, life.seed)?;
                        if random.one_in(30) {
                            db.checkpoint().map_err(|e| format!("checkpoint: {e}"))?;
                        } else if random.one_in(200) {
                            db.compact().map_err(|e| format!("compact: {e}"))?;
                        }
                    }
                })
            })
            .collect();
        for thread in threads {
            // The other threads would go on.
            if let Err(what) = thread.join().unwrap_or_else(|_| Err("a panic".to_owned())) {
                eprintln!("{what}");
                std::process::exit(1);
            }
        }
        Ok(())
    })
}

fn commit(db: &Database, spaces: &Spaces, last: &Mutex<u64>, seed: u64) -> Result<(), String> {
    let mut tx = db.write().map_err(|e| format!("begin: {e}"))?;
    // The gate is ours: the number is the place in commit order.
    let number = {
        let mut last = last.lock().map_err(|_| "a panic elsewhere")?;
        *last += 1;
        *last
    };
    history::write(&mut tx, spaces, seed, number).map_err(|e| format!("write: {e}"))?;
    tx.commit_with(history::durability(number)).map_err(|e| format!("commit: {e}"))?;
    say(&format!("ack {number}\n"))
}

/// Prints a line in one write.
pub fn say(line: &str) -> Result<(), String> {
    let mut output = io::stdout().lock();
    let said = output.write_all(line.as_bytes()).and_then(|()| output.flush());
    said.map_err(|e| format!("nobody listens: {e}"))
}
