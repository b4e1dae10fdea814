//! A crash test of an application: a small shop with two keyspaces, tried with a mistake and without.
//!
//! Selling a lamp takes it off the shelf and writes the order. The careless shop does it in two commits,
//! and replies before the order is on the disk. The crash test runs the shop once, cuts the power at every
//! operation in every legal way, opens what is left, and asks whether the books still balance.
//!
//! `cargo run --release --example crash_test`

use highwater::sim::{Crash, CrashTest, Stage};
use highwater::{Database, Durability, Keyspace, Result};

/// Lamps at the beginning.
const LAMPS: u64 = 4;

struct Shop {
    db: Database,
    shelf: Keyspace,
    orders: Keyspace,
}

/// How a lamp is sold.
type Sell = fn(&Shop, u64) -> Result<()>;

impl Shop {
    fn open(db: Database) -> Result<Shop> {
        Ok(Shop { shelf: db.keyspace("shelf")?, orders: db.keyspace("orders")?, db })
    }

    fn fill(&self) -> Result<()> {
        let mut tx = self.db.write()?;
        for lamp in 0..LAMPS {
            tx.insert(&self.shelf, lamp.to_be_bytes(), "a lamp")?;
        }
        tx.commit().map(drop)
    }

    /// Mistake: two commits. A crash between them loses the lamp.
    fn sell_in_two_steps(&self, lamp: u64) -> Result<()> {
        self.shelf.remove(lamp.to_be_bytes())?;
        self.orders.insert(lamp.to_be_bytes(), "paid")?;
        Ok(())
    }

    /// Mistake: one commit, but the customer hears of it before it is on the disk.
    fn sell_too_early(&self, lamp: u64) -> Result<()> {
        self.sell_with(lamp, Durability::Buffered)
    }

    /// As it should be.
    fn sell(&self, lamp: u64) -> Result<()> {
        self.sell_with(lamp, Durability::Sync)
    }

    fn sell_with(&self, lamp: u64, durability: Durability) -> Result<()> {
        let mut tx = self.db.write()?;
        tx.remove(&self.shelf, lamp.to_be_bytes())?;
        tx.insert(&self.orders, lamp.to_be_bytes(), "paid")?;
        tx.commit_with(durability).map(drop)
    }
}

/// A day in the shop. The promise of a sale is the lamp's number; that of the filled shelf is `LAMPS`.
fn day(stage: &Stage, sell: Sell) -> Result<()> {
    let shop = Shop::open(stage.open()?)?;
    shop.fill()?;
    stage.acknowledge(LAMPS);
    for lamp in 0..LAMPS {
        sell(&shop, lamp)?;
        stage.acknowledge(lamp);
    }
    shop.db.close()
}

/// The books after a crash: each lamp is on the shelf or sold, never both, never neither; what was
/// promised is sold.
fn books(crash: &Crash) -> std::result::Result<(), String> {
    let error = |error: highwater::Error| error.to_string();
    let shop = Shop::open(crash.open().map_err(error)?).map_err(error)?;
    let promised = crash.acknowledged();
    for lamp in 0..LAMPS {
        let there = |keyspace: &Keyspace| keyspace.contains(lamp.to_be_bytes()).map_err(error);
        match (there(&shop.shelf)?, there(&shop.orders)?) {
            (true, true) => return Err(format!("lamp {lamp} is sold, and still on the shelf")),
            (false, false) if promised.contains(&LAMPS) => {
                return Err(format!("lamp {lamp} has vanished"));
            }
            (_, false) if promised.contains(&lamp) => {
                return Err(format!("lamp {lamp} was promised, and its order is gone"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn main() {
    let test = CrashTest::new("/shop").recoveries(20);
    let careless: [(&str, Sell, &str); 2] = [
        ("two commits for one sale", Shop::sell_in_two_steps, "has vanished"),
        ("a reply before the sync", Shop::sell_too_early, "was promised"),
    ];
    for (mistake, sell, expected) in careless {
        let broken = test.check(|stage| day(stage, sell), books).expect_err("the mistake is there");
        println!("{mistake}: found\n{broken}");
        assert!(broken.what.contains(expected), "found something else: {broken}");
    }
    match test.check(|stage| day(stage, Shop::sell), books) {
        Ok(checked) => {
            println!("the careful shop: nothing found in {checked:?}");
            assert!(checked.images > 150 && checked.recovery_images > 100, "{checked:?}");
        }
        Err(broken) => panic!("the careful shop is broken: {broken}"),
    }
}
