//! Mends a manifest in which one bit flipped. For salvage only: an open refuses such a manifest.
//!
//! CRC-32 is linear: the checksum that is found differs from the one that is stored by a pattern, the
//! *syndrome*, that depends on the flipped bits alone. A single bit has another syndrome at every place
//! of a file below 2^32 bits, so the place can be read off. One walk over the places, no search.
//!
//! Invariant: what is handed out passes [`Manifest::decode`] whole, and differs from the input in one bit.

use super::Manifest;
use super::codec::MANIFEST_HEADER_BYTES;
use crate::bytes::{u32_at, u64_at};

/// Header bytes under its checksum; the checksum itself follows.
const HEADER_SUMMED: usize = MANIFEST_HEADER_BYTES - 4;

/// The manifest with the one wrong bit turned back, and the byte that held it. `None` if there is no one
/// such bit.
pub fn mend(bytes: &[u8]) -> Option<(usize, Manifest)> {
    let header = bytes.get(..MANIFEST_HEADER_BYTES)?;
    let mut mended = bytes.to_vec();
    let header_syndrome = crc32fast::hash(&header[..HEADER_SUMMED]) ^ u32_at(header, HEADER_SUMMED);
    let at = if header[..8] != *b"HWmanif\n" || header_syndrome != 0 {
        let (at, bit) = locate(header_syndrome, HEADER_SUMMED)?;
        mended[at] ^= 1 << bit;
        at
    } else {
        let end = MANIFEST_HEADER_BYTES.checked_add(usize::try_from(u64_at(header, 40)).ok()?)?;
        if end.checked_add(4)? != bytes.len() {
            return None;
        }
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&header[..HEADER_SUMMED]);
        hasher.update(&bytes[MANIFEST_HEADER_BYTES..end]);
        let summed = HEADER_SUMMED + (end - MANIFEST_HEADER_BYTES);
        let (at, bit) = locate(hasher.finalize() ^ u32_at(bytes, end), summed)?;
        // The header passed its own check; behind it lies its checksum, which the body's leaves out.
        let at = if at < HEADER_SUMMED { return None } else { at + 4 };
        mended[at] ^= 1 << bit;
        at
    };
    Manifest::decode(&mended).ok().map(|manifest| (at, manifest))
}

/// The byte and the bit that have this syndrome, in `summed` bytes followed by their checksum.
fn locate(syndrome: u32, summed: usize) -> Option<(usize, u32)> {
    if syndrome.is_power_of_two() {
        let bit = syndrome.trailing_zeros();
        return Some((summed + (bit / 8) as usize, bit % 8));
    }
    let mut patterns: [u32; 8] = std::array::from_fn(|bit| table(1 << bit));
    for at in (0..summed).rev() {
        if let Some(bit) = patterns.iter().position(|pattern| *pattern == syndrome) {
            return Some((at, bit as u32));
        }
        for pattern in &mut patterns {
            *pattern = (*pattern >> 8) ^ table(*pattern as u8);
        }
    }
    None
}

/// One step of the reflected CRC-32 (IEEE) over a byte.
fn table(byte: u8) -> u32 {
    (0..8).fold(
        u32::from(byte),
        |crc, _| {
            if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::KeyspaceEntry;
    use crate::types::{DatabaseId, FileId, Generation, KeyspaceId, Seqno};

    fn sample() -> Manifest {
        Manifest {
            generation: Generation(7),
            database: DatabaseId([9; 16]),
            next_file_id: FileId(4),
            next_keyspace_id: KeyspaceId(9),
            next_segment_bytes: 1 << 20,
            keyspaces: vec![KeyspaceEntry {
                id: KeyspaceId(3),
                name: "parts".to_owned(),
                created: Seqno(2),
            }],
            ..Manifest::default()
        }
    }

    #[test]
    fn every_single_bit_is_mended() {
        let manifest = sample();
        let bytes = manifest.encode();
        assert!(mend(&bytes).is_none(), "nothing to mend");
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                let (place, mended) =
                    mend(&changed).unwrap_or_else(|| panic!("byte {at}, bit {bit}"));
                assert_eq!((place, &mended), (at, &manifest));
            }
        }
    }

    #[test]
    fn what_is_worse_than_one_bit_is_left() {
        let bytes = sample().encode();
        for length in 0..bytes.len() {
            assert!(mend(&bytes[..length]).is_none(), "cut to {length}");
        }
        for at in 0..bytes.len() - 1 {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            changed[at + 1] ^= 0x21;
            assert!(mend(&changed).is_none_or(|(_, mended)| mended == sample()), "bytes {at}, +1");
        }
    }
}
