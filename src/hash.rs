//! The hash of keys: one function for filters, fingerprints and positions, in memory and on disk. Frozen.
//!
//! It is XXH3 with the keyspace as seed, cut by the length of the key. In one body the compiler works out what depends on
//! the seed alone for all lengths before it looks at the length: a hundred instructions for each lookup.

use crate::types::KeyspaceId;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The hash of a key; computed once for all layers of a lookup.
#[inline]
pub fn key_hash(keyspace: KeyspaceId, key: &[u8]) -> u64 {
    let seed = u64::from(keyspace.get());
    match key.len() {
        ..=16 => hash_of_short(key, seed),
        17..=32 => xxh3_64_with_seed(key, seed),
        33..=128 => hash_of_medium(key, seed),
        _ => hash_of_long(key, seed),
    }
}

#[inline(never)]
fn hash_of_short(key: &[u8], seed: u64) -> u64 {
    if key.len() > 16 { 0 } else { xxh3_64_with_seed(key, seed) }
}

#[inline(never)]
fn hash_of_medium(key: &[u8], seed: u64) -> u64 {
    if key.len() <= 32 || key.len() > 128 { 0 } else { xxh3_64_with_seed(key, seed) }
}

#[inline(never)]
fn hash_of_long(key: &[u8], seed: u64) -> u64 {
    if key.len() <= 128 { 0 } else { xxh3_64_with_seed(key, seed) }
}

#[cfg(test)]
mod tests {
    use super::key_hash;
    use crate::types::KeyspaceId;
    use xxhash_rust::xxh3::xxh3_64_with_seed;

    #[test]
    fn it_is_one_function_for_all_lengths() {
        let bytes: Vec<u8> = (0..2000_u32).map(|n| ((n * 7919) >> 3) as u8).collect();
        for keyspace in [1, 3, u32::MAX] {
            for length in 0..bytes.len() {
                let key = &bytes[..length];
                let expected = xxh3_64_with_seed(key, u64::from(keyspace));
                assert_eq!(key_hash(KeyspaceId(keyspace), key), expected, "{length}");
            }
        }
    }
}
