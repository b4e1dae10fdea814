//! The group: what one flush writes to the log. A header of 80 bytes, a body of records, zeros to the
//! next multiple of 8.
//!
//! ```text
//!  0  magic         8    48  generation    8
//!  8  lsn           8    56  previous_crc  4
//! 16  epoch         8    60  body_bytes    4
//! 24  salt          8    64  body_crc      4
//! 32  durable       8    68  records       4
//! 40  previous      8    72  reserved      4   zero
//!                        76  header_crc    4   CRC-32 of bytes 0..76
//! ```
//!
//! Invariants: the header has its own checksum, so a damaged length is seen before it is used; the
//! body's checksum starts with LSN and salt, so a body that lies elsewhere or is left over from another
//! epoch does not verify; padding and reserved bytes are zero; a group never vouches for itself
//! (`durable <= lsn`).

use super::COUNTER_LIMIT;
use super::record::RECORD_HEADER_BYTES;
use crate::bytes::{array_at, is_zero, set_u32, set_u64, u32_at, u64_at};
use crate::types::{Epoch, Generation, Lsn};

/// The block of the log: a group written after a sync began starts on a fresh one. Frozen.
pub const BLOCK_BYTES: u64 = 4096;
/// Longest group, header and body, before padding. Frozen.
pub const GROUP_MAX_BYTES: usize = 1 << 20;
/// Length of a group header. Frozen.
pub const GROUP_HEADER_BYTES: usize = 80;
/// Longest body.
pub const GROUP_BODY_MAX_BYTES: usize = GROUP_MAX_BYTES - GROUP_HEADER_BYTES;
/// Groups start at multiples of this and are padded to it. Frozen.
pub const GROUP_ALIGN_BYTES: u64 = 8;

const MAGIC: [u8; 8] = *b"HWgroup1";
const HEADER_CRC_AT: usize = 76;

/// The head of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupHeader {
    /// Where the group starts.
    pub lsn: Lsn,
    /// The epoch that wrote it.
    pub epoch: Epoch,
    /// The epoch's random salt.
    pub salt: u64,
    /// The LSN known durable when the group was written: it vouches for everything below.
    pub durable: Lsn,
    /// Where the group before starts; the group's own LSN if it is the first of its epoch.
    pub previous: Lsn,
    /// Body checksum of the group before; 0 if it is the first of its epoch.
    pub previous_crc: u32,
    /// The durable manifest generation.
    pub generation: Generation,
    /// Length of the body.
    pub body_bytes: u32,
    /// [`body_crc`] of the body.
    pub body_crc: u32,
    /// Number of records in the body, at least one.
    pub records: u32,
}

/// Why bytes are not a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupFault {
    /// The header is all zero: nothing was ever written here.
    #[error("no group here, only zeros")]
    Blank,
    /// The bytes end before the group does.
    #[error("the group is cut short")]
    Short,
    /// The magic is another one.
    #[error("no group here, the magic does not match")]
    Magic,
    /// The header fails its checksum, or passes it with a field that no version could have written.
    #[error("the group header fails its check")]
    HeaderCrc,
    /// The body's length or number of records is out of bounds, or is not that of the body given.
    #[error("the length of the group is out of bounds")]
    Length,
    /// The body fails its checksum.
    #[error("the body of the group fails its checksum")]
    BodyCrc,
    /// The padding is not zero.
    #[error("the padding of the group is not zero")]
    Padding,
}

impl GroupHeader {
    /// The header's bytes.
    ///
    /// # Panics
    /// If a field is one that [`GroupHeader::decode`] refuses: a group that cannot be read back must
    /// not be acknowledged.
    pub fn encode(&self) -> [u8; GROUP_HEADER_BYTES] {
        assert_eq!(self.check_fields(), Ok(()), "unreadable group header: {self:?}");
        let mut bytes = [0; GROUP_HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        set_u64(&mut bytes, 8, self.lsn.0);
        set_u64(&mut bytes, 16, self.epoch.0);
        set_u64(&mut bytes, 24, self.salt);
        set_u64(&mut bytes, 32, self.durable.0);
        set_u64(&mut bytes, 40, self.previous.0);
        set_u64(&mut bytes, 48, self.generation.0);
        set_u32(&mut bytes, 56, self.previous_crc);
        set_u32(&mut bytes, 60, self.body_bytes);
        set_u32(&mut bytes, 64, self.body_crc);
        set_u32(&mut bytes, 68, self.records);
        let crc = crc32fast::hash(&bytes[..HEADER_CRC_AT]);
        set_u32(&mut bytes, HEADER_CRC_AT, crc);
        bytes
    }

    /// Reads a header from the start of `bytes`. That the LSN, the epoch and the salt are the expected
    /// ones is for the caller to check.
    pub fn decode(bytes: &[u8]) -> Result<GroupHeader, GroupFault> {
        let bytes = bytes.get(..GROUP_HEADER_BYTES).ok_or(GroupFault::Short)?;
        if array_at(bytes, 0) != MAGIC {
            return Err(if is_zero(bytes) { GroupFault::Blank } else { GroupFault::Magic });
        }
        if crc32fast::hash(&bytes[..HEADER_CRC_AT]) != u32_at(bytes, HEADER_CRC_AT)
            || u32_at(bytes, 72) != 0
        {
            return Err(GroupFault::HeaderCrc);
        }
        let header = GroupHeader {
            lsn: Lsn(u64_at(bytes, 8)),
            epoch: Epoch(u64_at(bytes, 16)),
            salt: u64_at(bytes, 24),
            durable: Lsn(u64_at(bytes, 32)),
            previous: Lsn(u64_at(bytes, 40)),
            generation: Generation(u64_at(bytes, 48)),
            previous_crc: u32_at(bytes, 56),
            body_bytes: u32_at(bytes, 60),
            body_crc: u32_at(bytes, 64),
            records: u32_at(bytes, 68),
        };
        header.check_fields().map(|()| header)
    }

    /// Length of the whole group: header and body, rounded up to 8.
    #[inline]
    pub fn group_bytes(&self) -> u64 {
        padded_group_bytes(u64::from(self.body_bytes))
    }

    /// Length of the padding behind the body.
    #[inline]
    pub fn padding_bytes(&self) -> usize {
        let used = GROUP_HEADER_BYTES as u64 + u64::from(self.body_bytes);
        (self.group_bytes() - used) as usize
    }

    /// Whether `body`, without padding, is the body that was written.
    pub fn check_body(&self, body: &[u8]) -> Result<(), GroupFault> {
        match body.len().cmp(&(self.body_bytes as usize)) {
            std::cmp::Ordering::Less => Err(GroupFault::Short),
            std::cmp::Ordering::Greater => Err(GroupFault::Length),
            std::cmp::Ordering::Equal if body_crc(self.lsn, self.salt, body) != self.body_crc => {
                Err(GroupFault::BodyCrc)
            }
            std::cmp::Ordering::Equal => Ok(()),
        }
    }

    /// Whether `padding` is the padding behind the body: as long as it must be, and zero.
    pub fn check_padding(&self, padding: &[u8]) -> Result<(), GroupFault> {
        match padding.len().cmp(&self.padding_bytes()) {
            std::cmp::Ordering::Less => Err(GroupFault::Short),
            std::cmp::Ordering::Equal if is_zero(padding) => Ok(()),
            _ => Err(GroupFault::Padding),
        }
    }

    /// Checks body and padding of the group whose first byte is that of `bytes`, and returns the body.
    /// `bytes` may go on behind the group.
    pub fn checked_body<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], GroupFault> {
        let group = bytes.get(..self.group_bytes() as usize).ok_or(GroupFault::Short)?;
        let (body, padding) = group[GROUP_HEADER_BYTES..]
            .split_at(group.len() - GROUP_HEADER_BYTES - self.padding_bytes());
        self.check_body(body)?;
        self.check_padding(padding)?;
        Ok(body)
    }

    /// Whether every field is one that a writer may write.
    fn check_fields(&self) -> Result<(), GroupFault> {
        let first = self.previous == self.lsn;
        let possible = self.lsn.0 < COUNTER_LIMIT
            && self.lsn.0.is_multiple_of(GROUP_ALIGN_BYTES)
            && (1..COUNTER_LIMIT).contains(&self.epoch.0)
            && (1..COUNTER_LIMIT).contains(&self.generation.0)
            && self.durable <= self.lsn
            && self.previous <= self.lsn
            && self.previous.0.is_multiple_of(GROUP_ALIGN_BYTES)
            && (!first || self.previous_crc == 0);
        if !possible {
            return Err(GroupFault::HeaderCrc);
        }
        let fits = self.body_bytes as usize <= GROUP_BODY_MAX_BYTES
            && self.records > 0
            && self.records as usize <= self.body_bytes as usize / RECORD_HEADER_BYTES;
        if fits { Ok(()) } else { Err(GroupFault::Length) }
    }
}

/// Length of a group with a body of that length: header and body, rounded up to 8.
#[inline]
pub const fn padded_group_bytes(body_bytes: u64) -> u64 {
    (GROUP_HEADER_BYTES as u64 + body_bytes).next_multiple_of(GROUP_ALIGN_BYTES)
}

/// Checksum of a body: CRC-32 of LSN, salt and body. A body that is moved, or left over from another
/// epoch, does not verify.
pub fn body_crc(lsn: Lsn, salt: u64, body: &[u8]) -> u32 {
    let mut seed = [0; 16];
    set_u64(&mut seed, 0, lsn.0);
    set_u64(&mut seed, 8, salt);
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&seed);
    hasher.update(body);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::testing::{Random, assert_golden, every_bit_flip};
    use crate::types::Seqno;
    use crate::wal::record;

    fn sample() -> (GroupHeader, Vec<u8>) {
        let mut body = Vec::new();
        record::put_commit(&mut body, Seqno(7), 1_700_000_000_000_000, b"abc");
        let header = GroupHeader {
            lsn: Lsn(0x2000),
            epoch: Epoch(3),
            salt: 0x0123_4567_89ab_cdef,
            durable: Lsn(0x1800),
            previous: Lsn(0x1000),
            previous_crc: 0xdead_beef,
            generation: Generation(5),
            body_bytes: body.len() as u32,
            body_crc: body_crc(Lsn(0x2000), 0x0123_4567_89ab_cdef, &body),
            records: 1,
        };
        let mut group = header.encode().to_vec();
        group.extend_from_slice(&body);
        group.resize(header.group_bytes() as usize, 0);
        (header, group)
    }

    fn decode(bytes: &[u8]) -> Result<(GroupHeader, &[u8]), GroupFault> {
        let header = GroupHeader::decode(bytes)?;
        Ok((header, header.checked_body(bytes)?))
    }

    /// Puts a field over the sample's header and mends the checksum.
    fn with_u64(at: usize, value: u64) -> Vec<u8> {
        let mut bytes = sample().1;
        set_u64(&mut bytes, at, value);
        mend(bytes)
    }

    fn with_u32(at: usize, value: u32) -> Vec<u8> {
        let mut bytes = sample().1;
        set_u32(&mut bytes, at, value);
        mend(bytes)
    }

    fn mend(mut bytes: Vec<u8>) -> Vec<u8> {
        let crc = crc32fast::hash(&bytes[..HEADER_CRC_AT]);
        set_u32(&mut bytes, HEADER_CRC_AT, crc);
        bytes
    }

    /// Changing these bytes means a new format version.
    #[test]
    fn golden() {
        assert_golden(
            &sample().1,
            "
            485767726f757031 0020000000000000 0300000000000000 efcdab8967452301
            0018000000000000 0010000000000000 0500000000000000 efbeadde1b000000
            83251bd601000000 000000004fe7e6ab 0100000013000000 0700000000000000
            00401e18240a0600 6162630000000000
            ",
        );
    }

    #[test]
    fn round_trips_with_bytes_behind() {
        let (header, mut group) = sample();
        assert_eq!(group.len(), 112);
        group.extend_from_slice(&[0xff; 40]);
        let (found, body) = decode(&group).unwrap();
        assert_eq!(found, header);
        assert_eq!(body.len(), 27);
        assert_eq!(header.padding_bytes(), 5);
    }

    #[test]
    fn every_bit_flip_and_every_cut_is_refused() {
        let (_, group) = sample();
        every_bit_flip(&group, |bit, changed| {
            assert!(decode(changed).is_err(), "bit {bit} of the group may change unseen");
        });
        for length in 0..group.len() {
            assert_eq!(decode(&group[..length]), Err(GroupFault::Short), "cut at {length}");
        }
    }

    #[test]
    fn a_body_does_not_verify_elsewhere() {
        let (header, group) = sample();
        let body = &group[GROUP_HEADER_BYTES..][..header.body_bytes as usize];
        assert_eq!(header.check_body(body), Ok(()));
        let moved = GroupHeader { lsn: Lsn(0x3000), ..header };
        assert_eq!(moved.check_body(body), Err(GroupFault::BodyCrc));
        let other_epoch = GroupHeader { salt: header.salt ^ 1, ..header };
        assert_eq!(other_epoch.check_body(body), Err(GroupFault::BodyCrc));
        assert_eq!(header.check_body(&body[1..]), Err(GroupFault::Short));
        assert_eq!(header.check_body(&group[GROUP_HEADER_BYTES..]), Err(GroupFault::Length));
    }

    #[test]
    fn faults_are_told_apart() {
        let header = sample().0;
        let padding = vec![0; header.padding_bytes()];
        assert_eq!(header.check_padding(&padding), Ok(()));
        assert_eq!(header.check_padding(&padding[1..]), Err(GroupFault::Short));
        let mut no_magic = sample().1;
        no_magic[3] ^= 0x20;
        let mut bad_padding = sample().1;
        *bad_padding.last_mut().unwrap() = 1;
        let cases = [
            (vec![0; 200], GroupFault::Blank),
            (vec![0; 79], GroupFault::Short),
            (no_magic, GroupFault::Magic),
            (bad_padding, GroupFault::Padding),
            (with_u32(72, 1), GroupFault::HeaderCrc),
            (with_u64(8, 0x2004), GroupFault::HeaderCrc),
            (with_u64(8, COUNTER_LIMIT), GroupFault::HeaderCrc),
            (with_u64(16, 0), GroupFault::HeaderCrc),
            (with_u64(16, u64::MAX), GroupFault::HeaderCrc),
            (with_u64(32, 0x2001), GroupFault::HeaderCrc),
            (with_u64(40, 0x2008), GroupFault::HeaderCrc),
            (with_u64(40, 0x2000), GroupFault::HeaderCrc),
            (with_u64(40, 0x1001), GroupFault::HeaderCrc),
            (with_u64(48, 0), GroupFault::HeaderCrc),
            (with_u32(60, 0), GroupFault::Length),
            (with_u32(60, GROUP_BODY_MAX_BYTES as u32 + 1), GroupFault::Length),
            (with_u32(60, u32::MAX), GroupFault::Length),
            (with_u32(60, GROUP_BODY_MAX_BYTES as u32), GroupFault::Short),
            (with_u32(60, 26), GroupFault::BodyCrc),
            (with_u32(68, 0), GroupFault::Length),
            (with_u32(68, 4), GroupFault::Length),
            (with_u64(8, 0x4000), GroupFault::BodyCrc),
        ];
        for (index, (bytes, fault)) in cases.into_iter().enumerate() {
            assert_eq!(decode(&bytes).err(), Some(fault), "case {index}");
        }
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut random = Random(11);
        for _ in 0..crate::bytes::testing::scaled(20_000) {
            let length = random.below(300);
            let mut bytes = random.bytes(length);
            if length >= GROUP_HEADER_BYTES && random.below(2) == 0 {
                bytes[..8].copy_from_slice(&MAGIC);
                bytes = mend(bytes);
            }
            assert!(decode(&bytes).is_err());
        }
    }
}
