//! Fields of a structure on the disk: what [`annotate`](super::annotate) is made of.
//!
//! A [`Reader`] takes one field after another off some bytes and notes what each means. It reads what is
//! there, sound or not, and never past the end: a structure that is cut short gives fewer fields.

/// One field.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Field {
    /// Where it lies in the file.
    pub offset: u64,
    /// Its length.
    pub bytes: u64,
    /// Its first bytes, at most [`Field::HEAD_BYTES`].
    pub head: Vec<u8>,
    /// Its name, as in `docs/format.md` and `docs/format-table.md`.
    pub name: String,
    /// What it says.
    pub meaning: String,
    /// What its bytes are.
    pub content: Content,
    /// Of a checksum or a magic: whether it is right.
    pub sound: Option<bool>,
}

impl Field {
    /// How many bytes of a field are kept.
    pub const HEAD_BYTES: usize = 256;
}

/// What the bytes of a field are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// Numbers and marks of the format.
    Plain,
    /// A key, or a name.
    Key,
    /// A value, or bytes that may hold one.
    Value,
    /// A time in microseconds since 1970.
    Time,
}

/// Takes fields off bytes.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    /// Offset of the first byte in the file.
    start: u64,
    at: usize,
    pub fields: Vec<Field>,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8], start: u64) -> Reader<'a> {
        Reader { bytes, start, at: 0, fields: Vec::new() }
    }

    /// Where the next field begins, within the bytes.
    pub fn at(&self) -> usize {
        self.at
    }

    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Skips to a place.
    pub fn seek(&mut self, at: usize) {
        self.at = at.min(self.bytes.len());
    }

    /// The next `length` bytes as one field; `None` if there are too few.
    pub fn take(
        &mut self,
        length: usize,
        name: &str,
        content: Content,
        meaning: impl FnOnce(&[u8]) -> String,
    ) -> Option<&'a [u8]> {
        let taken = self.bytes[self.at..].get(..length)?;
        self.fields.push(Field {
            offset: self.start + self.at as u64,
            bytes: length as u64,
            head: taken[..length.min(Field::HEAD_BYTES)].to_vec(),
            name: name.to_owned(),
            meaning: meaning(taken),
            content,
            sound: None,
        });
        self.at += length;
        Some(taken)
    }

    /// Says of the last field whether it is right.
    pub fn sound(&mut self, is_sound: bool) {
        if let Some(last) = self.fields.last_mut() {
            last.sound = Some(is_sound);
        }
    }

    pub fn magic(&mut self, expected: &[u8]) -> bool {
        let mut is_right = false;
        self.take(expected.len(), "magic", Content::Plain, |bytes| {
            is_right = bytes == expected;
            let expected = expected.escape_ascii();
            if is_right { format!("\"{expected}\"") } else { format!("not \"{expected}\"") }
        });
        self.sound(is_right);
        is_right
    }

    pub fn u8(&mut self, name: &str, meaning: impl FnOnce(u8) -> String) -> Option<u8> {
        let bytes = self.take(1, name, Content::Plain, |bytes| meaning(bytes[0]))?;
        bytes.first().copied()
    }

    pub fn u16(&mut self, name: &str, meaning: impl FnOnce(u16) -> String) -> Option<u16> {
        let bytes = self.take(2, name, Content::Plain, |bytes| {
            meaning(u16::from_le_bytes([bytes[0], bytes[1]]))
        })?;
        bytes.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
    }

    pub fn u32(&mut self, name: &str, meaning: impl FnOnce(u32) -> String) -> Option<u32> {
        let bytes = self.take(4, name, Content::Plain, |bytes| meaning(small(bytes)))?;
        Some(small(bytes))
    }

    pub fn u64(&mut self, name: &str, meaning: impl FnOnce(u64) -> String) -> Option<u64> {
        let bytes = self.take(8, name, Content::Plain, |bytes| meaning(large(bytes)))?;
        Some(large(bytes))
    }

    pub fn time(&mut self, name: &str) -> Option<u64> {
        let time = |bytes: &[u8]| format!("{} µs since 1970", large(bytes));
        self.take(8, name, Content::Time, time).map(large)
    }

    pub fn hex(&mut self, length: usize, name: &str) {
        self.take(length, name, Content::Plain, hex);
    }

    /// Bytes that must be zero.
    pub fn zeros(&mut self, length: usize, name: &str) {
        if length == 0 {
            return;
        }
        let mut is_zero = false;
        self.take(length, name, Content::Plain, |bytes| {
            is_zero = bytes.iter().all(|byte| *byte == 0);
            if is_zero { "zeros".to_owned() } else { "not all zeros".to_owned() }
        });
        self.sound(is_zero);
    }

    /// A checksum and what it should be.
    pub fn crc(&mut self, name: &str, expected: u32) {
        let mut is_right = false;
        self.u32(name, |found| {
            is_right = found == expected;
            if is_right {
                format!("{found:08x}, right")
            } else {
                format!("{found:08x}, must be {expected:08x}")
            }
        });
        self.sound(is_right);
    }

    /// A key behind a length of two bytes.
    pub fn key(&mut self, name: &str) -> Option<()> {
        let length = self.u16(&format!("{name} bytes"), plain)?;
        self.bytes_of(usize::from(length), name, Content::Key)
    }

    /// A string; its meaning is the bytes themselves.
    pub fn bytes_of(&mut self, length: usize, name: &str, content: Content) -> Option<()> {
        self.take(length, name, content, |bytes| format!("{} bytes", bytes.len())).map(drop)
    }

    /// A number of variable length.
    pub fn varint(&mut self, name: &str, meaning: impl FnOnce(u64) -> String) -> Option<u64> {
        let mut rest = &self.bytes[self.at..];
        let before = rest.len();
        let value = crate::varint::take_varint(&mut rest).ok()?;
        let length = before - rest.len();
        self.take(length, name, Content::Plain, |_| meaning(value))?;
        Some(value)
    }

    /// Whatever is left, as one field.
    pub fn rest(&mut self, name: &str, content: Content) {
        let left = self.left();
        if left > 0 {
            self.bytes_of(left, name, content);
        }
    }
}

/// A number as it is.
pub(super) fn plain(number: impl std::fmt::Display) -> String {
    number.to_string()
}

/// Bytes as hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn small(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn large(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
