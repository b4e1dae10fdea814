//! Fixed-width little-endian integers at fixed places, for headers whose length was checked already.
//!
//! Invariant: callers pass positions inside the slice; whoever reads from disk checks the length first.

/// The `u32` at byte `at`.
#[inline]
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

/// The `u64` at byte `at`.
#[inline]
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

/// The `N` bytes at byte `at`.
#[inline]
pub fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

/// Writes `value` at byte `at`.
#[inline]
pub fn set_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// Writes `value` at byte `at`.
#[inline]
pub fn set_u64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// Whether every byte is zero, as padding and reserved fields must be.
#[inline]
pub fn is_zero(bytes: &[u8]) -> bool {
    // The first is zero and each equals the one before it: one `memcmp`, quick in builds for tests, too.
    bytes.split_first().is_none_or(|(first, rest)| *first == 0 && *rest == bytes[..rest.len()])
}

/// What the tests of the codecs share.
#[cfg(test)]
pub mod testing {
    /// A small seeded generator (splitmix64): the same seed gives the same test on every machine.
    pub struct Random(pub u64);

    impl Random {
        /// The next number.
        pub fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        }

        /// A number below `limit`.
        pub fn below(&mut self, limit: usize) -> usize {
            (self.next() % limit as u64) as usize
        }

        /// That many random bytes.
        pub fn bytes(&mut self, length: usize) -> Vec<u8> {
            (0..length).map(|_| self.next() as u8).collect()
        }
    }

    /// How often a test tries something random. Miri is some thousand times slower.
    pub const fn scaled(count: u64) -> u64 {
        if cfg!(miri) { count.div_ceil(500) } else { count }
    }

    /// Lower-case hex of `bytes`.
    pub fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Asserts that `bytes` are the golden ones; white space in `golden` is for the eye.
    #[track_caller]
    pub fn assert_golden(bytes: &[u8], golden: &str) {
        let golden: String = golden.split_whitespace().collect();
        assert_eq!(hex(bytes), golden, "the format changed: that needs a new format version");
    }

    /// Calls `check` with every single-bit change of `bytes`.
    pub fn every_bit_flip(bytes: &[u8], mut check: impl FnMut(usize, &[u8])) {
        let mut changed = bytes.to_vec();
        // Miri is some thousand times slower.
        for bit in (0..bytes.len() * 8).step_by(if cfg!(miri) { 131 } else { 1 }) {
            changed[bit / 8] ^= 1 << (bit % 8);
            check(bit, &changed);
            changed[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_little_endian_and_stay_in_place() {
        let mut bytes = [0; 16];
        set_u32(&mut bytes, 1, 0x0403_0201);
        set_u64(&mut bytes, 6, 0x0807_0605_0403_0201);
        assert_eq!(bytes, [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0]);
        assert_eq!(u32_at(&bytes, 1), 0x0403_0201);
        assert_eq!(u64_at(&bytes, 6), 0x0807_0605_0403_0201);
    }

    #[test]
    fn zero_is_seen_through_every_position() {
        for length in [0, 1, 7, 255, 256, 257, 1000] {
            let mut bytes = vec![0; length];
            assert!(is_zero(&bytes));
            for at in 0..length {
                bytes[at] = 0x80;
                assert!(!is_zero(&bytes), "length {length}, byte {at}");
                bytes[at] = 0;
            }
        }
    }
}
