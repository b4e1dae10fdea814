//! What must be in the database: the records by key, and what a read of them must give.

use crate::engine::{Engine, Outcome};
use crate::records::{KEY_BYTES, Random, STANDARD, Shape, digest};
use xxhash_rust::xxh3::xxh3_64;

/// One record that must be there.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its key.
    pub key: [u8; KEY_BYTES],
    /// Its number.
    pub number: u64,
    /// What a timed read remembers of the value.
    pub digest: u64,
    /// A hash of every byte of the value.
    pub hash: u64,
}

/// All records of the standard shape that must be there, in key order.
#[derive(Debug, Default)]
pub struct Model {
    entries: Vec<Entry>,
}

impl Model {
    /// The records of a range of numbers.
    pub fn of(numbers: std::ops::Range<u64>) -> Model {
        let mut model = Model::default();
        model.add(numbers);
        model
    }

    /// Adds the records of a range of numbers, none of which is there.
    pub fn add(&mut self, numbers: std::ops::Range<u64>) {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        self.entries.extend(numbers.map(|number| {
            STANDARD.key(number, &mut key);
            STANDARD.value(number, 0, &mut value);
            let mut fixed = [0; KEY_BYTES];
            fixed.copy_from_slice(&key);
            Entry { key: fixed, number, digest: digest(&value), hash: xxh3_64(&value) }
        }));
        self.entries.sort_unstable_by_key(|entry| entry.key);
    }

    /// The records in key order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Keeps the records for which `keep` is true, asked in key order with the place of each.
    pub fn retain(&mut self, mut keep: impl FnMut(usize, &Entry) -> bool) {
        let mut place = 0;
        self.entries.retain(|entry| {
            place += 1;
            keep(place - 1, entry)
        });
    }

    /// Takes records away from both ends.
    pub fn cut(&mut self, front: usize, back: usize) {
        self.entries.truncate(self.entries.len() - back);
        self.entries.drain(..front);
    }

    /// Reads the whole database and fails unless it holds exactly these records, every byte of them, in
    /// key order.
    ///
    /// # Errors
    /// Of the engine, and if anything differs.
    pub fn verify<E: Engine>(&self, engine: &E, after: &str) -> Outcome {
        let mut place = 0;
        let mut wrong = None;
        let count = engine.read(|reader| {
            E::scan(reader, &[0], u64::MAX, |key, value| {
                let expected = self.entries.get(place);
                let same = |entry: &Entry| entry.key == key && entry.hash == xxh3_64(value);
                if !expected.is_some_and(same) && wrong.is_none() {
                    wrong = Some(place);
                }
                place += 1;
            })
        })?;
        if let Some(place) = wrong {
            return Err(format!("{} after {after}: wrong entry at place {place}", E::NAME).into());
        }
        let expected = self.entries.len() as u64;
        if count != expected {
            let what = format!("{} after {after}: {count} records, not {expected}", E::NAME);
            return Err(what.into());
        }
        Ok(())
    }
}

/// Keys to read, and what each read must give; laid out so that a timed loop walks them in order.
#[derive(Clone, Debug)]
pub struct Probes {
    stride: usize,
    keys: Vec<u8>,
    expected: Vec<u64>,
}

impl Probes {
    /// Records by number.
    pub fn of_numbers(shape: Shape, numbers: impl Iterator<Item = u64>) -> Probes {
        Probes::with(shape, numbers, |number, value| {
            shape.value(number, 0, value);
            digest(value)
        })
    }

    /// Records by number; expected is what `expect` makes of each, which may use the buffer.
    pub fn with(
        shape: Shape,
        numbers: impl Iterator<Item = u64>,
        mut expect: impl FnMut(u64, &mut Vec<u8>) -> u64,
    ) -> Probes {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let mut probes =
            Probes { stride: shape.key_bytes(), keys: Vec::new(), expected: Vec::new() };
        for number in numbers {
            shape.key(number, &mut key);
            probes.keys.extend_from_slice(&key);
            probes.expected.push(expect(number, &mut value));
        }
        probes
    }

    /// Entries by place in the model, drawn at random; each stands for itself.
    pub fn points(model: &Model, count: u64, random: &mut Random) -> Probes {
        Probes::ranges(model, count, 1, random)
    }

    /// Ranges that start at entries drawn at random; expected is the sum over up to `length` entries.
    pub fn ranges(model: &Model, count: u64, length: usize, random: &mut Random) -> Probes {
        let entries = model.entries();
        let mut probes = Probes { stride: KEY_BYTES, keys: Vec::new(), expected: Vec::new() };
        for _ in 0..count {
            let place = random.below(entries.len() as u64) as usize;
            let end = (place + length).min(entries.len());
            let sum =
                entries[place..end].iter().fold(0_u64, |sum, entry| sum.wrapping_add(entry.digest));
            probes.keys.extend_from_slice(&entries[place].key);
            probes.expected.push(sum);
        }
        probes
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.expected.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.expected.is_empty()
    }

    /// The probe at a place.
    #[inline]
    pub fn at(&self, place: usize) -> (&[u8], u64) {
        (&self.keys[place * self.stride..][..self.stride], self.expected[place])
    }

    /// Reads each key of a part of the probes, and fails if any value is not what it must be.
    ///
    /// # Errors
    /// Of the engine, and if a value is wrong or missing.
    pub fn read<E: Engine>(
        &self,
        reader: &mut E::Reader<'_>,
        part: std::ops::Range<usize>,
    ) -> Outcome {
        let mut wrong = 0_u64;
        for place in part {
            let (key, expected) = self.at(place);
            wrong += u64::from(E::get(reader, key, |value| value.map(digest))? != Some(expected));
        }
        refuse(E::NAME, wrong, "reads")
    }

    /// Scans up to `length` entries from each key on, and fails if their values are not what they must be.
    ///
    /// # Errors
    /// Of the engine, and if a range is wrong.
    pub fn scan<E: Engine>(&self, reader: &mut E::Reader<'_>, length: u64) -> Outcome {
        let mut wrong = 0_u64;
        for place in 0..self.len() {
            let (key, expected) = self.at(place);
            let mut sum = 0_u64;
            E::scan(reader, key, length, |key, value| {
                sum = sum.wrapping_add(digest(value));
                std::hint::black_box(key);
            })?;
            wrong += u64::from(sum != expected);
        }
        refuse(E::NAME, wrong, "ranges")
    }
}

/// Fails if anything was wrong.
pub fn refuse(engine: &str, wrong: u64, what: &str) -> Outcome {
    match wrong {
        0 => Ok(()),
        wrong => Err(format!("{engine}: {wrong} {what} gave wrong data").into()),
    }
}
