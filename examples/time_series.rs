//! Measurements over time: keys are sensor and timestamp, big-endian, so that byte order is the order of
//! time. A window is a range scan; retention is one range removal, however much it removes.
//!
//! `cargo run --release --example time_series`

use highwater::{Database, Durability, Keyspace, Result, Snapshot};

const SENSORS: u16 = 8;
const MINUTES: u64 = 7 * 24 * 60;
const MINUTE_SECONDS: u64 = 60;
/// 2024-01-01 00:00 UTC, in seconds since 1970.
const START_SECONDS: u64 = 1_704_067_200;

fn main() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let db = Database::open(dir.path().join("measurements"))?;
    let readings = db.keyspace("readings")?;

    // Bulk loading: hand batches to the system, and sync once at the end.
    for hour in 0..MINUTES / 60 {
        let mut tx = db.write()?;
        for minute in hour * 60..(hour + 1) * 60 {
            let time = START_SECONDS + minute * MINUTE_SECONDS;
            for sensor in 0..SENSORS {
                let celsius = temperature(sensor, minute);
                tx.insert(&readings, key(sensor, time), celsius.to_le_bytes())?;
            }
        }
        tx.commit_with(Durability::Buffered)?;
    }
    db.sync()?;
    println!("{} readings of {SENSORS} sensors", readings.len()?);

    let end = START_SECONDS + MINUTES * MINUTE_SECONDS;
    let snapshot = db.snapshot();
    for sensor in [0, SENSORS - 1] {
        let (count, mean) = mean_of(&snapshot, &readings, sensor, end - 3600, end)?;
        println!("sensor {sensor}, last hour: {count} readings, mean {mean:.2} °C");
        // Newest first: ranges can be read from both ends.
        if let Some(newest) = snapshot.prefix(&readings, sensor.to_be_bytes())?.next_back() {
            let (_, value) = newest?;
            println!("sensor {sensor}, last reading: {:.2} °C", celsius_of(&value));
        }
    }
    drop(snapshot);

    // Keep two days: one record for each sensor.
    let oldest = end - 2 * 24 * 3600;
    let mut tx = db.write()?;
    for sensor in 0..SENSORS {
        tx.remove_range(&readings, key(sensor, 0)..key(sensor, oldest))?;
    }
    tx.commit()?;
    println!("{} readings after retention", readings.len()?);

    // What was removed gives its space back with the next merges, or now.
    db.compact()?;
    println!("{} bytes in {} table", db.stats().live_table_bytes, db.stats().tables);
    db.close()
}

fn key(sensor: u16, seconds: u64) -> [u8; 10] {
    let mut key = [0; 10];
    key[..2].copy_from_slice(&sensor.to_be_bytes());
    key[2..].copy_from_slice(&seconds.to_be_bytes());
    key
}

fn mean_of(
    snapshot: &Snapshot,
    readings: &Keyspace,
    sensor: u16,
    from: u64,
    to: u64,
) -> Result<(u32, f64)> {
    let (mut count, mut sum) = (0, 0.0);
    for entry in snapshot.range(readings, key(sensor, from)..key(sensor, to))? {
        sum += celsius_of(&entry?.1);
        count += 1;
    }
    Ok((count, if count == 0 { 0.0 } else { sum / f64::from(count) }))
}

fn celsius_of(value: &[u8]) -> f64 {
    value.try_into().map_or(f64::NAN, f64::from_le_bytes)
}

/// A day's curve, some degrees apart for each sensor.
fn temperature(sensor: u16, minute: u64) -> f64 {
    let day = (minute % 1440) as f64 / 1440.0;
    12.0 + f64::from(sensor) - 6.0 * (std::f64::consts::TAU * day).cos()
}
