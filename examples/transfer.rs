//! Transfers between accounts from several threads, each an optimistic transaction that is run again if
//! it conflicts. However they interleave, no money appears or disappears.
//!
//! `cargo run --release --example transfer`

use highwater::{Database, Error, Keyspace, Result, Slice, Snapshot};
use std::thread;

const ACCOUNTS: u32 = 16;
const START_CENTS: u64 = 10_000;
const THREADS: u32 = 4;
const TRANSFERS_PER_THREAD: u32 = 250;

fn main() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let db = Database::open(dir.path().join("bank"))?;
    let accounts = db.keyspace("accounts")?;

    let mut tx = db.write()?;
    for account in 0..ACCOUNTS {
        tx.insert(&accounts, account.to_be_bytes(), START_CENTS.to_le_bytes())?;
    }
    tx.commit()?;

    let refused: u32 = thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|number| {
                let (db, accounts) = (&db, &accounts);
                scope.spawn(move || work(db, accounts, u64::from(number)))
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker")).sum::<Result<u32>>()
    })?;

    let expected = u64::from(ACCOUNTS) * START_CENTS;
    let found = total(&db.snapshot(), &accounts)?;
    assert_eq!(found, expected, "money appeared or disappeared");
    let stats = db.stats();
    println!("{} transfers, {refused} refused for want of money", THREADS * TRANSFERS_PER_THREAD);
    println!("{} conflicts, run again until they fitted", stats.conflicts);
    println!("{} commits shared {} syncs", stats.commits, stats.syncs);
    println!("sum before and after: {found} cents");
    db.close()
}

/// Makes transfers between accounts that look random. Returns how many were refused.
fn work(db: &Database, accounts: &Keyspace, seed: u64) -> Result<u32> {
    let mut state = seed;
    let mut refused = 0;
    for _ in 0..TRANSFERS_PER_THREAD {
        let from = random(&mut state) as u32 % ACCOUNTS;
        let to = random(&mut state) as u32 % ACCOUNTS;
        let cents = random(&mut state) % 4_000;
        refused += u32::from(!transfer(db, accounts, from, to, cents)?);
    }
    Ok(refused)
}

/// Moves money. Returns false if there is not enough.
fn transfer(db: &Database, accounts: &Keyspace, from: u32, to: u32, cents: u64) -> Result<bool> {
    // The closure may run several times; it changes nothing but the transaction.
    db.transact(|tx| {
        let available = cents_of(tx.get(accounts, from.to_be_bytes())?)?;
        if available < cents || from == to {
            return Ok(available >= cents);
        }
        let target = cents_of(tx.get(accounts, to.to_be_bytes())?)?;
        tx.insert(accounts, from.to_be_bytes(), (available - cents).to_le_bytes())?;
        tx.insert(accounts, to.to_be_bytes(), (target + cents).to_le_bytes())?;
        Ok(true)
    })
}

fn total(snapshot: &Snapshot, accounts: &Keyspace) -> Result<u64> {
    snapshot.iter(accounts)?.map(|entry| cents_of(Some(entry?.1))).sum()
}

fn cents_of(value: Option<Slice<'_>>) -> Result<u64> {
    let bytes = value.as_deref().and_then(|bytes| bytes.try_into().ok());
    let bytes = bytes.ok_or_else(|| Error::InvalidArgument("no such account".to_owned()))?;
    Ok(u64::from_le_bytes(bytes))
}

fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}
