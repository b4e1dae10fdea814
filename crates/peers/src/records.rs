//! Seeded records: what is stored, and what must come back.
//!
//! A record is known by its number; its key and its value follow from it, so that a check needs no copy of
//! the data. Key shapes: random bytes, numbers in sequence, long shared prefixes.

/// A small, fast, seeded generator (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(limit)) >> 64) as u64
    }
}

/// Length of the keys, in bytes.
pub const KEY_BYTES: usize = 24;
/// Length of the values, in bytes.
pub const VALUE_BYTES: usize = 150;

/// Record `number` of a seeded set: a random key, and a value that tells the record and its version.
pub fn record(number: u64, version: u64) -> ([u8; KEY_BYTES], [u8; VALUE_BYTES]) {
    let mut random = Random(number.wrapping_mul(0xa076_1d64_78bd_642f) ^ 0x5bd1_e995);
    let mut key = [0; KEY_BYTES];
    for chunk in key.chunks_mut(8) {
        chunk.copy_from_slice(&random.next_u64().to_le_bytes());
    }
    let mut random = Random(random.next_u64() ^ version);
    let mut value = [0; VALUE_BYTES];
    for chunk in value.chunks_mut(8) {
        let bytes = random.next_u64().to_le_bytes();
        chunk.copy_from_slice(&bytes[..chunk.len()]);
    }
    (key, value)
}

/// What keys look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyShape {
    /// 24 random bytes.
    Random,
    /// Eight bytes, big-endian, in sequence.
    Sequence,
    /// A long shared prefix, as of the addresses of one site, and a number scattered over the set.
    Prefixed,
}

/// What records look like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Keys.
    pub keys: KeyShape,
    /// Length of values, in bytes; at least 16.
    pub value_bytes: usize,
}

/// The shape of most phases: 24 random bytes, 150 random bytes.
pub const STANDARD: Shape = Shape { keys: KeyShape::Random, value_bytes: VALUE_BYTES };

const PREFIX: &[u8] = b"https://www.example.org/catalogue/products/by-department/household/items/";

impl Shape {
    /// Length of every key, in bytes.
    pub fn key_bytes(self) -> usize {
        match self.keys {
            KeyShape::Random => KEY_BYTES,
            KeyShape::Sequence => 8,
            KeyShape::Prefixed => PREFIX.len() + 16,
        }
    }

    /// Puts the key of a record into `key`.
    pub fn key(self, number: u64, key: &mut Vec<u8>) {
        key.clear();
        match self.keys {
            KeyShape::Random => {
                let mut random = Random(seed_of(number));
                for _ in 0..KEY_BYTES / 8 {
                    key.extend_from_slice(&random.next_u64().to_le_bytes());
                }
            }
            KeyShape::Sequence => key.extend_from_slice(&number.to_be_bytes()),
            KeyShape::Prefixed => {
                key.extend_from_slice(PREFIX);
                let place = self.place(number);
                for shift in (0..16).rev() {
                    key.push(b"0123456789abcdef"[(place >> (shift * 4)) as usize & 15]);
                }
            }
        }
    }

    /// A number that orders records as their keys do, for shapes other than random keys.
    pub fn place(self, number: u64) -> u64 {
        match self.keys {
            KeyShape::Random | KeyShape::Sequence => number,
            // An odd factor scatters the numbers without ever giving two of them one place.
            KeyShape::Prefixed => number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        }
    }

    /// Puts the value of a version of a record into `value`.
    pub fn value(self, number: u64, version: u64, value: &mut Vec<u8>) {
        value.clear();
        let mut random = Random(seed_of(number));
        for _ in 0..KEY_BYTES / 8 {
            random.next_u64();
        }
        let mut random = Random(random.next_u64() ^ version);
        while value.len() < self.value_bytes {
            let bytes = random.next_u64().to_le_bytes();
            let take = bytes.len().min(self.value_bytes - value.len());
            value.extend_from_slice(&bytes[..take]);
        }
    }
}

fn seed_of(number: u64) -> u64 {
    number.wrapping_mul(0xa076_1d64_78bd_642f) ^ 0x5bd1_e995
}

/// What a timed loop remembers of a value: its first and last eight bytes and its length. Cheap enough to be
/// taken of every value that is read.
#[inline]
pub fn digest(value: &[u8]) -> u64 {
    let (Some(first), Some(last)) = (value.first_chunk::<8>(), value.last_chunk::<8>()) else {
        return value.len() as u64;
    };
    u64::from_le_bytes(*first)
        ^ u64::from_le_bytes(*last).rotate_left(32)
        ^ (value.len() as u64).rotate_left(16)
}

/// Numbers below a limit, a few of them much more often than the others: the scrambled Zipf distribution of
/// YCSB, with its exponent 0.99.
#[derive(Clone, Debug)]
pub struct Zipf {
    items: u64,
    zeta: f64,
    eta: f64,
    alpha: f64,
}

impl Zipf {
    const THETA: f64 = 0.99;

    /// A distribution over `items` numbers. Costs a sum over all of them.
    pub fn new(items: u64) -> Zipf {
        let zeta: f64 = (1..=items).map(|n| (n as f64).powf(-Zipf::THETA)).sum();
        let zeta_two = 1.0 + 0.5_f64.powf(Zipf::THETA);
        let eta = (1.0 - (2.0 / items as f64).powf(1.0 - Zipf::THETA)) / (1.0 - zeta_two / zeta);
        Zipf { items, zeta, eta, alpha: 1.0 / (1.0 - Zipf::THETA) }
    }

    /// The next rank: 0 is the most frequent.
    pub fn rank(&self, random: &mut Random) -> u64 {
        let u = (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        let uz = u * self.zeta;
        if uz < 1.0 {
            return 0;
        }
        if uz < 1.0 + 0.5_f64.powf(Zipf::THETA) {
            return 1;
        }
        let rank = self.items as f64 * (self.eta * u - self.eta + 1.0).powf(self.alpha);
        (rank as u64).min(self.items - 1)
    }

    /// The next number: the rank, scattered.
    pub fn number(&self, random: &mut Random) -> u64 {
        Random(self.rank(random)).next_u64() % self.items
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_agree_with_the_plain_record() {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        for number in [0, 1, 77, u64::MAX] {
            STANDARD.key(number, &mut key);
            STANDARD.value(number, 3, &mut value);
            let (plain_key, plain_value) = record(number, 3);
            assert_eq!(key, plain_key);
            assert_eq!(value, plain_value);
        }
        for keys in [KeyShape::Random, KeyShape::Sequence, KeyShape::Prefixed] {
            let shape = Shape { keys, value_bytes: 33 };
            let mut by_place: Vec<(u64, Vec<u8>)> = (0..100)
                .map(|number| {
                    shape.key(number, &mut key);
                    (shape.place(number), key.clone())
                })
                .collect();
            by_place.sort();
            let sorted = by_place.windows(2).all(|pair| pair[0].1 < pair[1].1);
            assert!(sorted || keys == KeyShape::Random);
            let mut seen = std::collections::HashSet::new();
            for number in 0..1000 {
                shape.key(number, &mut key);
                shape.value(number, 0, &mut value);
                assert_eq!((key.len(), value.len()), (shape.key_bytes(), 33));
                assert!(seen.insert(key.clone()));
            }
        }
    }

    #[test]
    fn a_digest_sees_both_ends_and_the_length() {
        let value = [5; 40];
        for changed in [0, 7, 32, 39] {
            let mut other = value;
            other[changed] ^= 1;
            assert_ne!(digest(&value), digest(&other));
        }
        assert_ne!(digest(&value), digest(&value[..39]));
    }

    #[test]
    fn zipf_is_skewed_and_stays_in_range() {
        let (zipf, mut random) = (Zipf::new(1000), Random(1));
        let mut counts = vec![0_u64; 1000];
        for _ in 0..100_000 {
            counts[zipf.rank(&mut random) as usize] += 1;
            assert!(zipf.number(&mut random) < 1000);
        }
        // The share of the first rank is 1/zeta, about 0.129 for a thousand.
        assert!((11_500..14_500).contains(&counts[0]), "{}", counts[0]);
        assert!(counts[0] > counts[1] && counts[1] > counts[20] && counts[20] > 0);
    }
}
