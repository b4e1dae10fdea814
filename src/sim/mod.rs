//! Crash tests of your own code: give a workload and an invariant, and the power fails everywhere.
//!
//! A [`CrashTest`] runs your workload once, on a simulated disk ([`SimDisk`]) that records every
//! operation. Then it takes every moment of that run, every legal way in which the disk may have kept
//! what was not synced (up to the limits that you set), and asks your invariant about each different
//! disk. The invariant opens your application on it, as the next process would, your own recovery
//! included, and says whether it may look like that. What one crash left is cut once more while your
//! recovery is at work on it ([`CrashTest::recoveries`]).
//!
//! This finds what no test on a real disk finds: two commits that had to be one, a reply that was sent
//! before its commit was durable, recovery code that cannot be interrupted.
//!
//! # Example
//!
//! An order must take the goods off the shelf. Here that takes two commits, which is a mistake: after a
//! crash between them there is an order without goods.
//!
//! ```
//! use highwater::sim::CrashTest;
//! use highwater::{Database, Result};
//!
//! fn order(db: &Database, number: u64) -> Result<()> {
//!     let (orders, stock) = (db.keyspace("orders")?, db.keyspace("stock")?);
//!     orders.insert(number.to_be_bytes(), "one lamp")?;
//!     stock.remove(number.to_be_bytes())?; // another commit
//!     Ok(())
//! }
//!
//! let test = CrashTest::new("/shop");
//! let broken = test
//!     .check(
//!         |stage| {
//!             let db = stage.open()?;
//!             for number in 0..3_u64 {
//!                 db.keyspace("stock")?.insert(number.to_be_bytes(), "a lamp")?;
//!                 order(&db, number)?;
//!                 stage.acknowledge(number); // the customer was told
//!             }
//!             Ok::<(), highwater::Error>(())
//!         },
//!         |crash| {
//!             let db = crash.open().map_err(|e| e.to_string())?;
//!             let shop = || -> Result<(Vec<u64>, Vec<u64>)> {
//!                 let keys = |name| -> Result<Vec<u64>> {
//!                     let keyspace = db.keyspace(name)?;
//!                     let snapshot = db.snapshot();
//!                     let number = |key: &[u8]| u64::from_be_bytes(key.try_into().unwrap());
//!                     snapshot.iter(&keyspace)?.map(|e| e.map(|(key, _)| number(&key))).collect()
//!                 };
//!                 Ok((keys("orders")?, keys("stock")?))
//!             };
//!             let (orders, stock) = shop().map_err(|e| e.to_string())?;
//!             if let Some(number) = orders.iter().find(|number| stock.contains(number)) {
//!                 return Err(format!("lamp {number} is sold, and still on the shelf"));
//!             }
//!             match crash.acknowledged().iter().find(|number| !orders.contains(number)) {
//!                 Some(number) => Err(format!("order {number} was confirmed, and is gone")),
//!                 None => Ok(()),
//!             }
//!         },
//!     )
//!     .unwrap_err();
//! assert!(broken.what.contains("still on the shelf"), "{broken}");
//! ```
//!
//! With both changes in one [`Database::write`](crate::Database::write) transaction the same test passes.
//!
//! # What it covers, and what not
//!
//! The disk is that of [`crate::fs::sim`]: 512-byte sectors, each of which survives or not for itself, and
//! names and lengths likewise. The death of the process alone, where everything written survives, is one
//! of the ways. The workload runs once and in one thread of the engine, so the test repeats exactly; of
//! code with threads of its own it sees the one order in which they ran. Errors and full disks are not
//! part of it: [`SimDisk::inject`] and [`SimDisk::set_capacity`] make those.

mod broken;
mod run;

pub use crate::fs::sim::{EnumerationLimits, SimDisk};
pub use broken::{Broken, Checked};
pub use run::{Crash, CrashTest, Stage};
