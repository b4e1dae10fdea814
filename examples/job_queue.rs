//! A job queue that survives power loss: a job is waiting, running or done, and moves from one to the
//! next in one transaction. After a crash, running jobs go back to the front of the queue.
//!
//! The power is cut for real here, on the simulated disk that comes with the engine: the application code
//! is the same on both.
//!
//! `cargo run --example job_queue`

use highwater::fs::sim::SimDisk;
use highwater::{Database, Keyspace, Result};
use std::sync::Arc;

struct Queue {
    db: Database,
    waiting: Keyspace,
    running: Keyspace,
    done: Keyspace,
}

impl Queue {
    fn open(disk: &SimDisk) -> Result<Queue> {
        let db = Database::builder().file_system(Arc::new(disk.clone())).open("/queue")?;
        let queue = Queue {
            waiting: db.keyspace("waiting")?,
            running: db.keyspace("running")?,
            done: db.keyspace("done")?,
            db,
        };
        queue.requeue_interrupted()?;
        Ok(queue)
    }

    /// Adds a job behind all others. The number is its place and its name.
    fn push(&self, number: u64, job: &str) -> Result<()> {
        self.waiting.insert(number.to_be_bytes(), job).map(drop)
    }

    /// Takes the first job. From here on it is running, also after a crash.
    fn take(&self) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        let mut tx = self.db.write()?;
        let Some((number, job)) = tx.pop_first(&self.waiting)? else { return Ok(None) };
        tx.insert(&self.running, &number, &job)?;
        tx.commit()?;
        Ok(Some((number, job)))
    }

    /// Marks a job as done.
    fn finish(&self, number: &[u8], result: &str) -> Result<()> {
        let mut tx = self.db.write()?;
        tx.remove(&self.running, number)?;
        tx.insert(&self.done, number, result)?;
        tx.commit().map(drop)
    }

    /// Puts jobs back that were running when the last process ended.
    fn requeue_interrupted(&self) -> Result<()> {
        let mut tx = self.db.write()?;
        while let Some((number, job)) = tx.pop_first(&self.running)? {
            println!("  back into the queue: {}", String::from_utf8_lossy(&job));
            tx.insert(&self.waiting, number, job)?;
        }
        tx.commit().map(drop)
    }

    fn report(&self) -> Result<String> {
        let (waiting, running, done) = (self.waiting.len()?, self.running.len()?, self.done.len()?);
        Ok(format!("{waiting} waiting, {running} running, {done} done"))
    }
}

fn main() -> Result<()> {
    let disk = SimDisk::new();
    let queue = Queue::open(&disk)?;
    for number in 0..6 {
        queue.push(number, &format!("resize image {number}"))?;
    }
    for _ in 0..2 {
        if let Some((number, _)) = queue.take()? {
            queue.finish(&number, "resized")?;
        }
    }
    let interrupted = queue.take()?;
    println!("before the power cut: {}", queue.report()?);
    assert!(interrupted.is_some());

    // What the disk holds if the power fails now: one legal way of many.
    let after_power_cut = disk.power_cut(42);
    println!("power cut");
    let queue = Queue::open(&after_power_cut)?;
    println!("after it: {}", queue.report()?);

    while let Some((number, job)) = queue.take()? {
        println!("  {}", String::from_utf8_lossy(&job));
        queue.finish(&number, "resized")?;
    }
    println!("at the end: {}", queue.report()?);
    assert_eq!(queue.done.len()?, 6, "each job was done, none was lost");
    queue.db.close()
}
