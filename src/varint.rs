//! Variable-length integers: LEB128, seven bits a byte, lowest first, the high bit set on all but the last.
//!
//! Invariant: every number has exactly one encoding. Longer encodings of the same number (a last byte of
//! zero) and numbers beyond 64 bits are refused, so that equal contents are equal bytes.

/// Longest encoding of a `u64`.
pub const MAX_VARINT_BYTES: usize = 10;

/// Why bytes are not a variable-length integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VarintFault {
    /// The bytes end inside the number.
    #[error("a number is cut short")]
    Short,
    /// The number has a shorter encoding.
    #[error("a number is longer than it need be")]
    Overlong,
    /// The number does not fit its type.
    #[error("a number is too large")]
    Overflow,
}

/// Length of the encoding of `value`.
#[cfg(test)]
#[inline]
pub const fn varint_bytes(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Writes `value` to the start of `buffer` and returns the length of its encoding.
///
/// # Panics
/// If `buffer` is shorter than [`varint_bytes`] of `value`.
#[inline]
pub fn write_varint(buffer: &mut [u8], mut value: u64) -> usize {
    let mut at = 0;
    while value >= 0x80 {
        buffer[at] = value as u8 | 0x80;
        value >>= 7;
        at += 1;
    }
    buffer[at] = value as u8;
    at + 1
}

/// Appends `value`.
#[cfg(test)]
#[inline]
pub fn put_varint(out: &mut Vec<u8>, value: u64) {
    let mut buffer = [0; MAX_VARINT_BYTES];
    let length = write_varint(&mut buffer, value);
    out.extend_from_slice(&buffer[..length]);
}

/// Takes a number from the front of `rest`. After a fault `rest` is as it was.
#[inline]
pub fn take_varint(rest: &mut &[u8]) -> Result<u64, VarintFault> {
    match rest.split_first() {
        Some((&first, after)) if first < 0x80 => {
            *rest = after;
            Ok(u64::from(first))
        }
        _ => take_long_varint(rest),
    }
}

/// Takes a number of at most 32 bits from the front of `rest`. After a fault `rest` is as it was.
#[inline]
pub fn take_varint_u32(rest: &mut &[u8]) -> Result<u32, VarintFault> {
    let before = *rest;
    u32::try_from(take_varint(rest)?).map_err(|_| {
        *rest = before;
        VarintFault::Overflow
    })
}

fn take_long_varint(rest: &mut &[u8]) -> Result<u64, VarintFault> {
    let mut value = 0;
    for (index, &byte) in rest.iter().take(MAX_VARINT_BYTES).enumerate() {
        // The tenth byte holds the topmost bit alone, and nothing may follow it.
        if index == MAX_VARINT_BYTES - 1 && byte > 1 {
            return Err(VarintFault::Overflow);
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            if byte == 0 && index > 0 {
                return Err(VarintFault::Overlong);
            }
            *rest = &rest[index + 1..];
            return Ok(value);
        }
    }
    Err(VarintFault::Short)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::testing::Random;

    fn round_trip(value: u64) {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, value);
        assert_eq!(bytes.len(), varint_bytes(value), "{value}");
        for length in 0..bytes.len() {
            assert_eq!(take_varint(&mut &bytes[..length]), Err(VarintFault::Short), "{value}");
        }
        bytes.push(0xaa);
        let mut rest = bytes.as_slice();
        assert_eq!(take_varint(&mut rest), Ok(value));
        assert_eq!(rest, [0xaa]);
        let mut rest = bytes.as_slice();
        match u32::try_from(value) {
            Ok(value) => assert_eq!(take_varint_u32(&mut rest), Ok(value)),
            Err(_) => {
                assert_eq!(take_varint_u32(&mut rest), Err(VarintFault::Overflow));
                assert_eq!(rest, bytes, "a fault takes nothing");
            }
        }
    }

    #[test]
    fn every_width_round_trips() {
        for bit in 0..64 {
            let value = 1u64 << bit;
            [value - 1, value, value + 1].into_iter().for_each(round_trip);
        }
        round_trip(u64::MAX);
        let mut random = Random(1);
        for _ in 0..crate::bytes::testing::scaled(10_000) {
            let shift = random.below(64);
            round_trip(random.next() >> shift);
        }
    }

    #[test]
    fn only_the_one_encoding_is_taken() {
        let cases: [(&[u8], VarintFault); 8] = [
            (&[], VarintFault::Short),
            (&[0x80], VarintFault::Short),
            (&[0x80, 0x00], VarintFault::Overlong),
            (&[0xff, 0x80, 0x00], VarintFault::Overlong),
            (&[0xff; 9], VarintFault::Short),
            (&[0xff; 10], VarintFault::Overflow),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], VarintFault::Overflow),
            (&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00], VarintFault::Overlong),
        ];
        for (bytes, fault) in cases {
            assert_eq!(take_varint(&mut &*bytes), Err(fault), "{bytes:02x?}");
        }
    }

    #[test]
    fn whatever_decodes_encodes_to_the_same_bytes() {
        let mut random = Random(2);
        for _ in 0..crate::bytes::testing::scaled(100_000) {
            let length = random.below(12);
            let bytes = random.bytes(length);
            let mut rest = bytes.as_slice();
            if let Ok(value) = take_varint(&mut rest) {
                let mut again = Vec::new();
                put_varint(&mut again, value);
                assert_eq!(again, bytes[..bytes.len() - rest.len()]);
            }
        }
    }
}
